"""Verbs of what is there: recipes, data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from redense.cli.terminal.printing import answer, say
from redense.cli.verbs import Verbs
from redense.errors import RedenseError, command
from redense.files.opening import at_home

from .cache import fill_cache, show_or_clear
from .check import check_content, task_with
from .outline import print_outline

if TYPE_CHECKING:
    from redense.lab.recipe.recipe import Recipe

_FOR = {"clear": ("cache",), "full": ("check", "get"), "label": ("check", "cache"), "task": ("check", "get", "cache")}
"""Options of `redense data` -> the actions that take them."""

_OF_RECIPES = {"name": ("show", "copy"), "to": ("copy",), "yaml": ("show",), "dry_run": ("show",)}
"""Arguments of `redense recipes` -> the actions that take them."""


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    recipes = verbs.add(
        "recipes",
        "list the shipped recipes, show the plan of one, or copy one to change it",
        _recipes,
        settings=True,
        epilog="show: settings of the recipe can be given as for run, e.g. --sparse.sparsity 0.5",
    )
    recipes.add_argument("action", nargs="?", choices=("list", "show", "copy"), default="list")
    recipes.add_argument("name", nargs="?", help="a shipped recipe, or a YAML file of your own")
    recipes.add_argument("--yaml", action="store_true", help="show: print the recipe's text instead of its plan")
    recipes.add_argument("--dry-run", action="store_true", help="show: train a few steps and estimate the whole time")
    recipes.add_argument("--json", action="store_true", help="print JSON")
    recipes.add_argument("to", nargs="?", type=Path, help="copy: the new file (default: NAME.yaml here)")

    about = "list the data sets that redense can fetch, get one, check one (also a folder of yours), or keep it decoded"
    data = verbs.add(
        "data",
        about,
        _data,
        settings=True,
        epilog="check: settings of the data can be given as for run, e.g. --data.size 64; what run refuses with them, "
        "check refuses. It ends with 1 where it finds something broken, or training refuses what it found, and with 2 "
        "where there is no set that could be looked through. cache: without a name it shows how much is kept; with a "
        "folder of large pictures and the settings of run it decodes them beforehand, as run does in training.",
    )
    data.add_argument("action", nargs="?", choices=("list", "get", "check", "cache"), default="list")
    data.add_argument("name", nargs="?", help="one of the list; check, cache: also a folder, or hub:OWNER/NAME")
    data.add_argument("--full", action="store_true", help="check, get: decode every image, and remember what is broken")
    data.add_argument("--label", metavar="COLUMN", help="check, cache: the column of the classes, if there are several")
    data.add_argument(
        "--task", metavar="TASK", help="check, get: classification, captioning or speech, if it could be two"
    )
    data.add_argument("--json", action="store_true", help="print JSON")
    data.add_argument("--clear", metavar="NAME", help="cache: remove what is kept of one kind, or all")


def _recipes(options: argparse.Namespace) -> int:
    from redense.lab.recipe.recipe import load_recipe, recipe_names, recipe_text

    if options.settings and options.action != "show":
        raise RedenseError(f"settings of a recipe are for show, got {options.settings[0]} (see redense recipes --help)")
    for name, actions in _OF_RECIPES.items():
        if getattr(options, name) and options.action not in actions:
            said = f"--{name.replace('_', '-')}" if name in ("yaml", "dry_run") else f"'{getattr(options, name)}'"
            raise RedenseError(f"{said} is for redense recipes {' and '.join(actions)}, and not for {options.action}")
    if options.yaml and (options.settings or options.dry_run or options.json):
        raise RedenseError("--yaml prints the text as it lies there; with settings: redense run RECIPE --print-config")
    if options.action == "list":
        about = {name: load_recipe(name).about for name in recipe_names()}
        if options.json:
            return answer(about, indent=2)
        width = max(map(len, about))
        for name, words in about.items():
            say(f"{name:<{width}}  {words}")
        return 0
    if not options.name:
        raise RedenseError(f"which recipe? redense recipes {options.action} NAME (known: {', '.join(recipe_names())})")
    if options.action == "show" and not options.yaml:
        return _show(load_recipe(options.name, options.settings), options)
    text = recipe_text(options.name)
    if options.action == "show":
        say(text, end="")
        return 0
    target: Path = options.to or Path(options.name.rpartition("/")[2]).with_suffix(".yaml")
    if target.exists():
        raise RedenseError(f"{target} exists: name another file")
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RedenseError(f"cannot write {target}: {error.strerror}") from None
    if options.json:
        return answer({"path": str(target)})
    say(f"{target}: change it, then run it with: {command('redense', 'run', target)}")
    return 0


def _show(recipe: Recipe, options: argparse.Namespace) -> int:
    from redense.lab.runs.outline import dry_run, outline

    made = dry_run(recipe) if options.dry_run else outline(recipe)
    if options.json:
        return answer(made.to_dict(), indent=2)
    print_outline(made)
    return 0


def _data(options: argparse.Namespace) -> int:
    from redense.tasks import catalog

    if options.settings and options.action not in ("check", "cache"):
        raise RedenseError(
            f"settings of the data are for check and cache, got {options.settings[0]} (see redense data --help)"
        )
    for name, actions in _FOR.items():
        if getattr(options, name) and options.action not in actions:
            raise RedenseError(f"--{name} is for redense data {' and '.join(actions)}")
    about_content = [*options.settings[:1], *(f"--{name}" for name in ("label", "task") if getattr(options, name))]
    if options.action == "list":
        if options.name:
            raise RedenseError(f"list takes no name: {command('redense', 'data', 'check', options.name)} looks at one")
        if options.json:
            rows = [
                {"name": s.name, "state": catalog.status(s), "megabytes": s.megabytes, "about": s.description}
                for s in catalog.SOURCES.values()
            ]
            return answer(rows)
        for source in catalog.SOURCES.values():
            say(f"{source.name:<20}{catalog.status(source):<9}{source.megabytes:>5} MB  {source.description}")
        say(f"kept in {catalog.cache_dir()}")
        return 0
    if options.action == "cache":
        if options.name and options.clear:
            raise RedenseError("--clear removes what is kept of all sets: give no set with it")
        if about_content and not options.name:
            raise RedenseError(f"{about_content[0]} is of a set that the cache is filled with: name the set")
        return fill_cache(options, options.name) if options.name else show_or_clear(options)
    if not options.name:
        raise RedenseError(f"which data set? redense data {options.action} NAME (known: {', '.join(catalog.SOURCES)})")
    elsewhere = task_with(options.name) or options.name.startswith("hub:")
    if options.action == "check" and (elsewhere or at_home(options.name).exists()):
        return check_content(options, options.name)
    source = catalog.find(options.name)
    if options.action == "get":
        from rich.progress import Progress

        from redense.cli.terminal.screen import SafeConsole

        with Progress(console=SafeConsole(stderr=True)) as progress:
            bar = progress.add_task(source.name, total=1.0)
            path = catalog.get(source, lambda what, part: progress.update(bar, description=what, completed=part))
    else:
        path = catalog.check(source)
    if not options.json:
        say(f"{source.name} is whole: {path}")
    if options.full or about_content:
        return check_content(options, source.name)
    return answer({"name": source.name, "whole": True, "path": str(path)}) if options.json else 0
