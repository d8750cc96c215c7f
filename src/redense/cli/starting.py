"""The text of `redense` without a verb: the five things that one does with it."""

from __future__ import annotations

from .terminal.printing import say

FIVE = (
    ("train a recipe and read its report", "redense run quickstart"),
    ("ask whether it was the mask that helped", "redense compare quickstart --seeds 5"),
    ("compare any training of your own", "redense compare --command dsd='python train.py --seed {seed}' ..."),
    ("judge a table of results", "redense judge results.csv"),
    ("hand a trained network on", "redense export runs/NAME model"),
)
"""What one does, and the command."""


def print_five() -> None:
    """Print what one does with redense, a line each, and where the rest is told."""
    say(
        "redense: dense-sparse-dense training for a more accurate network of the same size, and whether it has helped\n"
    )
    width = max(len(what) for what, _ in FIVE)
    for what, command in FIVE:
        say(f"  {what:<{width}}  {command}")
    say("\nall commands: redense --help    what works on this machine: redense doctor")
