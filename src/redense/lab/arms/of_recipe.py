"""The flow that a recipe trains: its own phases, or those of the arm that it names, as `redense compare` trains it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from redense.errors import ParameterError, RecipeError, RedenseError, ScheduleError, SparsityError
from redense.lab.keys import held_by, phase_keys
from redense.lab.pairs.named import BASELINE, TWIN
from redense.lab.recipe.effects import refuse_sparsity_beside_pattern
from redense.lab.recipe.recipe import Recipe, build_recipe, parse_yaml
from redense.lab.recipe.sections import SparseRecipe
from redense.lab.training.plan import plan
from redense.methods.base import Method, get_technique

from .base import ARMS, Arm, Flow, Setting, get_arms

_WORDS = re.compile(r"\s+(?=\w+=)")  # between the words of a label, not within [2, 4]
NOT_SWEPT = ("epochs", "lr", "decay")
"""Settings of the sparse phase that the control shares."""
_OF_NETWORK = ("data", "model")  # sections of a recipe that its run folder is opened by


def setting_of(
    recipe: Recipe, steps: int, seeds: tuple[int, ...], data: str, *, ranks: int = 1, tuned: float | None = None
) -> Setting:
    """Return the starting point of an arm; ``data``: the fingerprint that phases are kept under."""

    def dense_key(seed: int) -> str:
        own = recipe.model_copy(update={"seed": seed})
        return phase_keys(own, data, plan(own, steps)[:1], ranks)[0]

    return Setting(recipe, steps, seeds, dense_key, tuned)


def made(arm: Arm | None, setting: Setting, label: str) -> Flow:
    """Return the flow of an arm; of None that of the baseline, the dense phase alone.

    Raises:
        RecipeError: the arm cannot be made of the recipe.
    """
    try:
        return arm.make(setting) if arm else Flow(setting.flow(setting.dsd).phases[:1], setting.recipe)
    except RedenseError as error:  # an arm cannot be made of every recipe
        raise RecipeError(f"arm '{label}': {error}") from None


@contextlib.contextmanager
def naming(label: str | None) -> Iterator[None]:
    """Name the arm in what would end its training, of the network that it has; None or the baseline: as it is said."""
    try:
        yield
    except (ParameterError, RecipeError, ScheduleError, SparsityError) as error:
        if label in (None, BASELINE):
            raise
        raise RecipeError(f"arm '{label}': {error}") from None


def swept(recipe: Recipe, arm: str, point: Mapping[str, Any], *, by: str = "--sweep") -> tuple[str, Recipe]:
    """Return the label and the recipe of an arm at a point of a sweep: ``dsd sparsity=0.5``."""
    data = recipe.model_dump(mode="json")
    data["sparse"] = {**data["sparse"], **point}
    refuse_sparsity_beside_pattern(data, list(point), by)
    return " ".join([arm, *(f"{key}={value}" for key, value in point.items())]), build_recipe(data, f"{by} {point}")


# --- of one run -----------------------------------------------------------------------------------------------------


def run_flow(recipe: Recipe, steps: int) -> Flow:
    """Return what a run of a recipe trains: the phases of its ``arm``, else its own.

    Args:
        recipe: of the run.
        steps: optimizer steps of one epoch.

    Raises:
        RecipeError: no such arm, or one that the recipe does not allow, or that no run folder can hold.
    """
    label = recipe.arm
    if label is None:
        return Flow(plan(recipe, steps), recipe)
    own, arm, tuned = _labelled(recipe, label)
    asked: list[int] = []

    def dense_key(seed: int) -> str:
        asked.append(seed)
        return f"the dense network of seed {seed}"

    def flow_of(*seeds: int) -> Flow:
        return made(arm, Setting(own, steps, seeds, dense_key, tuned), label)

    flow_of(own.seed, own.seed + 1)
    if asked:
        raise RecipeError(
            f"arm '{label}' is made of the dense networks of several seeds, and a run has one seed: "
            f"redense compare RECIPE --arms {label.split()[0]}"
        )
    flow = flow_of(own.seed)
    _refuse_other_network(label, recipe, flow, lambda changed: made(ARMS["restart"], _alone(changed, steps), label))
    return flow


def about(label: str) -> str:
    """Return an arm in a line.

    Raises:
        RecipeError: there is no such arm.
    """
    arm = _arm_of(label)
    return arm.about if arm else "the first dense phase alone"


def code_of_arms(arms: Sequence[str]) -> dict[str, str]:
    """Return a checksum of the user's code that makes each arm, by what it is."""
    return held_by({f"arm '{name}'": ARMS.maker_of(name) for name in masters(arms)})


def masters(arms: Sequence[str]) -> list[str]:
    """Return the arms that arms are made of: of a control of its own the arm that it is of."""
    return list(dict.fromkeys(name if name in ARMS else name.removeprefix(TWIN) for name in arms))


def masters_of(recipe: Recipe) -> list[str]:
    """Return the arms that the ``arm`` of a recipe is made of; none for a recipe without one, or of the baseline."""
    name = (recipe.arm or BASELINE).split()[0]
    return [] if name == BASELINE else masters([name])


def _alone(recipe: Recipe, steps: int) -> Setting:
    return Setting(recipe, steps, (recipe.seed,), str)


def _arm_of(label: str) -> Arm | None:
    """Return the arm of a label; None for the baseline.

    Raises:
        RecipeError: there is no such arm.
    """
    name = label.split()[0] if label.split() else label
    return None if name == BASELINE else get_arms([name])[0]


def _labelled(recipe: Recipe, label: str) -> tuple[Recipe, Arm | None, float | None]:
    """Return what a label of a comparison stands for: the recipe at that point, its arm, the value of its own knob.

    Raises:
        RecipeError: there is no such arm, or it is tried at no such value.
    """
    arm = _arm_of(label)
    name, *words = _WORDS.split(label.strip())
    given = {key: parse_yaml(value, f"arm '{label}'") for key, _, value in (word.partition("=") for word in words)}
    if name != (arm.name if arm else BASELINE) or len(given) != len(words):
        raise RecipeError(f"arm '{label}' must be a name, or one with a value such as 'longer rate=0.5'")
    if not given:
        return recipe, arm, None
    if arm and arm.masked and set(given) <= set(SparseRecipe.model_fields).difference(NOT_SWEPT):
        return swept(recipe, arm.name, given, by=f"arm '{label}'")[1], arm, None
    knob = arm.knob if arm else None
    if knob is None or list(given) != [knob.name] or given[knob.name] not in knob.values:
        tried = f": it is tried at {knob.name}={', '.join(f'{one:g}' for one in knob.values)}" if knob else ""
        raise RecipeError(f"arm '{label}': '{name}' has no {' '.join(words)}{tried}")
    return recipe, arm, float(given[knob.name])


def _refuse_other_network(label: str, recipe: Recipe, flow: Flow, restart: Callable[[Recipe], Flow]) -> None:
    """Raise where an arm ends in a network that is not the recipe's: a run folder is opened by its recipe."""
    plain, other = (one.model_dump(mode="json") for one in (recipe, flow.recipe))
    changed = {
        f"{section}.{key}": value
        for section in _OF_NETWORK
        for key, value in other[section].items()
        if value != plain[section].get(key)
    }
    if changed:
        given = " ".join(f"--{key} {json.dumps(value)}" for key, value in changed.items())
        same = restart(flow.recipe).phases == flow.phases
        how = f"train the same with --arm restart {given}" if same else f"give {given} and an arm that changes none"
        raise RecipeError(f"arm '{label}' changes the network or the data of the recipe, which a run keeps: {how}")
    if any(p.method and get_technique(p.method).reshape is not Method.reshape for p in flow.phases):
        raise RecipeError(
            f"arm '{label}' ends in a network with other layers than the recipe's, which a run folder cannot hold: "
            f"redense compare RECIPE --arms {label.split()[0]}"
        )
