"""Numbers of other libraries are taken as Python's, or refused by name; never a TypeError from inside."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import redense
from redense import Decay, Phase, Schedule, Surgery
from redense.errors import RedenseError
from redense.masks import check_pattern, select
from redense.schedules.numeric import as_float, as_int, plain

DSD: Any = Schedule.dsd  # taken with what its signature does not promise
WHOLE: list[Callable[[int], Any]] = [int, np.int64, np.uint8, np.array, torch.tensor, Fraction]
REAL: list[Callable[[float], Any]] = [float, np.float64, np.array, torch.tensor, Fraction]


@given(st.integers(0, 255), st.sampled_from(WHOLE))
def test_whole_numbers_of_every_library_are_ints(number: int, kind: Callable[[int], Any]):
    assert as_int(kind(number)) == number
    assert type(as_int(kind(number))) is int
    assert as_float(kind(number)) == number


@given(st.floats(allow_nan=False, width=32), st.sampled_from(REAL))
def test_real_numbers_of_every_library_are_floats(number: float, kind: Callable[[float], Any]):
    if kind is Fraction and math.isinf(number):
        return
    assert as_float(kind(number)) == number
    assert type(as_float(kind(number))) is float
    assert as_float(np.float32(number)) == number


@pytest.mark.parametrize(
    "other",
    [True, np.True_, torch.tensor(True), "1", None, 1j, np.array([1]), torch.ones(2), torch.ones(1), Decimal(1), [1]],
    ids=repr,
)
def test_what_is_no_number_is_none(other: Any):
    assert as_float(other) is None
    assert as_int(other) is None


def test_a_number_without_a_value_or_too_large_for_a_float_breaks_nothing():
    meta = torch.ones((), device="meta")
    assert plain(meta) is meta
    assert as_float(meta) is None
    assert as_float(10**400) == math.inf
    assert as_float(-(10**400)) == -math.inf


NUMBERS = {"dense": 4, "sparse": 2, "redense": 3, "sparsity": 0.5, "sparse_lr": 0.5, "redense_lr": 0.25}


@pytest.mark.parametrize("kind", [np.float32, np.array, torch.tensor, Fraction])
def test_a_schedule_of_other_libraries_numbers_is_that_of_pythons(kind: Callable[[Any], Any]):
    whole = np.int32 if kind is np.float32 else kind
    made = {name: (whole if isinstance(value, int) else kind)(value) for name, value in NUMBERS.items()}
    schedule = DSD(**made, decay=Decay("cosine", floor=kind(0.5)))
    same = DSD(**NUMBERS, decay=Decay("cosine", floor=0.5))
    assert schedule == same
    assert json.loads(json.dumps(schedule.to_dict())) == same.to_dict()
    surgery = Phase.sparse(2, 0.5, surgery=Surgery(c=kind(0.5), band=kind(0.25)))
    assert json.loads(json.dumps(surgery.to_dict()))["surgery"] == {"c": 0.5, "band": 0.25}


def test_an_array_of_sparsities_makes_a_cycle_of_each():
    linspace = DSD(dense=2, sparse=2, redense=2, sparsity=np.array([0.5, 0.25], dtype=np.float32))
    assert linspace == DSD(dense=2, sparse=2, redense=2, sparsity=[0.5, 0.25])
    assert linspace == DSD(dense=2, sparse=torch.tensor([2, 2]), redense=2, sparsity=torch.tensor([0.5, 0.25]))
    mapped = DSD(dense=2, sparse=2, redense=2, sparsity={"fc": np.float32(0.5)})
    assert mapped.to_dict()["phases"][1]["sparsity"] == {"fc": 0.5}


@pytest.mark.parametrize("name", list(NUMBERS))
@pytest.mark.parametrize(
    "wrong", [None, "a few", True, 1j, object(), math.nan, [], {}], ids=lambda wrong: type(wrong).__name__
)
def test_what_is_no_number_is_refused_when_the_schedule_is_made(name: str, wrong: Any):
    with pytest.raises(RedenseError):
        DSD(**{**NUMBERS, name: wrong})


def test_patterns_sparsities_and_steps_of_arrays_are_taken():
    assert check_pattern(cast("Any", np.array([2, 4]))) == (2, 4)
    assert select(torch.arange(4.0), cast("Any", np.float32(0.5))).tolist() == [False, False, True, True]
    schedule: Any = DSD(**NUMBERS)
    assert schedule.lr_factor(np.int64(5)) == schedule.lr_factor(5)
    for wrong in ("5", None, math.nan):
        with pytest.raises(RedenseError):
            schedule.phase_at(wrong)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"decay": "cosin"}, "decay must be one of .* did you mean 'cosine'"),
        ({"decay": 0.1}, r"decay of phase 'dense' must be a Decay or one of .* got 0\.1"),
        ({"criterion": 3}, "a criterion is a name or a function"),
        ({"scope": None}, "scope of phase 'sparse' must be 'layer' or 'global', got 'None'"),
        ({"sparsity": {3: 0.5}}, "maps names of parameters to sparsities, got the key 3"),
        ({"steps_per_epoch": 2.5}, r"steps_per_epoch must be a whole number of at least 1, got 2\.5"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be a whole number of at least 1, got 0"),
        ({"sparse": 0, "steps_per_epoch": 10}, "sparse must be a number of epochs above 0, got 0"),
    ],
)
def test_other_arguments_of_the_wrong_type_are_refused_by_name(arguments: dict[str, Any], says: str):
    with pytest.raises(RedenseError, match=says):
        DSD(**{**NUMBERS, **arguments})


def test_the_name_of_a_decay_stands_for_it():
    assert DSD(**NUMBERS, decay="cosine") == DSD(**NUMBERS, decay=Decay("cosine"))
    assert Phase.dense(3, decay="linear") == Phase.dense(3, decay=Decay("linear"))
    assert Phase(3, decay=cast("Any", "linear")) == Phase.from_dict({"steps": 3, "decay": "linear", "name": "dense"})


MODEL = nn.Linear(8, 8)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": "resnet"}, r"model must be a torch\.nn\.Module, got str"),
        ({"schedule": {"phases": []}}, r"schedule must be a redense\.Schedule, got {'phases': \[\]}"),
        ({"schedule": Phase.dense(3)}, r"schedule must be a redense\.Schedule"),
        ({"on_phase_end": "print"}, "on_phase_end must be called with the DSD when a phase ends, got 'print'"),
        ({"seed": "rank"}, "seed must be a whole number, got 'rank'"),
        ({"seed": 0.5}, r"seed must be a whole number, got 0\.5"),
        ({"include": [3]}, "include takes names and shell patterns, got 3"),
        (
            {"schedule": DSD(dense=1, sparse=1, redense=1, sparsity={"weight": 0.999})},
            "phase 'sparse' would prune all 64 weights of 'weight'",
        ),
    ],
)
def test_what_can_be_known_is_said_when_the_dsd_is_made(arguments: dict[str, Any], says: str):
    given = {"model": MODEL, "schedule": DSD(**NUMBERS), **arguments}
    optimizer = torch.optim.SGD(MODEL.parameters(), lr=0.1)
    with pytest.raises(RedenseError, match=says):
        redense.DSD(given.pop("model"), optimizer, given.pop("schedule"), **given)
    assert not optimizer._optimizer_step_post_hooks  # pyright: ignore[reportAttributeAccessIssue]


def test_a_small_layer_that_a_sparsity_empties_is_named_before_the_dense_phase():
    model = nn.Sequential(nn.Conv1d(1, 8, 3), nn.Conv1d(8, 1, 1), nn.Conv1d(1, 1, 3, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = DSD(dense=5, sparse=2, redense=2, sparsity=[0.5, 0.9])
    with pytest.raises(RedenseError, match=r"phase 'sparse-2' would prune all 3 weights of '2\.weight'"):
        redense.DSD(model, optimizer, schedule)
    redense.DSD(model, optimizer, schedule, exclude="2").close()
