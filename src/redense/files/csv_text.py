"""CSV that a spreadsheet opens: no cell of text is a formula, whoever chose the name in it."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def safe_cell(value: object) -> object:
    """Return a value for a cell of a CSV file; before text that a spreadsheet would compute stands an apostrophe.

    >>> [safe_cell(value) for value in ("=1+1", "@SUM(1)", "-0.5", "-shirt", 3, "bag")]
    ["'=1+1", "'@SUM(1)", '-0.5', "'-shirt", 3, 'bag']
    """
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def as_named(cell: str) -> str:
    """Return the text of a cell as it was before `safe_cell`.

    >>> [as_named(cell) for cell in ("'=1+1", "'-shirt", "'tis", "-0.5")]
    ['=1+1', '-shirt', "'tis", '-0.5']
    """
    return cell[1:] if safe_cell(cell[1:]) == cell else cell
