"""Holding the masks of ResNet-50 and VGG-16 as a share of a whole training step.

    python benchmarks/hold_networks.py [--check] [--networks resnet50 vgg16] [--batch 32] [--device cpu] [--rounds 3]

A step is forward, backward and SGD with momentum and weight decay on random images of 224 x 224, inside
``redense.sparse`` at 30 %; "dense step" is the same without it, and "hold" redense's work alone, the mean of nine
steps after the first few of a phase: gradients are masked, some weights are looked at before each step and all of them
before one of the nine. The bars: at most 1 % of a step of 32 images, and at most one copy of the network's weights
(``clone()``).

With ``--device cuda --batch 256`` (skipped where there is none) holding must cost at most 1 % of the step, and a hook
that waits for the GPU is an error; its kernels are counted and stored.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from common import (
    Bar,
    Contestant,
    Seconds,
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
from torch import nn

import redense

SPARSITY = 0.3
AT_MOST_STEP = 0.01
AT_MOST_COPIES = 1.0


def network(name: str) -> nn.Module:
    """Return torchvision's network, of weights drawn anew."""
    from redense.tasks.classification.vision import torchvision

    torchvision()
    from torchvision import models

    return getattr(models, name)(weights=None)


def contestants(
    name: str, given: argparse.Namespace, device: torch.device, blocks: ExitStack
) -> tuple[dict[str, Contestant], Callable[[], object]]:
    """Return the step of a network whose masks are held, the hook's part of it, a copy of the weights; and the hook."""
    torch.manual_seed(0)
    model = network(name).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(given.batch, 3, given.side, given.side, device=device)
    labels = torch.randint(1000, (given.batch,), device=device)

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def anew() -> None:
        optimizer.zero_grad(set_to_none=False)
        step()

    other = copy.deepcopy(model)
    others = torch.optim.SGD(other.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def dense() -> None:
        F.cross_entropy(other(images), labels).backward()
        others.step()

    block = blocks.enter_context(redense.sparse(model, optimizer, SPARSITY))
    step()  # the gradients stay, for the steps of `hold`
    for _ in range(3):  # the first steps of a phase look at all that is masked
        optimizer.step()
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    weights = [parameter.detach() for parameter in model.parameters()]
    made = {
        f"{name}: step": Contestant(on_device(step, device), functools.partial(optimizer.zero_grad, set_to_none=False)),
        f"{name}: dense step": Contestant(
            on_device(dense, device), functools.partial(others.zero_grad, set_to_none=False)
        ),
        f"{name}: hold": Contestant(holding(block._masked, optimizer, anew, device, clock)),
        f"{name}: clone()": Contestant(on_device(lambda: [weight.clone() for weight in weights], device)),
    }
    return made, lambda: once(block._masked, optimizer)


def once(masked: Any, optimizer: torch.optim.Optimizer) -> None:
    """Do what redense does around a step, without the step."""
    accumulate(masked)
    masked.before_step(optimizer, (optimizer,), {})
    masked.after_step(optimizer)


def kernels(hold: Callable[[], object]) -> int:
    """Return how many kernels holding takes on a GPU.

    Raises:
        RuntimeError: it waits for the GPU.
    """
    from torch.profiler import ProfilerActivity, profile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        hold()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        hold()
        torch.cuda.synchronize()
    events: Any = seen.events()
    return sum(event.device_type == torch.profiler.DeviceType.CUDA for event in events)


def main(arguments: list[str] | None = None) -> int:
    """Time each network, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--networks", nargs="+", default=["resnet50", "vgg16"], help="torchvision's names")
    options.add_argument("--batch", type=int, default=32, help="images of a step (default: 32)")
    options.add_argument("--side", type=int, default=224, help="pixels of an image's side (default: 224)")
    add_device(options)
    given = options.parse_args(arguments)
    device = device_of(given)
    if device is None:
        return 0

    seconds: dict[str, Seconds] = {}
    found: dict[str, int] = {}
    ratios, bars = [], []
    for name in given.networks:
        with ExitStack() as blocks:
            made, hold = contestants(name, given, device, blocks)
            times = measure(made, given.rounds, time.process_time)
            if device.type == "cuda":
                found[name] = kernels(hold)
        table(f"{name}, {given.batch} images of {given.side} x {given.side}", times, (f"{name}: step",))
        share, copies = (ratio(times, f"{name}: hold", f"{name}: {unit}") for unit in ("step", "clone()"))
        ratios += [share, copies, ratio(times, f"{name}: step", f"{name}: dense step")]
        bars.append(Bar(share, at_most=AT_MOST_STEP))
        if device.type != "cuda":
            bars.append(Bar(copies, at_most=AT_MOST_COPIES))
        seconds[name] = times
    if found:
        print(f"kernels of a hold, none of which waits: {found}")
    return finish(
        "hold_networks",
        given,
        settings={
            "batch": given.batch,
            "side": given.side,
            "sparsity": SPARSITY,
            "timed": "processor time" if device.type == "cpu" else "the clock",
        },
        seconds=seconds,
        ratios=ratios,
        bars=bars,
        facts={"kernels": found},
    )


if __name__ == "__main__":
    sys.exit(main())
