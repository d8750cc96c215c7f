"""Choosing the 30 % smallest of 16.7 M weights: redense against what else one could call.

    python benchmarks/select_weights.py [--check] [--size 4096] [--device cpu] [--rounds 11]

The bars: choosing costs at most 3 copies of the tensor, a fifteenth of ``prune.l1_unstructured``, and less than
``torch.kthvalue``, ``torch.topk`` and a full sort, as jaxpruner makes. A copy is ``weight.clone()``, which asks the
system for memory, as choosing a mask does. ``copy_`` into memory that is there already is several times faster: its
ratio is shown beside it, but the bar is not judged by it. Every contestant ends with a boolean mask, and these are
compared with the rule, the first round(0.3 N) of a stable ascending sort: one that thresholds, or breaks ties as it
likes, may differ. Timed is processor time, which other programs disturb least.

With ``--device cuda`` (skipped where there is none) the bars are others: at most twice the time of reading the weights
twice, which is what a sum takes two times, and less than ``torch.kthvalue`` and ``torch.topk``. Timed is the clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from common import Bar, Contestant, Ratio, add_device, device_of, finish, measure, on_device, parser, ratio, table
from torch import Tensor, nn
from torch.nn.utils import prune

from redense import masks

SPARSITY = 0.3
AT_MOST_COPIES = 3.0
AT_MOST_PRUNE = 1 / 15
AT_MOST_PEER = 1.0
AT_MOST_READS = 2.0


def by_redense(weight: Tensor) -> Tensor:
    return masks.select(weight, SPARSITY, absolute=True)


def by_numpy_partition(weight: Tensor) -> Tensor:
    scores = np.abs(weight.numpy())
    k = round(SPARSITY * scores.size)
    threshold = np.partition(scores, k - 1, axis=None)[k - 1]
    return torch.from_numpy(scores > threshold)


def by_kthvalue(weight: Tensor) -> Tensor:
    scores = weight.abs()
    return scores > scores.flatten().kthvalue(round(SPARSITY * scores.numel())).values


def by_topk(weight: Tensor) -> Tensor:
    chosen = weight.abs().flatten().topk(round(SPARSITY * weight.numel()), largest=False).indices
    every = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    return every.index_fill_(0, chosen, False).view_as(weight)


def by_sorting(weight: Tensor) -> Tensor:
    """Choose by the rule as it is written, which is what the others are compared with."""
    chosen = weight.abs().flatten().argsort(stable=True)[: round(SPARSITY * weight.numel())]
    every = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    return every.index_fill_(0, chosen, False).view_as(weight)


METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "redense.masks.select": by_redense,
    "numpy.partition": by_numpy_partition,
    "torch.kthvalue": by_kthvalue,
    "torch.topk": by_topk,
    "a stable sort": by_sorting,
}


PEERS = ("torch.kthvalue", "torch.topk", "a stable sort")


class L1Unstructured:
    """``torch.nn.utils.prune`` as its users call it: on a layer, which gets a mask and a masked weight."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.layer = self.fresh()

    def fresh(self) -> nn.Linear:
        layer = nn.Linear(*reversed(self.weight.shape), bias=False, device="meta")
        layer.weight = nn.Parameter(self.weight)  # the pruning writes to a product, never to this
        return layer

    def prepare(self) -> None:
        self.layer = self.fresh()

    def run(self) -> None:
        prune.l1_unstructured(self.layer, "weight", amount=SPARSITY)

    def mask(self) -> Tensor:
        self.prepare()
        self.run()
        return self.layer.get_buffer("weight_mask").bool()


def reads(weight: Tensor) -> None:
    """Read all weights twice, and write next to nothing."""
    weight.sum()
    weight.sum()


def bars(seconds: dict[str, list[float]], *, on_gpu: bool) -> list[Bar]:
    """Return what must hold for our way of choosing."""

    def ours(to: str) -> Ratio:
        return ratio(seconds, "redense.masks.select", to)

    if on_gpu:
        peers = (Bar(ours(peer), at_most=AT_MOST_PEER) for peer in ("torch.kthvalue", "torch.topk"))
        return [Bar(ours("two reads"), at_most=AT_MOST_READS), *peers]
    return [
        Bar(ours("clone()"), at_most=AT_MOST_COPIES),
        Bar(ours("prune.l1_unstructured"), at_most=AT_MOST_PRUNE),
        *(Bar(ours(peer), at_most=AT_MOST_PEER) for peer in PEERS),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Time, compare the masks, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=11)
    options.add_argument("--size", type=int, default=4096, help="columns of the weight (default: 4096)")
    options.add_argument("--rows", type=int, help="rows (default: as many; 33780 make the 138 M weights of VGG-16)")
    add_device(options)
    given = options.parse_args(arguments)
    device = device_of(given)
    if device is None:
        return 0
    on_gpu = device.type == "cuda"

    weight = torch.randn(given.rows or given.size, given.size, generator=torch.Generator().manual_seed(0)).to(device)
    memory = torch.empty_like(weight)
    peer = L1Unstructured(weight)
    methods = {name: method for name, method in METHODS.items() if not (on_gpu and method is by_numpy_partition)}
    contestants = {
        "clone()": Contestant(on_device(weight.clone, device)),
        "copy_()": Contestant(on_device(lambda: memory.copy_(weight), device)),
        "two reads": Contestant(on_device(lambda: reads(weight), device)),
        **{
            name: Contestant(on_device(lambda method=method: method(weight), device))
            for name, method in methods.items()
        },
        "prune.l1_unstructured": Contestant(on_device(peer.run, device), peer.prepare),
    }

    rule = by_sorting(weight)
    found = {**{name: method(weight) for name, method in methods.items()}, "prune.l1_unstructured": peer.mask()}
    wrong = {name: int((mask != rule).sum()) for name, mask in found.items()}
    if wrong["redense.masks.select"]:
        print(f"redense's mask differs from the rule in {wrong['redense.masks.select']} weights", file=sys.stderr)
        return 1

    seconds = measure(contestants, given.rounds, time.process_time)
    notes = {name: "same mask" if not count else f"{count} weights differ" for name, count in wrong.items()}
    units = ("clone()", "copy_()", "two reads")
    table(f"Choosing {SPARSITY:.0%} of {weight.numel():,} weights", seconds, units, notes)
    ours = "redense.masks.select"
    against = [ratio(seconds, name, ours) for name in found if name != ours]
    for item in against:
        print(f"{item.of} takes {item} times as long as redense")
    return finish(
        "select_weights" if given.rows is None else f"select_weights-{given.rows}-rows",
        given,
        settings={
            "shape": list(weight.shape),
            "dtype": "float32",
            "sparsity": SPARSITY,
            "timed": "the clock" if on_gpu else "processor time",
        },
        seconds={"choose": seconds},
        ratios=[*(ratio(seconds, name, unit) for name in found for unit in units), *against],
        bars=bars(seconds, on_gpu=on_gpu),
        facts={"weights_that_differ_from_the_rule": wrong},
    )


if __name__ == "__main__":
    sys.exit(main())
