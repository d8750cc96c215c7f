"""Comparing programs: commands that train, supervised here or handed to a queue."""
