"""Schedules: every method that redense knows is a list of dense and sparse phases.

A schedule is frozen, counts optimizer steps, and says for every step which phase it is in and what the learning rate
is. It holds no tensors and no state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .errors import RedenseError, ScheduleError
from .masks import check_sparsity
from .phase import Decay, Phase, Sparsity, refuse_unknown
from .surgery import Surgery


@dataclass(frozen=True)
class Schedule:
    """A list of phases. Step i is the i-th optimizer step, from 0; phases follow each other without a gap.

    >>> schedule = Schedule.dsd(dense=100, sparse=50, redense=50, sparsity=0.3)
    >>> [(phase.kind, phase.steps, phase.lr) for phase in schedule.phases]
    [('dense', 100, 1.0), ('sparse', 50, 1.0), ('dense', 50, 0.1)]
    >>> schedule.phase_at(120).name, schedule.total_steps
    ('sparse', 200)
    """

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
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
            ScheduleError: the step is negative.
        """
        if step < 0:
            raise ScheduleError(f"step must not be negative, got {step}")
        return sum(end <= step for end in self.ends)

    def phase_at(self, step: int) -> Phase | None:
        """Return the phase of step ``step``; ``None`` past the end."""
        index = self.index_at(step)
        return self.phases[index] if index < len(self.phases) else None

    def lr_factor(self, step: int) -> float:
        """Return the learning rate of step ``step`` as a factor of the optimizer's own; made for ``LambdaLR``.

        Past the end the last step's factor stays.
        """
        step = min(step, self.total_steps - 1)
        index = self.index_at(step)
        phase = self.phases[index]
        return phase.lr * phase.decay.at((step - (self.ends[index] - phase.steps)) / phase.steps)

    # --- plain data -------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON or YAML."""
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

    # --- the arms ---------------------------------------------------------------------------------------------------
    # All take the same budget, so that arms of one comparison have the same number of steps:
    # `dense` + `sparse` + `redense` optimizer steps, with the learning rates that DSD would have.

    @classmethod
    def dsd(
        cls,
        *,
        dense: int,
        sparse: int | Sequence[int],
        redense: int | Sequence[int],
        sparsity: Sparsity | Sequence[Sparsity],
        sparse_lr: float | Sequence[float] = 1.0,
        redense_lr: float | Sequence[float] = 0.1,
        decay: Decay | None = None,
        criterion: str = "magnitude",
        scope: Literal["layer", "global"] = "layer",
    ) -> Schedule:
        """Dense, sparse, dense at a tenth of the learning rate (Han et al. 2017, section 2).

        A sequence of sparsities makes iterative DSD, one sparse and one dense phase for each. Every other argument is
        then a sequence of the same length, or one value; one value of a learning rate falls tenfold from cycle to
        cycle, as the paper's does.

        Args:
            dense: optimizer steps of the first phase.
            sparse: optimizer steps of the sparse phase.
            redense: optimizer steps of the last phase.
            sparsity: fraction removed, in [0, 1), or one per parameter name or shell pattern.
            sparse_lr: initial learning rate of the sparse phase, as a factor of the optimizer's.
            redense_lr: initial learning rate of the last phase, likewise.
            decay: how the rate falls inside each phase.
            criterion: name of the criterion that scores the weights.
            scope: ``layer`` or ``global``.

        Raises:
            ScheduleError: sequences of different lengths, or an impossible phase.
            SparsityError: a sparsity is not in [0, 1).

        >>> deepspeech = Schedule.dsd(dense=50, sparse=50, redense=50, sparsity=[0.5, 0.25])
        >>> [phase.name for phase in deepspeech.phases]
        ['dense', 'sparse-1', 'redense-1', 'sparse-2', 'redense-2']
        """
        sparsities = _sequence(sparsity)
        cycles = len(sparsities)
        columns = zip(
            sparsities,
            _per_cycle("sparse", sparse, cycles),
            _per_cycle("redense", redense, cycles),
            _per_cycle("sparse_lr", sparse_lr, cycles, falling=True),
            _per_cycle("redense_lr", redense_lr, cycles, falling=True),
            strict=True,
        )
        phases = [Phase.dense(dense, decay=decay)]
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
        phases = (
            replace(
                p,
                sparsity=None,
                criterion="magnitude",
                scope="layer",
                name=p.name.replace("sparse", "restart"),
            )
            for p in cls.dsd(**dsd).phases
        )
        return cls(tuple(phases))

    @classmethod
    def random(cls, **dsd: Any) -> Schedule:
        """DSD with Random-Cut instead of Keepmax-Cut (section 5 of the paper). Arguments of `dsd`."""
        dsd["criterion"] = "random"
        return cls.dsd(**dsd)

    @classmethod
    def llr(
        cls,
        *,
        dense: int,
        sparse: int | Sequence[int],
        redense: int | Sequence[int],
        lr: float = 0.1,
        decay: Decay | None = None,
        **_: Any,
    ) -> Schedule:
        """Dense, then dense at the lower learning rate ``lr`` for all of DSD's other steps: the paper's control."""
        rest = sum(_sequence(sparse)) + sum(_sequence(redense))
        return cls((Phase.dense(dense, decay=decay), Phase.dense(rest, lr=lr, decay=decay, name="lower-lr")))

    @classmethod
    def early(cls, *, dense: int, cut: float = 0.5, **dsd: Any) -> Schedule:
        """DSD whose first phase is cut short after the part ``cut`` of it (section 5: D and S fused).

        The steps that are cut off go to the sparse phase. The other arguments are those of `dsd`.
        """
        if not 0 < cut < 1:
            raise ScheduleError(f"cut must be in (0, 1), the part of the first phase that stays dense; got {cut}")
        first, sparse, *rest = cls.dsd(dense=dense, **dsd).phases
        before = max(1, round(cut * dense))
        masked = replace(sparse, steps=dense - before + sparse.steps)
        if dense == before:
            raise ScheduleError(f"a dense phase of {dense} steps is too short to be cut at {cut}")
        return cls((replace(first, steps=before), masked, *rest))

    @classmethod
    def scratch(cls, **dsd: Any) -> Schedule:
        """Sparse from the first step to the last, with DSD's learning rates (section 5). Arguments of `dsd`.

        The mask of the first phase is kept: what is pruned when a sparse phase follows another stays pruned.
        """
        first, sparse, *rest = cls.dsd(**dsd).phases
        mask = {"sparsity": sparse.sparsity, "criterion": sparse.criterion, "scope": sparse.scope}
        masked = [replace(p, **mask, name=p.name.replace("redense", "sparse-end")) for p in (first, *rest)]
        return cls((replace(masked[0], name="scratch"), sparse, *masked[1:]))

    @classmethod
    def prune(
        cls,
        *,
        dense: int,
        sparse: int | Sequence[int],
        redense: int | Sequence[int],
        sparsity: float,
        rounds: int = 3,
        sparse_lr: float = 1.0,
        redense_lr: float = 0.1,
        decay: Decay | None = None,
        criterion: str = "magnitude",
        scope: Literal["layer", "global"] = "layer",
    ) -> Schedule:
        """Dense, then sparse phases at rising sparsity, never dense again (Han et al. 2015).

        The ``sparse`` steps are shared by the rising rounds; the last sparsity is then trained for ``redense`` steps.
        """
        target = check_sparsity(sparsity, "the last round")
        steps = sum(_sequence(sparse))
        if isinstance(rounds, bool) or rounds < 1 or rounds > steps:
            raise ScheduleError(f"rounds must be in [1, {steps}], at least one step each; got {rounds}")
        phases = [Phase.dense(dense, decay=decay)]
        for i in range(rounds):
            length = steps * (i + 1) // rounds - steps * i // rounds
            phases.append(
                Phase.sparse(
                    length,
                    round(target * (i + 1) / rounds, 12),
                    lr=sparse_lr,
                    decay=decay,
                    criterion=criterion,
                    scope=scope,
                    name=f"prune-{i + 1}",
                )
            )
        end = replace(phases[-1], steps=sum(_sequence(redense)), lr=redense_lr, name="prune-end")
        return cls((*phases, end))

    @classmethod
    def surgery(cls, *, surgery: Surgery | None = None, **dsd: Any) -> Schedule:
        """Dense, then one sparse phase whose mask is revised as it trains (Guo et al. 2016), never dense again.

        The learning rate is that of DSD's sparse phase; it falls over all of the remaining steps.
        """
        first, sparse, *rest = cls.dsd(**dsd).phases
        steps = sparse.steps + sum(phase.steps for phase in rest)
        return cls((first, replace(sparse, steps=steps, surgery=surgery or Surgery(), name="surgery")))

    @classmethod
    def acdc(cls, *, cycles: int = 4, **dsd: Any) -> Schedule:
        """Dense, then short sparse and dense phases in turn under a global mask, then dense (Peste et al. 2021).

        DSD's ``sparse`` steps are shared by ``cycles`` sparse phases and ``cycles - 1`` dense ones between them.
        """
        dsd["scope"] = "global"
        first, sparse, *rest = cls.dsd(**dsd).phases
        parts = 2 * cycles - 1
        if isinstance(cycles, bool) or cycles < 1 or parts > sparse.steps:
            raise ScheduleError(
                f"cycles must be in [1, {(sparse.steps + 1) // 2}], at least one step a phase; got {cycles}"
            )
        phases: list[Phase] = []
        for i in range(parts):
            length = sparse.steps * (i + 1) // parts - sparse.steps * i // parts
            name = f"{'decompressed' if i % 2 else 'compressed'}-{i // 2 + 1}"
            part = replace(sparse, steps=length, name=name)
            phases.append(replace(part, sparsity=None, scope="layer", criterion="magnitude") if i % 2 else part)
        return cls((first, *phases, *rest))


def _sequence(value: Any) -> list[Any]:
    return [value] if isinstance(value, (int, float, str, Mapping)) else list(value)


def _per_cycle(name: str, value: Any, cycles: int, *, falling: bool = False) -> list[Any]:
    if isinstance(value, (int, float)):
        return [value * 0.1**i if falling else value for i in range(cycles)]
    values = list(value)
    if len(values) != cycles:
        raise ScheduleError(f"{name} has {len(values)} values for {cycles} sparsities: give one each, or one for all")
    return values
