"""Layers that compute their weight themselves: a mask is refused where its zeros would be lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import redense
from redense.errors import LeftDenseWarning, ParameterError
from redense.layers.probing import zeros_lost


class Standard(nn.Conv2d):
    """As mmcv's ConvWS2d, which the module itself keeps its last weight of."""

    used: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        rows = self.weight.flatten(1)
        rows = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-5)
        self.used = rows.view_as(self.weight)
        return self._conv_forward(input, self.used, self.bias)


class ByMethod(nn.ConvTranspose1d):
    def get_weight(self) -> Tensor:
        return self.weight - self.weight.mean()

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        return functional.conv_transpose1d(input, self.get_weight(), self.bias)


class Signs(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, torch.where(self.weight >= 0, 1.0, -1.0), self.bias)


class Adapted(nn.Linear):
    """What is added is zero at first, and the verdict is that of later."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.up, self.down = nn.Parameter(torch.zeros(outputs, 2)), nn.Parameter(torch.randn(2, inputs))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, self.weight + self.up @ self.down, self.bias)


class Shifted(nn.Linear):
    """As large as the weight, and so with the same values where it is given known ones."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.shift = nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, self.weight + self.shift, self.bias)


class AdaptedInside(nn.Linear):
    """What is added is zero at first, and kept in layers of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.up, self.down = nn.Linear(2, outputs, bias=False), nn.Linear(inputs, 2, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, self.weight + self.up.weight @ self.down.weight, self.bias)


class Symmetric(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, (self.weight + self.weight.t()) / 2, self.bias)


class Difference(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.old = nn.Parameter(torch.zeros(outputs, inputs))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, self.weight - self.old, self.bias)


class InParts(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        parts = (functional.linear(input, part - part.mean()) for part in self.weight.chunk(2))
        return torch.cat(list(parts), -1)


class Quantised(nn.Linear):
    """In learned steps (LSQ, Esser et al., ICLR 2020)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.step = nn.Parameter(torch.tensor(0.05))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, (self.weight / self.step).round() * self.step, self.bias)


class Scaled(nn.Conv2d):
    """An equalised learning rate; then what mixes the outputs, and draws."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        found = functional.conv2d(input, self.weight * 0.1, self.bias, padding=1)
        return functional.dropout(found, 0.5).softmax(1)


class NormedByHand(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        centred = functional.layer_norm(input, input.shape[-1:])
        return functional.linear(centred, self.weight / self.weight.norm(dim=1, keepdim=True), self.bias)


class TwoMatrices(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.other = nn.Linear(inputs, outputs)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, self.weight) + self.other(input)


class Styled(nn.Linear):
    def forward(self, input: Tensor, style: Tensor) -> Tensor:  # noqa: A002  # pyright: ignore[reportIncompatibleMethodOverride]
        return functional.linear(input, self.weight * style)


SENT = list[Tensor]()


@torch.library.custom_op("redense_tests::send", mutates_args=())
def send(message: Tensor) -> Tensor:
    """A kernel of another library, which might wait for other ranks."""
    SENT.append(message)
    return message.clone()


class Sent(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(send(input), self.weight - self.weight.mean())


@pytest.mark.parametrize(
    "layer",
    [
        Standard(8, 12, 3),
        Standard(8, 8, 3, groups=4),
        ByMethod(8, 4, 3),
        Signs(8, 8),
        Adapted(8, 8),
        AdaptedInside(8, 8),
        Shifted(8, 8),
        Symmetric(8, 8),
        Symmetric(64, 64),
        Difference(8, 8),
        InParts(16, 16),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_weight_whose_zeros_the_layer_undoes_is_named_and_refused(layer: nn.Module):
    assert zeros_lost(layer)
    model = nn.Sequential(nn.Linear(4, getattr(layer, "in_features", 8)), layer)
    name, reason = type(layer).__name__, {row.name: row.reason for row in redense.summary(model).rows}["1.weight"]
    assert reason == f"a weight is computed from it by {name}, which undoes zeros"
    with pytest.raises(ParameterError, match="a mask on it would not hold"):
        redense.prunable(model, include="1.weight")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5)
    with pytest.warns(LeftDenseWarning, match=f"computed from it by {name}"):
        redense.DSD(model, optimizer, schedule).close()


@pytest.mark.parametrize(
    "layer",
    [
        Scaled(16, 8, 3),
        NormedByHand(8, 8),
        Quantised(8, 8),
        TwoMatrices(8, 8),
        Styled(8, 8),
        Sent(8, 8),
        nn.Linear(8, 8),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_whose_zeros_stay_or_that_nothing_is_known_of_is_pruned(layer: nn.Module, dtype: torch.dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), layer).to(dtype)
    random = torch.get_rng_state()
    assert not zeros_lost(layer)
    assert not SENT
    assert torch.equal(torch.get_rng_state(), random)
    assert "1.weight" in redense.prunable(model)


def test_a_layer_is_as_before_when_it_has_been_asked():
    layer: Any = Standard(8, 4, 3)
    layer(torch.randn(1, 8, 3, 3))
    layer.register_buffer("calls", torch.zeros(()))
    layer.register_forward_pre_hook(lambda *_: pytest.fail("a hook was called"))
    used, parameters = layer.used, dict(layer.named_parameters())
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    assert zeros_lost(layer)
    assert layer.used is used
    assert layer.training
    assert all(layer.get_parameter(name) is parameter for name, parameter in parameters.items())
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())


def test_weights_without_values_are_not_asked():
    with torch.device("meta"):
        layer = Standard(8, 4, 3)
    assert not zeros_lost(layer)
    assert zeros_lost(layer.to_empty(device="cpu"))
