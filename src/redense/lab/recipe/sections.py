"""Sections of a recipe, typed: how it is trained, its phases, and what is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from redense.errors import nearest
from redense.schedules.named_criteria import known_criteria

from .optimizers import OPTIMIZERS
from .precision import Precision, fastest_precision

Fraction = Annotated[float, Field(ge=0, lt=1)]

USED = "used"
"""In the context of a validation: the recipe is that of a network that is used, and trains nothing."""


def _is_used(info: ValidationInfo) -> bool:
    return bool((info.context or {}).get(USED))


class Section(BaseModel):
    """A part of a recipe: frozen, and without settings that nobody knows.

    Some settings are ``younger`` than runs, comparisons and stored phases: with their values of before they are not
    written, so that files, keys and checksums are those of before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    younger: ClassVar[Mapping[str, Any]] = {}

    @model_serializer(mode="wrap")
    def _without_younger(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said = write(self)
        return {key: value for key, value in said.items() if key not in self.younger or value != self.younger[key]}


class DecayRecipe(Section):
    """The decay of the learning rate inside every phase, see `redense.Decay`."""

    kind: Literal["constant", "cosine", "linear", "step", "polynomial"] = Field(
        default="cosine", description="the curve by which the rate falls in a phase"
    )
    floor: float = Field(
        default=0.0, ge=0, le=1, description="cosine, linear, polynomial: part of the rate that is left at the end"
    )
    power: float = Field(default=1.0, ge=0, description="polynomial: its exponent; 1 is linear")
    every: float = Field(default=1 / 3, gt=0, le=1, description="step: part of the phase between two steps")
    factor: float = Field(default=0.1, ge=0, le=1, description="step: what each step multiplies by")


class OptimizerRecipe(Section):
    """The optimizer; its learning rate is that of the first dense phase."""

    younger: ClassVar[Mapping[str, Any]] = {"options": {}}

    name: str = Field(
        default="sgd",
        description="sgd, adam, adamw, rmsprop; muon and schedule-free of redense[methods]; or one of your own",
    )
    lr: float = Field(default=0.1, gt=0, description="learning rate at the start of the first dense phase")
    weight_decay: float = Field(default=0.0, ge=0, description="as the optimizer means it")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="sgd and rmsprop; muon, schedule-free")
    nesterov: bool = Field(default=False, description="sgd; needs a momentum")
    betas: tuple[Fraction, Fraction] = Field(default=(0.9, 0.999), description="adam and adamw")
    alpha: float = Field(default=0.99, ge=0, lt=1, description="rmsprop: decay of the squared gradient")
    eps: float = Field(default=1e-8, gt=0, description="adam, adamw and rmsprop")
    options: dict[str, Any] = Field(default={}, description="what an optimizer of your own takes besides")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        if name not in OPTIMIZERS and not _is_used(info):
            raise ValueError(f"must be one of {', '.join(OPTIMIZERS)}{nearest(name, OPTIMIZERS)}")
        return name

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> OptimizerRecipe:
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise ValueError("nesterov needs the optimizer sgd and a momentum above 0")
        return self


class TrainingRecipe(Section):
    """The training of every phase."""

    younger: ClassVar[Mapping[str, Any]] = {"keep_by": "metric"}

    batch_size: int = Field(default=64, ge=1, description="examples of a batch, over all ranks")
    optimizer: OptimizerRecipe = OptimizerRecipe()
    decay: DecayRecipe = DecayRecipe()
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="part of each label, or word of a caption, that is spread over all"
    )
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one optimizer step")
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of the whole gradient")
    clip_value: float | None = Field(default=None, gt=0, description="largest absolute value of each gradient element")
    precision: Precision = Field(
        default="fp32",
        description="bf16: mixed; auto, in their place, is bf16 on a machine with units for it, else fp32",
    )
    channels_last: bool = Field(
        default=False, description="layout of images in memory with the channels last: convolutions may be faster"
    )
    compile: bool = Field(default=False, description="train the network through torch.compile")
    keep: Literal["last", "best", "best-of-run"] = Field(
        default="last",
        description="best: of each phase the epoch with the best validation, or, of one after the first, where it "
        "began; of equal ones the one with the lower loss, then the later. best-of-run: every phase goes on from its "
        "last epoch, and the run ends with the best of all phases",
    )
    keep_by: Literal["metric", "loss"] = Field(
        default="metric",
        description="what decides which is best on validation data: the task's figure, or the loss, for sets on which "
        "the figure is 0, or the same, for many epochs",
    )

    @model_validator(mode="after")
    def _averages_to_the_end(self) -> TrainingRecipe:
        if self.optimizer.name == "schedule-free" and self.keep != "last":
            raise ValueError(f"the optimizer schedule-free ends with an average: it needs keep last, not {self.keep}")
        return self

    @model_validator(mode="after")
    def _keeps_by_something(self) -> TrainingRecipe:
        if self.keep == "last" and self.keep_by != "metric":
            raise ValueError(f"keep_by {self.keep_by} chooses the best: it needs keep best or best-of-run")
        return self

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_of_this_machine(cls, precision: Any) -> Any:
        # Settled here, so that a run's folder and the keys of its phases name what was computed: wherever it is
        # resumed, it goes on as it began.
        return fastest_precision() if precision == "auto" else precision


class DenseRecipe(Section):
    """A dense phase."""

    epochs: float = Field(gt=0, le=100_000, description="length; parts of an epoch are rounded to whole steps")
    lr: float | None = Field(
        default=None,
        gt=0,
        description="initial learning rate; nothing: the optimizer's in dense and sparse, a tenth of it in redense, "
        "and in a further cycle a tenth of that of the cycle before",
    )
    decay: DecayRecipe | None = Field(default=None, description="nothing: training.decay")


class SparseRecipe(DenseRecipe):
    """A sparse phase."""

    sparsity: Fraction | dict[str, Fraction] = Field(
        default=0.3,
        description="fraction removed, in [0, 1), or one per parameter name or pattern; 0 trains the control",
    )
    criterion: str = Field(default="magnitude", description="magnitude, random, saliency, or one of your own")
    scope: Literal["layer", "global"] = Field(
        default="layer", description="each layer is pruned to the sparsity, or all together by one threshold"
    )
    pattern: tuple[int, int] | None = Field(
        default=None, description="[2, 4] keeps 2 of every 4 inputs, instead of a sparsity"
    )

    @field_validator("sparsity", mode="before")
    @classmethod
    def _sparsity_is_no_percentage(cls, sparsity: Any) -> Any:
        if isinstance(sparsity, str) and "%" in sparsity:
            raise ValueError("must be a fraction in [0, 1), such as 0.3 for 30 %")
        return sparsity

    @field_validator("criterion")
    @classmethod
    def _criterion_is_known(cls, criterion: str, info: ValidationInfo) -> str:
        known = known_criteria()  # one of the user's own is registered by now
        if criterion not in known and not _is_used(info):
            raise ValueError(f"must be one of {', '.join(known)}{nearest(criterion, known)}")
        return criterion

    @field_validator("pattern", mode="before")
    @classmethod
    def _pattern_is_a_list(cls, pattern: Any) -> Any:
        if isinstance(pattern, str | int | float):
            raise ValueError("must be a list, such as [2, 4]")
        return pattern

    @field_validator("pattern")
    @classmethod
    def _pattern_keeps_some(cls, pattern: tuple[int, int] | None) -> tuple[int, int] | None:
        if pattern and not 0 < pattern[0] <= pattern[1]:
            raise ValueError("must be [N, M] with 0 < N <= M")
        return pattern

    @model_validator(mode="after")
    def _scope_fits(self) -> SparseRecipe:
        if self.sparsity == {}:
            raise ValueError("sparsity names no parameter: give one sparsity for all, or one per name")
        if self.scope == "global" and (self.pattern or isinstance(self.sparsity, dict)):
            given = "a pattern" if self.pattern else "one per parameter"
            raise ValueError(f"scope 'global' needs one sparsity for all weights, not {given}")
        return self


class TuneRecipe(Section):
    """Tuning a network that comes trained in the first dense phase, where it does not stand for that phase."""

    backbone_lr: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="first dense phase: the learning rate of all layers but the last, as a part of the last one's; 0 "
        "leaves their weights as they came",
    )


class CycleRecipe(Section):
    """One more sparse and dense phase of iterative DSD."""

    sparse: SparseRecipe
    redense: DenseRecipe


class PruneRecipe(Section):
    """The prunable parameters, see `redense.prunable` (nothing: the task's rule), and the allocation of sparsity."""

    include: list[str] | None = Field(
        default=None,
        description="names or patterns of what may be pruned, see redense.prunable; nothing: the task's rule",
    )
    exclude: list[str] = Field(default=[], description="names or patterns of what stays dense")
    first_layer: bool = Field(default=False, description="prune the first convolution too, which the paper never does")
    allocation: Literal["uniform", "sensitivity", "erk"] = Field(
        default="uniform",
        description="how one sparsity is shared over the layers: each the same; by a sensitivity scan on the "
        "validation split when the phase begins (the paper's v1); Erdos-Renyi-Kernel",
    )
