"""The jump of annealing: as large as what pruning would remove."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from redense.errors import ParameterError, ScheduleError
from redense.methods import drop_connect, factorise_, jump_
from redense.methods.base import Context, make_method

# --- the jump of annealing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sparsity", "scale"), [(0.3, 1.0), (0.5, 0.5), (0.0, 1.0)])
def test_a_jump_is_as_large_as_what_pruning_would_remove(sparsity: float, scale: float):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 7))
    weights = {name: p for name, p in model.named_parameters() if name.endswith("weight")}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    make_method("jump", {"sparsity": sparsity, "scale": scale}, 7).begin(Context(model, prunable=weights))
    assert torch.equal(torch.get_rng_state(), state)
    directions: list[Tensor] = []
    for name, parameter in model.named_parameters():
        step = parameter.detach() - before[name]
        if name not in weights:
            assert not step.any()
            continue
        smallest = before[name].abs().flatten().double().sort().values[: round(sparsity * step.numel())]
        assert float(step.double().norm()) == pytest.approx(scale * float(smallest.norm()), rel=1e-4)
        directions.append(step.flatten()[:100])
    if sparsity:
        assert abs(float(torch.cosine_similarity(directions[0], directions[1], dim=0))) < 0.5

    again = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 7))
    for seed, same in ((7, True), (8, sparsity == 0)):
        again.load_state_dict(before)
        own = {name: p for name, p in again.named_parameters() if name in weights}
        make_method("jump", {"sparsity": sparsity, "scale": scale}, seed).begin(Context(again, prunable=own))
        assert torch.equal(again.get_parameter("0.weight"), model.get_parameter("0.weight")) == same


@pytest.mark.parametrize("scale", [math.nan, -1.0, math.inf, "1"])
def test_a_jump_of_no_length_is_refused(scale: Any):
    weight = torch.randn(4, 4)
    with pytest.raises(ScheduleError, match="scale of a jump must be a finite number of at least 0"):
        jump_({"w": weight}, scale=scale)
    assert bool(weight.isfinite().all())


@pytest.mark.parametrize("call", [jump_, factorise_, drop_connect])
def test_what_is_no_model_or_no_parameters_is_refused(call: Any):
    with pytest.raises(ParameterError, match=r"model must be a torch.nn.Module, got int|by name.*, got int"):
        call(3)
