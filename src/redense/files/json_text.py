"""JSON from whomever: every mistake is a ValueError, however deep it is nested and however long its numbers are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from .opening import read_bytes


def parse_json(text: str | bytes, *, finite: bool = False) -> Any:
    """Return the plain data of a JSON text.

    Args:
        text: in UTF-8 where it is bytes.
        finite: refuse NaN, Infinity and numbers that are larger than any float, such as 1e999.

    Raises:
        ValueError: it is no valid JSON; the message is one line.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: nested too deeply
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        if finite:
            return json.loads(text, parse_float=_finite, parse_constant=_finite)
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, *, limit: int | None = None, finite: bool = False) -> Any:
    """Return the plain data of a JSON file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
        ValueError: it is no valid JSON.
    """
    return parse_json(read_bytes(path, limit), finite=finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value
