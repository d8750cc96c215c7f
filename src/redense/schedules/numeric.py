"""Numbers as Python has them: what NumPy, torch and `fractions` give is turned into ``int`` and ``float``.

A sparsity out of ``np.linspace``, a number of steps out of an array's length and a factor out of a tensor are numbers
like Python's. They are made plain where they come in, because a schedule is saved as plain data. How much is pruned is
checked here, too, so that a schedule needs no torch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Rational, Real
from typing import Any, cast

from redense.errors import SparsityError


def as_float(value: object) -> float | None:
    """Return a real number as a ``float``; None for anything else, also for a bool, a string or a complex number.

    >>> as_float(1), as_float("1"), as_float(True)
    (1.0, None, None)
    """
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return None
    try:
        return float(number)
    except OverflowError:  # an int of more than 308 digits
        return math.inf if number > 0 else -math.inf


def as_int(value: object) -> int | None:
    """Return a whole number of a whole type as an ``int``; None for anything else, also for 2.0, a bool or a string.

    >>> from fractions import Fraction
    >>> as_int(2), as_int(Fraction(4, 2)), as_int(2.0), as_int(True)
    (2, 2, None, None)
    """
    number = plain(value)
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def plain(value: Any) -> Any:
    """Return what is a number of another library as Python's ``int`` or ``float``, and all else as it is.

    Tensors and arrays are numbers if they have no dimension. Python's own numbers keep their type.
    """
    if type(value) in (int, float, bool, str) or value is None:
        return value
    if hasattr(value, "dtype"):  # NumPy and torch; a bool of theirs becomes one of Python's, which is no number here
        if getattr(value, "shape", ()) or not callable(getattr(value, "item", None)):
            return value
        try:
            return plain(value.item())
        except RuntimeError:  # a meta tensor has no value
            return value
    if isinstance(value, Rational) and value.denominator == 1:
        return operator.index(value.numerator)
    return float(value) if isinstance(value, Real) and not isinstance(value, int) else value


def check_sparsity(sparsity: object, name: str) -> float:
    """Return ``sparsity`` as a float in [0, 1), or say what is wrong with it."""
    number = as_float(sparsity)
    if number is None:
        raise SparsityError(f"sparsity of {name} must be a number in [0, 1), got {sparsity!r}; write 30 % as 0.3")
    if not 0 <= number < 1:  # also refuses NaN
        raise SparsityError(f"sparsity of {name} must be in [0, 1), got {number}; it is the fraction removed")
    return number


def check_pattern(pattern: Sequence[int]) -> tuple[int, int]:
    """Return an N:M pattern as two integers with 0 < N <= M, or say what is wrong with it."""
    values = [as_int(v) for v in pattern] if isinstance(pattern, Iterable) and not isinstance(pattern, str) else []  # pyright: ignore[reportUnnecessaryIsInstance]
    if len(values) != 2 or None in values:
        raise SparsityError(f"pattern must be two integers, (2, 4) keeps 2 of every 4 weights; got {pattern!r}")
    n, m = cast("list[int]", values)
    if not 0 < n <= m:
        raise SparsityError(f"pattern must keep 0 < N <= M of every M weights, got {n}:{m}")
    return n, m
