"""Sharing between arms: those that begin with the same dense phase start from one state, trained once a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from redense.files.checksums import file_sum, sha256
from redense.files.opening import read_text
from redense.files.writing import write_text
from redense.phase import ordered
from redense.schedule import Schedule

_FOLDER = "shared"


class Parts:
    """The dense phases that several arms begin with, and the files of the states that they end with.

    Args:
        folder: of the comparison.
        schedules: of the arms that are schedules, by name.
    """

    def __init__(self, folder: Path, schedules: Mapping[str, Schedule]) -> None:
        self._folder = folder / _FOLDER
        self._schedules = dict(schedules)
        arms: dict[str, list[str]] = {}
        for name, schedule in schedules.items():
            if not schedule.phases[0].is_sparse:
                arms.setdefault(_key(schedule), []).append(name)
        self._key: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        for key, names in arms.items():
            if len(names) < 2:
                continue
            for name in names:
                if len(schedules[name].phases) > 1:
                    self._key[name] = key
                else:  # it is this part and nothing more
                    self.owners[key] = name

    def key(self, arm: str) -> str:
        """Return which part an arm starts from; empty for none."""
        return self._key.get(arm, "")

    def left_by(self, arm: str) -> str:
        """Return which part an arm is; empty for none."""
        return next((key for key, owner in self.owners.items() if owner == arm), "")

    def part(self, key: str) -> Schedule:
        """Return a part by itself."""
        return Schedule(next(self._schedules[arm] for arm, own in self._key.items() if own == key).phases[:1])

    def rest(self, arm: str) -> Schedule:
        """Return what is left of an arm's schedule after the part."""
        return Schedule(self._schedules[arm].phases[1:])

    def file(self, key: str, seed: int) -> Path:
        """Return where the state of a part lies, and make the folder."""
        self._folder.mkdir(exist_ok=True)
        return self._folder / f"{key}-{seed}.pt"

    def digest(self, key: str, seed: int) -> str:
        """Return the sha256 of the state that a part has left; empty where there is none, or a damaged one."""
        path = self.file(key, seed)
        try:
            noted = read_text(path.with_suffix(".sha256")).strip()
            return noted if noted == file_sum(path) else ""
        except (OSError, ValueError):
            return ""

    def note(self, key: str, seed: int, digest: str) -> None:
        """Note that a part has left its state."""
        write_text(self.file(key, seed).with_suffix(".sha256"), f"{digest}\n")

    def clear(self) -> None:
        """Remove the states: they are as large as the networks, and what needs one again trains it again."""
        drop_parts(self._folder.parent)


def drop_parts(folder: Path) -> None:
    """Remove the states of shared parts from the folder of a comparison."""
    for path in (folder / _FOLDER).glob("*"):
        path.unlink()
    if (folder / _FOLDER).is_dir():
        (folder / _FOLDER).rmdir()


def _key(schedule: Schedule) -> str:
    """The name of a first phase does not matter to its numbers."""
    first = schedule.phases[0]
    phase = {name: value for name, value in first.to_dict().items() if name != "name"}
    return sha256(json.dumps(ordered(phase), sort_keys=True).encode())[:16]
