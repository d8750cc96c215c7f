"""Choosing, holding and saving masks from 1 M to 1 G weights: what a weight costs, and whether that grows.

    python benchmarks/cost_by_size.py [--check] [--millions 1 4 16 64 256] [--dtype float32] [--rounds 5]

A weight is one tensor; 1 G fits in 6 GB as bfloat16 (``--millions 1024 --dtype bfloat16 --rounds 1``). Timed is
processor time. The bar: at the largest size a weight costs at most twice what it costs at 16 M, of choosing, of holding
and of saving (packing to bits and a state dict); twice, for the smaller ones lie in the cache.
"""

from __future__ import annotations

import sys
import time

import torch
from common import Bar, Contestant, Seconds, finish, measure, parser, ratio, table
from torch import nn

import redense
from redense import masks

SPARSITY = 0.3
AT_MOST = 2.0
MILLION = 1 << 20
OUGHT = 16  # millions that the others are compared with: no cache holds them
PARTS = ("choose", "hold", "save", "copy_()")


def at(millions: float, dtype: torch.dtype, rounds: int) -> Seconds:
    """Return the time of each part for a weight of so many millions."""
    side = max(8, round(millions * MILLION / 1024))
    model = nn.Linear(1024, side, bias=False, dtype=dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    weight = model.weight.detach()
    memory, dense = torch.empty_like(weight), weight.clone()
    with redense.sparse(model, optimizer, SPARSITY) as block:
        return measure(
            {
                "choose": Contestant(lambda: masks.select(dense, SPARSITY, absolute=True)),
                "hold": Contestant(lambda: block._after_step(optimizer, (), {})),
                "save": Contestant(block.state_dict),
                "copy_()": Contestant(lambda: memory.copy_(weight)),
            },
            rounds,
            time.process_time,
        )


def main(arguments: list[str] | None = None) -> int:
    """Time every size, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--millions", type=float, nargs="+", default=[1, 4, 16, 64, 256], help="of weights, 2^20 each")
    options.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    given = options.parse_args(arguments)

    torch.manual_seed(0)
    sizes = sorted({*given.millions, min(OUGHT, *given.millions)})
    taken = {size: at(size, getattr(torch, given.dtype), given.rounds) for size in sizes}
    base = OUGHT if OUGHT in sizes else sizes[0]
    # In ns a weight: a ratio of two sizes is then the growth of what one weight costs.
    each = {
        part: {f"{part}, {size:g} M": [1e9 * t / (size * MILLION) for t in taken[size][part]] for size in sizes}
        for part in PARTS
    }
    bars, ratios = [], []
    for part, times in each.items():
        table(f"{part}, {given.dtype}: ns a weight (the column says ms)", _shown(times), (f"{part}, {base:g} M",))
        grown = [ratio(times, f"{part}, {size:g} M", f"{part}, {base:g} M") for size in sizes]
        ratios += grown
        if part != "copy_()":
            bars.append(Bar(grown[-1], at_most=AT_MOST))
    name = "cost_by_size" if given.dtype == "float32" else f"cost_by_size-{given.dtype}"
    settings = {"millions": sizes, "dtype": given.dtype, "sparsity": SPARSITY, "timed": "processor time, ns a weight"}
    return finish(name, given, settings=settings, seconds=each, ratios=ratios, bars=bars)


def _shown(times: Seconds) -> Seconds:
    return {name: [value / 1e3 for value in values] for name, values in times.items()}


if __name__ == "__main__":
    sys.exit(main())
