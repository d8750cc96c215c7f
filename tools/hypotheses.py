"""The paper's hypotheses on trained networks: the table of `docs/results.md`, from results/hypotheses-0 to -4.

    python tools/hypotheses.py

What is measured, and the six contrasts, were written into results/PROTOCOL.md (6) before. `tests/test_hypotheses.py`
looks whether the table in the page is this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redense.lab.judging.statistics import compare_paired, holm

RESULTS = Path(__file__).parents[1] / "results"
WEIGHT_NOISE, INPUT_NOISE = 0.1, 0.2  # the scales that the protocol names
HEAD = ("of a network, mean of {n} seeds", "dense", "pruned", "`dsd`", "`restart`", "`dsd` − `restart`", "p, Holm")

Arm = Mapping[str, Any]


def of_state(section: str, name: str) -> Callable[[Arm, str], float]:
    """Return what reads a figure of a section that has a row per solution."""
    return lambda arm, state: next(row for row in arm[section] if row["state"] == state)[name]


def rise(section: str, scale: float) -> Callable[[Arm, str], float]:
    """Return what reads by how much noise of a scale raises the validation error."""

    def read(arm: Arm, state: str) -> float:
        row = next(row for row in arm[section] if row["state"] == state)
        return row["means"][row["scales"].index(scale)] - row["clean"]

    return read


def barrier(arm: Arm, state: str) -> float:
    """Return the barrier on the straight line from the dense network; 0.0 for the dense network itself."""
    first = arm["states"][0]
    if state == first:
        return 0.0
    return next(row for row in arm["line"] if (row["from"], row["to"]) == (first, state))["barrier"]


MEASURES: dict[str, tuple[Callable[[Arm, str], float], str]] = {
    "loss on training images": (of_state("levels", "loss"), ".4f"),
    "largest eigenvalue of its Hessian": (of_state("sharpness", "top"), ".2f"),
    "smallest eigenvalue": (of_state("sharpness", "bottom"), ".3f"),
    "barrier on the line from the dense network": (barrier, ".4f"),
    f"rise of the error in points, noise of {WEIGHT_NOISE} on the weights": (rise("weight_noise", WEIGHT_NOISE), ".2f"),
    f"the same, noise of {INPUT_NOISE} on the images": (rise("input_noise", INPUT_NOISE), ".2f"),
}


def diagnoses() -> list[Mapping[str, Arm]]:
    """Return arm -> diagnosis of every seed."""
    files = sorted(RESULTS.glob("hypotheses-*/diagnosis.json"))
    return [json.loads(file.read_text(encoding="utf-8"))["arms"] for file in files]


def table() -> list[list[str]]:
    """Return the rows of the table, its head first."""
    seeds = diagnoses()
    rows: list[list[str]] = []
    pairs = [compare_paired(*(_last(seeds, arm, read) for arm in ("dsd", "restart"))) for read, _ in MEASURES.values()]
    adjusted = holm([pair.p_t for pair in pairs])
    for (what, (read, form)), pair, p in zip(MEASURES.items(), pairs, adjusted, strict=True):
        dense, pruned = ([read(arms["dsd"], arms["dsd"]["states"][number]) for arms in seeds] for number in (0, 1))
        means = [dense, pruned, *(_last(seeds, arm, read) for arm in ("dsd", "restart"))]
        told = "none in any seed" if pair.interval is None else _signed(pair.mean, form)
        if pair.interval is not None:
            told += f" ± {(pair.interval[1] - pair.interval[0]) / 2:{form}}"
        rows.append(
            [what, *(_plain(float(np.mean(values)), form) for values in means), told, "" if p is None else f"{p:.2g}"]
        )
    return [[HEAD[0].format(n=len(seeds)), *HEAD[1:]], *rows]


def _last(seeds: Iterable[Mapping[str, Arm]], arm: str, read: Callable[[Arm, str], float]) -> list[float]:
    return [read(arms[arm], arms[arm]["states"][-1]) for arms in seeds]


def _plain(value: float, form: str) -> str:
    return format(value, f"z{form}").replace("-", "−")


def _signed(value: float, form: str) -> str:
    return format(value, f"+z{form}").replace("-", "−")


def lines(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a table in Markdown."""
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))


if __name__ == "__main__":
    print(lines(table()))
