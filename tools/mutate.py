"""Mutation testing: change a module in every small way, one at a time, and see whether the tests notice.

    OMP_NUM_THREADS=1 python tools/mutate.py                      # all modules of tools/mutants.json
    OMP_NUM_THREADS=1 python tools/mutate.py redense.schedule     # one; again goes on where it was stopped
    python tools/mutate.py --list redense.schedule                # what is still unexplained

The tests are collected once, and each mutant is a fork of the process that has done it: the body of a function is
exchanged (`function.__code__`), or its defaults, or a constant of the module, and the tests that reach the changed line
are run, quickest first, until one fails. What else there is (a decorator, a field of a class) needs the module imported
again; it runs in a fork from before redense was imported. What takes three times the processor time of the unchanged
tests is counted as killed. The tests take part as they are, but hypothesis does not shrink what it finds.

The tests of each module, and why a surviving mutant is none that a test could kill, are in ``tools/mutants.json``; the
results in ``benchmarks/results/mutants-MODULE.json``. A survivor that is not explained there is an error.

Written here, because mutmut leaves out decorated functions (properties, classmethods) and everything outside of
functions, and cosmic-ray starts the tests anew for each mutant, which costs the seconds of importing torch.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib.util
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))

import pytest  # noqa: E402  # after the path is set
from mutants import Mutant, mutants  # noqa: E402  # after the path is set

PLAN = ROOT / "tools" / "mutants.json"
RESULTS = ROOT / "benchmarks" / "results"
PYTEST = ["-q", "-p", "no:cacheprovider", "-o", "timeout=0"]
WALL = 900  # seconds that a mutant may wait for the processor or sleep; its work is limited by processor time


@dataclass
class Baseline:
    """What the unchanged module does: which tests reach each line, and how long each test takes (processor time)."""

    tests_of_line: dict[int, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    all_seconds: float = 0.0

    def order(self, mutant: Mutant) -> list[str]:
        """The tests that reach the mutant, quickest first; for a change outside of a body, all of them."""
        if mutant.function is None:
            return sorted(self.seconds, key=self.seconds.__getitem__)
        reach = {test for line in mutant.lines for test in self.tests_of_line.get(line, ())}
        return sorted(reach, key=self.seconds.__getitem__)


class Session:
    """The pytest plugin of every child and of the collecting parent: what to do in place of running all the tests."""

    def __init__(self, loop: Callable[[pytest.Session], None], finder: Any = None) -> None:
        self.loop, self.finder = loop, finder
        self.failed: list[str] = []

    def pytest_sessionstart(self) -> None:
        # Now before pytest's own finder, which takes the modules that are named on the command line.
        if self.finder:
            sys.meta_path.insert(0, self.finder)

    def pytest_collection(self) -> None:
        # Not earlier: pytest wants to rewrite hypothesis's asserts first, and conftest.py loads a profile of its own.
        from hypothesis import Phase, settings

        phases = [Phase.explicit, Phase.generate]
        quick = settings.get_profile("quick")
        settings.register_profile("mutation", quick, database=None, phases=phases, max_examples=60)
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.loop(session)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def run(self, items: list[pytest.Item]) -> str | None:
        """Run until one fails; return which."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return self.failed[0]
        return None


# --- processes ------------------------------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], Any], *, cpu_seconds: float | None = None) -> tuple[str, Any]:
    """Run in a forked child that prints nothing; return how it ended (ok, timeout, crash) and what the work gave."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(reading)
        quiet = os.open(os.devnull if "MUTATE_LOUD" not in os.environ else "/dev/stderr", os.O_RDWR)
        for stream in (1, 2):
            os.dup2(quiet, stream)
        if cpu_seconds is not None:
            limit = int(cpu_seconds) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        code = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    os.close(writing)
    chunks: list[bytes] = []
    until = time.monotonic() + WALL
    os.set_blocking(reading, False)
    status = None
    while status is None and (cpu_seconds is None or time.monotonic() < until):
        with contextlib.suppress(BlockingIOError):
            chunks.append(os.read(reading, 1 << 20))
        done, ended = os.waitpid(child, os.WNOHANG)
        if done:
            status = ended
        else:
            time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and what it may have started
    if status is None:
        os.waitpid(child, 0)
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(reading, 1 << 20):
            chunks.append(chunk)
    os.close(reading)
    if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)):
        return "timeout", None
    if status != 0:
        return "crash", None
    return "ok", json.loads(b"".join(chunks))


# --- the baseline ---------------------------------------------------------------------------------------------------


def measure(source: Path, tests: list[str]) -> Baseline:
    """Run the tests unchanged, once; learn which lines of the module each reaches and how long it takes."""
    paths = [source, *(path for test in tests for path in _files_of(test))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / f"redense-mutants-{digest}.json"

    def work() -> dict[str, Any]:
        import coverage

        cov = coverage.Coverage(include=[str(source)], data_file=None, branch=False, config_file=False)
        seconds: dict[str, float] = {}

        def loop(session: pytest.Session) -> None:
            for item, following in zip(session.items, [*session.items[1:], None], strict=True):
                cov.switch_context(item.nodeid)
                before = time.process_time()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                seconds[item.nodeid] = time.process_time() - before

        plugin = Session(loop)
        cov.start()
        pytest.main([*PYTEST, *tests], plugins=[plugin])
        cov.stop()
        contexts = cov.get_data().contexts_by_lineno(str(source))
        lines = {line: [test for test in reach if test] for line, reach in contexts.items()}
        return {"lines": lines, "seconds": seconds, "failed": plugin.failed, "cpu": time.process_time()}

    state, got = ("ok", json.loads(kept.read_text())) if kept.exists() else in_a_fork(work)
    if state != "ok":
        raise SystemExit(f"the tests of {source} ended in a {state}")
    if got["failed"]:
        raise SystemExit(f"the tests fail without any mutant: {', '.join(got['failed'])}")
    kept.write_text(json.dumps(got))
    return Baseline({int(line): reach for line, reach in got["lines"].items()}, got["seconds"], got["cpu"])


def _files_of(test: str) -> list[Path]:
    if test.startswith("-"):  # an option of pytest
        return []
    return [ROOT / test, *(ROOT / test).parent.glob("conftest.py")]


# --- one mutant -----------------------------------------------------------------------------------------------------


def outcome(state: str, killer: str | None) -> dict[str, Any]:
    if state != "ok":
        return {"status": "killed", "by": state}
    return {"status": "killed", "by": killer} if killer else {"status": "survived"}


def run_cold(module: str, source: Path, mutant: Mutant, tests: list[str], baseline: Baseline) -> dict[str, Any]:
    """Import the changed module in place of the real one, and run all its tests."""

    def work() -> str | None:
        class Finder:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
                if name != module:
                    return None
                return importlib.util.spec_from_loader(name, Loader, origin=str(source))  # pyright: ignore[reportArgumentType]

        class Loader:
            @staticmethod
            def create_module(spec: ModuleSpec) -> None:
                return None

            @staticmethod
            def exec_module(loaded: types.ModuleType) -> None:
                loaded.__file__ = str(source)
                exec(mutant.compiled(str(source)), loaded.__dict__)

        sys.meta_path.insert(0, Finder)  # pyright: ignore[reportArgumentType]
        order = {test: index for index, test in enumerate(baseline.order(mutant))}

        def loop(session: pytest.Session) -> None:
            plugin.run(sorted(session.items, key=lambda item: order.get(item.nodeid, 0)))

        plugin = Session(loop, Finder)
        code = pytest.main([*PYTEST, *tests], plugins=[plugin])
        if plugin.failed:
            return plugin.failed[0]
        return None if code == 0 else f"pytest ended with {int(code)}: the tests could not be collected"

    return outcome(*in_a_fork(work, cpu_seconds=3 * baseline.all_seconds + 20))


def run_hot(change: Callable[[], None], items: list[pytest.Item], plugin: Session, cpu: float) -> dict[str, Any]:
    """Make the change in the loaded modules, and run the tests that reach the line."""

    def work() -> str | None:
        change()
        return plugin.run(items)

    return outcome(*in_a_fork(work, cpu_seconds=cpu))


class Loaded:
    """A module that is loaded, and how to make a mutant's change in it without importing anything again."""

    def __init__(self, module: str, source: Path) -> None:
        self.module, self.source = sys.modules[module], source
        self.functions: dict[tuple[int, str], list[types.FunctionType]] = {}
        gc.unfreeze()  # what the tests have frozen is in no list of objects
        for thing in gc.get_objects():
            if type(thing) is types.FunctionType and Path(thing.__code__.co_filename).resolve() == source:
                key = thing.__code__.co_firstlineno, thing.__code__.co_qualname
                self.functions.setdefault(key, []).append(thing)

    def change(self, mutant: Mutant) -> Callable[[], None] | None:
        """Return what makes the change; ``None`` if the module must be imported anew."""
        whole = mutant.compiled(str(self.source))
        if mutant.function:
            live = self.functions[mutant.function]
            code = next(code for code in codes_in(whole) if (code.co_firstlineno, code.co_qualname) == mutant.function)
            return lambda: self._set_code(live, code)
        if mutant.kind == "default":
            live = next(functions for (_, qualname), functions in self.functions.items() if qualname == mutant.qualname)
            return lambda: self._set_defaults(live, whole, mutant.qualname)
        if mutant.kind == "constant":
            return lambda: self._set_constant(whole, mutant.qualname)
        return None

    @staticmethod
    def _set_code(live: list[types.FunctionType], code: types.CodeType) -> None:
        for function in live:
            function.__code__ = code

    def _again(self, whole: types.CodeType) -> types.ModuleType:
        other = types.ModuleType(self.module.__name__)
        other.__dict__.update(__file__=str(self.source), __package__=self.module.__package__)
        exec(whole, other.__dict__)
        return other

    def _set_defaults(self, live: list[types.FunctionType], whole: types.CodeType, qualname: str) -> None:
        thing: Any = self._again(whole)
        for name in qualname.split("."):
            thing = vars(thing)[name]
        new = getattr(thing, "__func__", thing)
        for function in live:
            function.__defaults__, function.__kwdefaults__ = new.__defaults__, new.__kwdefaults__

    def _set_constant(self, whole: types.CodeType, name: str) -> None:
        old, new = getattr(self.module, name), getattr(self._again(whole), name)
        for module in list(sys.modules.values()):  # and wherever it was imported to
            if getattr(module, name, None) is old and "redense" in getattr(module, "__name__", ""):
                setattr(module, name, new)


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from codes_in(constant)


# --- a module -------------------------------------------------------------------------------------------------------


def mutate(module: str, tests: list[str], explained: dict[str, str], only: tuple[str, ...]) -> list[str]:
    """Run every mutant of a module that has no result yet; return the survivors that nobody explained."""
    source = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    every = mutants(source.read_text())
    results = read_results(module)
    results = {mutant.name: results[mutant.name] for mutant in every if mutant.name in results}
    todo = [mutant for mutant in every if mutant.name not in results and mutant.name.startswith(only)]
    print(f"{module}: {len(every)} mutants, {len(todo)} to run", flush=True)
    if todo:
        baseline = measure(source, tests)
        print(f"  {len(baseline.seconds)} tests, {baseline.all_seconds:.0f} s of processor time", flush=True)

        def note(mutant: Mutant, result: dict[str, Any]) -> None:
            results[mutant.name] = {"line": mutant.line, **result}
            if result["status"] != "killed":
                print(f"  {source.name}:{mutant.line} {result['status']}: {mutant.name}", flush=True)
            write_results(module, every, results)

        def loop(session: pytest.Session) -> None:
            by_name = {item.nodeid: item for item in session.items}
            loaded = Loaded(module, source)
            killers: dict[object, list[str]] = {}
            gc.freeze()  # the children share the memory of what is there now
            for mutant in todo:
                change = loaded.change(mutant)
                if not change:
                    continue
                order = baseline.order(mutant)
                # What killed the neighbours comes first: most mutants die of one test.
                likely = [test for test in reversed(killers.get(mutant.function, [])) if test in order][:4]
                order = list(dict.fromkeys([*likely, *order]))
                cpu = 3 * sum(baseline.seconds[test] for test in order) + 10
                result = run_hot(change, [by_name[test] for test in order], plugin, cpu)
                if result.get("by") in by_name:
                    killers.setdefault(mutant.function, []).append(result["by"])
                note(mutant, result)

        plugin = Session(loop)
        in_a_fork_of_its_own(lambda: pytest.main([*PYTEST, *tests], plugins=[plugin]))
        results = read_results(module)
        for mutant in todo:
            if mutant.name not in results:
                note(mutant, run_cold(module, source, mutant, tests, baseline))
        results = read_results(module)
    survivors = [mutant for mutant in every if results.get(mutant.name, {}).get("status") == "survived"]
    killed = sum(result["status"] == "killed" for result in results.values())
    unexplained = [mutant for mutant in survivors if not reason_for(mutant.name, explained)]
    print(f"  {killed} killed, {len(survivors)} survived, of which {len(survivors) - len(unexplained)} are explained")
    for key in explained:
        if only == ("",) and not any(reason_for(mutant.name, {key: ""}) is not None for mutant in survivors):
            print(f"  explained, but no survivor: {key}")
    return [f"{source.relative_to(ROOT)}:{mutant.line} {mutant.name}" for mutant in unexplained]


def reason_for(name: str, explained: dict[str, str]) -> str | None:
    """Return why a mutant cannot be killed; a key that ends in ``*`` is the beginning of several names."""
    keys = (key for key in explained if name == key or (key.endswith("*") and name.startswith(key[:-1])))
    return next((explained[key] for key in keys), None)


def in_a_fork_of_its_own(work: Callable[[], int]) -> None:
    """Leave this process as it is, without redense, for the next module's cold mutants."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(work())
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit("the run broke off; what it has found is kept, and it goes on from there")


def read_results(module: str) -> dict[str, dict[str, Any]]:
    path = results_of(module)
    return json.loads(path.read_text())["mutants"] if path.exists() else {}


def write_results(module: str, every: list[Mutant], results: dict[str, dict[str, Any]]) -> None:
    import torch

    data = {
        "module": module,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "made": len(every),
        "killed": sum(result["status"] == "killed" for result in results.values()),
        "survived": sum(result["status"] == "survived" for result in results.values()),
        "mutants": {mutant.name: results[mutant.name] for mutant in every if mutant.name in results},
    }
    results_of(module).write_text(json.dumps(data, indent=1) + "\n")


def results_of(module: str) -> Path:
    return RESULTS / f"mutants-{module.removeprefix('redense.').replace('.', '-')}.json"


def main() -> int:
    parser = argparse.ArgumentParser(description="mutation testing, see the head of this file")
    parser.add_argument("module", nargs="*", help="such as redense.masks; all of tools/mutants.json without one")
    parser.add_argument("--only", nargs="+", default=[""], help="run the mutants whose names begin so: _flip_test")
    parser.add_argument("--survivors", action="store_true", help="run those again that survived")
    parser.add_argument("--anew", action="store_true", help="forget earlier results")
    parser.add_argument("--list", action="store_true", help="run nothing; name the survivors that are not explained")
    given = parser.parse_args()
    os.chdir(ROOT)
    plan = json.loads(PLAN.read_text())
    import numpy  # noqa: F401  what every child needs, loaded once
    import torch

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)]).step()  # the first step imports for seconds
    unexplained: list[str] = []
    for module in given.module or list(plan):
        if given.anew:
            results_of(module).unlink(missing_ok=True)
        if given.survivors:
            kept = {name: r for name, r in read_results(module).items() if r["status"] == "killed"}
            results_of(module).write_text(json.dumps({"mutants": kept}))
        if given.list:
            explained = plan[module]["explained"]
            results = read_results(module).items()
            unexplained += [n for n, r in results if r["status"] == "survived" and not reason_for(n, explained)]
        else:
            unexplained += mutate(module, plan[module]["tests"], plan[module]["explained"], tuple(given.only))
    for line in unexplained:
        print(f"not explained: {line}")
    return bool(unexplained)


if __name__ == "__main__":
    raise SystemExit(main())
