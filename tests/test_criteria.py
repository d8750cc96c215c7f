"""What each criterion says a weight is worth, and how one is added."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense import criteria, masks
from redense.errors import ScheduleError, ScoreError


def test_magnitude_is_the_absolute_value_without_a_graph():
    weight = nn.Parameter(torch.tensor([-2.0, 0.0, 1.0]))
    scores = criteria.magnitude(weight)
    assert scores.tolist() == [2.0, 0.0, 1.0]
    assert not scores.requires_grad


def test_random_scores_depend_on_the_seed_and_not_on_the_global_generator():
    weight = torch.ones(20, 5, dtype=torch.bfloat16)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = criteria.random(weight, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(criteria.random(weight, 7), first)
    assert not torch.equal(criteria.random(weight, 8), first)
    assert first.shape == weight.shape


def test_random_cut_is_uniform_over_the_weights():
    weight = torch.arange(1000.0)
    counts = torch.zeros(1000)
    for seed in range(200):
        counts += ~masks.select(criteria.random(weight, seed), 0.3)
    # Binomial(200, 0.3) has the deviation 6.5: none of 1000 weights is far off, whatever its size or its index.
    assert counts.sum() == 200 * 300
    assert counts.min() > 60 - 5 * 6.5
    assert counts.max() < 60 + 5 * 6.5
    assert abs(counts[:500].mean() - 60) < 2


def test_random_scores_do_not_tie_in_a_large_layer():
    scores = criteria.random(torch.empty(200_000), 0)
    assert scores.unique().numel() == scores.numel()


def test_saliency_is_weight_times_gradient():
    weight = nn.Parameter(torch.tensor([2.0, -1.0, 3.0]))
    (weight * torch.tensor([0.5, 4.0, 0.0])).sum().backward()
    assert criteria.saliency(weight).tolist() == [1.0, 4.0, 0.0]


def test_saliency_of_half_precision_does_not_overflow():
    weight = nn.Parameter(torch.full((2,), 60000.0, dtype=torch.float16))
    weight.grad = torch.full((2,), 60000.0, dtype=torch.float16)
    assert criteria.saliency(weight).isfinite().all()


def test_saliency_without_gradients_names_the_parameter_and_the_remedy():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[1](torch.ones(1, 3)).sum().backward()
    with (
        pytest.raises(ScoreError, match=r"'0\.weight': criterion 'saliency' needs gradients: call loss\.backward\(\)"),
        redense.sparse(model, optimizer, 0.5, criterion="saliency"),
    ):
        pass
    assert masks.sparsity_of(*model.parameters()) == 0


@pytest.mark.usefixtures("registries")
def test_a_criterion_of_your_own_is_used_by_its_name():
    @redense.criterion("signed")
    def signed(parameter: Tensor, seed: int) -> Tensor:
        return parameter

    assert criteria.get_criterion("signed") is signed
    model = nn.Linear(8, 8)
    expected = masks.select(model.weight, 0.5)
    with redense.sparse(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5, criterion="signed") as block:
        assert torch.equal(block.masks["weight"], expected)
        assert (model.weight >= model.weight.min()).all()
        assert model.weight[~block.masks["weight"]].eq(0).all()


@pytest.mark.usefixtures("registries")
def test_scores_of_the_wrong_shape_or_value_name_criterion_and_parameter():
    redense.criterion("flat")(lambda parameter, seed: parameter.detach().flatten())
    redense.criterion("broken")(lambda parameter, seed: parameter.detach() / 0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(redense.RedenseError, match=r"criterion 'flat' gave scores of shape \(6,\) for 'weight'"):
        redense.sparse(model, optimizer, 0.5, criterion="flat").__enter__()
    with pytest.raises(ScoreError, match="scores of 'weight' are NaN or infinite"):
        redense.sparse(model, optimizer, 0.5, criterion="broken").__enter__()
    assert model.weight.count_nonzero() == 6


def test_an_unknown_criterion_names_the_nearest_and_all_others():
    with pytest.raises(
        ScoreError,
        match=r"unknown criterion 'magnitud'; did you mean 'magnitude'\? \(known: magnitude, random, saliency",
    ):
        criteria.get_criterion("magnitud")


def nearest_to_one(parameter: Tensor, seed: int) -> Tensor:
    return (parameter.detach() - 1).abs()


def test_a_criterion_may_be_a_function_that_no_name_is_registered_for():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.1], [0.0, 3.0]]))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for criterion in (nearest_to_one, lambda parameter, seed: 2 * nearest_to_one(parameter, seed)):
        with redense.sparse(layer, optimizer, 0.5, criterion=criterion) as block:
            assert block.masks["weight"].tolist() == [[False, False], [True, True]]
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, 1.1], [0.0, 3.0]]))


def test_a_schedule_is_saved_with_the_name_of_its_function_and_comes_back_once_that_is_registered():
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5, criterion=nearest_to_one)
    plain = schedule.to_dict()
    name = f"{__name__}:nearest_to_one"
    assert plain["phases"][1]["criterion"] == name
    with pytest.raises(ScheduleError, match=rf"unknown criterion '{name}': .* register it before with @redense"):
        redense.Schedule.from_dict(plain)
    try:
        redense.criterion(name)(nearest_to_one)
        again = redense.Schedule.from_dict(plain)
        assert again.phases[1].criterion == name
        assert again.to_dict() == plain
    finally:
        del criteria.CRITERIA[name]


def test_a_registered_function_is_its_name():
    phase = redense.Phase.sparse(1, 0.5, criterion=criteria.magnitude)
    assert phase == redense.Phase.sparse(1, 0.5)
    assert criteria.criterion_name(functools.partial(nearest_to_one, seed=3)) == "functools:partial"


@pytest.mark.parametrize(
    ("criterion", "says"),
    [
        (lambda parameter: parameter, r"is called with \(parameter, seed\)"),
        (nn.Linear, "a criterion is a name or a function"),
        (None, "a criterion is a name or a function .* got None"),
        (torch.abs, r"criterion 'torch:.*abs' is called with \(parameter, seed\) and does not take them .*: give a"),
        (functools.partial(torch.abs), r"is called with \(parameter, seed\) and does not take them"),
    ],
)
def test_what_cannot_be_called_with_a_parameter_and_a_seed_is_refused_at_once(criterion: Any, says: str):
    with pytest.raises(ScoreError, match=says):
        redense.Phase.sparse(1, 0.5, criterion=criterion)
    assert redense.Phase.sparse(1, 0.5, criterion=torch.pow).is_sparse  # of C, too, and takes them


def test_a_criterion_is_registered_under_a_name():
    with pytest.raises(ScoreError, match=r"write @redense.criterion\('lamp'\)"):

        @redense.criterion  # pyright: ignore[reportArgumentType]
        def lamp(parameter: torch.Tensor, seed: int) -> torch.Tensor:
            return parameter


def test_scores_that_are_no_tensor_name_criterion_and_parameter():
    layer = nn.Linear(2, 2)
    three: Any = lambda p, seed: 3  # noqa: E731  # of any type, on purpose
    block = redense.sparse(layer, torch.optim.SGD(layer.parameters(), lr=0.1), 0.5, criterion=three)
    with pytest.raises(ScoreError, match=r"<lambda>' must give a tensor of scores for 'weight', got 3"), block:
        pass


@pytest.mark.parametrize(
    "of",
    [
        lambda p: p.abs().flatten().argsort().argsort().view_as(p),
        lambda p: p.abs() > p.abs().flatten().kthvalue(4).values,
        lambda p: (p.abs() * 100).to(torch.uint8),
        lambda p: p.abs().to(torch.float8_e4m3fn),
        lambda p: p.abs().to_sparse(),
    ],
    ids=["ranks", "booleans", "bytes", "float8", "sparse"],
)
def test_scores_may_be_of_any_real_dtype_also_where_an_earlier_mask_goes_first(of: Any):
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.data = torch.arange(1, 17).view(4, 4) / 8
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    phases = [redense.Phase.sparse(1, share, criterion=lambda p, seed: of(p.detach())) for share in (0.25, 0.5)]
    dsd = redense.DSD(layer, optimizer, redense.Schedule((*phases, redense.Phase.dense(1))))
    assert dsd.masks["weight"].flatten().tolist() == [False] * 4 + [True] * 12
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert dsd.masks["weight"].count_nonzero() == 8
    assert not dsd.masks["weight"].flatten()[:4].any()
    dsd.close()


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (torch.fft.fft, "must give real scores for 'weight', got torch.complex64"),
        (lambda p: torch.full(p.shape, 2**53 + 1), r"whole scores of 2\*\*53 or more"),
        (lambda p: p.numpy(), "must give a tensor of scores for 'weight', got ndarray"),
    ],
)
def test_scores_that_cannot_be_ordered_as_floats_are_refused_as_scores(of: Any, says: str):
    layer = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with pytest.raises(ScoreError, match=says):
        redense.sparse(layer, optimizer, 0.5, criterion=lambda p, seed: of(p.detach())).__enter__()


def test_a_scan_takes_a_function_and_goes_on_where_it_was_stopped(tmp_path: Path):
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), torch.randn(8, 4)
    calls = list[int]()

    def evaluate(model: nn.Module) -> float:
        calls.append(1)
        return float(model(inputs).square().mean())

    settings: dict[str, Any] = {"sparsities": (0.5,), "grid": "full", "path": tmp_path / "scan.json"}
    scan = redense.sensitivity(model, evaluate, criterion=nearest_to_one, **settings)
    first = len(calls)
    again = redense.sensitivity(model, evaluate, criterion=nearest_to_one, **settings)
    assert again.allocate(overall=0.25) == scan.allocate(overall=0.25)
    assert len(calls) - first < first


def doubled_(tensor: Tensor) -> Tensor:
    return tensor.mul_(2)


def swapped_(tensor: Tensor) -> Tensor:
    return tensor.copy_(tensor.flip(0))


@pytest.mark.parametrize("write", [doubled_, swapped_])
@pytest.mark.parametrize("past_autograd", [False, True])
@pytest.mark.parametrize("of", ["", "grad"])
def test_a_criterion_that_writes_into_what_it_scores_is_refused_by_name(of: str, past_autograd: bool, write: Any):
    model = nn.Linear(4, 2)
    (model(torch.ones(1, 4)) * torch.tensor([1.0, 3.0])).sum().backward()

    def in_place(parameter: Tensor, seed: int) -> Tensor:
        tensor = getattr(parameter, of) if of else parameter.detach()
        return write(tensor.data if past_autograd else tensor).abs()

    block = redense.sparse(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5, criterion=in_place)
    with pytest.raises(ScoreError, match=r"in_place' has changed 'weight' or its gradient in place"), block:
        pass


@pytest.mark.parametrize("bad", [math.nan, 1.0])
def test_a_gradient_that_is_no_number_and_one_of_rows_are_not_taken_for_written(bad: float):
    model = nn.Embedding(4, 2, sparse=True)
    model(torch.tensor([1, 1])).sum().backward()
    assert model.weight.grad is not None
    model.weight.grad._values()[0, 0] = bad
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5, criterion=nearest_to_one, include=["weight"]) as block:
        assert int(block.masks["weight"].sum()) == 4
        model.weight.grad = None
