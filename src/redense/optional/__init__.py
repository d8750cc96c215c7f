"""Packages that may be missing, or that do not fit the others."""
