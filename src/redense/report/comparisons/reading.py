"""The folder of a comparison as data: what `redense compare` wrote, checked, with the curves averaged over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.lab.judging import words
from redense.lab.judging.results import Tried, decide_rows, tried
from redense.lab.judging.verdicts import Contrast, Decision
from redense.report.kit.loading import load_json
from redense.report.kit.quantities import count, learning_rate, percent
from redense.report.runs.evidence import Found, read_evidence
from redense.report.runs.reading import Metric


@dataclass(frozen=True)
class Span:
    """A phase of an arm, from step to step since the start."""

    name: str
    start: int
    end: int
    sparse: bool
    about: str


@dataclass(frozen=True)
class Seed:
    """One run of an arm; ``test`` is ``None`` where it diverged, and ``failed`` says why. A seed is a label."""

    seed: int | str
    test: float | None
    validation: float | None
    parameters: int | None
    nonzeros: int | None
    failed: str | None


@dataclass(frozen=True)
class Point:
    """The validation metric of an arm at a step: mean, lowest and highest over the seeds that did not diverge.

    The training loss, the learning rate and the sparsity are means too; None where a seed has none.
    """

    step: int
    phase: str
    mean: float
    low: float
    high: float
    seeds: int
    loss: float | None = None
    lr: float | None = None
    sparsity: float | None = None


@dataclass(frozen=True)
class Arm:
    """An arm with all its runs. ``interval`` is the 95 % one of the mean; ``seconds`` are per seed.

    Steps, gradients and seconds are None where nobody told them; ``ended`` is a word for what became of a run without
    a figure.
    """

    index: int
    name: str
    about: str
    source: str
    note: str
    steps: int | None
    gradients: int | None
    phases: tuple[Span, ...]
    seeds: tuple[Seed, ...]
    mean: float | None
    interval: tuple[float, float] | None
    seconds: float | None
    tried: Tried
    curve: tuple[Point, ...] = ()
    ended: str = "diverged"
    is_baseline: bool = False

    @property
    def alive(self) -> list[Seed]:
        """The runs that did not diverge."""
        return [seed for seed in self.seeds if seed.failed is None]

    @property
    def diverged(self) -> list[Seed]:
        """The runs that did."""
        return [seed for seed in self.seeds if seed.failed is not None]

    @property
    def parameters(self) -> int | None:
        """Weights of the final network, the same for every seed."""
        return next((seed.parameters for seed in self.alive if seed.parameters is not None), None)

    @property
    def nonzeros(self) -> float | None:
        """Weights that are not zero in the final network, mean over the seeds."""
        known = [seed.nonzeros for seed in self.alive if seed.nonzeros is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Flips:
    """McNemar's test of one seed: examples that only the arm, or only the other, gets right."""

    seed: int | str
    fixed: int
    broken: int
    p: float


@dataclass(frozen=True)
class Examples:
    """What the answers of all seeds say; see `redense.lab.judging.examples.Pooled`."""

    fixed: int
    broken: int
    p: float | None
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Difference:
    """An arm against the baseline or a control that decides, paired by seed; see `redense.lab.judging`."""

    arm: str
    against: str
    n: int
    mean: float
    interval: tuple[float, float] | None
    p_t: float | None
    p_flip: float | None
    p_adjusted: float | None
    detectable: float | None
    effect: float | None
    reach: tuple[float, float] | None
    seeds_needed: int | None
    by_seed: tuple[tuple[int | str, float], ...]
    verdict: str
    sentence: str
    flips: tuple[Flips, ...]
    examples: Examples | None


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison's folder says. ``asked`` is ``comparison.json``, empty where it is missing.

    ``form`` says who trained it: ``recipe``, ``function``, ``command``, or ``table`` for numbers that were given.
    ``split`` is that of the figures that decide, empty where nobody told it.
    """

    path: Path
    recipe: str
    task: str
    metric: Metric
    seeds: tuple[int | str, ...]
    test_examples: int | None
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    decision: Decision
    """Made from the raw numbers by today's rule, also for a folder whose stored verdicts are of an older one."""
    caution: str | None
    conclusions: Mapping[str, str]
    asked: Mapping[str, Any]
    environment: Mapping[str, Any]
    diagnosis: Any
    evidence: Found | None
    """What the networks of the first seed did with the test examples; None where nothing was kept."""
    form: str = "recipe"
    split: str = "test"
    search: Mapping[str, Any] | None = None
    """What was searched before, where this confirms it: ``search.json``."""

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with first; a control where there is no baseline."""
        return self.decision.baseline or next(iter(self.decision.deciding), "")

    @property
    def figure(self) -> str:
        """The figure that decides, in words: ``test error``."""
        return f"{self.split} {self.metric.label}".strip()

    def named(self, other: str) -> str:
        """Return what an arm is compared with, in a sentence."""
        if other != self.decision.baseline:
            return other
        dense = self.form == "recipe" or any(arm.name == other and arm.phases for arm in self.arms)
        return (
            f"the dense {'baseline' if other in ('baseline', 'dense') else f'baseline {other}'}"
            if dense
            else ("the baseline" if other == "baseline" else f"the baseline {other}")
        )

    @property
    def ended(self) -> str:
        """What became of runs without a figure, in a word."""
        return next((arm.ended for arm in self.arms), "diverged")

    def arm(self, name: str) -> Arm | None:
        """Return the arm of a name, if it was run."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def against(self, other: str) -> list[Difference]:
        """Return the differences from the baseline, or from a control, in the order of the arms."""
        return [item for item in self.differences if item.against == other]

    def difference(self, arm: str, against: str) -> Difference | None:
        """Return how an arm differs from another, if the two were compared."""
        return next((item for item in self.against(against) if item.arm == arm), None)

    @property
    def controls(self) -> tuple[str, ...]:
        """The controls that decide: the strongest, or all of them where none could be chosen."""
        return self.decision.deciding

    @property
    def others(self) -> list[Arm]:
        """The arms that are neither the baseline nor a control."""
        return [arm for arm in self.arms if arm.name not in (self.baseline, *self.decision.controls)]


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
            seeds=tuple(map(_label, data["seeds"])),
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
            conclusions={name: words.conclusion(decision, name) for name in decision.conclusions},
            asked=dict(asked),
            environment=dict(environment),
            diagnosis=diagnosis,
            evidence=read_evidence(folder / "evidence.json"),
            form=str(data.get("form") or "recipe"),
            split=str(data.get("split", "test")),
            search=load_json(folder / "search.json"),
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
        steps=_whole(row["steps"]),
        gradients=_whole(row["gradients"]),
        phases=tuple(_spans(row["phases"])),
        seeds=seeds,
        mean=_number(row["mean"]),
        interval=_pair(row["interval"]),
        seconds=_number(costs.get(name)),
        tried=settings,
        curve=tuple(_mean_curve([run for run in curves.get(name) or () if run["seed"] not in failed], metric)),
        ended=str(row.get("ended") or "diverged"),
        is_baseline=name == baseline,
    )


def _seed(item: Mapping[str, Any], metric: str) -> Seed:
    failed = item.get("failed")
    return Seed(
        seed=_label(item["seed"]),
        test=None if failed else _number(item["test"][metric]),
        validation=_number((item.get("validation") or {}).get(metric)),
        parameters=item.get("parameters"),
        nonzeros=item.get("nonzeros"),
        failed=str(failed) if failed else None,
    )


def _spans(phases: list[Mapping[str, Any]]) -> Iterator[Span]:
    start = 0
    for item in phases:
        phase, method = item["phase"], item.get("method")
        steps, sparsity, pattern = int(phase["steps"]), phase.get("sparsity"), phase.get("pattern")
        facts = [count(steps, "step")]
        if pattern:
            facts.append(f"{pattern[0]} of every {pattern[1]} weights kept")
        elif isinstance(sparsity, Mapping):
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


def _mean_curve(runs: list[Mapping[str, Any]], metric: str) -> Iterator[Point]:
    """Where a seed has no figure there is no mean: it would jump as that seed comes and goes."""
    phases: dict[int, str] = {}
    values: dict[int, list[float]] = {}
    others: dict[int, list[list[float]]] = {}
    for run in runs:
        for point in run["points"]:
            given = point["validation"]
            value = _number(given.get(metric) if isinstance(given, Mapping) else given)
            step = int(point["step"])
            phases[step] = str(point["phase"])
            values.setdefault(step, []).extend([] if value is None else [value])
            for kept, key in zip(others.setdefault(step, [[], [], []]), _BESIDE, strict=True):
                kept.extend([] if (other := _number(point.get(key))) is None else [other])
    for step in sorted(values):
        here = values[step]
        if here and len(here) == len(runs):
            beside = [sum(kept) / len(kept) if len(kept) == len(runs) else None for kept in others[step]]
            yield Point(step, phases[step], sum(here) / len(here), min(here), max(here), len(here), *beside)


def _difference(decision: Decision, item: Contrast, stored: Mapping[str, Any]) -> Difference:
    paired = item.paired
    return Difference(
        arm=item.arm,
        against=item.against,
        n=paired.n,
        mean=paired.mean,
        interval=paired.interval,
        p_t=paired.p_t,
        p_flip=paired.p_flip,
        p_adjusted=item.p_adjusted,
        detectable=item.detectable,
        effect=paired.effect,
        reach=words.reach(decision, paired.interval) if paired.interval else None,
        seeds_needed=words.seeds_needed(decision, item),
        by_seed=tuple((_label(seed), apart) for seed, apart in zip(item.seeds, paired.differences, strict=True)),
        verdict=item.verdict,
        sentence=words.sentence(decision, item),
        flips=tuple(
            Flips(_label(one["seed"]), int(one["fixed"]), int(one["broken"]), float(one["p"]))
            for one in stored.get("mcnemar") or ()
        ),
        examples=_examples(stored.get("examples")),
    )


def _examples(item: Mapping[str, Any] | None) -> Examples | None:
    if not item:
        return None
    p, interval = _number(item["p"]), _pair(item["interval"])
    return Examples(int(item["fixed"]), int(item["broken"]), p, float(item["mean"]), interval)


def _label(seed: Any) -> int | str:
    """A seed is a number, or the label that a table has."""
    return int(seed) if str(seed).isdecimal() else str(seed)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _pair(value: Any) -> tuple[float, float] | None:
    if not value:
        return None
    low, high = (float(end) for end in value)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
