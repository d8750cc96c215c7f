"""Extending a comparison: the planned number of looks, what was added after one, and data that was moved.

Beside what is compared, ``comparison.json`` has ``looks`` (planned with ``--looks``), ``margin``, and ``looked``: the
seeds and arms that there were each time when results had been written and something was added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from redense.errors import RecipeError
from redense.files.checksums import write_with_sums
from redense.lab.arms.of_recipe import code_of_arms
from redense.lab.folder import STARTED, read_json
from redense.lab.judging.looks import Looks
from redense.lab.judging.verdicts import check_looks, check_margin
from redense.lab.recipe.recipe import build_recipe, overridden

from .comparison import Comparison, comparison_digest, plugins_needed_by

_FILE = "comparison.json"
_ENVIRONMENT = "environment.json"


def plan_looks(folder: Path, looks: int | None, margin: float | None) -> None:
    """Note in a new comparison's folder how often it will be looked at, and the margin.

    Raises:
        DataError: one of them is out of its range.
    """
    check_looks(1 if looks is None else looks)
    check_margin(margin)
    if looks is not None or margin is not None:
        given = {key: value for key, value in (("looks", looks), ("margin", margin)) if value is not None}
        write_with_sums(folder, {_FILE: _json({**read_json(folder / _FILE), **given})})


def read_looks(folder: Path, comparison: Comparison) -> Looks:
    """Return what was planned for a comparison, and when it was looked at."""
    data: Mapping[str, Any] = read_json(folder / _FILE) if (folder / _FILE).is_file() else {}
    looked = tuple((int(seeds), int(arms)) for seeds, arms in data.get("looked") or ())
    return Looks(int(data.get("looks") or 1), data.get("margin"), looked, _size(comparison))


def extended(comparison: Comparison, seeds: Sequence[int] | None, arms: Sequence[str] | None) -> Comparison:
    """Return a comparison with further seeds and arms.

    Raises:
        RecipeError: seeds that it has are left out.
    """
    if seeds is not None and not set(comparison.seeds) <= set(seeds):
        missing = ", ".join(str(seed) for seed in comparison.seeds if seed not in seeds)
        raise RecipeError(f"--seeds leaves out {missing}, which the comparison has: seeds can be added, not taken away")
    more = [seed for seed in seeds or () if seed not in comparison.seeds]
    others = [arm for arm in dict.fromkeys(arms or ()) if arm not in comparison.arms]
    return replace(comparison, seeds=(*comparison.seeds, *more), arms=(*comparison.arms, *others))


def moved(comparison: Comparison, settings: Sequence[str]) -> Comparison:
    """Return a comparison whose data lies elsewhere now, as ``--data PLACE`` says it.

    Raises:
        RecipeError: that is no place.
    """
    if not settings:
        return comparison
    plain, there = (comparison.recipe.model_dump(mode="json") for _ in range(2))
    overridden(there, settings)
    plain["data"]["source"] = there["data"]["source"]
    return replace(comparison, recipe=build_recipe(plain, "the comparison's recipe"))


def write_moved(folder: Path, comparison: Comparison) -> None:
    """Write where the data of a comparison lies now, so that it goes on from there."""
    write_with_sums(folder, {_FILE: _json({**read_json(folder / _FILE), **comparison.to_dict()})})


def write_extended(folder: Path, before: Comparison, after: Comparison) -> None:
    """Write what a comparison has become, which plugins it needs now, and that it was looked at if it had results."""
    told = read_json(folder / _ENVIRONMENT)
    if (needed := {**told, **plugins_needed_by(after)}) != told:  # first: it may need one that it does not use yet
        write_with_sums(folder, {_ENVIRONMENT: _json(needed)})
    data = read_json(folder / _FILE)
    if _was_judged(folder / "compare.json", before):
        data["looked"] = [*(data.get("looked") or ()), list(_size(before))]
    write_with_sums(folder, {_FILE: _json({**data, **after.to_dict()})})
    if (folder / STARTED).is_file():
        started = {**code_of_arms(after.arms), **read_json(folder / STARTED), "comparison": comparison_digest(after)}
        write_with_sums(folder, {STARTED: json.dumps(started) + "\n"})


def _was_judged(path: Path, comparison: Comparison) -> bool:
    """Whether there are results of all that a comparison has: a killed one was not looked at."""
    if not path.is_file():
        return False
    results = read_json(path)
    arms = {str(row["arm"]).partition(" ")[0] for row in results["rows"]}
    return results["seeds"] == list(comparison.seeds) and arms >= set(comparison.arms)


def _size(comparison: Comparison) -> tuple[int, int]:
    return len(comparison.seeds), len(comparison.arms)


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"
