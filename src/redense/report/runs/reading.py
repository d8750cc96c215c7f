"""A run folder as data: what is there is read, also while the run goes on or after it was killed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from redense.errors import DataError, RecipeError
from redense.lab.headings import heading_of
from redense.lab.judging.single import arm_of, masked
from redense.report.kit.loading import load_object
from redense.report.kit.quantities import decimals_for
from redense.tasks.metrics import shown_name

from .evidence import Found, read_evidence
from .moments import LayerMoments, read_moments


@dataclass(frozen=True)
class Metric:
    """The figure that the task is judged by."""

    name: str
    unit: str = ""
    lower_is_better: bool | None = None

    @property
    def label(self) -> str:
        """The name in words."""
        return shown_name(self.name)

    @property
    def direction(self) -> str:
        """The direction that is better, in words; empty where nobody says it."""
        return "" if self.lower_is_better is None else f"{'Lower' if self.lower_is_better else 'Higher'} is better"

    def decimals(self, values: Iterable[float | None]) -> int:
        """Return the decimals that figures of it are shown with, everywhere alike."""
        known = (abs(value) for value in values if value is not None and math.isfinite(value))
        return 2 if self.unit == "%" else decimals_for(max(known, default=0.0))


@dataclass(frozen=True)
class PhaseRow:
    """A phase and its results; ``None`` where something is not known (yet)."""

    name: str
    sparse: bool
    sparsity: float | None
    epochs: float
    lr: float | None
    steps: int
    seconds: float | None
    validation: Mapping[str, float]
    test: Mapping[str, float]
    kept: float | None = None
    """The epoch that `keep: best` kept, 0 for where the phase began; None where it kept the last."""
    kept_of: str = ""
    """The phase of that epoch, where the best of the whole run was kept."""


@dataclass(frozen=True)
class Layer:
    """A parameter, whether it is pruned or why not, and its sparsity at the end of each phase."""

    name: str
    shape: tuple[int, ...]
    weights: int
    prunable: bool
    reason: str
    sparsity: tuple[float, ...]


@dataclass(frozen=True)
class StepLine:
    """One ``step`` line of ``metrics.jsonl``."""

    phase: int
    step: int
    loss: float
    lr: float


@dataclass(frozen=True)
class EpochLine:
    """One ``epoch`` line of ``metrics.jsonl``."""

    phase: int
    phase_name: str
    step: int
    epoch: float
    train_loss: float
    validation: Mapping[str, float]
    lr: float
    sparsity: float
    seconds: float
    loss_with: tuple[str, ...] = ()
    """What makes the training loss another one than the recipe's."""


@dataclass(frozen=True)
class Log:
    """The readable lines of ``metrics.jsonl``, by step; ``unreadable`` counts the others."""

    phases: Mapping[int, str]
    steps: tuple[StepLine, ...]
    epochs: tuple[EpochLine, ...]
    unreadable: int = 0


@dataclass(frozen=True)
class Run:
    """A run folder. ``result`` is empty until the run has finished; ``recipe`` if it cannot be read."""

    path: Path
    recipe_text: str | None
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    log: Log
    result: Mapping[str, Any]
    layers: tuple[Layer, ...]
    phases: tuple[PhaseRow, ...]
    metric: Metric
    evidence: Found | None = None
    """What the networks did with the test examples; None where nothing was kept."""
    moments: Sequence[LayerMoments] | None = None

    @property
    def decimals(self) -> int:
        """The decimals that the metric is shown with, everywhere alike."""
        figures = (figures for phase in self.phases for figures in (phase.validation, phase.test))
        return self.metric.decimals(one.get(self.metric.name) for one in figures)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.result)

    @property
    def name(self) -> str:
        """The name of the run: its recipe's."""
        return str(self.result.get("recipe") or self.recipe.get("name") or self.path.resolve().name)

    @property
    def heading(self) -> str:
        """The heading of the page: the recipe's name, or that of the data where it is not the recipe's own."""
        return heading_of(self.name, str(self.recipe.get("about") or ""))

    @property
    def arm(self) -> str | None:
        """The arm of `redense compare` that the run is; None for the recipe's own phases."""
        return arm_of(self.result, self.recipe)

    @property
    def seed(self) -> int | None:
        """The seed, if any file says it."""
        return self.result.get("seed", self.recipe.get("seed"))

    @property
    def keep_by(self) -> str:
        """The figure that decides which epoch is kept: the metric or the loss."""
        training = self.recipe.get("training")
        return str(training.get("keep_by", "metric")) if isinstance(training, Mapping) else "metric"

    @property
    def ends(self) -> list[int]:
        """The optimizer step at which each phase ended, or to which it has come."""
        return list(accumulate(phase.steps for phase in self.phases))

    @property
    def spans(self) -> list[tuple[PhaseRow, int, int]]:
        """Each phase with the optimizer steps at which it began and ended."""
        return [(phase, end - phase.steps, end) for phase, end in zip(self.phases, self.ends, strict=True)]

    @property
    def first_sparse(self) -> int | None:
        """The place of the first phase under a mask."""
        return next((index for index, phase in enumerate(self.phases) if phase.sparse), None)

    @property
    def planned_phases(self) -> int | None:
        """The number of phases that the recipe asks for; None where an arm decides it."""
        if self.arm or not {"dense", "sparse", "redense"} <= self.recipe.keys():
            return None
        return 3 + 2 * len(self.recipe.get("cycles") or [])


def read_run(path: Path) -> Run:
    """Return what a run folder holds.

    Raises:
        DataError: it is no run folder, or a file in it is damaged.
    """
    texts = {
        name: (path / name).read_text(encoding="utf-8", errors="replace") if (path / name).is_file() else None
        for name in ("recipe.yaml", "metrics.jsonl")
    }
    if all(text is None for text in texts.values()) and not (path / "result.json").is_file():
        raise DataError(f"'{path}' is no run folder: expected one that `redense run` wrote, with recipe.yaml in it")
    result = load_object(path / "result.json")
    recipe = _recipe(texts["recipe.yaml"])
    unmasked = _unmasked(recipe)
    log = read_log(texts["metrics.jsonl"] or "")
    try:
        layers = tuple(_layer(item) for item in result.get("layers", ()))
        phases = tuple(_phase(item, layers, index, unmasked) for index, item in enumerate(result.get("phases", ())))
        metric = Metric(**result["metric"]) if result else _guess_metric(log)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path / 'result.json'} is not what `redense run` writes: {error!r}") from None
    return Run(
        path=path,
        recipe_text=texts["recipe.yaml"],
        recipe=recipe,
        environment={name: said for name, said in load_object(path / "environment.json").items() if name != "store"},
        log=log,
        result=result,
        layers=layers,
        phases=phases or _phases_so_far(log, unmasked),
        metric=metric,
        evidence=read_evidence(path / "evidence.json") if result else None,
        moments=read_moments(path / "moments.json") if result else None,
    )


def read_log(text: str) -> Log:
    """Return the log that ``metrics.jsonl`` holds.

    A step that was logged twice (before a kill, and again after the resume) counts once, as last written. A last line
    without its end is one that is being written now: it is left out and not counted as unreadable.
    """
    lines = text.split("\n")
    phases: dict[int, str] = {}
    steps: dict[int, StepLine] = {}
    epochs: dict[tuple[int, int], EpochLine] = {}  # a phase that joins others ends at the step of the one before it
    unreadable = 0
    for line in filter(str.strip, lines[:-1]):
        try:
            item = json.loads(line)
            kind, phase, step = item["kind"], int(item["phase_index"]), int(item["step"])
            if kind == "step":
                steps[step] = StepLine(phase, step, _float(item["loss"]), _float(item["lr"]))
            elif kind == "epoch":
                epochs[step, phase] = EpochLine(
                    phase=phase,
                    phase_name=str(item["phase"]),
                    step=step,
                    epoch=_float(item["epoch"]),
                    train_loss=_float(item["train_loss"]),
                    validation=_figures(item.get("validation")),
                    lr=_float(item["lr"]),
                    sparsity=_float(item["sparsity"]),
                    seconds=_float(item["seconds"]),
                    loss_with=tuple(map(str, item.get("loss_with", ()))),
                )
            phases[phase] = str(item["phase"])
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
            unreadable += 1
    return Log(
        phases=dict(sorted(phases.items())),
        steps=tuple(steps[step] for step in sorted(steps)),
        epochs=tuple(epochs[place] for place in sorted(epochs)),
        unreadable=unreadable,
    )


def _recipe(text: str | None) -> dict[str, Any]:
    from redense.lab.recipe.recipe import parse_yaml

    try:
        data = parse_yaml(text or "", "recipe.yaml")
    except RecipeError:
        return {}
    return data if isinstance(data, dict) else {}


def _unmasked(recipe: Mapping[str, Any]) -> set[int]:
    """The phases that are sparse in name alone: a control asks for a sparsity of 0.

    A weight may be zero without any mask, so the sparsity that was measured cannot tell.
    """
    if recipe.get("arm"):  # whose phases are others
        return set()
    try:
        return {1 + 2 * index for index, has_mask in enumerate(masked(recipe)) if not has_mask}
    except (AttributeError, LookupError, TypeError):
        return set()


def _phases_so_far(log: Log, unmasked: set[int]) -> tuple[PhaseRow, ...]:
    rows: list[PhaseRow] = []
    start = 0
    for index, name in log.phases.items():
        steps = [line for line in log.steps if line.phase == index]
        epochs = [line for line in log.epochs if line.phase == index]
        lines = [*steps, *epochs]
        end = max((line.step for line in lines), default=start)
        sparsity = epochs[-1].sparsity if epochs else None
        rows.append(
            PhaseRow(
                name=name,
                # The log has no kinds, and a released weight may stay at zero: the sparsity alone does not tell.
                sparse=name.startswith("sparse") and sparsity != 0 and index not in unmasked,
                sparsity=sparsity,
                epochs=epochs[-1].epoch if epochs else 0,
                lr=min(lines, key=lambda line: line.step).lr if lines else None,
                steps=end - start,
                seconds=sum(line.seconds for line in epochs) if epochs else None,
                validation=epochs[-1].validation if epochs else {},
                test={},
            )
        )
        start = end
    return tuple(rows)


def _guess_metric(log: Log) -> Metric:
    """A run that goes on has not said its metric yet: the first validation figure that is not the loss."""
    names = list(log.epochs[-1].validation) if log.epochs else []
    return Metric(next((name for name in names if name != "loss"), "loss"))


def _phase(item: Mapping[str, Any], layers: tuple[Layer, ...], index: int, unmasked: set[int]) -> PhaseRow:
    sparsity, kept = item["sparsity"], item.get("kept") or {}
    if not isinstance(sparsity, int | float):  # one per parameter: show what it came to
        sparsity = overall_sparsity([layer for layer in layers if layer.prunable], index)
    return PhaseRow(
        name=str(item["name"]),
        # The best epoch of the run may be one of another phase, whose zeros say nothing of this phase's mask.
        sparse=item["kind"] == "sparse" and (bool(sparsity) or "phase" in kept) and index not in unmasked,
        sparsity=sparsity,
        epochs=_float(item["epochs"]),
        lr=None if item.get("joins") else _float(item["lr"]),
        steps=int(item["steps"]),
        seconds=_float(item["seconds"]) if item.get("seconds") is not None else None,
        validation=_figures(item.get("validation")),
        test=_figures(item.get("test")),
        kept=_float(kept["epoch"]) if kept else None,
        kept_of=str(kept.get("phase", "")),
    )


def overall_sparsity(layers: list[Layer], index: int) -> float | None:
    """Return the fraction of all weights of the layers that was zero at the end of the phase of that index."""
    weights = sum(layer.weights for layer in layers)
    return zeros(layers, index) / weights if weights else None


def zeros(layers: list[Layer], index: int) -> int:
    """Return how many weights of the layers were zero at the end of the phase of that index."""
    return sum(round(layer.sparsity[index] * layer.weights) for layer in layers if index < len(layer.sparsity))


def _layer(item: Mapping[str, Any]) -> Layer:
    return Layer(
        name=str(item["name"]),
        shape=tuple(int(size) for size in item["shape"]),
        weights=int(item["weights"]),
        prunable=bool(item["prunable"]),
        reason=str(item.get("reason") or ""),
        sparsity=tuple(_float(value) for value in item["sparsity"]),
    )


def _figures(value: Any) -> dict[str, float]:
    return {str(name): _float(figure) for name, figure in (value or {}).items()}


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
