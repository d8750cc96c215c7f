"""Keys of phases: a hash of all that determines a trained phase.

A key covers the recipe (without what does not matter to the bits, such as its name), the data's fingerprint, the seed,
the phase and all phases before it, torch's version, the accelerator, the number of threads and of ranks, the version of
the engine's arithmetic, those of the libraries that networks and techniques are taken from, and all code of the user's
own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from redense.criteria import get_criterion
from redense.files.code.values import mentions, values_of_code
from redense.files.sources import code_of, is_own, version_of
from redense.methods.base import get_technique
from redense.phase import ordered

from .environment import device_name
from .recipe.optimizers import OPTIMIZERS
from .recipe.recipe import WHEREABOUTS, Recipe, entry_of, names_in
from .tasks import libraries_of, parts_of
from .training.changes import changed
from .training.plan import PlannedPhase

ENGINE_VERSION = 1  # raise it when the same recipe and seed would give other numbers
KEEP_VERSION = 2  # of `keep: best` alone: 1 had not where a phase begins, and of equal epochs took the first
# The defaults of techniques when keys had only the options that were given: they are not said, or keys would change.
_UNSAID: Mapping[str, Mapping[str, Any]] = {
    "average": {"kind": "swa", "decay": 0.999, "every": 1, "start": 0.0, "steps": 0},
    "distill": {"temperature": 4.0, "mix": 0.5, "teachers": []},
    "dropconnect": {"rate": 0.5},
    "jump": {"sparsity": 0.3, "scale": 1.0},
    "lowrank": {"energy": 0.9, "rank": None, "ranks": None},
    "release": {"start": "value"},
    "sam": {"rho": 0.05, "every": 1},
}


def phase_keys(recipe: Recipe, fingerprint: str, phases: Sequence[PlannedPhase], ranks: int = 1) -> list[str]:
    """Return the key of every phase trained on so many ranks, each covering the phases before it."""
    base: dict[str, Any] = {
        "engine": ENGINE_VERSION,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),  # sums of another order end in other digits
        "data": fingerprint,
        "seed": recipe.seed,
        "task": recipe.task,
        "model": recipe.model.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json"),
        "augmentation": recipe.data.model_dump(mode="json", exclude=set(WHEREABOUTS)),
    }
    optimizer = OPTIMIZERS.get_named(recipe.training.optimizer.name)
    base |= _said(
        code=code_of(entry_of(recipe.task)),
        values=values_of_code(entry_of(recipe.task)),
        optimizer=code_of(optimizer.make),
        **{"optimizer values": values_of_code(optimizer.make)},
        parts=[own for part in parts_of(recipe) for own in (code_of(part), values_of_code(part)) if own],
        libraries=_versions(*libraries_of(recipe), *optimizer.libraries),
        keep=KEEP_VERSION if recipe.training.keep != "last" else None,
        ranks=ranks if ranks > 1 else None,  # the same training, but for the last digits
        device=device_name() if device_name() != "cpu" else None,  # its sums are of another order, too
    )
    prune = recipe.prune.model_dump(mode="json", exclude={"allocation"})  # which is the phase's
    keys: list[str] = []
    depths: list[int] = []
    for place, planned in enumerate(phases):
        # The name of a phase is for people; `dsd`'s and `restart`'s first phase are the same phase.
        phase = planned.to_dict()
        if not _may_read_the_name(planned.method):
            phase["phase"].pop("name", None)
        if planned.phase.is_sparse or planned.method:  # which weights may be pruned does not matter to the others
            phase["prune"] = prune
        if planned.phase.is_sparse:
            scores = get_criterion(planned.phase.criterion)
            phase |= _said(code=code_of(scores), values=values_of_code(scores))
            if isinstance(planned.phase.sparsity, Mapping) and (recipe.prune.first_layer or recipe.prune.include):
                phase["among"] = "included"  # once, what was included by name stayed dense under patterns
        if planned.method:
            phase |= _technique(planned.method, planned.options)
        if planned.changes:
            phase |= _changes(changed(recipe, planned.changes))
        parent = place - 1 if planned.after is None else planned.after
        depths.append(0 if parent < 0 else depths[parent] + 1)
        phase.pop("after", None)
        if depths[-1] != place:  # random numbers are those of the place in the flow
            phase["place"] = place
        if planned.joins is not None:
            phase["joins"] = [keys[part] if isinstance(part, int) else part for part in planned.joins]
            if recipe.training.keep == "best-of-run":  # of all branches; once it was of the last one alone
                phase["best"] = "of all"
        base = {"before": base if parent < 0 else keys[parent], "phase": phase}
        keys.append(hashlib.sha256(json.dumps(ordered(base), sort_keys=True).encode()).hexdigest()[:32])
    return keys


def code_used(recipe: Recipe, *, values: bool = True) -> dict[str, str]:
    """Return a checksum of each piece of the user's code that a run of a recipe is trained by, by what it is.

    Other versions of installed packages are no other code: a run that goes on elsewhere is told so apart. For
    ``values`` see `held_by`.
    """
    used: dict[str, object] = {f"task '{recipe.task}'": entry_of(recipe.task)}
    used |= {f"criterion '{name}'": get_criterion(name) for name in names_in(recipe)["criterion"]}
    name = recipe.training.optimizer.name
    used[f"optimizer '{name}'"] = OPTIMIZERS.get_named(name).make
    used |= {f"function '{getattr(part, '__qualname__', type(part).__name__)}'": part for part in parts_of(recipe)}
    return held_by(used, values=values)


def held_by(used: Mapping[str, object], *, values: bool = True) -> dict[str, str]:
    """Return checksums of the user's code of each thing and of values that it reads, by what it is; none of our own.

    Args:
        used: the things.
        values: give one of values also where `values_of_code` finds none, so that it is noted that there were none.
    """
    found: dict[str, str] = {}
    for what, thing in used.items():
        if code := code_of(thing, versions=False):
            found[f"{what} (its code, or what that holds)"] = code
            if (read := values_of_code(thing)) or values:
                found[f"{what} (values that its code reads)"] = read or "none"
    return found


def _changes(recipe: Recipe) -> dict[str, Any]:
    """Return what of the settings that change for a phase determines it beside their values."""
    optimizer = OPTIMIZERS.get_named(recipe.training.optimizer.name)
    libraries = _versions(*libraries_of(recipe), *optimizer.libraries)
    code = {"changed optimizer": code_of(optimizer.make), "changed optimizer values": values_of_code(optimizer.make)}
    return {"changed libraries": libraries} | _said(**code)


def _may_read_the_name(method: str | None) -> bool:
    """Whether a technique is the user's and asks for the phase that it trains: it may do so for its name."""
    return method is not None and not is_own(cls := get_technique(method)) and mentions(cls, "phase")


def _technique(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a technique determines a phase beside its name and the options that were given."""
    cls = get_technique(name)
    settled = {**cls.defaults, **options}
    said = settled == {**_UNSAID.get(name, {}), **options}
    code = {"technique": code_of(cls), "technique values": values_of_code(cls)}
    return ({} if said else {"settled": settled}) | _said(libraries=_versions(*cls.libraries), **code)


def _said(**found: Any) -> dict[str, Any]:
    """Return what is there: a key says nothing of what is not."""
    return {name: value for name, value in found.items() if value}


def _versions(*libraries: str) -> dict[str, Any]:
    return {library: version_of(library) for library in sorted({*libraries})}
