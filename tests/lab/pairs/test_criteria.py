"""A criterion of one's own is code of the comparison, and every process that trains knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import redense
from redense.errors import StateError
from redense.lab.pairs.criteria import make_known, named_criteria
from redense.lab.pairs.jobs import Job, do
from redense.schedules.named_criteria import CRITERIA, WITH_GRADIENTS, Criterion


def edited(text: str) -> Criterion:
    """Return the criterion ``score`` as it is after an edit."""
    space: dict[str, Any] = {"__name__": __name__}
    exec(compile(f"def score(parameter, seed):\n    return {text}\n", __file__, "exec"), space)  # ours
    return space["score"]


def train(schedule: redense.Schedule | None, seed: int) -> float:
    assert schedule is not None
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    redense.DSD(model, optimizer, schedule)
    for _ in range(schedule.total_steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    return float(seed)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    CRITERIA.pop("lamp", None)
    WITH_GRADIENTS.discard("lamp")


def score(parameter: Tensor, seed: int) -> Tensor:
    return parameter.detach().abs()


@pytest.mark.parametrize("named", [False, True])
def test_an_edited_criterion_is_other_code(named: bool, tmp_path: Path):
    def compare(text: str, seeds: int) -> None:
        chosen: Any = edited(text)
        if named:
            CRITERIA.pop("lamp", None)
            redense.criterion("lamp")(chosen)
        schedule = redense.Schedule.dsd(
            dense=1, sparse=1, redense=1, sparsity=0.5, criterion="lamp" if named else chosen
        )
        told: Any = {"arms": ("dsd", "restart"), "metric": "error", "quiet": True}
        redense.compare(train, schedule, seeds=seeds, out=tmp_path / "out", **told)

    compare("parameter.detach().abs()", 2)
    compare("parameter.detach().abs()", 3)
    with pytest.raises(StateError, match=r"code that trains arm 'dsd' .*has changed \('score'\)"):
        compare("parameter.detach().abs().neg()", 4)


def test_a_process_of_its_own_knows_a_criterion_that_was_registered_where_it_was_called():
    redense.criterion("lamp", gradients=True)(score)
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5, criterion="lamp")
    known = named_criteria(schedule)
    del CRITERIA["lamp"]
    WITH_GRADIENTS.discard("lamp")
    assert "unknown criterion 'lamp'" in do(Job("dsd", 1, train, schedule, metric="error")).outcome.failed
    assert do(Job("dsd", 1, train, schedule, metric="error", criteria=known)).outcome.failed == ""
    assert CRITERIA["lamp"] is score
    assert "lamp" in WITH_GRADIENTS
    make_known(known)  # twice, as for the next job of the process


def test_a_criterion_that_was_registered_again_is_the_one_that_every_process_has():
    def made(sign: float) -> None:
        def again(parameter: Tensor, seed: int) -> Tensor:
            return sign * parameter

        redense.criterion("lamp", gradients=sign < 0)(again)

    made(-1.0)
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5, criterion="lamp")
    known = named_criteria(schedule)
    made(1.0)  # as the module does that another process imports
    assert do(Job("dsd", 1, train, schedule, metric="error", criteria=known)).outcome.failed == ""
    assert float(CRITERIA["lamp"](torch.ones(()), 0)) == -1.0
    assert "lamp" in WITH_GRADIENTS


def test_our_own_criteria_are_sent_nowhere():
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5, criterion="random")
    assert named_criteria(schedule) == named_criteria(None) == {}
