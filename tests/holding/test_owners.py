"""Layers that are changed while a mask is in force: refused where it does not hold, and never in the way of closing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import redense
from redense import Phase, Schedule
from redense.errors import OptimizerError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))


def batches(count: int = 20) -> Tensor:
    return torch.randn(count, 4, 8, generator=torch.Generator().manual_seed(1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> None:
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    optimizer.step()


def test_a_layer_that_takes_another_weight_or_begins_or_ceases_to_compute_it_under_a_mask_is_refused():
    for before in (False, True, None, "inside"):
        model = net()
        if before is True:
            nn.utils.parametrizations.weight_norm(model[0])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=2, sparsity=0.5))
        for batch in batches(2):
            step(model, optimizer, batch)
        if before is True:
            nn.utils.parametrize.remove_parametrizations(model[0], "weight")
        elif before is None:
            model[0] = nn.Linear(8, 16)
        elif before:
            model[0] = nn.Sequential(nn.Linear(8, 16))
        else:
            nn.utils.parametrizations.weight_norm(model[0])
        known = {id(p) for p in optimizer.param_groups[0]["params"]}
        optimizer.add_param_group({"params": [p for p in model[0].parameters() if id(p) not in known]})
        with pytest.raises(OptimizerError, match=r"the layer of '0.*' has another parameter now, or computes"):
            step(model, optimizer, batches()[0])
        dsd.close(release=before is None)


def test_a_layer_that_computes_its_weight_no_more_or_is_another_in_a_dense_phase_is_trained_or_refused():
    for told in (True, False):
        model = net()
        nn.utils.parametrizations.weight_norm(model[0])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=2, sparsity=0.5))
        nn.utils.parametrize.remove_parametrizations(model[0], "weight")
        model[2] = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8))
        optimizer.add_param_group(
            {"params": model.get_submodule("2.1").parameters()}
        )  # what is before it stays as it is
        if told:
            optimizer.add_param_group({"params": [model[0].weight]})
            step(model, optimizer, batches()[0])
            assert set(dsd.masks) == {"0.weight", "2.1.weight"}
        else:
            with pytest.raises(OptimizerError, match=r"'0\.param.*' of the model is another parameter than before"):
                step(model, optimizer, batches()[0])
        dsd.close()


class Centred(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight - weight.mean()


@pytest.mark.parametrize("change", ["computed", "wrapped", "untied", "untied first"])
def test_a_weight_that_is_computed_without_zeros_or_tied_no_more_under_a_mask_is_refused(change: str):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, 0.5),)))
    step(model, optimizer, batches()[0])
    if change == "computed":
        nn.utils.parametrize.register_parametrization(model[0], "weight", Centred())
    elif change == "wrapped":
        inner = model[0]
        model[0] = nn.Sequential(inner)
        step(model, optimizer, batches()[0])
        nn.utils.parametrize.register_parametrization(inner, "weight", Centred())
    else:
        layer = model[change == "untied"]
        layer.weight = nn.Parameter(model.get_parameter("0.weight").detach().clone())
        optimizer.add_param_group({"params": [layer.weight]})
    with pytest.raises(OptimizerError, match=r"the layer of '0\.weight' has another parameter now, or computes"):
        step(model, optimizer, batches()[0])
    dsd.close(release=False)


def test_a_layer_that_computes_its_weight_by_one_more_way_under_a_mask_is_refused():
    model = net()
    nn.utils.parametrizations.spectral_norm(model[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, 0.5),)))
    step(model, optimizer, batches()[0])
    nn.utils.parametrize.register_parametrization(model[0], "weight", Centred())  # the parameter stays in its place
    with pytest.raises(OptimizerError, match=r"the layer of '0\.param.*' has another parameter now"):
        step(model, optimizer, batches()[0])
    dsd.close(release=False)


def test_a_layer_may_begin_to_compute_its_weight_from_the_same_parameter_or_in_a_dense_phase():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=2, redense=1, sparsity=0.5))
    nn.utils.parametrizations.weight_norm(model[2])
    optimizer.add_param_group({"params": list(model[2].get_submodule("parametrizations").parameters())})
    step(model, optimizer, batches()[0])
    assert set(dsd.masks) == {"0.weight", "2.parametrizations.weight.original1"}
    nn.utils.parametrizations.spectral_norm(model[0])
    for batch in batches(3):
        step(model, optimizer, batch)
    assert dsd.phase is None


OLD = {nn.utils.weight_norm: nn.utils.remove_weight_norm, nn.utils.spectral_norm: nn.utils.remove_spectral_norm}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("way", OLD, ids=["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("closed", ["after", "by the block", "inside"])
def test_a_parameter_by_another_name_in_the_place_of_a_masked_one_is_refused_and_what_is_left_closes(
    way: Callable[..., Any], closed: str, caplog: pytest.LogCaptureFixture
):
    model = net()
    way(model[0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = Schedule((Phase.sparse(9, 0.5),))
    by = redense.sparse(model, optimizer, 0.5).__enter__() if closed == "by the block" else None
    dsd = by or redense.DSD(model, optimizer, schedule)
    step(model, optimizer, batches()[0])
    OLD[way](model[0])
    optimizer.add_param_group({"params": [model[0].weight]})
    message = r"the layer of '0\.weight_(v|orig)' has another parameter now, or computes"
    if isinstance(dsd, redense.sparse):
        with pytest.raises(OptimizerError, match=message) as caught:
            step(model, optimizer, batches()[0])
        dsd.__exit__(type(caught.value), caught.value, None)
    elif closed == "after":
        with pytest.raises(OptimizerError, match=message):
            step(model, optimizer, batches()[0])
        caplog.clear()
        dsd.close()
        assert sum("has another parameter now" in said for said in caplog.messages) == 1
    else:
        try:
            step(model, optimizer, batches()[0])
        except OptimizerError:
            caplog.clear()
            dsd.close()
            assert not caplog.messages  # an error on its way is not talked over
    assert not dsd.masks
    assert int((model.get_parameter("2.weight") == 0).sum()) == 64
    step(model, optimizer, batches()[0])


def test_a_weight_of_another_shape_does_not_keep_a_dsd_from_closing(caplog: pytest.LogCaptureFixture):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, 0.5),)))
    step(model, optimizer, batches()[0])
    model[2].weight.data = torch.ones(8, 17)
    dsd.close()
    assert "weights and states of the phase are left as they are: '2.weight' has shape (8, 17) now" in caplog.text
    assert not dsd.masks


def test_a_weight_that_has_moved_to_another_layer_is_held_there_by_its_name_of_now():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, 0.5),)))
    layer, weight = model[2], model.get_parameter("2.weight")
    inner = nn.Linear(16, 8)
    inner.weight = weight
    del layer.weight
    layer.register_parameter("scale", nn.Parameter(torch.ones(())))
    vars(layer)["forward"] = lambda x: inner(x) * layer.get_parameter("scale")
    model.append(nn.Identity())
    model[3].register_parameter("weight", weight)
    for batch in batches(2):
        step(model, optimizer, batch)
        assert not weight[~dsd.masks["3.weight"]].any()
    dsd.close()


def wrapped(model: nn.Sequential) -> None:
    model[2] = nn.Sequential(nn.Identity(), model[2])


def computed(model: nn.Sequential) -> None:
    nn.utils.parametrizations.spectral_norm(model[2])


def shifted(model: nn.Sequential) -> None:
    model.insert(0, nn.Identity())
    model.insert(2, nn.Identity())


SCHEDULES = {
    "dsd": Schedule.dsd(dense=1, sparse=4, redense=2, sparsity=0.5),
    "surgery": Schedule.surgery(dense=1, sparse=4, redense=2, sparsity=0.5),
    "twice": Schedule((Phase.sparse(3, 0.5), Phase.sparse(2, 0.7, criterion="random"), Phase.dense(2))),
}


@pytest.mark.parametrize("change", [wrapped, computed, shifted])
@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("sharded", [False, True])
def test_what_was_moved_under_a_mask_is_saved_by_its_name_of_now_and_resumes_to_equal_bits(
    change: Callable[[nn.Sequential], None], kind: str, sharded: bool
):
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    average = AveragedModel(model)
    dsd = redense.DSD(model, optimizer, SCHEDULES[kind])
    for batch in batches(2):
        step(model, optimizer, batch)
    first = dsd.masks
    change(model)
    dsd.mask_copy(average)  # by the names that the copy has
    assert all(not average.module.get_parameter(name)[~mask].any() for name, mask in first.items())
    saved = dsd.sharded_state_dict() if sharded else dsd.state_dict()
    state = copy.deepcopy((model.state_dict(), optimizer.state_dict(), saved))
    assert {name: int(mask.sum()) for name, mask in dsd.masks.items()} == {
        name: int((model.get_parameter(name) != 0).sum()) for name in redense.prunable(model)
    }
    for batch in batches(5):
        step(model, optimizer, batch)

    other = net()
    fresh = torch.optim.Adam(other.parameters(), lr=0.01)
    change(other)
    other.load_state_dict(state[0])
    fresh.load_state_dict(state[1])
    resumed = redense.DSD(other, fresh, SCHEDULES[kind], state=state[2])
    for batch in batches(5):
        step(other, fresh, batch)
    assert dsd.phase is resumed.phase is None
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


def test_a_layer_that_leaves_its_name_of_include_under_a_mask_is_refused_until_it_is_back():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule((Phase.sparse(9, {"2.weight": 0.5, "0*": 0.5}),)))
    step(model, optimizer, batches()[0])
    computed(model)
    for _ in range(2):
        with pytest.raises(OptimizerError, match=r"sparsity '2\.weight' matches no parameter .* Its layer was moved"):
            step(model, optimizer, batches()[0])
    nn.utils.parametrize.remove_parametrizations(model[2], "weight", leave_parametrized=False)
    step(model, optimizer, batches()[0])
    assert set(dsd.state_dict()["masks"]) == {"0.weight", "2.weight"}
    dsd.close()


def test_what_reads_the_input_as_a_trace_has_shown_does_so_when_its_layer_is_wrapped():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5), inputs=batches()[0])
    model[0] = nn.Sequential(model[0])
    step(model, optimizer, batches()[0])
    assert set(dsd.masks) == {"2.weight"}
    dsd.close()
