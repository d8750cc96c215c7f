"""What is set up of a recipe: a batch that is too small for a layer is said with the layer's name."""

from __future__ import annotations

import pytest
from torch import nn

from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine
from redense.lab.training.setup import BatchError

from ...trainings import Tiny


def test_a_batch_of_one_under_batch_normalisation_is_named(tiny: Tiny):
    recipe = tiny(training={"batch_size": 1})
    task = make_task(recipe)
    layers = [nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)]
    task.build_model = lambda: nn.Sequential(*layers)
    with pytest.raises(BatchError, match=r"batch normalisation '2' has one value .*raise training\.batch_size"):
        Engine(task, recipe).train()
