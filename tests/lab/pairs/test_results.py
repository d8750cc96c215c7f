"""Two trainings that have left no figure end a comparison early, where none has left one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import redense
from redense.errors import DataError

ARMS = ("old", "new")


def compare(answers: list[Any], out: Path, **more: Any) -> tuple[Any, int]:
    """Compare two arms over three seeds whose trainings return these in turn; return the result and their number."""
    left = list(answers)

    def train(schedule: Any, seed: int) -> Any:
        return left.pop(0)

    try:
        result = redense.compare(
            arms=dict.fromkeys(ARMS, train), baseline="old", seeds=3, out=out, metric="error", quiet=True, **more
        )
    except DataError as error:
        return error, len(answers) - len(left)
    return result, len(answers) - len(left)


@pytest.mark.parametrize(
    "answer", [(0.5, 0.4), None, [0.5], "0.5", {"history": [0.5]}, {"test": "low"}, {"steps": "9"}]
)
def test_two_that_left_no_figure_end_a_comparison(answer: Any, tmp_path: Path):
    error, trained = compare([answer] * 6, tmp_path)
    assert (str(error)[:55], trained) == ("no figure of old, seed 0 and new, seed 0, so the others", 2)
    result, trained = compare([0.5, 0.4, 0.6, 0.5, 0.7, 0.6], tmp_path, changed_code=True)  # both are done again
    assert (result.failed, trained) == ({}, 6)


def test_one_that_left_none_may_have_diverged_and_so_may_more_beside_one_that_has_not(tmp_path: Path):
    for answers in ([None, 0.4, None, 0.5, 0.7, 0.6], [None, 0.4, 0.5, None, 0.7, None]):
        result, trained = compare(answers, tmp_path / str(answers.index(0.5)))
        assert trained == 6
        assert len(result.failed) == answers.count(None)


def test_those_that_diverged_or_broke_end_nothing(tmp_path: Path):
    error, trained = compare([float("nan")] * 6, tmp_path)
    assert (str(error)[:18], trained) == ("all 6 pairs failed", 6)
