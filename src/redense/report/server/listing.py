"""A list of the runs, comparisons and scans in a folder, with progress and result of each, as a page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from redense.errors import RedenseError
from redense.files.checksums import check_sums
from redense.files.json_text import read_json
from redense.files.markup import Child, Element, h
from redense.files.visible import visible_line
from redense.lab.judging.words import listed
from redense.report.comparisons.reading import read_comparison
from redense.report.comparisons.types import Comparison
from redense.report.comparisons.verdict import headline
from redense.report.kit.assets import asset
from redense.report.kit.document import Page, Section
from redense.report.kit.loading import load_object
from redense.report.kit.parts import Cell, Table, table_of
from redense.report.kit.quantities import NOTHING, count, duration, percent, share
from redense.report.pages import COMPARISON, RUN, SCAN, is_tried, kind_of
from redense.report.runs.reading import Run, read_run
from redense.report.runs.words import verdict

_SHOWN = ("recipe.yaml", "result.json", "comparison.json", "compare.json")
_DEPTH = 3  # folders below the one that is listed
_FRESH = 60.0  # seconds since the last line, in which a run is taken for alive where locks cannot be seen


@dataclass(frozen=True)
class Entry:
    """A row: what it is, its name and how far it is; ``done`` is a part of 1, None where that is not known."""

    name: str
    kind: str
    title: str
    state: str
    done: float | None
    says: str
    changed: float


# --- what there is --------------------------------------------------------------------------------------------------


def found(root: Path) -> dict[str, Path]:
    """Return name -> folder of every run, comparison and scan in a folder, or of the one that it is."""
    if _is_any(root):
        below = {f"{root.resolve().name}/{name}": folder for name, folder in _below(root, 1)}
        return {root.resolve().name: root, **below}
    return dict(_below(root, _DEPTH))


def _below(root: Path, depth: int, prefix: str = "") -> Iterator[tuple[str, Path]]:
    with contextlib.suppress(OSError):
        for folder in sorted(root.iterdir()):
            if folder.name.startswith(".") or not folder.is_dir() or folder.is_symlink():
                continue
            if _is_any(folder):
                yield f"{prefix}{folder.name}", folder
                yield from _below(folder, 1, f"{prefix}{folder.name}/")
            elif depth > 1 and not re.fullmatch(r"[0-9a-f]{2}", folder.name):  # the phases of a store
                yield from _below(folder, depth - 1, f"{prefix}{folder.name}/")


def _is_any(folder: Path) -> bool:
    return kind_of(folder) is not None or (folder / "comparison.json").is_file()


def signature(folder: Path) -> str:
    """Return what changes when anything changes that the page of a folder shows."""
    parts: list[str] = []
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.endswith((".json", ".jsonl", ".yaml")):
                status = entry.stat()
                parts.append(f"{entry.name}:{status.st_size}:{status.st_mtime_ns}")
    parts.append(f"scan:{_modified(folder / 'sensitivity' / 'sensitivity.json')}")
    if (folder / "comparison.json").is_file() and not (folder / "compare.json").is_file():
        parts.append(json.dumps(grid_parts(folder)))
    return " ".join(parts)


# --- how far it is --------------------------------------------------------------------------------------------------


def entry(name: str, folder: Path) -> Entry:
    """Return the row of a folder; of a damaged one, what is wrong with it."""
    kind = kind_of(folder)
    changed = max((_modified(folder / n) for n in ("metrics.jsonl", "result.json", "compare.json", "sensitivity.json",
                                                   "comparison.json", "recipe.yaml")), default=0.0)  # fmt: skip
    try:
        check_sums(folder, *(name for name in _SHOWN if (folder / name).exists()))
        if kind is RUN:
            return _run(name, folder, changed)
        if kind is COMPARISON:
            c = read_comparison(folder)
            if _has_more(c):
                more = _comparison(name, folder, changed)
                return replace(more, title=c.recipe, says=f"More seeds or arms were added; before: {headline(c)}")
            return Entry(name, "comparison", c.recipe, "finished", None, headline(c), changed)
        if kind is SCAN:
            data = load_object(folder / "sensitivity.json")
            says = f"{count(len((data.get('scan') or {}).get('curves') or ()), 'layer')} scanned"
            return Entry(name, "scan", str(data.get("recipe") or ""), "finished", None, says, changed)
        return _comparison(name, folder, changed)
    except Exception as error:  # noqa: BLE001  # what lies there may be anything, and the others are still listed
        return unreadable(name, error, kind.name if kind else "comparison", changed)


def unreadable(name: str, error: Exception, kind: str = "unknown", changed: float = 0.0) -> Entry:
    """Return the row of a folder that cannot be read."""
    return Entry(name, kind, "", "damaged", None, reason_of(error), changed)


def reason_of(error: Exception) -> str:
    """Return why a folder cannot be shown, in a line."""
    if isinstance(error, RedenseError):
        return visible_line(str(error))
    return visible_line(f"it holds what redense does not write ({type(error).__name__}: {error})"[:300])


def _run(name: str, folder: Path, changed: float) -> Entry:
    run = read_run(folder)
    said = verdict(run).sentence
    if run.finished:
        return Entry(name, "run", run.name, "finished", None, said, changed)
    state = "running" if is_alive(folder, changed) else "stopped"
    return Entry(name, "run", run.name, state, part_done(run), said, changed)


def part_done(run: Run) -> float | None:
    """Return how much of what its recipe asks for a run has trained, by epochs; None if that cannot be told."""
    if run.arm:  # which has phases of its own
        return None
    try:
        sections = [run.recipe["dense"], run.recipe["sparse"], run.recipe["redense"]]
        for cycle in run.recipe.get("cycles") or []:
            sections += [cycle["sparse"], cycle["redense"]]
        planned = [float(section["epochs"]) if section else 0.0 for section in sections]
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return None
    if any(line.phase == 0 and not line.epoch for line in run.log.epochs):  # given weights stand for it
        planned[0] = 0.0
    if not run.log.phases or not sum(planned):
        return 0.0
    at = max(run.log.phases)
    epochs = _epochs_of(run, at)
    return min(1.0, (sum(planned[:at]) + epochs) / sum(planned))


def _epochs_of(run: Run, phase: int) -> float:
    done = max((line.epoch for line in run.log.epochs if line.phase == phase), default=0.0)
    steps = [line for line in run.log.steps if line.phase == phase]
    ends = run.log.epochs
    if not steps or not ends or ends[-1].step >= steps[-1].step or not ends[0].epoch:
        return done
    return done + (steps[-1].step - ends[-1].step) / (ends[0].step / ends[0].epoch)


def is_alive(folder: Path, changed: float) -> bool:
    """Whether a process trains a run: it holds the lock of the folder, or has just written."""
    return _is_locked(folder / ".lock") or time.time() - changed < _FRESH


def _is_locked(file: Path) -> bool:
    # To try the lock would, for a moment, keep out the process that wants it.
    with contextlib.suppress(OSError):
        inode = file.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        return any(re.search(rf":{inode} ", line) for line in lines)
    return False


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _has_more(c: Comparison) -> bool:
    """Whether seeds or arms were asked for that the results do not have yet."""
    seeds, arms = (c.asked.get(what) or () for what in ("seeds", "arms"))
    names = {str(arm["name"]) if isinstance(arm, Mapping) else str(arm) for arm in arms}
    return len(seeds) > len(c.seeds) or not names <= {arm.tried.arm for arm in c.arms}


def _comparison(name: str, folder: Path, changed: float) -> Entry:
    asked = load_object(folder / "comparison.json")
    title = str((asked.get("recipe") or asked).get("name") or "")
    if is_tried(folder):
        says = "What was tried of a search; its answer is beside it, in confirm."
        return Entry(name, "comparison", title, "finished", None, says, changed)
    cells = [(part, steps) for seeds in grid_parts(folder).values() for part, steps in seeds.values()]
    total = sum(steps for _, steps in cells)
    done = sum(part * steps for part, steps in cells) / total if total else None
    whole = sum(part >= 1 for part, _ in cells)
    says = f"{whole} of {count(len(cells), 'run')} trained" if cells else "not finished"
    phases = [place for *_, planned in _planned(folder) for place, _ in planned]
    newest = max((_modified(place / "progress.json") for place in phases), default=changed)
    state = "running" if is_alive(folder, newest) else "not finished"
    if (most := (asked.get("settings") or {}).get("runs")) is not None:  # halving leaves most of the pairs out
        done, says = None, f"{count(whole, 'run')} of a search trained, which takes {most} at most"
    return Entry(name, "comparison", title, state, done, f"{says}.", max(changed, newest))


def grid_parts(folder: Path) -> dict[str, dict[str, tuple[float, int]]]:
    """Return arm -> seed -> how much of it is trained, and its steps; as `redense compare` has planned them.

    Of a training of one's own a run is trained or not, and each counts as one step.
    """
    found: dict[str, dict[str, tuple[float, int]]] = {}
    if not (folder / "grid.json").is_file():
        return _pairs(folder)
    try:
        for arm, seed, phases in _planned(folder):
            steps = sum(own for _, own in phases)
            done = sum(_done(place) * own for place, own in phases)
            found.setdefault(arm, {})[seed] = (done / steps if steps else 0.0, steps)
    except (ArithmeticError, TypeError):  # of the notes on how far a phase has got
        return {}
    return found


def _pairs(folder: Path) -> dict[str, dict[str, tuple[float, int]]]:
    try:
        plan, kept = load_object(folder / "comparison.json"), folder / "pairs"
        arms = [str(arm["name"]) for arm in plan["arms"]]
        return {
            arm: {str(seed): (float((kept / arm / str(seed) / "result.json").is_file()), 1) for seed in plan["seeds"]}
            for arm in arms
        }
    except (KeyError, TypeError, ValueError, RedenseError):
        return {}


def _planned(folder: Path) -> list[tuple[str, str, list[tuple[Path, int]]]]:
    """Return arm, seed, and the folder and the steps of each phase of every run; nothing where the plan is damaged."""
    try:
        data = load_object(folder / "grid.json")
        store = Path(str(data["store"]))
        return [
            (str(cell["arm"]), str(cell["seed"]), [(_phase(store, str(key)), int(n)) for key, n in cell["phases"]])
            for cell in data["cells"]
        ]
    except (ArithmeticError, KeyError, TypeError, ValueError, RedenseError):
        return []


def _phase(store: Path, key: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]+", key):
        raise ValueError(f"no key of a phase: {key!r}")
    return store / key[:2] / key


def _done(folder: Path) -> float:
    if (folder / "state.safetensors").is_file():
        return 1.0
    with contextlib.suppress(OSError, ValueError):
        step, steps = read_json(folder / "progress.json")
        return float(step / steps) if steps else 0.0
    return 0.0


# --- pages ----------------------------------------------------------------------------------------------------------


def listing_page(root: Path, entries: Mapping[str, Entry]) -> Page:
    """Return the page that lists entries, the newest first; it follows those that go on."""
    table = table_of(
        "The newest first; a name leads to its page",
        sorted(entries.values(), key=lambda one: -one.changed),
        [
            ("Name", False, lambda one: h("a", one.name, href=f"/page/{quote(one.name)}")),
            ("What it is", False, lambda one: f"{one.kind}, {one.title}" if one.title else one.kind),
            ("State", False, _state),
            ("It says", False, lambda one: h("span", one.says, class_="wrap")),
            ("Last written", False, lambda one: h("span", _when(one.changed), class_="nowrap")),
        ],
    )
    going = sum(one.state == "running" for one in entries.values())
    kinds = {kind: sum(one.kind == kind for one in entries.values()) for kind in ("run", "comparison", "scan")}
    said = listed([count(number, kind) for kind, number in kinds.items() if number] or ["nothing"])
    body: list[Child] = [h("p", "There is no run here yet: redense run quickstart makes one.")]
    if entries:
        are = "is" if len(entries) == 1 else "are"
        body = [h("p", f"Here {are} {said}; {going or 'none'} in training now."), table]
    return Page(
        kind="redense report",
        name=str(root),
        facts=[],
        sections=[Section("runs", "Runs and comparisons", body)],
        style=asset("server/listing.css"),
        live=True,
    )


def grid_page(name: str, folder: Path) -> Page:
    """Return the page of a comparison that has not finished: how far each of its runs is."""
    one = entry(name, folder)
    parts = grid_parts(folder)
    seeds = list(dict.fromkeys(seed for cells in parts.values() for seed in cells))
    rows: list[list[Cell]] = [
        [arm, *(share(round(cells[seed][0], 3)) if seed in cells else NOTHING for seed in seeds)]
        for arm, cells in parts.items()
    ]
    columns = [("Arm", False), *((f"Seed {seed}", True) for seed in seeds)]
    inside: list[Child] = [h("p", f"This comparison has not finished: {one.says}", class_="sentence"), _state(one)]
    if rows:
        inside.append(Table("How much of each run is trained", columns, rows))
    return Page(
        kind="redense comparison",
        name=one.title or name,
        facts=["not finished"],
        sections=[Section("progress", "Progress", inside, "verdict")],
        live=True,
    )


def _state(one: Entry) -> Element:
    if one.done is None:
        return h("span", one.state)
    shown = percent(round(one.done, 3))
    bar = h("progress", shown, value=f"{one.done:.4f}", max="1", aria_label=f"{one.name}, trained")
    return h("span", one.state, " ", bar, " ", shown)


def _when(moment: float) -> str:
    ago = time.time() - moment
    if ago < 100 * 3600:
        return f"{duration(max(0.0, ago))} ago" if ago >= 10 else "just now"
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M")  # noqa: DTZ006  # the user's own clock
