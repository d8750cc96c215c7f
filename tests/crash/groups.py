"""Runs and comparisons whose process group is sent a signal, or one of whose processes is killed, at a seeded moment.

    python tests/crash/groups.py recipe.yaml --times 100 --seed 0

Each time it is one of: a signal that asks to stop, to the process or to its group; kill -9 of the first process, or of
one of its helpers; of `run` or `compare`, with processes that prepare batches or without, in one rank or in two of
torchrun (a comparison in one rank has two jobs). What stops has to say so in a line, exit with the code that is
documented, leave no process, and end with the same bytes after --resume.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "processes"))

import forked

CLI = ("-m", "redense.cli")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "redense.cli")


class Way(NamedTuple):
    """A command, and in how many processes it works."""

    verb: str
    workers: int
    ranks: int

    def __str__(self) -> str:
        return f"{self.verb}, {self.workers} workers, {self.ranks} rank{'s' * (self.ranks > 1)}"


WAYS = tuple(Way(*each) for each in itertools.product(("run", "compare"), (0, 2), (1, 2)))
ASKING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
ENDS = (*itertools.product(ASKING, ("group", "process")), ("SIGKILL", "process"), ("SIGKILL", "helper"))
"""What is sent, and to whom."""

_MARK = "REDENSE_TEST_LEADER"  # in the environment of all that the first process starts
_GONE = 20.0  # seconds in which all processes of a group have to be gone, where nothing else computes


def words_of(way: Way, recipe: Path, folder: Path, *, again: bool = False) -> list[str]:
    """Return the command that begins, or the one that goes on."""
    start = TORCHRUN if way.ranks > 1 else CLI
    more = ["--no-store"]
    if way.verb == "compare":
        more = ["--store", str(folder / "store"), *(["--jobs", "1" if again else "2"] if way.ranks == 1 else [])]
    if again:
        return [*start, way.verb, "--resume", str(folder / "out"), *more]
    arms = ["--arms", "dsd,restart", "--seeds", str(3 - way.ranks)] if way.verb == "compare" else []
    own = ["--out", str(folder / "out"), "--data.workers", str(way.workers)]
    return [*start, way.verb, str(recipe), *own, *arms, *more]


def members(leader: int) -> list[int]:
    """Return the processes that a first one has started and that are not dead; torchrun puts its ranks in sessions."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            own = int(fields[3]) == leader or f"{_MARK}={leader}\0".encode() in (stat.parent / "environ").read_bytes()
            if own and fields[0] != "Z" and int(stat.parent.name) != leader:
                found.append(int(stat.parent.name))
    return sorted(found)


def is_training(way: Way, folder: Path) -> bool:
    """Whether steps are done, by every job that there is."""
    if way.verb == "run":
        path = folder / "out" / "metrics.jsonl"
        return path.exists() and path.stat().st_size > 0
    return len(list((folder / "store").rglob("progress.json"))) >= (2 if way.ranks == 1 else 1)


def start(words: list[str], log: Path, folder: Path) -> forked.Started:
    """Start a command as the first process of a session of its own; what it says goes to a file."""
    log.touch()
    code = (
        "import os, runpy, sys\n"
        f"os.environ[{_MARK!r}] = str(os.getpid())\n"
        f"for stream in (1, 2): os.dup2(os.open({str(log)!r}, os.O_WRONLY | os.O_APPEND), stream)\n"
        f"sys.argv = {['redense', *words[2:]]!r}\n"
        f"runpy.run_module({words[1]!r}, run_name='__main__', alter_sys=True)\n"
    )
    here = {"OMP_NUM_THREADS": "1", "REDENSE_STORE": "none", "COLUMNS": "200"}
    child = forked.start("-c", code, cwd=folder, env={**os.environ, **here}, start_new_session=True)
    atexit.register(_end_group, child.pid)  # a harness that is stopped leaves nobody who writes to its folders
    return child


def _end_group(leader: int) -> None:
    for one in members(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def disturb(
    way: Way, end: tuple[str, str], recipe: Path, folder: Path, chance: random.Random, gone: float
) -> tuple[str, list[str]]:
    """Disturb one and let it end, within so many seconds; return whom the signal met, and what was wrong."""
    name, target = end
    number = getattr(signal, name)
    log = folder / "log.txt"
    child = start(words_of(way, recipe, folder), log, folder)
    while child.poll() is None and not is_training(way, folder):
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.4 * way.ranks))
    met = "its end"
    wrong: list[str] = []
    if child.poll() is None:
        met = target
        if target == "group":
            os.killpg(child.pid, number)
        elif target == "process":
            os.kill(child.pid, number)
        elif helpers := [one for one in members(child.pid) if "resource_tracker" not in _command(one)]:
            os.kill(chance.choice(helpers), number)
        else:
            met = "nobody"
    try:
        code = child.wait(240)
    except TimeoutError:
        code = None
    since = time.monotonic()
    while members(child.pid) and time.monotonic() - since < gone:
        time.sleep(0.1)
    if left := members(child.pid):
        wrong.append(f"{len(left)} processes are left: {[_command(one) for one in left]}")
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    child.kill()
    return met, wrong + _said(way, end, met, code, log.read_text(errors="replace"), done=finished(folder))


def _said(way: Way, end: tuple[str, str], met: str, code: int | None, text: str, *, done: bool) -> list[str]:
    """Say what is wrong with the exit code and with the lines of one that was disturbed."""
    name, target = end
    number = getattr(signal, name)
    lines = [line for line in text.splitlines() if line.startswith("redense: ")]
    wrong: list[str] = []
    if way.ranks == 1:
        # A helper that is gone ends all with a line, or its work is done again.
        right = {0, -number} if end == ("SIGKILL", "process") else {0, 2} if target == "helper" else {0, 128 + number}
        if done:  # Python itself was ending, and has no handler any more
            right.add(-number)
        if code not in right:
            wrong.append(f"exit code {code}")
        if "Traceback" in text:
            wrong.append(f"a traceback: {text[-500:]}")
    if met in ("its end", "nobody") or code in (0, None):
        return wrong
    # torchrun itself does not know SIGUSR1 and dies of it: its ranks save as they do when it is killed.
    told = name in ASKING and not (done and code == -number) and not (way.ranks > 1 and name == "SIGUSR1")
    if told and [line for line in lines if f"stopped by {name}" in line] != lines[-1:]:
        wrong.append(f"no single line says what has stopped it: {lines}")
    if target == "helper" and way.ranks == 1 and len(lines) != 1:
        wrong.append(f"no single line says what was lost: {lines}")
    return wrong


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[-160:]
    except OSError:
        return ""


def go_on(way: Way, recipe: Path, folder: Path) -> list[str]:
    """Resume until there is a result; say what was wrong."""
    if finished(folder):
        return []
    log = folder / "again.txt"
    child = start(words_of(way, recipe, folder, again=True), log, folder)
    code = child.wait(900)
    return [f"resuming ended with {code}: {log.read_text(errors='replace')[-500:]}"] if code else []


def finished(folder: Path) -> bool:
    """Whether a run or comparison has its result."""
    return (folder / "out" / "result.json").exists() or (folder / "out" / "compare.json").exists()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return what has to be the same."""
    names = ("model.safetensors", "outcome.safetensors", "compare.json", "compare.csv")
    return {name: path.read_bytes() for name in names if (path := folder / "out" / name).exists()}


def straight(way: Way, recipe: Path, root: Path) -> dict[str, bytes]:
    """Return the bytes of one that nobody disturbs, and that has no workers: they do not matter."""
    plain = way._replace(workers=0)
    folder = root / f"straight-{plain.verb}-{plain.ranks}"
    if not finished(folder):
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.txt"
        code = start(words_of(plain, recipe, folder), log, folder).wait(900)
        if code:
            raise SystemExit(f"{plain} that nobody disturbs ended with {code}: {log.read_text()[-2000:]}")
    return bytes_of(folder)


def plan(times: int, seed: int) -> list[tuple[Way, tuple[str, str]]]:
    """Return so many ways and ends: all of them in a seeded order, then again."""
    chance, found = random.Random(seed), list[tuple[Way, tuple[str, str]]]()
    while len(found) < times:
        every = list(itertools.product(WAYS, ENDS))
        chance.shuffle(every)
        found += every
    return found[:times]


def harness(
    recipe: Path, numbers: range, seed: int, root: Path, out: IO[str], gone: float = _GONE
) -> list[dict[str, Any]]:
    """Disturb those of the plan, and compare each with one that nobody disturbs."""
    each: list[dict[str, Any]] = []
    planned = plan(numbers.stop, seed)
    done = root / f"done-{seed}.jsonl"  # a harness that was stopped goes on
    before = {one["number"]: one for one in map(json.loads, done.read_text().splitlines())} if done.exists() else {}
    for number in numbers:
        if number in before:
            each.append(before[number])
            continue
        way, end = planned[number]
        whole = straight(way, recipe, root)
        folder = root / f"{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        met, wrong = disturb(way, end, recipe, folder, random.Random(f"{seed}/{number}"), gone)
        wrong += go_on(way, recipe, folder)
        if not wrong and (not whole or bytes_of(folder) != whole):
            wrong.append("other bytes than without a signal")
        each.append({"number": number, "way": str(way), "signal": end[0], "to": end[1], "met": met, "wrong": wrong})
        with done.open("a") as lines:
            lines.write(json.dumps(each[-1]) + "\n")
        out.write(f"{number:>4}  {way!s:<28}{end[0]:<8} to the {end[1]:<8}{'; '.join(wrong) or f'identical ({met})'}\n")
        out.flush()
        if not wrong:
            shutil.rmtree(folder)
    return each


def main() -> int:
    """Run the harness; 1 if anything ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--times", type=int, default=len(WAYS) * len(ENDS))
    parser.add_argument("--first", type=int, default=0, help="leave out those before it: go on with a harness")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gone", type=float, default=_GONE, help="seconds in which all have to be gone (default: 20)")
    parser.add_argument("--root", type=Path, help="where the folders are made and kept, so that it can go on")
    parser.add_argument("--out", type=Path, help="write the raw result here")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    with tempfile.TemporaryDirectory() as temporary:
        root, numbers = options.root or Path(temporary), range(options.first, options.first + options.times)
        each = harness(options.recipe.resolve(), numbers, options.seed, root.resolve(), sys.stdout, options.gone)
    same = sum(not one["wrong"] for one in each)
    sys.stdout.write(f"{same} of {len(each)} identical\n")
    if options.out:
        result = {"seed": options.seed, "times": len(each), "identical": same, "each": each}
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    forked.stop()
    return int(same < len(each))


if __name__ == "__main__":
    raise SystemExit(main())
