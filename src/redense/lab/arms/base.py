"""The type of an arm, and the table of arms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redense.errors import RecipeError, nearest
from redense.lab.pairs.named import BASELINE, RATES, TWIN, rescaled
from redense.lab.recipe.recipe import Recipe, build_recipe
from redense.lab.training.plan import PlannedPhase, check_flow, planned, schedule
from redense.methods.base import make_method
from redense.phase import Phase
from redense.plugins import Registry
from redense.schedule import Schedule
from redense.variants import restarted

from .cards import CARDS, PAPERS, Card, Paper


@dataclass(frozen=True)
class Flow:
    """The training of one arm for one seed.

    Args:
        phases: in order.
        recipe: the recipe that they belong to, where the arm changes it.
        note: in what its budget or model differs from the others'.
        bound: it ends in another network than the others (which costs more at inference, or has other layers), so that
            no arm has to beat it.
    """

    phases: tuple[PlannedPhase, ...]
    recipe: Recipe
    note: str = ""
    bound: bool = False


@dataclass(frozen=True)
class Setting:
    """The starting point of an arm.

    Args:
        recipe: with the seed at hand.
        steps_per_epoch: optimizer steps of one epoch.
        seeds: of the whole comparison.
        dense_key: (seed) -> store key of that seed's dense phase.
        tuned: the value of the arm's own knob; None for what the arm takes of itself.
    """

    recipe: Recipe
    steps_per_epoch: int
    seeds: tuple[int, ...]
    dense_key: Callable[[int], str]
    tuned: float | None = None

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

    @property
    def is_given(self) -> bool:
        """Whether the network of the recipe's ``start`` stands in place of the dense phase: it is that of all seeds."""
        return self.recipe.start is not None and self.recipe.tune is None

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

    def after_dense(
        self,
        method: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> Flow:
        """Return the control's phases, with every phase after the dense one trained by a method, or otherwise.

        Args:
            method: name of a technique.
            options: its settings.
            changes: settings of the recipe that are others after the dense phase: section -> setting -> value.
            note: in what budget or network differ.
        """
        first, *rest = restarted(self.dsd).phases
        after = [PlannedPhase(phase, method, options or {}, changes=changes or {}) for phase in rest]
        return self.flow([first, *after], note=note)

    def with_changes(
        self, phases: Iterable[Phase | PlannedPhase], changes: Mapping[str, Any], *, start: int = 0
    ) -> list[PlannedPhase]:
        """Return phases, from the one at ``start`` on with other settings of the recipe."""
        listed = [phase if isinstance(phase, PlannedPhase) else PlannedPhase(phase) for phase in phases]
        return [*listed[:start], *(replace(planned, changes=changes) for planned in listed[start:])]

    def changed(self, **sections: Mapping[str, Any]) -> Recipe:
        """Return the recipe with other values in some sections."""
        data = self.recipe.model_dump(mode="json")
        for name, values in sections.items():
            data[name] = {**data[name], **values}
        return build_recipe(data, self.recipe.name)


@dataclass(frozen=True)
class Knob:
    """The setting that a control has of its own: what it is called, and its values, the usual one first."""

    name: str
    values: tuple[float, ...]


RATE = Knob("rate", RATES)
"""Times the learning rates that a control would have."""


@dataclass(frozen=True)
class Arm:
    """An arm: its name, one line of help, where it comes from, and how it is made.

    Where a sweep tries several settings of the arms with a mask, it tries as many values of a control's ``knob``.
    """

    name: str
    about: str
    source: str
    make: Callable[[Setting], Flow]
    masked: bool
    knob: Knob | None = None
    card: Card | None = None


def _check(name: str, own: Arm) -> None:
    if name == BASELINE:
        raise RecipeError(f"'{name}' is the dense phase alone, which every comparison has: call your arm otherwise")
    if name.startswith(TWIN):
        raise RecipeError(f"'{name}' is the name of the control of '{name[len(TWIN) :]}': call yours otherwise")


ARMS: Registry[Arm] = Registry("arm", RecipeError, check=_check, home=__package__)
ARMS.add_home(f"{__package__}.rivals.settings")
ARMS.add_home(f"{__package__}.rivals")


def arm(
    name: str,
    about: str,
    *,
    source: str | Paper = "Han et al. 2017",
    masked: bool = False,
    knob: Knob | None = None,
    card: Card | None = None,
) -> Callable[[Callable[[Setting], Flow]], Callable[[Setting], Flow]]:
    """Declare an arm.

    Args:
        name: what commands call it.
        about: one line.
        source: the paper that it is from.
        masked: the recipe's sparsity matters to it.
        knob: `Setting.tuned` matters to it, and has these values.
        card: what the documentation says of it.

    Raises:
        RecipeError: the name is taken, or no command could ask for it.
    """

    def register(make: Callable[[Setting], Flow]) -> Callable[[Setting], Flow]:
        told = source if isinstance(source, str) else source.short
        own = Arm(name, about, told, lambda setting: _budgeted(make(setting), setting, name), masked, knob, card)
        ARMS.register(name, own, maker=make)
        if isinstance(source, Paper):
            PAPERS[source.short] = (source.title, source.link)
        return make

    return register


def _budgeted(flow: Any, setting: Setting, arm: str) -> Flow:
    """Return the flow with a note of its budget, where that is not the one of `dsd`.

    Raises:
        RecipeError: it is none, or a setting in it is no plain data.
        ScheduleError: its phases have no place for each other.
    """
    if not isinstance(flow, Flow):
        raise RecipeError(f"arm '{arm}' must return setting.flow(schedule), got a {type(flow).__name__}")
    check_flow(flow.phases, f"arm '{arm}'")
    own, whole = (_gradients(phases) for phases in (flow.phases, setting.flow(setting.dsd).phases))
    if own == whole:
        return flow
    told = f"{own:,} gradients where dsd takes {whole:,}"
    return replace(flow, note=f"{flow.note}; {told}" if flow.note else told)


def _gradients(phases: Sequence[PlannedPhase]) -> int:
    return round(sum(p.steps * make_method(p.method, p.options, 0).gradient_evaluations for p in phases))


def get_arms(names: Sequence[str] | None = None) -> list[Arm]:
    """Return the arms of these names, or all.

    Raises:
        RecipeError: no arm has a name, or one is given twice.
    """
    if names is None:
        return list(ARMS.values())
    for name in names:
        if name not in ARMS and not (name.startswith(TWIN) and name[len(TWIN) :] in ARMS):
            known = [*ARMS, *(f"{TWIN}{own.name}" for own in ARMS.values() if own.masked)]
            raise RecipeError(f"unknown arm '{name}'{nearest(name, known)} (see redense arms)")
    if len(set(names)) < len(names):
        raise RecipeError(f"an arm is named twice: {', '.join(names)}")
    return [ARMS[name] if name in ARMS else twin(ARMS[name[len(TWIN) :]]) for name in names]


def card_of(own: Arm) -> Card | None:
    """Return the card of an arm; None for one that has none, which a plugin's need not."""
    return own.card or CARDS.get(own.name)


def twin(own: Arm) -> Arm:
    """Return the control of an arm: its steps and learning rates without a mask, or anything else that it does.

    Raises:
        RecipeError: the arm has no mask, so that it is a control itself.
    """
    if not own.masked:
        raise RecipeError(f"'{own.name}' has no mask, so that there is no control '{TWIN}{own.name}' of it")

    def make(setting: Setting) -> Flow:
        flow = own.make(setting)
        phases = rescaled(restarted(Schedule(tuple(p.phase for p in flow.phases))), setting.tuned or 1.0, start=1)
        # Where the flow branches and joins, its control does, too.
        plain = [
            replace(p, phase=phase) if p.joins else PlannedPhase(phase, after=p.after)
            for phase, p in zip(phases.phases, flow.phases, strict=True)
        ]
        return _budgeted(setting.flow(plain, recipe=flow.recipe), setting, f"{TWIN}{own.name}")

    about = f"the steps and learning rates of {own.name}, no mask"
    return Arm(f"{TWIN}{own.name}", about, "our own control", make, masked=False, knob=RATE)
