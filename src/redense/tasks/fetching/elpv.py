"""Solar cells (ELPV): the pictures as they are, and two tables of what the annotators said, to train and to test.

A cell is *defective* where the annotators thought so more probably than not, else *functional*; the column
``probability`` has what they said: 0, 1/3, 2/3 or 1. A fifth of the cells, by a hash of their names, is the test split.
The package does not say which cells are of one module, so that a module may be on both sides.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from .files import copy

_SHOWN = {"0.0": "0", "0.3333333333333333": "1/3", "0.6666666666666666": "2/3", "1.0": "1"}
_TEST = 5  # one of so many


def arrange(unpacked: Sequence[Path], ready: Path) -> None:
    """Copy the pictures of one unpacked package, and write ``train.csv`` and ``test.csv``.

    Raises:
        ValueError: a line of the package's table is none.
    """
    (folder,) = unpacked
    tables: dict[str, list[list[str]]] = {"train.csv": [], "test.csv": []}
    for line in (folder / "labels.csv").read_text(encoding="ascii").splitlines():
        name, probability, kind = line.split()
        shown = _SHOWN[probability]
        row = [name, "functional" if shown in ("0", "1/3") else "defective", shown, kind]
        tables["test.csv" if _is_tested(name) else "train.csv"].append(row)
        copy(folder / name, ready / name)
    for name, rows in tables.items():
        with (ready / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([["file_name", "label", "probability", "kind"], *rows])


def _is_tested(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % _TEST == 0
