"""The verb of a search: search."""

from __future__ import annotations

import argparse
from pathlib import Path

from redense.cli.terminal.printing import say
from redense.cli.verbs import Verbs
from redense.errors import RedenseError


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    search = verbs.add(
        "search",
        "search for the best of many settings on validation figures, then confirm it against the strongest control",
        _search,
        settings=True,
        epilog="The controls are tuned as often. Fresh seeds and test figures confirm, once; it "
        "can end with nothing that beats the control. Settings of the recipe can be given as for run.",
    )
    search.add_argument("recipe", help="a name of `redense recipes`, or a YAML file of your own")
    search.add_argument("--candidates", metavar="A,B", default="dsd", help="arms by name (default: dsd)")
    search.add_argument("--sweep", metavar="KEY=A,B", help="settings of the sparse phase: sparsity=0.3,0.5,0.7")
    search.add_argument("--runs", type=int, metavar="N", default=60, help="the budget of the search (default: 60)")
    search.add_argument("--confirm", type=int, metavar="N", default=10, help="fresh seeds of it (default: 10)")
    search.add_argument("--out", type=Path, metavar="DIR", required=True, help="the folder; the same command goes on")
    search.add_argument("--jobs", type=int, metavar="N", default=1, help="runs at once, one thread each (default: 1)")
    search.add_argument("--backend", choices=("loky", "ray"), default="loky", help="this machine, or a Ray cluster")


def _search(options: argparse.Namespace) -> int:
    from redense.lab.comparison.comparison import parse_sweep, sweep_points
    from redense.lab.recipe.recipe import load_recipe
    from redense.lab.search.recipes import candidates_of, training_of
    from redense.report.searched import search

    if any(setting.partition("=")[0] == "--seed" for setting in options.settings):
        raise RedenseError("a search has seeds of its own: give --runs and --confirm")
    recipe = load_recipe(options.recipe, options.settings)
    if recipe.start:
        raise RedenseError("a search trains every setting from nothing: the recipe must not start from given weights")
    training = training_of(recipe)
    arms = [name.strip() for name in options.candidates.split(",") if name.strip()]
    metric, lower_is_better = training.metric
    found = search(
        training,
        training.schedule,
        candidates=candidates_of(recipe, arms, list(sweep_points(parse_sweep(options.sweep)))),
        runs=options.runs,
        confirm=options.confirm,
        out=options.out,
        metric=metric,
        lower_is_better=lower_is_better,
        jobs=options.jobs,
        backend=options.backend,
    )
    say(found)
    if found.confirmed and found.confirmed.page:
        say(f"\n{found.confirmed.page}")
    return 0
