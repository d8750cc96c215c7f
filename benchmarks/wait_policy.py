"""A training step on two threads that spin while they wait, and on two that soon sleep: alone, and beside others.

    python benchmarks/wait_policy.py [--check] [--rounds 7]

OpenMP chooses when it is loaded, so each is a process of its own, which trains the quickstart's network for a while on
64 images that are there already, and says what a step took. The busy program is an endless loop on each core. Where
others are busy, `redense` sets ``GOMP_SPINCOUNT=20000``, which is "soon asleep". The bars: a step then takes at most
1.1 of the time of one that spins where the machine is quiet, and at most half of it beside the busy program, where a
sixth of the steps is made.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Bar, Contestant, Took, finish, measure, parser, ratio, table
from train_quickstart import network

AT_MOST_QUIET = 1.1
AT_MOST_BUSY = 0.5
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
THREADS = 2


def steps(count: int, images: int) -> float:
    """Train for a few steps on two threads, and return what one took, in s."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = network(as_drawn=False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    data, labels = torch.randn(images, 1, 28, 28), torch.randint(10, (images,))
    began = 0.0
    for index in range(-2, count):  # two are off the clock
        if index == 0:
            began = time.perf_counter()
        F.cross_entropy(model(data), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - began) / count


def in_a_process(asleep: bool, count: int, images: int) -> Took:
    """Return what a step takes in a process whose threads wait in one of the two ways."""
    own = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    policy = {"GOMP_SPINCOUNT": "20000"} if asleep else {}
    said = subprocess.run(
        [sys.executable, str(Path(__file__)), "--steps", str(count), "--images", str(images), "--one"],
        env={**own, **policy},
        check=True,
        capture_output=True,
        text=True,
    )
    return Took(said.stdout)


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keep every core busy with an endless loop."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main(arguments: list[str] | None = None) -> int:
    """Time both alone and beside a busy program, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=7)
    options.add_argument("--images", type=int, default=64, help="of a batch (default: 64)")
    options.add_argument("--steps", type=int, default=150, help="of a contestant, a round (default: 150)")
    options.add_argument("--one", action="store_true", help="only say what a step takes here, in s")
    given = options.parse_args(arguments)
    if given.one:
        print(steps(given.steps, given.images))
        return 0

    def contestants(count: int) -> dict[str, Contestant]:
        return {
            name: Contestant(functools.partial(in_a_process, asleep, count, given.images))
            for name, asleep in (("spinning", False), ("soon asleep", True))
        }

    seconds = {"quiet": measure(contestants(given.steps), given.rounds)}
    with busy():
        seconds["busy"] = measure(contestants(max(1, given.steps // 6)), given.rounds)
    ratios = []
    for where, times in seconds.items():
        table(f"a step of {given.images} images on {THREADS} threads, {where}", times, ("spinning",))
        ratios.append(ratio(times, "soon asleep", "spinning"))
    return finish(
        "wait_policy",
        given,
        settings={"images": given.images, "steps": given.steps, "threads": THREADS, "timed": "the clock"},
        seconds=seconds,
        ratios=ratios,
        bars=[Bar(ratios[0], at_most=AT_MOST_QUIET), Bar(ratios[1], at_most=AT_MOST_BUSY)],
    )


if __name__ == "__main__":
    sys.exit(main())
