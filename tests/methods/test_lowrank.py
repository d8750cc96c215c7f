"""Low rank: exact where it can be, and replaced only where that saves weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.lab.checkpoint import load_tree, save_tree
from redense.methods.base import Context, make_method

from ..trainings import Tiny, same_tree
from .cases import CASES, Case, engine_of, named, train_all, weights_of

# --- low rank -------------------------------------------------------------------------------------------------------


def linear_of(values: list[float], inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with these singular values."""
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(outputs, len(values), dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(inputs, len(values), dtype=torch.float64))
    linear = nn.Linear(inputs, outputs)
    with torch.no_grad():
        linear.weight.copy_(u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T)
    return linear


def product(model: nn.Module) -> Tensor:
    return (model.get_parameter("fc.up.weight") @ model.get_parameter("fc.down.weight")).detach()


@pytest.mark.parametrize("options", [{"rank": 3}, {"energy": 0.9999}, {"ranks": {"fc": 3}, "rank": 1}])
def test_a_matrix_of_low_rank_is_reproduced_exactly_with_t_times_n_plus_k_weights(options: dict[str, Any]):
    linear = linear_of([5.0, 3.0, 1.0], inputs=20, outputs=12)
    x, weight, bias = torch.randn(6, 20), linear.weight.detach().clone(), linear.bias.detach().clone()
    model, made = make_method("lowrank", options, 0).reshape(Context(linear), named(linear))
    assert made == {"fc": 3}
    torch.testing.assert_close(product(model), weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(x), F.linear(x, weight, bias), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) == 3 * (20 + 12) + 12


# The energies of 5, 3 and 1 are 25, 34 and 35 of 35.
@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.71, 1), (0.72, 2), (0.97, 2), (0.98, 3)])
def test_the_rank_is_the_smallest_that_keeps_the_energy(energy: float, rank: int):
    linear = linear_of([5.0, 3.0, 1.0], inputs=20, outputs=12)
    weight = linear.weight.detach().clone()
    model, made = make_method("lowrank", {"energy": energy}, 0).reshape(Context(linear), named(linear))
    assert made == {"fc": rank}
    lost = float((weight - product(model)).square().sum())
    assert lost == pytest.approx(sum([25.0, 9.0, 1.0][rank:]), abs=1e-3)  # Eckart and Young: the best of this rank


def test_a_layer_is_only_replaced_where_that_saves_weights():
    linear = linear_of([5.0, 3.0, 1.0], inputs=20, outputs=12)
    _, made = make_method("lowrank", {"rank": 8}, 0).reshape(
        Context(linear), named(linear)
    )  # 8 * 32 > 20 * 12 > 7 * 32
    assert made is None
    assert make_method("lowrank", {"rank": 7}, 0).reshape(Context(linear), named(linear))[1] == {"fc": 7}


def test_what_was_made_is_made_again_from_a_fresh_model(tiny: Tiny, tmp_path: Path):
    case = CASES["lowrank, energy"]
    first = engine_of(tiny(), case)
    first.train()
    first.train()
    second = engine_of(tiny(), case)
    save_tree(tmp_path / "first.safetensors", first.snapshot())
    second.restore(load_tree(tmp_path / "first.safetensors"))
    assert same_tree(weights_of(first), weights_of(second))
    assert same_tree(first.outcome("test"), second.outcome("test"))
    train_all(first)
    train_all(second)
    assert same_tree(weights_of(first), weights_of(second))


def test_a_low_rank_that_saves_nothing_changes_nothing(tiny: Tiny):
    """Not even the optimizer: it would start anew for no reason."""
    case = Case("lowrank", {"rank": 100})
    engine, plain = engine_of(tiny(), case), engine_of(tiny(), Case(None))
    train_all(engine)
    train_all(plain)
    assert same_tree(weights_of(engine), weights_of(plain))
