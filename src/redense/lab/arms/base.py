"""What an arm is, and the table of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import RecipeError, nearest
from ...phase import Phase
from ...schedule import Schedule
from ...variants import restarted
from ..plan import PlannedPhase, planned, schedule
from ..recipe import Recipe, build_recipe


@dataclass(frozen=True)
class Flow:
    """What one arm trains for one seed.

    Args:
        phases: in order.
        recipe: the recipe that they belong to, where the arm changes it.
        note: in what its budget or model differs from the others'.
    """

    phases: tuple[PlannedPhase, ...]
    recipe: Recipe
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """What an arm starts from.

    Args:
        recipe: with the seed at hand.
        steps_per_epoch: optimizer steps of one epoch.
        seeds: of the whole comparison.
        dense_key: (seed) -> store key of that seed's dense phase.
    """

    recipe: Recipe
    steps_per_epoch: int
    seeds: tuple[int, ...]
    dense_key: Callable[[int], str]

    @property
    def dsd(self) -> Schedule:
        """The recipe's own schedule."""
        return schedule(self.recipe, self.steps_per_epoch)

    @property
    def sparsity(self) -> float:
        """The fraction removed in the recipe's sparse phase, the mean if it is given per layer."""
        sparse = self.recipe.sparse
        if sparse.pattern:
            return 1 - sparse.pattern[0] / sparse.pattern[1]
        if isinstance(sparse.sparsity, dict):
            return sum(sparse.sparsity.values()) / len(sparse.sparsity)
        return float(sparse.sparsity)

    def flow(
        self,
        phases: Schedule | Iterable[Phase | PlannedPhase],
        *,
        recipe: Recipe | None = None,
        note: str = "",
        allocation: str | None = None,
    ) -> Flow:
        """Return a flow of phases, planned or not; ``allocation`` instead of the recipe's."""
        listed = phases.phases if isinstance(phases, Schedule) else list(phases)
        recipe = recipe or self.recipe
        return Flow(planned(recipe, listed, first=self.dsd.phases[0], allocation=allocation), recipe, note)

    def after_dense(self, method: str, options: Mapping[str, Any] | None = None, *, note: str = "") -> Flow:
        """Return the control's phases, with every phase after the dense one trained by a method."""
        first, *rest = restarted(self.dsd).phases
        return self.flow([first, *(PlannedPhase(phase, method, options or {}) for phase in rest)], note=note)

    def changed(self, **sections: Mapping[str, Any]) -> Recipe:
        """Return the recipe with other values in some sections."""
        data = self.recipe.model_dump(mode="json")
        for name, values in sections.items():
            data[name] = {**data[name], **values}
        return build_recipe(data, self.recipe.name)


@dataclass(frozen=True)
class Arm:
    """An arm: its name, one line of help, where it comes from, and how it is made."""

    name: str
    about: str
    source: str
    make: Callable[[Setting], Flow]
    masked: bool


ARMS: dict[str, Arm] = {}


def arm(
    name: str, about: str, *, source: str = "Han et al. 2017", masked: bool = False
) -> Callable[[Callable[[Setting], Flow]], Callable[[Setting], Flow]]:
    """Declare an arm; ``masked`` says that the recipe's sparsity matters to it."""

    def register(make: Callable[[Setting], Flow]) -> Callable[[Setting], Flow]:
        if name in ARMS:
            raise RecipeError(f"there is an arm '{name}' already: call yours otherwise")
        ARMS[name] = Arm(name, about, source, make, masked)
        return make

    return register


def get_arms(names: Sequence[str] | None = None) -> list[Arm]:
    """Return the arms of these names, or all.

    Raises:
        RecipeError: no arm has a name, or one is given twice.
    """
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    if names is None:
        return list(ARMS.values())
    for name in names:
        if name not in ARMS:
            raise RecipeError(f"unknown arm '{name}'{nearest(name, ARMS)} (see redense arms)")
    if len(set(names)) < len(names):
        raise RecipeError(f"an arm is named twice: {', '.join(names)}")
    return [ARMS[name] for name in names]
