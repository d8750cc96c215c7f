"""A scan: right values, few evaluations, nothing changed, resumable."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import redense
from redense import masks
from redense.errors import ParameterError, RedenseError, ScoreError, SparsityError, StateError
from redense.scans.parts import evenly
from redense.scans.result import Scan

INPUTS = torch.randn(32, 6, generator=torch.Generator().manual_seed(2))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    )


def loss_of(model: nn.Module) -> Callable[[nn.Module], float]:
    with torch.no_grad():
        wanted = model.eval()(INPUTS)

    def evaluate(model: nn.Module) -> float:
        model.eval()
        return float((model(INPUTS) - wanted).double().square().mean()) + 1.0

    return evaluate


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def model() -> nn.Module:
    return network()


def test_every_value_is_that_of_the_model_with_this_one_mask(model: nn.Module):
    evaluate = loss_of(model)
    scan = redense.sensitivity(model, evaluate, grid="full")
    assert [curve.name for curve in scan.curves] == ["0.weight", "3.weight", "5.weight"]
    for curve in scan.curves:
        assert [s for s, _ in curve.points] == list(scan.sparsities)
        parameter = model.get_parameter(curve.name)
        for sparsity, value in curve.points:
            before = parameter.detach().clone()
            masks.apply_(masks.select(before, sparsity, absolute=True), parameter)
            with torch.no_grad():
                assert value == evaluate(model)
                parameter.copy_(before)
    assert scan.baseline == 1.0


def test_the_whole_grid_has_the_same_bits_with_and_without_reuse(model: nn.Module):
    evaluate = loss_of(model)
    reused, plain = (redense.sensitivity(model, evaluate, grid="full", reuse=reuse) for reuse in (True, False))
    assert reused.curves == plain.curves
    assert reused.note == plain.note == ""


def test_an_autocast_around_the_scan_changes_no_value(model: nn.Module):
    def evaluate(model: nn.Module) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return float(model.eval()(INPUTS).double().square().mean())

    alone = redense.sensitivity(model, evaluate, (0.5, 0.9))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        around, after = redense.sensitivity(model, evaluate, (0.5, 0.9)), evaluate(model)
    assert around.curves == alone.curves
    assert after == alone.baseline
    assert not around.note


def test_an_evaluation_of_another_model_is_suspected(model: nn.Module, caplog: pytest.LogCaptureFixture):
    evaluate, other = loss_of(model), network()
    redense.sensitivity(model, evaluate, (0.5, 0.9))
    assert not caplog.text
    redense.sensitivity(model, lambda model: evaluate(other), (0.5, 0.9))
    assert "to 0.9 does not change the value: does evaluate measure the model that it is given?" in caplog.text


def test_the_quantiles_of_more_than_2_to_the_24_weights_end_at_the_last_one():
    assert int(evenly(2**24 + 4)[-1]) == 2**24 + 3
    assert evenly(1).tolist() == [0] * 201


def test_the_adaptive_grid_allocates_as_the_whole_one_with_fewer_evaluations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 3))
    evaluate = loss_of(model)
    sparsities = [i / 40 for i in range(1, 39)]
    full = redense.sensitivity(model, evaluate, sparsities, grid="full")
    adaptive = redense.sensitivity(model, evaluate, sparsities)
    assert adaptive.evaluations < 0.7 * full.evaluations
    for overall in (0.2, 0.5):
        targeted = redense.sensitivity(model, evaluate, sparsities, overall=overall)
        assert targeted.evaluations < adaptive.evaluations
        best = full.allocate(overall)
        assert best.overall == pytest.approx(overall, abs=1 / sum(full.weights.values()))
        assert best.predicted is not None
        assert full.predict(targeted.allocate(overall)) == pytest.approx(best.predicted, rel=0.05)
        assert full.predict(adaptive.allocate(overall)) == pytest.approx(best.predicted, rel=0.05)


def test_several_targets_are_all_decided(model: nn.Module):
    evaluate = loss_of(model)
    both = redense.sensitivity(model, evaluate, overall=[0.3, 0.7])
    for overall in (0.3, 0.7):
        one = redense.sensitivity(model, evaluate, overall=overall)
        points = {(c.name, s) for c in one.curves for s, _ in c.points}
        assert points <= {(c.name, s) for c in both.curves for s, _ in c.points}


def test_the_allocation_beats_uniform_shares_where_layers_differ(model: nn.Module):
    evaluate = loss_of(model)
    scan = redense.sensitivity(model, evaluate)
    chosen = scan.allocate(0.6)
    assert chosen.predicted is not None
    assert chosen.predicted < min(chosen.predictions.values())
    assert set(chosen.beside) == {"uniform", "global", "erk"}

    def pruned(sparsities: Any) -> float:
        before = state(model)
        for name, parameter in redense.prunable(model).items():
            masks.apply_(masks.select(parameter.detach(), sparsities[name], absolute=True), parameter)
        with torch.no_grad():
            value = evaluate(model)
        model.load_state_dict(before)
        return value

    assert pruned(chosen) < pruned(scan.allocate(0.6, by="uniform"))


def test_higher_can_be_better(model: nn.Module):
    loss = loss_of(model)
    low = redense.sensitivity(model, loss)
    high = redense.sensitivity(model, lambda model: -loss(model), lower_is_better=False)
    assert high.baseline == -low.baseline
    assert dict(high.allocate(0.5)) == dict(low.allocate(0.5))


def test_weights_buffers_and_modes_are_what_they_were():
    model = network().train()
    before, evaluate = state(model), loss_of(model)
    model.train()
    scan = redense.sensitivity(model, evaluate)
    assert same(before, model.state_dict())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert scan.curves


def test_an_evaluation_that_trains_batch_norm_is_scanned_plainly_and_leaves_no_trace():
    model = network()
    before, evaluate = state(model), loss_of(model)

    def careless(model: nn.Module) -> float:
        model.train()
        with torch.no_grad():
            return float(model(INPUTS).square().mean()) + evaluate(model)

    scan = redense.sensitivity(model, careless)
    assert "nothing was reused" in scan.note
    assert same(before, model.state_dict())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [1, 2, 3, 6])
def test_weights_are_restored_when_evaluate_raises(error: type[BaseException], after: int):
    model = network()
    before, evaluate, calls = state(model), loss_of(model), 0

    def failing(model: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error("boom")
        return evaluate(model)

    with pytest.raises(error, match="boom"):
        redense.sensitivity(model, failing)
    assert same(before, model.state_dict())
    assert "forward" not in vars(model)


def test_a_value_that_is_not_finite_is_hopeless_and_plain_data(model: nn.Module):
    loss = loss_of(model)

    def evaluate(model: nn.Module) -> float:
        value = loss(model)
        return math.nan if float((model.get_parameter("3.weight") == 0).double().mean()) > 0.6 else value

    scan = redense.sensitivity(model, evaluate, tolerance=1e-4, hopeless=1.0, grid="full")
    values = dict(scan.curves[1].points)
    assert values[0.95] is None
    assert scan.allocate(0.5)["3.weight"] <= 0.6
    assert "-" in str(scan)
    assert Scan.from_dict(json.loads(json.dumps(scan.to_dict(), allow_nan=False))) == scan


def test_a_scan_goes_through_json_and_prints_a_table(model: nn.Module):
    scan = redense.sensitivity(model, loss_of(model))
    again = Scan.from_dict(json.loads(json.dumps(scan.to_dict(), allow_nan=False)))
    assert again == scan
    assert dict(again.allocate(0.4)) == dict(scan.allocate(0.4))
    lines = str(scan).splitlines()
    assert lines[0].split()[:2] == ["name", "weights"]
    assert lines[1].startswith("0.weight")
    assert lines[-1].startswith(f"unpruned: 1; {scan.evaluations} evaluations, the plain grid takes 31")
    with pytest.raises(StateError, match="no scan of redense"):
        Scan.from_dict({"baseline": 1})


# --- gates ----------------------------------------------------------------------------------------------------------


class Listener(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.rnn, self.fc = kind(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0])


@pytest.mark.parametrize(("kind", "letters"), [(nn.LSTM, "ifgo"), (nn.GRU, "rzn"), (nn.RNN, "")])
def test_recurrent_matrices_are_scanned_and_each_gate_if_asked(kind: Any, letters: str):
    torch.manual_seed(0)
    model = Listener(kind)
    x = torch.randn(4, 2, 3)
    with torch.no_grad():
        wanted = model(x)
    before = state(model)

    def evaluate(model: nn.Module) -> float:
        return float((model(x) - wanted).square().mean())

    scan = redense.sensitivity(model, evaluate, gates=True)
    plain = redense.sensitivity(model, evaluate, gates=True, reuse=False)
    assert scan.curves == plain.curves
    assert scan.note == ""
    names = [curve.name for curve in scan.curves]
    assert set(scan.weights) == {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "fc.weight"}
    gates = [f"rnn.weight_{m}_l0[{letter}]" for m in ("ih", "hh") for letter in letters]
    assert sorted(name for name in names if name.endswith("]")) == sorted(gates)
    assert set(scan.allocate(0.5)) == set(scan.weights)
    for curve in scan.curves:
        if curve.name == f"rnn.weight_hh_l0[{letters[:1]}]":
            assert curve.shape == (5, 5)
    assert same(before, model.state_dict())


def test_a_gate_is_pruned_alone():
    torch.manual_seed(0)
    model = nn.LSTM(3, 4)
    seen: list[list[float]] = []

    def evaluate(model: nn.Module) -> float:
        rows = model.get_parameter("weight_hh_l0").detach().chunk(4)
        seen.append([masks.sparsity_of(part) for part in rows])
        return 1.0 + float(sum(part.square().sum() for part in rows))

    redense.sensitivity(
        model, evaluate, [0.5], include="weight_hh_l0", gates=True, tolerance=0.0, hopeless=1.0, reuse=False
    )
    assert [row for row in seen if sorted(row) == [0, 0, 0, 0.5]] == [
        [0.5, 0, 0, 0],
        [0, 0.5, 0, 0],
        [0, 0, 0.5, 0],
        [0, 0, 0, 0.5],
    ]


# --- resuming -------------------------------------------------------------------------------------------------------


def test_a_scan_that_was_stopped_goes_on_and_ends_alike(tmp_path: Path):
    model = network()
    evaluate, path = loss_of(model), tmp_path / "scan.json"
    whole = redense.sensitivity(model, evaluate)
    calls = 0

    def stopped(model: nn.Module) -> float:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return evaluate(model)

    with pytest.raises(KeyboardInterrupt):
        redense.sensitivity(model, stopped, path=path)
    kept = json.loads(path.read_text())["measured"]
    assert len(kept) == 8 - 2  # all but the unpruned ones, plain and traced
    again = redense.sensitivity(model, evaluate, path=path)
    assert again.curves == whole.curves
    assert again.evaluations == whole.evaluations - len(kept)
    assert not list(tmp_path.glob(".*"))
    finished = redense.sensitivity(model, evaluate, path=path)
    assert finished.curves == whole.curves
    assert finished.evaluations == 2


def test_the_scan_of_another_model_or_evaluation_is_refused(tmp_path: Path):
    model, path = network(), tmp_path / "scan.json"
    evaluate = loss_of(model)
    redense.sensitivity(model, evaluate, path=path)
    with pytest.raises(StateError, match="whose unpruned model gave 1, now it gives 2: evaluate has changed"):
        redense.sensitivity(model, lambda model: evaluate(model) + 1, path=path)
    with torch.no_grad():
        model.get_parameter("5.bias").add_(1e-3)
    with pytest.raises(StateError, match="holds the scan of another model"):
        redense.sensitivity(model, evaluate, path=path)
    path.write_text("{")
    with pytest.raises(StateError, match="remove it, or name another"):
        redense.sensitivity(model, evaluate, path=path)


def test_nothing_is_taken_from_a_scan_under_other_masks(tmp_path: Path, model: nn.Module):
    path, scan = tmp_path / "scan.json", functools.partial(redense.sensitivity, model, loss_of(model), (0.5,))
    scan(include=["3.weight"], path=path, reuse=False)
    assert scan(path=path, reuse=False).tolerance == scan(reuse=False).tolerance
    kept = []
    for seed in (1, 2):  # the masks follow the gradients of the last batch
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        kept.append(scan(criterion="saliency", path=tmp_path / "saliency.json", reuse=False))
    assert kept[0].curves != kept[1].curves == scan(criterion="saliency", reuse=False).curves


@pytest.mark.parametrize("way", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_under_weight_norm_the_masks_are_those_of_a_sparse_phase(way: Callable[..., nn.Module]):
    torch.manual_seed(0)
    model: Any = way(nn.Linear(8, 6, bias=False))
    lengths, direction = model.parameters()
    with torch.no_grad():
        lengths.copy_(torch.arange(1.0, 7.0).view(6, 1))
        model(torch.zeros(1, 8))
        largest = float(model.weight.detach().abs().max())
    seen: list[Tensor] = []
    scan = redense.sensitivity(model, lambda model: seen.append(direction.detach() != 0) or 1.0, (0.2,), grid="full")
    with redense.sparse(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.2) as block:
        (mask,) = block.masks.values()
        assert torch.equal(seen[-1], mask)
    assert scan.curves[0].magnitudes[-1] == pytest.approx(largest)


def test_with_inputs_the_layers_that_read_them_are_not_scanned(model: nn.Module):
    scan = redense.sensitivity(model, loss_of(model), (0.5,), inputs=INPUTS)
    assert list(scan.weights) == list(redense.prunable(model, inputs=INPUTS)) == ["3.weight", "5.weight"]


def test_a_layer_without_any_weight_is_passed_over():
    with pytest.warns(UserWarning, match="zero-element"):
        model = nn.Sequential(nn.Linear(0, 4), nn.Linear(4, 2))
    scan = redense.sensitivity(model, lambda model: float(model(torch.zeros(1, 0)).sum()), (0.5,))
    assert dict(scan.allocate(overall=0.5)) == {"1.weight": 0.5}


def test_a_folder_that_does_not_exist_is_one_line(tmp_path: Path, model: nn.Module):
    with pytest.raises(StateError, match=r"cannot write .*scan\.json: No such file"):
        redense.sensitivity(model, loss_of(model), path=tmp_path / "none" / "scan.json")


def test_progress_counts_to_the_end(model: nn.Module):
    seen: list[tuple[int, int, str]] = []
    redense.sensitivity(model, loss_of(model), progress=lambda *what: seen.append(what))
    assert seen[-1] == (30, 30, "done")
    assert all(0 <= done <= total == 30 for done, total, _ in seen)
    assert "3.weight at 0.5" in [what for _, _, what in seen]


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "0.3", True, [1.0, 2.0], torch.zeros(2)], ids=str)
def test_an_evaluate_that_gives_no_number_is_named(value: Any, model: nn.Module):
    with pytest.raises(ScoreError, match="evaluate must return one number, got"):
        redense.sensitivity(model, lambda model: value)


def test_a_tensor_with_one_number_is_one(model: nn.Module):
    evaluate = loss_of(model)
    assert redense.sensitivity(model, lambda model: torch.tensor(evaluate(model))).baseline == 1.0


def test_other_mistakes_are_named(model: nn.Module):
    evaluate = loss_of(model)
    with pytest.raises(ScoreError, match="evaluate gives nan for the unpruned model"):
        redense.sensitivity(model, lambda model: math.nan)
    with pytest.raises(SparsityError, match="sparsities is empty"):
        redense.sensitivity(model, evaluate, [])
    with pytest.raises(SparsityError, match=r"must be in \[0, 1\), got 30"):
        redense.sensitivity(model, evaluate, [30])
    with pytest.raises(ParameterError, match="nothing of this model can be pruned"):
        redense.sensitivity(nn.ReLU(), evaluate)
    scan = redense.sensitivity(model, evaluate)
    wrongs: list[dict[str, Any]] = [{}, {"overall": 0.3, "max_drop": 1.0}]
    for wrong in wrongs:
        with pytest.raises(SparsityError, match="give allocate one target"):
            scan.allocate(**wrong)
    with pytest.raises(SparsityError, match="by must be one of"):
        scan.allocate(0.3, by="magic")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SparsityError, match="max_drop must be at least 0"):
        scan.allocate(max_drop=-1)
    with pytest.raises(SparsityError, match="max_drop needs the curves"):
        scan.allocate(max_drop=1, by="erk")
    with pytest.raises(SparsityError, match="above the highest that was measured"):
        scan.allocate(0.99)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"grid": "Full"}, "grid of a scan must be 'adaptive' or 'full', got 'Full'"),
        ({"tolerance": math.nan}, "tolerance of a scan must be a drop of at least 0, got nan"),
        ({"hopeless": -1}, "hopeless of a scan must be a drop of at least 0, got -1"),
        ({"lower_is_better": "no"}, "lower_is_better must be True or False, got 'no'"),
        ({"reuse": "no"}, "reuse must be True or False, got 'no'"),
        ({"gates": 1}, "gates must be True or False, got 1"),
        ({"cache_bytes": "1 GB"}, "cache_bytes must be a number of bytes of at least 0, got '1 GB'"),
        ({"evaluate": 0.1}, "evaluate must be a function of the model, got 0.1"),
        ({"seed": "first"}, "seed must be a whole number, got 'first'"),
        ({"overall": [0.5, 1.5]}, r"must be in \[0, 1\), got 1.5"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_measured(
    options: dict[str, Any], says: str, model: nn.Module
):
    given: dict[str, Any] = {"evaluate": lambda model: 1 / 0} | options
    with pytest.raises(RedenseError, match=says):
        redense.sensitivity(model, given.pop("evaluate"), **given)


def test_sharded_weights_are_refused(model: nn.Module, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("redense.scans.sensitivity.is_sharded", lambda parameter: True)
    with pytest.raises(ParameterError, match="a scan needs whole weights"):
        redense.sensitivity(model, lambda model: 1 / 0)


def test_numbers_of_other_libraries_are_numbers(model: nn.Module):
    evaluate = loss_of(model)
    plainly = redense.sensitivity(model, evaluate, [0.5], overall=0.25)
    assert redense.sensitivity(model, evaluate, np.float32(0.5), overall=torch.tensor(0.25)) == plainly  # pyright: ignore[reportArgumentType]
    assert plainly.allocate(max_drop=np.float32(1.0)) == plainly.allocate(max_drop=1)  # pyright: ignore[reportArgumentType]
