"""Searching settings on validation figures, by halving."""
