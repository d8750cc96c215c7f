"""Weights of EfficientNets that were saved under lukemelas/EfficientNet-PyTorch's names, under timm's.

Both write the same tensors in the same order; the names differ so:

| EfficientNet-PyTorch | timm |
|---|---|
| ``_conv_stem``, ``_bn0`` | ``conv_stem``, ``bn1`` |
| ``_blocks.N`` | ``blocks.STAGE.PLACE``, counted through the stages |
| ``_expand_conv``, ``_bn0`` of a block | ``conv_pw``, ``bn1`` |
| ``_depthwise_conv``, ``_bn1`` | ``conv_dw``, ``bn2``; ``bn1`` in a block that does not expand |
| ``_se_reduce``, ``_se_expand`` | ``se.conv_reduce``, ``se.conv_expand`` |
| ``_project_conv``, ``_bn2`` | ``conv_pwl``, ``bn3``; ``conv_pw``, ``bn2`` in a block that does not expand |
| ``_conv_head``, ``_bn1`` | ``conv_head``, ``bn2`` |
| ``_fc`` | ``classifier`` |
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDS = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
_DOES_NOT = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}


def to_timm(weights: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """Return weights under timm's names, where they have the others and the network has timm's; else as they are.

    Args:
        weights: name -> value.
        own: the names of the network's own weights.
    """
    stages = sorted({(int(m[1]), int(m[2])) for name in own if (m := re.match(r"blocks\.(\d+)\.(\d+)\.", name))})
    if "_conv_stem.weight" not in weights or "conv_stem.weight" not in own or not stages:
        return dict(weights)
    expanding = {name.split(".")[1] for name in weights if "._expand_conv." in name}
    return {_renamed(name, stages, expanding): value for name, value in weights.items()}


def _renamed(name: str, stages: list[tuple[int, int]], expanding: Collection[str]) -> str:
    head, *rest = name.split(".")
    if head != "_blocks" or len(rest) < 2:
        return ".".join([_ENDS.get(head, head), *rest])
    number, module, *rest = rest
    if not number.isdecimal() or int(number) >= len(stages):
        return name
    stage, place = stages[int(number)]
    names = (_EXPANDS if number in expanding else _DOES_NOT) | _SQUEEZE
    return ".".join(["blocks", str(stage), str(place), names.get(module, module), *rest])
