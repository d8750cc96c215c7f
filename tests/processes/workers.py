"""Test processes that are forked when the tests have been collected: ``pytest --workers 2``.

Workers of pytest-xdist import and collect everything, each of them: 30 s of processor time a worker, as much as a
twentieth of what all quick tests cost. Forked ones share what one process has imported. A group of tests, a file as a
rule, goes to one worker as a whole. The workers take the next group from a pipe and send their reports through another.
A worker that dies is a failure of the test that it ran, and another one goes on with the rest of its group.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import pytest

QUIET = ("terminalreporter", "lfplugin", "nfplugin", "stepwiseplugin")
"""Plugins that print, or write what the next run reads: the first process does that for all."""


@dataclass
class Worker:
    """A forked process, and what the first one knows of it."""

    pid: int
    ears: Connection
    todo: list[int]
    """Items that it has taken and not finished, in order."""
    running: bool = False
    """Whether it is in the first of them."""
    over: bool = False
    exit: int | None = None


class Reporter:
    """The terminal of a worker: pytest-timeout shows where a test hangs."""

    def __init__(self, config: pytest.Config) -> None:
        from _pytest.config import create_terminal_writer

        self._tw = create_terminal_writer(config, sys.stderr)


class Telling:
    """A plugin of a worker that sends what the terminal and the summary of the first process need."""

    def __init__(self, config: pytest.Config, mouth: Connection) -> None:
        self._config, self._mouth = config, mouth
        self.began = False
        """Whether what is heard is of this process: pluggy repeats earlier warnings to a plugin that comes later."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send what a test has come to."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._mouth.send(("report", data))

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str, location: Any) -> None:
        """Send a warning that is no error."""
        if not self.began:
            return
        text = f"{warning_message.category.__name__}: {warning_message.message}"
        where = (warning_message.filename, warning_message.lineno)
        self._mouth.send(("warning", (text, where, when, nodeid, location)))


@dataclass
class Workers:
    """Share the tests of a session out among processes.

    Args:
        session: What has been collected.
        number: How many processes.
        group: The name of the group that a test belongs to.
        begin: Called in a worker before its first test, with its number.
        end: Called in a worker after its last test. What it returns is added to ``said``.
    """

    session: pytest.Session
    number: int
    group: Callable[[pytest.Item], str]
    begin: Callable[[int], None]
    end: Callable[[], list[str]]
    said: list[str] = field(default_factory=list)
    _workers: list[Worker] = field(default_factory=list)

    def run(self) -> None:
        """Run the tests. The process that called, and each of those that this one forks, returns."""
        items = self.session.items
        groups: dict[str, list[int]] = defaultdict(list)
        for index, item in enumerate(items):
            groups[self.group(item)].append(index)
        self._groups = list(groups.values())
        self._left = set(range(len(items)))
        self._next, put = os.pipe()
        os.write(put, b"".join(number.to_bytes(2, "big") for number in range(len(self._groups))))  # 64 KB hold them all
        os.close(put)
        if (terminal := self.session.config.pluginmanager.get_plugin("terminalreporter")) is not None:
            terminal.showfspath = False  # files take turns
        try:
            for _ in range(min(self.number, len(self._groups))):
                if self._fork([]):
                    return
            if self._listen():
                return
        finally:
            self._stop()
        if self._left:
            raise self.session.Failed(f"{len(self._left)} tests were not run: {items[min(self._left)].nodeid}, ...")

    # --- the first process ------------------------------------------------------------------------------------------

    def _listen(self) -> bool:
        """Pass on what the workers say until all of them have ended; return True in a worker that replaces another."""
        while alive := [worker for worker in self._workers if worker.exit is None]:
            ready = wait([worker.ears for worker in alive], timeout=0.5)
            for worker in alive:
                if worker.ears not in ready and (status := os.waitpid(worker.pid, os.WNOHANG))[0]:
                    worker.exit = os.waitstatus_to_exitcode(status[1])
                while worker.ears.poll():
                    try:
                        kind, what = worker.ears.recv()
                    except EOFError:
                        if worker.exit is None:
                            worker.exit = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
                        break
                    self._hear(worker, kind, what)
                if worker.exit is not None and self._bury(worker):
                    return True
                if self.session.shouldfail:
                    raise self.session.Failed(self.session.shouldfail)
                if self.session.shouldstop:
                    raise self.session.Interrupted(self.session.shouldstop)
        return False

    def _hear(self, worker: Worker, kind: str, what: Any) -> None:
        config, hook = self.session.config, self.session.config.hook
        if kind == "took":
            worker.todo += self._groups[what]
        elif kind == "begins":
            worker.running = True
            item = self.session.items[what]
            hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        elif kind == "report":
            report = hook.pytest_report_from_serializable(config=config, data=what)
            hook.pytest_runtest_logreport(report=report)
        elif kind == "ends":
            self._finish(worker)
        elif kind == "warning":
            text, (file, line), when, nodeid, location = what
            message = warnings.WarningMessage(Warning(text), Warning, file, line)
            more = {"warning_message": message, "when": when, "nodeid": nodeid, "location": location}
            hook.pytest_warning_recorded.call_historic(kwargs=more)
        else:
            worker.over = True
            self.said += what

    def _finish(self, worker: Worker) -> None:
        index = worker.todo.pop(0)
        worker.running = False
        self._left.discard(index)
        item = self.session.items[index]
        self.session.config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _bury(self, worker: Worker) -> bool:
        """Blame the test that a worker died of, and fork another for its other tests; return True in that one."""
        worker.ears.close()
        if worker.over and worker.exit in (0, 1):  # 1 where a test failed
            return False
        code = worker.exit or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if not worker.running:
            raise self.session.Failed(f"a worker ended between tests, with {how}")
        item = self.session.items[worker.todo[0]]
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=f"{item.nodeid}: its process ended with {how}",
            when="call",
        )
        self.session.config.hook.pytest_runtest_logreport(report=report)
        self._finish(worker)
        return self._fork(worker.todo)

    def _stop(self) -> None:
        """End the workers that are left, as Ctrl-C does, for they may have to take something away."""
        for number in (signal.SIGINT, signal.SIGKILL):
            until = time.monotonic() + 20
            for worker in self._workers:
                if worker.exit is None:
                    os.kill(worker.pid, number)
            while any(worker.exit is None for worker in self._workers) and time.monotonic() < until:
                for worker in self._workers:
                    if worker.exit is None and (status := os.waitpid(worker.pid, os.WNOHANG))[0]:
                        worker.exit = os.waitstatus_to_exitcode(status[1])
                time.sleep(0.02)
        self._workers = []

    # --- a worker ---------------------------------------------------------------------------------------------------

    def _fork(self, first: list[int]) -> bool:
        """Fork a worker that begins with these items; return True in it when all tests have been run."""
        ears, mouth = Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        number = len(self._workers)
        if pid := os.fork():
            mouth.close()
            self._workers.append(Worker(pid, ears, list(first)))
            return False
        for worker in self._workers:
            worker.ears.close()
        ears.close()
        self._workers = []  # none of its own
        self._work(number, first, mouth)
        return True

    def _work(self, number: int, first: list[int], mouth: Connection) -> None:
        plugins = self.session.config.pluginmanager
        for name in QUIET:
            if plugins.has_plugin(name):
                plugins.unregister(name=name)
        plugins.register(Reporter(self.session.config), "terminalreporter")
        plugins.register(telling := Telling(self.session.config, mouth))
        telling.began = True
        if capture := plugins.get_plugin("capturemanager"):  # into files of its own
            capture.stop_global_capturing()
            capture.start_global_capturing()
            capture.suspend_global_capture()
        self.begin(number)
        indices = self._taken(first, mouth)
        index = next(indices, None)
        while index is not None and not self.session.shouldfail and not self.session.shouldstop:
            following = next(indices, None)  # what they share need not be made again
            item = self.session.items[index]
            after = None if following is None else self.session.items[following]
            mouth.send(("begins", index))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            mouth.send(("ends", index))
            index = following
        mouth.send(("over", self.end()))

    def _taken(self, first: list[int], mouth: Connection) -> Iterator[int]:
        yield from first
        while number := os.read(self._next, 2):
            group = int.from_bytes(number, "big")
            mouth.send(("took", group))
            yield from self._groups[group]
