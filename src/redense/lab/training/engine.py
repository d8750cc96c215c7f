"""The engine: trains one phase of a plan after another, over Accelerate, and can stop and go on at any step.

A phase is a pure function of the state before it, the recipe and the seed: every random draw is seeded by run seed,
phase and epoch, and a snapshot holds the rest. So a run that was killed ends with the same bits as one that was not,
and runs that share their first phases can share the result.

Several ranks train the same network (`redense.lab.ranks.ranks`): each takes its part of every batch and evaluates its
share of a split, the gradients are the mean over all, and rank 0 is the one that writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from redense.controller import DSD
from redense.criteria import WITH_GRADIENTS
from redense.errors import RedenseError, StateError
from redense.lab.allocation import allocate_for
from redense.lab.events import Event
from redense.lab.ranks import ranks
from redense.lab.recipe.recipe import Recipe
from redense.masks import pack, sparsity_of, unpack
from redense.methods.base import Method, make_method
from redense.parameters import prunable
from redense.pruning import derive_seed
from redense.schedule import Schedule
from redense.tasks.task import Split, Task

from .evaluation import outcome_of
from .keeping import as_good, refuse_older
from .loader import Feed, steps_per_epoch
from .plan import PlannedPhase, plan
from .pretrained import heads_of, load_start_
from .setup import LossOf, make_accelerator, make_optimizer, prune_rules
from .states import clone, rng_state, set_rng_state

__all__ = ["Engine", "StoppedError", "TrainingError", "prune_rules", "steps_per_epoch"]

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
        emit: called with every event, on every rank.
        stop: asked after every optimizer step whether to stop; the engine then saves and raises `StoppedError`. It is
            enough that one rank is told to.
        save: called with a snapshot to keep it, on every rank; one of them has to write it.
        save_seconds: time between two snapshots inside a phase.
        log_steps: optimizer steps between two ``step`` events.
        resolve: gives the weights of a stored phase by its key, for techniques that need other arms' models.

    Raises:
        RecipeError: the batches cannot be parted among the ranks.
        DataError: the training split is too small for one step.
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
        self.ranks = ranks.current()
        self.accelerator = make_accelerator(recipe)
        self._feed = Feed(task, recipe, self.ranks, self.accelerator.device)
        self._masks: dict[str, Tensor] = {}
        self._position: dict[str, Any] = {"phase": 0, "step": 0}
        self._best_of_run: dict[str, Any] | None = (
            None  # of `keep: best-of-run`, the network to end with if it ended now
        )
        self._reshaped: list[Any] = []  # [phase, what was made] for each that changed the structure of the model
        self._build()
        self._saved = time.monotonic()
        self._check_plan()
        self._has_start = False

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
        """Return all that the rest of the run depends on, as tensors and plain data; on every rank the same."""
        position, rng = dict(self._position), rng_state(self.accelerator.device)
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "masks": {name: {"shape": list(m.shape), "bits": pack(m)} for name, m in self._masks.items()},
            "position": position,
            "reshaped": list(self._reshaped),
            "rng": rng,
        }
        if self._best_of_run is not None:
            state["best of run"] = self._best_of_run
        if self.ranks.many and position["step"]:  # what each rank has for itself
            state["ranks"] = self.ranks.gather({"rng": rng, "loss": position["loss"]})
            position["loss"] = sum(own["loss"] for own in state["ranks"]) / self.ranks.world
        return state

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
        self._best_of_run = snapshot.get("best of run")
        self._position = dict(snapshot["position"])
        refuse_older(self._position.get("best"))
        self._rng = snapshot["rng"]
        own = snapshot.get("ranks", [])
        if len(own) == self.ranks.world:
            self._rng, self._position["loss"] = own[self.ranks.rank]["rng"], own[self.ranks.rank]["loss"]
        elif self.ranks.rank:  # it was taken on another number of ranks: rank 0 goes on, the others begin
            self._draw_for_itself(self.step)
            self._rng = rng_state(self.accelerator.device)

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
        tune = self.recipe.tune
        heads = heads_of(self.task) if tune and tune.backbone_lr < 1 else frozenset[str]()
        self.optimizer = make_optimizer(self.model, training.optimizer, heads, tune.backbone_lr if tune else 1.0)
        # Only what the precision asks for: the ranks' gradients meet where the loss is made, in `LossOf`.
        prepared = self.accelerator.prepare_model(self.model, evaluation_mode=True)
        # Accelerate's wrapper is for what scales the loss: each of its steps looks for a library on the whole path.
        scales = self.accelerator.scaler is not None
        self._prepared_optimizer = self.accelerator.prepare_optimizer(self.optimizer) if scales else self.optimizer
        if training.compile:
            prepared = cast("nn.Module", torch.compile(prepared))
        self._loss = self.ranks.parallel(LossOf(prepared, self.task))

    def _method(self, index: int) -> Method:
        planned = self.plan[index]
        method = make_method(planned.method, planned.options, derive_seed(self.recipe.seed, index, "method"))
        if self._resolve:
            method.resolve = self._resolve
        method.build = self.task.build_model
        return method

    # --- training ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Load the weights that the recipe starts from, if it does. `train` would; this tells earlier what is wrong.

        Raises:
            RecipeError: they are of another network.
            StateError: they cannot be read.
        """
        start = self.recipe.start
        if (self.plan[0].given or self.plan[0].begins) and start and not self._has_start:
            pretrained, heads = getattr(self.task, "pretrained", None), heads_of(self.task)
            may_be_new = heads if self.plan[0].begins else frozenset[str]()
            self.ranks.in_turn(lambda: load_start_(self.model, start, pretrained, heads, may_be_new))
            self._has_start = True

    def end(self) -> None:
        """Take the weights that the run would end with here: of `keep: best-of-run` those of its best epoch so far."""
        best = self._best_of_run
        if best is not None:
            self.model.load_state_dict(best["model"])
            told = {key: best[key] for key in ("phase", "epoch", "of")}
            self._position["kept"] = {**told, self.task.metric.name: best["value"]}

    def give_way(self) -> None:
        """Stop if somebody asked to; all that was trained is saved.

        Raises:
            StoppedError: somebody did.
        """
        if self._asked()[0]:
            raise StoppedError("stopped; the state is saved")

    def train(self) -> None:
        """Train the phase that comes next, or the rest of the one that was interrupted.

        Where given weights stand in place of the phase, they are loaded and evaluated instead.

        Raises:
            StoppedError: it was asked to stop; the state is saved.
            TrainingError: the loss is no longer finite.
            SparsityError: the mask leaves nothing of a layer.
            BatchError: a batch is too small for batch normalisation.
        """
        index = self.phase_index
        planned, position = self.plan[index], self._position
        if planned.given:
            self._start(planned)
            return
        position.pop("kept", None)  # of the phase before
        method = self._method(index)
        resumed = bool(position["step"])
        if not resumed:
            if planned.begins:
                self.begin()
            torch.manual_seed(derive_seed(self.recipe.seed, index, "phase"))
            self._reshape(method, index)
        method.optimizer = self.optimizer
        if not resumed:
            method.begin(self.model, self.prunable())
            if self.ranks.many:
                self._draw_for_itself(self.step)
            if planned.allocation != "uniform":
                position["sparsity"] = self._allocate(planned)
            if planned.phase.criterion in WITH_GRADIENTS:
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
        if not resumed:
            method.pruned(self.model, dsd.masks)
        if method.keeps_gradients:
            dsd.keep_gradients()
        self.optimizer.zero_grad()
        try:
            if resumed:
                method.load_state_dict(position["method"], self.model)
                set_rng_state(self._rng, self.accelerator.device)
            self._train_epochs(planned, dsd, method)
            self._masks = dsd.masks
        finally:
            dsd.close()
        best = position["best"]
        kept: dict[str, Any] = {}
        if best is not None:
            self.model.load_state_dict(best["model"])
            self.optimizer.load_state_dict(best["optimizer"])
            epochs = round(planned.steps / self.steps_per_epoch, 4)
            kept = {"kept": {"epoch": best["epoch"], "of": epochs, self.task.metric.name: best["value"]}}
            self._emit({"kind": "kept", **self._where(planned), **kept["kept"]})
        # Statistics are taken over whole batches, the same on every rank.
        method.finish(
            self.model, self._masks, lambda: self._feed.batches(index, 0, 0, self.steps_per_epoch, whole=True)
        )
        self.ranks.agree_on_weights(self.model, self._masks)
        # A technique may have changed the weights that the last epoch was measured with.
        if planned.method and self.recipe.training.keep == "best-of-run":
            self._offer(planned, self.evaluate("validation"))
        self._position = {"phase": index + 1, "step": 0, **kept}
        self._save(self.snapshot())

    def _start(self, planned: PlannedPhase) -> None:
        """Evaluate the weights that the recipe starts from, as a phase of no steps would be."""
        began = time.monotonic()
        self.begin()
        self._emit({**self._where(planned), "kind": "phase", "start": 0, "steps": 0})
        result = self.evaluate("validation")
        self._check_finite(result["loss"], planned)
        self._offer(planned, result)
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
            losses = [float(self.task.loss(self.model, batch)) for batch in self._feed.batches(0, 0, 0, steps)]
        return self.ranks.mean(sum(losses) / len(losses))

    def _allocate(self, planned: PlannedPhase) -> dict[str, float]:
        """Share the one sparsity of a phase over the layers, from the weights as they are now."""
        overall, by = float(cast("float", planned.phase.sparsity)), cast("Any", planned.allocation)
        return allocate_for(self.model, self._validation_loss, overall, by, include=self.include, exclude=self.exclude)

    def _validation_loss(self, model: nn.Module) -> float:
        return self.evaluate("validation")["loss"]

    def _take_gradients(self, index: int) -> None:
        """Leave gradients in the parameters, for the criterion that scores with them."""
        self._loss.train()
        for batch in self._feed.batches(index, 0, 0, min(self.steps_per_epoch, SALIENCY_STEPS)):
            self.accelerator.backward(self._loss(Method({}, 0), batch))

    def _reshape(self, method: Method, index: int) -> None:
        model, made = method.reshape(self.model)
        if made is not None:  # other parameters: the optimizer starts anew
            self._reshaped.append([index, made])
            self._best_of_run = None  # its weights fit the network no longer
            self._masks = {}
            self._use(model)

    def _train_epochs(self, planned: PlannedPhase, dsd: DSD, method: Method) -> None:
        total, position = planned.steps, self._position
        for key, start in (("loss", 0.0), ("best", None), ("seconds", 0.0)):
            position.setdefault(key, start)
        self._emit({**self._where(planned), "kind": "phase", "start": self.step - position["step"], "steps": total})
        if not position["step"] and self.phase_index and self.recipe.training.keep == "best":
            began = self.evaluate("validation")  # a phase need not end worse than it begins
            if math.isfinite(began["loss"]):
                position["best"] = self._best(None, began)
        while position["step"] < total:
            first = position["step"] // self.steps_per_epoch * self.steps_per_epoch
            end = min(first + self.steps_per_epoch, total)
            began = time.monotonic() - position["seconds"]
            self._train_epoch(planned, dsd, method, first, end, began)
            mean = self.ranks.mean(position["loss"]) / (end - first)
            self._check_finite(mean, planned)
            result = self.evaluate("validation")
            self._check_finite(result["loss"], planned)  # the last step may have broken what its own loss did not show
            position["best"] = self._best(position["best"], result)
            self._offer(planned, result)
            event = {"kind": "epoch", **self._where(planned), "train_loss": mean, "validation": result}
            seconds = round(time.monotonic() - began, 3)
            self._emit({**event, "lr": self._lr(), "sparsity": self.sparsity(), "seconds": seconds})
            position.update(loss=0.0, seconds=0.0)
            stop, due = self._asked()
            if stop or (due and end < total):
                self._keep(dsd, method, stop=stop)

    def _train_epoch(self, planned: PlannedPhase, dsd: DSD, method: Method, first: int, end: int, began: float) -> None:
        position = self._position
        self._loss.train()
        loss = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        losses = loss + position["loss"]  # goes on adding where a killed run had got to, in the same order
        epoch = first // self.steps_per_epoch
        batches: list[Any] = []  # of the step at hand
        for batch in self._feed.batches(self.phase_index, epoch, position["step"] - first, end - first):
            if method.gradient_evaluations > 1:
                batches.append(batch)
            with self.accelerator.accumulate(self._loss):
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
                mean = self.ranks.mean(float(loss))
                self._emit({"kind": "step", **self._where(planned), "loss": mean, "lr": self._lr()})
            loss.zero_()
            stop, due = self._asked() if position["step"] < end else (False, False)
            if stop or due:
                position.update(loss=float(losses), seconds=time.monotonic() - began)
                self._check_finite(self.ranks.mean(position["loss"]), planned)
                self._keep(dsd, method, stop=stop)
        position["loss"] = float(losses)

    def _backward(self, method: Method, batch: Any, total: Tensor | None) -> None:
        loss = self._loss(method, batch)
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
        tunes = bool(self.plan[self.phase_index].begins)
        for group in self.optimizer.param_groups:
            part = group.get("tuned", 1.0) if tunes else 1.0
            group["lr"] = self.recipe.training.optimizer.lr * factor * part

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _where(self, planned: PlannedPhase) -> dict[str, Any]:
        epoch = round(self._position["step"] / self.steps_per_epoch, 4)
        return {"phase": planned.phase.name, "phase_index": self.phase_index, "step": self.step, "epoch": epoch}

    def _draw_for_itself(self, step: int) -> None:
        """Begin random numbers of this rank's own, for dropout and its like."""
        torch.manual_seed(derive_seed(self.recipe.seed, self.phase_index, "phase", step, self.ranks.rank))

    def _asked(self) -> tuple[bool, bool]:
        """Return whether to stop and whether to save; all ranks alike, after the same step."""
        return self.ranks.asked(self._stop(), time.monotonic() - self._saved >= self._save_seconds)

    def _keep(self, dsd: DSD, method: Method, *, stop: bool) -> None:
        self._position.update(dsd=dsd.state_dict(), method=method.state_dict())
        self._save(self.snapshot())
        self._saved = time.monotonic()
        if stop:
            raise StoppedError("stopped; the state is saved")

    @property
    def kept(self) -> dict[str, Any] | None:
        """Which epoch the last complete phase kept, 0 for where it began; None unless it kept its best.

        Of `keep: best-of-run` it is that of the whole run, with its ``phase``, after `end`.
        """
        return self._position.get("kept")

    def _best(self, best: dict[str, Any] | None, result: dict[str, float]) -> dict[str, Any] | None:
        """Return what the phase would keep if it ended now: of equal figures the lower loss, then the later epoch."""
        if self.recipe.training.keep != "best" or not self._as_good(result, best):
            return best
        return {**self._candidate(result), "optimizer": clone(self.optimizer.state_dict())}

    def _offer(self, planned: PlannedPhase, result: dict[str, float]) -> None:
        """Let the run end with the weights as they are, if they are its best so far."""
        if self.recipe.training.keep == "best-of-run" and self._as_good(result, self._best_of_run):
            of = round(planned.steps / self.steps_per_epoch, 4)
            self._best_of_run = {**self._candidate(result), "phase": planned.phase.name, "of": of}

    def _as_good(self, result: dict[str, float], best: dict[str, Any] | None) -> bool:
        return as_good(self.task.metric, result, best, self.recipe.training.keep_by)

    def _candidate(self, result: dict[str, float]) -> dict[str, Any]:
        epoch = round(self._position["step"] / self.steps_per_epoch, 4)
        figures = {"value": result[self.task.metric.name], "loss": result["loss"]}
        return {**figures, "epoch": epoch, "model": clone(self.model.state_dict())}

    # --- evaluation -------------------------------------------------------------------------------------------------

    def outcome(self, split: Split) -> dict[str, Tensor]:
        """Return the task's outcome of every example of a split, in order, on CPU."""
        return outcome_of(self.task, self.model, split, self._feed.load, self.ranks, self.accelerator.autocast())

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
        # A phase that cannot train is not waited for; the sparsities of one that is allocated are not known yet.
        phases = tuple(
            p.phase if p.allocation == "uniform" or not p.phase.is_sparse else replace(p.phase, sparsity=0.0)
            for p in self.plan
        )
        DSD(self.model, self.optimizer, Schedule(phases), include=self.include, exclude=self.exclude).close()

    def _check_finite(self, loss: float, planned: PlannedPhase) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in phase '{planned.phase.name}' by step {self._position['step']} of it: "
                "lower its learning rate, or clip the gradient (training.clip_norm)"
            )
