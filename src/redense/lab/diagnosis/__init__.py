"""Measurements of trained networks: barrier, curvature, moments, distances."""
