"""The folder of a comparison as data: what `redense compare` wrote, checked, with the curves averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.lab.judging import words
from redense.lab.judging.examples import Pooled
from redense.lab.judging.results import Tried, decide_rows, is_dense, plain_steps, seed_of, tried
from redense.lab.judging.verdicts import Contrast, Decision
from redense.report.kit.loading import load_json
from redense.report.kit.quantities import count, learning_rate, percent
from redense.report.runs.evidence import read_evidence
from redense.report.runs.reading import Metric

from .types import Arm, Comparison, Difference, Flips, Point, Seed, Span


def read_comparison(folder: Path) -> Comparison:
    """Return what a comparison's folder holds.

    Raises:
        DataError: it is no finished comparison, or a file in it is damaged.
    """
    path = folder / "compare.json"
    data = load_json(path)
    if data is None:
        raise DataError(f"'{folder}' is no finished comparison: expected one of `redense compare`, with compare.json")
    costs, curves, asked = ((load_json(folder / f"{name}.json") or {}) for name in ("costs", "curves", "comparison"))
    environment, diagnosis = load_json(folder / "environment.json") or {}, load_json(folder / "diagnosis.json")
    try:
        metric = Metric(**data["metric"])
        rows, settings = enumerate(data["rows"]), tried(data["rows"], data["metric"])
        judged: Mapping[str, Any] = data.get("judged") or {}
        decision = decide_rows(data["rows"], data["metric"], name=metric.label, **judged)
        stored = {(str(item["arm"]), str(item["against"])): item for item in data["comparisons"]}
        return Comparison(
            path=folder,
            recipe=str(data["recipe"]),
            task=str(data.get("task") or ""),
            metric=metric,
            seeds=tuple(map(seed_of, data["seeds"])),
            test_examples=data.get("test_examples"),
            arms=tuple(
                _arm(index, row, metric.name, costs, curves, decision.baseline, settings[str(row["arm"])])
                for index, row in rows
            ),
            differences=tuple(
                _difference(decision, item, stored.get((item.arm, item.against), {})) for item in decision.contrasts
            ),
            decision=decision,
            caution=words.caution(decision),
            conclusions={name: words.said_of(decision, name) for name in decision.conclusions},
            asked=dict(asked),
            environment=dict(environment),
            diagnosis=diagnosis,
            evidence=read_evidence(folder / "evidence.json"),
            form=str(data.get("form") or "recipe"),
            split=str(data.get("split", "test")),
            dense=is_dense(data, decision.baseline),
            search=load_json(folder / "search.json"),
            notes=tuple(map(str, data.get("notes") or ())),
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} and what lies beside it are not what `redense compare` writes: {error!r}") from None


def _arm(
    index: int,
    row: Mapping[str, Any],
    metric: str,
    costs: Mapping[str, Any],
    curves: Mapping[str, Any],
    baseline: str,
    settings: Tried,
) -> Arm:
    name = str(row["arm"])
    seeds = tuple(_seed(item, metric) for item in row["seeds"])
    failed = {seed.seed for seed in seeds if seed.failed is not None}
    return Arm(
        index=index,
        name=name,
        about=str(row.get("about") or ""),
        source=str(row.get("source") or ""),
        note=str(row.get("note") or ""),
        steps=plain_steps(_number(row["steps"])),
        gradients=_whole(row["gradients"]),
        phases=tuple(_spans(row["phases"])),
        seeds=seeds,
        mean=_number(row["mean"]),
        interval=_pair(row["interval"]),
        seconds=_number(costs.get(name)),
        tried=settings,
        curve=tuple(_mean_curve(name, [run for run in curves.get(name) or () if run["seed"] not in failed], metric)),
        ended=str(row.get("ended") or "diverged"),
        is_baseline=name == baseline,
    )


def _seed(item: Mapping[str, Any], metric: str) -> Seed:
    failed = item.get("failed")
    return Seed(
        seed=seed_of(item["seed"]),
        test=None if failed else _number(item["test"][metric]),
        parameters=item.get("parameters"),
        nonzeros=item.get("nonzeros"),
        failed=str(failed) if failed else None,
    )


def _spans(phases: list[Mapping[str, Any]]) -> Iterator[Span]:
    start = 0
    for place, item in enumerate(phases):
        phase, method = item["phase"], item.get("method")
        untrained = bool(item.get("given")) or item.get("joins") is not None  # as `PlannedPhase.steps` has it
        steps, sparsity, pattern = 0 if untrained else int(phase["steps"]), phase.get("sparsity"), phase.get("pattern")
        facts = ["not trained" if untrained else count(steps, "step")]
        if (after := item.get("after", place - 1)) not in (None, place - 1):
            facts.append(f"from the end of {phases[after]['phase'].get('name')}")
        if pattern:
            facts.append(f"{pattern[0]} of every {pattern[1]} weights kept")
        elif isinstance(sparsity, (Mapping, list)):  # pairs, where the order of patterns matters
            facts.append("sparsity by layer")
        elif sparsity:
            facts.append(f"{percent(sparsity)} sparse" + (", globally" if phase.get("scope") == "global" else ""))
        if phase.get("criterion"):
            facts.append(f"pruned by {phase['criterion']}")
        if (lr := phase.get("lr", 1.0)) != 1:
            facts.append(f"LR × {learning_rate(lr)}")
        if method:
            facts.append(f"with {method}")
        yield Span(str(phase.get("name") or ""), start, start + steps, bool(sparsity or pattern), ", ".join(facts))
        start += steps


_BESIDE = ("train_loss", "lr", "sparsity")


_Place = tuple[int, int]
"""The step of a point, and its number among those there: a phase that joins others ends at the step of the last."""


def _mean_curve(arm: str, runs: list[Mapping[str, Any]], metric: str) -> Iterator[Point]:
    """Return a mean curve; none where a seed has no figure, because it would jump as that seed comes and goes."""
    phases: dict[_Place, str] = {}
    values: dict[_Place, list[float]] = {}
    others: dict[_Place, list[list[float]]] = {}
    for run in runs:
        seen: dict[int, int] = {}
        for point in run["points"]:
            given = point["validation"]
            value = _number(given.get(metric) if isinstance(given, Mapping) else given)
            step = int(point["step"])
            seen[step] = seen.get(step, 0) + 1
            place = (step, seen[step])
            phases[place] = str(point["phase"])
            values.setdefault(place, []).extend([] if value is None else [value])
            for kept, key in zip(others.setdefault(place, [[], [], []]), _BESIDE, strict=True):
                kept.extend([] if (other := _number(point.get(key))) is None else [other])
    for place in sorted(values):
        here = values[place]
        if here and len(here) == len(runs):
            beside = [sum(kept) / len(kept) if len(kept) == len(runs) else None for kept in others[place]]
            yield Point(arm, place[0], phases[place], sum(here) / len(here), min(here), max(here), len(here), *beside)


def _difference(decision: Decision, item: Contrast, stored: Mapping[str, Any]) -> Difference:
    return Difference(
        **vars(item),
        reach=words.reach(decision, item.paired.interval) if item.paired.interval else None,
        seeds_needed=words.seeds_needed(decision, item),
        sentence=words.sentence(decision, item),
        flips=tuple(
            Flips(seed_of(one["seed"]), int(one["fixed"]), int(one["broken"]), float(one["p"]))
            for one in stored.get("mcnemar") or ()
        ),
        examples=_examples(stored.get("examples")),
    )


def _examples(item: Mapping[str, Any] | None) -> Pooled | None:
    if not item:
        return None
    counts = {name: int(item[name]) for name in ("seeds", "examples", "fixed", "broken")}
    return Pooled(**counts, p=_number(item["p"]), mean=float(item["mean"]), interval=_pair(item["interval"]))


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _pair(value: Any) -> tuple[float, float] | None:
    if not value:
        return None
    low, high = (float(end) for end in value)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
