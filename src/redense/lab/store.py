"""The phase store: a trained phase lies under its key, so that nothing is trained twice.

Arms that begin alike share what they share; so do commands. Two processes that want the same phase wait for each other.
What is damaged is noticed, and made again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor
from typing_extensions import override

from redense.errors import CheckpointError, StateError
from redense.files.checksums import NAME as SUMS
from redense.files.checksums import drop_sums, is_intact, note_sum, read_sums, sha256
from redense.files.json_text import parse_json, read_json
from redense.files.locks import locked
from redense.files.opening import at_home, is_regular, read_bytes
from redense.files.writing import sweep, write_bytes

from .checkpoint import load_tree, save_tree
from .ranks.launch import Ranks
from .ranks.ranks import current

log = logging.getLogger(__name__)
_KEY = re.compile("[0-9a-f]{32}")
_RECORDS = "metrics.jsonl"
_PARTIAL = "partial.safetensors"
_AGAIN = "run the same command again, and it is made anew"


def default_store() -> Path | None:
    """Return ``$REDENSE_STORE``, or ``runs/store`` here; None if the variable is ``none``."""
    own = os.environ.get("REDENSE_STORE")
    return None if own == "none" else at_home(own) if own else Path("runs") / "store"


def store_of(given: Path | None, kept: str | None, default: Path | None) -> tuple[Path | None, str]:
    """Return the store that a run or comparison goes on with, and a note where that is another than it began with.

    Args:
        given: the one that is asked for now; it goes before the others.
        kept: the one that it began with; it goes before ``$REDENSE_STORE``. None: that is not known.
        default: the one for what begins now.
    """
    if given is not None or not kept or (default and str(default.resolve()) == kept):
        return given or default, ""
    if Path(kept).is_dir():
        return Path(kept), ""
    return default, f"the store that it began with is gone, {kept}: it goes on " + (
        f"with {default}" if default else "without one"
    )


def weights_in(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights that a run ends with in a snapshot: of `keep: best-of-run` those of its best epoch."""
    return state.get("best of run", state)["model"]


class PhaseStore:
    """Trained phases in a folder: state, metrics along the way, and what the network answered for the test split.

    Raises:
        StateError: there is a file of that name; it is said before a run has a folder.
    """

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise StateError(f"cannot write to the phase store {root}: it is a file, and no folder")
        self.root = root

    def folder(self, key: str) -> Path:
        """Return where a phase lies or would lie."""
        return self.root / key[:2] / key

    def has(self, key: str) -> bool:
        """Whether a phase is there, to its end."""
        return (self.folder(key) / "state.safetensors").exists()

    def state(self, key: str) -> dict[str, Any]:
        """Return the snapshot that a phase ended with.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        return load_tree(self.folder(key) / "state.safetensors")

    def weights(self, key: str) -> dict[str, Tensor]:
        """Return the weights of the network that a flow ends with, where it ends with this phase.

        Raises:
            CheckpointError: they are missing or damaged.
        """
        return weights_in(self.state(key))

    def put(self, key: str, state: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Keep a trained phase; what was kept of it before its end goes."""
        folder = self._made(key)
        self._write(key, _RECORDS, "".join(json.dumps(record) + "\n" for record in records).encode())
        save_tree(folder / "state.safetensors", dict(state))
        for name in (_PARTIAL, "progress.json"):
            (folder / name).unlink(missing_ok=True)

    def records(self, key: str) -> list[dict[str, Any]]:
        """Return the events of a phase, in order; none for one that is not there.

        Raises:
            CheckpointError: they are damaged.
        """
        data = self._read(key, _RECORDS)
        try:
            return [parse_json(line) for line in (data or b"").splitlines()]
        except ValueError:
            raise CheckpointError(f"{self.folder(key) / 'metrics.jsonl'} is damaged: {_AGAIN}") from None

    def put_partial(self, key: str, state: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Keep a phase that is still being trained."""
        save_tree(self._made(key) / _PARTIAL, {"state": dict(state), "records": list(records)})

    def partial(self, key: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """Return snapshot and events of a phase that was interrupted; None if there is none that is whole."""
        try:
            kept = load_tree(self.folder(key) / _PARTIAL)
        except CheckpointError:
            return None
        return kept["state"], kept["records"]

    def put_outcome(self, key: str, split: str, outcome: Mapping[str, Tensor]) -> None:
        """Keep what the network answered for a split."""
        tensors = {name: values.contiguous() for name, values in outcome.items()}
        self._write(key, f"{split}.safetensors", to_bytes(tensors))

    def outcome(self, key: str, split: str) -> dict[str, Tensor] | None:
        """Return what the network answered for a split, or None if it was not asked yet.

        Raises:
            CheckpointError: it is damaged.
        """
        data = self._read(key, f"{split}.safetensors")
        try:
            return None if data is None else from_bytes(data)
        except SafetensorError:
            raise CheckpointError(f"{self.folder(key) / f'{split}.safetensors'} is damaged: {_AGAIN}") from None

    def put_text(self, key: str, name: str, text: str) -> None:
        """Keep a text file beside a phase."""
        self._write(key, name, text.encode())

    def facts(self, key: str) -> dict[str, Any]:
        """Return what was measured of the network that a phase ends with.

        Raises:
            CheckpointError: it was not, or that is damaged.
        """
        path, data = self.folder(key) / "facts.json", self._read(key, "facts.json")
        try:
            return parse_json(data or b"")
        except ValueError:
            raise CheckpointError(f"{path} is damaged or not there: {_AGAIN}") from None

    def is_measured(self, key: str) -> bool:
        """Whether it is known, and undamaged, what the network that a phase ends with does with the test split."""
        try:
            return all(self._read(key, name) is not None for name in ("facts.json", "test.safetensors"))
        except CheckpointError:
            return False

    def failure(self, keys: Sequence[str]) -> str | None:
        """Return why a flow of phases cannot be finished: the first of them that diverged says it."""
        for key in keys:
            try:
                data = self._read(key, "failed.json")
                if data is not None:
                    return str(parse_json(data)["error"])
            except (ArithmeticError, CheckpointError, KeyError, TypeError, ValueError):
                log.warning("%s is damaged; the phase is trained again", self.folder(key) / "failed.json")
        return None

    def mend(self, key: str, *, held: bool = False) -> list[str]:
        """Drop what is damaged of a phase, so that it is made again, and return its names.

        The state has a digest of its own, which is compared when it is read. A phase that another process works on is
        left to it.

        Args:
            key: of the phase.
            held: this process holds the phase with `locked`.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return []
        if not held:
            with contextlib.suppress(StateError), locked(folder):
                return self.mend(key, held=True)
            return []
        try:
            damaged = [name for name in read_sums(folder) if not is_intact(folder, name)]
        except CheckpointError:  # nothing vouches for what lies there
            damaged = [SUMS, _RECORDS]
        if self.has(key) and not (folder / _RECORDS).is_file():
            damaged.append(_RECORDS)
        if _RECORDS in damaged:
            self.discard(key)
        elif damaged:
            for name in damaged:
                (folder / name).unlink(missing_ok=True)
            drop_sums(folder, damaged)
        if damaged:
            log.warning("%s: %s damaged or gone, and made again", folder, ", ".join(dict.fromkeys(damaged)))
        return damaged

    def discard(self, key: str) -> None:
        """Remove a phase that is damaged, and what was measured of it, so that it is trained again."""
        for path in self.folder(key).glob("[!.]*"):
            if path.name != _PARTIAL:  # which has a digest of its own
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def progress(self, key: str, step: int, steps: int) -> None:
        """Note how far a phase has got, for whoever watches."""
        with contextlib.suppress(OSError):  # only a display
            (self._made(key) / "progress.json").write_text(json.dumps([step, steps]))

    def done(self, key: str) -> float:
        """Return the part of a phase that is trained, in [0, 1]."""
        if self.has(key):
            return 1.0
        with contextlib.suppress(OSError, TypeError, ValueError):
            step, steps = map(float, read_json(self.folder(key) / "progress.json"))
            return min(1.0, max(0.0, step / steps)) if steps else 0.0
        return 0.0

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold a phase for one process; others wait. The lock goes with the process."""
        folder = self._made(key)
        with locked(folder, f"the phase store {self.root}", wait=True) as held:
            if held:  # else two processes may train the same phase, and the same result wins twice
                sweep(folder)
            yield

    def phases(self) -> list[Path]:
        """Return the folders of all phases."""
        return sorted(path.parent for path in self.root.glob("*/*/state.safetensors"))

    def size(self) -> int:
        """Return the bytes of everything in the store."""
        total = 0
        for path in self.root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # of another process, which has put it in place meanwhile
                total += path.stat().st_size if path.is_file() else 0
        return total

    def clear(self) -> None:
        """Remove all phases, whole or not; nothing but time is lost. What is no phase stays.

        Raises:
            StateError: a run or a comparison uses the store.
        """
        if not self.root.is_dir():
            return
        with locked(self.root, what=f"with the phase store {self.root}"):
            for folder in self.root.glob("??/*"):
                if _KEY.fullmatch(folder.name) and folder.name.startswith(folder.parent.name):
                    shutil.rmtree(folder)
                    with contextlib.suppress(OSError):  # not empty
                        folder.parent.rmdir()

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Hold the store among others that use it: nobody clears it meanwhile."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, StateError):  # who can only read it can only hope
                self.root.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.root, wait=True, shared=True))
            yield

    def _write(self, key: str, name: str, data: bytes) -> None:
        folder = self._made(key)
        note_sum(folder, name, data)  # first: a kill in between leaves nothing, or what is damaged and made again
        write_bytes(folder / name, data)

    def _read(self, key: str, name: str) -> bytes | None:
        """The bytes of a file beside a phase; None if there is none."""
        folder = self.folder(key)
        if not is_regular(folder / name):
            return None
        expected, data = read_sums(folder).get(name), read_bytes(folder / name)
        if expected is not None and sha256(data) != expected:
            raise CheckpointError(f"{folder / name} is damaged: it does not match its checksum; {_AGAIN}")
        return data

    def _made(self, key: str) -> Path:
        folder = self.folder(key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot write to the phase store {self.root}: {error.strerror}") from None
        return folder


def _by_main(name: str) -> Callable[..., Any]:
    """Return a method of `SharedStore` that calls the one of `PhaseStore` on rank 0."""

    def told(self: SharedStore, *args: Any, **options: Any) -> Any:
        return self.ranks.main(lambda: getattr(self.own, name)(*args, **options))

    return told


class SharedStore(PhaseStore):
    """The store of a job of several ranks: rank 0 reads and writes, and tells the others what it has read.

    All ranks call each method together, but for `progress`, which is rank 0's.
    """

    def __init__(self, root: Path, ranks: Ranks) -> None:
        super().__init__(root)
        self.own, self.ranks = PhaseStore(root), ranks

    @override
    def progress(self, key: str, step: int, steps: int) -> None:
        if self.ranks.is_main:
            self.own.progress(key, step, steps)

    @override
    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        with self.ranks.held(lambda: self.own.locked(key)):
            yield


for _name in (
    *("has", "state", "put", "records", "put_partial", "partial", "put_outcome", "outcome", "put_text", "mend"),
    *("discard", "is_measured", "failure"),
):
    setattr(SharedStore, _name, _by_main(_name))


def shared_store(root: Path) -> PhaseStore:
    """Return the store in a folder for this process, or for the job that it is a rank of."""
    ranks = current()
    return SharedStore(root, ranks) if ranks.many else PhaseStore(root)
