"""The lab: recipes, the engine that trains them, runs and their results."""
