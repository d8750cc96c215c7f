"""Choosing the 30 % smallest of 16.7 M weights on CPU: redense against what else one could call.

    python benchmarks/select_weights.py [--check] [--size 4096] [--rounds 11]

The bars: choosing costs at most 3 copies of the tensor, a fifteenth of ``prune.l1_unstructured``, and less than
``torch.kthvalue``, ``torch.topk`` and a full sort, as jaxpruner makes. A copy is ``weight.clone()``, which asks the
system for memory, as choosing a mask does. ``copy_`` into memory that is there already is several times faster: its
ratio is shown beside it, but the bar is not judged by it. Every contestant ends with a boolean mask, and these are
compared with the rule, the first round(0.3 N) of a stable ascending sort: one that thresholds, or breaks ties as it
likes, may differ. Timed is processor time, which other programs disturb least.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from common import Bar, Contestant, finish, measure, parser, ratio, table
from torch import Tensor, nn
from torch.nn.utils import prune

from redense import masks

SPARSITY = 0.3
AT_MOST_COPIES = 3.0
AT_MOST_PRUNE = 1 / 15
AT_MOST_PEER = 1.0


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
    return torch.ones(weight.numel(), dtype=torch.bool).index_fill_(0, chosen, False).view_as(weight)


def by_sorting(weight: Tensor) -> Tensor:
    """Choose by the rule as it is written, which is what the others are compared with."""
    chosen = weight.abs().flatten().argsort(stable=True)[: round(SPARSITY * weight.numel())]
    return torch.ones(weight.numel(), dtype=torch.bool).index_fill_(0, chosen, False).view_as(weight)


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


def main(arguments: list[str] | None = None) -> int:
    """Time, compare the masks, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=11)
    options.add_argument("--size", type=int, default=4096, help="columns of the weight (default: 4096)")
    options.add_argument("--rows", type=int, help="rows (default: as many; 33780 make the 138 M weights of VGG-16)")
    given = options.parse_args(arguments)

    weight = torch.randn(given.rows or given.size, given.size, generator=torch.Generator().manual_seed(0))
    memory = torch.empty_like(weight)
    peer = L1Unstructured(weight)
    contestants = {
        "clone()": Contestant(weight.clone),
        "copy_()": Contestant(lambda: memory.copy_(weight)),
        **{name: Contestant(lambda method=method: method(weight)) for name, method in METHODS.items()},
        "prune.l1_unstructured": Contestant(peer.run, peer.prepare),
    }

    rule = by_sorting(weight)
    found = {**{name: method(weight) for name, method in METHODS.items()}, "prune.l1_unstructured": peer.mask()}
    wrong = {name: int((mask != rule).sum()) for name, mask in found.items()}
    if wrong["redense.masks.select"]:
        print(f"redense's mask differs from the rule in {wrong['redense.masks.select']} weights", file=sys.stderr)
        return 1

    seconds = measure(contestants, given.rounds, time.process_time)
    notes = {name: "same mask" if not count else f"{count} weights differ" for name, count in wrong.items()}
    table(f"Choosing {SPARSITY:.0%} of {weight.numel():,} weights", seconds, ("clone()", "copy_()"), notes)
    ours = "redense.masks.select"
    ratios = [ratio(seconds, name, unit) for name in found for unit in ("clone()", "copy_()")]
    ratios += [ratio(seconds, name, ours) for name in found if name != ours]
    for item in ratios[2 * len(found) :]:
        print(f"{item.of} takes {item} times as long as redense")
    return finish(
        "select_weights" if given.rows is None else f"select_weights-{given.rows}-rows",
        given,
        settings={"shape": list(weight.shape), "dtype": "float32", "sparsity": SPARSITY, "timed": "processor time"},
        seconds={"choose": seconds},
        ratios=ratios,
        bars=[
            Bar(ratio(seconds, ours, "clone()"), at_most=AT_MOST_COPIES),
            Bar(ratio(seconds, ours, "prune.l1_unstructured"), at_most=AT_MOST_PRUNE),
            *(Bar(ratio(seconds, ours, peer), at_most=AT_MOST_PEER) for peer in PEERS),
        ],
        facts={"weights_that_differ_from_the_rule": wrong},
    )


if __name__ == "__main__":
    sys.exit(main())
