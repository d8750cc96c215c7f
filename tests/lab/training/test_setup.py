"""What is set up of a recipe: a batch that is too small for a layer is said with the layer's name."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn

from redense.errors import RecipeError
from redense.lab.recipe.optimizers import OPTIMIZERS
from redense.lab.recipe.sections import OptimizerRecipe
from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine
from redense.lab.training.setup import BatchError, deterministic, make_optimizer

from ...trainings import Tiny


def test_a_batch_of_one_under_batch_normalisation_is_named(tiny: Tiny):
    recipe = tiny(training={"batch_size": 1})
    task = make_task(recipe)
    layers = [nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)]
    task.build_model = lambda: nn.Sequential(*layers)
    with pytest.raises(BatchError, match=r"batch normalisation '2' has one value .*raise training\.batch_size"):
        Engine(task, recipe).train()


@pytest.mark.parametrize("before", [(False, False), (True, False), (True, True)])
def test_a_gpu_is_asked_for_the_same_bits_each_time_while_it_trains(
    before: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
):
    def asked() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # which is put back in the end
    del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    filling = cast("Any", torch.utils.deterministic).fill_uninitialized_memory
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    try:
        with deterministic(torch.device("cpu")):
            assert asked() == before
        with deterministic(torch.device("cuda", 0)):
            assert asked() == (True, before != (True, False))
            assert not cast("Any", torch.utils.deterministic).fill_uninitialized_memory
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert asked() == before
        assert cast("Any", torch.utils.deterministic).fill_uninitialized_memory == filling
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_option_that_an_optimizer_of_ones_own_does_not_take_is_named(monkeypatch: pytest.MonkeyPatch):
    def make(parameters: Any, own: OptimizerRecipe) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=own.lr, **own.options)

    monkeypatch.setitem(OPTIMIZERS._things, "sgd", replace(OPTIMIZERS["sgd"], make=make))
    with pytest.raises(RecipeError, match=r"options \{'nope': 1\} are none of sgd: .*argument 'nope'"):
        make_optimizer(torch.nn.Linear(2, 2), OptimizerRecipe(options={"nope": 1}))
