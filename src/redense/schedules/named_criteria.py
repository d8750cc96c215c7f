"""The criteria that a schedule or a recipe can name. No torch here: `redense.criteria` has what they compute."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from redense.errors import ScoreError, nearest
from redense.plugins import Registry

if TYPE_CHECKING:
    from torch import Tensor

Criterion = Callable[["Tensor", int], "Tensor"]
"""``(parameter, seed) -> scores``; scores have the parameter's shape and are finite."""

_F = TypeVar("_F", bound=Criterion)

OURS = ("magnitude", "random", "saliency")
"""What `redense.criteria` has of itself."""


def _check(name: str, function: Criterion) -> None:
    check_criterion(function)


# A saved schedule calls a function that is not registered `module:name`: it may be registered under that.
CRITERIA: Registry[Criterion] = Registry(
    "criterion", ScoreError, pattern=re.compile(r"[^\s,=\[\]{}]{1,200}"), ours=OURS, check=_check
)
WITH_GRADIENTS: set[str] = {"saliency"}
"""The criteria that need ``parameter.grad``."""
WITH_ACTIVATIONS: set[str] = set()
"""The criteria that need `redense.layers.inputs.input_norms`."""


def criterion(name: str, *, gradients: bool = False, activations: bool = False) -> Callable[[_F], _F]:
    """Register a criterion under ``name``, so that a schedule or a recipe can name it.

    Args:
        name: what it is asked for by.
        gradients: it scores with ``parameter.grad``.
        activations: it scores with ``redense.layers.inputs.input_norms(parameter)``.

    Raises:
        ScoreError: the name is taken, or no recipe could give it; or the function does not take a parameter and a seed.
    """
    if callable(name):
        own = criterion_name(name).rpartition(":")[2].rpartition(".")[2]
        raise ScoreError(f"a criterion is registered under a name: write @redense.criterion('{own}')")

    def register(function: _F) -> _F:
        CRITERIA.register(name, function)
        (WITH_GRADIENTS.add if gradients else WITH_GRADIENTS.discard)(name)
        (WITH_ACTIVATIONS.add if activations else WITH_ACTIVATIONS.discard)(name)
        return function

    return register


def known_criteria() -> list[str]:
    """Return the names that a schedule or a recipe can use now, in alphabetical order."""
    return sorted({*OURS, *CRITERIA})


def check_criterion(chosen: str | Criterion) -> None:
    """Raise unless there is a criterion of this name, or the function that is given can be one; nothing is loaded.

    Raises:
        ScoreError: no criterion has this name, or the function does not take a parameter and a seed.
    """
    if isinstance(chosen, str):
        known = known_criteria()
        if chosen not in known:
            hint = (
                f": a function is not loaded by its name, register it before with @redense.criterion('{chosen}')"
                if ":" in chosen
                else f"{nearest(chosen, known)} (known: {', '.join(known)})"
            )
            raise ScoreError(f"unknown criterion '{chosen}'{hint}")
        return
    if not callable(chosen) or isinstance(chosen, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ScoreError(f"a criterion is a name or a function (parameter, seed) -> scores, got {chosen!r}")
    try:
        inspect.signature(chosen).bind(None, 0)
    except TypeError as error:
        raise ScoreError(f"criterion '{criterion_name(chosen)}' is called with (parameter, seed): {error}") from None
    except ValueError:  # a function of C has no signature
        _try(chosen)


def _try(chosen: Criterion) -> None:
    """Raise if a function that does not say what it is called with does not take a parameter and a seed."""
    torch = sys.modules.get("torch")  # whoever has made a function of tensors has loaded it
    if torch is None:
        return
    try:
        chosen(torch.ones(2, 2, device="cpu"), 0)
    except Exception as error:  # noqa: BLE001
        if not isinstance(error, TypeError):
            return  # it takes them, and not so small a parameter: the real ones will tell
        why = str(error).strip().partition("\n")[0]
        raise ScoreError(
            f"criterion '{criterion_name(chosen)}' is called with (parameter, seed) and does not take them ({why}): "
            "give a function such as lambda parameter, seed: parameter.abs()"
        ) from None


def criterion_name(chosen: str | Criterion) -> str:
    """Return what a saved schedule calls a criterion: its registered name, else ``module:qualified name``."""
    if isinstance(chosen, str):
        return chosen
    registered = next((name for name, function in CRITERIA.items() if function is chosen), None)
    if registered is not None:
        return registered
    named: Any = chosen if hasattr(chosen, "__qualname__") else type(chosen)
    return f"{named.__module__ or 'builtins'}:{named.__qualname__}"
