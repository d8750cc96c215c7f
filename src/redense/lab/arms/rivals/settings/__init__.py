"""Rivals that are the control with another setting of the recipe, for some of its phases or for all: no technique."""
