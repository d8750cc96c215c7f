"""EfficientNet-PyTorch's names of weights become timm's, and no others."""

from __future__ import annotations

import torch

from redense.tasks.classification.renaming import to_timm

# Two stages, of one block that does not expand and of two that do; as timm lists them.
BLOCKS = [
    ("0.0", ["conv_dw", "bn1", "se.conv_reduce", "se.conv_expand", "conv_pw", "bn2"]),
    ("1.0", ["conv_pw", "bn1", "conv_dw", "bn2", "se.conv_reduce", "se.conv_expand", "conv_pwl", "bn3"]),
    ("1.1", ["conv_pw", "bn1", "conv_dw", "bn2", "se.conv_reduce", "se.conv_expand", "conv_pwl", "bn3"]),
]
TIMM = ["conv_stem", "bn1", *(f"blocks.{n}.{part}" for n, parts in BLOCKS for part in parts)]
TIMM += ["conv_head", "bn2", "classifier"]
NOT = ["_depthwise_conv", "_bn1", "_se_reduce", "_se_expand", "_project_conv", "_bn2"]
OTHER = ["_conv_stem", "_bn0", *(f"_blocks.0.{part}" for part in NOT)]
OTHER += [f"_blocks.{n}.{part}" for n in (1, 2) for part in ("_expand_conv", "_bn0", *NOT)]
OTHER += ["_conv_head", "_bn1", "_fc"]


def test_every_weight_gets_the_name_of_the_one_in_its_place():
    own = [f"{name}.weight" for name in TIMM]
    weights = {f"{name}.weight": torch.tensor(float(place)) for place, name in enumerate(OTHER)}
    renamed = to_timm(weights, own)
    assert list(renamed) == own
    assert [int(value) for value in renamed.values()] == list(range(len(TIMM)))


def test_weights_of_other_networks_stay_as_they_are():
    weights = {"_conv_stem.weight": torch.zeros(1), "_blocks.9.x": torch.zeros(1)}
    assert to_timm(weights, ["conv1.weight"]) == weights
    assert to_timm({"conv_stem.weight": torch.zeros(1)}, ["conv_stem.weight", "blocks.0.0.x"]).keys() == {
        "conv_stem.weight"
    }
    assert "_blocks.9.x" in to_timm(weights, ["conv_stem.weight", "blocks.0.0.x"])  # there is no tenth block
