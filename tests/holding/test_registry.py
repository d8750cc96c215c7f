"""Who is told of every optimizer's steps, while others come and go in other threads."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, register_optimizer_step_post_hook

import redense
from redense.errors import OptimizerError, StateError
from redense.holding.registry import attached

from ..by_hand import DSD, net, sgd, train


def test_a_dsd_may_be_made_and_closed_while_a_step_goes_through_torchs_hooks():
    model, made = net(), list[bool]()
    optimizer = sgd(model)
    dsd = redense.DSD(model, optimizer, DSD)

    def meanwhile(*_: object) -> None:  # what another thread does
        other = net()
        block = redense.DSD(other, sgd(other), DSD)
        made.append(block in list(attached))
        block.close()
        made.append(block in list(attached))

    handle = register_optimizer_step_post_hook(meanwhile)
    try:
        train(model, optimizer, steps=2)
    finally:
        handle.remove()
    assert made == [True, False] * 2
    assert dsd.step == 2
    hooks = len(_global_optimizer_post_hooks)
    dsd.close()
    last = weakref.ref(redense.DSD(model, optimizer, DSD))
    assert len(_global_optimizer_post_hooks) == hooks  # one, for good
    del dsd, optimizer, model
    gc.collect()
    assert last() is None


# --- what nobody has any more ---------------------------------------------------------------------------------------

SHORT = redense.Schedule.dsd(dense=2, sparse=4, redense=4, sparsity=0.5)


def begun(model: nn.Module, steps: int = 4, error: type[BaseException] | None = None) -> None:
    """Train with a DSD that nobody has after the call, and that stands in a cycle."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    redense.DSD(model, optimizer, SHORT)
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.ones(3, 8)).sum().backward()
        if error and step == steps - 1:
            raise error
        optimizer.step()


@pytest.fixture(name="model")
def _model() -> Iterator[nn.Module]:
    gc.collect()
    gc.disable()  # it would come at any moment
    yield nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    gc.enable()
    gc.collect()


def test_what_nobody_has_any_more_stands_in_no_ones_way(model: nn.Module):
    for _ in range(3):
        begun(model)
    with contextlib.suppress(KeyboardInterrupt):
        begun(model, error=KeyboardInterrupt)
    begun(model)


@pytest.mark.parametrize("name", ["last_value", "last_exc"])
def test_what_only_the_latest_error_has_stands_in_no_ones_way(
    model: nn.Module, name: str, monkeypatch: pytest.MonkeyPatch
):
    try:
        begun(model, error=KeyboardInterrupt)
    except KeyboardInterrupt as error:
        outer = RuntimeError("while that was handled")
        outer.__context__ = error
        monkeypatch.setattr(sys, name, outer, raising=False)
    begun(model)


def test_an_error_that_is_kept_keeps_no_one_alive(model: nn.Module):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dsd = redense.DSD(model, optimizer, SHORT)
    with pytest.raises(StateError, match="DSD already controls") as refused:
        begun(model)
    del dsd, optimizer
    begun(model)
    assert "DSD already controls" in str(refused.value)


@pytest.mark.parametrize(("steps", "masked"), [(1, False), (4, True), (10, False)])
def test_a_plain_training_after_it_is_told_of_gradients_that_were_masked(model: nn.Module, steps: int, masked: bool):
    begun(model, steps)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    refused = pytest.raises(OptimizerError, match=r"SGD were masked by an object .* that nobody has any more: it is go")
    for attempt in range(2):
        optimizer.zero_grad()
        model(torch.randn(3, 8)).square().sum().backward()
        with refused if masked and attempt == 0 else contextlib.nullcontext():
            optimizer.step()


def test_one_that_somebody_has_is_still_refused(model: nn.Module):
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, torch.optim.SGD(model.parameters(), lr=0.1), 0.5):
        model(torch.randn(3, 8)).sum().backward()
        with pytest.raises(OptimizerError, match=r"an optimizer \(SGD\) that redense was not given has trained"):
            other.step()
