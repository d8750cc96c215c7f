"""A criterion of one's own: LAMP, layer-adaptive magnitude (Lee et al., ICLR 2021, arXiv 2010.07611).

REDENSE_PLUGINS=examples/plugins/lamp.py redense run quickstart --sparse.criterion lamp --sparse.scope global
"""

import torch
from torch import Tensor

import redense


@redense.criterion("lamp")
def lamp(parameter: Tensor, seed: int = 0) -> Tensor:
    """Return w^2 over the sum of the squares of all weights of the layer that are no smaller, in float64."""
    weight = getattr(parameter, "full_tensor", lambda: parameter)()  # all of a sharded one
    squares = weight.detach().double().flatten() ** 2
    ascending, order = squares.sort()
    surviving = ascending.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(squares)
    scores[order] = ascending / surviving.clamp_min(torch.finfo(torch.float64).tiny)
    return scores.view_as(weight)
