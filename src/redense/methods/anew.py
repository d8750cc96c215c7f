"""A new network in the place of the trained one, under the mask of the trained one (Han et al. 2017, section 5)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import StateError

from .base import Method


class Anew(Method):
    """Draws all weights of the network anew when a sparse phase has chosen its masks; the masks stay.

    Buffers such as the averages of batch normalisation are new too, and the optimizer forgets what it had gathered.
    """

    name = "anew"

    @override
    def pruned(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        if self.build is None:
            raise StateError("a new network needs to know how one is built: train this phase with the engine")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.seed)
            new = self.build().state_dict()
            for name, value in model.state_dict().items():
                value.copy_(new[name])
            for name, parameter in model.named_parameters():
                if name in masks:
                    parameter.mul_(masks[name])
        if self.optimizer is not None:
            self.optimizer.state.clear()
