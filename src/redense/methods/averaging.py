"""Weight averaging: SWA (Izmailov et al., UAI 2018) and exponential moving averages, by torch's own means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from typing_extensions import override

from redense.errors import ScheduleError
from redense.schedules.numeric import as_float, as_int

from .base import Context, Method, technique


@technique("average")
class Average(Method):
    """Trains as usual, and ends with the average of the weights along the way.

    Options: ``kind`` swa (the plain mean) or ema; ``decay`` of the moving average; ``every`` so many optimizer steps
    the weights are added; ``start`` part of the phase, of so many ``steps`` as it has, after which averaging begins.
    """

    defaults: Mapping[str, Any] = {"kind": "swa", "decay": 0.999, "every": 1, "start": 0.0, "steps": 0}

    @override
    def check_options(self) -> None:
        if self.options["kind"] not in ("swa", "ema"):
            raise ScheduleError(f"kind of averaging must be 'swa' or 'ema', got {self.options['kind']!r}")
        every = as_int(self.options["every"])
        if every is None or every < 1:
            raise ScheduleError(f"every of averaging must be at least 1 optimizer step, got {self.options['every']!r}")
        for name in ("decay", "start"):
            value = as_float(self.options[name])
            if value is None or not 0 <= value < 1:
                raise ScheduleError(f"{name} of averaging must be in [0, 1), got {self.options[name]!r}")

    @override
    def begin(self, run: Context) -> None:
        average = get_ema_multi_avg_fn(self.options["decay"]) if self.options["kind"] == "ema" else None
        self.averaged = AveragedModel(run.model, multi_avg_fn=average, use_buffers=False)

    @override
    def after_step(self, run: Context) -> None:
        first = self.options["start"] * (self.options["steps"] or run.steps)
        if run.step - 1 >= first and run.step % self.options["every"] == 0:
            self.averaged.update_parameters(run.model)

    @override
    def finish(self, run: Context) -> None:
        if int(self.averaged.n_averaged):
            run.model.load_state_dict(self.averaged.module.state_dict())
            # The average was never run: its batch statistics are those of the start.
            update_bn(run.batches(), run.model)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"averaged": self.averaged.state_dict()}

    @override
    def load_state_dict(self, state: Mapping[str, Any], run: Context) -> None:
        self.begin(run)
        self.averaged.load_state_dict(state["averaged"])


def take_mean_(run: Context, states: Sequence[Mapping[str, Tensor]]) -> None:
    """Give a network the plain mean of the weights of several, in place, and batch statistics of that mean."""
    with torch.no_grad():
        for name, value in run.model.named_parameters():
            # On one device, wherever they come from, so that the mean is the same bits.
            value.copy_(torch.stack([state[name].to(value.device) for state in states]).mean(0))
    update_bn(run.batches(), run.model)
