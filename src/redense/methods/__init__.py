"""Techniques around a phase of training: those of the engine, and the pieces of them that a loop of one's own can use.

Where a library has the piece, use the library's: averages of weights are `torch.optim.swa_utils.AveragedModel`, and
SAM is `pytorch_optimizer.SAM`; `redense.DSD` works with both (``docs/how-to/averages.md``).
"""

from __future__ import annotations

from .annealing import jump_
from .distillation import distillation_loss
from .dropconnect import drop_connect
from .lowrank import factorise_

__all__ = ["distillation_loss", "drop_connect", "factorise_", "jump_"]
