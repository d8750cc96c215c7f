"""The verbs of a search: search, tune."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.cli.terminal.printing import answer, say
from redense.cli.verbs import Parser, Verbs, refuse_arm, refuse_log
from redense.errors import RedenseError

if TYPE_CHECKING:
    from redense.lab.recipe.recipe import Recipe
    from redense.lab.search.recipes import RecipeTraining
    from redense.report.searched import Searched
    from redense.report.tuned import Tuned


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
    search.add_argument("--candidates", action="once", metavar="A,B", default="dsd", help="arms by name (default: dsd)")
    search.add_argument(
        "--sweep", action="once", metavar="KEY=A,B", help="settings of the sparse phase: sparsity=0.3,0.5,0.7"
    )
    _add_budget(search)
    tune = verbs.add(
        "tune",
        "choose the sparsity on validation figures, and say whether it beats training without a mask",
        _tune,
        settings=True,
        epilog="A search over the sparsity alone, beside controls that are tuned as often; fresh seeds and test "
        "figures have the last word, once. Settings of the recipe can be given as for run.",
    )
    tune.add_argument("recipe", help="a name of `redense recipes`, or a YAML file of your own")
    tune.add_argument(
        "--sparsities",
        action="once",
        metavar="A,B",
        default="0.2,0.4,0.6,0.8",
        help="what is tried (default: 0.2,0.4,0.6,0.8)",
    )
    _add_budget(tune)


def _add_budget(parser: Parser) -> None:
    parser.add_argument("--runs", type=int, metavar="N", default=60, help="the budget of the search (default: 60)")
    parser.add_argument("--confirm", type=int, metavar="N", default=10, help="fresh seeds of it (default: 10)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the folder; the same command goes on")
    parser.add_argument("--jobs", type=int, metavar="N", default=1, help="runs at once, one thread each (default: 1)")
    parser.add_argument("--backend", choices=("loky", "ray"), default="loky", help="this machine, or a Ray cluster")
    parser.add_argument("--retry-failed", action="store_true", help="try runs again that have failed")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _search(options: argparse.Namespace) -> int:
    from redense.lab.comparison.comparison import parse_sweep, sweep_points
    from redense.lab.search.recipes import candidates_of, with_criteria
    from redense.report.searched import search

    recipe, training, given = _training(options)
    arms = [name.strip() for name in options.candidates.split(",") if name.strip()]
    candidates = candidates_of(recipe, arms, list(sweep_points(parse_sweep(options.sweep))))
    found = search(with_criteria(training, candidates), training.schedule, candidates=candidates, **given)
    return _say(found, found, options)


def _tune(options: argparse.Namespace) -> int:
    from redense.report.tuned import tune

    _, training, given = _training(options)
    try:
        sparsities = [float(value) for value in options.sparsities.split(",") if value.strip()]
    except ValueError:
        raise RedenseError(f"--sparsities are numbers such as 0.2,0.4,0.8, got {options.sparsities}") from None
    found = tune(training, training.schedule, sparsities=sparsities, **given)
    return _say(found, found.searched, options)


def _training(options: argparse.Namespace) -> tuple[Recipe, RecipeTraining, dict[str, Any]]:
    """The recipe, its training as a function, and what a search is told beside it."""
    from redense.lab.recipe.recipe import load_recipe
    from redense.lab.search.recipes import training_of
    from redense.lab.tasks import forget_tasks

    if any(setting.partition("=")[0] == "--seed" for setting in options.settings):
        raise RedenseError("a search has seeds of its own: give --runs and --confirm")
    recipe = load_recipe(options.recipe, options.settings)
    refuse_log(options.settings, "a search")
    refuse_arm(recipe, "a search chooses among arms of its own")
    if recipe.start and recipe.tune is None:
        raise RedenseError(
            "a search trains every setting from its first phase on, and given weights stand for that: give no start, "
            "or --tune.backbone_lr 1, to train it from them"
        )
    forget_tasks()
    training = training_of(recipe)
    metric, lower_is_better = training.metric
    given = {name: getattr(options, name) for name in ("runs", "confirm", "out", "jobs", "backend", "retry_failed")}
    return recipe, training, {**given, "metric": metric, "lower_is_better": lower_is_better}


def _say(told: Searched | Tuned, found: Searched, options: argparse.Namespace) -> int:
    if options.json:
        return answer({"folder": str(found.folder), **told.to_dict()})
    say(told)
    if found.confirmed and found.confirmed.page:
        say(f"\n{found.confirmed.page}")
    return 0
