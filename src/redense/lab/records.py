"""Metrics of a run as they come: metrics.jsonl, and TensorBoard for live curves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from .checkpoint import write_text
from .engine import Event


def read_records(path: Path) -> Iterator[Event]:
    """Give the events of a metrics.jsonl, without a last line that a kill cut off."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


class Recorder:
    """Writes events to metrics.jsonl and TensorBoard; after a kill it forgets what came after the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        self._board_path = folder / "tensorboard"

    def __enter__(self) -> Recorder:
        return self

    def begin(self, step: int) -> None:
        """Go on after this step of the run."""
        from torch.utils.tensorboard import SummaryWriter

        kept = [event for event in read_records(self._path) if event["step"] <= step]
        write_text(self._path, "".join(json.dumps(event) + "\n" for event in kept))
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._board = SummaryWriter(str(self._board_path), purge_step=step + 1)

    def __call__(self, event: Event) -> None:
        """Write an event, if it is of a step or an epoch."""
        if event["kind"] not in ("step", "epoch"):
            return
        self._file.write(json.dumps(event) + "\n")
        step = event["step"]
        if event["kind"] == "step":
            self._board.add_scalar("train/loss", event["loss"], step)
            self._board.add_scalar("train/lr", event["lr"], step)
        else:
            self._board.add_scalar("train/sparsity", event["sparsity"], step)
            for name, value in event["validation"].items():
                self._board.add_scalar(f"validation/{name}", value, step)

    def __exit__(self, *exception: object) -> None:
        if hasattr(self, "_file"):
            self._file.close()
            self._board.close()
