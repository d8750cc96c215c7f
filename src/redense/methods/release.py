"""Other values from which released weights restart: the paper's "other initialisation worth trying"."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from redense.errors import ScheduleError
from redense.holding.randomness import random_kept

from .base import Context, Method, technique


@technique("release")
class Release(Method):
    """Lets a sparse phase end with its pruned weights at the value before pruning, or freshly initialised.

    The paper releases from zero, which needs no method. Option: ``start``, ``value`` or ``fresh``.
    """

    defaults: Mapping[str, Any] = {"start": "value"}
    kept_attributes = ("values",)

    @override
    def check_options(self) -> None:
        if self.options["start"] not in ("value", "fresh"):
            raise ScheduleError(f"start of released weights must be 'value' or 'fresh', got {self.options['start']!r}")

    @override
    def begin(self, run: Context) -> None:
        source = run.model if self.options["start"] == "value" else self._fresh(run.model)
        values = dict(source.named_parameters())
        self.values = {name: values[name].detach().clone() for name in run.prunable}

    @override
    def finish(self, run: Context) -> None:
        weights = dict(run.model.named_parameters())
        with torch.no_grad():
            for name, mask in run.masks.items():
                weights[name].copy_(torch.where(mask, weights[name], self.values[name]))

    def _fresh(self, model: nn.Module) -> nn.Module:
        """The model with every layer initialised as its class does it; the caller's random state is left alone."""
        fresh = copy.deepcopy(model)
        with random_kept(self.seed):
            for module in fresh.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
        return fresh
