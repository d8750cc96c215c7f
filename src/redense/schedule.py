"""Schedules: every method that redense knows is a list of dense and sparse phases.

A schedule is frozen, counts optimizer steps, and says for every step which phase it is in and what the learning rate
is. It holds no tensors and no state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

from . import variants
from .errors import RedenseError, ScheduleError
from .files.json_text import read_json
from .files.opening import at_home
from .phase import Decay, Phase, Sparsity, refuse_unknown
from .schedules.drawing import draw
from .schedules.named_criteria import Criterion
from .schedules.numeric import as_float, as_int, plain
from .surgery import Surgery

_LARGEST_FILE = 1 << 22  # bytes of a file with a schedule


@dataclass(frozen=True)
class Schedule:
    """A list of phases. Step i is the i-th optimizer step, from 0; phases follow each other without a gap.

    Raises:
        ScheduleError: there is no phase, or something else than phases.

    >>> schedule = Schedule.dsd(dense=100, sparse=50, redense=50, sparsity=0.3)
    >>> [(phase.kind, phase.steps, phase.lr) for phase in schedule.phases]
    [('dense', 100, 1.0), ('sparse', 50, 1.0), ('dense', 50, 0.1)]
    >>> schedule.phase_at(120).name, schedule.total_steps
    ('sparse', 200)
    """

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        if isinstance(self.phases, (Phase, str, set, frozenset)) or not isinstance(self.phases, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ScheduleError(f"a schedule is made of a list of Phase objects, got {self.phases!r}")
        object.__setattr__(self, "phases", tuple(self.phases))
        if not self.phases:
            raise ScheduleError("a schedule needs at least one phase")
        for phase in self.phases:
            if not isinstance(phase, Phase):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ScheduleError(f"a schedule is made of Phase objects, got {phase!r}")

    # --- what a step is ---------------------------------------------------------------------------------------------

    @property
    def total_steps(self) -> int:
        """Length in optimizer steps."""
        return sum(phase.steps for phase in self.phases)

    @property
    def ends(self) -> tuple[int, ...]:
        """Number of steps after which each phase is over."""
        done, out = 0, list[int]()
        for phase in self.phases:
            done += phase.steps
            out.append(done)
        return tuple(out)

    def index_at(self, step: int) -> int:
        """Return which phase step ``step`` belongs to; ``len(phases)`` past the end.

        Raises:
            ScheduleError: the step is negative, or no number.
        """
        number = as_float(step)
        if number is None or not number >= 0:
            raise ScheduleError(f"step must be a number of at least 0, got {step!r}")
        return sum(end <= number for end in self.ends)

    def phase_at(self, step: int) -> Phase | None:
        """Return the phase of step ``step``; ``None`` past the end."""
        index = self.index_at(step)
        return self.phases[index] if index < len(self.phases) else None

    def lr_factor(self, step: int) -> float:
        """Return the learning rate of step ``step`` as a factor of the optimizer's own; made for ``LambdaLR``.

        Past the end the last step's factor stays.
        """
        index = min(self.index_at(step), len(self.phases) - 1)
        step = min(plain(step), self.total_steps - 1)
        phase = self.phases[index]
        return phase.lr * phase.decay.at((step - (self.ends[index] - phase.steps)) / phase.steps)

    def _repr_html_(self) -> str:
        return str(draw(self.phases, self.lr_factor))

    # --- plain data -------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON or YAML, in which no order of keys matters."""
        return {"phases": [phase.to_dict() for phase in self.phases]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """Return the schedule that `to_dict` gave.

        Raises:
            ScheduleError: a key is unknown or missing, or a phase is impossible; the message names the phase.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("phases"), Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ScheduleError(f"a schedule is {{'phases': [...]}}, got {data!r}")
        refuse_unknown(data, cls, "schedule")
        phases: list[Phase] = []
        for index, item in enumerate(data["phases"]):
            try:
                phases.append(Phase.from_dict(item))
            except (RedenseError, TypeError) as error:
                raise ScheduleError(f"phase {index} of the schedule: {error}") from None
        return cls(tuple(phases))

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Schedule:
        """Return the schedule of a JSON file with what `to_dict` gave, as ``redense compare --command`` writes it.

        Raises:
            ScheduleError: there is no such file, or it holds no schedule.
        """
        try:
            return cls.from_dict(read_json(at_home(path), limit=_LARGEST_FILE))
        except OSError as error:
            raise ScheduleError(f"no schedule can be read from {path}: {error.strerror or error}") from None
        except ScheduleError:
            raise
        except ValueError as error:
            raise ScheduleError(f"{path} is no JSON: {error}") from None

    # --- the arms ---------------------------------------------------------------------------------------------------
    # All take the same budget, `dense` + `sparse` + `redense`; variants.py has what they do with it.

    @classmethod
    def dsd(
        cls,
        *,
        dense: float,
        sparse: float | Sequence[float],
        redense: float | Sequence[float],
        sparsity: Sparsity | Sequence[Sparsity],
        sparse_lr: float | Sequence[float] = 1.0,
        redense_lr: float | Sequence[float] = 0.1,
        decay: Decay | str | None = None,
        criterion: str | Criterion = "magnitude",
        scope: Literal["layer", "global"] = "layer",
        steps_per_epoch: int | None = None,
    ) -> Schedule:
        """Dense, sparse, dense at a tenth of the learning rate (Han et al. 2017, section 2).

        A sequence of sparsities makes iterative DSD, one sparse and one dense phase for each. Every other argument is
        then a sequence of the same length, or one value; one value of a learning rate falls tenfold from cycle to
        cycle, as the paper's does.

        Args:
            dense: optimizer steps of the first phase; 0 begins with the sparse phase, for a network that is trained.
            sparse: optimizer steps of the sparse phase.
            redense: optimizer steps of the last phase.
            sparsity: fraction removed, in [0, 1), or one per parameter name or shell pattern.
            sparse_lr: initial learning rate of the sparse phase, as a factor of the optimizer's.
            redense_lr: initial learning rate of the last phase, likewise.
            decay: how the rate falls inside each phase: a `Decay`, or the name of its kind.
            criterion: name of the criterion that scores the weights, or a function ``(parameter, seed) -> scores``.
            scope: ``layer`` or ``global``.
            steps_per_epoch: optimizer steps of an epoch. If it is given, ``dense``, ``sparse`` and ``redense`` are
                epochs, also parts of one such as 0.5; each is rounded to the nearest whole step, and to one at least.

        Raises:
            ScheduleError: sequences of different lengths, or an impossible phase.
            SparsityError: a sparsity is not in [0, 1).

        >>> deepspeech = Schedule.dsd(dense=50, sparse=50, redense=50, sparsity=[0.5, 0.25])
        >>> [phase.name for phase in deepspeech.phases]
        ['dense', 'sparse-1', 'redense-1', 'sparse-2', 'redense-2']
        >>> in_epochs = Schedule.dsd(dense=0, sparse=1.5, redense=2, sparsity=0.3, steps_per_epoch=195)
        >>> [(phase.name, phase.steps) for phase in in_epochs.phases]
        [('sparse', 292), ('redense', 390)]
        """
        sparsities = _sequence("sparsity", sparsity)
        cycles = len(sparsities)
        if not cycles:
            raise ScheduleError("sparsity is an empty sequence: give one for each cycle, or a single one")
        per_epoch = None if steps_per_epoch is None else as_int(steps_per_epoch)
        if steps_per_epoch is not None and (per_epoch is None or per_epoch < 1):
            raise ScheduleError(f"steps_per_epoch must be a whole number of at least 1, got {steps_per_epoch!r}")
        columns = zip(
            sparsities,
            [_steps("sparse", value, per_epoch) for value in _per_cycle("sparse", sparse, cycles)],
            [_steps("redense", value, per_epoch) for value in _per_cycle("redense", redense, cycles)],
            _per_cycle("sparse_lr", sparse_lr, cycles, falling=True),
            _per_cycle("redense_lr", redense_lr, cycles, falling=True),
            strict=True,
        )
        phases: list[Phase] = []
        if isinstance(dense, bool) or as_float(dense) != 0:  # else the network is trained already
            phases.append(Phase.dense(_steps("dense", dense, per_epoch), decay=decay))
        for cycle, (s, sparse_steps, dense_steps, lr_s, lr_d) in enumerate(columns, start=1):
            suffix = f"-{cycle}" if cycles > 1 else ""
            phases.append(
                Phase.sparse(
                    sparse_steps,
                    s,
                    lr=lr_s,
                    decay=decay,
                    criterion=criterion,
                    scope=scope,
                    name=f"sparse{suffix}",
                )
            )
            phases.append(Phase.dense(dense_steps, lr=lr_d, decay=decay, name=f"redense{suffix}"))
        return cls(tuple(phases))

    @classmethod
    def restart(cls, **dsd: Any) -> Schedule:
        """DSD's phases and learning rates without a mask: the control that matters. Arguments of `dsd`."""
        dsd.setdefault("sparsity", 0.0)
        return variants.restarted(cls.dsd(**dsd))

    @classmethod
    def random(cls, **dsd: Any) -> Schedule:
        """DSD with Random-Cut instead of Keepmax-Cut (section 5 of the paper). Arguments of `dsd`."""
        return variants.at_random(cls.dsd(**dsd))

    @classmethod
    def llr(cls, *, lr: float = 0.1, **dsd: Any) -> Schedule:
        """Dense, then dense at the lower learning rate ``lr`` for all of DSD's other steps: the paper's control.

        The other arguments are those of `dsd`; its sparsities and learning rates are checked and then left out.
        """
        dsd.setdefault("sparsity", 0.0)
        return variants.lowered(cls.dsd(**dsd), lr=lr)

    @classmethod
    def early(cls, *, cut: float = 0.5, **dsd: Any) -> Schedule:
        """DSD whose first phase is cut short after the part ``cut`` of it (section 5: D and S fused).

        The steps that are cut off go to the sparse phase. The other arguments are those of `dsd`.
        """
        return variants.earlier(cls.dsd(**dsd), cut=cut)

    @classmethod
    def scratch(cls, **dsd: Any) -> Schedule:
        """Sparse from the first step to the last, with DSD's learning rates (section 5). Arguments of `dsd`."""
        return variants.from_scratch(cls.dsd(**dsd))

    @classmethod
    def prune(cls, *, rounds: int = 3, **dsd: Any) -> Schedule:
        """Dense, then sparse phases at rising sparsity, never dense again (Han et al. 2015).

        The ``sparse`` steps are shared by the rising rounds; the last sparsity is then trained for ``redense`` steps.
        """
        return variants.pruned(cls.dsd(**dsd), rounds=rounds)

    @classmethod
    def surgery(cls, *, surgery: Surgery | None = None, **dsd: Any) -> Schedule:
        """Dense, then one sparse phase whose mask is revised as it trains (Guo et al. 2016), never dense again.

        The learning rate is that of DSD's sparse phase; it falls over all of the remaining steps.
        """
        return variants.under_surgery(cls.dsd(**dsd), surgery=surgery)

    @classmethod
    def acdc(cls, *, cycles: int = 4, **dsd: Any) -> Schedule:
        """Dense, then short sparse and dense phases in turn under a global mask, then dense (Peste et al. 2021).

        DSD's ``sparse`` steps are shared by ``cycles`` sparse phases and ``cycles - 1`` dense ones between them.
        """
        return variants.alternating(cls.dsd(**dsd), cycles=cycles)


def _sequence(name: str, value: Any) -> list[Any]:
    """Return one value, or the values of a sequence, an array or a tensor of one dimension."""
    value = plain(value)
    if value is None or isinstance(value, (int, float, str, Mapping)):
        return [value]
    if isinstance(value, (set, frozenset)):
        raise ScheduleError(f"{name} must have an order, one for each cycle: give a list, not the set {value!r}")
    try:
        return [plain(item) for item in value]
    except TypeError:
        raise ScheduleError(f"{name} must be one value, or a sequence with one for each cycle; got {value!r}") from None


def _per_cycle(name: str, value: Any, cycles: int, *, falling: bool = False) -> list[Any]:
    value = plain(value)
    if as_float(value) is not None:  # one for all
        return [value * 0.1**i if falling else value for i in range(cycles)]
    if value is None or isinstance(value, (bool, str, Mapping)):
        raise ScheduleError(f"{name} must be a number, or a sequence with one for each cycle; got {value!r}")
    values = _sequence(name, value)
    if len(values) != cycles:
        raise ScheduleError(f"{name} has {len(values)} values for {cycles} sparsities: give one each, or one for all")
    return values


def _steps(name: str, value: Any, per_epoch: int | None) -> Any:
    """Return a number of epochs as optimizer steps; steps are left as they are, for `Phase` to check."""
    if per_epoch is None:
        return value
    epochs = as_float(value)
    if epochs is None or not 0 < epochs < math.inf:
        raise ScheduleError(f"{name} must be a number of epochs above 0, got {value!r}")
    return max(1, round(epochs * per_epoch))
