"""The plan of a recipe: the order, lengths, learning rates and seeds of its phases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from redense.lab.recipe.recipe import Recipe, load_recipe
from redense.lab.training.plan import plan
from redense.pruning import derive_seed

Tiny = Callable[..., Recipe]


def phases(recipe: Recipe, steps_per_epoch: int = 100) -> list[Any]:
    return [planned.phase for planned in plan(recipe, steps_per_epoch)]


def rates(recipe: Recipe) -> list[float]:
    """The initial learning rate of every phase."""
    return [recipe.training.optimizer.lr * phase.lr for phase in phases(recipe)]


def test_a_recipe_is_dense_sparse_dense():
    dense, sparse, redense = phases(load_recipe("quickstart"))
    assert [p.name for p in (dense, sparse, redense)] == ["dense", "sparse", "redense"]
    assert [p.is_sparse for p in (dense, sparse, redense)] == [False, True, False]
    assert [p.steps for p in (dense, sparse, redense)] == [1200, 800, 800]
    assert (dense.sparsity, sparse.sparsity, redense.sparsity) == (None, 0.3, None)
    assert (sparse.criterion, sparse.scope, sparse.pattern) == ("magnitude", "layer", None)


def test_without_rates_of_their_own_sparse_takes_the_first_and_redense_a_tenth(tiny: Tiny):
    assert rates(tiny()) == pytest.approx([0.1, 0.1, 0.01])


def test_a_rate_of_its_own_is_taken(tiny: Tiny):
    recipe = tiny(dense={"lr": 0.3}, sparse={"lr": 0.07}, redense={"lr": 0.001})
    assert rates(recipe) == pytest.approx([0.3, 0.07, 0.001], rel=1e-12)


def test_each_cycle_takes_a_tenth_of_the_rates_before_unless_it_has_its_own(tiny: Tiny):
    cycle: dict[str, Any] = {"sparse": {"epochs": 1, "sparsity": 0.2}, "redense": {"epochs": 1}}
    own = {"sparse": {"epochs": 1, "lr": 0.5}, "redense": {"epochs": 1, "lr": 0.4}}
    recipe = tiny(cycles=[cycle, own, cycle])
    assert [p.name for p in phases(recipe)] == [
        *("dense", "sparse-1", "redense-1", "sparse-2", "redense-2", "sparse-3", "redense-3", "sparse-4", "redense-4")
    ]
    assert rates(recipe) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.5, 0.4, 0.05, 0.04])
    assert [p.sparsity for p in phases(recipe) if p.is_sparse] == [0.3, 0.2, 0.3, 0.2]


def test_epochs_may_be_fractions_and_a_phase_has_at_least_one_step(tiny: Tiny):
    recipe = tiny(dense={"epochs": 0.5}, sparse={"epochs": 1.26}, redense={"epochs": 1e-9})
    assert [p.steps for p in phases(recipe, 100)] == [50, 126, 1]
    assert [p.steps for p in phases(recipe, 1)] == [1, 1, 1]


def test_a_phase_may_have_a_decay_of_its_own(tiny: Tiny):
    recipe = tiny(
        training={"decay": {"kind": "linear", "floor": 0.1}}, sparse={"decay": {"kind": "step", "every": 0.5}}
    )
    dense, sparse, redense = phases(recipe)
    assert (dense.decay.kind, dense.decay.floor) == (redense.decay.kind, redense.decay.floor) == ("linear", 0.1)
    assert (sparse.decay.kind, sparse.decay.every, sparse.decay.floor) == ("step", 0.5, 0.0)


def test_a_pattern_takes_the_place_of_the_sparsity(tiny: Tiny):
    sparse = phases(tiny(sparse={"pattern": [2, 4]}))[1]
    assert (sparse.pattern, sparse.sparsity, sparse.is_sparse) == ((2, 4), None, True)


def test_sparsity_zero_is_a_sparse_phase_that_prunes_nothing(tiny: Tiny):
    sparse = phases(tiny(sparse={"sparsity": 0}))[1]
    assert (sparse.is_sparse, sparse.sparsity) == (True, 0.0)


def test_a_mapping_and_a_criterion_reach_the_phase(tiny: Tiny):
    sparse = phases(tiny(sparse={"sparsity": {"fc1.weight": 0.5}, "criterion": "random"}))[1]
    assert (dict(sparse.sparsity), sparse.criterion) == ({"fc1.weight": 0.5}, "random")
    assert phases(tiny(sparse={"scope": "global"}))[1].scope == "global"


def test_what_determines_a_phase_is_plain_data(tiny: Tiny):
    first, second = (plan(tiny(sparse={"sparsity": s}), 10) for s in (0.3, 0.4))
    assert [a.to_dict() == b.to_dict() for a, b in zip(first, second, strict=True)] == [True, False, True]


def test_seeds_are_those_of_every_machine_and_version():
    # If this fails, no earlier result can be reproduced: say so in the changelog.
    assert derive_seed(0, "model") == 0x9A442434DB5824
    assert derive_seed(0, 1, 2, "order") == 0xF9777DEACA6A5C


def test_seeds_of_different_parts_differ():
    parts = [(0,), (1,), (0, "model"), (0, 0, "phase"), (0, 1, "phase"), (1, 0, "phase"), (0, 11, "x"), (0, 1, 1, "x")]
    assert len({derive_seed(*p) for p in parts}) == len(parts)
    assert all(0 <= derive_seed(*p) < 2**56 for p in parts)
