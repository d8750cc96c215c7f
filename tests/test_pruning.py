"""The weights that a block or a phase prunes: by name, pattern, scope and criterion, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

import redense
from redense import Phase, Schedule
from redense.errors import ParameterError, RedenseError, ScoreError, SparsityError

from .by_hand import DSD, hooks, net, pruned, sgd, train


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


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"sparsity": 0.003}, "its sparsity rounds to none of the 64 of '0.weight', the largest; 30 % is 0.3"),
        (
            {"sparsity": {"2.weight": 0.003}},
            "its sparsity rounds to none of the 32 of '2.weight', the largest; 30 % is 0.3",
        ),
        ({"pattern": (4, 4)}, "its pattern 4:4 keeps all"),
        ({"sparsity": 0.0}, None),
        ({"sparsity": {"0.weight": 0.3, "2.weight": 0.003}}, None),
    ],
)
def test_a_phase_that_was_to_remove_something_and_removes_nothing_says_so(
    how: dict[str, Any], why: str | None, caplog: pytest.LogCaptureFixture
):
    model = net()
    with redense.sparse(model, sgd(model), **how):
        assert caplog.messages == ([f"phase 'sparse' removes no weight: {why}"] if why else [])


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


def test_a_pattern_that_an_earlier_and_wider_one_leaves_nothing_is_refused():
    model = net()
    with pytest.raises(ParameterError, match=r"sparsity names '2' after '\*', .*: put it before"):
        redense.DSD(model, sgd(model), Schedule.dsd(dense=1, sparse=1, redense=1, sparsity={"*": 0.3, "2": 0.5}))
    # Here both match the same weights, and the earlier one would match more in a larger model.
    with pytest.raises(ParameterError, match=r"sparsity names '\?\.weight' after '\*', .*: put it before"):
        redense.sparse(model, sgd(model), {"*": 0.3, "?.weight": 0.5}).__enter__()
    narrow_first = {"?.weight": 0.5, "*.weight": 0.4, "*": 0.3}
    for fine in (narrow_first, {"0": 0.3, "2": 0.5, "*": 0.1}, {"*": 0.3, "2": 0.3}):  # nothing is left to the last one
        with redense.sparse(model, sgd(model), fine):
            train(model, sgd(model), steps=0)


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
    with redense.sparse(model, sgd(model), {"2.weight": 0.5}, include="0.*") as block:
        assert set(block.masks) == {"2.weight"}
    model = net()
    with redense.sparse(model, sgd(model), 0.5, exclude="0.*"):
        assert pruned(model) == {"0.weight": 0, "2.weight": 16}
    with pytest.raises(ParameterError, match=r"sparsity names '0\.weight', which is no prunable parameter"):
        redense.sparse(model, sgd(model), {"0.weight": 0.5, "2.weight": 0.5}, exclude="0.*").__enter__()


@pytest.mark.parametrize(
    ("include", "mapping", "taken"),
    [
        (["0.weight", "*"], {"*": 0.5}, {"0.weight", "1.weight"}),
        (["0.weight", "*"], {"*.weight": 0.5}, {"0.weight", "1.weight"}),
        (["0.weight"], {"*": 0.5}, {"0.weight"}),
        (["0.weight", "1"], {"0": 0.25, "*": 0.5}, {"0.weight", "1.weight"}),
        (["1", "th*"], {"*": 0.5}, {"1.weight", "theta"}),
        (["th*", "0.bias"], {"[0t]*": 0.5}, {"theta", "0.bias"}),
        (None, {"*": 0.5}, {"1.weight"}),
        (None, {"0.weight": 0.5, "*": 0.5}, {"0.weight", "1.weight"}),
    ],
)
@pytest.mark.filterwarnings("ignore::redense.errors.LeftDenseWarning")
def test_patterns_of_a_mapping_choose_among_what_include_has_made_prunable(
    include: list[str] | None, mapping: dict[str, float], taken: set[str]
):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    model.theta = nn.Parameter(torch.randn(8, 8))
    dsd = redense.DSD(model, sgd(model), Schedule((Phase.sparse(1, mapping),)), include=include)
    shares = {name: 1 - float(mask.float().mean()) for name, mask in dsd.masks.items()}
    assert shares == {name: mapping.get("0", 0.5) if name == "0.weight" else 0.5 for name in taken}
    assert {row.name for row in dsd.summary().rows if row.prunable} == taken


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
        ({"sparsity": {"0.wieght": 0.5}}, ParameterError, r"sparsity '0\.wieght' .*; did you mean '0\.weight'"),
        ({"sparsity": {"*.bias": 0.5}}, ParameterError, r"sparsity names '\*\.bias', which is no prunable parameter"),
        ({"sparsity": {"9.*": 0.5}}, ParameterError, r"sparsity '9\.\*' matches no parameter"),
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


@pytest.mark.parametrize("mask", [torch.ones(3, 4), torch.ones(3, 4).int(), torch.ones(3, 4).bool().numpy(), None])
def test_a_mask_that_is_no_tensor_of_booleans_is_refused_by_name(mask: Any):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = redense.Schedule((redense.Phase.sparse(2, 0.5),))
    with pytest.raises(ParameterError, match="mask given for 'weight' must be a tensor of booleans, True = kept; got "):
        redense.DSD(model, optimizer, schedule, masks={"weight": mask})
