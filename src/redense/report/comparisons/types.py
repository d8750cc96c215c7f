"""A comparison as its page knows it: arms, the runs of each, differences, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.lab.judging.examples import Pooled
from redense.lab.judging.headline import figure_of
from redense.lab.judging.results import Tried
from redense.lab.judging.statistics import Interval
from redense.lab.judging.verdicts import Contrast, Decision
from redense.lab.judging.words import called
from redense.report.kit.quantities import decimals_that_show
from redense.report.runs.evidence import Found
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
    parameters: int | None
    nonzeros: int | None
    failed: str | None


@dataclass(frozen=True)
class Point:
    """The validation metric of an arm at a step: mean, lowest and highest over the seeds that did not diverge.

    The training loss, the learning rate and the sparsity are means too; None where a seed has none.
    """

    arm: str
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
    steps: float | None
    gradients: int | None
    phases: tuple[Span, ...]
    seeds: tuple[Seed, ...]
    mean: float | None
    interval: Interval | None
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
class Difference(Contrast):
    """An arm against the baseline or a control that decides, with what is said and stored of it beside its numbers."""

    reach: Interval | None
    seeds_needed: int | None
    sentence: str
    flips: tuple[Flips, ...]
    examples: Pooled | None


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
    dense: bool = True
    """The baseline is the dense phase that the other arms begin with."""
    search: Mapping[str, Any] | None = None
    """What was searched before, where this confirms it: ``search.json``."""
    notes: tuple[str, ...] = ()
    """What is said of the data."""

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with first; a control where there is no baseline."""
        return self.decision.baseline or next(iter(self.decision.deciding), "")

    @property
    def decimals(self) -> int:
        """The decimals that the metric is shown with, everywhere alike: no difference that is shown becomes 0."""
        usual = self.metric.decimals(arm.mean for arm in self.arms)
        told = (item.paired.mean for item in self.differences if item.verdict in ("better", "worse"))
        return decimals_that_show(usual, [arm.mean for arm in self.arms], told)

    @property
    def points(self) -> str:
        """The unit of a difference: points where the metric is a percentage."""
        return "points" if self.metric.unit == "%" else self.metric.unit

    @property
    def has_intervals(self) -> bool:
        """Whether any mean has an interval: with one seed none has."""
        return any(arm.interval for arm in self.arms)

    @property
    def figure(self) -> str:
        """The figure that decides, in words: ``test error``."""
        return figure_of(self.split, self.metric.name)

    @property
    def opponents(self) -> list[str]:
        """The arms that all others are compared with: the baseline, and the controls that decide."""
        return [name for name in dict.fromkeys((self.baseline, *self.controls)) if self.against(name)]

    def named(self, other: str) -> str:
        """Return what an arm is compared with, in a sentence."""
        return called(self.decision, other, dense=self.dense)

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
