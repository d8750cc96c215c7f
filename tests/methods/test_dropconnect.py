"""DropConnect: what is dropped, scaled and left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import RedenseError
from redense.methods.base import Context
from redense.methods.dropconnect import DropConnect, drop_connect

from .cases import Pairs

# --- DropConnect ----------------------------------------------------------------------------------------------------


def dropped_once(model: nn.Module, rate: float) -> Tensor:
    """The weights of the one linear layer of ``model`` as a training pass sees them: (in, out)."""
    size = next(model.parameters()).shape[1]
    seen: list[Tensor] = []

    class Looking(Pairs):
        @override
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            seen.append(model(torch.eye(size)).detach())
            return seen[-1].sum()

    DropConnect({"rate": rate}, 0).loss(Context(model, task=Looking()), model, None)
    return seen[0]


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropconnect_drops_about_the_rate_and_scales_what_is_left(rate: float):
    torch.manual_seed(0)
    model = nn.Linear(200, 200, bias=False)
    weight = model.weight.detach().T.clone()
    first, second = dropped_once(model, rate), dropped_once(model, rate)
    assert float((first == 0).float().mean()) == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / 40_000))
    kept = first != 0
    torch.testing.assert_close(first[kept], weight[kept] / (1 - rate))
    assert not torch.equal(first == 0, second == 0)
    assert torch.equal(model.weight.T, weight)
    assert torch.equal(model(torch.eye(200)), weight)  # called as usual, it is as it was


def test_dropconnect_leaves_biases_and_convolutions_alone_and_dropped_weights_get_no_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(18, 50))
    x = torch.randn(3, 1, 4, 4)
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    plain = model(x)

    class Sum(Pairs):
        @override
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return model(batch[0]).sum()

    loss = DropConnect({"rate": 0.5}, 0).loss(Context(model, task=Sum()), model, (x,))
    loss.backward()
    assert torch.equal(seen[0], seen[1])
    gradient = model.get_parameter("2.weight").grad
    assert gradient is not None
    assert 0.4 < float((gradient == 0).float().mean()) < 0.6
    bias = model.get_parameter("2.bias").grad
    assert bias is not None
    assert torch.equal(bias, torch.full((50,), 3.0))
    assert not torch.equal(loss.detach(), plain.sum())


def test_layers_that_share_a_weight_drop_their_own_and_an_embedding_none():
    torch.manual_seed(0)
    embedding, one, two = nn.Embedding(40, 40), nn.Linear(40, 40, bias=False), nn.Linear(40, 40, bias=False)
    one.weight = two.weight = embedding.weight
    model = nn.Sequential(embedding, one, two)
    seen: list[Tensor] = []

    def look(part: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output)

    for part in model:
        part.register_forward_hook(look)
    drop_connect(model, rate=0.5)(torch.arange(40))
    assert torch.equal(seen[0], embedding.weight)
    assert not torch.equal(seen[1], one(seen[0]))
    assert not torch.equal(seen[2], two(seen[1]))


def test_the_wrapper_by_which_ranks_share_gradients_is_called_too():
    class DistributedDataParallel(nn.Module):  # PyTorch's own wants a process group
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.calls = module, 0

        @override
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.module(x)

    model = nn.Linear(4, 4)
    wrapped = DistributedDataParallel(model)
    torch.manual_seed(0)
    answers = drop_connect(wrapped, 0.5)(torch.ones(2, 4))
    torch.manual_seed(0)
    assert torch.equal(answers, drop_connect(model, 0.5)(torch.ones(2, 4)))
    assert wrapped.calls == 1
    answers.sum().backward()
    assert model.weight.grad is not None


@pytest.mark.parametrize(
    ("model", "rate", "says"),
    [
        (nn.Linear(2, 2), 1.0, r"rate of drop_connect must be in \[0, 1\)"),
        (nn.Linear(2, 2), math.nan, r"rate of drop_connect must be in \[0, 1\)"),
        (nn.Sequential(nn.Conv1d(1, 2, 3)), 0.5, "fully-connected layers .* the model has none"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), 0.5, r"'0\.weight', which is computed"),
    ],
)
def test_what_cannot_be_dropped_is_refused(model: nn.Module, rate: float, says: str):
    with pytest.raises(RedenseError, match=says):
        drop_connect(model, rate)
    with pytest.raises(RedenseError, match=says):
        DropConnect({"rate": rate}, 0).check(model, Pairs())
