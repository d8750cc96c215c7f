"""The scripts and configurations that a command names, and what they were when its pairs were run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from redense.files.code.imported import modules_from
from redense.files.modules import file_of, place_of
from redense.files.opening import at_home, open_regular
from redense.files.pieces import FORM
from redense.files.sources import is_own
from redense.lab.pairs.plan import Plan, PlannedArm

from .commands import filled

_PROGRAMS = (
    "py ipynb r rmd jl m sh bash zsh fish awk sed pl rb lua js mjs ts php go rs c cc cpp cu java scala kt hs ml f90"
)
_CONFIGURATIONS = "yaml yml toml ini cfg conf json gin"
_LONGEST = 100  # characters of a module's name
_SCRIPTS = frozenset(f".{ending}" for ending in f"{_PROGRAMS} {_CONFIGURATIONS}".split())


def with_scripts(plan: Plan, folder: Path) -> Plan:
    """Return a plan of commands, run in a folder, whose arms have the checksums of the scripts that they name."""
    return replace(plan, arms=tuple(replace(arm, pieces=_pieces(arm, folder)) for arm in plan.arms))


def _pieces(arm: PlannedArm, folder: Path) -> dict[str, str]:
    return {**scripts_of(filled(arm.command or "", {"arm": arm.name}), folder), FORM: "2"}


def scripts_of(command: str, folder: Path) -> dict[str, str]:
    """Return checksums of the scripts that a command names, and of the modules that Python ones import.

    A script is a file with the ending of a program or of a configuration, one that begins with ``#!``, or what
    ``python -m`` runs; it lies in the folder that a ``cd`` before it names. Modules are next to a script, or in folders
    of ``PYTHONPATH``. Data, and what a program opens that its command does not name, are not looked at.
    """
    found: dict[str, str] = {}
    script_of: dict[str, Path] = {}
    for path, module, folders in _named(_words(command), folder):
        for name, checksum in modules_from(path, folders, module).items():
            if found.get(name, checksum) != checksum:  # of two files with one name, both count
                found[f"{name} ({os.path.relpath(script_of[name], folder)})"] = found[name]
            found[name], script_of[name] = checksum, path
    return found


def _words(command: str) -> list[str]:
    """Return the words of a command, also those of one that is quoted in it: ``sh -c 'python train.py'``."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            words += _words(word) if any(c.isspace() for c in word) and word != command else [word]
    except ValueError:  # a quote that the shell will find missing
        words += command.split()
    return words


def _named(words: Sequence[str], folder: Path) -> Iterator[tuple[Path, str, tuple[Path, ...]]]:
    """Give each script with its name if it is run as a module, and the folders of ``PYTHONPATH``."""
    here, search = folder, os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for before, given in zip(("", *words), words, strict=False):
        word = os.path.expandvars(given)
        word = str(at_home(word)) if word.startswith("~") else word
        if word.startswith("PYTHONPATH="):
            search += word.partition("=")[2].split(os.pathsep)
        folders = tuple(here / each for each in search if each and _is_folder(here / each))
        if before == "cd" and _is_folder(here / word):
            here /= word
        elif before == "-m" and _can_be_a_module(word):
            path, name = _module(word, (here, *folders))
            if path and _is_script(path):
                yield path, name, (here, *folders)
        tried = [[place / word, place / word.partition("=")[2]] for place in dict.fromkeys((here, folder))]
        scripts = next(filter(None, ([path for path in each if _is_script(path)] for each in tried)), [])
        yield from ((path, "", folders) for path in scripts)


def _module(name: str, folders: Sequence[Path]) -> tuple[Path | None, str]:
    """Return the file that ``python -m`` runs, and the name that it has there."""
    for place in (folder.joinpath(*name.split(".")) for folder in folders):
        if (place / "__main__.py").is_file():
            return place / "__main__.py", f"{name}.__main__"
        if (path := place.with_name(f"{place.name}.py")).is_file():
            return path, name
    inside = file_of(f"{name}.__main__")
    return (inside, f"{name}.__main__") if inside else (file_of(name), name)


def _can_be_a_module(word: str) -> bool:
    parts = word.split(".")
    return all(part.isidentifier() and len(part) < _LONGEST for part in parts) and len(parts) < 20 and not is_own(word)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _is_script(path: Path) -> bool:
    try:
        if not path.is_file() or place_of(path.resolve()) != "own":
            return False
        if path.suffix.lower() in _SCRIPTS:
            return True
        with open_regular(path) as file:
            return file.read(2) == b"#!"
    except (OSError, ValueError):  # a name that no file can have
        return False
