"""The scripts and configurations that a command names, and what they were when its pairs were run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from redense.files.modules import place_of
from redense.files.opening import open_regular
from redense.files.pieces import modules_from
from redense.lab.pairs.plan import Plan

_PROGRAMS = (
    "py ipynb r rmd jl m sh bash zsh fish awk sed pl rb lua js mjs ts php go rs c cc cpp cu java scala kt hs ml f90"
)
_CONFIGURATIONS = "yaml yml toml ini cfg conf json gin"
_SCRIPTS = frozenset(f".{ending}" for ending in f"{_PROGRAMS} {_CONFIGURATIONS}".split())


def with_scripts(plan: Plan, folder: Path) -> Plan:
    """Return a plan of commands, run in a folder, whose arms have the checksums of the scripts that they name."""
    arms = tuple(replace(arm, pieces=scripts_of(arm.command or "", folder)) for arm in plan.arms)
    return replace(plan, arms=arms)


def scripts_of(command: str, folder: Path) -> dict[str, str]:
    """Return checksums of the scripts that a command names, and of the modules next to them that Python ones import.

    A script is a file with the ending of a program or of a configuration, one that begins with ``#!``, or what
    ``python -m`` runs. Data, and what a program opens that its command does not name, are not looked at.
    """
    found: dict[str, str] = {}
    for path in _named(_words(command), folder):
        found |= modules_from(path)
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


def _named(words: Sequence[str], folder: Path) -> Iterator[Path]:
    for place, word in enumerate(words):
        tried = [folder / word, folder / word.partition("=")[2]]
        if place and words[place - 1] == "-m":
            inside = folder / word.replace(".", "/")
            tried += [inside.with_name(f"{inside.name}.py"), inside / "__main__.py"]
        for path in tried:
            if _is_script(path):
                yield path


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
