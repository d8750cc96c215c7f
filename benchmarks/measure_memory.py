"""What masks take in memory and on disk, and whether it grows: every figure is counted, none is timed.

    python benchmarks/measure_memory.py [--check] [--size 4096] [--switches 1000]

Counted are the bytes of all tensor storages that are alive after every operator, so the peaks are exact and are the
same on every machine. The bars, for a weight of 4096 x 4096 float32 and SGD with momentum:

- choosing takes at most 3 copies of the weight at its peak, the mask itself among them;
- a mask in force takes at most 1 byte a weight, and holding it not a tenth of a copy beside it;
- a saved mask takes at most 1 bit a weight (and what rounds up to a whole byte);
- in the second half of 1,000 switches between dense and sparse phases tensors grow by nothing, and Python's own objects
  by at most 16 bytes a switch, which is a pointer or two in some list and no tensor, mask or hook.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from common import Bar, Ratio, finish, parser
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import redense

SPARSITY = 0.3
AT_MOST_COPIES = 3.0
AT_MOST_BYTES = 1.0
AT_MOST_BESIDE = 0.1
AT_MOST_BITS = 1.001
AT_MOST_GROWTH = 0.0  # bytes a switch, in tensors
AT_MOST_OBJECTS = 16.0  # bytes a switch, in Python


class Counted(TorchDispatchMode):
    """Counts the bytes of the storages that operators have made and that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {_address(tensor) for tensor in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            if _address(tensor) not in known:
                storage = tensor.untyped_storage()
                self._made[_address(tensor)] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return result

    @property
    def alive(self) -> int:
        """Bytes at this moment."""
        self._made = {address: made for address, made in self._made.items() if not made[0].expired()}
        return sum(size for _, size in self._made.values())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def counting() -> Iterator[Counted]:
    gc.collect()
    with Counted() as counted:
        yield counted


def of_a_phase(size: int) -> dict[str, float]:
    """Return copies of the weight, bytes or bits a weight: what choosing, holding and saving take."""
    model = nn.Linear(size, size, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    model.weight.grad = torch.ones_like(model.weight)
    optimizer.step()
    weights, copy = size * size, 4 * size * size
    block = redense.sparse(model, optimizer, SPARSITY)
    with counting() as counted:
        block.__enter__()
        choosing, alive = counted.peak, counted.alive
    # The hook alone: a second step's own temporaries are the optimizer's.
    with counting() as counted:
        block._after_step(optimizer, (), {})
        holding = counted.peak
    state = block.state_dict()
    saved = sum(tensor.untyped_storage().nbytes() for tensor in _tensors(state))
    zeros = int((model.weight == 0).sum())
    block.__exit__(None, None, None)
    if zeros != round(SPARSITY * weights):
        raise SystemExit(f"{zeros} weights were zero under the mask, expected {round(SPARSITY * weights)}")
    return {
        "choosing, copies": choosing / copy,
        "in force, bytes a weight": alive / weights,
        "holding, copies": holding / copy,
        "saved, bits a weight": 8 * saved / weights,
    }


def of_switches(switches: int) -> dict[str, float]:
    """Return by how many bytes a switch of phase lets the process grow, in the second half of so many."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    cycle = [redense.Phase.dense(1), redense.Phase.sparse(1, SPARSITY)]
    data = torch.randn(8, 64)
    phases = (cycle * (switches // 2 + 1))[: switches + 1]
    dsd = redense.DSD(model, optimizer, redense.Schedule(tuple(phases)))
    alive: dict[str, list[float]] = {"tensors": [], "Python": []}

    def note() -> None:
        gc.collect()
        tensors = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in _all_tensors()}
        alive["tensors"].append(sum(tensors.values()))
        alive["Python"].append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        for step in range(switches):
            model(data).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if step + 1 in (switches // 4, switches // 2, switches):  # what is new once, to look at it too, comes first
                note()
    finally:
        tracemalloc.stop()
    dsd.close()
    span = switches - switches // 2
    return {f"growth in {what}, bytes a switch": (late - early) / span for what, (_, early, late) in alive.items()}


def _all_tensors() -> list[Tensor]:
    return [thing for thing in gc.get_objects() if type(thing) in (Tensor, nn.Parameter)]


def main(arguments: list[str] | None = None) -> int:
    """Count, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=1)
    options.add_argument("--size", type=int, default=4096, help="rows and columns of the weight (default: 4096)")
    options.add_argument("--switches", type=int, default=1000, help="of phase, even, above 10 (default: 1000)")
    given = options.parse_args(arguments)

    torch.manual_seed(0)
    counted = {**of_a_phase(given.size), **of_switches(given.switches)}
    limits = (AT_MOST_COPIES, AT_MOST_BYTES, AT_MOST_BESIDE, AT_MOST_BITS, AT_MOST_GROWTH, AT_MOST_OBJECTS)
    for what, value in counted.items():
        print(f"{what}: {value:.4g}")
    bars = [
        Bar(Ratio(what, "1", value, value, value), at_most=limit)
        for (what, value), limit in zip(counted.items(), limits, strict=True)
    ]
    settings = {"size": given.size, "switches": given.switches, "sparsity": SPARSITY}
    return finish("measure_memory", given, settings=settings, seconds={}, ratios=[], bars=bars, facts=counted)


if __name__ == "__main__":
    sys.exit(main())
