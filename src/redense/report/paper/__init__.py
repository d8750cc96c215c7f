"""Figures and tables of a page for a paper."""
