"""The numbers of a run on their way to its loggers.

A logger is a guest: what it does with the random generators is undone after each call, and one that fails while the
run is trained is named in a warning and left out. Only its beginning is strict.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from redense.errors import RedenseError
from redense.files.writing import write_text
from redense.lab.events import listen
from redense.lab.folder import read_json
from redense.lab.guests import hosting

from .base import LoggedRun, Logger, LoggerError, check_loggers, find_logger

log = logging.getLogger(__name__)

FILE = "loggers.json"
"""In a run folder: what each logger calls the run, and what was sent before it was resumed."""

Place = tuple[int, int]
"""Where numbers stand in a run: the step, and 0 for a ``step`` event, 1 for an ``epoch``, 2 for the figures."""

START: Place = (-1, 0)
_ORDER = ("step", "epoch")


class Senders:
    """The loggers of one run, begun; use it as a context manager.

    Args:
        names: of the loggers.
        run: what they are told.
        identities: what each returned when the run was begun before; none for a new run.
        sent: what was logged before, up to which place; a logger that does not rewind is not sent it again.

    Raises:
        RedenseError: a logger cannot be used here, or cannot begin.
    """

    def __init__(
        self,
        names: Sequence[str],
        run: LoggedRun,
        identities: Mapping[str, str | None] | None = None,
        sent: Place = START,
    ) -> None:
        self._loggers: dict[str, Logger] = {}
        self._after: dict[str, Place] = {}
        self._skipping: list[str] = []
        self.identities: dict[str, str | None] = {}
        check_loggers(names)
        known = identities or {}
        name = ""
        try:
            for name in names:
                cls = find_logger(name)
                with hosting():
                    logger = cls()
                    begun = logger.begin(replace(run, settings=dict(run.settings), identity=known.get(name)))
                if not isinstance(begun, (str, int, type(None))):  # it is kept as JSON
                    raise LoggerError(
                        f"log: {name} cannot begin: it returns what names the run, a text or None, and not a "
                        f"{type(begun).__name__}"
                    )
                self.identities[name] = begun
                self._loggers[name] = logger
                skips = getattr(logger, "skips", False)
                resumed = name in known and not skips and not getattr(cls, "rewinds", False)
                self._after[name] = sent if resumed else START
                if name in known and skips:
                    self._skipping.append(name)
        except RedenseError:
            self.close()
            raise
        except (Exception, SystemExit) as error:  # whatever another's package raises
            self.close()
            reason = " ".join(str(error).split())[:1000] or type(error).__name__  # what helps often comes last
            raise LoggerError(f"log: {name} cannot begin: {reason}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send(self, values: Mapping[str, float], place: Place) -> None:
        """Hand numbers to every logger that has not had them before the run was resumed."""
        names = [name for name in self._loggers if place > self._after[name]]
        self._each(lambda logger: logger.log(dict(values), place[0]), names)  # each its own: it may write into it

    def send_again(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Hand the numbers of earlier events to each logger of a resumed run that passes over those that it has."""
        for event in events if self._skipping else ():
            names = [name for name in self._skipping if name in self._loggers]
            self._each(lambda logger, event=event: logger.log(values_of(event), event["step"]), names)

    def attach(self, path: Path) -> None:
        """Hand a file to every logger."""
        self._each(lambda logger: logger.attach(path), list(self._loggers))

    def close(self) -> None:
        """End every logger."""
        self._each(lambda logger: logger.close(), list(self._loggers))
        self._loggers.clear()

    def _each(self, do: Callable[[Logger], None], names: Sequence[str]) -> None:
        for name in names:
            try:
                with hosting():
                    do(self._loggers[name])
            except (Exception, SystemExit) as error:  # noqa: BLE001  # a guest's fault must not end a training of days
                log.warning("log: %s failed, and the run goes on without it: %s", name, " ".join(str(error).split()))
                self._loggers.pop(name, None)


# --- of a run folder ------------------------------------------------------------------------------------------------


class RunSenders(Senders):
    """The loggers of a run folder: begun anew, or resumed under the names that ``loggers.json`` has kept.

    Args:
        folder: of the run.
        names: of the loggers.
        step: after which the run is resumed; 0 for a new one.
        last: the last event that was written before; what follows ``step`` is trained again to the same numbers.
        settings: what a new run is described by.

    Raises:
        RedenseError: a logger cannot be used here, or cannot begin.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], step: int, last: Mapping[str, Any] | None, settings: Mapping[str, Any]
    ) -> None:
        self._folder, self._path = str(folder), folder / FILE
        kept: dict[str, Any] = read_json(self._path) if self._path.exists() else {}
        self._sent: Place = max(tuple(kept.get("sent", START)), place_of(last) if last else START)
        self._step = step
        self._end: Callable[[], None] = lambda: None
        run = LoggedRun(folder.resolve().name, str(settings.get("name", "redense")), folder, settings, step=step)
        super().__init__(names, run, kept.get("ids"), self._sent)
        self._keep()
        self._end = listen(self)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Send the numbers of a ``step`` or an ``epoch`` of the run; it listens until `close`."""
        if event["kind"] in _ORDER and event.get("folder") == self._folder:
            self._step = event["step"]
            self.send(values_of(event), place_of(event))

    def finish(self, result: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Send the figures that the run ends with, and files; nothing where that was done before."""
        place = (self._step, 2)
        self.send(figures_of(result), place)
        if place > self._sent:
            for path in files:
                self.attach(path)
        self._sent = max(self._sent, place)
        self._keep()

    def close(self) -> None:
        """Listen no longer, and end every logger."""
        self._end()
        super().close()

    def _keep(self) -> None:
        # One without a name is here, too, unless it forgets what comes after a checkpoint: it is sent nothing twice.
        rewinds = {name for name in self.identities if getattr(find_logger(name), "rewinds", False)}
        ids = {name: known for name, known in self.identities.items() if known is not None or name not in rewinds}
        if ids:
            write_text(self._path, json.dumps({"ids": ids, "sent": list(self._sent)}) + "\n")


def place_of(event: Mapping[str, Any]) -> Place:
    """Return where the numbers of an event stand."""
    return event["step"], _ORDER.index(event["kind"])


# --- what is sent ---------------------------------------------------------------------------------------------------


def values_of(event: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a ``step`` or an ``epoch`` event, under the names that loggers show."""
    if event["kind"] == "step":
        return {"train/loss": event["loss"], "train/lr": event["lr"]}
    return {
        "train/sparsity": event["sparsity"],
        "train/phase": float(event["phase_index"] + 1),
        "train/epoch_loss": event["train_loss"],
        **{f"validation/{name}": value for name, value in event["validation"].items()},
    }


def figures_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that a run ends with, from its ``result.json``."""
    found: dict[str, float] = {}
    for phase in result["phases"]:
        place = f"result/{phase['name']}"
        found[f"{place}/sparsity"] = phase["sparsity"]
        for split in ("validation", "test"):
            found |= {f"{place}/{split}_{name}": value for name, value in phase[split].items()}
    return found
