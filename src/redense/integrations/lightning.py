"""Dense-sparse-dense training in a Lightning Trainer, as one callback.

Works with ``import lightning`` and with ``import pytorch_lightning``: it belongs to the one that is imported already.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from redense.controller import DSD
from redense.errors import OptimizerError
from redense.masks.sharding import is_sharded
from redense.schedule import Schedule
from redense.schedules.numeric import as_int

from .base import Reading, require, settings_of

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer

    _Base = Callback
else:
    _modules = require(("lightning.pytorch", "pytorch_lightning"), "Callback", "lightning")
    _Base = type("_Base", tuple(dict.fromkeys(module.Callback for module in _modules)), {})

__all__ = ["DSDCallback"]

_log = logging.getLogger(__name__)


class DSDCallback(_Base):
    """Prune, hold and release at the right optimizer steps of ``Trainer.fit``.

    :

        schedule = redense.Schedule.dsd(dense=9000, sparse=4500, redense=4500, sparsity=0.3)  # optimizer steps
        trainer = Trainer(max_steps=schedule.total_steps, callbacks=[DSDCallback(schedule)])

    A step is a real step of the optimizer: accumulated batches, and steps that the 16-bit scaler skips, are none. With
    several optimizers a step is complete when each has stepped. Checkpoints of Lightning hold the masks among the
    callbacks' states, ``fit(ckpt_path=...)`` goes on in the middle of a phase, and ``checkpoint["state_dict"]`` is the
    plain module's.

    The learning rate is the module's: return a scheduler that is stepped with the optimizer from
    ``configure_optimizers``:

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    Under manual optimization, step it yourself. (Lightning also steps it when the 16-bit scaler skipped the
    optimizer's step, so that it may be ahead of the phases by that many steps.)

    ``dsd/phase`` (index, from 0) and ``dsd/sparsity`` are logged at every logged step. When ``fit`` ends, what is
    masked is released from zero; weights that were loaded since the last step (the best ones, an average) stay as they
    are, and a warning says so.

    Args:
        schedule: the phases, in optimizer steps.
        include: names or patterns of the module's parameters, see `redense.prunable`.
        exclude: names or patterns to leave dense.
        seed: of the random criterion and of surgery.
        inputs: an example of what the module is called with, to find the layers that read it; see `redense.prunable`.
        optimizers: indices into what ``configure_optimizers`` returns, for a module of several (a GAN's generator)
            whose others step at other times; all of them if left out.
        log: whether to log.

    Raises:
        MissingExtraError: (on import) Lightning is not installed.
        OptimizerError: ``optimizers`` are no indices; or (in ``fit``) there is no such optimizer, or it cannot be
            masked (DeepSpeed).
        ParameterError: (in ``fit``) a name matches nothing, or FSDP1 has flattened the weights.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        seed: int = 0,
        inputs: Any = None,
        optimizers: Sequence[int] | None = None,
        log: bool = True,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.dsd: DSD | None = None
        self._options: dict[str, Any] = {**settings_of(include, exclude, seed), "inputs": inputs}
        self._indices = None if optimizers is None else _indices(optimizers)
        self._log = log
        self._reading = Reading()
        self._state: Mapping[str, Any] = {}
        self._ended_in: weakref.ref[Trainer] | None = None  # the Trainer whose fit has ended with this state

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the optimizers, which Lightning has made and loaded by now."""
        state = self._state
        if self._ended_in and (self._ended_in() is not trainer or not trainer.global_step):
            state = {}  # another training with the same callback
        self._state, self._ended_in = {}, None
        if trainer.global_step and not state:
            _log.warning("resumed at step %d from a checkpoint without redense: it starts here", trainer.global_step)
        # The strategy's module, not ours, shows whether FSDP1 has wrapped it.
        model = trainer.strategy.model or pl_module
        self.dsd = DSD(model, self._chosen(trainer), self.schedule, **self._options, state=state or None)
        self._reading = Reading()

    def _chosen(self, trainer: Trainer) -> list[Any]:
        every = trainer.optimizers
        indices = range(len(every)) if self._indices is None else self._indices
        for index in indices:
            if not 0 <= index < len(every):
                raise OptimizerError(f"optimizers has {index}, but configure_optimizers gave {len(every)}")
        return [every[index] for index in indices]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log which phase this batch is in."""
        if self._log and self.dsd:
            pl_module.log_dict(self._reading(self.dsd))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the optimizers as they were; what ``fit`` did can still be saved, or gone on with."""
        if stage == "fit":
            self._let_go(trainer, release=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the optimizers as they were, and the weights as they are: the module may be trained again."""
        if self.dsd and not any(map(is_sharded, self.dsd.masks.values())):  # whose state all ranks have to ask for
            self._let_go(trainer, release=False)

    def _let_go(self, trainer: Trainer, *, release: bool) -> None:
        if self.dsd:
            self._state, self._ended_in = self.dsd.state_dict(), weakref.ref(trainer)
            self.dsd.close(release=release)
            self.dsd = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of a copy what it would go on with: it is for another Trainer than the one that has ended."""
        return {**vars(self), **({"_state": {}, "_ended_in": None} if self._ended_in else {})}

    def state_dict(self) -> dict[str, Any]:
        """Return step, phase and packed masks; Lightning puts them into its checkpoint."""
        return self.dsd.state_dict() if self.dsd else dict(self._state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there when training starts, or now: a search for a learning rate restores what was before it."""
        if self.dsd:
            self.dsd.load_state_dict(state_dict)
        else:
            self._state, self._ended_in = state_dict, None


def _indices(optimizers: Any) -> list[int]:
    several = list(optimizers) if isinstance(optimizers, Iterable) and not isinstance(optimizers, str) else [optimizers]
    indices = [as_int(index) for index in several]
    if not indices or None in indices:
        raise OptimizerError(f"optimizers takes indices of what configure_optimizers returns, got {optimizers!r}")
    return cast("list[int]", indices)
