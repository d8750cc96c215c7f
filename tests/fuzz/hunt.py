"""Change files of every kind, read them, and see whether a loader keeps its promises.

    python tests/fuzz/hunt.py --seconds 3600                     # of processor time, shared by all loaders
    python tests/fuzz/hunt.py --only picture-png --seconds 60

Anything but a result or a `RedenseError` in one line is a find, and so is more memory or processor time than the bound
of the file's size. Finds are written to ``--finds``; those that are mended are kept in ``found/`` and read by the quick
tests for ever. Which inputs are tried depends on the seed and on the number alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from loaders import LOADERS, MEGABYTE, Loader
from mutating import mutated

from redense.errors import RedenseError

SEEDS = Path(__file__).resolve().parent / "seeds"
FOUND = Path(__file__).resolve().parent / "found"
_LARGEST = 1 << 20  # bytes of an input
_BATCH = 500  # inputs of one process


@dataclass
class Tally:
    """What became of the inputs of one loader."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0
    finds: list[str] = field(default_factory=list)


def seeds_of(name: str) -> list[bytes]:
    """Return the whole files that a loader's inputs are made of, and what was found with it before."""
    places = [*sorted((SEEDS / name).glob("*")), *sorted((FOUND / name).glob("*"))]
    return [path.read_bytes() for path in places]


def input_of(name: str, seed: int, number: int) -> bytes:
    """Return one input; the first ones are the seeds as they are."""
    whole = seeds_of(name)
    if number < len(whole):
        return whole[number]
    chance = random.Random(f"{name}/{seed}/{number}")
    data = mutated(chance.choice(whole), chance, whole)
    return (mutated(data, chance, whole) if chance.random() < 0.2 else data)[:_LARGEST]


def fault_of(loader: Loader, data: bytes, folder: Path) -> tuple[str, bool]:
    """Read one input: what is wrong with how that went, or nothing; and whether it was read."""
    path = folder / loader.name
    path.write_bytes(data)
    before, began, read = _peak(), time.process_time(), False
    fault = ""
    try:
        loader.read(path)
        read = True
    except RedenseError as error:
        if "\n" in str(error) or not str(error):
            fault = f"a message of several lines, or none: {str(error)[:200]!r}"
    except Exception as error:  # noqa: BLE001  # all that may come of it is a find
        place = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__}: {str(error)[:200]} ({Path(place.filename).name}:{place.lineno})"
    spent, grown = time.process_time() - began, _peak() - before
    if not fault and spent > loader.seconds_of(len(data)):
        fault = f"{spent:.1f} s of processor time for {len(data):,} bytes"
    if not fault and grown > loader.bytes_of(len(data)):
        fault = f"{grown / MEGABYTE:,.0f} MB for {len(data):,} bytes"
    return fault, read


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- one process after another --------------------------------------------------------------------------------------


def hunt(name: str, seed: int, seconds: float, first: int = 0, most: int = 1 << 30) -> Tally:
    """Try inputs of a loader for so many seconds of processor time; each batch in a process of its own."""
    tally, number = Tally(), first
    while tally.seconds < seconds and number < first + most:
        number = _batch(name, seed, number, min(first + most, number + _BATCH), seconds - tally.seconds, tally)
    return tally


def _batch(name: str, seed: int, first: int, stop: int, seconds: float, tally: Tally) -> int:
    """Try inputs in a forked process, which may die of one; return the number of the first that is not done."""
    shared = mmap.mmap(-1, 32)  # the number at hand, how many were read, refused
    reading, writing = os.pipe()
    began = _children()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(name, seed, range(first, stop), seconds, shared, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        lines = [json.loads(line) for line in pipe]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    number, read, refused, peak = struct.unpack("4q", shared[:])
    spent = _children() - began
    tally.seconds += spent
    tally.inputs += number - first + 1
    tally.read, tally.refused = tally.read + read, tally.refused + refused
    tally.megabytes = max(tally.megabytes, peak / MEGABYTE)
    tally.finds += [f"{at}: {fault}" for at, fault in lines]
    if status:
        words = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        tally.finds.append(f"{number}: the process ended with {words}, after {spent:.0f} s")
    return number + 1


def _work(name: str, seed: int, numbers: range, seconds: float, shared: mmap.mmap, writing: int) -> None:
    loader, read, refused = LOADERS[name], 0, 0
    try:
        warnings.simplefilter("ignore")
        logging.disable()
        _limit(loader)
        with tempfile.TemporaryDirectory() as temporary:
            base, began = _peak(), time.process_time()
            for number in numbers:
                shared[:] = struct.pack("4q", number, read, refused, _peak() - base)
                folder = Path(temporary) / "place"
                folder.mkdir()
                with _within(loader.seconds_of(_LARGEST)):
                    fault, good = fault_of(loader, input_of(name, seed, number), folder)
                shutil.rmtree(folder)
                read, refused = read + good, refused + (not good)
                shared[:] = struct.pack("4q", number, read, refused, _peak() - base)
                if fault:
                    os.write(writing, (json.dumps([number, fault]) + "\n").encode())
                if time.process_time() - began > seconds or (fault and "MB for" in fault):
                    break
        os._exit(0)
    except BaseException:  # noqa: BLE001  # a forked child must not go on as its parent
        traceback.print_exc()
        os._exit(70)


def _limit(loader: Loader) -> None:
    """Let no input of a process take more memory than any may, far above what it is measured by."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + 2 * loader.bytes_of(_LARGEST) + 1024 * MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """End the process that computes longer than any input may: nothing else stops a loop in C."""
    signal.setitimer(signal.ITIMER_PROF, 2 * seconds)  # SIGPROF ends it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- all of them ----------------------------------------------------------------------------------------------------


def main() -> int:
    """Hunt, and print how many inputs each loader has seen; 1 if there is a find."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(LOADERS), help="loaders, with commas between")
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time, for all together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--finds", type=Path, help="a folder for the inputs that broke a promise")
    parser.add_argument("--out", type=Path, help="write the tallies here, as JSON")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names, tallies = options.only.split(","), dict[str, Any]()
    for name in names:
        tally = hunt(name, options.seed, options.seconds / len(names), options.first)
        tallies[name] = vars(tally)
        line = f"{name:<18}{tally.inputs:>8,} inputs {tally.read:>8,} read {tally.refused:>8,} refused "
        sys.stdout.write(f"{line}{tally.seconds:>7.0f} s {tally.megabytes:>6.0f} MB  {len(tally.finds)} finds\n")
        for find in tally.finds[:10]:
            sys.stdout.write(f"      {find}\n")
            if options.finds:
                (options.finds / name).mkdir(parents=True, exist_ok=True)
                number = int(find.partition(":")[0])
                (options.finds / name / f"{options.seed}-{number}").write_bytes(input_of(name, options.seed, number))
        sys.stdout.flush()
        if options.out:
            options.out.write_text(json.dumps({"seed": options.seed, "loaders": tallies}, indent=1) + "\n")
    return int(any(tally["finds"] for tally in tallies.values()))


if __name__ == "__main__":
    raise SystemExit(main())
