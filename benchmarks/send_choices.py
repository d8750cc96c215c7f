"""What a rank sends to the others when masks are chosen on shards: calls and bytes are counted, and nothing is timed.

    python benchmarks/send_choices.py [--check] [--layers 64] [--size 1048576]

Two ranks, of which each holds half of the rows of every layer, stand for any number: what a rank gives to an all-reduce
does not depend on how many there are. Random weights choose by their magnitude; in bfloat16 many tie at the threshold.
The bars, for 64 layers of 1 M weights: at most 16 calls and 250 KB a rank, for one threshold a layer and for one over
all of them. (An all-reduce of each layer and digit would be 320 calls and 2.5 MB.)
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import torch
from common import Bar, Ratio, finish, parser
from torch import Tensor

from redense.masks.sharded import Piece, select_pieces, select_pieces_each
from redense.masks.sharding import Extent, Ranks

RANKS = 2
SPARSITY = 0.3
AT_MOST_CALLS = 16
AT_MOST_BYTES = 250_000


class Wire:
    """Threads that stand for ranks, and how many bytes each call sends."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self._barrier = threading.Barrier(RANKS)
        self._given: dict[int, Tensor] = {}

    def ranks(self, rank: int) -> Ranks:
        """Return what the rank can learn of the others."""

        def reduce(own: Tensor, combine: Callable[[Tensor], Tensor]) -> Tensor:
            if rank == 0:
                self.sent.append(own.numel() * own.element_size())
            self._given[rank] = own
            self._barrier.wait()
            every = combine(torch.stack(list(self._given.values())))
            self._barrier.wait()
            return every

        return Ranks(lambda own: reduce(own, lambda e: e.sum(0)), lambda own: reduce(own, lambda e: e.amax(0)))


def count(layers: int, size: int, dtype: torch.dtype, scope: str) -> list[int]:
    """Return the bytes of each call of one choice."""
    columns = 1 << (size.bit_length() - 1) // 2
    rows = size // columns // RANKS  # of a rank
    shape = (rows * RANKS, columns)
    generator = torch.Generator().manual_seed(0)
    shards: list[dict[str, Piece]] = []
    for rank in range(RANKS):
        extent = Extent(shape, (torch.arange(rows) + rank * rows, torch.arange(columns)))
        drawn = (torch.randn(rows, columns, generator=generator).to(dtype) for _ in range(layers))
        shards.append({f"{layer}": Piece(scores, extent) for layer, scores in enumerate(drawn)})
    wire, errors = Wire(), list[BaseException]()

    def choose(rank: int) -> None:
        try:
            if scope == "global":
                select_pieces(shards[rank], SPARSITY, wire.ranks(rank), absolute=True)
            else:
                shares = dict.fromkeys(shards[rank], SPARSITY)
                select_pieces_each(shards[rank], shares, wire.ranks(rank), absolute=True)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=choose, args=(rank,)) for rank in range(RANKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return wire.sent


def main(arguments: list[str] | None = None) -> int:
    """Count, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=1)
    options.add_argument("--layers", type=int, default=64, help="number of weights (default: 64)")
    options.add_argument("--size", type=int, default=1 << 20, help="of each of them (default: 1048576)")
    given = options.parse_args(arguments)

    facts: dict[str, list[int]] = {}
    bars: list[Bar] = []
    for dtype in (torch.float32, torch.bfloat16):
        for scope in ("layer", "global"):
            what = f"{str(dtype).removeprefix('torch.')}, {scope}"
            facts[what] = sent = count(given.layers, given.size, dtype, scope)
            print(f"{what}: {len(sent)} calls, {sum(sent):,} bytes a rank: {sent}")
            for unit, value, limit in (("calls", len(sent), AT_MOST_CALLS), ("bytes", sum(sent), AT_MOST_BYTES)):
                bars.append(Bar(Ratio(f"{what}, {unit}", "1", value, value, value), at_most=limit))
    settings = {"layers": given.layers, "size": given.size, "sparsity": SPARSITY, "ranks": RANKS}
    return finish("send_choices", given, settings=settings, seconds={}, ratios=[], bars=bars, facts=facts)


if __name__ == "__main__":
    sys.exit(main())
