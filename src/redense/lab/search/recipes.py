"""The training of a recipe as a function of a schedule and a seed, for what searches any training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redense.criteria import criterion_name, get_criterion
from redense.errors import RecipeError
from redense.lab.arms.of_recipe import swept
from redense.lab.carried import Carried, carried
from redense.lab.flow import process_engine
from redense.lab.keys import code_used, held_by
from redense.lab.pairs.by_name import schedule_of
from redense.lab.recipe.recipe import Recipe, build_recipe, names_in
from redense.lab.tasks import shared_task
from redense.lab.training.engine import steps_per_epoch
from redense.lab.training.plan import planned, schedule
from redense.lab.training.pretrained import start_used
from redense.plugins import load_plugins, refuse_typed
from redense.schedule import Schedule


@dataclass(frozen=True)
class RecipeTraining:
    """Trains what a recipe describes, by another schedule and another seed, to the figures of `redense compare`.

    Args:
        recipe: as plain data, for any process.
        used: fingerprints of the data, of the weights that it starts from, and of the user's code: what was trained
            by others is not gone on with.
    """

    recipe: Mapping[str, Any]
    used: Mapping[str, str]

    def __call__(self, given: Schedule, seed: int) -> dict[str, Any]:
        """Return the validation and test figures, and the steps."""
        load_plugins()  # of a process of its own
        recipe = build_recipe({**self.recipe, "seed": seed})
        task = shared_task(recipe)
        first = schedule(recipe, steps_per_epoch(task, recipe)).phases[0]
        engine = process_engine(task, recipe, planned(recipe, given.phases, first=first))
        while engine.phase_index < len(engine.plan):
            engine.train()
        engine.end()
        outcome = engine.outcome("test")
        return {
            "test": task.metrics(outcome),
            "validation": engine.evaluate("validation"),
            "steps": given.total_steps,
        }

    @property
    def carried(self) -> Carried | None:
        """The user's code for a process of its own; the criteria of schedules are sent to it by themselves.

        Raises:
            PluginError: the script itself has registered something, which that process lacks.
        """
        used = {kind: names for kind, names in names_in(build_recipe(dict(self.recipe))).items() if kind != "criterion"}
        refuse_typed({kind: names for kind, names in used.items() if kind != "logger"})
        return carried(used)

    @property
    def metric(self) -> tuple[str, bool]:
        """The name of the task's figure, and whether lower is better."""
        found = shared_task(build_recipe(dict(self.recipe))).metric
        return found.name, found.lower_is_better

    @property
    def schedule(self) -> Schedule:
        """The schedule that the recipe itself describes."""
        recipe = build_recipe(dict(self.recipe))
        return schedule(recipe, steps_per_epoch(shared_task(recipe), recipe))


def training_of(recipe: Recipe) -> RecipeTraining:
    """Return the training of a recipe."""
    used = {"data": shared_task(recipe).fingerprint, **start_used(recipe), **code_used(recipe, values=False)}
    return RecipeTraining(recipe.model_dump(mode="json"), used)


def with_criteria(training: RecipeTraining, candidates: Mapping[str, Schedule]) -> RecipeTraining:
    """Return a training with the user's code of the criteria that candidates are pruned by."""
    named = {phase.criterion for own in candidates.values() for phase in own.phases if phase.is_sparse}
    code = held_by({f"criterion '{criterion_name(one)}'": get_criterion(one) for one in named}, values=False)
    return replace(training, used={**training.used, **code})


def candidates_of(recipe: Recipe, arms: Iterable[str], points: Sequence[Mapping[str, Any]]) -> dict[str, Schedule]:
    """Return the schedule of every arm with every point of a sweep, by name: ``dsd sparsity=0.5``.

    Raises:
        RecipeError: an arm is more than a schedule, or unknown.
    """
    found: dict[str, Schedule] = {}
    for arm in arms:
        for point in points:
            name, own = swept(recipe, arm, point)
            if name in found:
                raise RecipeError(f"'{name}' is named twice")
            found[name] = schedule_of(arm, training_of(own).schedule)
    return found
