"""The verb of image classification: what pictures of one's own show, by a trained network."""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from typing import Any

from redense.cli.terminal.printing import complain, say, say_json, say_line
from redense.cli.verbs import Verbs
from redense.errors import RedenseError
from redense.files.csv_text import safe_cell

from .files import answered_pictures, recipe_for

_TOP = 5
_DIGITS = 9


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    predict = verbs.add(
        "predict",
        "say what pictures show, with the classifier of a run",
        _predict,
        epilog="for captions see redense caption, for recordings redense transcribe",
    )
    predict.add_argument("run", help="a finished run of a classifier, its export, a name of the zoo, or hub:OWNER/NAME")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    predict.add_argument(
        "--top", metavar="N", default=str(_TOP), help=f"classes shown, the likeliest first (default: {_TOP})"
    )
    kinds = predict.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="print a JSON object an image, a line each")
    kinds.add_argument("--csv", action="store_true", help="print a table: image, rank, class, probability")


def _predict(options: argparse.Namespace) -> int:
    if not options.top.isdecimal() or len(options.top) > _DIGITS or not int(options.top):
        raise RedenseError(f"--top must be a whole number of at least 1, got '{options.top[:40]}'")
    from redense.lab.runs.trained import find_trained, open_trained

    folder = find_trained(options.run)
    classifier = open_trained(folder, recipe_for("predict", folder, options.run))
    if options.csv:
        _print_row(["image", "rank", "class", "probability"])
    failed = False

    def best(pictures: list[Any]) -> Any:
        return classifier.best(pictures, int(options.top))

    for path, found in answered_pictures(options.images, best, grey=classifier.grey, least=classifier.least):
        if isinstance(found, str):
            failed = True
            complain(f"{path} {found}")
            if options.json:
                say_json({"image": str(path), "error": found})
        else:
            _print(path, found, options)
    return 2 if failed else 0


def _print(path: Path, classes: list[tuple[str, float]], options: argparse.Namespace) -> None:
    if options.json:
        plain = [{"class": name, "probability": round(chance, 6)} for name, chance in classes]
        say_json({"image": str(path), "classes": plain})
    elif options.csv:
        for rank, (name, chance) in enumerate(classes, start=1):
            _print_row([str(path), rank, name, f"{chance:.6f}"])
    else:
        say_line(f"{path}: {', '.join(f'{name} {100 * chance:.1f} %' for name, chance in classes)}")


def _print_row(cells: list[object]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(safe_cell, cells))  # which quotes cells with its end of lines
    say(line.getvalue(), end="")
