"""Verbs of what is there: recipes, data."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import RedenseError
from .verbs import Verbs


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    recipes = verbs.add("recipes", "list the shipped recipes, show one, or copy one to change it", _recipes)
    recipes.add_argument("action", nargs="?", choices=("list", "show", "copy"), default="list")
    recipes.add_argument("name", nargs="?")
    recipes.add_argument("to", nargs="?", type=Path, help="copy: the new file (default: NAME.yaml here)")

    data = verbs.add("data", "list the data sets that redense can fetch, get one, or check one", _data)
    data.add_argument("action", nargs="?", choices=("list", "get", "check"), default="list")
    data.add_argument("name", nargs="?")


def _recipes(options: argparse.Namespace) -> int:
    from ..lab.recipe import load_recipe, recipe_names, recipe_text

    if options.action == "list":
        for name in recipe_names():
            print(f"{name:<24}{load_recipe(name).about}")
        return 0
    if not options.name:
        raise RedenseError(f"which recipe? redense recipes {options.action} NAME (known: {', '.join(recipe_names())})")
    text = recipe_text(options.name)
    if options.action == "show":
        print(text, end="")
        return 0
    target: Path = options.to or Path(options.name.rpartition("/")[2]).with_suffix(".yaml")
    if target.exists():
        raise RedenseError(f"{target} exists: name another file")
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RedenseError(f"cannot write {target}: {error.strerror}") from None
    print(f"{target}: change it, then run it with: redense run {target}")
    return 0


def _data(options: argparse.Namespace) -> int:
    from ..tasks import catalog

    if options.action == "list":
        for source in catalog.SOURCES.values():
            print(f"{source.name:<20}{catalog.status(source):<9}{source.megabytes:>5} MB  {source.description}")
        print(f"kept in {catalog.cache_dir()}")
        return 0
    if not options.name:
        raise RedenseError(f"which data set? redense data {options.action} NAME (known: {', '.join(catalog.SOURCES)})")
    source = catalog.find(options.name)
    if options.action == "get":
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task(source.name, total=1.0)
            path = catalog.get(source, lambda what, part: progress.update(bar, description=what, completed=part))
    else:
        path = catalog.check(source)
    print(f"{source.name} is whole: {path}")
    return 0
