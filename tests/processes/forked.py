"""Processes that need not import PyTorch again: Python programs that a test starts, forked from one that has done so.

To import what a run needs takes seconds of processor time, and the tests start about a hundred processes. ``start`` is
for Python what ``subprocess.Popen`` is for any program: a process of its own, with arguments, an environment, a folder,
output and exit code of its own, that can be sent signals. What it does not show is the start of an interpreter: a test
of that uses ``subprocess``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import multiprocessing.forkserver
import os
import random
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

IMPORTED = ["pytest", "torch.distributed.fsdp", "torch.distributed.checkpoint", "torch._dynamo", "accelerate"]
IMPORTED += ["redense.cli", "redense.lab.runs.run", "redense.lab.comparison.grid", "redense.tasks.classification.task"]

_context = multiprocessing.get_context("forkserver")


class Started:
    """A process that ``start`` has started, with the methods of ``subprocess.Popen`` that tests use."""

    def __init__(self, words: Sequence[str], folder: str, environment: Mapping[str, str], session: bool) -> None:
        (self._out, out), (self._err, err) = _context.Pipe(duplex=False), _context.Pipe(duplex=False)
        more = (folder, dict(environment), session, out, err)
        self._process = _context.Process(target=_become, args=(words, *more), daemon=True)  # it ends with the tests
        self._process.start()
        out.close()
        err.close()
        self.stdout, self.stderr = _reader(self._out), _reader(self._err)

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code at its end; TimeoutError if that does not come."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise TimeoutError(f"process {self.pid} did not end in {timeout} s")
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it says until its end."""
        said: list[str] = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            with contextlib.suppress(ValueError):  # it has been read before
                said[number] = stream.read()
                stream.close()

        readers = [
            threading.Thread(target=read, args=each, daemon=True) for each in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _reader(connection: Connection) -> IO[str]:
    stream = open(os.dup(connection.fileno()), encoding="utf-8")  # noqa: PTH123, SIM115  # of a pipe
    connection.close()
    return stream


def start(
    *words: object, cwd: object = None, env: Mapping[str, str] | None = None, start_new_session: bool = False
) -> Started:
    """Start ``python WORDS...``: a script, ``-m MODULE`` or ``-c CODE``, and its arguments."""
    _context.set_forkserver_preload(IMPORTED)  # without effect once it runs
    return Started([str(word) for word in words], str(cwd or Path.cwd()), env or os.environ, start_new_session)


def begin() -> None:
    """Start the process that the others are forked from, for this process and for those that it forks."""
    _context.set_forkserver_preload(IMPORTED)
    multiprocessing.forkserver.ensure_running()
    os.register_at_fork(after_in_child=_borrow)


def _borrow() -> None:
    """Use the process of who forked this one: to wait for it, or to stop it, is its parent's."""
    server: Any = multiprocessing.forkserver._forkserver  # pyright: ignore[reportAttributeAccessIssue]
    server._forkserver_pid = None
    server.ensure_running = lambda: None


def stop() -> None:
    """End the process that the others are forked from; its processor time is then that of the one that calls."""
    server: Any = multiprocessing.forkserver._forkserver  # pyright: ignore[reportAttributeAccessIssue]
    if server._forkserver_pid is not None:  # it would wait for whoever else holds its pipe, a forgotten loader's worker
        with contextlib.suppress(ProcessLookupError):
            os.kill(server._forkserver_pid, signal.SIGTERM)
    server._stop()


def _become(
    words: Sequence[str],
    folder: str,
    environment: dict[str, str],
    session: bool,
    out: Connection,
    err: Connection,
) -> None:
    gc.freeze()  # what was imported before the fork: collections and gc.get_referrers need not go over it again
    if session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for connection, stream in ((out, 1), (err, 2)):
        os.dup2(connection.fileno(), stream)
        connection.close()
    multiprocessing.set_start_method(None, force=True)  # as in a new process, and not that of this one
    own = multiprocessing.current_process()
    own.name = "MainProcess"
    own._config["daemon"] = False  # pyright: ignore[reportAttributeAccessIssue]  # it may have children
    random.seed()
    first, *rest = words
    try:
        if first in ("-c", "-m"):
            code, *rest = rest
            sys.argv, sys.path[:0] = [first, *rest], [folder]
            if first == "-m":
                runpy.run_module(code, run_name="__main__", alter_sys=True)
            else:
                exec(code, {"__name__": "__main__"})
        else:
            sys.argv, sys.path[:0] = [first, *rest], [str(Path(first).parent)]
            runpy.run_path(first, run_name="__main__")
    finally:
        threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]  # first: joblib ends its workers there
        atexit._run_exitfuncs()
