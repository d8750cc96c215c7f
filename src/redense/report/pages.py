"""The page of a folder: that of a run, of a comparison, or of a sensitivity scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from redense.errors import DataError, command

from .kit.document import Page


@dataclass(frozen=True)
class Kind:
    """A kind of folder: ``marks`` are files of which it has one, ``file`` the name of its page's file.

    ``write`` writes the page and returns its path, ``page`` returns the page.
    """

    name: str
    marks: tuple[str, ...]
    file: str
    write: Callable[[Path], Path]
    page: Callable[[Path], Page]


def _write_comparison(folder: Path) -> Path:
    from .comparisons.page import write_compare_report

    return write_compare_report(folder)


def _comparison(folder: Path) -> Page:
    from .comparisons.page import make_page
    from .comparisons.reading import read_comparison

    return make_page(read_comparison(folder))


def _write_run(folder: Path) -> Path:
    from .runs.page import write_report

    return write_report(folder)


def _run(folder: Path) -> Page:
    from .runs.page import make_page
    from .runs.reading import read_run

    return make_page(read_run(folder))


def _write_scan(folder: Path) -> Path:
    from .scans.page import write_sensitivity_page

    return write_sensitivity_page(folder)


def _scan(folder: Path) -> Page:
    from redense.lab.runs.scan import read_scan

    from .scans.page import make_page

    return make_page(*read_scan(folder))


COMPARISON = Kind("comparison", ("compare.json",), "report.html", _write_comparison, _comparison)
RUN = Kind("run", ("recipe.yaml", "metrics.jsonl", "result.json"), "report.html", _write_run, _run)
SCAN = Kind("scan", ("sensitivity.json",), "sensitivity.html", _write_scan, _scan)
_KINDS = (COMPARISON, SCAN, RUN)


def kind_of(folder: Path) -> Kind | None:
    """Return what a folder is; None if there is no page to make of it."""
    return next((kind for kind in _KINDS if any((folder / mark).is_file() for mark in kind.marks)), None)


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
        again = command("redense", "compare", "--resume", folder)
        raise DataError(f"the comparison '{folder}' has not finished: go on with: {again}")
    if any(kind_of(inside) for inside in folder.iterdir() if inside.is_dir()):
        raise DataError(
            f"'{folder}' is no run, no comparison and no scan, but holds some: give one of them, or list them with: "
            f"{command('redense', 'report', folder, '--serve')}"
        )
    raise DataError(f"'{folder}' is no run, no comparison and no scan: it has none of their files")
