"""Verbs of what there is to train on: recipes, data, caches."""
