"""Completion of verbs, options and files by the shell, by way of shtab."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from redense.errors import MissingExtraError
from redense.optional.extras import refuse_folder

SHELLS = ("bash", "zsh", "tcsh")
_FILES = ("recipe", "run", "table", "images", "files", "name", "out", "data", "cnn")
"""Arguments that may name a file or folder, and are text because they may be something else."""


def completion_of(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that teaches a shell the command line.

    Raises:
        MissingExtraError: shtab is not installed.
    """
    try:
        import shtab  # pyright: ignore[reportMissingImports]

        refuse_folder(shtab)
    except ImportError:
        raise MissingExtraError("--print-completion needs shtab: pip install 'redense[completion]'") from None
    for action in _all(parser):
        if action.type is Path or action.dest in _FILES:
            vars(action)["complete"] = shtab.FILE
    return shtab.complete(parser, shell=shell)


def _all(parser: argparse.ArgumentParser) -> list[Any]:
    found: list[Any] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found += _all(below)
        else:
            found.append(action)
    return found
