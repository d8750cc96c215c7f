"""The engine: trains one phase of a plan after another, over Accelerate, and can stop and go on at any step.

A phase is a pure function of the state before it, the recipe and the seed: every random draw is seeded by run seed,
phase and epoch, and a snapshot holds the rest. So a run that was killed ends with the same bits as one that was not,
and runs that share their first phases can share the result.

Several ranks train the same network (`redense.lab.ranks.ranks`): each takes its part of every batch and evaluates its
share of a split, the gradients are the mean over all, and rank 0 is the one that writes.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from redense.controller import DSD
from redense.lab.checkpoint import clone
from redense.lab.events import StoppedError, TrainingError, Wiring
from redense.lab.ranks import ranks
from redense.lab.recipe.recipe import Recipe
from redense.layers.inputs import forget_inputs
from redense.methods.base import Context, Method
from redense.pruning import derive_seed
from redense.schedule import Schedule
from redense.tasks.task import Split, Task

from .batches import steps_per_epoch
from .epochs import Epochs
from .evaluation import end_average_, go_on_, outcome_of
from .keeping import Best
from .network import Network
from .plan import PlannedPhase, plan
from .preparation import Preparation
from .pretrained import heads_of, load_start_
from .progress import Progress, set_rng_state
from .setup import deterministic

__all__ = ["Engine", "StoppedError", "TrainingError", "steps_per_epoch"]

_LOG_STEPS = 20  # optimizer steps between two `step` events
_OF_ENGINE = ("task", "data", "model", "training", "tune", "prune", "start")  # of a recipe; the rest are phases


class Engine:
    """A model in training: made anew or `restore` d, then ``train`` its phases in order.

    Args:
        task: what is trained.
        recipe: how.
        phases: instead of the phases of the recipe.
        log_steps: optimizer steps between two ``step`` events.
        wiring: who listens, who is asked, and who keeps what is trained.

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
        log_steps: int = _LOG_STEPS,
        **wiring: Unpack[Wiring],
    ) -> None:
        self.task, self.recipe = task, recipe
        self.steps_per_epoch = steps_per_epoch(task, recipe)
        self.ranks = ranks.current()
        self.network = Network(task, recipe, self.ranks)
        self._log_steps = log_steps
        self._checked: list[tuple[PlannedPhase, ...]] = []
        self._varied: dict[str, Task] = {}  # the task with settings that change for a phase, by those settings
        self.follow(recipe, plan(recipe, self.steps_per_epoch) if phases is None else phases, **wiring)
        Engine._last = [weakref.ref(self)]

    _last: ClassVar[list[weakref.ref[Engine]]] = []

    @classmethod
    def last(cls) -> Engine | None:
        """Return the engine that was made last in this process, if it is still there."""
        return cls._last[0]() if cls._last else None

    def fits(self, task: Task, recipe: Recipe) -> bool:
        """Whether `follow` can make of this engine what a new one would be."""
        return task is self.task and all(getattr(self.recipe, name) == getattr(recipe, name) for name in _OF_ENGINE)

    def follow(self, recipe: Recipe, phases: Sequence[PlannedPhase], **wiring: Unpack[Wiring]) -> None:
        """Begin anew with other phases, or with another seed: afterwards it is as a new engine would be.

        Raises:
            RedenseError: a phase cannot be trained; it is found now and not after hours.
        """
        self.recipe, self.plan = recipe, tuple(phases)
        self.emit, self.save = wiring.get("emit", lambda event: None), wiring.get("save", lambda state: None)
        self._stop, self._save_seconds = wiring.get("stop", lambda: False), wiring.get("save_seconds", 30.0)
        self._ended = wiring.get("ended")
        resolve = wiring.get("resolve")
        self.prepared = Preparation(recipe, self.plan, self.network, self.steps_per_epoch, resolve, self._varied)
        best = Best(self.task.metric, recipe.training.keep, recipe.training.keep_by)
        self.progress = Progress(self.network, self.plan, best, recipe.seed, self._build)
        self._has_start = False
        self._build(())
        self._saved = time.monotonic()
        if self.plan not in self._checked:
            self.prepared.check()
            self._checked.append(self.plan)

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def model(self) -> nn.Module:
        """The plain model."""
        return self.network.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Its optimizer."""
        return self.network.optimizer

    @property
    def kept(self) -> dict[str, Any] | None:
        """The epoch that the last complete phase kept, 0 for its start; None unless it kept its best.

        Of `keep: best-of-run` it is that of the whole run, with its ``phase``, after `end`.
        """
        return self.progress.position.get("kept")

    @property
    def phase_index(self) -> int:
        """Number of phases that are complete."""
        return self.progress.phase

    @property
    def step(self) -> int:
        """Optimizer steps since the start of the run."""
        return self.progress.step

    @property
    def position_in_phase(self) -> int:
        """Optimizer steps since the start of the phase at hand."""
        return self.progress.in_phase

    def snapshot(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors and plain data; on every rank the same."""
        return self.progress.snapshot()

    def restore(self, snapshot: Mapping[str, Any], *, at: int | None = None) -> None:
        """Go on where `snapshot` was taken.

        Args:
            snapshot: of this engine, or of another one with the same recipe.
            at: the phase to go on with, where that is not the one after the phase that ended.

        Raises:
            StateError: it is of another model.
        """
        index, step = snapshot["position"]["phase"], snapshot["position"]["step"]
        of = index if step else max(0, index - 1)  # the phase whose optimizer's state it is
        self.network.settle(self.prepared.recipes[of])
        self.progress.restore(snapshot, at=at)

    def _build(self, reshaped: Sequence[Any]) -> None:
        """Make model and optimizer; the structure is that after the phases that have reshaped it."""
        torch.manual_seed(derive_seed(self.recipe.seed, "model"))
        model = self.task.build_model()
        for index, made in reshaped:
            model, _ = self.prepared.method(index).reshape(self.prepared.context(index, model), model, made)
        self.network.use(model)

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
        best = self.progress.best.of_run
        if best is not None:
            self.model.load_state_dict(best["model"])
            told = {key: best[key] for key in ("phase", "epoch", "of")}
            if "index" in best:  # but in a state of an older redense: the phase may come from the store
                told["phase"] = self.plan[best["index"]].phase.name
            self.progress.position["kept"] = {**told, self.task.metric.name: best["value"]}

    def give_way(self) -> None:
        """Stop if somebody asked to; all that was trained is saved.

        Raises:
            StoppedError: somebody did.
        """
        self._stop_if(self._asked()[0])

    def train(self) -> None:
        """Train the phase that comes next, or the rest of the one that was interrupted.

        Where given weights stand in place of the phase, they are loaded and evaluated instead.

        Raises:
            StoppedError: it was asked to stop; the state is saved.
            TrainingError: the loss is no longer finite.
            SparsityError: the mask leaves nothing of a layer.
            BatchError: a batch is too small for batch normalisation.
        """
        with deterministic(self.network.device):
            self._train()

    def _train(self) -> None:
        index = self.phase_index
        planned = self.plan[index]
        resumed = bool(self.position_in_phase)
        if not resumed and planned.after is not None and planned.after != self.progress.came_from:
            self.restore(self._end_of(planned.after), at=index)
        self.prepared.settle(index)
        position, epochs = self.progress.position, self._epochs(planned)
        if planned.given:
            self._start(epochs)
            return
        position.pop("kept", None)  # of the phase before
        method = self.prepared.method(index)
        if not resumed:
            if planned.begins:
                self.begin()
            torch.manual_seed(derive_seed(self.recipe.seed, index, "phase"))
            self._reshape(method, index)
        run = self.prepared.context(index)
        if planned.joins is not None:
            self._join(planned.joins, method, run, epochs)
            return
        if not resumed:
            method.begin(run)
            with contextlib.suppress(AttributeError):  # what it keeps may only come with the first step
                method.checked_state()
            if self.ranks.many:
                self.progress.draw_for_itself()
            if planned.allocation != "uniform":
                position["sparsity"] = self.prepared.allocate(index, lambda model: self.evaluate("validation")["loss"])
            self.prepared.score(index)
        dsd = DSD(
            self.model,
            self.optimizer,
            Schedule((replace(planned.phase, sparsity=position.get("sparsity", planned.phase.sparsity)),)),
            include=self.network.include,
            exclude=self.network.exclude,
            seed=derive_seed(self.recipe.seed, index, "masks"),
            masks=None if resumed else self.progress.masks,
            state=position["dsd"] if resumed else None,
        )
        forget_inputs(self.model)
        run.masks = dsd.masks
        if not resumed:
            method.pruned(run)
        if method.keeps_gradients:
            dsd.keep_gradients()
        self.optimizer.zero_grad()
        try:
            if resumed:
                method.load_state_dict(position["method"], run)
                set_rng_state(self.progress.rng, self.network.device)
            self._now = dsd, method
            go_on_(self.optimizer)
            epochs.train(dsd, method, run, from_best=bool(index) and self.recipe.training.keep == "best")
            self.progress.masks = run.masks = dsd.masks
        finally:
            dsd.close()
        kept = epochs.take_best(self.task.metric.name)
        if end_average_(self.optimizer):
            update_bn(run.batches(), self.model)  # the average was never run
        method.finish(run)
        self.ranks.agree_on_weights(self.model, self.progress.masks)
        # A technique may have changed the weights that the last epoch was measured with.
        if planned.method and self.recipe.training.keep == "best-of-run":
            epochs.offer(self.evaluate("validation"))
        self._end_phase(kept)

    def _end_phase(self, kept: Mapping[str, Any] = {}) -> None:
        """Go to the next phase, and keep the state as it is now."""
        index = self.phase_index
        later = self.plan[index + 1 :]
        needed = any(planned.after == index or index in (planned.joins or ()) for planned in later)
        self.progress.end(index, kept, keep=needed and self._ended is None)
        self.save(self.snapshot())

    def _end_of(self, index: int) -> Mapping[str, Any]:
        """Return the state that an earlier phase ended with: a copy, because an optimizer goes on with its tensors."""
        return clone(self.progress.ends[str(index)]) if self._ended is None else self._ended(index)

    def _join(self, parts: Sequence[int | str], method: Method, run: Context, epochs: Epochs) -> None:
        """Make the weights of a phase that is not trained of those that other phases ended with."""
        began = time.monotonic()
        self.emit({**epochs.where(), "kind": "phase", "start": self.step, "steps": 0})
        ends = {part: self._end_of(part) for part in parts if isinstance(part, int)}
        self.progress.best.meet(end.get("best of run") for end in ends.values())
        method.join(run, [ends[part]["model"] if isinstance(part, int) else run.stored(part) for part in parts])
        self.progress.masks = {}
        self.optimizer.state.clear()
        self.ranks.agree_on_weights(self.model, self.progress.masks)
        self._end_untrained(epochs, began)

    def _epochs(self, planned: PlannedPhase) -> Epochs:
        return Epochs(
            planned,
            self.progress,
            self.prepared.feed,
            self.steps_per_epoch,
            self._log_steps,
            self.emit,
            lambda: self.evaluate("validation"),
            self._asked,
            self._keep,
        )

    def _start(self, epochs: Epochs) -> None:
        """Evaluate the weights that the recipe starts from, as a phase of no steps would be."""
        began = time.monotonic()
        self.begin()
        self.emit({**epochs.where(), "kind": "phase", "start": 0, "steps": 0})
        self._end_untrained(epochs, began)

    def _end_untrained(self, epochs: Epochs, began: float) -> None:
        """Evaluate the weights of a phase without steps, as its only epoch, and end it."""
        result = self.evaluate("validation")
        epochs.check_finite(result["loss"])
        epochs.offer(result)
        epochs.tell(self.prepared.loss(), result, time.monotonic() - began)
        self._end_phase()

    def _reshape(self, method: Method, index: int) -> None:
        model, made = method.reshape(self.prepared.context(index), self.model)
        if made is not None:  # other parameters: the optimizer starts anew
            self.progress.reshaped.append([index, made])
            self.progress.best.of_run = None  # its weights fit the network no longer
            self.progress.masks = {}
            self.network.use(model)

    def _asked(self) -> tuple[bool, bool]:
        """Return whether to stop and whether to save; all ranks alike, after the same step."""
        return self.ranks.asked(self._stop(), time.monotonic() - self._saved >= self._save_seconds)

    def _keep(self, stop: bool) -> None:
        """Save in the middle of a phase."""
        dsd, method = self._now
        self.progress.position.update(dsd=dsd.state_dict(), method=method.checked_state())
        self.save(self.snapshot())
        self._saved = time.monotonic()
        self._stop_if(stop)

    def _stop_if(self, stop: bool) -> None:
        if stop:
            raise StoppedError("stopped; the state is saved")

    # --- evaluation -------------------------------------------------------------------------------------------------

    def outcome(self, split: Split) -> dict[str, Tensor]:
        """Return the task's outcome of every example of a split, in order, on CPU."""
        return outcome_of(self.task, self.network, split, self.prepared.feed.load)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the task's metrics of a split."""
        return self.task.metrics(self.outcome(split))
