"""The figures that a program has left: in ``metrics.json``, in what it printed, or where an expression finds them."""

from __future__ import annotations

import json
import re
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from redense.errors import DataError, RecipeError
from redense.files.json_text import parse_json, read_json
from redense.files.opening import open_regular
from redense.lab.judging.figures import quoted
from redense.lab.judging.reading.cells import number

from .figures import UNNAMED, AnswerError, Figures, read_figures

METRICS = "metrics.json"
_TAIL = 4 << 20  # bytes of the output that are looked at, from its end
_LARGEST = 16 << 20  # bytes of metrics.json
_SEEN = 1000  # characters of an object on several lines that is none
_FAR = 40  # characters on each side of a figure that are looked at
_MEANT = re.compile(r"""\{\s*(?:["']|\w+\s*:\s*[-+.\d]|\w+\s*:\s*(?:nan|inf))""", re.IGNORECASE)  # figures, and no JSON
_SIGN = "(?:(?<![\\w)])[-\u2212])?"
_BEFORE = re.compile(_SIGN + r"(?:[0-9.]*[0-9]\.?(?:[eE][+-]?[0-9]*)?)?\Z")
_BEFORE_ALL = re.compile(_SIGN + r"(?:[0-9.,_'\u2019]*[0-9][.,_'\u2019]?(?:[eE][+-]?[0-9]*)?)?\Z")
_SPACE = "[ \u00a0\u2007\u2009\u202f]"  # between thousands
_THOUSANDS = re.compile(rf"(?<![0-9.])[0-9]{{1,3}}(?:{_SPACE}[0-9]{{3}})*{_SPACE}\Z")
_AFTER = re.compile(
    r"(?:[xX][0-9a-fA-F]+)?(?:[,._'\u2019]?[0-9]+)*"  # of 0x1f, 1_234.5, 1'234
    r"(?: ?[eEdD][+-]?[0-9]+|\s?[\u00b7\u00d7x*]\s?10(?:(?:\^|\*\*)?[+\u2212-]|\^|\*\*)[0-9]+|[kKMG](?![a-zA-Z]))?"
)
_AFTER_THOUSANDS = re.compile(rf"(?:{_SPACE}[0-9]{{3}}(?![0-9]))+")


def checked_expression(pattern: str | None) -> str | None:
    """Return an expression that finds a figure.

    Raises:
        RecipeError: it is none, or has no group.
    """
    if pattern is None:
        return None
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise RecipeError(f"--metric-regex is no regular expression: {error}; got {quoted(pattern)}") from None
    if not groups:
        raise RecipeError(
            f"--metric-regex needs a group around the number, as in 'error: (\\S+)'; got {quoted(pattern)}"
        )
    return pattern


def figures_of(out: Path, printed: Path, *, expression: str | None, metric: str | None) -> Figures:
    """Return the figures that a program has left.

    Args:
        out: the folder that it was given; a file ``metrics.json`` in it goes before what was printed.
        printed: the file of its standard output.
        expression: finds them in it: named groups are figures of these names, the first group is else the figure.
        metric: the figure that decides, if it is known.

    Raises:
        AnswerError: there are none.
        DataError: they cannot be read, or one is NaN or infinite.
    """
    path = out / METRICS
    if path.is_file():
        try:
            return read_figures(read_json(path, limit=_LARGEST), metric)
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{METRICS} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    text = tail(printed, _TAIL)
    if expression is not None:
        return read_figures(_found(text, expression, metric), metric)
    end = len(text)
    for line in reversed(text.splitlines(keepends=True)):
        end -= len(line)
        if line.strip().startswith("{"):
            given = _object(text, end) if line.rstrip() == "{" else line.strip()
            try:
                found = parse_json(given)
            except JSONDecodeError:
                if _MEANT.match(given):
                    raise AnswerError(
                        f"the last figures that it printed are no JSON, {quoted(given)}: print what json.dumps gives; "
                        "of a run that diverged, null"
                    ) from None
                continue
            except ValueError as error:
                raise DataError(f"the figures that it printed cannot be read: {error}") from None
            return read_figures(found, metric)
    raise AnswerError(
        f'it printed no figure: expected a last line such as {{"error": 0.13}}, or {METRICS} in the folder {{out}}, '
        "or give --metric-regex"
    )


def _object(text: str, begin: int) -> str:
    """Return the object, on several lines as ``indent=2`` makes it, that begins at a place; or what else stands there.

    >>> _object('{"a": 1} {"error": 0.13} bye', 9)
    '{"error": 0.13}'
    """
    try:
        return text[begin : json.JSONDecoder().raw_decode(text, begin)[1]]
    except (ValueError, RecursionError):
        return text[begin : begin + _SEEN]


def tail(path: Path, most: int) -> str:
    """Return the end of a file as text, of at most so many bytes."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _found(text: str, expression: str, metric: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for match in re.finditer(expression, text):
        named = {name: name for name, value in match.groupdict().items() if value is not None}
        if not named and match.group(1) is not None:
            named = {metric or UNNAMED: 1}
        found |= {name: (match, group) for name, group in named.items()}
    if not found:
        raise AnswerError(f"nothing that it printed matches --metric-regex {quoted(expression)}")
    for name, (match, group) in found.items():
        value = match.group(group)
        try:
            found[name] = number(value or "nothing")
        except ValueError:
            raise AnswerError(f"--metric-regex found {quoted(value)} for {quoted(name)}, which is no number") from None
        if (whole := _whole(match, group)) != value:
            raise AnswerError(
                f"--metric-regex found {quoted(value)} for {quoted(name)}, a part of {quoted(whole)}: take all of it, "
                "as 'error: (\\S+)' does, or say in the expression what follows it"
            )
    return found


def _whole(match: re.Match[str], group: str | int) -> str:
    """Return the number that a group has found, with what of it the group has left out."""
    text, (begin, end) = match.string, match.span(group)
    # A comma that the expression itself matches divides two numbers.
    left, found, right = text[max(0, begin - _FAR) : begin], match.group(group), text[end : end + _FAR]
    before = (_BEFORE if match.start() < begin else _BEFORE_ALL).search(left)
    if match.start() == begin and re.match(r"[0-9]{3}(?![0-9])", found):
        before = _THOUSANDS.search(left) or before
    after = ""
    if end == match.end():
        if re.fullmatch(r"[-+]?[0-9]{1,3}", found) and (thousands := _AFTER_THOUSANDS.match(right)):
            after = thousands[0]
        if more := _AFTER.match(right[len(after) :]):
            after += more[0]
    return (before[0] if before else "") + found + after
