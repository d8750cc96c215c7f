"""`redense data check`: every file of a set is looked at, with the code that training reads it with."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.cli.terminal.printing import say
from redense.errors import DataError, RecipeError, RedenseError
from redense.tasks.faults import by_cause

if TYPE_CHECKING:
    from redense.tasks.faults import Fault

_WHAT = {"classification": "images", "captioning": "images", "speech": "clips"}


@dataclass(frozen=True)
class Checked:
    """What a check has found: lines for people, facts for programs, and whether training would stop at it."""

    task: str
    lines: list[str]
    facts: dict[str, Any]
    faults: list[Fault]
    refusal: str
    broken: bool = False


def check_content(options: argparse.Namespace, place: str) -> int:
    """Look at every file of a set that lies in ``place`` and print what is there; return the exit code.

    The exit code is 1 if training with the same settings refuses the set, or files of it are broken.
    """
    from rich.console import Console
    from rich.progress import Progress

    task = options.task or task_of(place)
    data = section_of(task, options, place)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("listening to every clip" if task == "speech" else "looking at every image", total=None)

        def show(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        found = _INSPECT[task](data, options.full, show)
    if options.json:
        causes = [
            {"cause": kind[0].cause, "count": len(kind), "names": [f.name for f in kind]}
            for kind in by_cause(found.faults).values()
        ]
        said = {"path": place, "task": task, "refused": found.refusal or None, **found.facts, "faults": causes}
        say(json.dumps(said, ensure_ascii=False))
    else:
        say(*found.lines, sep="\n")
        say(_conclusion(found, options.full))
    return int(bool(found.refusal) or found.broken)


def task_of(place: str) -> str:
    """Return the task that a folder or file is data for.

    Raises:
        DataError: it could be two things.
    """
    from redense.tasks import catalog
    from redense.tasks.captioning.data.inspecting import has_captions
    from redense.tasks.classification.data.layouts.folder import SUFFIXES
    from redense.tasks.folders import has_any
    from redense.tasks.speech.data.layouts import looks_like_recordings

    if place in catalog.SOURCES:  # a set of classes may have sentences too
        return "speech" if looks_like_recordings(catalog.check(catalog.SOURCES[place])) else "classification"
    path = Path(place).expanduser()
    if place.startswith("hub:") or not path.exists() or path.suffix.lower() == ".npz":
        return "classification"
    captions = path.is_dir() and has_captions(path)
    sounds = looks_like_recordings(path)
    if sounds and (captions or (path.is_dir() and has_any(path, SUFFIXES))):
        raise DataError(
            f"{place} holds pictures and recordings: say which are meant, --task "
            f"{'captioning' if captions else 'classification'} or --task speech"
        )
    return "speech" if sounds else "captioning" if captions else "classification"


def section_of(task: str, options: argparse.Namespace, place: str) -> Any:
    """Return the data section of a recipe of the task with this source and the settings that were given."""
    from pydantic import ValidationError

    from redense.lab.recipe.recipe import TASKS, overridden, recipe_type
    from redense.lab.recipe.settings import check_keys, one_line

    if task not in TASKS or task not in _INSPECT:
        raise RedenseError(f"--task must be one of {', '.join(_INSPECT)}, got {task}")
    plain: dict[str, Any] = {"task": task, "data": {"source": place}}
    if wrong := next(
        (item for item in options.settings if item.startswith("-") and not item.startswith("--data.")), None
    ):
        raise RedenseError(f"unrecognized arguments: {wrong} (see redense data --help)")
    overridden(plain, options.settings)
    if options.label is not None:
        plain["data"]["label"] = options.label
    check_keys(plain, recipe_type(task), f"data {options.action}")
    try:
        return TASKS[task][0].model_validate(plain["data"])
    except ValidationError as error:
        raise RecipeError(f"data.{one_line(error)}") from None


def _classification(data: Any, full: bool, show: Any) -> Checked:
    from redense.tasks.classification.data.inspecting import describe_images, inspect_images

    facts = inspect_images(data, full=full, on_checked=show)
    splits = {
        split.name: {"images": split.images, "classes": split.counts, "sizes": split.sizes} for split in facts.splits
    }
    plain = {"layout": facts.layout, "splits": splits, "trained": dict(facts.trained), "notes": facts.notes}
    faults = [fault for split in facts.splits for fault in split.faults]
    return Checked("classification", describe_images(facts), plain, faults, facts.refusal)


def _captioning(data: Any, full: bool, show: Any) -> Checked:
    from redense.tasks.captioning.data.inspecting import describe_captions, inspect_captions

    facts = inspect_captions(data, full=full, on_checked=show)
    splits = {name: {"images": images, "sentences": said} for name, (images, said) in facts.splits.items()}
    plain = {
        "splits": splits,
        "words": facts.counts.total(),
        "different_words": len(facts.counts),
        "notes": facts.notes,
    }
    return Checked("captioning", describe_captions(facts), plain, list(facts.faults), facts.refusal)


def _speech(data: Any, full: bool, show: Any) -> Checked:
    from redense.tasks.speech.data.inspecting import describe_recordings, inspect_recordings

    facts = inspect_recordings(data, lambda _, done, total: show(done, total))
    splits = {name: {"clips": clips, "seconds": round(seconds, 3)} for name, (clips, seconds) in facts.splits.items()}
    plain = {"layout": facts.layout, "splits": splits, "words": facts.words[0], "different_words": facts.words[1]}
    plain |= {"symbols": "".join(sorted(facts.symbols)), "changed": dict(facts.changed), "notes": facts.notes}
    return Checked("speech", describe_recordings(facts), plain, list(facts.faults), facts.refusal, bool(facts.broken))


_INSPECT = {"classification": _classification, "captioning": _captioning, "speech": _speech}


def _conclusion(found: Checked, full: bool) -> str:
    what = _WHAT[found.task]
    if found.refusal:
        if found.faults and "data.broken: skip" in found.refusal:
            return f"training refuses this set, or leaves these {what} out with data.broken: skip"
        return f"training refuses this set: {found.refusal}"
    if found.broken:
        return f"training leaves these {what} out, and refuses the set with data.broken: refuse"
    if found.faults:
        return f"training takes this set, without the {len(found.faults):,} that cannot be used"
    if full or found.task == "speech":
        return "training takes this set"
    return "nothing is wrong as far as headers and ends of files show; --full decodes every image"
