"""A new network in the place of the trained one, under the mask of the trained one (Han et al. 2017, section 5)."""

from __future__ import annotations

import torch
from typing_extensions import override

from .base import Context, Method, technique


@technique("anew")
class Anew(Method):
    """Draws all weights of the network anew when a sparse phase has chosen its masks; the masks stay.

    Buffers such as the averages of batch normalisation are new too, and the optimizer forgets what it had gathered.
    """

    @override
    def pruned(self, run: Context) -> None:
        renew_(run)


def renew_(run: Context) -> None:
    """Draw all weights and buffers of a network anew, in place; masked ones stay zero, the optimizer forgets."""
    new = run.built().state_dict()
    with torch.no_grad():
        for name, value in run.model.state_dict().items():
            value.copy_(new[name])
        for name, parameter in run.model.named_parameters():
            if name in run.masks:
                parameter.mul_(run.masks[name])
    if run.optimizer is not None:
        run.optimizer.state.clear()
