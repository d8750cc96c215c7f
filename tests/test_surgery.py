"""Dynamic network surgery: the mask moves both ways, and the weights under it go on learning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense import Phase, Schedule, Surgery, masks
from redense.errors import ParameterError, ScheduleError, SparsityError


def test_surgery_masks_below_and_splices_above_a_band_around_the_threshold():
    surgery = Surgery(band=0.1)
    weight = torch.tensor([0.89, -0.89, 0.91, -0.91, 1.09, -1.09, 1.11, -1.11])
    kept, gone = torch.ones(8, dtype=torch.bool), torch.zeros(8, dtype=torch.bool)
    assert surgery.revise(weight, kept, 1.0).tolist() == [False, False, True, True, True, True, True, True]
    assert surgery.revise(weight, gone, 1.0).tolist() == [False] * 6 + [True, True]


def test_the_threshold_is_the_largest_magnitude_that_the_mask_prunes():
    weight = torch.tensor([-3.0, 1.0, -2.0, 0.5])
    assert Surgery().threshold(weight, masks.select(weight, 0.75, absolute=True)) == 2.0
    assert Surgery().threshold(weight, torch.ones(4, dtype=torch.bool)) == 0.0
    fine = torch.tensor([1 + 2**-40, 1.0, 2.0], dtype=torch.float64)  # no float32
    assert Surgery().threshold(fine, torch.tensor([False, False, True])) == 1 + 2**-40
    # mean 1.625 and deviation 0.9601 of the magnitudes
    assert Surgery(c=-0.5).threshold(weight, torch.ones(4, dtype=torch.bool)) == pytest.approx(1.625 - 0.4801, abs=1e-4)
    assert Surgery(c=1).threshold(torch.empty(0), torch.empty(0, dtype=torch.bool)) == 0.0


def test_revisions_become_rarer_as_the_paper_says():
    surgery = Surgery(gamma=0.1, power=1.0)
    trials = 400
    for step, chance in [(0, 1.0), (10, 0.5), (90, 0.1)]:
        done = sum(surgery.due(step, seed) for seed in range(trials))
        deviation = (chance * (1 - chance) / trials) ** 0.5
        assert abs(done / trials - chance) <= 4 * deviation, step
    assert all(Surgery(power=0).due(step, 1) for step in range(0, 10_000, 97))
    assert [surgery.due(i, 5) for i in range(50)] == [surgery.due(i, 5) for i in range(50)]


@pytest.mark.parametrize("bad", [-0.1, 1, float("nan"), "0.1", True])
def test_an_impossible_band_is_refused(bad: Any):
    with pytest.raises(ScheduleError, match=r"band of surgery must be in \[0, 1\), got "):
        Surgery(band=bad)


@pytest.mark.parametrize("name", ["gamma", "power"])
@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "1", None])
def test_an_impossible_rate_is_refused_by_name(name: str, bad: Any):
    with pytest.raises(ScheduleError, match=f"{name} of surgery must be a number of at least 0, got "):
        Surgery(**{name: bad})


@pytest.mark.parametrize("bad", ["x", float("nan")])
def test_an_impossible_c_is_refused(bad: Any):
    with pytest.raises(ScheduleError, match="c of surgery must be a number, or None"):
        Surgery(c=bad)


# --- in training ----------------------------------------------------------------------------------------------------


def one_layer(weights: list[float]) -> nn.Linear:
    model = nn.Linear(len(weights), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weights]))
    return model


def descend(model: nn.Linear, optimizer: torch.optim.Optimizer, gradient: list[float]) -> None:
    """One step with this gradient of the loss by the masked weights."""
    optimizer.zero_grad()
    model(torch.tensor([gradient])).sum().backward()
    optimizer.step()


def test_a_pruned_weight_learns_in_secret_and_is_spliced_back_with_its_value():
    model = one_layer([1.0, 2.0, 4.0, 8.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = Schedule((Phase.sparse(3, 0.5, surgery=Surgery(power=0)), Phase.dense(2)))
    dsd = redense.DSD(model, optimizer, schedule)
    assert model.weight.tolist() == [[0.0, 0.0, 4.0, 8.0]]  # t = 2: spliced back above 2.2, masked below 1.8
    descend(model, optimizer, [-1.0, 0.0, 0.0, 0.0])
    assert model.weight.tolist() == [[0.0, 0.0, 4.0, 8.0]]  # 1 -> 2, unseen
    descend(model, optimizer, [-1.0, 0.0, 3.0, 0.0])
    assert model.weight.tolist() == [[3.0, 0.0, 0.0, 8.0]]  # 2 -> 3, back; 4 -> 1, gone
    assert dsd.masks["weight"].tolist() == [[True, False, False, True]]
    descend(model, optimizer, [0.0, 0.0, 0.0, 0.0])
    assert dsd.phase is schedule.phases[1]
    assert model.weight.tolist() == [[3.0, 0.0, 0.0, 8.0]]  # released from zero: the hidden values are gone
    descend(model, optimizer, [0.0, 0.0, -1.0, 0.0])
    assert model.weight.tolist() == [[3.0, 0.0, 1.0, 8.0]]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_forward_pass_sees_the_masked_weights_and_the_release_leaves_no_velocity(name: str):
    torch.manual_seed(0)
    model = nn.Linear(16, 8)
    optimizer = {
        "sgd": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        "adam": torch.optim.Adam(model.parameters(), lr=0.05),
    }[name]
    schedule = Schedule.surgery(dense=2, sparse=6, redense=2, sparsity=0.5, surgery=Surgery(power=0))
    dsd = redense.DSD(model, optimizer, schedule)
    seen: list[Tensor] = []
    for _ in range(10):
        optimizer.zero_grad()
        if dsd.masks:
            assert (model.weight[~dsd.masks["weight"]] == 0).all()
            seen.append(dsd.masks["weight"].clone())
        model(torch.randn(4, 16)).square().sum().backward()
        optimizer.step()
    assert len(seen) == 8
    assert any(not torch.equal(seen[0], mask) for mask in seen), "the mask never moved: the test is empty"
    assert dsd.phase is None
    last = dsd.masks["weight"]  # the last phase is sparse: its mask holds until close()
    for _ in range(3):
        model(torch.randn(4, 16)).square().sum().backward()
        optimizer.step()
        assert torch.equal(dsd.masks["weight"], last), "revised after the end of the schedule"
        assert (model.weight[~last] == 0).all()
    dsd.close()
    for value in optimizer.state[model.weight].values():
        if isinstance(value, Tensor) and value.shape == last.shape:
            assert (value[~last] == 0).all()


def test_the_mask_of_surgery_rests_when_the_schedule_is_over():
    model = one_layer([1.0, 2.0, 4.0, 8.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(1, 0.5, surgery=Surgery(power=0)),)))
    descend(model, optimizer, [0.0, 0.0, 0.0, 0.0])
    assert dsd.phase is None
    descend(model, optimizer, [-9.0, 0.0, 9.0, 0.0])
    assert dsd.masks["weight"].tolist() == [[False, False, True, True]]
    assert model.weight.tolist() == [[0.0, 0.0, -5.0, 8.0]]
    dsd.close()
    assert model.weight.tolist() == [[0.0, 0.0, -5.0, 8.0]]


def test_surgery_evaluates_a_closure_at_the_masked_weights():
    model = one_layer([1.0, 2.0, 4.0, 8.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, 0.5, surgery=Surgery(power=0)),)))
    seen: list[Any] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append(model.weight.tolist())
        loss = -model(torch.tensor([[1.0, 0.0, 0.0, 0.0]])).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.step(closure=closure)
    assert seen == [[[0.0, 0.0, 4.0, 8.0]]] * 2
    assert model.weight.tolist() == [[3.0, 0.0, 4.0, 8.0]]
    dsd.close()


def test_what_is_written_into_kept_weights_between_two_steps_of_surgery_stays():
    model = one_layer([1.0, 2.0, 4.0, 8.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, 0.5, surgery=Surgery(power=0)),)))
    descend(model, optimizer, [-0.5, 0.0, 0.0, 0.0])
    with torch.no_grad():
        model.weight.clamp_(-5.0, 5.0)  # a limit, as of WGAN
    descend(model, optimizer, [-0.5, 0.0, 0.0, 0.0])
    assert model.weight.tolist() == [[0.0, 0.0, 4.0, 5.0]]
    descend(model, optimizer, [-1.0, 0.0, 0.0, 0.0])
    assert model.weight.tolist() == [[3.0, 0.0, 4.0, 5.0]]  # 1 -> 1.5 -> 2 -> 3 under the mask, and back
    dsd.close()


def test_masks_that_were_asked_for_stay_as_they_were_when_surgery_revises_them():
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(4, 0.5, surgery=Surgery(power=0)),)))
    before = dsd.masks["weight"]
    values, place = before.clone(), tuple(before.nonzero()[0])
    with torch.no_grad():
        model.weight[place] = 1e-9
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    assert torch.equal(before, values)
    assert not torch.equal(dsd.masks["weight"], values)
    dsd.close()


def test_surgery_leaves_a_weight_to_every_layer():
    model = one_layer([1.0, 2.0, 4.0, 8.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=9.9)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, 0.5, surgery=Surgery(power=0)),)))
    with pytest.raises(SparsityError, match=r"surgery would prune all 4 weights of 'weight': .* in phase 'sparse'"):
        descend(model, optimizer, [0.0, 0.0, 0.0, 0.0])
    dsd.close()


def test_surgery_of_a_weight_that_weight_norm_computes_is_refused_before_anything_is_trained():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ParameterError, match=r"of 'parametrizations.weight.original1' is one that weight_norm"):
        redense.DSD(model, optimizer, Schedule.surgery(dense=1, sparse=2, redense=1, sparsity=0.2))


def test_a_threshold_that_no_weight_is_below_is_refused_and_leaves_no_mask():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    phases = (Phase.dense(1), Phase.sparse(2, 0.5, surgery=Surgery(c=-9)))
    dsd = redense.DSD(model, optimizer, Schedule(phases))
    model(torch.ones(1, 4)).sum().backward()
    with pytest.raises(SparsityError, match=r"c=-9 has the threshold -\d.* for 'weight', .*would prune nothing of it"):
        optimizer.step()
    assert not dsd.masks
    dsd.close()
