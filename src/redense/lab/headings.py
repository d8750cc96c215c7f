"""The heading of a run: its recipe's name, or, on other data than the recipe's own, that of the data."""

from __future__ import annotations

from pathlib import PurePath


def about_other_data(recipe: str, source: object) -> str:
    """Return what a recipe is about that is trained on other data than its own."""
    return f"as {recipe} trains, on {source}"


def heading_of(recipe: str, about: str | None) -> str:
    """Return the heading of a run.

    >>> heading_of("quickstart", "a small CNN on Fashion-MNIST")
    'quickstart'
    >>> heading_of("quickstart", about_other_data("quickstart", "/data/birds/"))
    'birds'
    >>> heading_of("quickstart", about_other_data("quickstart", "hub:someone/birds"))
    'someone/birds'
    """
    start = about_other_data(recipe, "")
    if not about or not about.startswith(start):
        return recipe
    source = about.removeprefix(start)
    if source.startswith("hub:"):
        return source.removeprefix("hub:")
    return PurePath(source).name or recipe
