"""Reading what lies in a folder: a file that is not there is None, a damaged one is an error that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DataError


def load_json(path: Path) -> Any:
    """Return what a JSON file holds; None if there is none.

    Raises:
        DataError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None


def load_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one if there is no file.

    Raises:
        DataError: it is damaged, or holds something else.
    """
    data = load_json(path)
    if data is not None and not isinstance(data, dict):
        raise DataError(f"{path} must hold a JSON object, got {type(data).__name__}")
    return data or {}
