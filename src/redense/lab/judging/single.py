"""One run, in words: it shows no gain by itself, and which command trains its control."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any


def control_settings(recipe: Mapping[str, Any]) -> list[str]:
    """Return the settings that take every mask out of a recipe: the control with its steps and learning rates.

    >>> control_settings({"sparse": {"sparsity": 0.3}})
    ['--sparse.sparsity', '0']
    """
    changes = ["--sparse.sparsity", "0"]
    if (recipe.get("sparse") or {}).get("pattern"):
        changes += ["--sparse.pattern", "null"]
    if cycles := recipe.get("cycles"):
        unmasked = [{**cycle, "sparse": {**cycle["sparse"], "sparsity": 0, "pattern": None}} for cycle in cycles]
        changes += ["--cycles", json.dumps(unmasked)]
    return changes


def run_verdict(result: Mapping[str, Any], recipe: Mapping[str, Any], figure: str) -> str:
    """Return what one run shows, and what it does not (DESIGN.md, rule 7).

    Args:
        result: of the run, with its metric and phases.
        recipe: of the run, as plain data.
        figure: the metric's name in words.
    """
    metric, phases = result["metric"], result["phases"]
    name, unit = metric["name"], metric["unit"]
    first, last = phases[0]["test"][name], phases[-1]["test"][name]
    gain = (first - last) if metric["lower_is_better"] else (last - first)
    points = "points" if unit in ("%", "") else unit
    how = (
        f"{abs(gain):.2f} {points} {'better' if gain > 0 else 'worse'} than" if abs(gain) >= 0.005 else "no better than"
    )
    shown, base = (f"{value:.2f} {unit}".rstrip() for value in (last, first))
    if not any(phase["sparsity"] > 0 for phase in phases if phase["kind"] == "sparse"):
        return (
            f"test {figure} {shown}, {how} after the first phase ({base}). "
            "Nothing was pruned: this is the control, DSD's steps and learning rates without a mask."
        )
    return (
        f"test {figure} {shown}, {how} the dense baseline ({base}). "
        "That is one seed, and more steps help too: the control on the same budget is the same command "
        f"with {shlex.join(control_settings(recipe))}."
    )
