"""Runs and comparisons whose process group is sent a signal, or whose first process is killed, at a seeded moment.

    python tests/crash/groups.py --times 100 --seed 0

Each time it is one of: SIGINT or SIGTERM, to the process or to its group, or kill -9 of the first process; of a run, a
run with processes that prepare batches, a comparison with two jobs, or two ranks of torchrun. What stops has to say so
in a line, exit with the code that is documented, leave no process, and end with the same bytes after --resume.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CLI = [sys.executable, "-m", "redense.cli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "redense.cli"]

WAYS = ("run", "run with workers", "compare", "ranks")
ENDS = (
    ("SIGTERM", "group"),
    ("SIGTERM", "process"),
    ("SIGINT", "group"),
    ("SIGINT", "process"),
    ("SIGKILL", "process"),
)
_GONE = 15.0  # seconds in which all processes of a group have to be gone


def words_of(way: str, recipe: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Return the command that begins, and the one that goes on."""
    begin = TORCHRUN if way == "ranks" else CLI
    if way == "compare":
        more = ["--store", str(folder.with_name(f"{folder.name}-store")), "--jobs", "2"]
        arms = ["--arms", "dsd,restart", "--seeds", "1", "--out", str(folder)]
        return [*begin, "compare", str(recipe), *arms, *more], [*begin, "compare", "--resume", str(folder), *more]
    workers = ["--data.workers", "2"] if way == "run with workers" else []
    out = ["--out", str(folder), "--no-store", *workers]
    return [*begin, "run", str(recipe), *out], [*begin, "run", "--resume", str(folder), "--no-store"]


def members(leader: int) -> list[int]:
    """Return the processes of a session that are not dead, but for its first."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == leader and fields[0] != "Z" and int(stat.parent.name) != leader:
                found.append(int(stat.parent.name))
    return found


def progress(folder: Path) -> int:
    """Return a number that grows as something is trained."""
    store = folder.with_name(f"{folder.name}-store")
    found = [folder / "metrics.jsonl", *store.glob("*/*/progress.json"), *store.glob("*/*/state.safetensors")]
    size = 0
    for path in found:
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size


def once(way: str, end: tuple[str, str], recipe: Path, folder: Path, chance: random.Random) -> list[str]:
    """Disturb one and let it end; return what was wrong."""
    name, target = end
    begin, again = words_of(way, recipe, folder)
    log = folder.with_name(f"{folder.name}.log")
    with log.open("wb") as out:
        child = subprocess.Popen(begin, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
    # From the first step that was logged to about the end.
    while child.poll() is None and progress(folder) < 1:
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 1.5))
    wrong: list[str] = []
    if child.poll() is None:
        number = getattr(signal, name)
        (os.killpg if target == "group" else os.kill)(child.pid, number)
    try:
        code = child.wait(60)
    except subprocess.TimeoutExpired:
        code = None
    since = time.monotonic()
    while members(child.pid) and time.monotonic() - since < _GONE:
        time.sleep(0.1)
    if left := members(child.pid):
        wrong.append(f"{len(left)} processes are left")
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    child.kill()
    said = log.read_text(errors="replace")
    number = getattr(signal, name)
    right = {0, -number} if name == "SIGKILL" else {0, 128 + number}
    if way != "ranks" and code not in right:
        wrong.append(f"exit code {code}")
    if way != "ranks" and "Traceback" in said:  # torchrun shows its own
        wrong.append(f"a traceback: {said[-300:]}")
    if code and name != "SIGKILL" and f"stopped by {name}" not in said and way != "ranks":
        wrong.append("no line says what has stopped it")
    if not finished(folder):
        done = subprocess.run(again, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            wrong.append(f"resuming ended with {done.returncode}: {done.stderr[-300:]}")
    return wrong


def finished(folder: Path) -> bool:
    """Whether a run or comparison has its result."""
    return (folder / "result.json").exists() or (folder / "compare.json").exists()


def bytes_of(folder: Path) -> list[bytes]:
    """Return what has to be the same."""
    return [(folder / n).read_bytes() for n in ("model.safetensors", "compare.json") if (folder / n).exists()]


def harness(recipe: Path, times: int, seed: int, root: Path, ways: tuple[str, ...] = WAYS) -> dict[str, Any]:
    """Disturb so many and compare each with one that nobody disturbs."""
    straight: dict[str, list[bytes]] = {}
    each: list[dict[str, Any]] = []
    for number, (end, way) in zip(range(times), itertools.cycle(itertools.product(ENDS, ways)), strict=False):
        if way not in straight:
            begin, _ = words_of(way, recipe, root / f"straight-{len(straight)}")
            subprocess.run(begin, check=True, capture_output=True, stdin=subprocess.DEVNULL)
            straight[way] = bytes_of(root / f"straight-{len(straight)}")
        folder = root / f"{number}"
        wrong = once(way, end, recipe, folder, random.Random(f"{seed}/{number}"))
        if not wrong and bytes_of(folder) != straight[way]:
            wrong.append("other bytes than without a signal")
        each.append({"way": way, "signal": end[0], "to": end[1], "wrong": wrong})
        sys.stdout.write(f"{number:>4}  {way:<17}{end[0]:<8} to the {end[1]:<8}{'; '.join(wrong) or 'identical'}\n")
        sys.stdout.flush()
    return {"seed": seed, "times": times, "identical": sum(not one["wrong"] for one in each), "each": each}


def main() -> int:
    """Run the harness; 1 if anything ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", default=",".join(WAYS), help="of: %(default)s")
    parser.add_argument("--out", type=Path, help="write the raw result here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        result = harness(options.recipe, options.times, options.seed, Path(temporary), tuple(options.ways.split(",")))
    sys.stdout.write(f"{result['identical']} of {result['times']} identical\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return int(result["identical"] < result["times"])


if __name__ == "__main__":
    raise SystemExit(main())
