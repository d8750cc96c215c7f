"""SWA and EMA: means of the weights, and the statistics that belong to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from redense import Phase
from redense.errors import RedenseError
from redense.lab.training.engine import Engine
from redense.methods.base import Context, make_method

from ..trainings import Tiny, same_tree
from .cases import CASES, Case, Pairs, engine_of, weights_of

# --- averaging ------------------------------------------------------------------------------------------------------


def steps_of(engine: Engine) -> list[dict[str, Tensor]]:
    """Record the weights after every optimizer step from now on."""
    seen: list[dict[str, Tensor]] = []
    engine.optimizer.register_step_post_hook(lambda *_: seen.append(weights_of(engine)))
    return seen


def test_swa_is_the_mean_of_the_weights_at_its_steps(tiny: Tiny):
    engine = engine_of(tiny(), CASES["swa"])
    engine.train()
    seen = steps_of(engine)
    engine.train()
    assert len(seen) == 11
    taken = [seen[i] for i in (7, 9)]  # every second step of those from 5.5 on
    for name, weight in engine.model.state_dict().items():
        expected = (taken[0][name].double() + taken[1][name].double()) / 2
        torch.testing.assert_close(weight.double(), expected, rtol=1e-6, atol=1e-7)


def test_ema_is_the_moving_average_of_the_weights_at_every_step(tiny: Tiny):
    engine = engine_of(tiny(), CASES["ema"])
    engine.train()
    seen = steps_of(engine)
    engine.train()
    for name, weight in engine.model.state_dict().items():
        expected = seen[0][name].double()
        for step in seen[1:]:
            expected = 0.8 * expected + 0.2 * step[name].double()
        torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-7)


def test_an_average_that_starts_late_knows_the_steps_of_its_phase():
    model = nn.Linear(1, 1)
    method, run = make_method("average", {"start": 0.5}, 0), Context(model, Phase.dense(4))
    method.begin(run)
    for run.step, value in enumerate((1.0, 2.0, 3.0, 5.0), start=1):
        model.weight.data.fill_(value)
        method.after_step(run)
    method.finish(run)
    assert model.weight.item() == 4.0


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("average", {"kind": "mean"}, "kind of averaging must be 'swa' or 'ema', got 'mean'"),
        ("average", {"every": 0}, "every of averaging must be at least 1 optimizer step, got 0"),
        ("average", {"kind": "ema", "decay": 1.0}, r"decay of averaging must be in \[0, 1\), got 1.0"),
        ("average", {"start": 1}, r"start of averaging must be in \[0, 1\), got 1"),
        ("sam", {"every": 0}, "every of SAM must be at least 1 optimizer step, got 0"),
        ("sam", {"rho": -0.1}, "rho of SAM must be a finite number of at least 0, got -0.1"),
        ("release", {"start": "zero"}, "start of released weights must be 'value' or 'fresh', got 'zero'"),
        ("jump", {"scale": "1"}, "scale of a jump must be a finite number of at least 0, got '1'"),
        ("jump", {"sparsity": 30}, r"sparsity of a jump must be in \[0, 1\), got 30"),
        ("distill", {"temperature": 0}, "temperature of a distillation must be above 0, got 0"),
        ("distill", {"mix": 2}, r"mix of a distillation must be in \[0, 1\], got 2"),
        ("lowrank", {"energy": 2}, r"energy of the low rank must be in \(0, 1\], got 2"),
        ("lowrank", {"rank": 0.5}, "a rank must be a whole number of at least 1, got 0.5"),
        ("lowrank", {"ranks": {"fc": 1}}, "ranks has 'fc', which is no fully-connected layer"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_trained(name: str, options: Any, says: str):
    with pytest.raises(RedenseError, match=says):
        make_method(name, options, 0).check(nn.Sequential(nn.Linear(1, 1)), Pairs())


def test_an_average_of_nothing_keeps_the_weights_and_one_under_a_mask_stays_sparse(tiny: Tiny):
    engine = engine_of(tiny(), Case("average", {"kind": "swa", "every": 100}))
    engine.train()
    seen = steps_of(engine)
    engine.train()
    assert same_tree(dict(engine.model.state_dict()), seen[-1])
    masked = engine_of(tiny(), CASES["swa under a mask"])
    masked.train()
    masked.train()
    assert int((masked.model.get_parameter("fc1.weight") == 0).sum()) == round(0.3 * 512)


def test_the_statistics_of_batch_normalisation_are_those_of_the_average():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    weight = model.get_parameter("0.weight")
    method = make_method("average", {"kind": "swa"}, 0)
    batches = [(torch.randn(8, 3), torch.zeros(8)) for _ in range(4)]
    run = Context(model, batches=lambda: iter(batches))
    method.begin(run)
    for run.step, value in enumerate((1.0, 3.0), start=1):
        weight.data.fill_(value)
        method.after_step(run)
    method.finish(run)
    assert torch.equal(weight, torch.full((2, 3), 2.0))
    inputs = torch.stack([batch @ weight.detach().T for batch, _ in batches])
    buffers = dict(model.named_buffers())
    torch.testing.assert_close(buffers["1.running_mean"], inputs.mean((0, 1)))
    torch.testing.assert_close(buffers["1.running_var"], inputs.var(1).mean(0))
