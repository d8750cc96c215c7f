"""Dense-sparse-dense training in the Trainer of Hugging Face transformers, as one callback."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, cast

import torch

from redense.controller import DSD
from redense.errors import ScheduleError, StateError
from redense.schedule import Schedule
from redense.schedules.numeric import plain

from .base import Reading, require, settings_of

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.trainer_callback import ExportableState
else:
    (_module,) = require(("transformers.trainer_callback",), "ExportableState", "transformers")
    TrainerCallback, ExportableState = _module.TrainerCallback, _module.ExportableState

__all__ = ["DSDTrainerCallback"]

_NOT_KEPT = "not kept"  # stands for inputs in a checkpoint
FILE = "redense.pt"  # in the Trainer's checkpoint folders

_log = logging.getLogger(__name__)


class DSDTrainerCallback(TrainerCallback, ExportableState):
    """Prune, hold and release at the right optimizer steps of ``Trainer.train``.

    :

        schedule = redense.Schedule.dsd(dense=2000, sparse=1000, redense=1000, sparsity=0.3)  # optimizer steps
        arguments = TrainingArguments(..., max_steps=schedule.total_steps, lr_scheduler_type="constant")
        trainer = Trainer(model, arguments, ..., callbacks=[DSDTrainerCallback(schedule, scale_lr=True)])

    A step is a real step of the optimizer: accumulated batches, and steps that the fp16 scaler skips, are none.
    ``save_model`` writes the plain model. Checkpoints of the Trainer get a file ``redense.pt`` with the masks, and
    ``train(resume_from_checkpoint=...)`` goes on in the middle of a phase. When ``train`` ends, nothing is held.

    The learning rate is the Trainer's, unless ``scale_lr`` is true: then it is the Trainer's times the schedule's
    factor (so let the Trainer's be constant, or a warm-up). Or give the Trainer a scheduler of your own:
    ``optimizers=(optimizer, LambdaLR(optimizer, schedule.lr_factor))``.

    Args:
        schedule: the phases, in optimizer steps; or the plain data of one.
        include: names or patterns of the model's parameters, see `redense.prunable`.
        exclude: names or patterns to leave dense.
        seed: of the random criterion and of surgery.
        inputs: an example of what the model is called with, to find the layers that read it; see `redense.prunable`.
        scale_lr: multiply the learning rate of the Trainer's scheduler by ``schedule.lr_factor``.
        resume_from_checkpoint: the folder to resume from, where it is not in ``output_dir``; the Trainer does not tell.

    Raises:
        MissingExtraError: (on import) transformers is not installed.
        OptimizerError: (in ``train``) the optimizer cannot be masked (DeepSpeed, layer-wise GaLore, LOMO).
        ParameterError: (in ``train``) a name matches nothing, or FSDP1 has flattened the weights.
        StateError: (in ``train``) the masks of the checkpoint are not found, or are of another training.
    """

    def __init__(
        self,
        schedule: Schedule | Mapping[str, Any],
        *,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        seed: int = 0,
        inputs: Any = None,
        scale_lr: bool = False,
        resume_from_checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(inputs, str) and inputs == _NOT_KEPT:
            raise StateError(
                "a checkpoint does not keep the inputs of DSDTrainerCallback: leave out "
                "restore_callback_states_from_checkpoint, and give the callback again"
            )
        self.schedule = schedule if isinstance(schedule, Schedule) else Schedule.from_dict(schedule)
        self.dsd: DSD | None = None
        self.saved = ""  # marks the file that belongs to the last trainer_state.json
        self._options: dict[str, Any] = settings_of(include, exclude, seed)
        self._inputs = inputs
        self._scale_lr = plain(scale_lr)
        if not isinstance(self._scale_lr, bool):
            raise ScheduleError(f"scale_lr must be True or False, got {scale_lr!r}")
        self._folder = resume_from_checkpoint
        self._reading = Reading()

    # --- training ---------------------------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the optimizer, which the Trainer has made and loaded by now."""
        if self.dsd:
            self.dsd.close(release=False)  # of a training that was broken off
        entries = cast("dict[str, Any]", state.stateful_callbacks)
        known = entries.get(type(self).__name__) if state.global_step else None
        saved = self._load(args, state, _mark(known)) if known else None
        # The Trainer looks our entry up when it saves, also after resuming from a checkpoint without one.
        entries.setdefault(type(self).__name__, self.state())
        if self._scale_lr:
            self._follow_schedule(kwargs["lr_scheduler"], min(saved["steps"]) if saved else 0)
        options = {**self._options, "inputs": self._inputs, "state": saved}
        self.dsd = DSD(kwargs["model"], kwargs["optimizer"], self.schedule, **options)
        self._reading = Reading()
        if state.global_step and not saved:
            _log.warning("resumed at step %d from a checkpoint without redense: it starts here", state.global_step)

    def _follow_schedule(self, scheduler: Any, step: int) -> None:
        scheduler = _inner(scheduler)
        behind = step - int(scheduler.last_epoch)
        if behind > 0:  # a checkpoint of save_only_model has no scheduler, which begins anew
            _log.warning(
                "the checkpoint has no state of the scheduler, which begins anew at step %d: the learning rate follows "
                "redense's schedule from step %d, but the Trainer's own warm-up or decay starts again",
                int(scheduler.last_epoch),
                step,
            )
        # It may be ahead, too: of a checkpoint without redense, or of a scheduler of the user's that goes on.
        _multiply_(scheduler, lambda now: self.schedule.lr_factor(max(now + behind, 0)))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the phase and the sparsity to what the Trainer logs."""
        if self.dsd and logs is not None:
            reading = self._reading(self.dsd)
            logs.update(reading)
            if state.log_history:
                state.log_history[-1].update(reading)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave optimizer and scheduler as they were. The weights stay: the Trainer may have loaded its best model."""
        if self.dsd:
            self.dsd.close(release=False)
            self.dsd = None
        if self._scale_lr:
            scheduler = _inner(kwargs["lr_scheduler"])
            scheduler.lr_lambdas = _own_lambdas(scheduler)

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what the Trainer writes into ``trainer_state.json`` just before `on_save`."""
        self.saved = uuid.uuid4().hex
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self._options.items()}
        inputs = {} if self._inputs is None else {"inputs": _NOT_KEPT}
        return {
            "args": {"schedule": self.schedule.to_dict(), **options, "scale_lr": self._scale_lr, **inputs},
            "attributes": {"saved": self.saved},
        }

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the masks beside the Trainer's own files."""
        if not self.dsd:
            return
        masks = self.dsd.state_dict()  # sharded masks are gathered, so every rank has to ask
        folder = _folder(args, state)
        if args.should_save and folder.is_dir():
            part = folder / f"{FILE}.part"
            torch.save({"saved": self.saved, "state": masks}, part)
            part.replace(folder / FILE)

    def _load(self, args: TrainingArguments, state: TrainerState, mark: str) -> Mapping[str, Any]:
        folders = [self._folder] if self._folder else [args.resume_from_checkpoint, _folder(args, state)]
        for folder in folders:
            if isinstance(folder, (str, os.PathLike)) and (Path(folder) / FILE).is_file():
                try:
                    found = torch.load(Path(folder) / FILE, map_location="cpu", weights_only=True)
                except (RuntimeError, EOFError, UnpicklingError) as error:
                    raise StateError(f"{Path(folder) / FILE} is damaged: {str(error).splitlines()[0]}") from None
                if found["saved"] == mark:
                    return found["state"]
        cure = "give its folder to DSDTrainerCallback(schedule, resume_from_checkpoint=...)"
        if getattr(args, "restore_callback_states_from_checkpoint", False):  # the one that was given is thrown away
            cure += " and leave restore_callback_states_from_checkpoint out: by it the Trainer makes another callback"
        where = " or ".join(str(folder) for folder in folders if folder)
        raise StateError(f"no {FILE} of the checkpoint of step {state.global_step} in {where}: {cure}")


def _mark(known: Any) -> str:
    entry = known[0] if isinstance(known, list) else known  # a list if the callback was given twice
    return entry["attributes"]["saved"] if isinstance(entry, Mapping) else ""


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    folder = Path(args.output_dir or "")
    if state.is_hyper_param_search and state.trial_name:
        folder /= state.trial_name
    return folder / f"checkpoint-{state.global_step}"


def _multiply_(scheduler: Any, factor: Callable[[int], float]) -> None:
    """Multiply every learning rate of a LambdaLR by ``factor(step)``, from the current step on."""
    if not isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        raise ScheduleError(
            f"scale_lr multiplies a LambdaLR, as the Trainer makes them, not a {type(scheduler).__name__}: give the "
            "Trainer optimizers=(optimizer, LambdaLR(optimizer, schedule.lr_factor)) instead"
        )
    if any(getattr(own, "__name__", "") == "lr_factor" for own in scheduler.lr_lambdas):
        raise ScheduleError("the scheduler follows schedule.lr_factor already: leave scale_lr out")
    scheduler.lr_lambdas = [_times(each, factor) for each in _own_lambdas(scheduler)]
    now = scheduler.last_epoch
    for group, base, each in zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = base * each(now)


def _times(own: Callable[[int], float], factor: Callable[[int], float]) -> Callable[[int], float]:
    def times(step: int) -> float:  # an object would have its attributes in the scheduler's state
        return own(step) * factor(step)

    cast("Any", times).before_redense = own
    return times


def _own_lambdas(scheduler: Any) -> list[Callable[[int], float]]:
    """Return what a scheduler had before `_multiply_`, in a training that ended or was broken off."""
    return [getattr(each, "before_redense", each) for each in scheduler.lr_lambdas]


def _inner(scheduler: Any) -> Any:
    return getattr(scheduler, "scheduler", scheduler)  # Accelerate's wrapper
