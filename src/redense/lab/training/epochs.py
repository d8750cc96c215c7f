"""The epochs of one phase: steps, an evaluation after each epoch, and snapshots in between."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from redense.controller import DSD
from redense.lab.events import Event, TrainingError
from redense.methods.base import Context, Method

from .batches import Feed
from .network import Network
from .plan import PlannedPhase
from .progress import Progress


@dataclass(frozen=True)
class Epochs:
    """One phase in training.

    Args:
        planned: the phase.
        progress: how far the run has got; it is moved on.
        feed: gives the batches.
        length: optimizer steps of an epoch.
        log_steps: optimizer steps between two ``step`` events.
        emit: called with every event.
        evaluate: gives the validation figures.
        asked: whether to stop, and whether to save.
        save: (stop) keeps a snapshot, and raises `StoppedError` if it was asked to stop.
    """

    planned: PlannedPhase
    progress: Progress
    feed: Feed
    length: int
    log_steps: int
    emit: Callable[[Event], None]
    evaluate: Callable[[], dict[str, float]]
    asked: Callable[[], tuple[bool, bool]]
    save: Callable[[bool], None]

    @property
    def network(self) -> Network:
        """The network that is trained."""
        return self.progress.network

    @property
    def epoch(self) -> float:
        """Epochs of the phase that are done."""
        return round(self.progress.in_phase / self.length, 4)

    def where(self) -> dict[str, Any]:
        """Return what every event says."""
        where = {"phase": self.planned.phase.name, "phase_index": self.progress.phase}
        return {**where, "step": self.progress.step, "epoch": self.epoch}

    def offer(self, result: dict[str, float]) -> None:
        """Let the run end with the weights as they are, if they are its best so far."""
        of = round(self.planned.steps / self.length, 4)
        where = {"phase": self.planned.phase.name, "index": self.progress.phase}  # a name is another in other flows
        self.progress.best.offer(result, self.epoch, self.network.model, **where, of=of)

    def tell(self, train_loss: float, result: dict[str, float], seconds: float) -> None:
        """Emit the event of an epoch."""
        event = {"kind": "epoch", **self.where(), "train_loss": train_loss, "validation": result}
        if with_what := self.planned.loss_with:
            event["loss_with"] = with_what
        figures = {"lr": self.network.lr, "sparsity": self.network.sparsity(), "seconds": round(seconds, 3)}
        self.emit({**event, **figures})

    def train(self, dsd: DSD, method: Method, run: Context, *, from_best: bool) -> None:
        """Train the phase, or the rest of it, under the masks of ``dsd``.

        Args:
            dsd: holds them.
            method: the technique of the phase.
            run: what it sees; it is kept up to date.
            from_best: a phase that keeps its best may keep where it begins.

        Raises:
            StoppedError: it was asked to stop; the state is saved.
            TrainingError: the loss is no longer finite.
        """
        total, position = self.planned.steps, self.progress.position
        for key, start in (("loss", 0.0), ("best", None), ("seconds", 0.0)):
            position.setdefault(key, start)
        first = self.progress.step - position["step"]
        self.emit({**self.where(), "kind": "phase", "start": first, "steps": total})
        if not position["step"] and from_best:
            began = self.evaluate()  # a phase need not end worse than it begins
            if math.isfinite(began["loss"]):
                position["best"] = self._kept(None, began)
        while position["step"] < total:
            first = position["step"] // self.length * self.length
            end = min(first + self.length, total)
            started = time.monotonic() - position["seconds"]
            self._train_epoch(dsd, method, run, first, end, started)
            mean = self.network.ranks.mean(position["loss"]) / (end - first)
            self.check_finite(mean)
            result = self.evaluate()
            self.check_finite(result["loss"])  # the last step may have broken what its own loss did not show
            position["best"] = self._kept(position["best"], result)
            self.offer(result)
            self.tell(mean, result, time.monotonic() - started)
            position.update(loss=0.0, seconds=0.0)
            stop, due = self.asked()
            if stop or (due and end < total):
                self.save(stop)

    def _train_epoch(self, dsd: DSD, method: Method, run: Context, first: int, end: int, started: float) -> None:
        progress, position = self.progress, self.progress.position
        # Goes on adding where a killed run had got to, in the same order.
        losses = torch.tensor(position["loss"], dtype=torch.float64, device=self.network.device)
        tuned = 0 if self.planned.begins is None else self.planned.tunes or self.planned.steps

        def set_lr() -> None:
            self.network.set_lr(dsd.schedule.lr_factor(position["step"]), tunes=position["step"] < tuned)

        done = position["step"] - first
        run.step = position["step"]
        run.batch_number = run.step * self.network.own.training.accumulate
        steps = self.network.steps(
            self.feed.batches(progress.phase, first // self.length, done, end - first), method, run, set_lr
        )
        with contextlib.closing(steps):  # where it ends early, the processes that prepare batches end with it
            for loss in steps:
                run.step += 1
                run.masks = dsd.masks  # surgery has revised them
                method.after_step(run)
                losses += loss
                position["step"] += 1
                if position["step"] % self.log_steps == 0:
                    mean = self.network.ranks.mean(float(loss))
                    self.emit({"kind": "step", **self.where(), "loss": mean, "lr": self.network.lr})
                stop, due = self.asked() if position["step"] < end else (False, False)
                if stop or due:
                    position.update(loss=float(losses), seconds=time.monotonic() - started)
                    self.check_finite(self.network.ranks.mean(position["loss"]))
                    self.save(stop)
        position["loss"] = float(losses)

    def _kept(self, best: dict[str, Any] | None, result: dict[str, float]) -> dict[str, Any] | None:
        return self.progress.best.of_phase(best, result, self.epoch, self.network.model, self.network.optimizer)

    def take_best(self, figure: str) -> dict[str, Any]:
        """Load the state that the phase keeps, where it keeps its best; return which epoch that is, as ``kept``."""
        best = self.progress.position["best"]
        if best is None:
            return {}
        self.network.model.load_state_dict(best["model"])
        self.network.optimizer.load_state_dict(best["optimizer"])
        kept = {"epoch": best["epoch"], "of": round(self.planned.steps / self.length, 4), figure: best["value"]}
        self.emit({"kind": "kept", **self.where(), **kept})
        return {"kept": kept}

    def check_finite(self, loss: float) -> None:
        """Raise if training has broken.

        Raises:
            TrainingError: the loss is not finite.
        """
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} in phase '{self.planned.phase.name}' by step {self.progress.in_phase} of it: "
                "lower its learning rate, or clip the gradient (training.clip_norm)"
            )
