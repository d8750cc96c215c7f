"""Progress of a run: a bar a phase on a terminal; elsewhere a line an epoch, and within long ones now and then."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from redense.files.visible import visible_line
from redense.lab.events import Event
from redense.lab.pairs.progress import pause_after
from redense.tasks.metrics import shown_name

from .screen import SafeColumn, plain_table


class RunProgress:
    """Shows the events of a run; use it as a context manager, and have it listen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._bars = Progress(
            SafeColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            SafeColumn("{task.fields[note]}"),
            console=console,
            disable=not self._live,
        )
        self._bar: TaskID | None = None
        self._phases: list[dict[str, Any]] = []
        self._metric: dict[str, Any] = {}
        self._note = ""
        self.notes: list[str] = []
        """What was noted so far."""
        self._start = self._end = 0  # steps of the run at which the phase starts and ends
        self._began = self._said = time.monotonic()
        self._since, self._since_step = self._began, 0

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

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.print(visible_line(text), soft_wrap=True, highlight=False, markup=False, emoji=False)

    def _note_that(self, note: str) -> None:
        self.notes.append(note)
        self._console.print(Text.assemble(("note:", "yellow"), f" {visible_line(note)}"), soft_wrap=True)

    def _on_plan(self, event: Event) -> None:
        self._phases, self._metric = event["phases"], event["metric"]
        for note in event.get("notes", ()):
            self._note_that(note)

    def _on_resumed(self, event: Event) -> None:
        self._say(f"resumed after step {event['step']}")
        for note in event["notes"]:
            self._note_that(note)

    def _on_phase(self, event: Event) -> None:
        index = event["phase_index"]
        self._since, self._since_step = time.monotonic(), event["step"]
        self._start, self._end = event["start"], event["start"] + event["steps"]
        label = f"{index + 1}/{len(self._phases)} {describe(self._phases[index])}"
        self._bar = self._bars.add_task(label, total=event["steps"], completed=event["step"] - self._start, note="")
        if not self._live or event.get("stored"):
            self._say(f"{label}{': trained before, taken from the store' if event.get('stored') else ''}")

    def _on_step(self, event: Event) -> None:
        self._update(event, f"loss {event['loss']:.3f}{self._note}")
        now = time.monotonic()
        if not self._live and now - self._said >= pause_after(now - self._began):
            epochs = self._phases[event["phase_index"]]["epochs"]
            self._say(
                f"  epoch {event['epoch']:.2f} of {epochs:g}  loss {event['loss']:.3f}"
                f"  {self._left(event)} left in this phase"
            )

    def _on_epoch(self, event: Event) -> None:
        name = self._metric["name"]
        self._note = f"  validation {shown_name(name)} {event['validation'][name]:.2f} {self._metric['unit']}".rstrip()
        self._update(event, f"loss {event['train_loss']:.3f}{self._note}")
        if not self._live:
            epochs = self._phases[event["phase_index"]]["epochs"]
            left = f"  {self._left(event)} left in this phase" if event["step"] < self._end else ""
            self._say(
                f"  epoch {event['epoch']:g}/{epochs:g}  loss {event['train_loss']:.3f}{self._note}"
                f"  {event['seconds']:.1f} s{left}"
            )

    def _on_kept(self, event: Event) -> None:
        name = self._metric["name"]
        which = f"epoch {event['epoch']:g} of {event['of']:g}" if event["epoch"] else "what the phase began with"
        which += f" of {event['phase']}" if "phase_index" not in event else ""  # of the whole run
        self._say(f"  kept: {which}, validation {shown_name(name)} {event[name]:.2f} {self._metric['unit']}".rstrip())

    def _on_testing(self, event: Event) -> None:
        self._say("evaluating every phase's network on the test split, once")

    def _update(self, event: Event, note: str) -> None:
        if self._bar is not None:
            self._bars.update(self._bar, completed=event["step"] - self._start, note=note)

    def _left(self, event: Event) -> str:
        rate = (time.monotonic() - self._since) / max(event["step"] - self._since_step, 1)
        seconds = rate * (self._end - event["step"])
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def describe(phase: dict[str, Any]) -> str:
    """Return a phase in a few words: ``sparse 30 %, 8 epochs, lr 0.02``."""
    sparsity = phase["sparsity"]
    how = ""
    if isinstance(sparsity, list):
        how = f" {sparsity[0]}:{sparsity[1]}"
    elif isinstance(sparsity, dict):
        how = " per layer"
    elif sparsity is not None:
        how = f" {100 * sparsity:g} %"
    if joined := phase.get("joins"):
        return f"{phase['name']}, one network made of the ends of {joined} phases"
    if not phase["steps"]:
        return f"{phase['name']}, given: it is evaluated and not trained"
    return f"{phase['name']}{how}, {phase['epochs']:g} epoch{'' if phase['epochs'] == 1 else 's'}, lr {phase['lr']:g}"


def result_table(result: dict[str, Any]) -> Table:
    """Return the table that ends a run: one row a phase."""
    name, unit = result["metric"]["name"], result["metric"]["unit"]
    metric = shown_name(name)
    table = plain_table("phase", "sparsity", "epochs", "lr", f"validation {metric}", f"test {metric}", "time")
    for phase in result["phases"]:
        table.add_row(
            phase["name"],
            f"{100 * phase['sparsity']:.4g} %",
            f"{phase['epochs']:g}" if phase["steps"] else "joined" if phase.get("joins") else "given",
            f"{phase['lr']:g}" if phase["steps"] else "",
            f"{phase['validation'][name]:.2f} {unit}".rstrip(),
            f"{phase['test'][name]:.2f} {unit}".rstrip(),
            f"{phase['seconds']:.0f} s",
        )
    return table
