"""Reading what lies in a folder: a file that is not there is None, a damaged one is an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.files.json_text import read_json


def load_json(path: Path) -> Any:
    """Return what a JSON file holds; None if there is none.

    Raises:
        DataError: it is damaged.
    """
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
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
