"""Recipes: what to train, as typed YAML, and the settings in it."""
