"""What a person sees while a run trains: a bar a phase on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..tasks.metrics import Metric
from .engine import Event
from .plan import PlannedPhase


class RunProgress:
    """Shows the events of an engine; use it as a context manager and pass it as ``emit``."""

    def __init__(self, console: Console, plan: tuple[PlannedPhase, ...], metric: Metric) -> None:
        self._console, self._plan, self._metric, self._unit = console, plan, metric.name, metric.unit
        self._live = console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self._live,
        )
        self._bar: TaskID | None = None
        self._start, self._steps, self._epoch_note = 0, 0, ""
        self._phase_began, self._phase_step = time.monotonic(), 0

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        handler = getattr(self, f"_on_{event['kind']}", None)
        if handler:
            handler(event)

    def _on_resumed(self, event: Event) -> None:
        self._console.print(f"resumed after step {event['step']}")
        for note in event["notes"]:
            self._console.print(f"[yellow]note:[/] {note}", soft_wrap=True)

    def _on_phase(self, event: Event) -> None:
        planned = self._plan[event["phase_index"]]
        self._steps = event["steps"]
        self._phase_began, self._phase_step = time.monotonic(), event["step"]
        self._start = event["start"]
        label = f"{event['phase_index'] + 1}/{len(self._plan)} {describe(planned)}"
        self._bar = self._bars.add_task(label, total=self._steps, completed=event["step"] - self._start, note="")
        if not self._live:
            self._console.print(label, soft_wrap=True)

    def _on_step(self, event: Event) -> None:
        if self._bar is not None:
            note = f"loss {event['loss']:.3f}{self._epoch_note}"
            self._bars.update(self._bar, completed=event["step"] - self._start, note=note)

    def _on_epoch(self, event: Event) -> None:
        value = event["validation"][self._metric]
        self._epoch_note = f"  validation {self._metric} {value:.2f} {self._unit}"
        if self._bar is not None:
            note = f"loss {event['train_loss']:.3f}{self._epoch_note}"
            self._bars.update(self._bar, completed=event["step"] - self._start, note=note)
        if not self._live:
            self._console.print(
                f"  epoch {event['epoch']:g}/{self._plan[event['phase_index']].epochs:g}"
                f"  loss {event['train_loss']:.3f}{self._epoch_note}  {event['seconds']:.1f} s"
                f"  {self._remaining(event)} left in this phase",
                soft_wrap=True,
            )

    def _on_testing(self, event: Event) -> None:
        self._console.print("evaluating every phase's network on the test split, once")

    def _remaining(self, event: Event) -> str:
        done = event["step"] - self._phase_step
        left = self._start + self._steps - event["step"]
        seconds = (time.monotonic() - self._phase_began) / max(done, 1) * left
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def describe(phase: PlannedPhase) -> str:
    """Return a phase in a few words: ``sparse 30 %, 8 epochs, lr 0.02``."""
    sparsity = ""
    if phase.pattern:
        sparsity = f" {phase.pattern[0]}:{phase.pattern[1]}"
    elif isinstance(phase.sparsity, float):
        sparsity = f" {100 * phase.sparsity:g} %"
    elif phase.sparsity is not None:
        sparsity = " per layer"
    return f"{phase.name}{sparsity}, {phase.epochs:g} epochs, lr {phase.lr:g}"


def result_table(result: dict[str, Any]) -> Table:
    """Return the table that ends a run: one row a phase."""
    name, unit = result["metric"]["name"], result["metric"]["unit"]
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    table.add_column("phase")
    for column in ("sparsity", "epochs", "lr", f"validation {name}", f"test {name}", "time"):
        table.add_column(column, justify="right")
    for phase in result["phases"]:
        table.add_row(
            phase["name"],
            f"{100 * phase['sparsity']:g} %",
            f"{phase['epochs']:g}",
            f"{phase['lr']:g}",
            f"{phase['validation'][name]:.2f} {unit}",
            f"{phase['test'][name]:.2f} {unit}",
            f"{phase['seconds']:.0f} s",
        )
    return table


def verdict(result: dict[str, Any]) -> str:
    """Say what one run shows, and what it does not (DESIGN.md, rule 7)."""
    metric, phases = result["metric"], result["phases"]
    name, unit = metric["name"], metric["unit"]
    first, last = phases[0]["test"][name], phases[-1]["test"][name]
    gain = (first - last) if metric["lower_is_better"] else (last - first)
    points = "points" if unit == "%" else unit
    how = (
        f"{abs(gain):.2f} {points} {'better' if gain > 0 else 'worse'} than" if abs(gain) >= 0.005 else "no better than"
    )
    masked = any(phase["sparsity"] > 0 for phase in phases if phase["kind"] == "sparse")
    if not masked:
        return (
            f"test {name} {last:.2f} {unit}, {how} after the first phase ({first:.2f} {unit}). "
            "Nothing was pruned: this is the control, DSD's steps and learning rates without a mask."
        )
    return (
        f"test {name} {last:.2f} {unit}, {how} the dense baseline ({first:.2f} {unit}). "
        "That is one seed, and more steps help too: the control on the same budget is the same command "
        "with --sparse.sparsity 0."
    )
