"""Figures that look as if something were wrong with them: one run or one training in several rows, or two units."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .figures import ArmFigures

_ENDS = (0.0, 1.0, 100.0)  # of figures that count examples: all right, or all wrong
_APART = 20  # times as large as the largest fraction is the smallest percentage, where figures are of two units
_HUNDRED = 50, 200  # times as large as fractions are percentages of about the same
_LEAST = 0.01  # percent; figures below it count no examples
_FEW = 3  # seeds, or different figures, from which on equal figures say something


def twins(arms: Mapping[str, ArmFigures]) -> tuple[tuple[str, ...], ...]:
    """Return the seeds that have the same figures in every arm, as rows that were copied have.

    Where a figure counts few examples, two seeds are equal in one arm and not in another: these are left alone.
    """
    shared = set[str].intersection(*(set(figures.values) for figures in arms.values())) if arms else set[str]()
    seeds = [seed for seed in next(iter(arms.values())).values if seed in shared] if shared else []
    columns = {tuple(figures.values[seed] for seed in seeds) for figures in arms.values()}
    varied = [column for column in columns if len(set(column)) > 1]
    groups: dict[tuple[float, ...], list[str]] = {}
    for seed, row in zip(seeds, zip(*varied, strict=True), strict=bool(varied)):
        groups.setdefault(row, []).append(seed)
    if len(varied) < 2 or len(groups) < 3 or any(len(set(column)) != len(groups) for column in varied):
        return ()
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def unvaried(arms: Mapping[str, ArmFigures], folders: Sequence[Collection[str]] = ()) -> tuple[str, ...]:
    """Return the arms that have the same figure for every seed, as a training has that does not use its seed.

    None of them where no arm has another figure for another seed, which is an obstacle, nor where an arm can be no
    better or no worse.

    Args:
        arms: their figures by name.
        folders: the seeds of each that was joined. An arm has one figure in each then: `ensemble`, which is made of
            all seeds of its folder.
    """
    values = {name: _parts(figures, folders) for name, figures in arms.items()}
    if all(len(set(figures.values.values())) < 2 for figures in arms.values()):
        return ()
    several = (name for name, own in values.items() if max(map(len, own)) >= _FEW)
    sets = ((name, [set(part) for part in values[name] if part]) for name in several)
    return tuple(name for name, own in sets if all(len(part) == 1 and not part.intersection(_ENDS) for part in own))


def _parts(arm: ArmFigures, folders: Sequence[Collection[str]]) -> list[list[float]]:
    """Return an arm's figures of each folder, and of what is in none."""
    known = set[str]().union(*folders)
    rest = [seed for seed in arm.values if seed not in known]
    return [[figure for seed, figure in arm.values.items() if seed in seeds] for seeds in (*folders, rest)]


def alike(arms: Mapping[str, ArmFigures]) -> tuple[tuple[str, ...], ...]:
    """Return the arms that have the same figure as each other for every seed, as of a command that is the same in all.

    None where that is known already (`ArmFigures.same`), nor where the figures are as few as those that meet by chance.
    """
    groups: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for name, figures in arms.items():
        if not figures.same and len(set(figures.values.values())) >= _FEW:
            groups.setdefault(tuple(sorted(figures.values.items())), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def of_two_units(arms: Mapping[str, ArmFigures]) -> tuple[float, float] | None:
    """Return a figure of each unit where some look like fractions and others like percentages; None where none do.

    Some are at most 1 and the others, a hundred times as large, at most 100, and nothing lies between. Percentages may
    be below 1, too: errors of 0.95 % and of 0.0095.
    """
    values = sorted(value for figures in arms.values() for value in figures.values.values())
    if not values or values[0] < 0 or values[-1] > _ENDS[-1]:
        return None
    values = [value for value in values if value > 0]
    for at in range(1, len(values)):
        if values[at - 1] <= 1 and values[at] >= max(_APART * values[at - 1], _LEAST):
            low, high = values[at // 2], values[(at + len(values)) // 2]
            if _HUNDRED[0] <= high / low <= _HUNDRED[1]:
                return low, high
    return None
