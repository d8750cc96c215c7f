"""A comparison of arms over seeds: its cells, the grid that trains them, what it says."""
