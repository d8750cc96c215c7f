"""Values of libraries that never change, as text, and what objects keep without a dictionary."""

from __future__ import annotations

import datetime
import decimal
import fractions
import re
from typing import Any

_FIXED = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    range,
    re.Pattern,
)
_NAMED = {"torch.dtype", "torch.device", "numpy.dtype"}
_CUT = 100  # characters: the text of a longer pattern is cut short


def text_of(value: Any) -> str | None:
    """Return a value of a library that never changes as text that is the same for the same value; None for others."""
    kind = type(value)
    named = {f"{cls.__module__}.{cls.__qualname__}" for cls in kind.__mro__}
    if not isinstance(value, _FIXED) and not named & _NAMED and kind.__module__ != "operator":
        return None
    cut = value.pattern if isinstance(value, re.Pattern) and len(value.pattern) > _CUT else ""
    text = f"{kind.__module__}.{kind.__qualname__} {value!r}{cut}"
    return None if " at 0x" in text else text


def slots_of(value: Any) -> dict[str, Any]:
    """Return what an object keeps in ``__slots__``."""
    named = [getattr(cls, "__slots__", ()) for cls in type(value).__mro__]
    names = [name for one in named for name in ((one,) if isinstance(one, str) else one)]
    return {name: getattr(value, name) for name in names if not name.startswith("__") and hasattr(value, name)}
