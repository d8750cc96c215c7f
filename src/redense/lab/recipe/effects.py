"""Settings of a recipe that would have no effect beside others: refused when it is loaded, and not passed over.

A run folder is read without: what was trained was trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from redense.errors import RecipeError

from .optimizers import OPTIMIZERS, OptimizerKind
from .sections import DecayRecipe, OptimizerRecipe, SparseRecipe

_OF_ANY = ("name", "lr", "weight_decay")
_OF_DECAY: Mapping[str, tuple[str, ...]] = {
    "constant": (),
    "cosine": ("floor",),
    "linear": ("floor",),
    "polynomial": ("floor", "power"),
    "step": ("every", "factor"),
}


def refuse_idle(recipe: Any, label: str) -> None:
    """Raise on the first setting of a `Recipe` that another one makes meaningless.

    Raises:
        RecipeError: one line that begins with ``label`` and names both.
    """
    for said in _idle(recipe):
        raise RecipeError(f"{label}: {said}")


def _idle(recipe: Any) -> Iterator[str]:
    if getattr(recipe.data, "source", None) == "":  # as of a variable of the shell that is not set
        yield "data.source is empty, which would be the folder at hand: name the data, or leave it out"
    for section in (recipe.data, recipe.model):  # of a task of others: whatever its settings are
        yield from getattr(section, "without_effect", tuple)()
    training = recipe.training
    yield from _of_optimizer(training.optimizer)
    sections = {"training": training, "dense": recipe.dense, "sparse": recipe.sparse, "redense": recipe.redense}
    for number, cycle in enumerate(recipe.cycles):
        sections |= {f"cycles.{number}.sparse": cycle.sparse, f"cycles.{number}.redense": cycle.redense}
    for name, section in sections.items():
        yield from _of_decay(f"{name}.decay", section.decay)
        if section.decay and "kind" not in section.decay.model_fields_set and training.decay.kind != DecayRecipe().kind:
            other = f"training.decay is {training.decay.kind}: give {name}.decay.kind"
            yield f"{name}.decay says no kind, and would be {DecayRecipe().kind} where {other}"
    phases: dict[str, SparseRecipe] = {name: own for name, own in sections.items() if name.endswith("sparse")}
    usual = SparseRecipe.model_fields["sparsity"].default
    for name, phase in phases.items():
        if phase.pattern and phase.sparsity != usual:  # which a recipe with every default written out has
            pattern = list(phase.pattern)
            yield f"{name}.sparsity {phase.sparsity} has no effect beside {name}.pattern {pattern}: remove one of them"
    if recipe.prune.allocation != "uniform" and not any(map(_is_allocated, phases.values())):
        yield (
            f"prune.allocation {recipe.prune.allocation} shares one sparsity over the layers, and no sparse phase has "
            "one for each layer alike (sparse.sparsity as a number, sparse.scope layer, no sparse.pattern): remove it"
        )
    if recipe.tune is not None and recipe.start is None:
        yield "tune is for a network that comes trained, and there is no start: give one, or --tune null"


def _of_optimizer(own: OptimizerRecipe) -> Iterator[str]:
    takes = _taken_by(own.name)
    if takes is None:
        return
    for name in _changed(own, OptimizerRecipe()):
        if name == "options":
            if not _is_ours(OPTIMIZERS.get_named(own.name)):
                continue
            yield f"training.optimizer.options is for an optimizer of your own, and {own.name} takes none: remove it"
        elif name not in takes:
            known = ", ".join(takes[1:])
            yield f"training.optimizer.{name} is no setting of {own.name}, which takes {known}: remove it"


def _taken_by(name: str) -> tuple[str, ...] | None:
    """Return the settings that an optimizer takes; None for one of the user's own that does not say it."""
    kind = OPTIMIZERS.get_named(name)
    return (*_OF_ANY, *kind.settings) if _is_ours(kind) or kind.settings else None


def _is_ours(kind: OptimizerKind) -> bool:
    return str(getattr(kind.make, "__module__", "")).startswith(f"{__name__.partition('.')[0]}.")


def _of_decay(place: str, decay: DecayRecipe | None) -> Iterator[str]:
    if decay is None:
        return
    for name in _changed(decay, DecayRecipe()):
        if name != "kind" and name not in _OF_DECAY[decay.kind]:
            kinds = " and ".join(kind for kind, names in _OF_DECAY.items() if name in names)
            yield f"{place}.{name} is a setting of {kinds}, and {place}.kind is {decay.kind}: remove it"


def _changed(section: Any, usual: Any) -> list[str]:
    return [name for name in type(usual).model_fields if getattr(section, name) != getattr(usual, name)]


def _is_allocated(phase: SparseRecipe) -> bool:
    return isinstance(phase.sparsity, float) and phase.scope == "layer" and not phase.pattern


def refuse_sparsity_beside_pattern(data: Mapping[str, Any], keys: Sequence[str], label: str) -> None:
    """Raise where a sparsity is given to a sparse phase that has a pattern; a pattern that is given takes its place.

    Args:
        data: of a recipe, as plain data, in which the sparsity is then dropped.
        keys: settings that were given.
        label: what an error begins with.

    Raises:
        RecipeError: it is.
    """
    sparse = data.get("sparse")
    pattern = sparse.get("pattern") if isinstance(sparse, Mapping) else None
    given = any(key == "sparsity" or key.startswith("sparsity.") for key in keys)
    if pattern and not given and "pattern" in keys:  # it takes the place of the recipe's own sparsity
        cast("dict[str, Any]", sparse).pop("sparsity", None)
    if pattern and given:
        raise RecipeError(f"{label}: a sparsity has no effect beside sparse.pattern {pattern}: set that to null too")


def drop_settings_of_another(data: Mapping[str, Any], name: str) -> None:
    """Drop from the plain data of a recipe, in place, what the optimizer that takes its one's place has no use for."""
    training = data.get("training")
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    if isinstance(optimizer, dict) and optimizer.get("name", "sgd") != name and name in OPTIMIZERS:
        takes = _taken_by(name)
        for other in [key for key in optimizer if takes is not None and key not in takes]:
            del optimizer[other]
