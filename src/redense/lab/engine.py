"""The engine: trains one phase of a plan after another, over Accelerate, and can stop and go on at any step.

A phase is a pure function of the state before it, the recipe and the seed: every random draw is seeded by run seed,
phase and epoch, and a snapshot holds the rest. So a run that was killed ends with the same bits as one that was not,
and runs that share their first phases can share the result.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from ..controller import DSD
from ..errors import DataError, RedenseError, StateError
from ..masks import pack, sparsity_of, unpack
from ..parameters import prunable
from ..schedule import Schedule
from ..tasks.task import Examples, Split, Task
from .plan import PlannedPhase, derive_seed, plan
from .recipe import OptimizerRecipe, Recipe

log = logging.getLogger(__name__)

Event = dict[str, Any]
"""What happens while training: see `metrics.jsonl` in the documentation of run folders."""

_EVALUATION_BATCH = 500
_LOG_STEPS = 20  # optimizer steps between two `step` events


class TrainingError(RedenseError, RuntimeError):
    """Training cannot go on: the loss is not finite."""


class StoppedError(RedenseError):
    """The run was asked to stop and has saved its state."""


class Batches(BatchSampler):
    """Lists of indices: shuffled by a seed, or in order; the first ``skip`` batches can be left out at no cost."""

    def __init__(self, examples: int, batch_size: int, *, seed: int | None = None, limit: int | None = None) -> None:
        self.examples, self.batch_size, self.seed, self.limit = examples, batch_size, seed, limit
        self.drop_last = limit is not None
        self.skip = 0

    def __len__(self) -> int:
        batches = math.ceil(self.examples / self.batch_size) if self.limit is None else self.limit
        return batches - self.skip

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.examples)
        if self.seed is not None:
            order = torch.randperm(self.examples, generator=torch.Generator().manual_seed(self.seed))
        parts = torch.split(order, self.batch_size)
        for part in parts[self.skip : self.limit]:
            yield part.tolist()


class Engine:
    """A model in training: ``start`` or ``restore`` it, then ``train`` its phases in order.

    Args:
        task: what is trained.
        recipe: how.
        emit: called with every event.
        stop: asked after every optimizer step whether to stop; the engine then saves and raises `StoppedError`.
        save: called with a snapshot to keep it.
        save_seconds: time between two snapshots inside a phase.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        *,
        emit: Callable[[Event], None] = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
        save: Callable[[dict[str, Any]], None] = lambda snapshot: None,
        save_seconds: float = 30.0,
    ) -> None:
        self.task, self.recipe = task, recipe
        self.plan = plan(recipe)
        self._emit, self._stop, self._save, self._save_seconds = emit, stop, save, save_seconds
        training = recipe.training
        self._train: Examples = task.examples("train")
        batches = len(self._train) // training.batch_size
        self.steps_per_epoch = batches // training.accumulate
        if not self.steps_per_epoch:
            raise DataError(
                f"the training split has {len(self._train)} examples, fewer than one optimizer step takes "
                f"({training.batch_size} x {training.accumulate}): lower training.batch_size"
            )
        _forget_other_accelerators()
        self.accelerator = Accelerator(
            mixed_precision="bf16" if training.precision == "bf16" else "no",
            gradient_accumulation_steps=training.accumulate,
        )
        torch.manual_seed(derive_seed(recipe.seed, "model"))
        model = task.build_model()
        if training.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model: nn.Module = model.to(self.accelerator.device)
        self.optimizer = make_optimizer(self.model, training.optimizer)
        self._prepared: nn.Module
        self._prepared, self._prepared_optimizer = self.accelerator.prepare(self.model, self.optimizer)
        if training.compile:
            self._prepared = cast("nn.Module", torch.compile(self._prepared))
        self._masks: dict[str, Tensor] = {}
        self._position: dict[str, Any] = {"phase": 0, "step": 0}
        self._saved = time.monotonic()
        self._check_plan()

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def phase_index(self) -> int:
        """Number of phases that are complete."""
        return self._position["phase"]

    @property
    def step(self) -> int:
        """Optimizer steps since the start of the run."""
        before = sum(phase.steps(self.steps_per_epoch) for phase in self.plan[: self.phase_index])
        return before + self._position["step"]

    def snapshot(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "masks": {name: {"shape": list(m.shape), "bits": pack(m)} for name, m in self._masks.items()},
            "position": dict(self._position),
            "rng": _rng_state(),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken.

        Raises:
            StateError: it is of another model.
        """
        try:
            self.model.load_state_dict(snapshot["model"])
        except (RuntimeError, KeyError) as error:
            raise StateError(f"the checkpoint is of another model: {' '.join(str(error).split())[:300]}") from None
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self._masks = {name: unpack(item["bits"], item["shape"]) for name, item in snapshot["masks"].items()}
        self._position = dict(snapshot["position"])
        self._restored_rng = snapshot["rng"]

    # --- training ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train the phase that comes next, or the rest of the one that was interrupted.

        Raises:
            StoppedError: it was asked to stop; the state is saved.
            TrainingError: the loss is no longer finite.
        """
        index = self.phase_index
        planned = self.plan[index]
        phase = planned.phase(self.steps_per_epoch)
        resumed: dict[str, Any] | None = self._position if self._position["step"] else None
        for group in self.optimizer.param_groups:
            group["lr"] = planned.lr
        if resumed is None:
            torch.manual_seed(derive_seed(self.recipe.seed, index, "phase"))
        dsd = DSD(
            self.model,
            self.optimizer,
            Schedule((phase,)),
            include=self.include,
            exclude=self.exclude,
            seed=derive_seed(self.recipe.seed, index, "masks"),
            masks=self._masks if resumed is None else None,
        )
        try:
            if resumed is not None:
                dsd.load_state_dict(resumed["dsd"])
                _set_rng_state(self._restored_rng)
            best = self._train_epochs(index, planned, dsd)
            self._masks = dsd.masks
        finally:
            dsd.close()
        if best is not None:
            self.model.load_state_dict(best["model"])
            self.optimizer.load_state_dict(best["optimizer"])
        self._position = {"phase": index + 1, "step": 0}
        self._save(self.snapshot())

    def _train_epochs(self, index: int, planned: PlannedPhase, dsd: DSD) -> dict[str, Any] | None:
        total = planned.steps(self.steps_per_epoch)
        position = self._position
        position.setdefault("loss", 0.0)
        position.setdefault("best", None)
        position.setdefault("seconds", 0.0)
        start = self.step - position["step"]
        self._emit({"kind": "phase", "phase_index": index, "step": self.step, "start": start, "steps": total})
        while position["step"] < total:
            epoch, done = divmod(position["step"], self.steps_per_epoch)
            steps = min(self.steps_per_epoch, total - epoch * self.steps_per_epoch)
            began = time.monotonic() - position["seconds"]
            self._train_epoch(index, planned, dsd, epoch, done, steps, began)
            mean = position["loss"] / steps
            self._check_finite(mean, planned, dsd)
            result = self.evaluate("validation")
            position["best"] = self._best(position["best"], result)
            self._emit(
                {
                    "kind": "epoch",
                    "phase": planned.name,
                    "phase_index": index,
                    "step": self.step,
                    "epoch": epoch + 1 if steps == self.steps_per_epoch else round(total / self.steps_per_epoch, 4),
                    "train_loss": mean,
                    "validation": result,
                    "lr": self.optimizer.param_groups[0]["lr"],
                    "sparsity": self.sparsity(),
                    "seconds": round(time.monotonic() - began, 3),
                }
            )
            position.update(loss=0.0, seconds=0.0)
            self._save_or_stop(dsd, due=position["step"] < total and self._save_is_due())
        return position["best"]

    def _train_epoch(
        self, index: int, planned: PlannedPhase, dsd: DSD, epoch: int, done: int, steps: int, began: float
    ) -> None:
        position, training = self._position, self.recipe.training
        self._prepared.train()
        losses = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        batch_loss = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        loader = self._loader(index, epoch, done, steps)
        for batch in loader:
            with self.accelerator.accumulate(self._prepared):
                loss = self.task.loss(self._prepared, batch)
                self.accelerator.backward(loss)
                batch_loss += loss.detach() / training.accumulate
                if not self.accelerator.sync_gradients:
                    continue
                if training.clip_norm:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), training.clip_norm)
                if training.clip_value:
                    self.accelerator.clip_grad_value_(self.model.parameters(), training.clip_value)
                rate = planned.lr * dsd.schedule.lr_factor(position["step"])
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self._prepared_optimizer.step()
                self._prepared_optimizer.zero_grad()
            losses += batch_loss
            position["step"] += 1
            last = position["step"] - epoch * self.steps_per_epoch == steps
            if position["step"] % _LOG_STEPS == 0:
                self._emit(
                    {
                        "kind": "step",
                        "phase": planned.name,
                        "phase_index": index,
                        "step": self.step,
                        "epoch": round(position["step"] / self.steps_per_epoch, 4),
                        "loss": float(batch_loss),
                        "lr": rate,
                    }
                )
            batch_loss.zero_()
            if not last and (self._stop() or self._save_is_due()):
                position["loss"] += float(losses)
                losses.zero_()
                position["seconds"] = time.monotonic() - began
                self._check_finite(position["loss"], planned, dsd)
                self._save_or_stop(dsd, due=True)
        position["loss"] += float(losses)

    def _loader(self, index: int, epoch: int, done: int, steps: int) -> Any:
        training = self.recipe.training
        seed = derive_seed(self.recipe.seed, index, epoch, "order")
        self._train.set_epoch(seed)
        batches = Batches(len(self._train), training.batch_size, seed=seed, limit=steps * training.accumulate)
        batches.skip = done * training.accumulate
        return self._prepare(self._train, batches)

    def _prepare(self, examples: Examples, batches: Batches) -> Any:
        workers = getattr(self.recipe.data, "workers", 0)
        loader = DataLoader(
            examples,  # pyright: ignore[reportArgumentType]
            batch_sampler=batches,
            collate_fn=_as_it_is,
            num_workers=workers,
            generator=torch.Generator().manual_seed(
                0
            ),  # of its own: the loader draws a number, the model must not see it
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved >= self._save_seconds

    def _save_or_stop(self, dsd: DSD, *, due: bool) -> None:
        stop = self._stop()
        if due or stop:
            self._position["dsd"] = dsd.state_dict()
            self._save(self.snapshot())
            self._saved = time.monotonic()
        if stop:
            raise StoppedError("stopped; the state is saved")

    def _best(self, best: dict[str, Any] | None, result: dict[str, float]) -> dict[str, Any] | None:
        if self.recipe.training.keep == "last":
            return None
        value = result[self.task.metric.name]
        if best is not None and not self.task.metric.better(value, best["value"]):
            return best
        return {
            "value": value,
            "model": _clone(self.model.state_dict()),
            "optimizer": _clone(self.optimizer.state_dict()),
        }

    # --- evaluation -------------------------------------------------------------------------------------------------

    def outcome(self, split: Split) -> dict[str, Tensor]:
        """Return the task's outcome of every example of a split, in order, on CPU."""
        examples = self.task.examples(split)
        self._prepared.eval()
        rows: dict[str, list[Tensor]] = {}
        with torch.no_grad(), self._autocast():
            for batch in self._prepare(examples, Batches(len(examples), _EVALUATION_BATCH)):
                for name, values in self.task.outcome(self.model, batch).items():
                    rows.setdefault(name, []).append(values.cpu())
        return {name: torch.cat(parts) for name, parts in rows.items()}

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the task's metrics of a split."""
        return self.task.metrics(self.outcome(split))

    def sparsity(self) -> float:
        """Return the fraction of exact zeros among the prunable weights."""
        return round(sparsity_of(*prunable(self.model, include=self.include, exclude=self.exclude).values()), 6)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return self.accelerator.autocast()

    # --- checks -----------------------------------------------------------------------------------------------------

    @property
    def include(self) -> list[str] | None:
        """What `redense.prunable` is told to include: the recipe's word, or the task's."""
        own = self.recipe.prune.include if self.recipe.prune.include is not None else self.task.include
        return None if own is None else list(own)

    @property
    def exclude(self) -> list[str]:
        """What `redense.prunable` is told to leave out: the task's and the recipe's."""
        return [*self.task.exclude, *self.recipe.prune.exclude]

    def _check_plan(self) -> None:
        """Find now what is wrong with a later phase: a name that matches nothing, a pattern that does not divide."""
        phases = tuple(phase.phase(self.steps_per_epoch) for phase in self.plan)
        DSD(self.model, self.optimizer, Schedule(phases), include=self.include, exclude=self.exclude).close()

    def _check_finite(self, loss: float, planned: PlannedPhase, dsd: DSD) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in phase '{planned.name}' before step {dsd.step} of it: "
                "lower its learning rate, or clip the gradient (training.clip_norm)"
            )


def make_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over all of the model's parameters."""
    parameters = model.parameters()
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.name == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **common)
    if recipe.name == "rmsprop":
        return torch.optim.RMSprop(parameters, alpha=recipe.alpha, eps=recipe.eps, momentum=recipe.momentum, **common)
    kind = torch.optim.Adam if recipe.name == "adam" else torch.optim.AdamW
    return kind(parameters, betas=recipe.betas, eps=recipe.eps, **common)


def _as_it_is(batch: Any) -> Any:
    return batch


def _rng_state() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_rng_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _clone(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: _clone(value) for key, value in tree.items()}
    return [_clone(value) for value in tree] if isinstance(tree, list) else tree


def _forget_other_accelerators() -> None:
    # Accelerate keeps one precision per process; two runs in one process may differ.
    if PartialState._shared_state and not PartialState().use_distributed:
        AcceleratorState._reset_state(reset_partial_state=True)
