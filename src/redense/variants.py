"""The schedules that DSD is compared with: each function turns the phases of DSD, or a schedule of them, into others.

All keep DSD's total number of steps and, where their phases correspond, its learning rates, so that a comparison of
them is one of methods and not of budgets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from .errors import ScheduleError
from .phase import Phase, Sparsity
from .schedules.numeric import as_float, as_int
from .surgery import Surgery

Phases = tuple[Phase, ...]
"""The phases of a schedule, in order."""


class _OfPhases(Protocol):
    @property
    def phases(self) -> Phases: ...


_S = TypeVar("_S", bound=_OfPhases)
_P = ParamSpec("_P")


class _Variant(Protocol[_P]):
    @overload
    def __call__(self, dsd: Phases, *args: _P.args, **kwargs: _P.kwargs) -> Phases: ...
    @overload
    def __call__(self, dsd: _S, *args: _P.args, **kwargs: _P.kwargs) -> _S: ...


def _variant(function: Callable[Concatenate[Phases, _P], Phases]) -> _Variant[_P]:
    """Let a function of phases take a schedule as well: it then returns a schedule."""

    @functools.wraps(function)
    def of(dsd: Any, *args: _P.args, **kwargs: _P.kwargs) -> Any:
        if isinstance(dsd, (tuple, list)):
            return function(tuple(cast("Phases", dsd)), *args, **kwargs)
        if not hasattr(dsd, "phases"):
            raise ScheduleError(f"a variant is made of a schedule, or of its phases, got {dsd!r}")
        phases = function(dsd.phases, *args, **kwargs)
        return dsd if phases is dsd.phases else replace(dsd, phases=phases)

    return of


@_variant
def restarted(dsd: Phases) -> Phases:
    """The phases and learning rates of DSD, or of any other schedule, without a mask: its control."""
    return tuple(_without_mask(p, _restart(p)) for p in dsd)


@_variant
def lowered(dsd: Phases, *, lr: float = 0.1) -> Phases:
    """Dense, then dense at the lower learning rate ``lr`` for all of DSD's other steps: the paper's control."""
    first, _, _ = _parts(dsd)
    second, *rest = restarted(dsd)[len(first) :]
    return (*first, replace(second, steps=_steps(second, *rest), lr=lr, name="lower-lr"))


@_variant
def lengthened(dsd: Phases) -> Phases:
    """One dense phase over all of DSD's steps, its own learning-rate schedule stretched: what most people would do."""
    return (replace(_without_mask(dsd[0], "longer"), steps=_steps(*dsd)),)


@_variant
def at_random(dsd: Phases) -> Phases:
    """Random-Cut instead of Keepmax-Cut (Han et al. 2017, section 5)."""
    return tuple(replace(p, criterion="random") if p.is_sparse else p for p in dsd)


@_variant
def earlier(dsd: Phases, *, cut: float = 0.5) -> Phases:
    """The first phase is cut short after the part ``cut``, at the learning rate that it has there (section 5).

    It is not annealed first: its decay is the beginning of the whole phase's. Its other steps go to the sparse phase.
    """
    part = as_float(cut)
    if part is None or not 0 < part < 1:
        raise ScheduleError(f"cut must be in (0, 1), the part of the first phase that stays dense; got {cut!r}")
    dense, sparse, rest = _parts(dsd)
    if not dense:
        raise ScheduleError("the first dense phase cannot be cut short: this schedule begins with a sparse one")
    first = dense[0]
    before = max(1, round(part * first.steps))
    if first.steps == before:
        raise ScheduleError(f"a dense phase of {first.steps} steps is too short to be cut at {part}")
    decay = replace(first.decay, until=first.decay.until * before / first.steps)
    begun = replace(first, steps=before, decay=first.decay if first.decay.kind == "constant" else decay)
    return (begun, replace(sparse, steps=first.steps - before + sparse.steps), *rest)


@_variant
def from_scratch(dsd: Phases) -> Phases:
    """Sparse from the first step to the last, with a mask of the weights that the network begins with.

    The paper's experiment (section 5) is another, see `transplanted`. The mask of the first phase is kept: what is
    pruned when a sparse phase follows another stays pruned.
    """
    first, sparse, rest = _parts(dsd)
    begin = [_masked_as(sparse, p, "scratch") for p in first]
    ends = [_masked_as(sparse, p, p.name.replace("redense", "sparse-end")) for p in rest]
    return (*begin, sparse, *ends)


@_variant
def transplanted(dsd: Phases) -> Phases:
    """Dense, then sparse for all of DSD's other steps at the rate and decay of the dense phase (section 5).

    The dense phase is there to choose the mask: a new network takes the trained one's place in the sparse phase, which
    is for the trainer to do (the arm ``scratch``).
    """
    dense, sparse, rest = _parts(dsd)
    if not dense:
        raise ScheduleError("there is no trained network whose mask a new one could have: this schedule begins sparse")
    first = dense[0]
    phase = replace(sparse, steps=_steps(sparse, *rest), lr=first.lr, decay=first.decay, name="scratch")
    return (first, phase)


@_variant
def pruned(dsd: Phases, *, rounds: int = 3) -> Phases:
    """Dense, then sparse phases at rising sparsity, never dense again (Han et al. 2015).

    The steps of the sparse phase are shared by the rounds; the last sparsity is then trained for the other steps.
    """
    first, sparse, rest = _parts(dsd)
    rounds = _count("rounds", rounds, sparse.steps, "at least one step each")
    if sparse.sparsity is None:
        raise ScheduleError("rising sparsity needs a sparsity, not an N:M pattern")
    if not rest:
        raise ScheduleError("the last sparsity is trained for the steps after the sparse phase, and there are none")
    phases = [
        replace(sparse, steps=length, sparsity=scaled(sparse.sparsity, (i + 1) / rounds), name=f"prune-{i + 1}")
        for i, length in enumerate(shares(sparse.steps, rounds))
    ]
    end = replace(phases[-1], steps=_steps(*rest), lr=rest[-1].lr, decay=rest[-1].decay, name="prune-end")
    return (*first, *phases, end)


@_variant
def under_surgery(dsd: Phases, *, surgery: Surgery | None = None) -> Phases:
    """Dense, then one sparse phase whose mask is revised as it trains (Guo et al. 2016), never dense again.

    The learning rate is that of DSD's sparse phase; it falls over all of the remaining steps.
    """
    first, sparse, rest = _parts(dsd)
    surgery = Surgery() if surgery is None else surgery
    return (*first, replace(sparse, steps=_steps(sparse, *rest), surgery=surgery, name="surgery"))


@_variant
def alternating(dsd: Phases, *, cycles: int = 4) -> Phases:
    """Dense, then short sparse and dense phases in turn under a global mask, then dense (Peste et al. 2021).

    The steps of the sparse phase are shared by ``cycles`` sparse phases and ``cycles - 1`` dense ones between them.
    """
    first, sparse, rest = _parts(dsd)
    cycles = _count("cycles", cycles, (sparse.steps + 1) // 2, "at least one step a phase")
    phases: list[Phase] = []
    for i, length in enumerate(shares(sparse.steps, 2 * cycles - 1)):
        part = replace(sparse, steps=length, scope="global", name=f"compressed-{i // 2 + 1}")
        phases.append(_without_mask(part, f"decompressed-{i // 2 + 1}") if i % 2 else part)
    return (*first, *phases, *rest)


@_variant
def iterated(dsd: Phases, *, cycles: int = 2, falling: float = 0.5) -> Phases:
    """DSD in ``cycles`` cycles within the same steps, each at ``falling`` times the sparsity of the one before.

    Learning rates: a cycle's sparse phase goes on at the rate of the re-dense phase before it, as DeepSpeech 2's does
    (section 4.2 of the paper); its re-dense phase falls by the same factor as the first one.
    """
    first, sparse, rest = _parts(dsd)
    if len(rest) != 1:
        return dsd
    redense = rest[0]
    if sparse.sparsity is None:
        raise ScheduleError("iterated DSD at falling sparsity needs a sparsity, not an N:M pattern")
    cycles = _count("cycles", cycles, min(sparse.steps, redense.steps), "at least one step a phase")
    part = as_float(falling)
    if part is None or not part >= 0:
        raise ScheduleError(f"falling must be a number of at least 0, which each sparsity is times; got {falling!r}")
    fall = redense.lr / sparse.lr if sparse.lr else 1.0
    phases, lr = list(first), sparse.lr
    lengths = zip(shares(sparse.steps, cycles), shares(redense.steps, cycles), strict=True)
    for i, (sparse_steps, dense_steps) in enumerate(lengths):
        sparsity = scaled(sparse.sparsity, part**i)
        phases.append(replace(sparse, steps=sparse_steps, sparsity=sparsity, lr=lr, name=f"sparse-{i + 1}"))
        lr *= fall
        phases.append(replace(redense, steps=dense_steps, lr=lr, name=f"redense-{i + 1}"))
    return tuple(phases)


def _without_mask(phase: Phase, name: str) -> Phase:
    return Phase.dense(phase.steps, lr=phase.lr, decay=phase.decay, name=name)


def _restart(phase: Phase) -> str:
    named = phase.name.replace("sparse", "restart")
    return f"{named}-no-mask" if phase.is_sparse and named == phase.name else named


def _masked_as(sparse: Phase, phase: Phase, name: str) -> Phase:
    return replace(sparse, steps=phase.steps, lr=phase.lr, decay=phase.decay, name=name)


def scaled(sparsity: Sparsity, factor: float, *, most: float = 1.0) -> Sparsity:
    """Return a sparsity times a factor, ``most`` at most."""
    if isinstance(sparsity, Mapping):
        return {name: min(most, round(value * factor, 12)) for name, value in sparsity.items()}
    return min(most, round(sparsity * factor, 12))


def shares(steps: int, parts: int) -> list[int]:
    """Return whole numbers of steps that are as alike as can be, and ``steps`` together."""
    return [steps * (i + 1) // parts - steps * i // parts for i in range(parts)]


def _steps(*phases: Phase) -> int:
    return sum(phase.steps for phase in phases)


def _parts(dsd: Phases) -> tuple[tuple[Phase, ...], Phase, tuple[Phase, ...]]:
    """Return the first dense phase, if there is one, the first sparse phase, and all phases after it.

    Raises:
        ScheduleError: the first sparse phase is neither the first nor the second one.
    """
    for index, phase in enumerate(dsd[:2]):
        if phase.is_sparse:
            return dsd[:index], phase, dsd[index + 1 :]
    kinds = ", ".join(phase.kind for phase in dsd)
    raise ScheduleError(f"this needs a schedule such as DSD's, whose first or second phase is sparse; got {kinds}")


def _count(name: str, value: object, most: int, why: str) -> int:
    number = as_int(value)
    if number is None or not 1 <= number <= most:
        raise ScheduleError(f"{name} must be a whole number in [1, {most}], {why}; got {value!r}")
    return number
