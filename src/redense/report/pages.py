"""The page of a folder: that of a run, of a comparison, or of a sensitivity scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redense.errors import DataError, command

from .comparisons import page as comparisons
from .kit.document import Page
from .kit.loading import load_object
from .runs import page as runs


@dataclass(frozen=True)
class Kind:
    """A kind of folder: ``marks`` are files of which it has one.

    ``write`` writes the page and returns its path, ``page`` returns the page.
    """

    name: str
    marks: tuple[str, ...]
    write: Callable[[Path], Path]
    page: Callable[[Path], Page]


def _write_scan(folder: Path) -> Path:
    from .scans.page import write_sensitivity_page  # it needs torch

    return write_sensitivity_page(folder)


def _scan(folder: Path) -> Page:
    from .scans.page import read_page

    return read_page(folder)


COMPARISON = Kind("comparison", ("compare.json",), comparisons.write_compare_report, comparisons.read_page)
RUN = Kind("run", ("recipe.yaml", "metrics.jsonl", "result.json"), runs.write_report, runs.read_page)
SCAN = Kind("scan", ("sensitivity.json",), _write_scan, _scan)
_KINDS = (COMPARISON, SCAN, RUN)


def kind_of(folder: Path) -> Kind | None:
    """Return what a folder is; None if there is no page to make of it."""
    return next((kind for kind in _KINDS if any((folder / mark).is_file() for mark in kind.marks)), None)


def is_tried(folder: Path) -> bool:
    """Return whether a folder has what a search that has come to its end has tried: it gets no page of its own."""
    return folder.name == "search" and (folder.parent / "search.json").is_file()


def _unfinished(folder: Path) -> str:
    if is_tried(folder):
        return f"'{folder}' is what a search has tried: its page is that of {folder.parent / 'confirm'}"
    again = command("redense", "compare", "--resume", folder)
    if load_object(folder / "comparison.json").get("form") == "function":
        again = f"the call or command that began it, with the same out ({folder})"
    return f"the comparison '{folder}' has not finished: go on with: {again}"


def page_of(folder: Path) -> Kind:
    """Return what a folder is.

    Raises:
        DataError: there is no page to make of it.
    """
    kind = kind_of(folder)
    if kind is not None:
        return kind
    if not folder.is_dir():
        raise DataError(f"no folder '{folder}': expected one that `redense run` or `redense compare` wrote")
    if (folder / "comparison.json").is_file():
        raise DataError(_unfinished(folder))
    if any(kind_of(inside) for inside in folder.iterdir() if inside.is_dir()):
        raise DataError(
            f"'{folder}' is no run, no comparison and no scan, but holds some: give one of them, or list them with: "
            f"{command('redense', 'report', folder, '--serve')}"
        )
    raise DataError(f"'{folder}' is no run, no comparison and no scan: it has none of their files")
