"""One training step of the quickstart's network as everybody writes it, and after each change that made it faster.

    python benchmarks/step_quickstart.py [--check] [--keep] [--compile] [--rounds 9]

A step is forward, backward and SGD on 64 images that are there already. Each line adds one change to the one before:
fp32 with contiguous tensors and ReLU before pooling; channels last; pooling before ReLU; bf16. With ``--keep`` the
process keeps freed memory, as `redense run` does. With ``--compile`` the last two are shown under `torch.compile` too,
which needs a C++ compiler; compiling is off the clock. ``ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`` in the environment shows
bf16 on a processor without AMX. Timed is processor time. The bar: the quickstart's step takes at most 0.7 of the first.
"""

from __future__ import annotations

import functools
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F
from common import Bar, Contestant, finish, measure, parser, ratio, table
from train_quickstart import network

from redense.lab.ranks.memory import keep_freed_memory

AT_MOST_PLAIN = 0.7
STEPS = 4  # of a contestant, a round

VARIANTS = {  # name -> ReLU before pooling, channels last, bf16, compiled
    "plain": (True, False, False, False),
    "channels last": (True, True, False, False),
    "pooled first": (False, True, False, False),
    "bf16": (False, True, True, False),
}
COMPILED = {"pooled first, compiled": (False, True, False, True), "bf16, compiled": (False, True, True, True)}


def steps(as_drawn: bool, channels_last: bool, bf16: bool, compiled: bool, images: int) -> None:
    """Train for a few steps."""
    model, optimizer, data, labels = made(as_drawn, channels_last, compiled, images)
    for _ in range(STEPS):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(data), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@functools.cache
def made(
    as_drawn: bool, channels_last: bool, compiled: bool, images: int
) -> tuple[torch.nn.Module, torch.optim.SGD, torch.Tensor, torch.Tensor]:
    """Return a network, its optimizer, images and labels."""
    torch.manual_seed(0)
    model = network(as_drawn=as_drawn)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    if compiled:
        model.compile()
    return model, optimizer, torch.randn(images, 1, 28, 28), torch.randint(10, (images,))


def main(arguments: list[str] | None = None) -> int:
    """Time every variant, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=9)
    options.add_argument("--images", type=int, default=64, help="of a batch (default: 64)")
    options.add_argument("--keep", action="store_true", help="keep freed memory, as redense run does")
    options.add_argument("--compile", action="store_true", help="show torch.compile too")
    given = options.parse_args(arguments)
    variants = {**VARIANTS, **(COMPILED if given.compile else {})}

    kept = given.keep and keep_freed_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    contestants = {
        name: Contestant(functools.partial(steps, *variant, given.images)) for name, variant in variants.items()
    }
    seconds = measure(contestants, given.rounds, time.process_time)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    each = faults / (len(variants) * STEPS * (given.rounds + 1))
    table(f"{STEPS} steps of {given.images} images, processor time", seconds, ("plain", "pooled first"))
    print(f"{each:.0f} page faults a step")
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA")
    pairs = [(name, "plain") for name in variants] + [("bf16", "pooled first")]
    if given.compile:
        pairs += [("pooled first, compiled", "pooled first"), ("bf16, compiled", "bf16")]
    ratios = [ratio(seconds, *pair) for pair in pairs]
    return finish(
        "-".join(
            ["step_quickstart", *(["kept"] * given.keep), *(["compiled"] * given.compile), *([isa] if isa else [])]
        ),
        given,
        settings={
            "images": given.images,
            "keep": kept,
            "compile": given.compile,
            "onednn_isa": isa,
            "timed": "processor time",
        },
        seconds={"steps": seconds},
        ratios=ratios,
        bars=[Bar(ratios[2], at_most=AT_MOST_PLAIN)],
        facts={"page_faults_a_step": each},
    )


if __name__ == "__main__":
    sys.exit(main())
