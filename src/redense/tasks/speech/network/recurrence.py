"""The clipped-ReLU recurrence of Deep Speech, h_t = min(max(x_t + U h_(t-1), 0), 20), in both directions at once.

cuDNN and `torch.nn.RNN` have no clipped ReLU. Here the inputs of all steps come from one product, and a step of both
directions is one batched product in place; the way back is written out, so that autograd keeps one tensor for all
steps, and the gradient of the weights is again one product.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CEILING = 20.0
"""Where the ReLU is clipped (Hannun et al. 2014)."""

CLOSED = -1e30
"""An input that closes a unit whatever the state is: padded frames have it, so that the state there is 0."""


def scan(inputs: Tensor, weights: Tensor, ceiling: float = CEILING) -> Tensor:
    """Return the sum of both directions' states, (t, b, h).

    Args:
        inputs: (t, b, h), `CLOSED` where a clip has ended: then the backward direction starts at its end, from 0.
        weights: (2, h, h), of the forward and of the backward direction.
        ceiling: where the ReLU is clipped.

    It can be differentiated twice; the second time costs what `reference` does.
    """
    return _Scan.apply(inputs, weights, ceiling)  # pyright: ignore[reportReturnType]  # apply is not typed


def reference(inputs: Tensor, weights: Tensor, ceiling: float = CEILING) -> Tensor:
    """Return what `scan` does, step by step as the formula says."""
    out: list[list[Tensor]] = []
    for weight, order in zip(weights, (range(len(inputs)), range(len(inputs) - 1, -1, -1)), strict=True):
        state, states = torch.zeros_like(inputs[0]), [inputs[0]] * len(inputs)
        for step in order:
            state = F.hardtanh(inputs[step] + state @ weight.T, 0.0, ceiling)
            states[step] = state
        out.append(states)
    forwards, backwards = out
    return torch.stack([a + b for a, b in zip(forwards, backwards, strict=True)])


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weights: Tensor, ceiling: float) -> Tensor:
        ctx.ceiling = ceiling
        states = torch.stack([inputs, inputs.flip(0)], 1)  # (t, 2, b, h): the backward direction in its own time
        steps, transposed = states.unbind(0), weights.transpose(1, 2)
        steps[0].clamp_(0.0, ceiling)
        for before, state in pairwise(steps):
            state.baddbmm_(before, transposed).clamp_(0.0, ceiling)
        ctx.save_for_backward(inputs, weights, states)
        return states[:, 0] + states[:, 1].flip(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        inputs, weights, states = ctx.saved_tensors
        (grad,) = grads
        if torch.is_grad_enabled():  # it will be differentiated again
            with torch.enable_grad():
                out = reference(inputs, weights, ctx.ceiling)
            wanted = [tensor for tensor, need in zip((inputs, weights), ctx.needs_input_grad, strict=False) if need]
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
            first, second = (next(found) if need else None for need in ctx.needs_input_grad[:2])
            return first, second, None
        open_ = ((states > 0) & (states < ctx.ceiling)).to(grad.dtype)
        deltas = torch.stack([grad, grad.flip(0)], 1)
        steps, opens = deltas.unbind(0), open_.unbind(0)
        steps[-1].mul_(opens[-1])
        for index in range(len(steps) - 2, -1, -1):
            steps[index].baddbmm_(steps[index + 1], weights).mul_(opens[index])
        by_weights = None
        if ctx.needs_input_grad[1]:
            after = deltas[1:].transpose(0, 1).flatten(1, 2)  # (2, (t - 1) b, h)
            by_weights = after.transpose(1, 2) @ states[:-1].transpose(0, 1).flatten(1, 2)
        return deltas[:, 0] + deltas[:, 1].flip(0), by_weights, None
