"""Weights of a file in a network, whatever the task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import StateError


def load_weights_(network: nn.Module, path: Path) -> None:
    """Load weights of a file into a network, in place.

    Raises:
        StateError: the file is damaged, or of another network.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            weights: Mapping[str, Tensor] = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(dict(weights))
    except Exception as error:  # torch.load raises a dozen kinds for a file that is none
        raise StateError(f"{path} is damaged, or of another network: {' '.join(str(error).split())[:200]}") from error
