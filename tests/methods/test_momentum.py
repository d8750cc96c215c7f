"""Momentum kept under the mask, against a loop by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from redense.pruning import derive_seed
from redense.schedule import Schedule

from ..trainings import Tiny
from .cases import CASES, Case, engine_of, weights_of

# --- momentum kept under the mask ------------------------------------------------------------------------------------


def test_kept_momentum_is_that_of_a_loop_that_multiplies_the_weights_by_the_mask_and_no_more(tiny: Tiny):
    recipe = tiny(model={"dropout": 0.0})
    engine, cleared = engine_of(recipe, CASES["momentum"]), engine_of(recipe, Case(None, sparse=True))
    for trained in (engine, cleared):
        trained.train()
        trained.train()
    for name, weight in weights_of(engine).items():  # under the mask nothing of it is seen
        assert torch.equal(weight, weights_of(cleared)[name])
    by_hand = engine_of(recipe, Case(None, sparse=True))
    by_hand.train()
    velocity: dict[str, Tensor] = {}
    masks = {name: engine.progress.masks[name] for name in engine.progress.masks}
    named = dict(by_hand.model.named_parameters())
    for name, weight in named.items():
        velocity[name] = by_hand.optimizer.state[weight]["momentum_buffer"].clone()
        if name in masks:
            weight.data.mul_(masks[name])
            velocity[name].mul_(masks[name])
    torch.manual_seed(derive_seed(recipe.seed, 1, "phase"))
    phase = engine.plan[1].phase
    by_hand.model.train()
    for step, (images, labels) in enumerate(by_hand.prepared.feed.batches(1, 0, 0, phase.steps)):
        by_hand.model.zero_grad()
        torch.nn.functional.cross_entropy(by_hand.model(images), labels).backward()
        lr = recipe.training.optimizer.lr * Schedule((phase,)).lr_factor(step)
        for name, weight in named.items():
            assert weight.grad is not None
            velocity[name] = 0.9 * velocity[name] + weight.grad
            weight.data.add_(velocity[name], alpha=-lr)
            if name in masks:
                weight.data.mul_(masks[name])
    for name, weight in engine.model.named_parameters():
        kept = engine.optimizer.state[weight]["momentum_buffer"]
        torch.testing.assert_close(kept, velocity[name], rtol=1e-4, atol=1e-6)
        if name in masks:
            assert kept[~masks[name]].abs().max() > 0
            assert not cleared.optimizer.state[cleared.model.get_parameter(name)]["momentum_buffer"][~masks[name]].any()
