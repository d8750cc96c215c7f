"""Where the tests live: a home, caches and a store of their own, and a guard that fails a test that leaves them.

See ``tests/processes`` for the guard. Nothing here imports more than pytest and the standard library: what is read or
asked by an import is watched, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import itertools
import json
import os
import pwd
import resource
import shutil
import site
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
PROCESSES = ROOT / "tests" / "processes"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"]
PROGRAMS = [
    "bash",
    "git",
    "mount",
    "umount",
    "sha256sum",
    "lscpu",
    "uname",
    "false",
    "gcc",
    "g++",
    "ldconfig",
    *BROWSERS,
]
"""What a quick test may start beside Python, and beside what lies in the clone or in a temporary folder."""

_OURS = ("REDENSE_", "XDG_", "HF_", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "PIP_CACHE_DIR")
_KEPT = ("REDENSE_TEST_", "REDENSE_BROWSER", "XDG_RUNTIME_DIR")

DEAREST = 15.0
"""Seconds of processor time that a quick test may cost. What it has forked counts in the sum alone."""
BUDGET = 420
"""Seconds of processor time that all quick tests together are to cost. What fails is `make test`'s ``--budget``."""
REFERENCE = 0.33
"""Seconds of processor time that `_work` takes on the processor that budgets are told for, an AMD EPYC."""

_BEGAN = pytest.StashKey[float]()

PREFIX = "redense-tests-"
HELD = "held"


def take_away_forgotten(inside: Path, now: float) -> list[Path]:
    """Remove the folders of test processes that were killed; return their paths.

    Each process holds a lock in its folder, which the kernel takes back however the process ends. A lock file that is
    less than a minute old may belong to a process that is about to lock it.
    """
    gone = list[Path]()
    for held in inside.glob(f"{PREFIX}*/{HELD}"):
        with contextlib.suppress(OSError):  # locked, another user's, or another process removes it just now
            if held.is_symlink() or held.parent.is_symlink() or now - held.stat().st_mtime < 60:
                continue
            with held.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(held.parent)
                gone.append(held.parent)
    return gone


take_away_forgotten(Path(tempfile.gettempdir()), time.time())
FOLDER = Path(tempfile.mkdtemp(prefix=PREFIX))
"""Made by each test process, taken away at its end."""
_held = (FOLDER / HELD).open("w")  # as long as this process lives
fcntl.flock(_held, fcntl.LOCK_EX)


def _rules() -> str:
    homes = {pwd.getpwuid(os.getuid()).pw_dir, os.environ.get("HOME", "/root")} - {"/"}
    here = [ROOT, tempfile.gettempdir(), site.getusersitepackages(), sys.prefix, sys.base_prefix, *sys.path]
    opened = {str(form) for path in here if path for form in (Path(path), Path(path).resolve())} - homes
    return json.dumps(
        {
            "closed": sorted(homes),
            "open": sorted(opened),
            "programs": [*PROGRAMS, Path(os.environ.get("REDENSE_BROWSER", "/")).name],
        }
    )


def _settle() -> None:
    """Set the environment of this process and of those that it starts, before anything of redense is imported."""
    rules = os.environ.get("REDENSE_TEST_RULES") or _rules()  # a test that runs pytest has told them
    for name in list(os.environ):
        if name.startswith(_OURS) and not name.startswith(_KEPT):
            del os.environ[name]
    paths = [str(PROCESSES), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ |= {
        "REDENSE_TEST_RULES": rules,
        "REDENSE_TEST_BREACHES": str(FOLDER / "breaches"),
        "REDENSE_TEST_FETCHED": os.environ.get("REDENSE_TEST_FETCHED") or str(FOLDER / "fetched"),
        "REDENSE_STORE": "none",  # a test that needs a store of phases names it
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # more fight over the cores, and forks need one
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path)),
    }
    if not os.environ.get("REDENSE_TEST_CUDA"):  # `make test-cuda`; else what a test says does not hang on the machine
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    _move(FOLDER / "home")
    if str(PROCESSES) not in sys.path:
        sys.path.insert(0, str(PROCESSES))
    if not hasattr(sys.modules.get("sitecustomize"), "Breach"):  # else Python has imported it at its start
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")


def _folder() -> Path:
    """Return the folder of this process: `FOLDER`, or what a worker has inside it."""
    return Path(os.environ["REDENSE_TEST_BREACHES"]).parent


def _move(home: Path) -> None:
    """Make ``home`` the user's, with what the libraries keep below it."""
    home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)


def _move_on() -> None:
    """Give the next test a home: the one that there is, where nobody has left anything in it."""
    home = Path(os.environ["HOME"])
    if home.parent.name != "homes" or any(home.iterdir()):
        _move(_folder() / "homes" / str(next(_numbers)))


_settle()


class Breaches:
    """The breaches that have been written and not yet been told."""

    def __init__(self) -> None:
        self.told = 0

    def take(self) -> list[str]:
        """Return the new ones, a sentence each."""
        path = Path(os.environ["REDENSE_TEST_BREACHES"])
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        new, self.told = lines[self.told :], len(lines)
        return new


_breaches = Breaches()
_numbers = itertools.count(1)


_frozen = {"modules": 0}


def _freeze() -> None:
    """Let the garbage collector pass over what was imported: a tenth of the tests' time were its walks over modules."""
    if len(sys.modules) > _frozen["modules"] + 100:
        _frozen["modules"] = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_collection_finish() -> None:
    """Pass over what the tests have imported."""
    _freeze()


@pytest.fixture
def breaches() -> Breaches:
    """Take what the guard has written, for a test of the guard."""
    return _breaches


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Give each test an empty home. A slow one may use the network, and shares what others of the run fetched.

    Garbage is collected between quick tests and not in one: a `DSD` that an earlier test left in its sparse phase says
    so in the log when it goes, and the test that reads the log then was told of it.
    """
    _move_on()
    item.stash[_BEGAN] = _processor_seconds()
    if _is_slow(item):  # too much to keep: it trains for minutes
        gc.collect()
    else:
        gc.disable()
    with pytest.MonkeyPatch.context() as patch:
        if _is_slow(item):
            patch.setenv("REDENSE_TEST_FREE", "1")
            if "REDENSE_CACHE" not in os.environ:
                patch.setenv("REDENSE_CACHE", os.environ["REDENSE_TEST_FETCHED"])
        try:
            return (yield)
        finally:
            gc.enable()
            _freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Fail a test whose fixtures leave its place."""
    yield
    _tell(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves its place."""
    yield
    _tell(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that left its place at its end, and note what it costs."""
    yield
    _tell(item)
    spent = _processor_seconds() - item.stash[_BEGAN]
    if spent > DEAREST and not _is_slow(item):  # said and no failure: processors differ
        _dear.append(f"{item.nodeid} cost {spent:.1f} s of processor time")


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def _processor_seconds() -> float:
    """Return what this process and those that it has waited for have computed, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _tell(item: pytest.Item) -> None:
    if said := _breaches.take():
        pytest.fail(f"{item.nodeid} {'; '.join(dict.fromkeys(said))}", pytrace=False)


# --- which process tests what ---------------------------------------------------------------------------------------

TOGETHER = {
    f"tests/lab/{name}.py": "some_arms"
    for name in (
        "arms/test_arms",
        "arms/test_cards",
        "arms/test_of_recipe",
        "arms/test_rivals",
        "comparison/test_results",
        "comparison/test_grid",
    )
}
TOGETHER |= {
    f"tests/report/{name}.py": "browser" for name in ("test_browser", "server/test_serving", "paper/test_printing")
}
TOGETHER |= dict.fromkeys(
    (
        "src/redense/tasks/weights.py",
        "tests/lab/training/test_pretrained.py",
        "tests/tasks/classification/test_networks.py",
    ),
    "timm",
)
"""Files whose tests share a fixture of the session that takes long to make, or a library that takes long to import."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--workers``."""
    says = "fail if the tests cost more seconds of processor time than this, on an AMD EPYC; a slower one has more"
    parser.addoption("--budget", type=float, help=says)
    parser.addoption("--workers", type=int, default=1, help="processes that share the tests: tests/processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Share the tests out among processes, a file to one as a whole, so that what its tests share is trained once."""
    options = session.config.option
    if options.workers < 2 or options.collectonly or options.usepdb or session.testsfailed:
        return None
    if options.basetemp:
        raise pytest.UsageError("each of the --workers would clear the folder of --basetemp: set TMPDIR instead")
    from workers import Workers

    if any("ranks" in getattr(item, "fixturenames", ()) or hasattr(_module(item), "forked") for item in session.items):
        importlib.import_module("forked").begin()
    if any(item.get_closest_marker("hypothesis") for item in session.items):
        # Its table of characters takes 1.5 s in a fresh clone: once, not in each worker.
        importlib.import_module("hypothesis.internal.charmap").charmap()
    workers = Workers(session, options.workers, _group, _begin_worker, lambda: _dear)
    workers.run()
    _dear.extend(workers.said)
    return True


def _group(item: pytest.Item) -> str:
    file = item.nodeid.partition("::")[0]
    return TOGETHER.get(file, file)


def _module(item: pytest.Item) -> object:
    return getattr(item, "module", None)


def _begin_worker(number: int) -> None:
    """Give a worker homes and breaches of its own, in a folder inside that of the process that it was forked from."""
    folder = FOLDER / f"worker-{number}"
    os.environ["REDENSE_TEST_BREACHES"] = str(folder / "breaches")
    _breaches.told = 0
    _move(folder / "home")


@pytest.hookimpl(trylast=True)  # of those that are not deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no worker is left alone with one of them at the end."""
    long = {item.path for item in items if item.get_closest_marker("timeout")}
    items.sort(key=lambda item: item.path not in long)  # stable: the order is otherwise that of the folders


# --- what all of them cost ------------------------------------------------------------------------------------------

_dear: list[str] = []
_over: list[str] = []


def _work() -> None:
    """Compute something fixed, in Python: tests spend their time there and in imports, little of it in kernels."""
    records = [{"step": step, "loss": step / 7, "name": f"layer{step % 9}.weight"} for step in range(2000)]
    for _ in range(60):
        json.loads(json.dumps(list(map(dict, records))))


def _slowness() -> float:
    """Return how much longer than the reference this processor takes, as it is now; 1 where it is faster."""
    before = _processor_seconds()
    _work()
    return max(1.0, (_processor_seconds() - before) / REFERENCE)


def too_much(spent: float, budget: float, slowness: float) -> str:
    """Return what to say of tests that cost more than their budget, or nothing."""
    if spent <= budget * slowness:
        return ""
    allowed = f"{budget:.0f} s, times {slowness:.2f} for this processor"
    return f"the tests cost {spent:.0f} s of processor time and have {allowed}: CONTRIBUTING.md says how to save"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the process that others were forked from, so that it counts, and fail if all cost more than the budget."""
    if forked := sys.modules.get("forked"):
        forked.stop()
    budget = session.config.option.budget
    if budget is None or _folder() != FOLDER:  # of a worker: the first process judges the sum
        return
    if said := too_much(_processor_seconds(), budget, _slowness()):
        _over.append(said)
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the tests cost, processes that they started included."""
    for line in _dear:
        terminalreporter.write_line(f"{line}: mark it slow, or make it smaller")
    for line in _over:
        terminalreporter.write_line(f"ERROR {line}", red=True)
    spent = _processor_seconds()
    terminalreporter.write_line(f"processor time: {spent:.0f} s; the quick tests together have {BUDGET} s")


def pytest_unconfigure() -> None:
    """Take away the homes of this process's tests."""
    shutil.rmtree(_folder(), ignore_errors=True)
