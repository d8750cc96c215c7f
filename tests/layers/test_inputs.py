"""A layer's inputs are measured as they were given, and a criterion that asks for them gets them anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import redense
from redense.criteria import CRITERIA, WITH_ACTIVATIONS, criterion
from redense.errors import ScoreError
from redense.lab.checkpoint import clone
from redense.lab.recipe.recipe import Recipe
from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine
from redense.layers.inputs import add_up_inputs, forget_inputs, input_norms, measured_inputs
from redense.masks.sharding import Ranks


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(3, 2), torch.randn(4, 5, 3)),
        (nn.Conv2d(3, 4, 2), torch.randn(5, 3, 6, 7)),
        (nn.Conv2d(4, 6, 1, groups=2), torch.randn(5, 4, 3, 3)),
        (nn.Conv1d(2, 3, 3), torch.randn(5, 2, 9)),
    ],
)
def test_the_norm_of_an_input_is_its_root_mean_square_over_all_batches(layer: nn.Module, x: Tensor):
    with measured_inputs(layer):
        layer(x)
        layer(2 * x)
    found = input_norms(layer.get_parameter("weight"))
    channels = x.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1).double()
    expected = (torch.cat([channels, 2 * channels], 1).square().mean(1)).sqrt()
    groups = getattr(layer, "groups", 1)
    weight = layer.get_parameter("weight")
    for out in range(weight.shape[0]):  # the inputs of an output are those of its group
        first = out // (weight.shape[0] // groups) * weight.shape[1]
        row = torch.broadcast_to(found, weight.shape)[out].flatten(1)[:, 0] if weight.ndim > 2 else found[0]
        torch.testing.assert_close(row, expected[first : first + weight.shape[1]])
    assert not layer._forward_pre_hooks
    forget_inputs(layer)
    with pytest.raises(ScoreError, match="no inputs were measured"):
        input_norms(weight)


def test_what_was_measured_serves_one_phase():
    @criterion("of-one-phase", activations=True)
    def score(parameter: Tensor, seed: int) -> Tensor:
        return parameter.detach().abs() * input_norms(parameter)

    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        with measured_inputs(model), torch.no_grad():
            model(torch.ones(1, 8))
        with redense.sparse(model, optimizer, 0.5, criterion=score):
            model(torch.ones(1, 8)).sum().backward()
            optimizer.step()
        again = redense.sparse(model, optimizer, 0.5, criterion=score)
        with pytest.raises(ScoreError, match="no inputs were measured"), again:
            pass
    finally:
        del CRITERIA["of-one-phase"]
        WITH_ACTIVATIONS.discard("of-one-phase")


def test_what_ranks_have_measured_alike_stays_as_it_is_and_what_they_have_not_is_added_up():
    layer = nn.Linear(3, 2)
    with measured_inputs(layer), torch.no_grad():
        layer(torch.randn(5, 3))
    before, weights = input_norms(layer.weight), [layer.weight, layer.bias]
    add_up_inputs(weights, Ranks(lambda own: 3 * own, lambda own: own))
    assert torch.equal(input_norms(layer.weight), before)

    def of_another(own: Tensor) -> Tensor:  # which has seen an input of two in one example, where this rank had 5
        return own + torch.tensor([1.0, 0.0, 4.0, 4.0, 4.0], dtype=torch.float64)

    add_up_inputs(weights, Ranks(of_another, lambda own: own + torch.arange(len(own)) * (len(own) > 4)))
    torch.testing.assert_close(input_norms(layer.weight), ((5 * before.square() + 4) / 6).sqrt())


def test_layers_that_share_a_weight_are_measured_together_and_may_be_called_by_keyword():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.two(input=self.one(x))

    model, x = Shared(), torch.randn(8, 3)
    with measured_inputs(model), torch.no_grad():
        model(x)
    seen = torch.cat([x, model.one(x)]).square().mean(0).sqrt()
    assert torch.allclose(input_norms(model.one.weight)[0].float(), seen)


def test_the_engine_measures_before_each_phase_whether_the_one_before_came_from_the_store(
    tiny: Callable[..., Recipe],
):
    seen: list[Tensor] = []

    @criterion("wanda-for-a-test", activations=True)
    def wanda(parameter: Tensor, seed: int) -> Tensor:
        seen.append(input_norms(parameter))
        return parameter.detach().abs() * seen[-1]

    try:
        recipe = tiny(sparse={"criterion": "wanda-for-a-test"})
        task = make_task(recipe)
        through = Engine(task, recipe)
        through.train()
        stored = clone(through.snapshot())
        through.train()
        again = Engine(task, recipe)
        again.restore(stored)
        again.train()
        assert len(seen) == 4
        assert torch.equal(seen[0], seen[2])
        assert torch.equal(seen[1], seen[3])
        for name, value in through.model.state_dict().items():
            assert torch.equal(value, again.model.state_dict()[name])
        with pytest.raises(ScoreError, match="no inputs were measured"):
            input_norms(through.model.get_parameter("fc1.weight"))
    finally:
        del CRITERIA["wanda-for-a-test"]
        WITH_ACTIVATIONS.discard("wanda-for-a-test")
