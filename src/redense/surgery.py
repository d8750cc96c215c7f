"""Dynamic network surgery (Guo et al., NIPS 2016): a mask that is revised while the network trains.

Weights under the mask keep a value and go on receiving gradient; only the forward pass sees them as zero:

    W_k <- W_k - lr * dL / d(W_k * T_k)                                  equation 2 of the paper
    T_k <- 0 where |W_k| < 0.9 t,  1 where |W_k| > 1.1 t,  else as it was   equation 3
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ScheduleError
from .schedules.numeric import as_float, plain

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Surgery:
    """The revision of a sparse phase's mask.

    A revision that would leave nothing of a parameter is a `SparsityError` of that ``optimizer.step``, and so is a
    ``c`` that is so low that no weight is below the threshold. SAM is for ``step(closure)`` here: its ``first_step``
    climbs with removed weights too, which the next step refuses.

    Args:
        c: threshold t = mean(|W|) + c * std(|W|) of each layer at the start of the phase. ``None`` chooses the t that
            prunes the phase's sparsity at its start.
        band: pruned below (1 - band) t, spliced back above (1 + band) t.
        gamma: the mask is revised at step i of the phase with probability (1 + gamma * i) ** -power.
        power: see gamma; 0 revises it at every step.

    Raises:
        ScheduleError: a number is out of its range.
    """

    c: float | None = None
    band: float = 0.1
    gamma: float = 1e-3
    power: float = 1.0

    def __post_init__(self) -> None:
        for name in ("c", "band", "gamma", "power"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not _is_finite(self.band) or not 0 <= self.band < 1:
            raise ScheduleError(f"band of surgery must be in [0, 1), got {self.band!r}")
        for name, value in (("gamma", self.gamma), ("power", self.power)):
            if not _is_finite(value) or value < 0:
                raise ScheduleError(f"{name} of surgery must be a number of at least 0, got {value!r}")
        if self.c is not None and not _is_finite(self.c):
            raise ScheduleError(f"c of surgery must be a number, or None to start at the sparsity; got {self.c!r}")

    def threshold(self, weight: Tensor, mask: Tensor) -> float:
        """Return t: from c, or the largest magnitude that ``mask`` prunes."""
        magnitude = weight.detach().abs()
        magnitude = magnitude.float() if magnitude.dtype.itemsize < 4 else magnitude  # else a bound, rounded, is none
        if self.c is not None:
            return float(magnitude.mean() + self.c * magnitude.std(correction=0)) if magnitude.numel() else 0.0
        pruned = magnitude[~mask]
        return float(pruned.max()) if pruned.numel() else 0.0

    def due(self, step: int, seed: int) -> bool:
        """Whether the mask is revised after step ``step`` (from 0) of the phase; the same on every machine."""
        import torch  # a schedule that only describes the revisions needs none

        chance = (1 + self.gamma * step) ** -self.power
        generator = torch.Generator().manual_seed((seed + step * 1_000_003) % 2**63)
        return float(torch.rand((), generator=generator, device="cpu")) < chance

    def revise(self, weight: Tensor, mask: Tensor, threshold: float) -> Tensor:
        """Return the revised mask of a weight that still has its values under the mask."""
        magnitude = weight.detach().abs()
        spliced = mask | (magnitude > (1 + self.band) * threshold)
        return spliced & ~(magnitude < (1 - self.band) * threshold)


def _is_finite(value: object) -> bool:
    number = as_float(value)
    return number is not None and math.isfinite(number)
