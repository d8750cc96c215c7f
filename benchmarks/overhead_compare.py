"""What a comparison pays beside its trainings: the processor time of everything else in it, its processes included.

    python benchmarks/overhead_compare.py [--check] [--set NAME=VALUE ...] [--steps 1500] [--seeds 2] [--rounds 3]

Three comparisons, each in a process of its own, from nothing to its page: `redense compare quickstart` (dsd, restart,
llr; a new store), `redense.compare` of the function that `examples/comparing/digits.py` has, and `redense compare
--command` of a program that trains the same. What counts as training: the steps and evaluations of the phases and of
the test split; the calls of the function; the processes of the program. What any training in Python pays once is set
apart and shown for the first two: the interpreter, `import torch`, the first optimizer, which imports torch's compiler,
and for the example `import sklearn`. Everything else is the comparison's: at most 5 % of the trainings.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

AT_MOST_SHARE = 0.05
EXAMPLE = Path(__file__).parent.parent / "examples" / "comparing" / "digits.py"
WAYS = ("recipe", "function", "command")
START, TRAINING, REST = "start", "training", "the rest"


def timed(spent: list[float], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a clock of processor time on it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append(time.process_time() - began)

    return call


def of_recipe(settings: list[str], seeds: int, folder: Path, spent: list[float]) -> None:
    """Compare the arms of the quickstart, as the command line does."""
    from redense.cli import main
    from redense.lab.training.engine import Engine
    from redense.lab.training.epochs import Epochs

    words = ["quickstart", "--arms", "dsd,restart,llr", "--seeds", str(seeds), "--jobs", "1"]
    places = ["--out", str(folder / "out"), "--store", str(folder / "store")]
    # The evaluations in `Epochs.train` are not among those that the comparison calls.
    inside = mock.patch.object(Epochs, "train", timed(spent, Epochs.train))
    ends = mock.patch.object(Engine, "outcome", outside(spent, Engine.outcome))
    with inside, ends:
        if main(["compare", *words, *places, *(f"--{setting}" for setting in settings)]):
            raise SystemExit("the comparison failed")


def outside(spent: list[float], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a clock on it that does not run where `Epochs.train` calls it: that has its own."""
    clocked = timed(spent, function)

    def call(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe()
        while frame := frame.f_back:
            if frame.f_code.co_name == "train" and frame.f_globals["__name__"].endswith(".epochs"):
                return function(*args, **kwargs)
        return clocked(*args, **kwargs)

    return call


def example(steps: int) -> tuple[Any, Any]:
    """Return the module of the example and its schedule, of so many steps."""
    import redense

    sys.path.insert(0, str(EXAMPLE.parent))
    import digits  # pyright: ignore[reportMissingImports]

    return digits, redense.Schedule.dsd(dense=steps, sparse=steps // 2, redense=steps // 2, sparsity=0.3)


def of_function(steps: int, seeds: int, folder: Path, spent: list[float]) -> None:
    """Compare the function of the example."""
    import redense

    module, schedule = example(steps)
    redense.compare(
        timed(spent, module.train), schedule, arms=("dsd", "restart", "llr"), seeds=seeds, out=folder / "out"
    )


def of_command(steps: int, seeds: int, folder: Path, spent: list[float]) -> None:
    """Compare a program that trains what the example trains."""
    from redense.cli import main

    script = folder / "train.py"
    script.write_text(
        f"import json, sys; sys.path.insert(0, {str(EXAMPLE.parent)!r})\n"
        "import digits, redense\n"
        f"schedule = redense.Schedule.dsd(dense={steps}, sparse={steps // 2}, redense={steps // 2}, sparsity=0.3)\n"
        "print(json.dumps(digits.train(schedule, int(sys.argv[1]))))\n"
    )
    commands = [word for arm in ("new", "base") for word in ("--command", f"{arm}={sys.executable} {script} {{seed}}")]
    before = children()
    if main(["compare", *commands, "--baseline", "base", "--seeds", str(seeds), "--out", str(folder / "out")]):
        raise SystemExit("the comparison failed")
    spent.append(children() - before)


def children() -> float:
    """Return the processor time of the processes that have ended, in s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def once(way: str, settings: list[str], steps: int, seeds: int) -> dict[str, float]:
    """Compare in this process; return its seconds by what they are for."""
    start = 0.0
    if way != "command":
        import torch

        torch.set_num_threads(1)
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])
        if way == "function":
            import sklearn.datasets  # noqa: F401  # the example has it
        start = time.process_time()
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        if way == "recipe":
            of_recipe(settings, seeds, Path(name), spent)
        elif way == "function":
            of_function(steps, seeds, Path(name), spent)
        else:
            of_command(steps, seeds, Path(name), spent)
    whole = time.process_time() + children()
    return {START: start, TRAINING: sum(spent), REST: whole - start - sum(spent)}


def main(arguments: list[str] | None = None) -> int:
    """Compare in processes, add up, print, store; return the exit status."""
    import torch
    from common import Bar, finish, parser, ratio, table

    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="of the recipe: dense.epochs=1")
    options.add_argument("--steps", type=int, default=1500, help="of the example's dense phase (default: 1500)")
    options.add_argument("--seeds", type=int, default=2, help="of each comparison (default: 2)")
    given = options.parse_args(arguments)

    seconds: dict[str, list[float]] = {}
    torch.set_num_threads(1)
    for _ in range(given.rounds):
        for way in WAYS:
            words = [way, json.dumps(given.set), str(given.steps), str(given.seeds)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, __file__, "--once", *words],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            for what, taken in json.loads(done.stdout.splitlines()[-1]).items():
                seconds.setdefault(f"{way}: {what}", []).append(taken)
    seconds = {name: taken for name, taken in seconds.items() if any(taken)}  # a command starts nothing else
    ratios = [ratio(seconds, name, f"{name.partition(':')[0]}: {TRAINING}") for name in seconds if TRAINING not in name]
    notes = {item.of: f"{item.median:.2%} of its trainings" for item in ratios}
    table("comparisons: processor time", seconds, (), notes)
    return finish(
        "overhead_compare",
        given,
        settings={"set": given.set, "steps": given.steps, "seeds": given.seeds, "timed": "processor time"},
        seconds={"comparison": seconds},
        ratios=ratios,
        bars=[Bar(item, at_most=AT_MOST_SHARE) for item in ratios if item.of.endswith(REST)],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        _, _, way, settings, steps, seeds = sys.argv
        print(json.dumps(once(way, json.loads(settings), int(steps), int(seeds))))
        sys.exit()
    sys.exit(main())
