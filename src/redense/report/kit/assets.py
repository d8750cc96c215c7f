"""Style sheets and scripts of the pages: files beside the modules whose elements they are for. None loads anything."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def asset(path: str) -> str:
    """Return the text of a style sheet or a script, by its path in the report: ``kit/page.css``."""
    return files("redense.report").joinpath(*path.split("/")).read_text(encoding="utf-8")
