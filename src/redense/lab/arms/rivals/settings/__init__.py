"""Rivals that change a setting of the recipe, for some of its phases or for all, and have no technique."""
