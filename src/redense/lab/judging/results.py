"""The results of `redense compare`, judged: its rows of raw numbers in, verdicts and words out.

Verdicts are always made from the raw numbers, by today's rule and in today's words, also those of an old folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redense.files.visible import folded

from . import words
from .figures import BASELINES, CONTROLS, ArmFigures, usual_baseline
from .statistics import interval
from .verdicts import Decision, decide, plain_interval


def decide_rows(
    rows: Sequence[Mapping[str, Any]],
    metric: Mapping[str, Any],
    *,
    name: str | None = None,
    margin: float | None = None,
    looks: int = 1,
    added: str = "",
    baseline: str | None = None,
    validation_only: bool = False,
    folders: Sequence[Sequence[int | str]] = (),
) -> Decision:
    """Return what the rows of ``compare.json`` say; what is not told here is as in `decide`.

    Every arm without a mask is a control, unless the rows say which are. The baseline may be empty for none; it is the
    arm with a usual name, or else the first, where it is None. ``name`` is that of the metric in words.
    """
    arms = {str(row["arm"]): _figures(row, str(metric["name"])) for row in rows}
    if baseline is None:
        baseline = usual_baseline(arms) or next(iter(arms), "")
    return decide(
        arms,
        # Of a metric of which nobody says which way is better, lower is: the words say lower and higher beside it.
        lower_is_better=metric.get("lower_is_better") is not False,
        baseline=baseline,
        controls=[str(row["arm"]) for row in rows if row["arm"] != baseline and is_control(row)],
        metric=name or str(metric["name"]),
        unit=str(metric.get("unit") or ""),
        margin=margin,
        looks=looks,
        validation_only=validation_only,
        added=added,
        folders=[[str(seed) for seed in own] for own in folders],
    )


def seed_of(label: object) -> int | str:
    """Return a seed as JSON has it: a number, or a label of which that would make another one.

    >>> seed_of("7"), seed_of("07"), seed_of("a")
    (7, '07', 'a')
    """
    text = str(label)
    return int(text) if re.fullmatch(r"0|[1-9][0-9]{0,18}", text) else text


def plain_steps(mean: float | None) -> int | float | None:
    """Return the steps of a run, mean over seeds, as JSON has them: rounded they might be those of a control."""
    return int(mean) if mean is not None and mean == int(mean) else mean


def mean_of(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean of a row and its interval, as ``compare.json`` has them."""
    mean, around = interval(values) if values else (None, None)
    return {"mean": mean, "interval": plain_interval(around)}


def is_control(row: Mapping[str, Any]) -> bool:
    """Return whether an arm trains without a mask from its first step to its last, or was named as a control."""
    if row.get("control") is not None:
        return bool(row["control"])
    phases = row.get("phases") or ()
    if not phases:
        return folded(str(row["arm"])) in CONTROLS
    return not _is_masked(row)


def _is_masked(row: Mapping[str, Any]) -> bool:
    return any(item["phase"].get("sparsity") or item["phase"].get("pattern") for item in row.get("phases") or ())


def is_dense(result: Mapping[str, Any], baseline: str | None) -> bool:
    """Return whether the baseline of ``compare.json`` is the dense phase that its other arms begin with."""
    if (told := result.get("dense")) is not None:
        return bool(told)
    of_it = (row for row in result["rows"] if row["arm"] == (baseline or BASELINES[0]))
    if (result.get("form") or "recipe") == "recipe":
        return True
    return any(row.get("phases") and not _is_masked(row) for row in of_it)


def told_beside(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row of ``compare.json`` says of an arm's `ArmFigures` beside its numbers."""
    return {
        "note": str(row.get("note") or ""),
        "same": str(row.get("same") or ""),
        "ended": str(row.get("ended") or "diverged"),
        "bound": bool(row.get("bound")),
        "unmasked": bool(row.get("unmasked")),
    }


@dataclass(frozen=True)
class Tried:
    """A row as one of the settings that were tried of an arm.

    Args:
        arm: its name, without the setting.
        settings: how many were.
        best: whether this one has the best mean on validation; of equal ones, the first has.
    """

    arm: str
    settings: int
    best: bool


def tried(rows: Sequence[Mapping[str, Any]], metric: Mapping[str, Any]) -> dict[str, Tried]:
    """Return, by the label of a row, how many settings of its arm were tried and whether this one is the best.

    Where a row lacks a validation figure of a seed, none of its arm is called the best.
    """
    sign = -1 if metric.get("lower_is_better") is False else 1
    of_arm: dict[str, dict[str, float | None]] = {}
    for row in rows:
        arm, figures = str(row.get("of") or row["arm"]), _figures(row, str(metric["name"]))
        complete = figures.validation and len(figures.validation) == figures.runs
        mean = sign * math.fsum(figures.validation.values()) / figures.runs if complete else None
        of_arm.setdefault(arm, {})[str(row["arm"])] = mean
    found: dict[str, Tried] = {}
    for arm, means in of_arm.items():
        best = None if None in means.values() else min(means, key=lambda label: means[label] or 0.0)
        found |= {label: Tried(arm, len(means), label == best) for label in means}
    return found


def tried_sentence(settings: Mapping[str, Tried]) -> str:
    """Return how many settings of each arm were tried, and which is the best of each; nothing where none was swept."""
    if all(one.settings == 1 for one in settings.values()):
        return ""
    counts = {one.arm: one.settings for one in settings.values()}
    best = ", ".join(label for label, one in settings.items() if one.best and one.settings > 1)
    numbers = ", ".join(f"{arm} {count}" for arm, count in counts.items())
    return f"Settings tried: {numbers}. Best on validation: {best or 'not known, a figure is missing'}."


def described(decision: Decision) -> dict[str, Any]:
    """Return the verdicts as plain data, as ``compare.json`` has them beside the rows."""
    return {
        "control": list(decision.deciding),
        "control_sentence": words.control_sentence(decision),
        "family": vars(decision.family).copy(),
        "comparisons": [
            item.to_dict()
            | {
                "seeds": [seed_of(seed) for seed in item.seeds],
                "effect": item.paired.effect,
                "seeds_needed": words.seeds_needed(decision, item),
                "differences": list(item.paired.differences),
                "sentence": words.sentence(decision, item),
            }
            for item in decision.contrasts
        ],
        "caution": words.caution(decision),
        "conclusions": {name: words.said_of(decision, name) for name in decision.conclusions},
        "codes": {name: told.to_dict() for name, told in decision.conclusions.items()},
        "gains": [name for name, told in decision.conclusions.items() if told.gain],
    }


def _figures(row: Mapping[str, Any], metric: str) -> ArmFigures:
    runs: Sequence[Mapping[str, Any]] = row["seeds"]
    alive = {str(run["seed"]): run for run in runs if not run.get("failed") and run.get("test")}
    validation = {seed: (run.get("validation") or {}).get(metric) for seed, run in alive.items()}
    return ArmFigures(
        values={seed: float(run["test"][metric]) for seed, run in alive.items()},
        validation={seed: float(value) for seed, value in validation.items() if value is not None},
        steps=None if row["steps"] is None else float(row["steps"]),
        runs=len(runs),
        failures={str(run["seed"]): str(run.get("failed") or "") for run in runs if str(run["seed"]) not in alive},
        **told_beside(row),
    )
