"""What is imported is declared, a plain install is enough for the core, and a verb says which extra it lacks."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

import redense
from redense.optional import extras

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from layers import imports_of  # noqa: E402  # pyright: ignore[reportAttributeAccessIssue]  # tools/ is no package

SOURCE = ROOT / "src" / "redense"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {"PIL": "pillow", "flashlight": "flashlight-text", "mlflow": "mlflow-skinny", "yaml": "PyYAML"}
"""What is imported under another name than it is installed under."""

CORE_FOLDERS = ("holding", "integrations", "layers", "masks", "methods", "optional", "scans")
"""They and the modules at the top need a plain install; the other folders may import what the extra `lab` brings."""
CALLBACKS = {"integrations/lightning.py": "lightning", "integrations/transformers.py": "transformers"}


def names(lines: list[str]) -> set[str]:
    """Return the packages that requirements name, as imports name them; those of redense's own extras included."""
    found = set[str]()
    for line in lines:
        name, inner = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", line).groups()  # pyright: ignore[reportOptionalMemberAccess]
        if name == "redense":
            found |= names([line for extra in inner.split(",") for line in EXTRAS[extra]])
        else:
            found.add(name.lower().replace("-", "_"))
    return found


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Return the packages that a module imports, each with whether it does so when it is imported itself."""
    found = list[tuple[str, bool]]()
    for node, now in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules = [node.module]
        for module in modules:
            name = module.partition(".")[0]
            if name not in sys.stdlib_module_names and name != "redense":
                found.append((MODULES.get(name, name).lower().replace("-", "_"), now))
    return found


PATHS = sorted(SOURCE.rglob("*.py"))
CORE, LAB = names(PROJECT["dependencies"]), names(EXTRAS["lab"])


def test_a_plain_install_brings_torch_numpy_and_one_small_package():
    assert {"torch", "numpy", "typing_extensions"} == CORE


def test_every_import_is_declared_and_every_declared_package_is_imported():
    users = {name for name in EXTRAS if name not in ("test", "docs", "dev", "slow", "fuzz")}
    declared = CORE | names([line for name in users for line in EXTRAS[name]])
    imported = {name for path in PATHS for name, _ in imports(path)}
    assert imported - declared == set()
    indirectly = {"ray", "onnx", "onnxscript"}  # through joblib, PyTorch's exporter
    assert declared - imported - indirectly <= {"typing_extensions"}


def test_every_declared_package_has_a_pin():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = names([line for line in lines if line and not line.startswith("#")])
    assert names([*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]) - pinned == set()


def test_a_module_is_imported_with_what_its_floor_has():
    lacking = dict[str, set[str]]()
    for path in PATHS:
        place = path.relative_to(SOURCE)
        given = set(CORE)
        if len(place.parts) > 1 and place.parts[0] not in CORE_FOLDERS:
            given |= LAB
        if extra := CALLBACKS.get(place.as_posix()):
            given |= names(EXTRAS[extra])
        lacking[place.as_posix()] = {name for name, at_once in imports(path) if at_once} - given
    assert {place: missing for place, missing in lacking.items() if missing} == {}


def test_a_folder_of_a_packages_name_is_not_that_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "datasets-of-mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    folder = importlib.import_module("datasets-of-mine")  # Python does not mind
    assert not extras.is_installed("datasets-of-mine")
    with pytest.raises(ModuleNotFoundError, match=rf"'datasets-of-mine', only the folder {re.escape(str(tmp_path))}"):
        extras.refuse_folder(folder)
    monkeypatch.delitem(sys.modules, "datasets-of-mine")


def test_whether_a_package_is_there_is_asked_so_that_a_folder_of_its_name_is_none():
    asked, plain = 0, list[str]()
    for path in PATHS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Try) or not any("ImportError" in ast.dump(one) for one in node.handlers):
                continue
            names = [alias.name for each in node.body if isinstance(each, ast.Import) for alias in each.names]
            names = [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names]
            calls = [each for each in node.body if "refuse_folder" in ast.dump(each)]
            asked += bool(calls)
            if names and not calls:
                plain.append(f"{path.relative_to(SOURCE)}: {', '.join(names)}")
    assert plain == ["lab/runs/hub.py: huggingface_hub"]  # and a name from it, which a folder has not
    assert asked > 10


def test_the_packages_of_the_lab_are_those_that_a_verb_is_told_of():
    assert {MODULES.get(name, name).lower() for name in extras.LAB} == LAB


OF_THE_LAB = ("compare", "judge", "load", "search", "tune")
"""Public names that need the extra `lab`."""


def test_a_verb_and_a_name_without_their_extra_say_the_line_that_installs_it():
    code = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(extras.LAB)!r}))  # as if they were not installed
import redense
from redense.cli import main
for name in {OF_THE_LAB!r}:
    try:
        getattr(redense, name)
    except redense.RedenseError as error:
        print(error)
print([main(words) for words in (["run", "quickstart"], ["compare", "quickstart"], ["recipes"])])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb, line in zip(("run", "compare", "recipes"), done.stderr.splitlines(), strict=True):
        assert re.fullmatch(rf"redense: redense {verb} needs \w+: pip install 'redense\[lab\]'", line)
    lines = re.findall(r"redense\.(\w+) needs \w+: pip install 'redense\[lab\]'\n", done.stdout)
    assert lines == [*OF_THE_LAB]
    assert done.stdout.endswith("[2, 2, 2]\n")


def test_help_needs_no_extra(redense):
    assert redense("--help")[0] == 0


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT
    assert "version" in PROJECT["dynamic"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == redense.__version__


# --- installed, in environments of their own --------------------------------------------------------------------------

SCRIPTS = {"test_benchmarks.py", "test_examples.py", "test_memory.py", "test_assets.py", "test_mutants.py"}
"""Tests of scripts and tools, which may need more than redense does."""


def with_helpers(path: Path) -> Iterator[Path]:
    """Give a test file and the helpers that it imports from next to it or above, theirs included."""
    yield path
    for dots, name in re.findall(r"^from (\.+)([\w.]+) import", path.read_text(encoding="utf-8"), re.MULTILINE):
        yield from with_helpers(path.parents[len(dots) - 1].joinpath(*name.split(".")).with_suffix(".py"))


def core_test_files() -> list[Path]:
    """Return the tests that import no more than a plain install, pytest and hypothesis."""
    helpers = {path.stem for path in (ROOT / "tests").rglob("*.py") if not path.name.startswith("test_")}
    given = CORE | {"pytest", "hypothesis"} | helpers

    def is_core(path: Path) -> bool:
        folder = path.relative_to(ROOT / "tests").parts[0]
        if (SOURCE / folder).is_dir() and folder not in CORE_FOLDERS:
            return False  # the conftest.py beside it may import more
        text = path.read_text(encoding="utf-8")
        floors = [name for name in re.findall(r"redense(?:\.| import )(\w+)", text) if (SOURCE / name).is_dir()]
        return set(floors) <= {*CORE_FOLDERS} and {name for name, _ in imports(path)} <= given

    files = (path for path in sorted((ROOT / "tests").rglob("test_*.py")) if path.name not in SCRIPTS)
    return [path for path in files if all(map(is_core, with_helpers(path)))]


def test_the_core_test_files_are_found():
    found = {path.relative_to(ROOT / "tests").as_posix() for path in core_test_files()}
    assert {"masks/test_selection.py", "test_controller.py", "test_schedule.py", "scans/test_sensitivity.py"} < found
    assert {"masks/test_sharded.py", "holding/test_masked.py", "test_pruning.py"} < found
    assert "methods/test_sharpness.py" not in found, (
        "what it shares with its neighbours trains through the engine of the lab"
    )
    assert not any(name.startswith(("lab/", "tasks/")) for name in found)


def made(folder: str, names: list[str]) -> set[str]:
    """Return what make and Python have made in a folder of the checkout; packages are called ``runs``, too."""
    top = {"build", "dist", "runs", "site"} if Path(folder) == ROOT else set[str]()
    found = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__")(folder, names)
    return {*found, *top.intersection(names)}


class Installed:
    """redense as a wheel in an environment of its own, used in an empty folder with an empty home."""

    def __init__(self, folder: Path, *wanted: str) -> None:
        self.folder = folder
        (folder / "empty").mkdir()
        (folder / "home").mkdir()
        self.environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH",)}
        self.environment |= {"HOME": str(folder / "home"), "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
        self.environment = {k: v for k, v in self.environment.items() if not k.startswith("REDENSE_")}
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        # Of a copy: setuptools would take in what an earlier build has left in build/lib.
        shutil.copytree(ROOT, folder / "checkout", ignore=made)
        self.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, folder / "checkout")
        shutil.rmtree(folder / "checkout")
        (wheel,) = folder.glob("redense-*.whl")
        self.run("python", "-m", "pip", "install", "-q", *(what.replace("redense", str(wheel)) for what in wanted))

    def run(self, program: str, *words: object, code: int = 0) -> str:
        done = subprocess.run(
            [self.folder / "venv" / "bin" / program, *map(str, words)],
            cwd=self.folder / "empty",
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout if code == 0 else done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_core_needs_no_more_than_a_plain_install(tmp_path: Path):
    installed = Installed(tmp_path, "redense", "pytest", "pytest-timeout", "hypothesis")
    listed = installed.run("python", "-m", "pip", "list", "--format", "freeze").lower()
    assert not any(re.search(rf"^{name}==", listed, re.MULTILINE) for name in LAB)
    here = installed.run("python", "-c", "import redense; print(redense.__file__)")
    assert Path(here.strip()).is_relative_to(tmp_path), "the wheel is not what is tested"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    for name in OF_THE_LAB:
        said = installed.run("python", "-c", f"from redense import {name}", code=1)
        assert f"redense.{name} needs " in said.splitlines()[-1]
    out = installed.run("python", *words, *core_test_files())
    assert int(re.search(r"(\d+) passed", out)[1]) > 600  # pyright: ignore[reportOptionalSubscript]
    assert installed.run("redense", "--version") == f"redense {redense.__version__}\n"
    for words in (["run", "quickstart"], ["report", "runs/x"], ["zoo"], ["doctor"], ["sensitivity", "quickstart"]):
        said = installed.run("redense", *words, code=2)
        assert re.fullmatch(rf"redense: redense {words[0]} needs \w+: pip install 'redense\[lab\]'\n", said)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheel_with_the_lab_lists_evaluates_and_trains_without_a_checkout(tmp_path: Path):
    installed = Installed(tmp_path, "redense[lab]")
    assert "imagenet/resnet50" in installed.run("redense", "recipes")
    assert installed.run("redense", "zoo", "evaluate", "quickstart").count("as its card says") == 2
    short = ["--dense.epochs", 1, "--sparse.epochs", 1, "--redense.epochs", 1]
    installed.run("redense", "run", "quickstart", "--out", "run", *short)
    made = {path.name for path in (tmp_path / "empty" / "run").iterdir()}
    assert {"model.safetensors", "report.html", "metrics.jsonl", "tensorboard"} <= made
