"""The heading of a run: its recipe's name, or, on other data than the recipe's own, that of the data."""

from __future__ import annotations

from pathlib import Path, PurePath


def about_other_data(recipe: str, source: object) -> str:
    """Return what a recipe is about that is trained on other data than its own."""
    return f"as {recipe} trains, on {with_a_name(source)}"


def with_a_name(source: object) -> object:
    """Return the source of data, the folder at hand and those above it as whole paths: ``.`` says nothing elsewhere."""
    if isinstance(source, str) and source and PurePath(source).name in ("", ".."):
        return str(Path(source).resolve())
    return source


def on_other_data(recipe: str, about: str | None) -> str:
    """Return what a recipe is about where it is trained on other data than its own; else nothing."""
    return about if about and about.startswith(about_other_data(recipe, "")) else ""


def heading_of(recipe: str, about: str | None) -> str:
    """Return the heading of a run.

    >>> heading_of("quickstart", "a small CNN on Fashion-MNIST")
    'quickstart'
    >>> heading_of("quickstart", about_other_data("quickstart", "/data/birds/"))
    'birds'
    >>> heading_of("quickstart", about_other_data("quickstart", "hub:someone/birds"))
    'someone/birds'
    """
    source = on_other_data(recipe, about).removeprefix(about_other_data(recipe, ""))
    if source.startswith("hub:"):
        return source.removeprefix("hub:")
    return PurePath(source).name or recipe
