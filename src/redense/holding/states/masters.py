"""Masters: copies of the weights that an optimizer keeps out of sight, by which removed weights come back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor
from torch.optim import Optimizer

from redense.holding.watching import flat

_log = logging.getLogger(__name__)

_FEWEST = 8  # removed weights of a parameter that tell: by chance two or three may go where they were


class Masters:
    """A look, after the first step of a sparse phase, whether removed weights are at once what they were before it.

    No step from zero does that. An optimizer for weights of half precision may, which steps with copies in 32 bits that
    lie nowhere where states are looked for. The mask holds zeros in the network, and the copies stay as they are.
    """

    def __init__(self) -> None:
        self._before: dict[str, tuple[Tensor, Tensor]] = {}  # places, and what was there

    def note(self, weights: Iterable[tuple[str, Tensor, Tensor]], places: Callable[[str, Tensor], Tensor]) -> None:
        """Note some weights that are to be removed.

        Args:
            weights: name, this rank's part of the weight and of its mask.
            places: gives flat indices of some removed weights by name and mask.
        """
        for name, weight, mask in weights:
            chosen = places(name, mask)
            self._before[name] = (chosen, flat(weight).index_select(0, chosen))

    def rename(self, now: Mapping[str, str]) -> None:
        """Call weights by other names: old -> new."""
        self._before = {now.get(name, name): noted for name, noted in self._before.items()}

    def warn(self, optimizer: Optimizer, weights: Mapping[str, Tensor]) -> None:
        """Log what has come back, given the weights as the first step has left them, before they are masked."""
        noted = [(name, weight, *self._before.pop(name)) for name, weight in weights.items() if name in self._before]
        back = [name for name, weight, places, before in noted if _is_back(weight, places, before)]
        if back:
            more = f" and of {len(back) - 1} more" if len(back) > 1 else ""
            _log.warning(
                "%s writes the removed weights of '%s'%s back to what they were: it keeps weights of its own (copies "
                "in 32 bits?) where redense does not see them. Zeros are held in the network while the phase lasts, "
                "and what is released grows from those copies, not from zero. Keep them in optimizer.state[parameter]",
                type(optimizer).__name__,
                back[0],
                more,
            )


def _is_back(weight: Tensor, places: Tensor, before: Tensor) -> bool:
    now = flat(weight).index_select(0, places.to(weight.device))
    before = before.to(now)
    there = before != 0
    same = (now - before).abs() <= before.abs() / 2
    return int(there.sum()) >= _FEWEST and 2 * int((same & there).sum()) > int(there.sum())
