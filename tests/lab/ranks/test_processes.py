"""Helper processes: signals to the whole group stop none of them, and none outlives its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from redense import cli
from redense.errors import StateError
from redense.lab.ranks.processes import loading_context, noticing_lost_helpers
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.training.batches import loader
from redense.lab.training.engine import StoppedError
from redense.lab.training.network import Network

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are started otherwise elsewhere")

CHILD = """
import os, subprocess, sys, time
from redense.lab.ranks.processes import begin_helping
if len(sys.argv) > 1:
    begin_helping(int(sys.argv[1]))
    print("up", flush=True)
    os.read(0, 1)  # until the parent has gone, who held the other end
    try:
        raise ConnectionResetError("lost")
    except ConnectionResetError:
        sys.excepthook(*sys.exc_info())
    print("a traceback was printed", file=sys.stderr)
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
child = subprocess.Popen([sys.executable, __file__, str(os.getpid())], **pipes)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


LOADING = """
import os, time
from redense.lab.ranks.processes import begin_loading, loading_context

def work(up):
    begin_loading(0)
    os.write(up, b"1")
    time.sleep(60)

down, up = os.pipe()
child = loading_context().Process(target=work, args=(up,), daemon=True)
child.start()
os.read(down, 1)
"""


LATE = """
import os, signal, sys, time
from redense.lab.training import batches

class Examples:
    def __len__(self):
        return 1

    def __getitems__(self, places):
        return places

def begin_late(worker, parent=None, begin=batches.begin_loading):
    print(os.getpid(), flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    begin(worker, parent)

batches.begin_loading = begin_late
loaded = iter(batches.loader(Examples(), [[0]], workers=1))
time.sleep(60)
"""


def test_a_process_whose_parent_is_killed_before_it_prepares_batches_leaves(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(LATE)
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    with subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        parent.kill()
    since = time.monotonic()
    while _state(helper) != "Z" and time.monotonic() - since < 20:
        time.sleep(0.05)
    left = _state(helper) != "Z"
    if left:
        os.kill(helper, signal.SIGKILL)
    assert not left


def test_python_ends_with_a_process_that_still_prepares_batches(tmp_path: Path):
    script = tmp_path / "parent.py"  # as after an error, whose traceback holds the loader
    script.write_text(LOADING)
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=30)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_process_that_is_killed_while_it_hands_over_a_batch_is_named(error: Exception):
    batches: Any = iter(loader(cast("Any", range(64)), [[0]] * 64, workers=1))

    def hand_over(timeout: float) -> None:  # the connection ends a moment before the process does
        threading.Timer(0.2, batches._workers[0].kill).start()
        raise error

    batches._data_queue.get = hand_over
    named = pytest.raises(StateError, match=r"^a process that prepares batches was killed.*data.workers")
    with named, noticing_lost_helpers():
        next(batches)
    batches._shutdown_workers()  # which would raise PyTorch's own error, were it to come only now


def test_that_all_is_done_is_said_although_a_process_was_killed_as_it_looked():
    context = loading_context()
    event = context.Event()

    def look() -> None:
        with getattr(event, "_cond", contextlib.nullcontext()):  # the lock that one of Python has
            os.kill(os.getpid(), signal.SIGKILL)

    def see() -> None:
        sys.exit(7 if event.is_set() else 0)

    def ended(target: Callable[[], None]) -> int:
        child = context.Process(target=target, daemon=True)
        child.start()
        child.join()
        return child.exitcode

    assert (ended(see), ended(look)) == (0, -signal.SIGKILL)
    setting = threading.Thread(target=event.set, daemon=True)
    setting.start()
    setting.join(20)
    assert not setting.is_alive()
    assert ended(see) == 7


LOST = """
import sys, threading
from redense.errors import StateError
from redense.lab.ranks.processes import loading_context, noticing_lost_helpers

def fail():
    raise ValueError("released too many times")

class Closed:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        raise OSError(self.number, f"of number {self.number}")

def hand_over():  # as multiprocessing.resource_sharer says it
    try:
        raise ConnectionResetError("nobody takes it")
    except ConnectionResetError:
        sys.excepthook(*sys.exc_info())

def in_thread(name):
    thread = threading.Thread(target=fail, name=name)
    thread.start()
    thread.join()

in_thread("QueueFeederThread")
try:
    with noticing_lost_helpers():
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
except StateError:
    in_thread("QueueFeederThread")
    in_thread("another")
    thread = threading.Thread(target=hand_over)
    thread.start()
    thread.join()
    Closed(9), Closed(28)

queue = loading_context().Queue()
queue._on_queue_feeder_error(OSError(9, "Bad file descriptor"), None)
queue._on_queue_feeder_error(TypeError("cannot pickle a lock"), None)
"""


def test_a_queue_that_fails_as_it_is_closed_after_a_lost_helper_prints_no_traceback(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(LOST)
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count("Exception in thread") == 2  # before the loss, and of another thread
    assert "Exception in thread another:" in done.stderr
    assert "nobody takes it" not in done.stderr
    assert "Bad file descriptor" not in done.stderr
    assert "of number 9" not in done.stderr
    assert "of number 28" in done.stderr
    assert "TypeError: cannot pickle a lock" in done.stderr


def test_an_error_of_the_data_is_no_lost_helper():
    class Broken:
        def __len__(self) -> int:
            return 1

        def __getitems__(self, places: list[int]) -> None:
            raise ConnectionResetError("of the data")

    for workers in (0, 1):
        with pytest.raises(ConnectionResetError, match="of the data"), noticing_lost_helpers():
            next(iter(loader(cast("Any", Broken()), [[0]], workers=workers)))


def test_a_helper_leaves_with_its_parent_without_a_word_and_with_no_signal_before(tmp_path: Path):
    script = tmp_path / "parent.py"
    script.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, **pipes)
    assert parent.stdout is not None
    helper = int(parent.stdout.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(helper, number)
    time.sleep(0.2)
    os.kill(helper, 0)  # it is there
    parent.kill()
    assert parent.communicate()[1] == ""  # it ends when the helper has gone, whose standard error is the same
    since = time.monotonic()
    while Path(f"/proc/{helper}").exists() and "Z" not in _state(helper) and time.monotonic() - since < 20:
        time.sleep(0.05)
    assert not Path(f"/proc/{helper}").exists() or "Z" in _state(helper)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.mark.slow
def test_sigterm_to_the_processes_that_prepare_batches_loses_nothing(
    tiny: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = tiny(data={"workers": 1, "flip": True})
    train_run(new_run(tiny(data={"flip": True}), tmp_path / "alone"))
    asked: list[int] = []
    before = set(multiprocessing.active_children())  # of other tests
    backward = Network.backward

    def signalled(network: Network, *given: Any) -> Any:
        own = set(multiprocessing.active_children()) - before
        asked.append(len(own))
        if len(asked) == 15:
            for child in own:
                assert child.pid is not None
                os.kill(child.pid, signal.SIGTERM)
        return backward(network, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "backward", signalled)
        patch.setattr("redense.lab.training.batches.usable_cores", lambda: 2)
        with pytest.raises(StoppedError):
            train_run(new_run(recipe, tmp_path / "run"), stop=lambda: len(asked) >= 15)
    assert asked[-1] == 1
    train_run(tmp_path / "run")
    model = "model.safetensors"
    assert (tmp_path / "run" / model).read_bytes() == (tmp_path / "alone" / model).read_bytes()


def test_a_helper_that_is_killed_is_a_line():
    def fail(text: str) -> None:
        with noticing_lost_helpers():
            raise RuntimeError(text)

    with pytest.raises(StateError, match=r"a process that prepares batches was killed.*fewer data.workers"):
        fail("DataLoader worker (pid 3) is killed by signal: Killed. ")
    with pytest.raises(RuntimeError, match="another thing"):
        fail("another thing")


TRACKERS = """
import os, signal, time
from multiprocessing import resource_tracker
from joblib.externals.loky.backend import resource_tracker as of_joblib
from redense.lab.ranks.processes import loading_context, start_tracker
start_tracker(of_joblib.ensure_running)
loading_context()
trackers = [one._resource_tracker._pid for one in (resource_tracker, of_joblib)]
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
    for tracker in trackers:
        os.kill(tracker, number)
time.sleep(0.3)
print([os.waitpid(tracker, os.WNOHANG)[0] for tracker in trackers])
"""


def test_no_signal_to_the_group_ends_what_cleans_up_after_helpers(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    words = [sys.executable, "-c", TRACKERS]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert (done.stdout, done.stderr) == ("[0, 0]\n", "")


def test_a_job_of_joblib_prepares_its_batches_in_forks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "loky")
    assert loading_context() is not None  # joblib's own can start nothing but jobs
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: "spawn")
    assert loading_context() is None
