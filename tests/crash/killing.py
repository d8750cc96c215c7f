"""Runs of `redense run` that kill themselves at a seeded moment and are resumed, beside one that nobody disturbs.

    python tests/crash/killing.py RECIPE --runs 100 --seed 0 --out kills.json

Each attempt is a process of its own, forked from one that has imported everything, and ends by a real SIGKILL. The
moment is the n-th event of a kind: a step, a phase switch, half of a write, before or after a sync or a rename. With
``--cut`` it is the power that fails: what was written and not synced is lost or half there, and a rename whose folder
was not synced may not have been. ``--broken`` breaks redense on purpose, to see that the harness notices.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from redense import cli
from redense.files import writing
from redense.lab import checkpoint
from redense.lab.environment import environment
from redense.lab.runs import log as records
from redense.lab.runs import result, resume, run
from redense.lab.training import engine, network

KINDS = ("start", "step", "phase switch", "evaluation", "checkpoint", "metrics", "store", "result", "report")
PACES = (0.0, 0.02, 30.0)  # seconds between two checkpoints within a phase

_RESULT = ("model", "outcome", "evidence", "moments", "result", "SHA256SUMS")


# --- what can be lost -----------------------------------------------------------------------------------------------


class Disk:
    """Remembers what is not synced yet, and loses it."""

    def __init__(self) -> None:
        self.synced: dict[Path, int] = {}  # bytes that are safe of a file that was written to
        self.renamed: list[tuple[Path, bytes | None]] = []  # what a name stood for, until its folder is synced

    def wrote(self, path: Path, size_before: int) -> None:
        self.synced.setdefault(path, size_before)

    def sync(self, path: Path) -> None:
        if path.is_dir():
            self.renamed = [(name, old) for name, old in self.renamed if name.parent != path]
        else:
            self.synced.pop(path, None)

    def rename(self, source: Path, target: Path) -> None:
        self.renamed.append((target, target.read_bytes() if target.exists() else None))
        self.synced.pop(target, None)
        if source in self.synced:
            self.synced[target] = self.synced.pop(source)

    def cut(self, chance: random.Random) -> None:
        for path, size in self.synced.items():
            if path.exists() and path.stat().st_size > size:
                with path.open("r+b") as file:
                    kept = chance.randint(size, path.stat().st_size)
                    file.truncate(kept)
                    if chance.random() < 0.5:  # its length is on the disk, and its bytes are not
                        file.seek(size)
                        file.write(bytes(kept - size))
        for path, old in reversed(self.renamed):
            if chance.random() < 0.5:
                path.unlink(missing_ok=True)
                if old is not None:
                    path.write_bytes(old)


# --- moments --------------------------------------------------------------------------------------------------------


class Moments:
    """Counts what happens in this process, and kills it at the n-th event of a kind."""

    def __init__(self, store: Path, die: tuple[str, int] | None, chance: random.Random, *, cut: bool) -> None:
        self._store, self._die, self._chance = store, die, chance
        self._disk = Disk() if cut else None
        self.counts: Counter[str] = Counter()
        self.last = ""
        self.note: Callable[[str], None] = lambda what: None

    def at(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        if self._die == (kind, self.counts[kind]):
            self.note(what)
            disk, self._disk, self._die = self._disk, None, None
            if disk:
                disk.cut(self._chance)
            os.kill(os.getpid(), signal.SIGKILL)

    def kind_of(self, path: Path) -> str:
        if path.is_relative_to(self._store):
            return "store"
        name = path.name.lstrip(".")
        if "checkpoints" in (path.parent.name, path.name):
            return "checkpoint"
        if name.startswith("metrics"):
            return "metrics"
        if name.startswith("report"):
            return "report"
        return "result" if name.startswith(_RESULT) else "start"

    def watch(self) -> None:
        """Put the hooks in place, for the rest of this process."""
        self._around(torch.optim.SGD, "step", "step")
        self._around(network.Network, "backward", "step")
        self._around(engine.Engine, "train", "phase switch")
        self._around(engine, "DSD", "phase switch")
        self._around(engine.Engine, "outcome", "evaluation")
        opened, sync, replace, link = Path.open, os.fsync, Path.replace, Path.hardlink_to

        def watched_open(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = opened(path, mode, *arguments, **options)
            return self._watched(path, file) if set(mode) & set("wa") and path.name != ".lock" else file

        def watched_sync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").resolve()
            self.at(self.kind_of(path), f"before the sync of {path.name}")
            sync(descriptor)
            if self._disk:
                self._disk.sync(path)
            self.at(self.kind_of(path), f"after the sync of {path.name}")

        def watched_replace(path: Path, target: Any) -> Path:
            kind = self.kind_of(Path(target))
            self.at(kind, f"before the rename of {Path(target).name}")
            if self._disk:
                self._disk.rename(path.resolve(), Path(target).resolve())
            moved = replace(path, target)
            self.at(kind, f"after the rename of {Path(target).name}")
            return moved

        def watched_link(path: Path, target: Any) -> None:
            link(path, target)
            self.at(self.kind_of(path), f"after the link of {path.name}")

        patches: list[tuple[Any, str, Any]] = [
            (Path, "open", watched_open),
            (os, "fsync", watched_sync),
            (Path, "replace", watched_replace),
            (Path, "hardlink_to", watched_link),
        ]
        for owner, name, value in patches:
            setattr(owner, name, value)

    def _around(self, owner: Any, name: str, kind: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            self.at(kind, f"before {name}")
            given = original(*arguments, **options)
            self.at(kind, f"after {name}")
            return given

        setattr(owner, name, watched)

    def _watched(self, path: Path, file: Any) -> Any:
        write, moments = file.write, self

        def watched_write(data: Any) -> int:
            kind, size = moments.kind_of(path), path.stat().st_size
            if moments._disk:
                file.flush()
                moments._disk.wrote(path.resolve(), path.stat().st_size)
            half = len(data) // 2
            written = write(data[:half])
            file.flush()
            moments.at(kind, f"{half} of {len(data)} bytes into {path.name}, which had {size}")
            return written + write(data[half:])

        return Watched(file, watched_write)


class Watched:
    """A file whose writes are watched."""

    def __init__(self, file: Any, write: Callable[[Any], int]) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


# --- redense, broken on purpose -------------------------------------------------------------------------------------


def _in_place(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)


def _break(how: str) -> None:
    if how == "no sync":
        writing.os = type("os", (), {**vars(os), "fsync": staticmethod(lambda descriptor: None)})
        records.os = writing.os
    elif how == "in place":
        for module in (writing, checkpoint, run, result, records):
            vars(module)["write_bytes"] = _in_place
    elif how == "no generator":
        engine.set_rng_state = lambda state, device: None
    elif how == "no log":
        records.Recorder.mark = lambda self, step: None
        records.check_records = resume.check_records = lambda folder, step: None


BROKEN = ("no sync", "in place", "no generator", "no log")


# --- one run --------------------------------------------------------------------------------------------------------


class Place:
    """The folders of one run, and its attempts."""

    def __init__(self, root: Path, recipe: Path, *, pace: float, stored: bool, cut: bool, broken: str | None) -> None:
        self.folder, self.store, self._log = root / "run", root / "store", root / "log.txt"
        self._recipe, self._pace, self._stored, self._cut, self._broken = recipe, pace, stored, cut, broken
        root.mkdir(parents=True)

    def attempt(self, die: tuple[str, int] | None, chance: random.Random) -> tuple[int, dict[str, Any]]:
        """Start the run or go on with it, in a process of its own: how it ended, and what it noted."""
        notes = self._log.with_name("notes.json")
        notes.write_text("{}")
        child = os.fork()
        if child == 0:
            self._in_child(die, chance, notes)
        status = os.waitpid(child, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        return code, json.loads(notes.read_text())

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def _in_child(self, die: tuple[str, int] | None, chance: random.Random, notes: Path) -> None:
        code = 70
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(log, stream)
            assert run.train_run.__kwdefaults__ is not None
            run.train_run.__kwdefaults__["save_seconds"] = self._pace
            if self._broken:
                _break(self._broken)
            moments = Moments(self.store.resolve(), die, chance, cut=self._cut)
            descriptor = os.open(notes, os.O_WRONLY)
            moments.note = lambda what: _pour(descriptor, {"what": what})
            begun = (self.folder / "recipe.yaml").exists()
            words = ["run", *(["--resume", self.folder] if begun else [self._recipe, "--out", self.folder])]
            words += ["--store", self.store] if self._stored else ["--no-store"]
            moments.watch()
            code = cli.main(list(map(str, words)))
            _pour(descriptor, dict(moments.counts))
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001  # a forked child must not go on as its parent
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def _pour(descriptor: int, data: dict[str, Any]) -> None:
    os.pwrite(descriptor, json.dumps(data).encode(), 0)


def timeless(value: Any) -> Any:
    """A result or a log without what the clock says."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def differences(folder: Path, straight: Path) -> list[str]:
    """Say what of a run is not what it is of one that nobody has disturbed."""
    found: list[str] = []
    names = ["model.safetensors", "outcome.safetensors", "evidence.json", "moments.json"]
    names += [str(path.relative_to(straight)) for path in sorted((straight / "checkpoints").iterdir())]
    for name in names:
        if not (folder / name).is_file() or (folder / name).read_bytes() != (straight / name).read_bytes():
            found.append(name)
    for name in ("metrics.jsonl", "result.json"):
        if list(_plain(folder / name)) != list(_plain(straight / name)):
            found.append(name)
    if not (folder / "report.html").is_file():
        found.append("report.html")
    found += [f"left behind: {path.name}" for path in folder.rglob(".*") if path.name != ".lock"]
    return found


def _plain(path: Path) -> Iterator[Any]:
    if path.is_file():
        text = path.read_text()
        for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
            yield timeless(json.loads(line))


def kill_and_resume(place: Place, straight: Path, counts: dict[str, int], chance: random.Random, kind: str) -> Any:
    """Kill a run once to three times and let it end; return what happened."""
    kinds = [kind, *chance.choices(KINDS, k=chance.choice((0, 1, 1, 2)))]
    kills: list[dict[str, Any]] = []
    code = 0
    for number, chosen in enumerate(kinds):
        # What is left of a run that was killed before has fewer events than a whole one.
        event = chance.randint(1, max(1, counts[chosen] // (1 + 2 * bool(number))))
        code, noted = place.attempt((chosen, event), chance)
        if code != -signal.SIGKILL:
            break
        kills.append({"kind": chosen, "event": event, "what": noted.get("what")})
    else:
        code, _ = place.attempt(None, chance)
    wrong = [f"exit code {code}: {place.said[-300:]}"] if code else differences(place.folder, straight)
    return {"kills": kills, "wrong": wrong}


# --- many -----------------------------------------------------------------------------------------------------------


def harness(
    recipe: Path,
    runs: int,
    seed: int,
    *,
    cut: bool = False,
    broken: str | None = None,
    keep: Callable[[dict[str, Any]], None] = lambda so_far: None,
) -> dict[str, Any]:
    """Kill so many runs at seeded moments, resume each, and compare it with one that was not killed."""
    result = dict[str, Any]()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        _warm_up(recipe, root)
        counts: dict[float, dict[str, int]] = {}
        straight = Path()
        for pace in PACES:
            place = Place(root / f"straight-{pace}", recipe, pace=pace, stored=True, cut=False, broken=None)
            code, noted = place.attempt(None, random.Random())
            if code:
                raise SystemExit(f"the run that nobody disturbs ended with {code}: {place.said}")
            counts[pace] = Counter(noted)
            if straight == Path():
                straight = place.folder
            elif wrong := differences(place.folder, straight):
                raise SystemExit(f"undisturbed runs differ: {wrong}")
        done, made_in = list[dict[str, Any]](), {k: v for k, v in environment().items() if k != "command"}
        for number in range(runs):
            chance = random.Random(f"{seed}/{number}")
            kind = KINDS[number % len(KINDS)]
            pace, stored = chance.choice(PACES), kind == "store" or chance.random() < 0.7
            place = Place(root / f"{number}", recipe, pace=pace, stored=stored, cut=cut, broken=broken)
            found = kill_and_resume(place, straight, counts[pace], chance, kind)
            done.append({"run": number, "save_seconds": pace, "store": stored, **found})
            shutil.rmtree(root / f"{number}")
            result = {
                "seed": seed,
                "power_cut": cut,
                "broken": broken,
                "runs": len(done),
                "kills": sum(len(one["kills"]) for one in done),
                "identical": sum(not one["wrong"] for one in done),
                "moments": dict(Counter(kill["kind"] for one in done for kill in one["kills"])),
                "environment": made_in,
                "each": done,
            }
            keep(result)
    return result


def _warm_up(recipe: Path, root: Path) -> None:
    """Import and look up all that an attempt needs, so that each does not do it again."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(["run", str(recipe), "--out", str(root / "warm"), "--no-store"])
    threads = len([*Path("/proc/self/task").iterdir()])
    if code or threads > 1:
        raise SystemExit(f"exit code {code}, {threads} threads: no process to fork from")


def table(result: dict[str, Any]) -> str:
    """Return how many kills hit each kind of moment, and how many of the runs ended as if there had been none."""
    out = io.StringIO()
    for kind in KINDS:
        hit = [one for one in result["each"] if kind in {kill["kind"] for kill in one["kills"]}]
        same = sum(not one["wrong"] for one in hit)
        print(f"{kind:<14}{result['moments'].get(kind, 0):>4} kills  {same} of {len(hit)} runs identical", file=out)
    print(f"{'all':<14}{result['kills']:>4} kills  {result['identical']} of {result['runs']} runs identical", file=out)
    return out.getvalue()


def main() -> int:
    """Run the harness, print its table and write the raw result; 1 if a run ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cut", action="store_true", help="the power fails, and what is not synced is lost")
    parser.add_argument("--broken", choices=BROKEN, help="break redense on purpose")
    parser.add_argument("--out", type=Path, help="write the raw result here")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def keep(so_far: dict[str, Any]) -> None:
        if options.out:
            options.out.write_text(json.dumps(so_far, indent=1) + "\n")

    recipe = options.recipe.resolve()
    result = harness(recipe, options.runs, options.seed, cut=options.cut, broken=options.broken, keep=keep)
    wrong = [f"run {one['run']}: {one['kills']} -> {one['wrong']}\n" for one in result["each"] if one["wrong"]]
    sys.stdout.write(table(result) + "".join(wrong))
    return int(result["identical"] < result["runs"])


if __name__ == "__main__":
    sys.exit(main())
