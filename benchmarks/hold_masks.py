"""Holding ResNet-50's masks after each optimizer step: what redense adds, against copies and against its peers.

    python benchmarks/hold_masks.py [--check] [--width 64] [--device cpu] [--rounds 31]

The bars: holding costs at most one copy of all weights, ``clone()``, under AdamW, and 0.9 under SGD with momentum.
``copy_`` into memory that is there already is faster: its ratio is shown beside it. "hold" is redense's work alone, the
mean of nine steps after the first few of a phase: the gradients are masked, some places of the weights are looked at
before each step, and all of them before one of the nine. "step" and "step, held" are whole steps of two optimizers of
the same kind on equal models, the second one inside ``redense.sparse``; no backward writes gradients there, so that
they are not masked anew. A class made from AdamW, which redense does not trust, has its weights masked after each step.

With ``--device cuda`` (skipped where there is none) the bars are the same: work on ResNet-50's small tensors is as long
there as it takes to launch its kernels, and a copy of each of them is a kernel, too.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from contextlib import ExitStack

import torch
from common import (
    Bar,
    Contestant,
    accumulate,
    add_device,
    device_of,
    finish,
    holding,
    measure,
    on_device,
    parser,
    ratio,
    table,
)
from torch import Tensor, nn
from torch.nn.utils import prune

import redense
from redense import masks as masking

SPARSITY = 0.3
AT_MOST_COPIES = 1.0  # under AdamW
AT_MOST_COPIES_OF_SGD = 0.9  # with momentum
RESNET50 = 25_557_032  # parameters


class OfAdamW(torch.optim.AdamW):
    """An optimizer that redense does not know."""


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=1e-3),
    "SGD, momentum": lambda model: torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3),
    "of AdamW": lambda model: OfAdamW(model.parameters(), lr=1e-3),
}


def resnet50(width: int = 64) -> nn.Sequential:
    """Return ResNet-50's layers in order, not wired: only its parameters matter here (He et al. 2016, table 1)."""

    def convolution(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, kernel, bias=False), nn.BatchNorm2d(outputs)]

    layers = convolution(3, width, 7)
    inputs = width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, outputs = width * 2**stage, 4 * width * 2**stage
        for block in range(blocks):
            layers += convolution(inputs, inner, 1) + convolution(inner, inner, 3) + convolution(inner, outputs, 1)
            if block == 0:
                layers += convolution(inputs, outputs, 1)  # the shortcut's projection
            inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, 1000))


def with_gradients(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = (1e-3 * torch.randn(parameter.shape, generator=generator)).to(parameter.device)
    return model


def copies_and_peers(model: nn.Module, masks: dict[str, Tensor]) -> dict[str, Contestant]:
    """Return a copy of all weights, and other ways to mask the prunable ones."""
    own = copy.deepcopy(model)
    everything = [parameter.detach() for parameter in own.parameters()]
    memory = [torch.empty_like(tensor) for tensor in everything]
    weights = [parameter.detach() for parameter in redense.prunable(own).values()]
    as_bool = list(masks.values())
    as_float = [mask.float() for mask in as_bool]
    pruned = [~mask for mask in as_bool]  # made once: a peer that inverts at every step pays for it too
    return {
        "clone()": Contestant(lambda: [tensor.clone() for tensor in everything]),
        "copy_()": Contestant(lambda: _each(Tensor.copy_, memory, everything)),
        "float mask, mul_": Contestant(lambda: _each(Tensor.mul_, weights, as_float)),
        "bool mask, mul_": Contestant(lambda: _each(Tensor.mul_, weights, as_bool)),
        "masked_fill_": Contestant(lambda: _each(lambda w, where: w.masked_fill_(where, 0), weights, pruned)),
        "prune, each forward": Contestant(_prune_hooks(copy.deepcopy(model), masks)),
    }


def _each(what: Callable[[Tensor, Tensor], object], left: list[Tensor], right: list[Tensor]) -> None:
    for a, b in zip(left, right, strict=True):
        what(a, b)


def _prune_hooks(model: nn.Module, masks: dict[str, Tensor]) -> Callable[[], None]:
    """What ``torch.nn.utils.prune`` does in every forward: ``weight = weight_orig * mask``, in forward pre-hooks."""
    layers = [model.get_submodule(name.removesuffix(".weight")) for name in masks]
    for layer, mask in zip(layers, masks.values(), strict=True):
        prune.custom_from_mask(layer, "weight", mask)

    def remask() -> None:
        for layer in layers:
            for hook in layer._forward_pre_hooks.values():
                hook(layer, ())

    return remask


def steps(
    kind: str, model: nn.Module, masks: dict[str, Tensor], device: torch.device, blocks: ExitStack
) -> dict[str, Contestant]:
    """Return a plain step, the same inside ``redense.sparse``, and the work of redense alone."""
    plain, inside = with_gradients(copy.deepcopy(model)), with_gradients(copy.deepcopy(model))
    optimizer, held = OPTIMIZERS[kind](plain), OPTIMIZERS[kind](inside)
    block = blocks.enter_context(redense.sparse(inside, held, SPARSITY))
    blocks.callback(check_zeros, inside, masks)  # an ExitStack unwinds: this comes before the release
    for _ in range(3):  # the first steps of a phase look at all that is masked
        held.step()

    def step() -> None:
        accumulate(block._masked)
        held.step()

    return {
        f"{kind}: step": Contestant(on_device(optimizer.step, device)),
        f"{kind}: step, held": Contestant(on_device(held.step, device)),
        f"{kind}: hold": Contestant(holding(block._masked, held, step, device)),
    }


def check_zeros(model: nn.Module, masks: dict[str, Tensor]) -> None:
    """Refuse a timing of what did not hold: zeros exactly where the masks are, their number exact."""
    for name, weight in redense.prunable(model).items():
        zeros = weight.detach() == 0
        if not torch.equal(zeros, ~masks[name]) or int(zeros.sum()) != round(SPARSITY * zeros.numel()):
            raise SystemExit(f"the mask of '{name}' was not held")


def main(arguments: list[str] | None = None) -> int:
    """Time, check what was held, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=31)
    options.add_argument("--width", type=int, default=64, help="channels of the first convolution (ResNet-50: 64)")
    add_device(options)
    given = options.parse_args(arguments)
    device = device_of(given)
    if device is None:
        return 0

    torch.manual_seed(0)
    model = resnet50(given.width).to(device)
    total = sum(parameter.numel() for parameter in model.parameters())
    if given.width == 64:
        assert total == RESNET50, total
    masks = {name: masking.select(p, SPARSITY, absolute=True) for name, p in redense.prunable(model).items()}

    with ExitStack() as blocks:
        peers = copies_and_peers(model, masks)
        contestants = {n: Contestant(on_device(c.run, device)) for n, c in peers.items()}
        for kind in OPTIMIZERS:
            contestants |= steps(kind, model, masks, device, blocks)
        seconds = measure(contestants, given.rounds)

    ratios = [ratio(seconds, name, unit) for name in contestants for unit in ("clone()", "copy_()")]
    added = {
        f"{k}: {what}": ratio(seconds, f"{k}: {what}", f"{k}: step")
        for k in OPTIMIZERS
        for what in ("step, held", "hold")
    }
    notes = {name: f"{item} of the plain step" for name, item in added.items()}
    masked = sum(mask.numel() for mask in masks.values())
    title = f"Holding masks on {masked:,} of {total:,} weights ({SPARSITY:.0%} pruned)"
    table(title, seconds, ("clone()", "copy_()"), notes)
    return finish(
        "hold_masks",
        given,
        settings={
            "width": given.width,
            "weights": total,
            "masked": masked,
            "sparsity": SPARSITY,
            "timed": "the clock",
        },
        seconds={"hold": seconds},
        ratios=[*ratios, *added.values()],
        bars=[
            Bar(ratio(seconds, "SGD, momentum: hold", "clone()"), at_most=AT_MOST_COPIES_OF_SGD),
            Bar(ratio(seconds, "AdamW: hold", "clone()"), at_most=AT_MOST_COPIES),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
