"""JSON from whomever: every mistake is a ValueError, however deep it is nested and however long its numbers are.

A key that an object has twice is a mistake too: one of its values would be lost without a word.
"""

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
        ValueError: it is no valid JSON, or an object has a key twice; the message is one line.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: nested too deeply
    >>> parse_json('{"error": 3, "error": 2}')
    Traceback (most recent call last):
        ...
    ValueError: the key 'error' is there twice in one object
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        if finite:
            return json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, *, limit: int | None = None, finite: bool = False) -> Any:
    """Return the plain data of a JSON file of at most ``limit`` bytes.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
        ValueError: it is no valid JSON.
    """
    return parse_json(read_bytes(path, limit), finite=finite)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise ValueError(f"the key {twice[:40]!r} is there twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value
