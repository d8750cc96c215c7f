"""Commands to type next, as typed from where the report is made."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from redense.lab.judging.single import control_settings
from redense.lab.pairs.named import BASELINE, DEFAULT
from redense.report.comparisons.reading import Comparison

from .reading import Run

# --- about a run ----------------------------------------------------------------------------------------------------


def command(run: Run, verb: str, *arguments: str) -> str:
    """Return a command line about this run, as typed from where the report was made."""
    return shlex.join(["redense", verb, *arguments, place(run.path)])


def resume_command(run: Run) -> str:
    """Return the command that goes on with a stopped run."""
    return command(run, "run", "--resume")


def reproduce_command(run: Run) -> str:
    """Return the command that trains the same again."""
    return shlex.join(["redense", "run", str(Path(place(run.path)) / "recipe.yaml")])


def control_command(run: Run) -> str:
    """Return the command that trains the control: the same steps and learning rates, and no mask."""
    return shlex.join([*shlex.split(reproduce_command(run)), *control_settings(run.recipe)])


def compare_arm_command(run: Run) -> str:
    """Return the command that compares the arm of a run with DSD and the controls, over several seeds."""
    own = (run.arm or "").split()[:1]
    names = ",".join(dict.fromkeys([*DEFAULT, *(name for name in own if name != BASELINE)]))
    recipe = str(Path(place(run.path)) / "recipe.yaml")
    return shlex.join(["redense", "compare", recipe, "--arm", "null", "--arms", names, "--seeds", "5"])


# --- about a comparison ---------------------------------------------------------------------------------------------


def compare_same_command(c: Comparison, recipe: str = "recipe.yaml") -> str:
    """Return the command that compares the same again, from the recipe as this page has it."""
    words = [
        "redense",
        "compare",
        recipe,
        "--arms",
        ",".join(c.asked.get("arms") or [arm.name for arm in c.arms if arm.name != c.baseline]),
    ]
    seeds = list(c.asked.get("seeds") or c.seeds)
    listed = ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")  # 3 would be three seeds
    words += ["--seeds", str(len(seeds)) if seeds == list(range(len(seeds))) else listed]
    for option in ("looks", "margin"):
        if c.asked.get(option) is not None:
            words += [f"--{option}", str(c.asked[option])]
    sweep = c.asked.get("sweep") or {}
    if sweep:
        words += ["--sweep", " ".join(f"{key}={','.join(map(_swept, values))}" for key, values in sweep.items())]
    return shlex.join(words)


def compare_again_command(c: Comparison) -> str:
    """Return the command that writes the results again, from what the store has."""
    return shlex.join(["redense", "compare", "--resume", place(c.path)])


def _swept(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))  # blanks part settings


def place(path: Path) -> str:
    """Return the folder as seen from here if it lies below, else in full."""
    absolute = path.resolve()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
