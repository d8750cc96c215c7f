"""The page of a sensitivity scan."""
