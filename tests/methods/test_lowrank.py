"""Low rank: exact where it can be, and replaced only where that saves weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.errors import RedenseError
from redense.lab.checkpoint import load_tree, save_tree
from redense.methods.base import Context, make_method
from redense.methods.lowrank import factorise_

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


def test_a_matrix_in_double_precision_is_factorised_in_it():
    linear = nn.Linear(20, 12, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.outer(torch.linspace(-1, 1, 12).double(), torch.linspace(1, 2, 20).double()))
    weight = linear.weight.detach().clone()
    model, _ = make_method("lowrank", {"rank": 1}, 0).reshape(Context(linear), named(linear))
    assert float((product(model) - weight).abs().max()) < 1e-14


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


def test_what_shares_its_weight_is_left_and_what_is_frozen_stays_so():
    shared, tied, own = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 20)
    embedding = nn.Embedding(20, 20)
    tied.weight = embedding.weight
    own.weight.requires_grad_(False)
    model = nn.Sequential(embedding, shared, shared, tied, own).eval()
    count = sum(p.numel() for p in model.parameters())
    assert factorise_(model, rank=2) == {"4": 2}
    assert sum(p.numel() for p in model.parameters()) == count - 400 + 2 * 40
    assert [p.requires_grad for p in model[4].parameters()] == [False, False, True]
    assert not any(module.training for module in model.modules())


@pytest.mark.filterwarnings("ignore::UserWarning")  # nested tensors
def test_a_transformer_of_low_rank_gives_the_same_in_eval_mode():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 1)
    assert len(factorise_(model, rank=2)) == 2
    x = torch.randn(2, 3, 16)
    trained = model(x)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 0}, "a rank must be a whole number of at least 1, got 0"),
        ({"rank": 1.5}, "got 1.5"),
        ({"ranks": {"0": -1}}, "got -1"),
        ({"ranks": {"00": 1}}, "ranks has '00', which is no fully-connected layer .*; did you mean '0'"),
        ({"ranks": 3}, "ranks maps names of layers to ranks, got 3"),
        ({"energy": "most"}, r"energy of the low rank must be in \(0, 1\], got 'most'"),
        ({}, r"'0\.weight' has NaN or infinite weights"),
    ],
)
def test_a_rank_that_cannot_be_is_refused(options: dict[str, Any], says: str):
    model = nn.Sequential(nn.Linear(8, 8))
    torch.nn.init.constant_(model.get_parameter("0.weight"), torch.nan)
    with pytest.raises(RedenseError, match=says):
        factorise_(model, **options)


def test_sharded_weights_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("redense.methods.lowrank.is_sharded", lambda parameter: True)
    with pytest.raises(RedenseError, match="factorise_ needs whole weights"):
        factorise_(nn.Sequential(nn.Linear(8, 8)), rank=1)


def test_weights_that_are_not_there_and_a_wrapper_that_would_not_know_the_new_ones_are_refused():
    with pytest.raises(RedenseError, match=r"'0\.weight' is on the meta device"):
        factorise_(nn.Sequential(nn.Linear(8, 8, device="meta")), rank=1)
    wrapper = type("DistributedDataParallel", (nn.Sequential,), {})  # PyTorch's own wants a process group
    with pytest.raises(RedenseError, match="parameters that DDP around the model would not share"):
        factorise_(wrapper(nn.Linear(8, 8)), rank=1)
