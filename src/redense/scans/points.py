"""The points of a curve that must be measured to decide as the whole grid would.

Curves are taken to rise with sparsity. Points are numbered along the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .allocation import from_curves, knots


def knee(count: int, drop: Callable[[int], float], tolerance: float, hopeless: float) -> list[int]:
    """Return the points that settle a curve for every target, in order; ``drop(index)`` measures one.

    Bisection finds the last point within the tolerance; those above it are measured up to the first hopeless one.

    >>> drops = [0, 0, 0, 0, 0.1, 0.4, 3, 9]
    >>> knee(8, drops.__getitem__, 0.01, 1)
    [3, 4, 5, 6]
    """
    seen: dict[int, float] = {}
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        seen[middle] = drop(middle)
        low, high = (middle, high) if seen[middle] <= tolerance else (low, middle)
    for index in range(high, count):
        seen[index] = seen[index] if index in seen else drop(index)
        if not seen[index] < hopeless:
            break
    return sorted(seen)


def undecided(
    drops: Mapping[str, Mapping[int, float]],
    weights: Mapping[str, int],
    levels: Sequence[float],
    *,
    tolerance: float,
    hopeless: float,
    overall: float,
) -> dict[str, list[int]]:
    """Return the points that still have to be measured to settle one overall sparsity: parameter name -> indices.

    The overall sparsity is shared out by what is measured, and the points to both sides of each layer's share are asked
    for, until all of them are there. The costs are convex, so a share whose neighbours are measured is the best one:
    no point farther away can change it.
    """
    costs = {
        name: knots([(levels[i], drop) for i, drop in seen.items()], tolerance, hopeless)
        for name, seen in drops.items()
    }
    chosen = from_curves(costs, weights, overall=overall, highest=levels[-1])
    asked: dict[str, list[int]] = {}
    for name, seen in drops.items():
        wanted = _around(seen, chosen[name], levels, 1 / max(weights[name], 1), tolerance, hopeless)
        missing = sorted(index for index in wanted if index not in seen)
        if missing:
            asked[name] = missing
    return asked


def _around(
    seen: Mapping[int, float], share: float, levels: Sequence[float], slack: float, tolerance: float, hopeless: float
) -> set[int]:
    count = len(levels)
    if not seen:
        return {(count - 1) // 2}
    flat = max((index for index, drop in seen.items() if drop <= tolerance), default=-1)
    above = min((index for index in seen if index > flat), default=count)
    if above - flat > 1 and share <= levels[min(above, count - 1)] + slack:
        return {(flat + above) // 2}  # the share depends on where the curve leaves the ground: bisect
    hope = max((index for index, drop in seen.items() if drop < hopeless), default=-1)
    end = min((index for index in seen if index > hope), default=count - 1)
    share = min(share, levels[end])  # beyond hope the room is shared evenly: where hope ends is what matters
    below = max((index for index in range(count) if levels[index] <= share + slack), default=-1)
    wanted = {below, below + 1}
    if below >= 0 and abs(levels[below] - share) <= slack:  # it sits on a point: both sides keep it there
        wanted.add(below - 1)
    return {index for index in wanted if max(flat, 0) <= index <= end}
