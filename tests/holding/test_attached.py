"""Hooks around the steps of optimizers: whose parameters are held, one controller at a time, and what is left."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed
from torch import nn

import redense
from redense import Phase, Schedule, Surgery
from redense.errors import OptimizerError, ParameterError, StateError
from redense.holding.owners import Owners

from ..by_hand import DSD, hooks, net, pruned, sgd, train

# --- optimizers -----------------------------------------------------------------------------------------------------


def test_an_optimizer_that_holds_a_part_prunes_that_part():
    model = net()
    optimizer = sgd(model[2])
    with redense.sparse(model, optimizer, 0.5) as block:
        assert list(block.masks) == ["2.weight"]
        assert pruned(model) == {"0.weight": 0, "2.weight": 16}
    with pytest.raises(OptimizerError, match=r"no optimizer holds '0\.weight', so no mask could be held on it"):
        redense.sparse(model, optimizer, {"0.weight": 0.5}).__enter__()
    for include in ("0.weight", ["0.weight"], ("2.weight", "0.weight")):
        with pytest.raises(OptimizerError, match=r"no optimizer holds '0\.weight'"):
            redense.DSD(model, optimizer, DSD, include=include)
    later = Schedule((Phase.dense(1), Phase.sparse(1, {"2.*": 0.5, "0.*": 0.5})))
    with pytest.raises(ParameterError, match=r"sparsity names '0\.\*', which is no prunable parameter"):
        redense.DSD(model, optimizer, later)
    with pytest.raises(OptimizerError, match="the optimizers hold none of the prunable parameters: see print"):
        redense.sparse(model, sgd(nn.Linear(1, 1)), 0.5).__enter__()


def test_what_no_optimizer_holds_when_its_mask_is_released_is_named(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(2, 0.5), Phase.dense(2))))
    train(model, optimizer)
    (group,) = optimizer.param_groups
    group["params"] = [p for p in group["params"] if p is not model[0].weight]  # as who trains the last layer alone
    train(model, optimizer, steps=2)
    assert dsd.step == 3
    said = "'0.weight' is held by no optimizer now that the mask is released: what was removed stays zero"
    assert [record.message.startswith(said) for record in caplog.records] == [True]


def test_several_optimizers_hold_their_own_parameters_and_a_step_is_one_of_each():
    model = net()
    first, second = sgd(model[0]), torch.optim.Adam(model[2].parameters(), lr=0.01)
    dsd = redense.DSD(model, [first, second], DSD)
    for done in range(6):
        assert dsd.step == done
        assert bool(dsd.masks) == (done in (2, 3))
        train(model, first)
        assert dsd.step == done
        train(model, second)
        for name, mask in dsd.masks.items():
            assert (model.get_parameter(name)[~mask] == 0).all()
    assert dsd.phase is None
    assert hooks(first) == hooks(second) == 0


@pytest.mark.parametrize("given", [[], ()])
def test_no_optimizer_is_an_error(given: Any):
    with pytest.raises(OptimizerError, match="no optimizer was given"):
        redense.DSD(net(), given, DSD)


def test_the_same_optimizer_twice_is_an_error():
    model = net()
    optimizer = sgd(model)
    with pytest.raises(OptimizerError, match="the same optimizer was given twice"):
        redense.DSD(model, [optimizer, optimizer], DSD)
    assert hooks(optimizer) == 0


def test_parameters_that_the_optimizer_gets_later_are_left_alone():
    model = net()
    optimizer = sgd(model[0])
    with redense.sparse(model, optimizer, 0.5) as block:
        optimizer.add_param_group({"params": model[2].parameters()})
        train(model, optimizer)
        assert list(block.masks) == ["0.weight"]
        assert pruned(model) == {"0.weight": 32, "2.weight": 0}


# --- one at a time --------------------------------------------------------------------------------------------------


def test_entering_twice_is_an_error_and_leaves_the_first_in_force():
    model = net()
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, 0.5) as block:
        for second in (block, redense.sparse(model, optimizer, 0.25), redense.sparse(model[0], optimizer, 0.25)):
            with pytest.raises(StateError, match="sparse already controls this model and optimizer: leave its block"):
                second.__enter__()
        with pytest.raises(StateError, match="sparse already controls"):
            redense.DSD(model, optimizer, DSD)
        train(model, optimizer)
        assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    assert hooks(optimizer) == 0


def test_a_dsd_is_alone_until_it_is_over_or_closed():
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD)
    with pytest.raises(StateError, match=r"DSD already controls this model and optimizer: .* call its close\(\) first"):
        redense.sparse(model, optimizer, 0.5).__enter__()
    dsd.close()
    with redense.sparse(model, optimizer, 0.5):
        pass
    redense.DSD(model, optimizer, DSD)
    train(model, optimizer, steps=6)
    redense.DSD(model, optimizer, DSD).close()


def test_hooks_of_others_do_not_hide_a_controller():
    model = net()
    optimizer = sgd(model)
    optimizer.register_step_post_hook(lambda *_: None)
    with (
        redense.sparse(model, optimizer, 0.5),
        pytest.raises(StateError, match="sparse already controls"),
    ):
        redense.DSD(model, optimizer, DSD)


def test_a_block_that_could_not_begin_has_no_masks():
    model = net()
    optimizer = sgd(model)
    weight = model.get_parameter("2.weight")
    optimizer.state[weight] = {"exp_avg": torch.zeros(weight.shape, dtype=torch.uint8)}
    block = redense.sparse(model, optimizer, 0.5)
    with pytest.raises(OptimizerError, match=r"keeps a quantised state 'exp_avg' for '2\.weight'"):
        block.__enter__()
    assert block.masks == {}
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def test_two_models_may_share_an_optimizer():
    first, second = net(), net()
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    with redense.sparse(first, optimizer, 0.5), redense.sparse(second, optimizer, 0.25):
        train(first, optimizer)
        train(second, optimizer)
        assert pruned(first) == {"0.weight": 32, "2.weight": 16}
        assert pruned(second) == {"0.weight": 16, "2.weight": 8}
    assert hooks(optimizer) == 0


def test_closing_takes_the_hooks_away_though_others_came_after():
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD)
    optimizer.register_step_post_hook(lambda *_: None)
    dsd.close()
    assert hooks(optimizer) == 1


def test_a_schedule_ends_though_one_of_two_optimizers_has_a_later_hook():
    model = net()
    first, second = sgd(model[0]), sgd(model[2])
    dsd = redense.DSD(model, [first, second], DSD)
    second.register_step_post_hook(lambda *_: None)
    train(model, first, second, steps=7)
    assert dsd.phase is None
    dsd.close()
    assert (hooks(first), hooks(second)) == (0, 1)


# --- hooks of others ------------------------------------------------------------------------------------------------


def test_hooks_that_the_user_registered_live_on_and_can_be_removed():
    model = net()
    optimizer = sgd(model)
    calls: list[str] = []
    before = optimizer.register_step_post_hook(lambda *_: calls.append("before"))
    pre = optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    dsd = redense.DSD(model, optimizer, DSD)
    after = optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(model, optimizer, steps=8)
    assert calls == ["pre", "before", "after"] * 8
    assert dsd.phase is None
    with redense.sparse(model, optimizer, 0.5):  # what is over is in nobody's way, even if its hook could not go
        train(model, optimizer)
        assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    for handle in (before, pre, after):
        handle.remove()
    dsd.close()
    assert hooks(optimizer) == 0
    train(model, optimizer)
    assert len(calls) == 27


def test_closing_inside_the_callback_takes_the_hooks_away_at_once():
    model = net()
    optimizer = sgd(model)
    redense.DSD(model, optimizer, DSD, on_phase_end=lambda dsd: dsd.close())
    train(model, optimizer, steps=2)
    assert hooks(optimizer) == 0


@pytest.mark.parametrize("hook_after", [False, True])
@pytest.mark.parametrize("in_phase", ["dense", "sparse", "redense"])
def test_closing_inside_the_callback_ends_the_schedule_there(hook_after: bool, in_phase: str):
    model = net()
    optimizer = sgd(model)
    ended: list[str] = []

    def stop(dsd: redense.DSD) -> None:
        assert dsd.phase is not None
        ended.append(dsd.phase.name)
        if dsd.phase.name == in_phase:
            dsd.close()

    dsd = redense.DSD(model, optimizer, DSD, on_phase_end=stop)
    if hook_after:
        optimizer.register_step_post_hook(lambda *_: None)
    train(model, optimizer, steps=8)
    assert ended[-1] == in_phase
    assert dsd.phase is None
    assert dsd.masks == {}
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}
    dsd.close()
    assert hooks(optimizer) == hook_after


def test_an_error_of_the_callback_comes_out_of_the_step():
    model = net()
    optimizer = sgd(model)

    def fail(dsd: redense.DSD) -> None:
        raise ZeroDivisionError

    dsd = redense.DSD(model, optimizer, DSD, on_phase_end=fail)
    with pytest.raises(ZeroDivisionError):
        train(model, optimizer, steps=2)
    dsd.close()
    assert hooks(optimizer) == 0


def test_a_callback_may_go_back_in_the_schedule_and_keep_the_weights_that_it_loads(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = sgd(model)
    saved: list[Any] = []

    def back(dsd: redense.DSD) -> None:
        if dsd.phase and dsd.phase.is_sparse:
            model.load_state_dict(saved[0])
            if len(saved) > 1:
                dsd.load_state_dict(saved.pop())

    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=2, sparse=2, redense=2, sparsity=0.5), on_phase_end=back)
    train(model, optimizer)
    saved += [copy.deepcopy(model.state_dict()), dsd.state_dict()]
    train(model, optimizer, steps=3)
    assert (dsd.step, dsd.phase and dsd.phase.name) == (1, "dense")
    assert "not zero" not in caplog.text
    train(model, optimizer, steps=3)
    assert (dsd.step, dsd.phase and dsd.phase.name) == (4, "redense")
    assert all(torch.equal(value, saved[0][name]) for name, value in model.state_dict().items())
    assert "removed weights of '0.weight' are not zero any more" in caplog.text
    caplog.clear()
    dsd.close()
    dsd.load_state_dict(dsd.state_dict() | {"phase": 0, "steps": [0]})
    train(model, optimizer)
    dsd.close()
    assert "training ended after 1 of 6 steps" in caplog.text


def test_surgery_with_two_optimizers_revises_each_layer_once_a_step():
    model = net()
    first, second = sgd(model[0]), sgd(model[2])
    dsd = redense.DSD(
        model, [first, second], Schedule((Phase.dense(1), Phase.sparse(4, 0.5, surgery=Surgery(power=0))))
    )
    for _ in range(5):
        train(model, first, second)
        for name, mask in dsd.masks.items():
            assert (model.get_parameter(name)[~mask] == 0).all()
    assert dsd.step == 5
    dsd.close()


def test_the_model_is_looked_at_once_a_turn_of_its_optimizers(monkeypatch: pytest.MonkeyPatch):
    looks: list[object] = []
    monkeypatch.setattr(Owners, "refuse_replaced", lambda *args, **kwargs: looks.append(args))
    model = net()
    first, second = sgd(model[0]), sgd(model[2])
    with redense.sparse(model, [first, second], 0.5):
        looks.clear()
        for optimizers, total in (((first, second), 1), ((first, second), 2), ((second,), 3), ((second, first), 4)):
            train(model, *optimizers)
            assert len(looks) == total


class Centred(torch.optim.Optimizer):
    """Momentum of gradients whose mean is taken off, so that a removed weight's moves."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for parameter in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            momentum.add_(parameter.grad - parameter.grad.mean())
            parameter.sub_(0.1 * momentum)


@pytest.mark.parametrize("kind", ["state_dict", "sharded_state_dict"])
def test_steps_are_counted_for_each_optimizer_where_one_makes_several_a_turn(kind: str):
    model = net()
    first, second = Centred(model[0].parameters()), sgd(model[2])
    dsd = redense.DSD(model, [first, second], Schedule((Phase.sparse(9, 0.5), Phase.dense(1))))
    removed = ~dsd.masks["0.weight"]
    for turn in range(4):
        for _ in range(5):
            train(model, second)
        train(model, first)
        assert not first.state[model.get_parameter("0.weight")]["momentum"][removed].any(), turn
    state = getattr(dsd, kind)()
    dsd.close(release=False)
    dsd = redense.DSD(model, [first, second], dsd.schedule, state=state)
    again = getattr(dsd, kind)()
    assert (again["held"] if kind == "state_dict" else again["sharded"]["held"]) == (
        state["held"] if kind == "state_dict" else state["sharded"]["held"]
    )
    dsd.close()


def test_surgery_of_an_optimizer_that_steps_rarely_goes_on_to_the_end_of_the_phase():
    model = net()
    first, second = sgd(model[0]), sgd(model[2])
    dsd = redense.DSD(model, [first, second], Schedule((Phase.sparse(6, 0.5, surgery=Surgery(power=0)),)))
    for turn in range(6):
        for _ in range(3):
            train(model, second)
        with torch.no_grad():  # the next revision prunes it, if there is one
            kept = tuple(dsd.masks["0.weight"].nonzero()[0])
            model.get_parameter("0.weight")[kept] = 1e-9
        train(model, first)
        assert not dsd.masks["0.weight"][kept], turn
    dsd.close()


def test_a_schedule_is_over_though_its_last_step_was_broken_off_while_the_hooks_were_taken_away(
    monkeypatch: pytest.MonkeyPatch,
):
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5))
    train(model, optimizer, steps=2)

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("redense.holding.attached.attached.discard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(model, optimizer)
    assert (dsd.step, dsd.phase) == (3, None)
    train(model, optimizer)
    assert (dsd.step, dsd.phase) == (3, None)
    dsd.close()
    redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5)).close()
