"""A traced forward: constants, kernels that are given several layers' weights, and parameters of one memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from redense.parameters import first_layers

WIDTH, LONG = 16, 5
BATCH = torch.randn(2, LONG, WIDTH)


class Net(nn.Module):
    """A first layer of two linear ones, an embedding of positions, and a forward that a test gives."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.positions, self.last = nn.Embedding(9, WIDTH), nn.Linear(WIDTH, 4)
        self.pair = nn.Bilinear(WIDTH, WIDTH, WIDTH)
        self._how = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self._how(self, x))


def into_zeros(net: Net, x: Tensor) -> Tensor:
    padded = torch.zeros(2, LONG + 2, WIDTH)
    padded[:, 1:-1] = x
    return net.first(padded)


def onto_itself(net: Net, x: Tensor) -> Tensor:
    x = x.clone()
    x += net.first(x)
    return net.second(x)


def own_recurrence(net: Net, x: Tensor) -> Tensor:
    state = x.new_zeros(2, WIDTH)
    for step in x.unbind(1):
        state = (net.first(step) + net.second(state)).tanh()
    return state


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda net, x: net.first((x - torch.tensor([0.5] * WIDTH)) / torch.tensor(2.0)), ["first"]),
        (lambda net, x: net.first(x + torch.sin(torch.arange(5.0))[:, None]), ["first"]),
        (lambda net, x: net.first(x + net.positions(torch.arange(LONG))), ["first"]),
        (lambda net, x: net.first(torch.cat([x, torch.zeros(2, 3, WIDTH)], 1)), ["first"]),
        (lambda net, x: net.first(x.masked_fill(torch.ones(LONG, 1) > 2, 0)), ["first"]),
        (lambda net, x: net.first(x + torch.randn(x.shape)), ["first"]),
        (lambda net, x: functional.linear(x, net.first.weight * torch.ones(WIDTH, WIDTH).tril()), ["first"]),
        (lambda net, x: net.first(x) + net.second(x * torch.linspace(0, 1, WIDTH)), ["first", "second"]),
        (lambda net, x: net.first(x) + net.second(torch.zeros_like(x)), ["first"]),
        (lambda net, x: torch.sparse.mm(torch.eye(LONG).to_sparse(), net.first(x[0])), ["first"]),
        (lambda net, x: net.pair(x, x), ["pair"]),
        (into_zeros, ["first"]),
        (onto_itself, ["first"]),
        (own_recurrence, ["first"]),
    ],
)
def test_a_constant_is_neither_input_nor_computed(forward: Callable[[Net, Tensor], Tensor], names: list[str]):
    assert list(first_layers(Net(forward), BATCH)) == [f"{name}.weight" for name in names]


@pytest.mark.parametrize("batch_first", [True, False])
def test_of_a_transformer_only_the_first_projection_reads_the_input(batch_first: bool):
    settings: Any = {"dim_feedforward": 32, "batch_first": batch_first}
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 4, **settings), 2, enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, 4, **settings), 1)
    attention = nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first)
    fused = torch.backends.mha.get_fastpath_enabled()
    assert list(first_layers(encoder, BATCH)) == ["layers.0.self_attn.in_proj_weight"]
    assert list(first_layers(attention, (BATCH, BATCH, BATCH))) == ["in_proj_weight"]
    assert list(first_layers(decoder, (BATCH, BATCH))) == [
        "layers.0.self_attn.in_proj_weight",
        "layers.0.multihead_attn.in_proj_weight",
    ]
    assert torch.backends.mha.get_fastpath_enabled() == fused


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 4)), ["0.weight"]),
        (nn.LSTM(WIDTH, 8, 2), ["weight_ih_l0"]),
    ],
    ids=["linear", "lstm"],
)
def test_parameters_that_share_one_memory_are_told_apart_by_their_places(model: nn.Module, names: list[str]):
    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    nn.utils.vector_to_parameters(flat, model.parameters())
    assert list(first_layers(model, BATCH)) == names
