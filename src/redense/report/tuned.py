"""`redense.tune`: the sparsity that is best on validation figures, beside controls that were tuned as often."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redense.errors import RecipeError
from redense.files.visible import visible_line
from redense.lab.pairs.carrying import Backend
from redense.schedule import Schedule
from redense.schedules.numeric import as_float

from .searched import Searched, search

SPARSITIES = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Tuned:
    """The result of `redense.tune`. ``str()`` of it is text, a notebook shows tables.

    Attributes:
        sparsity: the best on validation figures; None where every run failed.
        searched: the whole search: its rounds, the strongest control, and the confirmation on fresh seeds.
    """

    sparsity: float | None
    searched: Searched

    @property
    def gain(self) -> bool:
        """Whether this sparsity was confirmed as better than the strongest control, which has no mask."""
        return self.searched.gain

    @property
    def sentence(self) -> str:
        """The result in a sentence: the sparsity, and whether it is worth a mask at all."""
        if self.sparsity is None:
            return self.searched.sentence
        return f"A sparsity of {self.sparsity} is the best on validation figures. {self.searched.sentence}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the sparsity, and what ``search.json`` has."""
        return {"sparsity": self.sparsity, **self.searched.to_dict(), "sentence": self.sentence}

    def __str__(self) -> str:
        return f"{self.searched.table}\n\n{visible_line(self.sentence)}"

    def _repr_html_(self) -> str:
        return self.searched.html(self.sentence)


def tune(
    train: Callable[..., Any],
    schedule: Schedule,
    *,
    sparsities: Iterable[float] = SPARSITIES,
    runs: int = 60,
    confirm: int = 10,
    out: str | Path,
    metric: str | None = None,
    lower_is_better: bool | None = None,
    jobs: int = 1,
    backend: Backend = "loky",
    threads: int | None = 1,
    retry_failed: bool = False,
    changed_code: bool = False,
    quiet: bool = False,
) -> Tuned:
    """Choose the sparsity of a schedule on validation figures, and say whether it beats training without a mask.

    `redense.search` over the sparsity alone: successive halving over seeds, with as many settings and runs of the
    controls without a mask (``restart``, ``llr``, ``longer``); then the best sparsity beside the strongest control on
    fresh seeds, where test figures decide once. Killed at any moment, the same call goes on.

    Args:
        train: as for `redense.compare`; it returns validation and test figures.
        schedule: DSD's, whose sparse phase has one sparsity for all layers or for all together; its own sparsity is
            tried only where ``sparsities`` has it.
        sparsities: to try, each in (0, 1).
        runs: the budget of the search, half for the sparsities and half for the controls.
        confirm: fresh seeds for the confirmation, five at least.
        out: the folder.
        metric: the figure that decides.
        lower_is_better: of it, where its name does not say so.
        jobs: how many runs at once.
        backend: processes of this machine, or a Ray cluster.
        threads: of PyTorch in each job.
        retry_failed: try runs again that have failed before, which may change what is ahead.
        changed_code: go on in ``out`` though the code of ``train`` has changed: it makes the same numbers.
        quiet: say nothing on the error output.

    Raises:
        RecipeError: the schedule has no sparse phase or several sparsities, a sparsity is named twice or cannot be
            one, the budget is too small.
        DataError: there are no validation figures.
    """
    candidates = {f"sparsity={value}": made for value, made in with_sparsities(schedule, sparsities).items()}
    found = search(
        train,
        schedule,
        candidates=candidates,
        runs=runs,
        confirm=confirm,
        out=out,
        metric=metric,
        lower_is_better=lower_is_better,
        jobs=jobs,
        backend=backend,
        threads=threads,
        retry_failed=retry_failed,
        changed_code=changed_code,
        quiet=quiet,
    )
    return tuned(found, candidates)


def tuned(found: Searched, candidates: Mapping[str, Schedule]) -> Tuned:
    """Return what a search over sparsities comes to."""
    best = candidates[found.winner] if found.winner else None
    shares = [phase.sparsity for phase in best.phases if phase.is_sparse] if best else []
    return Tuned(float(shares[0]) if shares and isinstance(shares[0], float) else None, found)


def with_sparsities(schedule: Schedule, sparsities: Iterable[float]) -> dict[float, Schedule]:
    """Return a schedule with each of several sparsities in its sparse phases.

    >>> dsd = Schedule.dsd(dense=8, sparse=4, redense=4, sparsity=0.3)
    >>> [made.phases[1].sparsity for made in with_sparsities(dsd, (0.2, 0.5)).values()]
    [0.2, 0.5]

    Raises:
        RecipeError: there is no sparse phase, or its sparsity is not one number; a sparsity cannot be one.
    """
    own = [phase.sparsity for phase in schedule.phases if phase.is_sparse]
    if not own or not isinstance(own[0], float) or any(sparsity != own[0] for sparsity in own):
        raise RecipeError(
            "tune chooses one sparsity: the schedule needs a sparse phase with one number, and the same number in all "
            "of them; give several schedules to redense.search instead"
        )
    found: dict[float, Schedule] = {}
    if isinstance(sparsities, str) or not isinstance(sparsities, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RecipeError(f"sparsities are several numbers, such as (0.2, 0.5, 0.8), got {sparsities!r}")
    for value in sparsities:
        number = as_float(value)
        if number is None or not 0 < number < 1 or number in found:
            raise RecipeError(f"sparsities to try are different numbers in (0, 1), got {value!r}")
        phases = [replace(phase, sparsity=number) if phase.is_sparse else phase for phase in schedule.phases]
        found[number] = Schedule(tuple(phases))
    if not found:
        raise RecipeError("there is no sparsity to try: give sparsities=(0.2, 0.5, 0.8)")
    return found
