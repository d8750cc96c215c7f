"""The clipped-ReLU recurrence of Deep Speech, forwards and backwards, against a plain loop and ``torch.nn.RNN``.

    python benchmarks/scan_recurrence.py [--check] [--hidden 320 1024] [--clips 16] [--steps 100] [--rounds 11]

The bar: at most 1.5 times ``nn.RNN`` on CPU, for every size. It is a bidirectional layer of as many units with plain
ReLU, which PyTorch has kernels for; it projects the input for each direction and puts the directions beside each other,
where Deep Speech projects it once and adds them. "loop" is our layer with autograd through the formula, step by step.
All clips are of full length, so that nobody gains by leaving out padding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from common import Bar, Contestant, Ratio, Seconds, finish, measure, parser, ratio, table
from torch import Tensor, nn

from redense.tasks.speech.network.modules import ClippedRecurrence, Packing
from redense.tasks.speech.network.recurrence import reference, scan

AT_MOST = 1.5


def contestants(hidden: int, clips: int, steps: int) -> dict[str, Contestant]:
    """Return a training pass of each layer: the output and the gradients of weights and input."""
    torch.manual_seed(0)
    ours = ClippedRecurrence(hidden, hidden)
    theirs = nn.RNN(hidden, hidden, nonlinearity="relu", bidirectional=True)
    packing = Packing(torch.full((clips,), steps))
    rows = torch.randn(steps * clips, hidden, requires_grad=True)
    grad = torch.randn(steps, clips, hidden)

    def loop() -> Tensor:
        weights = torch.stack([ours.forwards.weight, ours.backwards.weight])
        return reference(ours.inputs(rows).unflatten(0, (steps, clips)), weights)

    def rnn() -> Tensor:
        forwards, backwards = theirs(rows.unflatten(0, (steps, clips)))[0].chunk(2, 2)
        return forwards + backwards

    check(ours, rows, clips, steps)
    return {
        "redense": Contestant(lambda: ours(rows, packing).backward(grad.flatten(0, 1)), clear(ours, rows)),
        "loop": Contestant(lambda: loop().backward(grad), clear(ours, rows)),
        "nn.RNN": Contestant(lambda: rnn().backward(grad), clear(theirs, rows)),
    }


def clear(layer: nn.Module, rows: Tensor) -> Callable[[], None]:
    def prepare() -> None:
        layer.zero_grad()
        rows.grad = None

    return prepare


def check(layer: ClippedRecurrence, rows: Tensor, clips: int, steps: int) -> None:
    """Refuse a timing of what computes something else."""
    with torch.no_grad():
        inputs = layer.inputs(rows).unflatten(0, (steps, clips))
        weights = torch.stack([layer.forwards.weight, layer.backwards.weight])
        torch.testing.assert_close(scan(inputs, weights), reference(inputs, weights), rtol=1e-3, atol=1e-3)


def main(arguments: list[str] | None = None) -> int:
    """Time, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=11)
    options.add_argument("--hidden", type=int, nargs="+", default=[320, 1024], help="units, one size after another")
    options.add_argument("--clips", type=int, default=16, help="clips of a batch")
    options.add_argument("--steps", type=int, default=100, help="frames of a clip")
    given = options.parse_args(arguments)

    groups: dict[str, Seconds] = {}
    ratios: list[Ratio] = []
    bars: list[Bar] = []
    for hidden in given.hidden:
        size = f"{hidden} units"
        made = contestants(hidden, given.clips, given.steps)
        seconds = measure({f"{name}, {size}": contestant for name, contestant in made.items()}, given.rounds)
        loop, rnn = f"loop, {size}", f"nn.RNN, {size}"
        table(f"{size}, {given.clips} clips of {given.steps} frames, forwards and backwards", seconds, (loop, rnn))
        groups[size] = seconds
        ratios += [ratio(seconds, f"redense, {size}", other) for other in (loop, rnn)]
        bars.append(Bar(ratio(seconds, f"redense, {size}", rnn), at_most=AT_MOST))
    return finish(
        "scan_recurrence",
        given,
        settings={"hidden": given.hidden, "clips": given.clips, "steps": given.steps},
        seconds=groups,
        ratios=ratios,
        bars=bars,
    )


if __name__ == "__main__":
    sys.exit(main())
