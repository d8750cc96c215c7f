"""Weight averaging: SWA (Izmailov et al., UAI 2018) and exponential moving averages, by torch's own means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from typing_extensions import override

from redense.errors import ScheduleError

from .base import Method


class Average(Method):
    """Trains as usual, and ends with the average of the weights along the way.

    Options: ``kind`` swa (the plain mean) or ema; ``decay`` of the moving average; ``every`` so many optimizer steps
    the weights are added; ``start`` part of the phase after which averaging begins.
    """

    name = "average"
    defaults: Mapping[str, Any] = {"kind": "swa", "decay": 0.999, "every": 1, "start": 0.0, "steps": 0}

    @override
    def begin(self, model: nn.Module, prunable: Mapping[str, nn.Parameter]) -> None:
        if self.options["kind"] not in ("swa", "ema"):
            raise ScheduleError(f"kind of averaging must be 'swa' or 'ema', got {self.options['kind']!r}")
        average = get_ema_multi_avg_fn(self.options["decay"]) if self.options["kind"] == "ema" else None
        self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=False)

    @override
    def after_step(self, model: nn.Module, step: int) -> None:
        first = self.options["start"] * self.options["steps"]
        if step >= first and (step + 1) % self.options["every"] == 0:
            self.averaged.update_parameters(model)

    @override
    def finish(self, model: nn.Module, masks: Mapping[str, Tensor], batches: Callable[[], Iterable[Any]]) -> None:
        if int(self.averaged.n_averaged):
            model.load_state_dict(self.averaged.module.state_dict())
            update_bn(batches(), model)  # the average was never run, so its batch statistics are those of the start

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"averaged": self.averaged.state_dict()}

    @override
    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module) -> None:
        self.begin(model, {})
        self.averaged.load_state_dict(state["averaged"])
