"""Networks for image classification: which one a recipe names, and the small ones of our own recipes.

The large ones are torchvision's and timm's, see `networks`. Those here are small: two plain networks, and
the paper's families at the size of small images, made of torchvision's own blocks.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from redense.errors import RecipeError
from redense.plugins import Registry

from . import networks
from .config import ImageModel
from .vision import torchvision

_DROPOUT = 0.5
# name -> number of blocks in each of its three stages (He et al. 2016, section 4.2: depth 6n + 2)
_CIFAR_RESNETS = {f"resnet{6 * n + 2}": n for n in (3, 5, 7, 9, 18)}

# name -> number of layers in each of its three blocks (Huang et al. 2017, DenseNet-BC of growth 12: depth 6n + 4)
_DENSENETS = {f"densenet{6 * n + 4}": n for n in (6, 16)}
_GROWTH = 12

SMALL = ("cnn", "mlp", "vgg-small", "squeezenet-small", *_CIFAR_RESNETS, *_DENSENETS)
"""The networks that are built here."""
PLAIN = ("cnn", "mlp")
"""Those of them that take nothing of torchvision's."""


def build(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the network that a recipe names, for images of ``shape`` (channels, height, width).

    Without a word on batch normalisation it is the network's own.

    Raises:
        RecipeError: no network is called so, it has no such setting, or it cannot take images of this size.
        MissingExtraError: it is torchvision's or timm's, which is not installed.
    """
    if config.transform_input and config.name not in networks.TRANSFORM_INPUT:
        raise RecipeError(f"model.transform_input is for {' and '.join(networks.TRANSFORM_INPUT)}, not {config.name}")
    if config.name in NETWORKS:
        network = NETWORKS[config.name](config, shape, classes)
    elif config.widths is not None:
        raise RecipeError(f"model.widths is for {', '.join(SMALL)}; {config.name} has its own")
    else:
        network = networks.build(config, shape, classes, known=tuple(NETWORKS))
    return network if config.batch_norm is None else _normalised(network, config)


Build = Callable[[ImageModel, tuple[int, int, int], int], nn.Module]
"""``(config, (channels, height, width), classes) -> network``; the network's answer is (b, classes)."""

NETWORKS: Registry[Build] = Registry("network", RecipeError)


def network(name: str) -> Callable[[Build], Build]:
    """Register a network, so that ``model.name`` of a recipe can be its name.

    Raises:
        RecipeError: the name is taken, or no recipe could give it.
    """

    def register(make: Build) -> Build:
        return NETWORKS.register(name, make)

    return register


@network("mlp")
def _mlp(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Fully-connected layers with ReLU and dropout. (b, c, h, w) -> (b, classes)."""
    widths = config.widths or (512, 512)
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for i, (before, after) in enumerate(itertools.pairwise((math.prod(shape), *widths)), start=1):
        layers += [
            (f"fc{i}", nn.Linear(before, after)),
            (f"relu{i}", nn.ReLU()),
            (f"dropout{i}", _dropout(config)),
        ]
    layers.append((f"fc{len(widths) + 1}", nn.Linear(widths[-1], classes)))
    return nn.Sequential(OrderedDict(layers))


@network("cnn")
def _cnn(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """3x3 convolutions with ReLU, each max-pooled by 2; dropout; one linear layer. (b, c, h, w) -> (b, classes).

    Pooled before the ReLU: the same values and gradients to the bit, and a quarter of the numbers to rectify.
    """
    widths, features = _halving(config, shape, (32, 64, 128))
    layers: list[tuple[str, nn.Module]] = []
    for i, (before, after) in enumerate(itertools.pairwise((shape[0], *widths)), start=1):
        layers += [
            (f"conv{i}", nn.Conv2d(before, after, 3, padding=1)),
            (f"pool{i}", nn.MaxPool2d(2)),
            (f"relu{i}", nn.ReLU()),
        ]
    layers += [("flatten", nn.Flatten()), ("dropout", _dropout(config)), ("fc", nn.Linear(features, classes))]
    return nn.Sequential(OrderedDict(layers))


@network("vgg-small")
def _vgg(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """VGG for small images: two 3x3 convolutions of each width, pooled by 2; two fully-connected layers.

    The layers are torchvision's (Simonyan and Zisserman 2015). (b, c, h, w) -> (b, classes).
    """
    widths, inputs = _halving(config, shape, (32, 64, 128))
    make_layers = torchvision().models.vgg.make_layers
    features = make_layers([item for width in widths for item in (width, width, "M")])
    if shape[0] != 3:
        networks.replace_first_convolution(features, shape[0])
    _initialise(features, "fan_out")
    hidden = 2 * widths[-1]
    return nn.Sequential(
        OrderedDict(
            features=features,
            flatten=nn.Flatten(),
            fc1=nn.Linear(inputs, hidden),
            relu=nn.ReLU(),
            dropout=_dropout(config),
            fc2=nn.Linear(hidden, classes),
        )
    )


@network("squeezenet-small")
def _squeezenet(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """SqueezeNet for small images: a 3x3 convolution, then two Fire modules of each width, pooled by 2.

    The Fire modules are torchvision's, at the paper's squeeze ratio of 1/8, half of the outputs 1x1 and half 3x3
    (Iandola et al. 2016). (b, c, h, w) -> (b, classes).
    """
    widths, _ = _halving(config, shape, (32, 64, 96))
    fire = torchvision().models.squeezenet.Fire
    layers: list[tuple[str, nn.Module]] = [
        ("conv1", nn.Conv2d(shape[0], widths[0], 3, padding=1)),
        ("relu1", nn.ReLU()),
        ("pool1", nn.MaxPool2d(2)),
    ]
    before = widths[0]
    for stage, width in enumerate(widths, start=1):
        squeezed = max(1, width // 4)
        for i in (1, 2):
            layers.append((f"fire{stage}_{i}", fire(before, squeezed, width, width)))
            before = 2 * width
        if stage < len(widths):
            layers.append((f"pool{stage + 1}", nn.MaxPool2d(2)))
    classifier = nn.Conv2d(before, classes, 1)
    layers += [
        ("dropout", _dropout(config)),
        ("classifier", classifier),
        ("average", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
    ]
    network = nn.Sequential(OrderedDict(layers))
    _initialise(network, "fan_in")
    nn.init.normal_(classifier.weight, std=0.01)
    return network


def _cifar_resnet(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    if config.dropout is not None:
        raise RecipeError(f"model.dropout: {config.name} has no dropout layer")
    if config.widths is not None and len(config.widths) != 3:
        raise RecipeError(f"model.widths of {config.name} are those of its 3 stages, got {len(config.widths)}")
    return CifarResNet(shape[0], config.widths or (16, 32, 64), _CIFAR_RESNETS[config.name], classes)


def _densenet(config: ImageModel, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """DenseNet-BC for small images (Huang et al. 2017, section 4.2): three blocks, of growth 12, halved between them.

    Torchvision's, with the paper's first layer for 32 x 32 images: a 3x3 convolution of 24 channels, and no pooling.
    DenseNet-BC-100 has 0.77 M weights for ten classes. (b, c, h, w) -> (b, classes).
    """
    if config.widths is not None:
        raise RecipeError(f"model.widths: the layers of {config.name} all have {_GROWTH} channels")
    if config.dropout is not None:
        raise RecipeError(f"model.dropout: {config.name} has no dropout layer")
    if min(shape[1:]) < 4:
        raise RecipeError(f"{config.name} halves images twice, and these are {shape[1]} x {shape[2]} pixels")
    layers = (_DENSENETS[config.name],) * 3
    network = torchvision().models.DenseNet(_GROWTH, layers, num_init_features=2 * _GROWTH, num_classes=classes)
    first = nn.Conv2d(shape[0], 2 * _GROWTH, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(first.weight)
    network.features.conv0 = first
    for name in ("norm0", "relu0", "pool0"):  # each layer begins with its own normalisation
        setattr(network.features, name, nn.Identity())
    return network


for _name in _CIFAR_RESNETS:
    NETWORKS.register(_name, _cifar_resnet)
for _name in _DENSENETS:
    NETWORKS.register(_name, _densenet)


class CifarResNet(nn.Module):
    """The ResNet for 32 x 32 images of He et al. 2016, section 4.2, of torchvision's blocks.

    Three stages of ``blocks`` blocks; shortcuts without parameters (option A: every second pixel, zeros for the new
    channels). ResNet-20 with widths 16, 32, 64 has 0.27 M parameters. (b, channels, h, w) -> (b, classes).
    """

    def __init__(self, channels: int, widths: Sequence[int], blocks: int, classes: int) -> None:
        super().__init__()
        block = torchvision().models.resnet.BasicBlock
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        before = widths[0]
        for stage, width in enumerate(widths, start=1):
            layers: list[nn.Module] = []
            for i in range(blocks):
                stride = 2 if stage > 1 and i == 0 else 1
                shortcut = Shortcut(before, width, stride) if stride > 1 or before != width else None
                layers.append(block(before, width, stride, shortcut))
                before = width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.fc = nn.Linear(before, classes)
        _initialise(self, "fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits: (b, c, h, w) -> (b, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(stage)(x)
        return self.fc(x.mean((2, 3)))


class Shortcut(nn.Module):
    """The identity over a change of size: every ``stride``-th pixel, zeros for the channels that are new."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.new, self.stride = after - before, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return (b, after, h / stride, w / stride) of (b, before, h, w)."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


def _normalised(network: nn.Module, config: ImageModel) -> nn.Module:
    """Return a network with batch normalisation after its hidden layers, or without any."""
    found = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)]
    if not config.batch_norm:
        for name in found:
            network.set_submodule(name, nn.Identity())
        return network
    if found:
        return network
    if config.name not in PLAIN or not isinstance(network, nn.Sequential):
        raise RecipeError(f"model.batch_norm: true is for {' and '.join(PLAIN)}, not {config.name}")
    layers: list[tuple[str, nn.Module]] = []
    *_, last = (name for name, module in network.named_children() if isinstance(module, nn.Linear))
    for name, module in network.named_children():
        layers.append((name, module))
        if isinstance(module, nn.Conv2d):
            layers.append((f"norm{name.removeprefix('conv')}", nn.BatchNorm2d(module.out_channels)))
        elif isinstance(module, nn.Linear) and name != last:
            layers.append((f"norm{name.removeprefix('fc')}", nn.BatchNorm1d(module.out_features)))
    return nn.Sequential(OrderedDict(layers))


def _halving(config: ImageModel, shape: tuple[int, int, int], usual: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Return the widths of a network each of which halves the image, and the numbers that are left of one."""
    widths = config.widths or usual
    if min(shape[1:]) < 2 ** len(widths):
        raise RecipeError(
            f"model.widths has {len(widths)} convolutions, each halving the image, "
            f"but the images are {shape[1]} x {shape[2]} pixels: give fewer widths"
        )
    return widths, widths[-1] * (shape[1] >> len(widths)) * (shape[2] >> len(widths))


def _dropout(config: ImageModel) -> nn.Dropout:
    return nn.Dropout(_DROPOUT if config.dropout is None else config.dropout)


def _initialise(network: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
