"""CSV that a spreadsheet opens: no cell of text is a formula, whoever chose the name in it."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def safe_cell(value: object) -> object:
    """Return a value for a cell of a CSV file; before text that a spreadsheet would compute stands an apostrophe.

    A text that looks as if it had one already gets another, so that `as_named` returns every text as it was.

    >>> [safe_cell(value) for value in ("=1+1", "@SUM(1)", "-0.5", "-shirt", 3, "bag", "'=1+1", "'tis")]
    ["'=1+1", "'@SUM(1)", '-0.5', "'-shirt", 3, 'bag', "''=1+1", "'tis"]
    """
    return f"'{value}" if isinstance(value, str) and _is_formula(value.lstrip("'")) else value


def as_named(cell: str) -> str:
    """Return the text of a cell as it was before `safe_cell`.

    >>> [as_named(cell) for cell in ("'=1+1", "'-shirt", "'tis", "-0.5", "''=1+1")]
    ['=1+1', '-shirt', "'tis", '-0.5', "'=1+1"]
    """
    return cell[1:] if cell.startswith("'") and _is_formula(cell.lstrip("'")) else cell


def _is_formula(text: str) -> bool:
    return text.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(text)
