"""A tensor of zeros, as LoRA starts its second matrix, is not pruned by the order in which its weights lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense import Phase, Schedule
from redense.errors import ScoreError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


def network() -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Net()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (model(torch.ones(2, 8)) - 1).square().sum().backward()
    optimizer.step()


SAID = r"'b.weight' is all zeros: nothing tells which of its 32 weights phase 'sparse' is to prune; train it before"


@pytest.mark.parametrize("how", [{"sparsity": 0.3}, {"pattern": (2, 4)}, {"sparsity": {"b": 0.1, "a": 0.1}}])
def test_a_tensor_of_zeros_is_refused_by_name(how: dict[str, Any]):
    model, optimizer = network()
    with pytest.raises(ScoreError, match=SAID), redense.sparse(model, optimizer, **how):
        pass
    assert model.a.weight.count_nonzero() == 64  # nothing was pruned


def test_saliency_of_zeros_is_refused_too():
    model, optimizer = network()
    model(torch.ones(2, 8)).sum().backward()
    block = redense.sparse(model, optimizer, sparsity=0.3, criterion="saliency", include="b")
    with pytest.raises(ScoreError, match=SAID), block:
        pass


def test_saliency_of_gradients_that_were_cleared_is_refused_by_name():
    model, optimizer = network()
    nn.init.ones_(model.b.weight)
    model(torch.ones(2, 8)).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    said = r"saliency of 'a.weight' is all zeros: .* let backward\(\) give gradients before, and no zero_grad\(\)"
    with pytest.raises(ScoreError, match=said), redense.sparse(model, optimizer, 0.3, criterion="saliency"):
        pass
    assert model.a.weight.count_nonzero() == 64


@pytest.mark.parametrize(
    "how",
    [
        {"sparsity": 0.5, "criterion": "random"},
        {"sparsity": 0.5, "exclude": ["b.weight"]},
        {"sparsity": {"a.weight": 0.5, "b.weight": 0.0}},
    ],
)
def test_where_its_weights_are_not_chosen_by_size_a_tensor_of_zeros_is_let_be(how: dict[str, Any]):
    model, optimizer = network()
    with redense.sparse(model, optimizer, **how) as block:
        step(model, optimizer)
        assert sum(int((~mask).sum()) for mask in block.masks.values()) in (32, 48)


def test_one_weight_that_is_not_zero_is_enough_and_ties_go_by_index():
    model, optimizer = network()
    with torch.no_grad():
        model.b.weight[3, 7] = 1e-30
    with redense.sparse(model, optimizer, sparsity=0.25) as block:
        assert (~block.masks["b.weight"]).flatten().nonzero().flatten().tolist() == list(range(8))
        step(model, optimizer)


def test_a_schedule_that_begins_dense_trains_it_first():
    model, optimizer = network()
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=2, sparse=2, redense=1, sparsity=0.5))
    for _ in range(3):
        step(model, optimizer)
    assert dsd.phase is not None
    assert dsd.phase.is_sparse
    assert int((model.b.weight == 0).sum()) == 16
    for _ in range(2):
        step(model, optimizer)


def test_a_mask_that_goes_on_decides_also_where_all_is_zero():
    model, optimizer = network()
    nn.init.ones_(model.b.weight)
    schedule = Schedule((Phase.sparse(1, 0.25, name="one"), Phase.sparse(1, 0.5, name="two")))
    dsd = redense.DSD(model, optimizer, schedule)
    nn.init.zeros_(model.b.weight)  # a layer that has died under the mask
    model.b.requires_grad_(False)
    step(model, optimizer)
    step(model, optimizer)
    assert dsd.phase is None


def test_the_summary_says_that_it_cannot_be_pruned_yet():
    model, _ = network()
    shown = {row.name: row.reason for row in redense.summary(model).rows}
    assert shown["b.weight"] == "linear, all zeros: not yet"
    assert shown["a.weight"] == "linear"
