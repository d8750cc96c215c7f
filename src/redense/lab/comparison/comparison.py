"""A comparison: what is compared, as a folder and as cells of arms times seeds. `grid` trains it.

A comparison is a folder that says what is compared (``comparison.json``). What is trained lies in the phase store. So a
comparison that was killed goes on where it was, and a second one that adds an arm or a seed trains only what is new.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.errors import RecipeError, StateError, nearest
from redense.files.checksums import NAME as SUMS
from redense.files.checksums import check_sums, note_sum, write_with_sums
from redense.files.locks import LOCK
from redense.files.writing import write_bytes
from redense.lab.arms import Arm, Flow, get_arms
from redense.lab.arms.of_recipe import NOT_SWEPT, code_of_arms, made, masters, setting_of, swept
from redense.lab.environment import environment, needed_plugins
from redense.lab.folder import STARTED, begun, discard_folder, read_json, refuse_changed
from redense.lab.keys import code_used, phase_keys
from redense.lab.pairs.named import BASELINE
from redense.lab.recipe.recipe import WHEREABOUTS, Recipe, build_recipe, names_in, parse_yaml, refuse_unloaded
from redense.lab.recipe.sections import SparseRecipe
from redense.lab.tasks import fingerprints_of
from redense.lab.training.engine import steps_per_epoch
from redense.lab.training.pretrained import start_used
from redense.phase import ordered
from redense.tasks.task import Task

CONTROL = "restart"
LEFT = ("environment.json", SUMS, LOCK)
"""Files that a start which was killed may leave in a folder."""
_GIVEN = ("comparison.json", "environment.json", STARTED)
_SEVERAL = re.compile(r",(?![^\[{]*[\]}])")  # between values, not within [2,4]


@dataclass(frozen=True)
class Comparison:
    """A comparison: a recipe, arms, seeds, and swept settings of the sparse phase."""

    recipe: Recipe
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    sweep: Mapping[str, Sequence[Any]]
    tuned: bool = False
    """Whether the controls' own settings are swept as often; an older redense swept those of the masks alone."""
    ranks: int = 1
    """Over which each phase trains; it stays that of the keys when the comparison goes on over another number."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "arms": list(self.arms),
            "seeds": list(self.seeds),
            "sweep": {key: list(values) for key, values in self.sweep.items()},
            **({"tuned": True} if self.tuned else {}),
            **({"ranks": self.ranks} if self.ranks > 1 else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Comparison:
        """Return the comparison that `to_dict` gave."""
        recipe = build_recipe(data["recipe"], "comparison.json")
        named = {"tuned": data.get("tuned", False), "ranks": data.get("ranks", 1)}
        return cls(recipe, tuple(data["arms"]), tuple(data["seeds"]), data["sweep"], **named)


@dataclass(frozen=True)
class Cell:
    """One arm with one seed: what it trains, and under which keys it lies."""

    label: str
    seed: int
    flow: Flow
    keys: tuple[str, ...]


# --- its folder -----------------------------------------------------------------------------------------------------


def new_comparison(comparison: Comparison, out: Path | None = None, *, root: Path = Path("runs")) -> Path:
    """Make the folder of a new comparison.

    Raises:
        StateError: the folder exists and is not empty, or cannot be made.
    """
    with begun(out, f"compare-{comparison.recipe.name}", root, left=LEFT) as folder:
        told = {**environment(threads=1), **plugins_needed_by(comparison)}
        write_with_sums(folder, {"environment.json": json.dumps(told, indent=2) + "\n"})
        data = (json.dumps(comparison.to_dict(), indent=2) + "\n").encode()
        note_sum(folder, "comparison.json", data)
        write_bytes(folder / "comparison.json", data)
    return folder


def store_kept(folder: Path) -> str | None:
    """Return the phase store that a comparison was trained with last; None where nobody can tell."""
    try:
        return str(read_json(folder / "grid.json")["store"])
    except (StateError, KeyError, TypeError):
        return None


def plugins_needed_by(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Return what `environment.json` says of the plugins that a comparison needs; nothing where it needs none."""
    named = names_in(comparison.recipe)
    criteria = [*named["criterion"], *map(str, comparison.sweep.get("criterion", ()))]
    return needed_plugins({**named, "criterion": criteria, "arm": masters(comparison.arms)})


def names_in_flows(flows: Iterable[Flow]) -> dict[str, list[str]]:
    """Return what flows of phases are trained with that a plugin may have brought, as `names_in` does of a recipe."""
    found: dict[str, set[str]] = {}
    for flow in flows:
        changed = [phase.changes.get("training", {}).get("optimizer", {}) for phase in flow.phases]
        named = {
            **names_in(flow.recipe),
            "criterion": [phase.phase.criterion for phase in flow.phases if isinstance(phase.phase.criterion, str)],
            "technique": [phase.method for phase in flow.phases if phase.method],
        }
        named["optimizer"] += [own["name"] for own in changed if "name" in own]
        for kind, names in named.items():
            found.setdefault(kind, set()).update(names)
    return {kind: sorted(names) for kind, names in found.items()}


def code_used_by(comparison: Comparison) -> dict[str, str]:
    """Return a checksum of each piece of the user's code that decides the numbers of a comparison, by what it is."""
    criteria = [{"criterion": name} for name in comparison.sweep.get("criterion", ())]
    used = [code_used(recipe) for _, recipe in (swept(comparison.recipe, "", point) for point in ({}, *criteria))]
    return {what: own for each in used for what, own in each.items()} | code_of_arms(comparison.arms)


def read_comparison(folder: Path) -> Comparison:
    """Return the comparison of a folder.

    Raises:
        StateError: it is no folder of a comparison.
        CheckpointError: it is damaged.
        PluginError: it was made with a plugin that is not loaded.
    """
    if not (folder / "comparison.json").exists():
        raise StateError(f"{folder} is no comparison: it has no comparison.json")
    check_sums(folder, *_GIVEN)
    refuse_unloaded(folder)
    try:
        return Comparison.from_dict(read_json(folder / "comparison.json"))
    except (ArithmeticError, KeyError, TypeError, ValueError, AttributeError):
        raise StateError(f"{folder / 'comparison.json'} is damaged: it is none that redense writes") from None


def check_started(folder: Path, comparison: Comparison, task: Task) -> str:
    """Raise unless a comparison, its data, the weights that it starts from and the user's code are as at its start.

    They are noted where it is new.

    Returns:
        The fingerprint that the comparison knows its data by, for the keys of its phases: an older one if it is older.

    Raises:
        StateError: it changed.
    """
    now = {"data": task.fingerprint, "comparison": comparison_digest(comparison)}
    used = start_used(comparison.recipe) | code_used_by(comparison)
    if (folder / STARTED).exists():
        refuse_changed(folder, {**now, "data": fingerprints_of(task)}, "make a new comparison")
        refuse_changed(folder, used, "bring it back as it was, or make a new comparison", old=True)
        return str(read_json(folder / STARTED)["data"])
    write_with_sums(folder, {STARTED: json.dumps(now | used) + "\n"})
    return task.fingerprint


def comparison_digest(comparison: Comparison) -> str:
    """Return a checksum of all that decides the numbers of a comparison."""
    plain = comparison.to_dict()
    for name in ("name", "about", "log"):
        plain["recipe"].pop(name, None)
    for name in WHEREABOUTS:
        plain["recipe"]["data"].pop(name, None)
    return hashlib.sha256(json.dumps(ordered(plain), sort_keys=True).encode()).hexdigest()


def discard_comparison(folder: Path) -> None:
    """Remove the folder of a new comparison that could not begin, so that the corrected command may use its name."""
    discard_folder(folder, (*_GIVEN, SUMS, LOCK))


# --- what is to be trained ------------------------------------------------------------------------------------------


def cells(comparison: Comparison, task: Task, data: str | None = None) -> list[Cell]:
    """Return every arm with every seed, the baseline first; arms that a sweep does not change appear once.

    Args:
        comparison: what is compared.
        task: of its recipe.
        data: the fingerprint that the comparison knows its data by, see `check_started`; None: the task's.

    Raises:
        RecipeError: an arm is unknown, or a swept setting is.
    """
    data = data or task.fingerprint
    out: list[Cell] = []
    arms = get_arms(comparison.arms)
    for label, arm, recipe, tuned in _rows(comparison, arms):
        for seed in comparison.seeds:
            own = recipe.model_copy(update={"seed": seed})
            steps = steps_per_epoch(task, own)
            setting = setting_of(own, steps, comparison.seeds, data, ranks=comparison.ranks, tuned=tuned)
            flow = made(arm, setting, label)
            keys = phase_keys(flow.recipe, data, flow.phases, comparison.ranks)
            out.append(Cell(label, seed, flow, tuple(keys)))
    return out


def _rows(comparison: Comparison, arms: Sequence[Arm]) -> Iterator[tuple[str, Arm | None, Recipe, float | None]]:
    """Give the rows: label, arm, recipe, and the value of the arm's own knob."""
    yield BASELINE, None, comparison.recipe, None
    settings = list(sweep_points(comparison.sweep))
    for arm in arms:
        if not arm.masked or settings == [{}]:
            yield arm.name, arm, comparison.recipe, None
            if arm.knob and comparison.tuned:
                if len(settings) > len(arm.knob.values):
                    raise RecipeError(
                        f"--sweep has {len(settings)} settings, and {arm.name} has {len(arm.knob.values)} to be tried: "
                        "sweep at most so many, so that the controls are tuned as often"
                    )
                for value in arm.knob.values[1 : len(settings)]:
                    yield f"{arm.name} {arm.knob.name}={value:g}", arm, comparison.recipe, value
            continue
        for point in settings:
            label, recipe = swept(comparison.recipe, arm.name, point)
            yield label, arm, recipe, None


def sweep_points(sweep: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Give every combination of the values that settings are swept over; one empty one for no sweep."""
    points: list[dict[str, Any]] = [{}]
    for key, values in sweep.items():
        points = [{**point, key: value} for point in points for value in values]
    yield from points


# --- what the command line gives ------------------------------------------------------------------------------------


def parse_sweep(text: str | None) -> dict[str, list[Any]]:
    """Return ``{"sparsity": [0.2, 0.3]}`` from ``sparsity=0.2,0.3``; several are parted by spaces.

    >>> parse_sweep("pattern=[2,4],[1,4] scope=layer")
    {'pattern': [[2, 4], [1, 4]], 'scope': ['layer']}

    Raises:
        RecipeError: not of that form, or no setting of the sparse phase.
    """
    sweep: dict[str, list[Any]] = {}
    for part in (text or "").split():
        key, equals, values = part.partition("=")
        if key not in SparseRecipe.model_fields:
            known = list(SparseRecipe.model_fields)
            raise RecipeError(f"--sweep {part}: the sparse phase has no setting '{key}'{nearest(key, known)}")
        if key in NOT_SWEPT:
            raise RecipeError(f"--sweep {part}: the control would have another budget: make one comparison for each")
        if not equals or not values:
            raise RecipeError(f"--sweep {part}: give values, as in --sweep {key}=0.2,0.3,0.5")
        found = [parse_yaml(value, f"--sweep {part}") for value in _SEVERAL.split(values)]
        if key in sweep or any(value in found[:index] for index, value in enumerate(found)):
            raise RecipeError(f"--sweep {text}: '{key}' or one of its values is given twice")
        sweep[key] = found
    return sweep
