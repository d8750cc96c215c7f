"""Which layers read the input: as their shapes tell, and as a traced forward shows."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import redense
from redense.errors import ParameterError
from redense.parameters import first_layers


class HeadFirst(nn.Module):
    """The head is registered before the stem."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 2, 1)
        self.stem = nn.Conv2d(channels, 8, 3)
        self.middle = nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stem(x).relu()).relu())


class TwoStems(nn.Module):
    """A colour and a depth image; the head gives as many channels as the second stem reads."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.depth = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3)
        self.head = nn.Conv2d(16, 1, 3)

    def forward(self, colour: Tensor, depth: Tensor) -> Tensor:
        return self.head(torch.cat([self.colour(colour), self.depth(depth)], 1))


class Patches(nn.Module):
    """A vision transformer that cuts patches by unfolding and embeds them with a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.block = nn.Linear(8, 8)
        self.to_patch_embedding = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 8))
        self.patch_merging = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        patches = functional.unfold((x / 255) * self.scale, 4, stride=4).transpose(1, 2)
        return self.patch_merging(self.block(self.to_patch_embedding(patches)))


class Excited(nn.Module):
    """A stem; squeeze and excitation, channel attention and a fire module, which have few channels inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.squeeze = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.attention = nn.Conv1d(1, 1, 3, padding=1)
        self.fire = nn.ModuleList(nn.Sequential(nn.Conv2d(*channels, 1)) for channels in ((16, 4), (4, 8), (4, 8)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * self.squeeze(x.mean((2, 3), keepdim=True)).sigmoid()
        x = x * self.attention(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        squeeze, *expand = self.fire
        return torch.cat([part(squeeze(x)) for part in expand], 1)


class Ghost(nn.Module):
    """Two blocks of RepGhostNet: the second reads the four channels of the first, which is no brother of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(*(self.block(*channels) for channels in ((16, 4), (4, 8))))

    @staticmethod
    def block(before: int, after: int) -> nn.Module:
        parts = {"primary": nn.Sequential(nn.Conv2d(before, after, 1), nn.ReLU())}
        return nn.Sequential(
            OrderedDict(parts, cheap=nn.Sequential(nn.Conv2d(after, after, 3, padding=1, groups=after)))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x))


class Speech(nn.Module):
    """An encoder of spectrograms: 80 channels, which nothing else gives; its depthwise convolution reads no input."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(32, 32, 3, groups=32, padding=1)
        self.conv1, self.conv2 = nn.Conv1d(80, 32, 3), nn.Conv1d(32, 32, 3)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.conv2(self.conv1(x))).transpose(1, 2))


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.ConvTranspose2d(100, 16, 4), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4))
        self.discriminator = nn.Sequential(nn.Conv2d(3, 16, 4), nn.ReLU(), nn.Conv2d(16, 1, 3))

    def forward(self, noise: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator(self.generator(noise)), self.discriminator(image)


IMAGE = torch.randn(1, 3, 12, 12)
NETWORKS: list[tuple[nn.Module, Any, list[str]]] = [
    (HeadFirst(), IMAGE, ["stem.weight"]),
    (HeadFirst(channels=13), torch.randn(1, 13, 12, 12), ["stem.weight"]),
    (TwoStems(), {"colour": IMAGE, "depth": torch.randn(1, 1, 12, 12)}, ["colour.weight", "depth.weight"]),
    (Patches(), IMAGE, ["to_patch_embedding.1.weight"]),
    (Excited(), IMAGE, ["stem.weight"]),
    (Ghost(), IMAGE, ["stem.weight"]),
    (Speech(), torch.randn(1, 80, 9), ["conv1.weight"]),
    (Gan(), (torch.randn(1, 100, 1, 1), IMAGE), ["generator.0.weight", "discriminator.0.weight"]),
    (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4)), torch.ones(1, 2, dtype=torch.int64), []),
    (nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3)), torch.randn(1, 1, 6, 6, 6), ["0.weight"]),
]


@pytest.mark.parametrize(("model", "inputs", "names"), NETWORKS, ids=lambda value: type(value).__name__)
def test_what_reads_the_input_is_found_by_shapes_and_by_a_traced_forward(
    model: nn.Module, inputs: Any, names: list[str]
):
    assert list(first_layers(model)) == names
    assert list(first_layers(model, inputs)) == names
    for chosen in (redense.prunable(model), redense.prunable(model, inputs=inputs)):
        assert not set(chosen) & set(names)


@pytest.mark.parametrize(
    ("name", "layer", "reads"),
    [
        ("patch", nn.Linear(48, 8), True),
        ("to_patches", nn.Linear(16, 8), True),
        ("patch_merging", nn.Linear(48, 8), False),
        ("embed", nn.Linear(48, 8), True),
        ("embed", nn.Linear(8, 8), False),
        ("embed", nn.Linear(50, 8), False),
        ("fc", nn.Linear(48, 8), False),
    ],
)
def test_a_linear_patch_embedding_is_known_by_its_name(name: str, layer: nn.Linear, reads: bool):
    model = nn.ModuleDict({"block": nn.Linear(8, 8), name: layer})
    assert list(first_layers(model)) == ([f"{name}.weight"] if reads else [])


@pytest.mark.parametrize("layer", [nn.Linear(4, 8), nn.LSTM(4, 8), nn.GRUCell(4, 8)], ids=lambda m: type(m).__name__)
def test_linear_and_recurrent_layers_read_the_input_only_where_an_example_shows_it(layer: nn.Module):
    assert first_layers(layer) == {}
    found = first_layers(layer, torch.randn(3, 4))
    assert list(found) == [
        name for name, _ in layer.named_parameters() if name.startswith("weight") and "hh" not in name
    ]
    assert set(found.values()) == {"reads the input, as a traced forward shows"}


def test_a_trace_leaves_the_model_and_the_random_numbers_as_they_were():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 4, 3))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    assert list(first_layers(model, IMAGE)) == ["0.weight"]
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (torch.randn(1, 5, 12, 12), "the model fails on the inputs that are given: RuntimeError"),
        ("image", "inputs must be what the model is called with, a tensor, a tuple or a mapping; got str"),
        ({}, "inputs must be what the model is called with"),
    ],
)
def test_inputs_that_the_model_cannot_read_are_refused(inputs: Any, says: str):
    with pytest.raises(ParameterError, match=says):
        redense.prunable(HeadFirst(), inputs=inputs)


def test_a_forward_is_traced_where_autocast_has_cast_the_weights_before():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.ones(2, 4))
        assert list(redense.prunable(model, inputs=torch.ones(2, 4))) == ["1.weight"]


def test_a_block_and_a_schedule_leave_what_reads_the_example_dense():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5, inputs=torch.randn(2, 4)) as block:
        assert list(block.masks) == ["2.weight"]
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5)
    dsd = redense.DSD(model, optimizer, schedule, inputs=torch.randn(2, 4))
    assert {row.name: row.reason for row in dsd.summary().rows}[
        "0.weight"
    ] == "reads the input, as a traced forward shows"
