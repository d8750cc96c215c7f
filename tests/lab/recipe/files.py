"""Recipe files that are loaded, and the one line of what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from redense.errors import RecipeError

LEAST = "dense: {epochs: 1}\nsparse: {epochs: 1}\nredense: {epochs: 1}\n"


def problem(call: Callable[..., Any], *arguments: Any) -> str:
    """Return the one line that a mistake gives."""
    with pytest.raises(RecipeError) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    return line
