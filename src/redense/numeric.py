"""Numbers as Python has them: what NumPy, torch and `fractions` give is turned into ``int`` and ``float``.

A sparsity out of ``np.linspace``, a number of steps out of an array's length and a factor out of a tensor are numbers
like Python's. They are made plain where they come in, because a schedule is saved as plain data.
"""

from __future__ import annotations

import math
import operator
from numbers import Rational, Real
from typing import Any


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
