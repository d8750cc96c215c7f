"""Sensitivity scans: what pruning each parameter alone costs, and the sparsities that follow."""
