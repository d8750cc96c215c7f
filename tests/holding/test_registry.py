"""Who is told of every optimizer's steps, while others come and go in other threads."""

from __future__ import annotations

import gc
import weakref

from torch.optim.optimizer import _global_optimizer_post_hooks, register_optimizer_step_post_hook

import redense
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
