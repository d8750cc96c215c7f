"""The results of any training, in the files of a comparison: every raw number, the verdicts, a table for spreadsheets.

They are those of ``redense compare RECIPE``, so that the same page, figures and ``redense judge FOLDER`` read them.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.checksums import write_with_sums
from redense.files.csv_text import safe_cell
from redense.lab.judging.figures import other_split_of
from redense.lab.judging.results import decide_rows, described, mean_of, plain_steps
from redense.tasks.metrics import shown_name

from .figures import UNNAMED, Figures, choose_metric, missing_metric
from .keeping import Kept, Outcome
from .plan import Plan, PlannedArm

FILES = ("compare.json", "compare.csv", "costs.json")
Outcomes = Mapping[tuple[str, int], Outcome]
_SURE = 2  # trainings without a figure that are no accident


def unfinished(held: Kept, *, retry_failed: bool) -> dict[tuple[str, int], Outcome]:
    """Return what came of the pairs that are done; those that failed are not, if they are to be tried again.

    Raises:
        DataError: their figures lack the one that decides, or do not say which way is better.
    """
    outcomes = held.outcomes()
    if retry_failed:
        outcomes = {pair: outcome for pair, outcome in outcomes.items() if not has_failed(held.plan, outcome)}
    check_figures(held.plan, outcomes)
    return outcomes


def has_failed(plan: Plan, outcome: Outcome) -> bool:
    """Whether a pair has no figures, or lacks the one that decides."""
    return outcome.figures is None or bool(missing_metric(outcome.figures, plan.metric))


def check_answers(held: Kept, outcomes: Mapping[tuple[str, int], Outcome]) -> None:
    """Raise if two trainings have ended well, and none has left a figure: the others would leave none either.

    One alone may be of a run that diverged. The two are done again by the corrected call.

    Raises:
        DataError: so it is.
    """
    unread = [pair for pair, outcome in outcomes.items() if outcome.unread]
    if len(unread) < _SURE or any(outcome.figures for outcome in outcomes.values()):
        return
    for pair in unread:
        held.drop(*pair)
    said = " and ".join(f"{arm}, seed {seed}" for arm, seed in unread)
    raise DataError(
        f"no figure of {said}, so the others are left: {outcomes[unread[-1]].failed}; of a run that diverged the "
        "figure is NaN, or null in JSON"
    )


def check_figures(plan: Plan, outcomes: Mapping[tuple[str, int], Outcome]) -> None:
    """Raise unless any figures have the one that decides, and it is known which way is better.

    A pair that lacks what others have is one that failed.

    Raises:
        DataError: none has; what was trained is kept, so that the corrected call goes on.
    """
    lacking: list[str] = []
    for figures in (outcome.figures for outcome in outcomes.values() if outcome.figures):
        metric, _ = choose_metric(figures.told, plan.metric, plan.lower_is_better)
        lacking.append(missing_metric(figures, metric))
    if lacking and all(lacking):
        raise DataError(lacking[0])


def write_results(held: Kept, outcomes: Outcomes) -> dict[str, Any]:
    """Write the results of all pairs into the folder of a comparison, and return them.

    Raises:
        DataError: every pair failed, or the figures lack the one that decides.
    """
    result = gather(held.plan, outcomes, held.looks.judged)
    write_tables(held.path, result, None if held.plan.share else _seconds(held.plan, outcomes))
    return result


def write_tables(folder: Path, result: Mapping[str, Any], seconds: Mapping[str, float] | None) -> None:
    """Write ``compare.json``, ``compare.csv`` and, where the seconds are known, ``costs.json``."""
    texts = {"compare.csv": csv_of(result)}
    if seconds is not None:
        texts["costs.json"] = json.dumps(seconds, indent=2) + "\n"
    write_with_sums(folder, {**texts, "compare.json": json.dumps(result, indent=2, allow_nan=False) + "\n"})


def gather(plan: Plan, outcomes: Outcomes, corrected: Mapping[str, Any]) -> dict[str, Any]:
    """Return every raw number of finished pairs and what they say, as plain data, by the terms of `Looks.judged`.

    Raises:
        DataError: every pair failed, or the figures lack the one that decides.
    """
    known = [outcome.figures for outcome in outcomes.values() if outcome.figures]
    if not known:
        pair, outcome = next(iter(outcomes.items()))
        raise DataError(f"all {len(outcomes):,} pairs failed; {pair[0]}, seed {pair[1]}: {outcome.failed}")
    metric, lower = choose_metric(known[0].told, plan.metric, plan.lower_is_better)
    read = {pair: _values(outcome, metric) for pair, outcome in outcomes.items()}
    validation_only = not any("test" in facts for facts in read.values())
    rows = [_row(arm, plan, read, metric, validation_only=validation_only) for arm in plan.arms]
    judged = {**corrected, "baseline": plan.baseline, "validation_only": validation_only}
    about = {"name": metric, "unit": "", "lower_is_better": lower}
    decision = decide_rows(rows, about, name=shown_name(metric), **judged)
    return {
        "form": plan.form,
        "recipe": plan.name,
        "task": "",
        "split": "validation" if validation_only else "" if other_split_of(metric) else "test",
        "metric": about,
        "seeds": list(plan.seeds),
        "test_examples": None,
        "rows": rows,
        "judged": judged,
        **described(decision),
    }


def csv_of(result: Mapping[str, Any]) -> str:
    """Return a row for each arm and seed, as ``redense judge`` reads it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    seeds = [seed for row in result["rows"] for seed in row["seeds"]]
    metrics = {
        split: sorted({name for seed in seeds for name in seed.get(split, {})}) for split in ("validation", "test")
    }
    names = sorted({*metrics["validation"], *metrics["test"]})
    columns = [(split, name) for split in ("validation", "test") for name in names if metrics[split]]
    head = ["arm", "seed", "steps", "gradients", "parameters", "nonzeros", "failed"]
    only = result.get("judged", {}).get("validation_only")  # then they are in the place of test figures
    writer.writerow([*head, *(f"{'validation' if only else split}_{name}" for split, name in columns)])
    for row in result["rows"]:
        steps = _own_steps(row)
        for seed in row["seeds"]:
            facts = [seed.get(name, "") for name in ("parameters", "nonzeros", "failed")]
            numbers = [seed.get(split, {}).get(name, "") for split, name in columns]
            budget = [
                "" if told is None else told for told in (steps.get(seed["seed"], row["steps"]), row["gradients"])
            ]
            writer.writerow(map(safe_cell, [row["arm"], seed["seed"], *budget, *facts, *numbers]))
    return buffer.getvalue()


def _own_steps(row: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the steps of each run of an arm; none where those of its row are no mean of them, as of a shared phase.

    A run that failed and told none has an empty cell, so that the mean stays what it is.
    """
    told = {seed["seed"]: seed.get("steps") for seed in row["seeds"]}
    known = [steps for steps in told.values() if steps is not None]
    silent = any(told[seed["seed"]] is None and not seed.get("failed") for seed in row["seeds"])
    is_mean = known and row["steps"] is not None and math.isclose(sum(known) / len(known), row["steps"])
    return told if is_mean and not silent else {}


def _row(
    arm: PlannedArm,
    plan: Plan,
    read: Mapping[tuple[str, int], Mapping[str, Any]],
    metric: str,
    *,
    validation_only: bool,
) -> dict[str, Any]:
    seeds: list[dict[str, Any]] = []
    for seed in plan.seeds:
        facts = dict(read[arm.name, seed])
        if "failed" not in facts and not validation_only and "test" not in facts:
            facts = {"failed": f"there is no test figure of '{metric}', which the others have"}
        if validation_only and "validation" in facts:
            facts["test"] = facts.pop("validation")
        seeds.append({"seed": seed, **facts})
    told = [facts["steps"] for facts in seeds if "steps" in facts]
    steps = arm.steps
    if told and (steps is None or not plan.share):  # what was trained, and not what was planned; of a part it is less
        steps = plain_steps(sum(told) / len(told))
    gradients = [facts["gradients"] for facts in seeds if "gradients" in facts]
    values = [facts["test"][metric] for facts in seeds if "test" in facts]
    return {
        "arm": arm.name,
        "about": arm.about or arm.command or "",
        "source": arm.source,
        "note": "",
        "control": arm.name in plan.controls,
        "ended": "failed",
        "steps": steps,
        "gradients": round(sum(gradients) / len(gradients)) if gradients else None,
        "phases": [{"phase": phase} for phase in arm.phases],
        "seeds": seeds,
        **mean_of(values),
    }


def _values(outcome: Outcome, metric: str) -> dict[str, Any]:
    """Return the figures of a pair by split, or why there are none."""
    if outcome.figures is None:
        return {"failed": outcome.failed or "it failed"}
    if why := missing_metric(outcome.figures, metric):
        return {"failed": why}
    splits = {split: own for split in ("test", "validation") if (own := _named(outcome.figures, split, metric))}
    facts = {name: plain_steps(value) for name, value in outcome.figures.facts.items()}
    return {**facts, **splits}


def _named(figures: Figures, split: str, metric: str) -> dict[str, float]:
    """The figures of a split that has the one that decides, under its name; none of another split."""
    values: dict[str, float] = dict(getattr(figures, split))
    if metric not in values and UNNAMED in values:
        values[metric] = values.pop(UNNAMED)
    return values if metric in values else {}


def _seconds(plan: Plan, outcomes: Outcomes) -> dict[str, float]:
    """The mean seconds of each arm's pairs, where they are known: of what failed, or a queue has run, they are not."""
    found: dict[str, float] = {}
    for arm in plan.arms:
        pairs = [outcomes[arm.name, seed] for seed in plan.seeds]
        if spent := [pair.seconds for pair in pairs if pair.seconds and not pair.failed]:
            found[arm.name] = round(sum(spent) / len(spent), 3)
    return found
