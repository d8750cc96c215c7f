"""A training step of three layers that punish masks made in the forward pass: dense, redense, and its peers.

    python benchmarks/train_layers.py [--check] [--width 2048] [--batch 256] [--device cpu] [--rounds 9]

- an LSTM cell that is called in a loop of 20, its four gates pruned;
- four linear layers of 2048 x 2048;
- the same linear layers under DDP (one process; gloo, nccl on a GPU).

A contestant's step is forward, backward and SGD, with 30 % of the weights pruned: dense has no masks; redense is
``redense.sparse``; prune is ``torch.nn.utils.prune``, which multiplies weight and mask in every forward; lightning is
Lightning's ModelPruning, which calls it; ao is ``torch.ao.pruning``'s WeightNormSparsifier, a parametrisation of each
weight; fasterai multiplies the weights after each step, and prunes no LSTM cell. It takes part where it is installed
(``pip install --no-deps fasterai fastcore einops``). Timed is processor time.

The bar: redense adds at most 2 % to the dense step of each. A step varies by more than that from round to round, so
what redense adds is timed by itself too, "its hook": the work in backward, and around the optimizer's step. The bar is
judged by that. It costs the same whatever the batch, so its share falls with it: ``--batch 1024`` is the other stored
result. With ``--device cuda`` (skipped where there is none) it is the clock that is timed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from common import (
    Bar,
    Contestant,
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

SPARSITY = 0.3
AT_MOST_ADDED = 0.02
CALLS = 20


class Cell(nn.Module):
    """An LSTM cell over a sequence: (batch, steps, inputs) -> (batch, hidden)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Call the cell once a step."""
        state = None
        for part in x.unbind(1):
            state = self.cell(part, state)
        return state[0] if state else x


def linear(width: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(4)))


def dense(model: nn.Module, optimizer: torch.optim.Optimizer, blocks: ExitStack) -> None:
    """Leave everything as it is."""


def by_redense(model: nn.Module, optimizer: torch.optim.Optimizer, blocks: ExitStack) -> redense.sparse:
    return blocks.enter_context(redense.sparse(model, optimizer, SPARSITY))


def _weights(model: nn.Module) -> list[tuple[nn.Module, str]]:
    names = (name.rpartition(".") for name in redense.prunable(model))
    return [(model.get_submodule(module), name) for module, _, name in names]


def by_prune(model: nn.Module, optimizer: torch.optim.Optimizer, blocks: ExitStack) -> None:
    for module, name in _weights(model):
        prune.l1_unstructured(module, name, amount=SPARSITY)


def by_lightning(model: nn.Module, optimizer: torch.optim.Optimizer, blocks: ExitStack) -> None:
    from redense.tasks.classification.vision import torchvision

    torchvision()  # which Lightning's torchmetrics imports
    from pytorch_lightning.callbacks import ModelPruning

    weights = _weights(model)
    pruning = ModelPruning("l1_unstructured", weights, use_global_unstructured=False, amount=SPARSITY)
    pruning._parameters_to_prune = weights  # what its setup() does, of a trainer
    pruning.apply_pruning(SPARSITY)


def by_fasterai(model: nn.Module, optimizer: torch.optim.Optimizer, blocks: ExitStack) -> None:
    sparsifier = importlib.import_module("fasterai.sparse.sparsifier").Sparsifier
    smallest = importlib.import_module("fasterai.core.criteria").large_final
    own = sparsifier(model, "weight", "local", smallest, layer_type=nn.Linear)
    own.sparsify_model(SPARSITY)
    optimizer.register_step_post_hook(lambda *_: own._apply_masks())  # as its callback does after a step


def takes_part(peer: str, model: nn.Module) -> bool:
    """Whether a peer is installed and can prune these layers."""
    if peer != "fasterai":
        return True
    return importlib.util.find_spec(peer) is not None and isinstance(model, nn.Sequential)


def by_ao(model: nn.Module, optimizer: torch.optim.Optimizer, blocks: ExitStack) -> None:
    from torch.ao.pruning import WeightNormSparsifier  # pyright: ignore[reportPrivateImportUsage]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sparsifier = WeightNormSparsifier(sparsity_level=SPARSITY, sparse_block_shape=(1, 1), zeros_per_block=1)
        names = {id(module): name for name, module in model.named_modules()}
        sparsifier.prepare(model, [{"tensor_fqn": f"{names[id(m)]}.{name}".lstrip(".")} for m, name in _weights(model)])
        sparsifier.step()


PEERS: dict[str, Callable[[nn.Module, torch.optim.Optimizer, ExitStack], object]] = {
    "dense": dense,
    "redense": by_redense,
    "prune": by_prune,
    "lightning": by_lightning,
    "ao": by_ao,
    "fasterai": by_fasterai,
}
HOOK = "redense: its hook"
REPLACES_PARAMETERS = ("prune", "lightning", "ao")


def step_of(model: nn.Module, data: Tensor, peer: str, blocks: ExitStack, *, ddp: bool) -> Callable[[], None]:
    """Return a training step of a model that a peer has pruned."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    PEERS[peer](model, optimizer, blocks)
    if peer in REPLACES_PARAMETERS:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    wrapped: Any = nn.parallel.DistributedDataParallel(model) if ddp else model

    def step() -> None:
        wrapped(data).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def hook_of(model: nn.Module, data: Tensor, device: torch.device, blocks: ExitStack) -> Contestant:
    """Return what redense does in a step: in backward, before the optimizer's step and after it; the mean of nine."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    block = by_redense(model, optimizer, blocks)

    def step() -> None:
        model(data).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(3):  # the first steps of a phase look at all that is masked
        step()
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    return Contestant(holding(block._masked, optimizer, step, device, clock))


def contestants(given: argparse.Namespace, device: torch.device, blocks: ExitStack) -> dict[str, dict[str, Contestant]]:
    """Return every case: name of the case -> name of the contestant -> it."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(given.batch, given.width, generator=generator).to(device)
    sequences = torch.randn(given.batch // 4, CALLS, given.width // 4, generator=generator).to(device)
    cases: dict[str, tuple[Callable[[], nn.Module], Tensor, bool]] = {
        f"LSTM cell {given.width // 4}, loop of {CALLS}": (lambda: Cell(given.width // 4), sequences, False),
        f"Linear 4 x {given.width}": (lambda: linear(given.width), rows, False),
        f"DDP, Linear 4 x {given.width}": (lambda: linear(given.width), rows, True),
    }
    made: dict[str, dict[str, Contestant]] = {}
    for case, (model, data, ddp) in cases.items():
        made[case] = {}
        for peer in PEERS:
            torch.manual_seed(0)
            if takes_part(peer, own := model().to(device)):
                made[case][peer] = Contestant(on_device(step_of(own, data, peer, blocks, ddp=ddp), device))
        made[case][HOOK] = hook_of(model().to(device), data, device, blocks)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Time every case, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=9)
    options.add_argument("--width", type=int, default=2048, help="of the linear layers; the cell has a quarter")
    options.add_argument("--batch", type=int, default=256, help="rows of the linear layers; the cell has a quarter")
    add_device(options)
    given = options.parse_args(arguments)
    device = device_of(given)
    if device is None:
        return 0

    with tempfile.TemporaryDirectory() as folder, ExitStack() as blocks:
        mine = not dist.is_initialized()
        if mine:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            store = dist.FileStore(f"{folder}/ranks", 1)  # pyright: ignore[reportPrivateImportUsage]
            dist.init_process_group("gloo" if device.type == "cpu" else "nccl", store=store, rank=0, world_size=1)
            blocks.callback(dist.destroy_process_group)
        if importlib.util.find_spec("fasterai") is None:
            print("fasterai is not installed, and takes no part")
        seconds = {
            case: measure(those, given.rounds, time.process_time)
            for case, those in contestants(given, device, blocks).items()
        }
    timed = "processor time" if device.type == "cpu" else "the clock"
    ratios, bars = [], []
    for case, times in seconds.items():
        table(f"{case}, batch {given.batch}: {timed} of a step", times, ("dense",))
        own = {peer: ratio(times, peer, "dense") for peer in times if peer != "dense"}
        ratios += own.values()
        bars.append(Bar(own[HOOK], at_most=AT_MOST_ADDED))
    return finish(
        "train_layers" if given.batch == 256 else f"train_layers-batch-{given.batch}",
        given,
        settings={"width": given.width, "batch": given.batch, "sparsity": SPARSITY, "timed": timed},
        seconds=seconds,
        ratios=ratios,
        bars=bars,
        facts={"order_of_bars": list(seconds)},
    )


if __name__ == "__main__":
    sys.exit(main())
