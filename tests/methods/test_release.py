"""Where released weights start from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from redense.pruning import derive_seed

from ..trainings import Tiny
from .cases import CASES, Case, engine_of, weights_of

# --- release --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["value", "fresh"])
def test_released_weights_start_from_exactly_the_value_asked_for_and_kept_ones_stay(start: str, tiny: Tiny):
    recipe = tiny()
    engine, zero = (engine_of(recipe, case) for case in (CASES[f"release, {start}"], Case(None, sparse=True)))
    for each_engine in (engine, zero):
        each_engine.train()
    before = weights_of(engine)
    for each_engine in (engine, zero):
        each_engine.train()
    seed = derive_seed(recipe.seed, 1, "method")
    torch.manual_seed(seed)
    fresh = {"fc1.weight": nn.Linear(64, 8), "fc2.weight": nn.Linear(8, 4)}  # in the order of the model
    for name, module in fresh.items():
        mask = zero.model.get_parameter(name) != 0
        assert int((~mask).sum()) == round(0.3 * mask.numel())
        weight = engine.model.get_parameter(name).detach()
        assert torch.equal(weight[mask], zero.model.get_parameter(name).detach()[mask])
        expected = before[name] if start == "value" else module.weight.detach().to(weight.device)
        assert torch.equal(weight[~mask], expected[~mask])
        momentum = engine.optimizer.state[engine.model.get_parameter(name)]["momentum_buffer"]
        assert not momentum[~mask].any()
    assert torch.equal(engine.model.get_parameter("fc1.bias"), zero.model.get_parameter("fc1.bias"))
