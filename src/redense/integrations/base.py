"""The common part of the callbacks: the library or how to install it, and what they log."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from redense.controller import DSD
from redense.errors import MissingExtraError
from redense.layers.names import patterns_of
from redense.masks.sharding import sparsity_of
from redense.optional.extras import refuse_folder
from redense.optional.torchvision import make_importable
from redense.pruning import check_seed


def require(names: Sequence[str], needs: str, extra: str) -> list[ModuleType]:
    """Return those of the modules that are imported already, or else the first that can be.

    Args:
        names: modules that do the same, the preferred one first.
        needs: a name that the module must have.
        extra: the extra of redense that installs it.

    Raises:
        MissingExtraError: none of them can be imported, or it is too old to have the name.
    """
    make_importable()
    reason = f"{' or '.join(names)} is not installed"
    for name in [n for n in names if n in sys.modules] or names:
        try:
            module = importlib.import_module(name)
            refuse_folder(module)
        except ImportError as error:
            if not isinstance(error, ModuleNotFoundError) or error.name not in (name, name.split(".")[0]):
                reason = f"{name} does not import ({' '.join(str(error).split())[:200]})"
            continue
        if hasattr(module, needs):
            return [module, *(sys.modules[n] for n in names if n != name and hasattr(sys.modules.get(n), needs))]
        reason = f"{name} {getattr(module, '__version__', '')} is too old: it has no {needs}"
    raise MissingExtraError(f"this callback needs {names[-1]}, and {reason}: pip install 'redense[{extra}]'")


def settings_of(include: str | Sequence[str] | None, exclude: str | Sequence[str], seed: int) -> dict[str, Any]:
    """Return a callback's settings for each `DSD` that it makes: what is given may be read only once.

    Raises:
        ParameterError: include or exclude are no names.
        ScheduleError: the seed is no whole number.
    """
    names = None if include is None else patterns_of("include", include)
    return {"include": names, "exclude": patterns_of("exclude", exclude), "seed": check_seed(seed)}


class Reading:
    """The phase and the sparsity of one `DSD` for a logger; masks are counted once a phase, or a step of surgery."""

    def __init__(self) -> None:
        self._of: tuple[int, int] | None = None
        self._sparsity = 0.0

    def __call__(self, dsd: DSD) -> dict[str, float]:
        """Return the index of the next step's phase, from 0, and the fraction that the masks in force remove.

        All ranks of a sharded model must ask together.
        """
        index = dsd.schedule.index_at(dsd.step)
        surgery = dsd.phase is not None and dsd.phase.surgery
        of = (index, dsd.step if surgery else 0)
        if self._of != of:
            masks = dsd.masks
            total = sum(mask.numel() for mask in masks.values())
            pruned = sum(sparsity_of(mask) * mask.numel() for mask in masks.values())
            self._of, self._sparsity = of, pruned / total if total else 0.0
        return {"dsd/phase": float(index), "dsd/sparsity": self._sparsity}
