"""Recipes: what to train, as typed YAML, and the settings in it."""

from .recipe import Recipe, build_recipe, load_recipe, register_task

__all__ = ["Recipe", "build_recipe", "load_recipe", "register_task"]
