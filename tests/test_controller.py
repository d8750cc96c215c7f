"""`sparse` and `DSD`: when masks are chosen, held and released, and what is refused."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim import Optimizer

import redense
from redense import Phase, Schedule, Surgery, masks
from redense.errors import OptimizerError, ParameterError, RedenseError, ScoreError, SparsityError, StateError

DSD = Schedule.dsd(dense=2, sparse=2, redense=2, sparsity=0.5)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(model: nn.Module, *optimizers: Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        model.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def hooks(optimizer: Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)  # pyright: ignore[reportPrivateUsage]


def pruned(model: nn.Module) -> dict[str, int]:
    return {name: int((weight == 0).sum()) for name, weight in redense.prunable(model).items()}


# --- sparse ---------------------------------------------------------------------------------------------------------


def test_the_block_prunes_the_smallest_weights_on_entry_and_releases_them_at_the_end():
    model = net()
    optimizer = sgd(model)
    expected = {name: masks.select(w, 0.25, absolute=True) for name, w in redense.prunable(model).items()}
    with redense.sparse(model, optimizer, sparsity=0.25) as block:
        assert pruned(model) == {"0.weight": 16, "2.weight": 8}
        for name, mask in block.masks.items():
            assert torch.equal(mask, expected[name])
        train(model, optimizer, steps=3)
        assert pruned(model) == {"0.weight": 16, "2.weight": 8}
    assert block.masks == {}
    assert hooks(optimizer) == 0
    assert pruned(model) == {"0.weight": 16, "2.weight": 8}
    train(model, optimizer)
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def leave_by_break(model: nn.Module, optimizer: Optimizer) -> None:
    for _ in range(3):
        with redense.sparse(model, optimizer, 0.5):
            train(model, optimizer)
            break


def leave_by_return(model: nn.Module, optimizer: Optimizer) -> None:
    with redense.sparse(model, optimizer, 0.5):
        return train(model, optimizer)


def leave_by_exception(model: nn.Module, optimizer: Optimizer) -> None:
    with contextlib.suppress(KeyboardInterrupt), redense.sparse(model, optimizer, 0.5):
        train(model, optimizer)
        raise KeyboardInterrupt


def leave_by_generator(model: nn.Module, optimizer: Optimizer) -> None:
    def epochs() -> Generator[int, None, None]:
        with redense.sparse(model, optimizer, 0.5):
            yield 1
            yield 2

    generator = epochs()
    next(generator)
    train(model, optimizer)
    generator.close()


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_return, leave_by_exception, leave_by_generator])
def test_the_block_releases_from_zero_however_it_is_left(leave: Callable[[nn.Module, Optimizer], None]):
    model = net()
    optimizer = sgd(model)
    leave(model, optimizer)
    assert hooks(optimizer) == 0
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    for weight in redense.prunable(model).values():
        assert (optimizer.state[weight]["momentum_buffer"][weight == 0] == 0).all()
    train(model, optimizer)
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def test_the_exception_of_the_block_comes_through():
    model = net()
    with pytest.raises(ZeroDivisionError), redense.sparse(model, sgd(model), 0.5):
        _ = 1 / 0


def test_a_block_that_cannot_release_still_takes_its_hooks_away():
    model = net()
    optimizer = sgd(model)
    block = redense.sparse(model, optimizer, 0.5)
    block.__enter__()
    weight = model.get_parameter("0.weight")
    optimizer.state[weight]["code"] = torch.ones(weight.shape, dtype=torch.uint8)
    with pytest.raises(OptimizerError, match=r"quantised state 'code' for '0\.weight'"):
        block.__exit__(None, None, None)
    assert hooks(optimizer) == 0


def test_a_block_can_be_used_again_after_it_was_left():
    model = net()
    optimizer = sgd(model)
    block = redense.sparse(model, optimizer, 0.5)
    for _ in range(2):
        with block:
            train(model, optimizer)
            assert pruned(model) == {"0.weight": 32, "2.weight": 16}
        train(model, optimizer)


def test_sparsity_zero_prunes_nothing_and_changes_nothing():
    model, twin = net(), net()
    optimizer, other = sgd(model), sgd(twin)
    with redense.sparse(model, optimizer, 0.0):
        torch.manual_seed(5)
        train(model, optimizer, steps=3)
    torch.manual_seed(5)
    train(twin, other, steps=3)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_mapping_leaves_what_it_does_not_name_dense_and_a_name_beats_a_pattern():
    model = net().append(nn.Linear(4, 4))
    sparsities = {"*.weight": 0.5, "2.weight": 0.25}
    with redense.sparse(model, sgd(model), sparsities):
        assert pruned(model) == {"0.weight": 32, "2.weight": 8, "3.weight": 8}
    model = net()
    with redense.sparse(model, sgd(model), {"2.*": 0.25, "*.weight": 0.5}):
        assert pruned(model) == {"0.weight": 32, "2.weight": 8}
    model = net()
    with redense.sparse(model, sgd(model), {"2.weight": 0.5, "0.bias": 0.5}) as block:
        assert set(block.masks) == {"2.weight", "0.bias"}
        assert pruned(model) == {"0.weight": 0, "2.weight": 16}
        assert int((model.get_parameter("0.bias") == 0).sum()) == 4


def test_a_name_may_hold_what_patterns_are_made_of():
    model = nn.ModuleDict({"a[0]": nn.Linear(8, 8), "a0": nn.Linear(8, 8), "b": nn.Linear(8, 8)})
    with redense.sparse(model, sgd(model), {"a[0].weight": 0.5}) as block:
        assert list(block.masks) == ["a[0].weight"]
    with redense.sparse(model, sgd(model), 0.5, include=["a[0].weight"], exclude=["a0.weight"]) as block:
        assert list(block.masks) == ["a[0].weight"]
    with redense.sparse(model, sgd(model), 0.5, exclude=["a[0].weight"]) as block:
        assert list(block.masks) == ["a0.weight", "b.weight"]
    model = nn.ModuleDict({"a[0]": nn.Linear(8, 8), "a0": nn.Linear(8, 8), "b": nn.Linear(8, 8)})
    with redense.sparse(model, sgd(model), {"a[0].weight": 0.5, "a[0-9].*": 0.25}):
        assert {name: count for name, count in pruned(model).items() if count} == {"a[0].weight": 32, "a0.weight": 16}


def test_include_narrows_a_mapping_of_patterns_and_exclude_beats_it():
    model = net()
    with redense.sparse(model, sgd(model), {"*": 0.5}, include="0.*"):
        assert pruned(model) == {"0.weight": 32, "2.weight": 0}
    model = net()
    with redense.sparse(model, sgd(model), {"0.bias": 0.5, "*": 0.25}, include="2.*") as block:
        assert set(block.masks) == {"0.bias", "2.weight"}
    model = net()
    with redense.sparse(model, sgd(model), 0.5, exclude="0.*"):
        assert pruned(model) == {"0.weight": 0, "2.weight": 16}
    with pytest.raises(ParameterError, match=r"sparsity names '0\.weight', which is no prunable parameter"):
        redense.sparse(model, sgd(model), {"0.weight": 0.5, "2.weight": 0.5}, exclude="0.*").__enter__()


def test_a_global_scope_prunes_by_one_threshold():
    model = net()
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(100)
    with redense.sparse(model, sgd(model), 0.5, scope="global"):
        assert pruned(model) == {"0.weight": 48, "2.weight": 0}


def test_a_pattern_keeps_two_of_every_four_inputs():
    model = net()
    optimizer = sgd(model)
    with redense.sparse(model, optimizer, pattern=(2, 4)):
        train(model, optimizer)
        for weight in redense.prunable(model).values():
            assert ((weight.view(-1, 4) == 0).sum(1) == 2).all()


def test_random_cut_depends_on_seed_parameter_and_nothing_else():
    def chosen(seed: int) -> dict[str, Tensor]:
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        with redense.sparse(model, sgd(model), 0.5, criterion="random", seed=seed) as block:
            return block.masks

    first, again, other = chosen(1), chosen(1), chosen(2)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    schedule = Schedule((Phase.sparse(2, 0.5, criterion="random"),))
    dsd = redense.DSD(model, sgd(model), schedule, seed=1)  # a block is a schedule's first phase
    assert all(torch.equal(mask, dsd.masks[name]) for name, mask in first.items())
    dsd.close()
    with redense.sparse(model, sgd(model), 0.5, criterion="random") as block:
        masks_of_no_seed = block.masks
    assert torch.equal(masks_of_no_seed["0.weight"], chosen(0)["0.weight"])
    dsd = redense.DSD(model, sgd(model), schedule)
    assert torch.equal(masks_of_no_seed["0.weight"], dsd.masks["0.weight"])
    dsd.close()
    for name, mask in first.items():
        assert torch.equal(mask, again[name])
        assert not torch.equal(mask, other[name])
    assert not torch.equal(first["0.weight"], first["1.weight"])


def test_saliency_prunes_what_the_loss_does_not_feel():
    model = net()
    optimizer = sgd(model)
    model(torch.randn(4, 8)).square().mean().backward()
    for weight in redense.prunable(model).values():
        assert weight.grad is not None
        weight.grad[:, :4] = 0
    with redense.sparse(model, optimizer, 0.5, criterion="saliency"):
        for weight in redense.prunable(model).values():
            assert (weight[:, :4] == 0).all()
            assert (weight[:, 4:] != 0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"sparsity": 1.0}, SparsityError, r"must be in \[0, 1\), got 1\.0"),
        ({"sparsity": -0.1}, SparsityError, r"must be in \[0, 1\), got -0\.1"),
        ({"sparsity": "30 %"}, SparsityError, "got '30 %'; write 30 % as 0.3"),
        ({}, SparsityError, "needs a sparsity"),
        (
            {"sparsity": 0.99},
            SparsityError,
            r"phase 'sparse' would prune all 32 weights of '2\.weight', so that nothing",
        ),
        ({"sparsity": {"0.wieght": 0.5}}, ParameterError, r"sparsity names '0\.wieght', .*; did you mean '0\.weight'"),
        ({"sparsity": {"*.bias": 0.5}}, ParameterError, r"sparsity names '\*\.bias', which is no prunable parameter"),
        ({"sparsity": {"9.*": 0.5}}, ParameterError, r"sparsity names '9\.\*', which matches no parameter"),
        ({"sparsity": 0.5, "exclude": "9.*"}, ParameterError, r"exclude '9\.\*' matches no parameter"),
        ({"sparsity": 0.5, "exclude": "*"}, ParameterError, "the model has no prunable parameter"),
        ({"sparsity": 0.5, "criterion": "hessian"}, ScoreError, "unknown criterion 'hessian'"),
        ({"sparsity": 0.5, "scope": "all"}, RedenseError, "scope of phase 'sparse'"),
        ({"pattern": (2, 3)}, ParameterError, r"'0\.weight' of shape \(8, 8\) has no groups of 3"),
    ],
)
def test_what_cannot_be_pruned_is_refused_by_name_and_leaves_no_trace(
    arguments: dict[str, Any], error: type[RedenseError], says: str
):
    model = net()
    optimizer = sgd(model)
    with pytest.raises(error, match=says), redense.sparse(model, optimizer, **arguments):
        pass
    assert hooks(optimizer) == 0
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_diverged_weight_is_named_and_nothing_is_pruned(bad: float):
    model = net()
    with torch.no_grad():
        model.get_parameter("2.weight")[0, 0] = bad
    optimizer = sgd(model)
    with pytest.raises(ScoreError, match=r"1 of the 32 scores of '2\.weight' are NaN or infinite"):
        redense.sparse(model, optimizer, 0.5).__enter__()
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}
    assert hooks(optimizer) == 0


def test_a_meta_model_is_refused_by_name():
    with torch.device("meta"):
        model = nn.Linear(4, 4)
    with pytest.raises(ParameterError, match="'weight' is on the meta device"):
        redense.sparse(model, sgd(model), 0.5).__enter__()
    with pytest.raises(ParameterError, match="'weight' is on the meta device"):
        redense.DSD(model, sgd(model), DSD)


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


def test_scale_lr_scales_every_group_and_keeps_the_tensor_of_a_capturable_optimizer():
    model = net()
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}], lr=torch.tensor(0.1)
    )
    rate = optimizer.param_groups[1]["lr"]
    redense.scale_lr(optimizer, 0.1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert optimizer.param_groups[1]["lr"] is rate
    assert rate.item() == pytest.approx(0.01)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf, "0.1", True, None])
def test_a_factor_that_is_no_positive_number_is_refused(bad: Any):
    with pytest.raises(OptimizerError, match="factor of the learning rate must be a positive number, got "):
        redense.scale_lr(sgd(net()), bad)


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


# --- DSD ------------------------------------------------------------------------------------------------------------


def test_phases_change_inside_the_step_that_ends_them():
    model = net()
    optimizer = sgd(model)
    events: list[tuple[str, int, dict[str, int]]] = []
    dsd = redense.DSD(
        model,
        optimizer,
        DSD,
        on_phase_end=lambda d: events.append((d.phase.name if d.phase else "", d.step, pruned(model))),
    )
    names: list[str | None] = []
    for _ in range(7):
        names.append(dsd.phase.name if dsd.phase else None)
        train(model, optimizer)
    assert names == ["dense", "dense", "sparse", "sparse", "redense", "redense", None]
    none, half = {"0.weight": 0, "2.weight": 0}, {"0.weight": 32, "2.weight": 16}
    assert events == [("dense", 2, none), ("sparse", 4, half), ("redense", 6, none)]
    assert dsd.step == 6


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


def test_closing_without_a_release_leaves_the_weights_and_holds_nothing_more():
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(3, 0.5),)))
    train(model, optimizer)
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1)
    dsd.close(release=False)
    assert dsd.masks == {}
    assert pruned(model) == {"0.weight": 0, "2.weight": 16}


def test_a_phase_that_would_leave_nothing_of_a_layer_is_refused_by_the_step_that_begins_it():
    model = net()
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(1e-9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.dense(1), Phase.sparse(2, 0.5, scope="global"))))
    for _ in range(2):  # and again, to whoever goes on
        with pytest.raises(SparsityError, match=r"would prune all 32 weights of '2\.weight'"):
            train(model, optimizer)
    assert dsd.phase == Phase.dense(1)
    assert dsd.masks == {}
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def test_a_last_sparse_phase_holds_its_masks_until_close():
    model = net()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.dense(1), Phase.sparse(1, 0.5))))
    train(model, optimizer, steps=5)
    assert dsd.phase is None
    assert dsd.step == 2
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    with pytest.raises(StateError, match="DSD already controls"):
        redense.sparse(model, optimizer, 0.5).__enter__()
    dsd.close()
    dsd.close()
    assert hooks(optimizer) == 0
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    train(model, optimizer)
    assert pruned(model) == {"0.weight": 0, "2.weight": 0}


def test_what_is_pruned_stays_pruned_in_the_next_sparse_phase_whatever_its_criterion():
    model = net()
    optimizer = sgd(model)
    schedule = Schedule((Phase.sparse(1, 0.25), Phase.sparse(1, 0.5, criterion="random"), Phase.sparse(1, 0.75)))
    dsd = redense.DSD(model, optimizer, schedule)
    seen: list[Tensor] = []
    for _ in range(3):
        seen.append(dsd.masks["0.weight"].clone())
        train(model, optimizer)
    assert [int((~mask).sum()) for mask in seen] == [16, 32, 48]
    assert not (seen[1] & ~seen[0]).any()
    assert not (seen[2] & ~seen[1]).any()
    dsd.close()


def test_masks_of_the_phase_before_can_be_given():
    model = net()
    before = {"0.weight": masks.select(torch.rand(8, 8), 0.25), "2.weight": torch.ones(4, 8, dtype=torch.bool)}
    dsd = redense.DSD(model, sgd(model), Schedule((Phase.sparse(1, 0.5),)), masks=before)
    assert not (dsd.masks["0.weight"] & ~before["0.weight"]).any()
    assert pruned(model) == {"0.weight": 32, "2.weight": 16}
    dsd.close()
    with pytest.raises(
        ParameterError, match=r"masks has '0\.wieght', which is no parameter .* did you mean '0\.weight'"
    ):
        redense.DSD(model, sgd(model), DSD, masks={"0.wieght": before["0.weight"]})
    optimizer = sgd(model)
    with pytest.raises(
        ParameterError, match=r"the mask given for '0\.weight' has shape \(4, 8\), the parameter \(8, 8\)"
    ):
        redense.DSD(model, optimizer, Schedule((Phase.sparse(1, 0.5),)), masks={"0.weight": before["2.weight"]})
    assert hooks(optimizer) == 0


def test_a_phase_starting_on_diverged_weights_names_them_from_the_step():
    model = net()
    optimizer = sgd(model)
    redense.DSD(model, optimizer, DSD)
    train(model, optimizer)
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(math.nan)
    with pytest.raises(ScoreError, match=r"scores of '0\.weight' are NaN"):
        train(model, optimizer)


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Phase.sparse(1, {"0.weight": 0.5, "9.weight": 0.5}), r"sparsity names '9\.weight'"),
        (Phase.sparse(1, {"2.weight": 0.5, "*.bias": 0.5}), r"sparsity names '\*\.bias', which is no prunable"),
        (Phase.sparse(1, pattern=(2, 3)), r"'0\.weight' of shape \(8, 8\) has no groups of 3"),
    ],
)
def test_what_is_wrong_with_a_later_phase_is_said_at_once(phase: Phase, says: str):
    model = net()
    optimizer = sgd(model)
    with pytest.raises(ParameterError, match=says):
        redense.DSD(model, optimizer, Schedule((Phase.dense(10**6), phase)))
    assert hooks(optimizer) == 0


def test_the_summary_shows_what_the_schedule_prunes():
    model = net()
    optimizer = sgd(model[2])
    dsd = redense.DSD(model, optimizer, Schedule((Phase.dense(1), Phase.sparse(9, {"2.weight": 0.25, "2.bias": 0.5}))))
    train(model, optimizer)
    rows = {row.name: (row.prunable, row.sparsity, row.reason) for row in dsd.summary().rows}
    assert rows == {
        "0.weight": (False, 0.0, "not named by the schedule, or no optimizer holds it"),
        "0.bias": (False, 0.0, "a bias"),
        "2.weight": (True, 0.25, "linear"),
        "2.bias": (True, 0.5, "named by the schedule"),
    }
    assert "25.00%" in str(dsd.summary())
    dsd.close()
    dsd = redense.DSD(model, sgd(model), DSD, include="2.weight")
    assert dsd.summary() == redense.summary(model, include="2.weight")
    dsd.close()
    dsd = redense.DSD(model, sgd(model), DSD, exclude="0.*")
    assert dsd.summary() == redense.summary(model, exclude="0.*")
    dsd.close()


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


# --- wrappers -------------------------------------------------------------------------------------------------------


def test_accelerate_wraps_the_optimizer_and_accumulates_gradients():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = net()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(48, 8)), batch_size=4)
    model, optimizer, data = accelerator.prepare(model, sgd(model), data)
    dsd = redense.DSD(model, optimizer, DSD)
    steps: list[int] = []
    for (batch,) in data:
        with accelerator.accumulate(model):
            accelerator.backward(model(batch).square().mean())
            optimizer.step()
            optimizer.zero_grad()
        steps.append(dsd.step)
        for name, mask in dsd.masks.items():
            assert (model.get_parameter(name)[~mask] == 0).all()
    assert steps == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert dsd.phase is None
    assert hooks(optimizer.optimizer) == 0


@pytest.fixture
def gloo() -> Iterator[None]:
    store = torch.distributed.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("gloo")
def test_ddp_gives_the_names_and_the_weights_of_the_plain_model():
    plain, model = net(), net()
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer, other = sgd(wrapped), sgd(plain)
    dsd = redense.DSD(wrapped, optimizer, DSD)
    redense.DSD(plain, other, DSD)
    for _ in range(6):
        torch.manual_seed(1)
        train(wrapped, optimizer)
        torch.manual_seed(1)
        train(plain, other)
        assert all(not name.startswith("module") for name in dsd.masks)
    for a, b in zip(wrapped.module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    assert list(wrapped.state_dict()) == [f"module.{name}" for name in plain.state_dict()]


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


def test_the_modules_are_walked_as_often_for_many_phases_as_for_one(monkeypatch: pytest.MonkeyPatch):
    walks, named_modules = [0], nn.Module.named_modules

    def counted(module: nn.Module, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Any:
        walks[0] += memo is None  # the walk of a model, and not of a part of it
        return named_modules(module, memo, prefix, remove_duplicate)

    monkeypatch.setattr(nn.Module, "named_modules", counted)
    found: list[int] = []
    for cycles in (1, 4):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        walks[0] = 0
        schedule = Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=[0.5] * cycles)
        redense.DSD(model, torch.optim.SGD(model.parameters(), lr=0.1), schedule).close()
        found.append(walks[0])
    assert found[0] == found[1]
