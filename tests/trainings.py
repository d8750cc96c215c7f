"""Trainings that are stopped at a step, and what two of them must have in common to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from redense.lab.recipe.recipe import Recipe

Tiny = Callable[..., Recipe]
"""The fixture `tiny`: a recipe that trains in a blink, with what is changed in it."""


def slow(*row: Any) -> Any:
    """Return a row of a table that another row proves: it is asked by the slow tests."""
    return pytest.param(*row, marks=pytest.mark.slow)


def stop_after(step: int) -> Callable[[], bool]:
    """Return a request to stop that comes after so many steps of this process."""
    asked = iter(range(1_000_000))
    return lambda: next(asked) >= step - 1


def timeless(value: Any) -> Any:
    """Return a result or a log without what the clock says."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def same_tree(a: Any, b: Any) -> bool:
    """Return whether two nested states are equal: dtypes and bits of tensors, and the order of keys too."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_tree, a, b))
    return a == b
