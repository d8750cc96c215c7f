"""The masks in force on a copy of the model: an average of its weights, say."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from redense import masks as masking
from redense.errors import ParameterError
from redense.masks.sharding import like, local
from redense.parameters import named


def mask_copy_(copy: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set to zero in a copy of a model what the masks of the model remove.

    Raises:
        ParameterError: it has no parameter of a name, or one of another shape.
    """
    own, inner = named(copy), getattr(copy, "module", None)
    if isinstance(inner, nn.Module) and not masks.keys() <= own.keys():  # AveragedModel, timm's ModelEmaV3
        own = named(inner)
    for name, mask in masks.items():
        if name not in own or own[name].shape != mask.shape:
            raise ParameterError(f"the copy has no '{name}' of shape {tuple(mask.shape)}: it is of another model")
    masking.apply_all_((local(like(mask, own[name])), [local(own[name].detach())]) for name, mask in masks.items())
