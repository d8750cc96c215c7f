"""What all tests share: how hypothesis runs, a training that takes a blink, and the command line in an empty folder."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import forked
import numpy as np
import pytest
import torch
from _pytest.logging import LogCaptureHandler, caplog_handler_key, caplog_records_key, catching_logs
from hypothesis import settings

from redense import cli
from redense.optional.torchvision import make_importable
from redense.plugins import _ALL

if TYPE_CHECKING:  # the core's tests run where the extras are not installed
    from redense.lab.recipe.recipe import Recipe

# Whichever test imports torchvision first, perhaps through Lightning or transformers, finds it importable.
make_importable()

# PyTorch formats the whole stack at every `torch.manual_seed`, once for each kind of accelerator that has not begun.
# Under pytest, whose stacks are deep, that was a twentieth of what the tests of the lab cost.
for accelerator in (torch.cuda, torch.mtia, torch.xpu):
    vars(accelerator)["traceback"] = SimpleNamespace(format_stack=list)

# Scripts that tests start in processes of their own, and the guard that every process of a test has.
collect_ignore = ["crash/killing.py", "crash/groups.py", "crash/damage.py", "fuzz", "processes", "ranks"]

# The same examples every time, so that a failure is the change's: few of them, and `make test-slow` asks the same
# properties of many. `--hypothesis-profile thorough` looks for new ones.
settings.register_profile("quick", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("many", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile("quick")

logging.getLogger().addHandler(logging.NullHandler())  # else Python prints warnings that no test asks for


@pytest.fixture
def caplog(request: pytest.FixtureRequest) -> Iterator[pytest.LogCaptureFixture]:
    """Take what is logged, as pytest's own plugin does for every test, asked or not: pyproject.toml leaves that out."""
    handler = LogCaptureHandler()
    request.node.stash[caplog_handler_key] = handler
    request.node.stash[caplog_records_key] = {"call": handler.records}
    with catching_logs(handler):
        logged = pytest.LogCaptureFixture(request.node, _ispytest=True)
        yield logged
        logged._finalize()


@pytest.fixture
def registries() -> Iterator[None]:
    """Forget whatever a test registers, of any kind: other tests list what there is."""

    def of_others() -> list[tuple[str, str]]:  # ours come when a module is imported, and stay
        return [(kind, name) for kind, table in _ALL.items() for name in table._things if table.plugin_of(name)]

    before = of_others()
    yield
    for kind, name in of_others():
        if (kind, name) not in before:
            del _ALL[kind][name]


@pytest.fixture(autouse=True, scope="session")
def _git_is_asked_once() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Ask git for the commit of a folder once: each small run spent a tenth of its time on that."""
    try:
        from redense.lab import environment
    except ImportError:  # without the extras there is no lab
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        ask = environment.commit
        asked = functools.cache(lambda folder: ask())
        patch.setattr(environment, "commit", lambda: asked(Path.cwd()))
        yield


# --- a training that takes a blink ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Idx files of 400 + 100 noisy images, 8 x 8 pixels, of four classes that can be told apart, not perfectly."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    patterns = random.integers(0, 100, (4, 8, 8))
    for part, count in (("train", 400), ("t10k", 100)):
        labels = np.arange(count) % 4
        images = patterns[labels] + random.integers(0, 156, (count, 8, 8))
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
            header = bytes((0, 0, 8, array.ndim)) + lengths
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    return folder


@pytest.fixture(scope="session")
def tiny(image_folder: Path) -> Callable[..., Recipe]:
    """Make a recipe that trains 3 x 11 steps; ``tiny(training={"keep": "best"})`` changes it."""
    from redense.lab.recipe.recipe import build_recipe

    def make(**changes: Any) -> Recipe:
        plain: dict[str, Any] = {
            "name": "tiny",
            "data": {"source": str(image_folder)},
            "model": {"name": "mlp", "widths": [8], "dropout": 0.2},
            "training": {"batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
            "dense": {"epochs": 1},
            "sparse": {"epochs": 1, "sparsity": 0.3},
            "redense": {"epochs": 1},
        }
        return build_recipe(merge(plain, changes))

    def merge(old: Any, new: Any) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict):
            return new
        return old | {key: merge(old.get(key), value) for key, value in new.items()}

    return make


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def recipe_file(tiny: Callable[..., Recipe], tmp_path: Path) -> Path:
    """The recipe of `tiny` as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny().to_yaml())
    return path


_build_once = functools.cache(cli.build)


@pytest.fixture
def one_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse with the parser of the tests before: to make it takes as long as to tell a mistake."""
    monkeypatch.setattr(cli, "build", _build_once)


@pytest.fixture
def redense(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_parser: None
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# --- several processes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, Any]]]:
    """Run a script of ``tests/`` in several processes that find each other; return what each wrote.

    A script gets its rank, the number of ranks, the file by which they meet, the file it writes its JSON to, and
    whatever else is given.
    """

    def run(script: str, world: int, *more: object, timeout: float = 100) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp("ranks")
        outputs = [folder / f"{rank}.json" for rank in range(world)]
        path = Path(__file__).parent / script
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [
            forked.start(path, rank, world, folder / "meet", outputs[rank], *more, env=environment)
            for rank in range(world)
        ]
        try:
            errors = [process.communicate(timeout=timeout)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        for process, error in zip(processes, errors, strict=True):
            assert process.returncode == 0, error
        return [json.loads(output.read_text()) for output in outputs]

    return run
