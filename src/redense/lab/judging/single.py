"""One run, in words: it shows no gain by itself, and which command trains its control."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from redense.files.visible import counted

_FEW = 100  # test examples: one of fewer weighs more than a point


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


def masked(recipe: Mapping[str, Any]) -> list[bool]:
    """Return of each sparse phase of a recipe, as plain data, whether it has a mask; that of a control removes nothing.

    >>> masked({"sparse": {"sparsity": 0}}), masked({"sparse": {"pattern": [2, 4]}})
    ([False], [True])
    """
    cycles: Sequence[Any] = recipe.get("cycles") or []
    return [_has_mask(section) for section in (recipe.get("sparse") or {}, *(cycle["sparse"] for cycle in cycles))]


def _has_mask(sparse: Mapping[str, Any]) -> bool:
    if pattern := sparse.get("pattern"):
        return pattern[0] < pattern[1]
    sparsity = sparse.get("sparsity", True)
    return any(sparsity.values()) if isinstance(sparsity, Mapping) else bool(sparsity)


Beside: TypeAlias = Literal["better", "worse", "same", "unknown"]


def beside(value: float, base: float, *, lower_is_better: bool | None) -> Beside:
    """Return what one figure is beside another; ``unknown`` where one of them is no finite number.

    >>> beside(11.0, 11.004, lower_is_better=True), beside(float("nan"), 11.0, lower_is_better=True)
    ('better', 'unknown')
    """
    if not (math.isfinite(value) and math.isfinite(base)):
        return "unknown"
    if value == base:
        return "same"
    return "better" if (value < base) == (lower_is_better is not False) else "worse"


def unmoved(values: Sequence[float], figure: str, recipe: Mapping[str, Any]) -> str:
    """Return a sentence where every phase ends with the same figure, which then says nothing of them; else nothing.

    >>> unmoved([0.0, 0.0, 0.0], "BLEU-4", {})
    'Every phase has the same BLEU-4, so it tells nothing of them.'
    """
    if len(values) < 2 or len(set(values)) > 1 or not math.isfinite(values[0]):
        return ""
    said, training = f"Every phase has the same {figure}, so it tells nothing of them", recipe.get("training") or {}
    if training.get("keep", "last") == "last" or training.get("keep_by") == "loss":
        return f"{said}."
    return f"{said}; --training.keep_by loss chooses epochs by what moves."


def run_verdict(result: Mapping[str, Any], recipe: Mapping[str, Any], figure: str) -> str:
    """Return what one run shows, and what it does not (DESIGN.md, rule 7).

    Args:
        result: of the run, with its metric and phases.
        recipe: of the run, as plain data.
        figure: the metric's name in words.
    """
    if result.get("arm"):
        return _of_arm(result, recipe, figure)
    metric, phases = result["metric"], result["phases"]
    name, unit = metric["name"], metric["unit"]
    first, last = phases[0]["test"][name], phases[-1]["test"][name]
    found = beside(last, first, lower_is_better=metric["lower_is_better"])
    points = "points" if unit in ("%", "") else unit
    size = f"{abs(last - first):.2f}"
    how = f"{'less than 0.01' if size == '0.00' else size} {points} {found} than"
    if found in ("same", "unknown"):
        how = "no better than" if found == "same" else "which cannot be compared with"
    shown, base = (f"{value:.2f} {unit}".rstrip() for value in (last, first))
    zeros = any(phase["sparsity"] > 0 for phase in phases if phase["kind"] == "sparse")
    elsewhere = "phase" in phases[-1].get("kept", {})  # of the whole run: its zeros are not those of each phase
    if not (any(masked(recipe)) if elsewhere else zeros):
        return (
            f"test {figure} {shown}, {how} after the first phase ({base}). "
            "Nothing was pruned: this is the control, DSD's steps and learning rates without a mask."
        )
    count = result["test_examples"]
    few = f", on {counted(count, 'test example')}" if count < _FEW else ""
    still = unmoved([phase["test"][name] for phase in phases], figure, recipe)
    return (
        f"test {figure} {shown}, {how} the dense baseline ({base}). {still}{' ' if still else ''}"
        f"That is one seed{few}, and more steps help too: the control on the same budget is the same command "
        f"with {shlex.join(control_settings(recipe))}."
    )


def arm_of(result: Mapping[str, Any], recipe: Mapping[str, Any]) -> str | None:
    """Return the label of the arm that a run is trained as, finished or not; None for the recipe's own phases.

    >>> arm_of({}, {"arm": "longer"}), arm_of({"arm": {"label": "dsd"}}, {}), arm_of({}, {})
    ('longer', 'dsd', None)
    """
    told = result.get("arm")
    label = told.get("label") if isinstance(told, Mapping) else recipe.get("arm")
    return str(label) if label else None


ONE_OF_SEVERAL = "whether that is better than another arm, only a comparison over several seeds can tell"
"""What the run of an arm does not show."""


def _of_arm(result: Mapping[str, Any], recipe: Mapping[str, Any], figure: str) -> str:
    """Return what the run of an arm shows: a figure of its network, which nothing of its own budget stands beside."""
    metric, phases = result["metric"], result["phases"]
    name, unit, label = metric["name"], metric["unit"], arm_of(result, recipe)
    values = [phase["test"][name] for phase in phases]
    last, first = (f"{value:.2f} {unit}".rstrip() for value in (values[-1], values[0]))
    before = f"; after its first phase, {phases[0]['name']}, it was {first}" if len(phases) > 1 else ""
    count = result["test_examples"]
    few = f", on {counted(count, 'test example')}" if count < _FEW else ""
    still = unmoved(values, figure, recipe)
    return (
        f"test {figure} {last}: the network of the arm {label}{before}. {still}{' ' if still else ''}"
        f"That is one seed{few}, and {ONE_OF_SEVERAL}."
    )
