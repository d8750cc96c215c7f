"""What the benchmarks share: interleaved timing, ratios of one run, a table, and the raw result as JSON.

Every round runs every contestant once, in an order shuffled anew, and a ratio is taken within a round: another program
that slows the machine for a while then slows both sides. Bars are ratios, never seconds.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import random
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from redense.lab.environment import environment

RESULTS = Path(__file__).parent / "results"


def _nothing() -> None: ...


@dataclass(frozen=True)
class Contestant:
    """Something to time: ``run``; what it needs is done by ``prepare``, off the clock."""

    run: Callable[[], object]
    prepare: Callable[[], object] = _nothing


class Took(float):
    """What ``run`` may return: its own time in s, where that is not the time on this process's clock."""


def on_device(run: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Return what runs it to its end: on a GPU, whose work goes on behind a call, with the time that it took."""
    if device.type != "cuda":
        return run

    def finished() -> Took:
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        return Took(time.perf_counter() - began)

    return finished


def device_of(options: argparse.Namespace) -> torch.device | None:
    """Return the device that was asked for with ``--device``; say why not and return nothing where there is none."""
    if options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device here")
        return None
    return torch.device(options.device)


@dataclass(frozen=True)
class Ratio:
    """How long one contestant takes in units of another: over the rounds, the median, least and greatest."""

    of: str
    to: str
    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        digits = 4 if self.median < 0.1 else 2 if self.median < 10 else 1
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}–{self.greatest:.{digits}f})"


@dataclass(frozen=True)
class Bar:
    """What must hold for the benchmark to pass: a ratio is at most, or at least, a number."""

    ratio: Ratio
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        return (self.at_most is None or self.ratio.median <= self.at_most) and (
            self.at_least is None or self.ratio.median >= self.at_least
        )

    def __str__(self) -> str:
        limits = (("at most", self.at_most), ("at least", self.at_least))
        said = " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)
        return f"{'met' if self.met else 'MISSED'}: {self.ratio.of} / {self.ratio.to} is {self.ratio}, bar: {said}"


Seconds = dict[str, list[float]]  # contestant -> its time in each round


def measure(
    contestants: Mapping[str, Contestant], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Seconds:
    """Time every contestant once a round, after one untimed round.

    ``time.process_time`` as the clock counts the processor time of this process: others disturb it least.
    """
    seconds: Seconds = {name: [] for name in contestants}
    shuffle = random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        for index in range(rounds + 1):
            order = list(contestants)
            shuffle(order)
            for name in order:
                contestants[name].prepare()
                start = clock()
                result = contestants[name].run()
                elapsed = float(result) if isinstance(result, Took) else clock() - start
                del result  # off the clock
                if index:
                    seconds[name].append(elapsed)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return seconds


HELD = 9  # steps, in which all weights are looked at once


def holding(
    masked: Any,
    optimizer: Any,
    step: Callable[[], object],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[], Took]:
    """Return the work of redense in a step, where it is done: the mean of `HELD` steps that are made for it.

    Args:
        masked: a `redense.holding.masked.Masked` in force.
        optimizer: one of those that it was given, with the hooks of redense around its step.
        step: makes a step: backward, or `accumulate`, and the optimizer's.
        device: waited for on both sides of the work, where that is a GPU.
        clock: in s.
    """
    took = 0.0

    def timed(work: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(work)
        def run(*given: object) -> object:
            nonlocal took
            began = now()
            result = work(*given)
            took += now() - began
            return result

        return run

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock()

    def hold() -> Took:
        nonlocal took
        took = 0.0
        hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
        kept = [dict(each) for each in hooks]
        for each in hooks:
            each.update({key: timed(hook) for key, hook in each.items()})
        masked._gradients._accumulated = timed(masked._gradients._accumulated)
        try:
            for _ in range(HELD):
                step()
        finally:
            del masked._gradients._accumulated
            for each, own in zip(hooks, kept, strict=True):
                each.update(own)
        return Took(took / HELD)

    return hold


def accumulate(masked: Any) -> None:
    """Do what redense's hooks on the parameters do in backward: mask each gradient."""
    for name, parameter in masked.parameters.items():
        masked._gradients._accumulated(name, parameter.grad)


def ratio(seconds: Seconds, of: str, to: str) -> Ratio:
    """Return the ratio of two contestants, taken in each round."""
    ratios = [a / b for a, b in zip(seconds[of], seconds[to], strict=True)]
    return Ratio(of, to, statistics.median(ratios), min(ratios), max(ratios))


def table(title: str, seconds: Seconds, units: Sequence[str], notes: Mapping[str, str] | None = None) -> None:
    """Print one line a contestant: its median time, and its ratio to each of the units, and a note."""
    out = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, heading in enumerate(("", "median ms", *(f"in units of {unit}" for unit in units), "")):
        out.add_column(heading, justify="right" if index else "left", no_wrap=True)
    for name, times in seconds.items():
        ratios = [str(ratio(seconds, name, unit)) for unit in units]
        out.add_row(name, f"{1e3 * statistics.median(times):.2f}", *ratios, (notes or {}).get(name, ""))
    Console(width=160, highlight=False).print(out)


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """Return the options that every benchmark has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--rounds", type=int, default=rounds, help=f"timed repetitions (default: {rounds})")
    options.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder of the raw result (default: results)")
    return options


def add_device(options: argparse.ArgumentParser) -> None:
    """Add ``--device``, to a benchmark that can be run on a GPU; without one it is skipped there."""
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)")


def finish(
    name: str,
    options: argparse.Namespace,
    *,
    settings: Mapping[str, Any],
    seconds: Mapping[str, Seconds],
    ratios: Sequence[Ratio],
    bars: Sequence[Bar],
    facts: Mapping[str, Any] | None = None,
) -> int:
    """Print the bars, write the raw result, and return the exit status."""
    for bar in bars:
        print(bar)
    threads = torch.get_num_threads()
    where = environment()
    where["command"] = re.sub(r" --out \S+", "", where["command"])  # a path of this machine, which nothing depends on
    result = {
        "benchmark": name,
        "settings": {**settings, "rounds": options.rounds},
        "bars": [{**asdict(bar), "met": bar.met} for bar in bars],
        "ratios": [asdict(item) for item in ratios],
        "facts": dict(facts or {}),
        "environment": {**where, "load": list(os.getloadavg())},
        "seconds": {group: dict(times) for group, times in seconds.items()},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    kind = "cuda" if getattr(options, "device", "cpu") == "cuda" else f"{threads}-thread{'s' if threads > 1 else ''}"
    file = options.out / f"{name}-{kind}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"raw result: {file.name}")
    return int(options.check and not all(bar.met for bar in bars))
