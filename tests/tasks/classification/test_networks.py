"""The networks by name: torchvision's, timm's, and the small ones of torchvision's blocks."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from redense.errors import MissingExtraError, RecipeError
from redense.parameters import first_layers, prunable
from redense.tasks.classification import networks
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.models import SMALL, Shortcut, build
from redense.tasks.classification.networks import scale_of
from redense.tasks.classification.normalisation import IMAGENET
from redense.tasks.classification.sketch import SketchedClassification
from redense.tasks.classification.vision import torchvision

pytest.importorskip("torchvision")

OF_IMAGENET = (3, 224, 224)

# PAPER.md 2: AlexNet 61 M, GoogLeNet 13 M with its auxiliary heads, VGG-16 138 M, ResNet-50 25 M, ResNet-152 60 M,
# SqueezeNet 1.25 M; the others are torchvision's documented counts.
COUNTS = {
    "alexnet": 61_100_840,
    "googlenet": 13_004_888,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet152": 60_192_808,
    "squeezenet1_0": 1_248_424,
    "densenet121": 7_978_856,
}


def on_meta(name: str, shape: tuple[int, int, int] = OF_IMAGENET, classes: int = 1000) -> nn.Module:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(ImageModel(name=name), shape, classes)


DEEP = ("vgg16_bn", "resnet152", "densenet121")
"""To make them costs a second, and they have the layers of the others: asked by the slow tests."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else []) for name in COUNTS]
)
def test_the_papers_networks_have_the_papers_numbers_of_weights(name: str):
    network = on_meta(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == COUNTS[name]
    first = next(name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    assert list(first_layers(network)) == [f"{first}.weight"]
    assert f"{first}.weight" not in prunable_names(network)


@pytest.mark.parametrize(
    ("name", "weights"), [("densenet40", 176_122), pytest.param("densenet100", 769_162, marks=pytest.mark.slow)]
)
def test_a_small_densenet_has_the_papers_number_of_weights_and_halves_the_image_twice(name: str, weights: int):
    """Huang et al. 2017, table 2: DenseNet-BC of growth 12 and 100 layers has 0.8 M weights on CIFAR-10."""
    network = on_meta(name, (3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == weights
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == int(name.removeprefix("densenet"))  # and the linear layer
    assert network.get_submodule("features")(torch.empty(1, 3, 32, 32, device="meta")).shape[2:] == (8, 8)
    assert list(first_layers(network)) == ["features.conv0.weight"]
    with pytest.raises(RecipeError, match="the layers of densenet40 all have 12 channels"):
        build(ImageModel(name="densenet40", widths=(8,)), (3, 32, 32), 10)


def prunable_names(network: nn.Module) -> list[str]:
    # `prunable` needs storage; the rule is the same for a network without.
    from redense.parameters import summary

    return [row.name for row in summary(network).rows if row.prunable]


@pytest.mark.slow
def test_googlenet_has_57_convolutions_beside_its_auxiliary_heads_and_trains_through_them():
    network = on_meta("googlenet")
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    assert len([name for name in convolutions if not name.startswith("aux")]) == 57
    task = SketchedClassification(ImageData(), ImageModel(name="googlenet"), shape=(3, 64, 64), classes=5, examples=4)
    torch.manual_seed(0)
    model = task.build_model().train()
    batch = task.examples("train").__getitems__([0, 1, 2, 3])
    task.loss(model, batch).backward()
    for head in ("aux1", "aux2"):
        weight = model.get_parameter(f"{head}.fc2.weight")
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0
    assert task.outputs(model, batch).shape == (4, 5)
    assert task.outcome(model.eval(), batch)["answer"].shape == (4,)


def test_auxiliary_heads_count_three_tenths():
    logits, one, two = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    from torchvision.models.googlenet import GoogLeNetOutputs
    from torchvision.models.inception import InceptionOutputs

    outputs = GoogLeNetOutputs(logits, two, one)
    assert networks.split_heads(outputs) == (logits, [two, one], 0.3)
    assert networks.split_heads(InceptionOutputs(logits, one))[2] == 0.4
    assert networks.split_heads(logits) == (logits, [], 0.0)


def test_resnet20_is_that_of_he_et_al():
    network = build(ImageModel(name="resnet20"), (3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 269_722  # their 0.27 M
    weighted = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == 20
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros():
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    y = Shortcut(2, 6, 2)(x)
    assert y.shape == (1, 6, 2, 2)
    assert torch.equal(y[:, 2:4], x[:, :, ::2, ::2])
    assert not y[:, [0, 1, 4, 5]].any()


OTHERS = ("squeezenet1_1", "timm/resnet10t")
DEARER = (("resnet18", 1), ("resnet18", 3), ("mobilenet_v3_small", 1))


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        *((name, 1) for name in (*SMALL, *OTHERS)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in DEARER),
    ],
)
def test_networks_take_images_of_any_number_of_channels(name: str, channels: int):
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    network = build(ImageModel(name=name), (channels, 32, 32), 7).eval()
    assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 7)
    assert prunable(network)


def test_a_replaced_first_convolution_keeps_the_size_of_its_outputs():
    torch.manual_seed(0)
    network = build(ImageModel(name="resnet18"), (3, 64, 64), 10)
    with torch.no_grad():
        before = network.get_submodule("conv1")(torch.randn(4, 3, 64, 64)).std()
        networks.replace_first_convolution(network, 1)
        after = network.get_submodule("conv1")(torch.randn(4, 1, 64, 64)).std()
    assert 0.8 < float(after / before) < 1.25


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "resnt18"}, "no network is called 'resnt18'; did you mean 'resnet18'"),
        ({"name": "timm/resnet10x"}, "timm has no model 'resnet10x'"),
        ({"name": "resnet18", "dropout": 0.5}, "resnet18 has no dropout layer"),
        ({"name": "resnet20", "dropout": 0.5}, "resnet20 has no dropout layer"),
        ({"name": "resnet18", "widths": [8]}, "resnet18 has its own"),
        ({"name": "resnet20", "widths": [8, 8]}, "those of its 3 stages, got 2"),
        ({"name": "squeezenet1_1"}, "squeezenet1_1 cannot take images of 3 x 16 x 16"),
        ({"name": "vgg-small", "widths": [8] * 5}, "give fewer widths"),
        ({"name": "resnet18", "transform_input": True}, "transform_input is for googlenet and inception_v3"),
    ],
    ids=lambda value: value["name"] + "-" + "-".join(list(value)[1:]) if isinstance(value, dict) else "",
)
def test_what_a_network_cannot_be_is_one_line(settings: dict[str, object], words: str):
    if str(settings["name"]).startswith("timm/"):
        pytest.importorskip("timm")
    with pytest.raises(RecipeError, match=words):
        build(ImageModel.model_validate(settings), (3, 16, 16), 10)


def test_dropout_is_set_in_every_dropout_layer():
    network = build(ImageModel(name="squeezenet1_0", dropout=0.25), (3, 64, 64), 10)
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {0.25}


def test_pretrained_weights_that_do_not_exist_are_named():
    with pytest.raises(RecipeError, match="resnet18 has IMAGENET1K_V1"):
        networks.pretrained(ImageModel(name="resnet18"), "torchvision:IMAGENET1K_V9")
    with pytest.raises(RecipeError, match=r"need model\.transform_input: true"):
        networks.pretrained(ImageModel(name="googlenet"), "torchvision:IMAGENET1K_V1")


HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("network", "weights", "expected"),
    [
        ("vgg16", "torchvision:DEFAULT", IMAGENET),
        ("efficientnet_v2_l", "torchvision:IMAGENET1K_V1", HALF),
        ("vgg16", "torchvision:IMAGENET1K_FEATURES", ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))),
        ("vgg16", "torchvision:NO_SUCH", None),
        ("vgg16", "weights.pt", None),
        ("simple", "torchvision:DEFAULT", None),
        ("timm/tf_efficientnet_lite0", "efficientnet-lite0", HALF),
        ("timm/resnet50", "timm:a1_in1k", IMAGENET),
        ("timm/vit_base_patch16_224", "timm:augreg_in21k_ft_in1k", HALF),
        ("timm/resnet50", "timm:no_such", None),
    ],
)
def test_the_scale_that_weights_were_trained_with_is_that_of_their_library(network: str, weights: str, expected: Any):
    pytest.importorskip("torchvision")
    if network.startswith("timm/"):
        pytest.importorskip("timm")
    assert scale_of(network, weights) == expected


def test_pretrained_weights_come_from_the_library(monkeypatch: pytest.MonkeyPatch):
    models = torchvision().models
    given = {"weight": torch.zeros(1)}
    monkeypatch.setattr(models._api.WeightsEnum, "get_state_dict", lambda self, **options: given)
    assert networks.pretrained(ImageModel(name="resnet18"), "torchvision:DEFAULT") == given


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'redense\[timm\]'"):
        build(ImageModel(name="timm/resnet10t"), (3, 32, 32), 10)
