"""The masks in force on a copy of the model: an average of its weights, say."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from redense import masks as masking
from redense.errors import ParameterError
from redense.masks.sharding import like, local
from redense.parameters import named


def mask_copy_(copy: nn.Module, masks: Mapping[str, Tensor], first_names: Mapping[str, str]) -> None:
    """Set to zero in a copy of a model what the masks of the model remove.

    Args:
        copy: the module, in a wrapper or not.
        masks: by the names of the model's parameters.
        first_names: those that some had before their layers were changed, as an older copy calls them: now -> then.

    Raises:
        ParameterError: it has no parameter of a name, or one of another shape.
    """
    own, inner = named(copy), getattr(copy, "module", None)
    if isinstance(inner, nn.Module) and not masks.keys() <= own.keys():  # AveragedModel, timm's ModelEmaV3
        own = named(inner)
    masks = {name if name in own else first_names.get(name, name): mask for name, mask in masks.items()}
    for name, mask in masks.items():
        if name not in own or own[name].shape != mask.shape:
            raise ParameterError(
                f"the copy has no '{name}' of shape {tuple(mask.shape)}: it is of another model, or of one whose "
                "layers were called or wrapped otherwise"
            )
    masking.apply_all_((local(like(mask, own[name])), [local(own[name].detach())]) for name, mask in masks.items())
