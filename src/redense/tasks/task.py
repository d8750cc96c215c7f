"""The interface of a task to the engine: data, model, loss and metrics. Everything else is the same for all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn
from typing_extensions import override

from .metrics import Metric

if TYPE_CHECKING:
    from .evidence import Evidence, Missing

Split = Literal["train", "validation", "test"]
Batch = Any
"""What a data set gives for a list of indices: tensors, or tuples, lists or dicts of tensors."""


@dataclass(frozen=True)
class Facts:
    """The facts of a recipe's data that a plan needs.

    Args:
        train: training examples.
        text: what there is, in a line: ``54,000 images of 1 x 28 x 28, 10 classes``.
        size: numbers that one example has, about.
        looked_at: whether the data was read; else it is what the recipe says.
        details: what the task needs to sketch such data, plain JSON.
        notes: what is left out, small or odd, a sentence each, where the data was read.
    """

    train: int
    text: str
    size: int
    looked_at: bool
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class OtherData:
    """Data that a network was not trained for, in the shape that it knows.

    Args:
        task: which has it.
        split: that is to be evaluated.
        notes: what is said of it, a sentence each.
        called: what the split is called there, if not as here.
    """

    task: Task
    split: Split
    notes: tuple[str, ...]
    called: str | None = None


class Settings(Protocol):
    """The settings that a task is made from: a recipe, with the task's own sections."""

    data: Any
    model: Any
    training: Any


class Part(list[int]):
    """The indices that one rank takes of a batch: a list, and where it stands in the whole batch.

    What is random about a batch can be drawn for the whole of it, so that the number of ranks does not matter.
    """

    def __init__(self, whole: Sequence[int], start: int, end: int) -> None:
        super().__init__(whole[start:end])
        self.whole, self.start = list(whole), start

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.whole, self.start, self.start + len(self))


class Examples(Protocol):
    """A split: its length, and a whole batch for a list of indices (PyTorch's batched-fetch protocol).

    One whose examples differ in length has ``lengths`` too (`HasLengths`).
    """

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return the batch of these examples."""
        ...

    def begin_epoch(self, seed: int) -> None:
        """Make what is random about the coming epoch (augmentation) depend on ``seed`` and the indices alone.

        It is not called ``set_epoch``: Accelerate's loaders would call that, with 0.
        """
        ...


@runtime_checkable
class HasLengths(Protocol):
    """A split that says how long its examples are: those of a batch will be about alike, so that little is padded."""

    lengths: Sequence[int]


class Task(Protocol):
    """One kind of problem: image classification, caption generation, speech recognition."""

    name: str
    metric: Metric
    fingerprint: str
    """sha256 of the data, so that a run is never resumed on other data.

    A task may have ``known_as``, too: fingerprints of the same data as an older version of it made them. Folders that
    were begun with one of those go on. So it may have ``things``, split -> what its examples are called, where they are
    not the same in all splits.
    """
    include: Sequence[str] | None
    exclude: Sequence[str]
    """The task's own rule of what is prunable, for `redense.prunable`."""

    def examples(self, split: Split) -> Examples:
        """Return a split."""
        ...

    def build_model(self) -> nn.Module:
        """Return a freshly initialised model; the caller has seeded torch."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of a batch, a scalar mean over its examples."""
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the model's logits for a batch: (rows, classes)."""
        ...

    def outcome(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return what evaluation needs of a batch, one row per example: name -> (batch, ...)."""
        ...

    def metrics(self, outcome: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the metrics of all rows of a split together; one is called as ``metric`` is, one ``loss``."""
        ...


@runtime_checkable
class Varies(Protocol):
    """A task whose loss, or what is random about its training examples, may be another one in some phases."""

    def varied(self, settings: Settings) -> Task:
        """Return the task with other settings, on the same data in memory."""
        ...


@runtime_checkable
class ShowsEvidence(Protocol):
    """A task that has more to show of trained networks than their metrics. What that is, is its own affair."""

    def evidence(self, outcomes: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Any] | Evidence | Missing:
        """Return what networks did with the test split, by the schema that the task is registered with.

        Plain JSON data of that schema will do: its ``kind`` is the name of the task.

        ``outcomes``: network -> the outcome of all test examples, in order; the first network is the baseline, the
        last the one that is judged.
        """
        ...


@runtime_checkable
class KeepsArtifacts(Protocol):
    """A task whose model needs more than its weights to be used where the data is not: a vocabulary, a scale."""

    def artifacts(self) -> Mapping[str, str]:
        """Return what a run folder keeps in ``artifacts/``: file name -> text. It depends on data and recipe alone."""
        ...
