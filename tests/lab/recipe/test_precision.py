"""`training.precision: auto`: what it stands for on a machine, and that a recipe never keeps the word."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from redense.lab.recipe.precision import fastest_precision
from redense.lab.recipe.recipe import load_recipe

GPU = {"is_available": True, "get_device_capability": (9, 0)}
NONE: Mapping[str, object] = {"is_available": False}


@pytest.mark.parametrize(
    ("gpu", "processor", "expected"),
    [
        (GPU, {}, "bf16"),
        ({**GPU, "get_device_capability": (7, 5)}, {"amx_bf16": True}, "fp32"),
        (NONE, {"amx_bf16": True}, "bf16"),
        (NONE, {"amx_bf16": False, "avx512_bf16": True}, "fp32"),
        (NONE, {}, "fp32"),
    ],
)
def test_auto_is_bf16_where_the_machine_has_units_for_it(
    gpu: Mapping[str, object], processor: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in gpu.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    assert fastest_precision() == expected
    recipe = load_recipe("quickstart", ["--training.precision", "auto"])
    assert recipe.training.precision == expected
    assert f"precision: {expected}" in recipe.to_yaml()


def test_no_shipped_recipe_leaves_the_precision_to_the_machine():
    from redense.lab.recipe.recipe import recipe_names, recipe_text

    assert not [name for name in recipe_names() if "precision: auto" in recipe_text(name)]
