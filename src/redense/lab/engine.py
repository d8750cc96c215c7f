"""The engine: trains one phase of a plan after another, over Accelerate, and can stop and go on at any step.

A phase is a pure function of the state before it, the recipe and the seed: every random draw is seeded by run seed,
phase and epoch, and a snapshot holds the rest. So a run that was killed ends with the same bits as one that was not,
and runs that share their first phases can share the result.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn

from ..controller import DSD
from ..errors import DataError, RedenseError, StateError
from ..masks import pack, sparsity_of, unpack
from ..methods.base import Method, make_method
from ..parameters import first_convolution, prunable
from ..schedule import Schedule
from ..tasks.task import Examples, HasLengths, Split, Task
from .batches import Batches, loader
from .plan import PlannedPhase, derive_seed, plan
from .recipe import OptimizerRecipe, Recipe
from .start import load_start_

Event = dict[str, Any]
"""What happens while training: see `metrics.jsonl` in `redense.lab.run`."""

_EVALUATION_BATCH = 500  # where the task says nothing
_LOG_STEPS = 20  # optimizer steps between two `step` events
SALIENCY_STEPS = 50  # optimizer steps' worth of batches whose gradients score the weights


class TrainingError(RedenseError, RuntimeError):
    """Training cannot go on: the loss is not finite."""


class StoppedError(RedenseError):
    """The run was asked to stop and has saved its state."""


class Engine:
    """A model in training: made anew or `restore` d, then ``train`` its phases in order.

    Args:
        task: what is trained.
        recipe: how.
        phases: instead of the phases of the recipe.
        emit: called with every event.
        stop: asked after every optimizer step whether to stop; the engine then saves and raises `StoppedError`.
        save: called with a snapshot to keep it.
        save_seconds: time between two snapshots inside a phase.
        log_steps: optimizer steps between two ``step`` events.
        resolve: gives the weights of a stored phase by its key, for techniques that need other arms' models.

    Raises:
        DataError: the training split is too small for one step.
        StateError: the weights to start from cannot be read.
        RedenseError: a later phase cannot be trained; it is found now and not after hours.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        phases: Sequence[PlannedPhase] | None = None,
        *,
        emit: Callable[[Event], None] = lambda event: None,
        stop: Callable[[], bool] = lambda: False,
        save: Callable[[dict[str, Any]], None] = lambda snapshot: None,
        save_seconds: float = 30.0,
        log_steps: int = _LOG_STEPS,
        resolve: Callable[[str], dict[str, Tensor]] | None = None,
    ) -> None:
        self.task, self.recipe, self._resolve = task, recipe, resolve
        self._emit, self._stop, self._save, self._save_seconds = emit, stop, save, save_seconds
        self._log_steps = log_steps
        self.steps_per_epoch = steps_per_epoch(task, recipe)
        self.plan = tuple(phases) if phases is not None else plan(recipe, self.steps_per_epoch)
        _forget_other_accelerators()
        self.accelerator = Accelerator(
            mixed_precision="bf16" if recipe.training.precision == "bf16" else "no",
            gradient_accumulation_steps=recipe.training.accumulate,
        )
        self._masks: dict[str, Tensor] = {}
        self._position: dict[str, Any] = {"phase": 0, "step": 0}
        self._reshaped: list[Any] = []  # [phase, what was made] for each that changed the structure of the model
        self._build()
        self._saved = time.monotonic()
        self._check_plan()
        if self.plan[0].given and recipe.start:
            load_start_(self.model, recipe.start, getattr(task, "pretrained", None))

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def phase_index(self) -> int:
        """Number of phases that are complete."""
        return self._position["phase"]

    @property
    def step(self) -> int:
        """Optimizer steps since the start of the run."""
        return sum(planned.steps for planned in self.plan[: self.phase_index]) + self._position["step"]

    @property
    def position_in_phase(self) -> int:
        """Optimizer steps since the start of the phase at hand."""
        return self._position["step"]

    def snapshot(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "masks": {name: {"shape": list(m.shape), "bits": pack(m)} for name, m in self._masks.items()},
            "position": dict(self._position),
            "reshaped": list(self._reshaped),
            "rng": _rng_state(),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where `snapshot` was taken.

        Raises:
            StateError: it is of another model.
        """
        if self._reshaped != list(snapshot["reshaped"]):
            self._reshaped = list(snapshot["reshaped"])
            self._build()
        try:
            self.model.load_state_dict(snapshot["model"])
        except (RuntimeError, KeyError) as error:
            raise StateError(f"the checkpoint is of another model: {' '.join(str(error).split())[:300]}") from None
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self._masks = {name: unpack(item["bits"], item["shape"]) for name, item in snapshot["masks"].items()}
        self._position = dict(snapshot["position"])
        self._rng = snapshot["rng"]

    def _build(self) -> None:
        """Make model and optimizer; the structure is that after the phases that have reshaped it."""
        torch.manual_seed(derive_seed(self.recipe.seed, "model"))
        model = self.task.build_model()
        for index, made in self._reshaped:
            model, _ = self._method(index).reshape(model, made)
        self._use(model)

    def _use(self, model: nn.Module) -> None:
        training = self.recipe.training
        if training.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model: nn.Module = model.to(self.accelerator.device)
        self.optimizer = make_optimizer(self.model, training.optimizer)
        self._prepared: nn.Module
        self._prepared, self._prepared_optimizer = self.accelerator.prepare(self.model, self.optimizer)
        if training.compile:
            self._prepared = cast("nn.Module", torch.compile(self._prepared))

    def _method(self, index: int) -> Method:
        planned = self.plan[index]
        method = make_method(planned.method, planned.options, derive_seed(self.recipe.seed, index, "method"))
        if self._resolve:
            method.resolve = self._resolve
        return method

    # --- training ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Train the phase that comes next, or the rest of the one that was interrupted.

        Where given weights stand in place of the phase, they are loaded and evaluated instead.

        Raises:
            StoppedError: it was asked to stop; the state is saved.
            TrainingError: the loss is no longer finite.
        """
        index = self.phase_index
        planned, position = self.plan[index], self._position
        if planned.given:
            self._start(planned)
            return
        method = self._method(index)
        resumed = bool(position["step"])
        if not resumed:
            torch.manual_seed(derive_seed(self.recipe.seed, index, "phase"))
            self._reshape(method, index)
        method.optimizer = self.optimizer
        if not resumed:
            method.begin(self.model, self.prunable())
            if planned.allocation != "uniform":
                position["sparsity"] = self._allocate(planned)
            if planned.phase.criterion == "saliency":
                self._take_gradients(index)
        dsd = DSD(
            self.model,
            self.optimizer,
            Schedule((replace(planned.phase, sparsity=position.get("sparsity", planned.phase.sparsity)),)),
            include=self.include,
            exclude=self.exclude,
            seed=derive_seed(self.recipe.seed, index, "masks"),
            masks=None if resumed else self._masks,
            state=position["dsd"] if resumed else None,
        )
        self.optimizer.zero_grad()
        try:
            if resumed:
                method.load_state_dict(position["method"], self.model)
                _set_rng_state(self._rng)
            self._train_epochs(planned, dsd, method)
            self._masks = dsd.masks
        finally:
            dsd.close()
        best = position["best"]
        if best is not None:
            self.model.load_state_dict(best["model"])
            self.optimizer.load_state_dict(best["optimizer"])
        method.finish(self.model, self._masks, lambda: self._batches(index, 0, 0, self.steps_per_epoch))
        self._position = {"phase": index + 1, "step": 0}
        self._save(self.snapshot())

    def _start(self, planned: PlannedPhase) -> None:
        """Evaluate the weights that the recipe starts from, as a phase of no steps would be."""
        began = time.monotonic()
        self._emit({**self._where(planned), "kind": "phase", "start": 0, "steps": 0})
        result = self.evaluate("validation")
        self._check_finite(result["loss"], planned)
        event = {"kind": "epoch", **self._where(planned), "train_loss": self._loss_of_given(), "validation": result}
        seconds = round(time.monotonic() - began, 3)
        self._emit({**event, "lr": self._lr(), "sparsity": self.sparsity(), "seconds": seconds})
        self._position = {"phase": self.phase_index + 1, "step": 0}
        self._save(self.snapshot())

    def _loss_of_given(self) -> float:
        """Mean loss of given weights over some training batches, as an epoch of training would have reported it."""
        self.model.eval()
        with torch.no_grad():
            steps = min(self.steps_per_epoch, SALIENCY_STEPS)
            losses = [float(self.task.loss(self.model, batch)) for batch in self._batches(0, 0, 0, steps)]
        return sum(losses) / len(losses)

    def _allocate(self, planned: PlannedPhase) -> dict[str, float]:
        """Share the one sparsity of a phase over the layers, from the weights as they are now."""
        from .scan import allocate_for

        return allocate_for(self, float(cast("float", planned.phase.sparsity)), cast("Any", planned.allocation))

    def _take_gradients(self, index: int) -> None:
        """Leave gradients in the parameters, for the criterion that scores with them."""
        self._prepared.train()
        for batch in self._batches(index, 0, 0, min(self.steps_per_epoch, SALIENCY_STEPS)):
            self.accelerator.backward(self.task.loss(self._prepared, batch))

    def _reshape(self, method: Method, index: int) -> None:
        model, made = method.reshape(self.model)
        if made is not None:  # other parameters: the optimizer starts anew
            self._reshaped.append([index, made])
            self._masks = {}
            self._use(model)

    def _train_epochs(self, planned: PlannedPhase, dsd: DSD, method: Method) -> None:
        total, position = planned.steps, self._position
        for key, start in (("loss", 0.0), ("best", None), ("seconds", 0.0)):
            position.setdefault(key, start)
        self._emit({**self._where(planned), "kind": "phase", "start": self.step - position["step"], "steps": total})
        while position["step"] < total:
            first = position["step"] // self.steps_per_epoch * self.steps_per_epoch
            end = min(first + self.steps_per_epoch, total)
            began = time.monotonic() - position["seconds"]
            self._train_epoch(planned, dsd, method, first, end, began)
            mean = position["loss"] / (end - first)
            self._check_finite(mean, planned)
            result = self.evaluate("validation")
            self._check_finite(result["loss"], planned)  # the last step may have broken what its own loss did not show
            position["best"] = self._best(position["best"], result)
            event = {"kind": "epoch", **self._where(planned), "train_loss": mean, "validation": result}
            seconds = round(time.monotonic() - began, 3)
            self._emit({**event, "lr": self._lr(), "sparsity": self.sparsity(), "seconds": seconds})
            position.update(loss=0.0, seconds=0.0)
            self._save_or_stop(dsd, method, due=end < total and self._save_is_due())

    def _train_epoch(self, planned: PlannedPhase, dsd: DSD, method: Method, first: int, end: int, began: float) -> None:
        position = self._position
        self._prepared.train()
        loss = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        losses = loss + position["loss"]  # goes on adding where a killed run had got to, in the same order
        epoch = first // self.steps_per_epoch
        batches: list[Any] = []  # of the step at hand
        for batch in self._batches(self.phase_index, epoch, position["step"] - first, end - first):
            if method.gradient_evaluations > 1:
                batches.append(batch)
            with self.accelerator.accumulate(self._prepared):
                self._backward(method, batch, loss)
                if not self.accelerator.sync_gradients:
                    continue
                self._set_lr(dsd.schedule.lr_factor(position["step"]))
                self._clip()
                optimizer = cast("torch.optim.Optimizer", self._prepared_optimizer)
                method.step(optimizer, lambda: self._again(method, batches))
                optimizer.zero_grad()
                batches.clear()
            method.after_step(self.model, position["step"])
            losses += loss
            position["step"] += 1
            if position["step"] % self._log_steps == 0:
                self._emit({"kind": "step", **self._where(planned), "loss": float(loss), "lr": self._lr()})
            loss.zero_()
            if position["step"] < end and (self._stop() or self._save_is_due()):
                position.update(loss=float(losses), seconds=time.monotonic() - began)
                self._check_finite(position["loss"], planned)
                self._save_or_stop(dsd, method, due=True)
        position["loss"] = float(losses)

    def _backward(self, method: Method, batch: Any, total: Tensor | None) -> None:
        loss = method.loss(self._prepared, batch, self.task.outputs, self.task.loss)
        self.accelerator.backward(loss)
        if total is not None:
            total += loss.detach() / self.recipe.training.accumulate

    def _again(self, method: Method, batches: Sequence[Any]) -> None:
        self._prepared_optimizer.zero_grad()
        for batch in batches:
            self._backward(method, batch, None)
        self._clip()

    def _clip(self) -> None:
        training = self.recipe.training
        if training.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        if training.clip_value:
            self.accelerator.clip_grad_value_(self.model.parameters(), training.clip_value)

    def _set_lr(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.training.optimizer.lr * factor

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _where(self, planned: PlannedPhase) -> dict[str, Any]:
        epoch = round(self._position["step"] / self.steps_per_epoch, 4)
        return {"phase": planned.phase.name, "phase_index": self.phase_index, "step": self.step, "epoch": epoch}

    def _batches(self, index: int, epoch: int, done: int, steps: int) -> Iterator[Any]:
        """Give the batches of an epoch; the same for every arm that trains a phase of this index."""
        training, examples = self.recipe.training, self.task.examples("train")
        seed = derive_seed(self.recipe.seed, index, epoch, "order")
        examples.begin_epoch(seed)
        order = Batches(
            len(examples),
            training.batch_size,
            seed=seed,
            limit=steps * training.accumulate,
            skip=done * training.accumulate,
            lengths=_lengths(examples),
        )
        return self._load(examples, order)

    def _load(self, examples: Examples, order: Batches) -> Iterator[Any]:
        workers = min(getattr(self.recipe.data, "workers", 0), os.cpu_count() or 1)  # more would only wait
        pin_memory = self.accelerator.device.type == "cuda"
        prepared = self.accelerator.prepare(loader(examples, order, workers=workers, pin_memory=pin_memory))
        self.accelerator._dataloaders.clear()  # it would keep every loader of every epoch
        return iter(prepared)

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved >= self._save_seconds

    def _save_or_stop(self, dsd: DSD, method: Method, *, due: bool) -> None:
        stop = self._stop()
        if due or stop:
            self._position.update(dsd=dsd.state_dict(), method=method.state_dict())
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
        model, optimizer = _clone(self.model.state_dict()), _clone(self.optimizer.state_dict())
        return {"value": value, "model": model, "optimizer": optimizer}

    # --- evaluation -------------------------------------------------------------------------------------------------

    def outcome(self, split: Split) -> dict[str, Tensor]:
        """Return the task's outcome of every example of a split, in order, on CPU."""
        examples = self.task.examples(split)
        self.model.eval()
        batch_size = getattr(self.task, "evaluation_batch", _EVALUATION_BATCH)
        batches = Batches(len(examples), batch_size, lengths=_lengths(examples))
        rows: dict[str, list[Tensor]] = {}
        with torch.no_grad(), self.accelerator.autocast():
            for batch in self._load(examples, batches):
                for name, values in self.task.outcome(self.model, batch).items():
                    rows.setdefault(name, []).append(values.cpu())
        back = batches.order.argsort()  # from where they came to where they belong
        return {name: torch.cat(parts)[back] for name, parts in rows.items()}

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the task's metrics of a split."""
        return self.task.metrics(self.outcome(split))

    def sparsity(self) -> float:
        """Return the fraction of exact zeros among the prunable weights."""
        return round(sparsity_of(*self.prunable().values()), 6)

    # --- what is pruned ---------------------------------------------------------------------------------------------

    @property
    def include(self) -> list[str] | None:
        """What `redense.prunable` is told to include: the recipe's word, or the task's."""
        return prune_rules(self.recipe, self.task, self.model)[0]

    @property
    def exclude(self) -> list[str]:
        """What `redense.prunable` is told to leave out: the task's and the recipe's."""
        return prune_rules(self.recipe, self.task, self.model)[1]

    def prunable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that pruning chooses from."""
        return prunable(self.model, include=self.include, exclude=self.exclude)

    def _check_plan(self) -> None:
        for index in range(len(self.plan)):
            self._method(index)
        phases = tuple(planned.phase for planned in self.plan)
        DSD(self.model, self.optimizer, Schedule(phases), include=self.include, exclude=self.exclude).close()

    def _check_finite(self, loss: float, planned: PlannedPhase) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in phase '{planned.phase.name}' by step {self._position['step']} of it: "
                "lower its learning rate, or clip the gradient (training.clip_norm)"
            )


def steps_per_epoch(task: Task, recipe: Recipe) -> int:
    """Return the optimizer steps of one epoch.

    Raises:
        DataError: the training split is too small for one.
    """
    training, examples = recipe.training, len(task.examples("train"))
    steps = examples // training.batch_size // training.accumulate
    if not steps:
        raise DataError(
            f"the training split has {examples} examples, fewer than one optimizer step takes "
            f"({training.batch_size} x {training.accumulate}): lower training.batch_size"
        )
    return steps


def prune_rules(recipe: Recipe, task: Task, model: nn.Module) -> tuple[list[str] | None, list[str]]:
    """Return what `redense.prunable` is told to include and to exclude: the recipe's word, or the task's."""
    prune = recipe.prune
    own = prune.include if prune.include is not None else task.include
    include = None if own is None else list(own)
    if prune.first_layer:
        first = first_convolution(model)
        include = [*(["*"] if include is None else include), *([first] if first else [])]
    return include, [*task.exclude, *prune.exclude]


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


def _lengths(examples: Examples) -> Sequence[int] | None:
    return examples.lengths if isinstance(examples, HasLengths) else None


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
