"""The check of layers in `tools/layers.py`: it holds for the package, and sees every kind of import."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def layers() -> Any:
    path = Path(__file__).parents[2] / "tools" / "layers.py"
    spec = importlib.util.spec_from_file_location("layers", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "layers", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


def tree(layers: Any, folder: Path, files: dict[str, str]) -> Any:
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "redense" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return layers.Tree(folder)


def found(layers: Any, folder: Path, files: dict[str, str]) -> list[str]:
    return [text.replace(f"{folder}/", "") for text in layers.faults(tree(layers, folder, files))]


@pytest.mark.parametrize(
    "text",
    [
        "from ..lab.training.engine import Engine",
        "from redense.lab.training.engine import Engine",
        "import redense.lab.training.engine",
        "from ..lab.training import engine",
        "def train():\n    from redense.lab.training import engine",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..lab.training.engine import Engine",
        "import typing\nif typing.TYPE_CHECKING:\n    from redense.lab.training.engine import Engine",
        "class Task:\n    def make(self):\n        if self:\n            import redense.lab.training.engine",
        "from importlib import import_module\nengine = import_module('redense.lab.training.engine')",
        "import importlib\nengine = importlib.import_module('..lab.training.engine', __package__)",
        "ENTRY = 'redense.lab.training.engine:Engine'",
    ],
)
def test_an_import_of_a_higher_layer_is_found_wherever_and_however_it_is_made(text: str, layers: Any, tmp_path: Path):
    line = text.count("\n") + 1
    assert found(layers, tmp_path, {"tasks/speech.py": text, "lab/training/engine.py": ""}) == [
        f"redense/tasks/speech.py:{line}: redense.tasks.speech (tasks) imports redense.lab.training.engine (training), "
        "which is no layer below it"
    ]


def test_an_import_circle_is_named_whole_also_where_half_of_it_is_for_type_checkers(layers: Any, tmp_path: Path):
    files = {
        "lab/runs/run.py": "from .scan import first",
        "lab/runs/scan.py": "def first():\n    from . import engine",
        "lab/runs/engine.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from redense.lab.runs.run import run",
        "lab/runs/plan.py": "from .engine import Engine",
    }
    assert found(layers, tmp_path, files) == [
        "import circle: redense.lab.runs.engine, redense.lab.runs.run, redense.lab.runs.scan",
    ]


def test_a_circle_is_found_of_which_one_half_is_a_string_and_a_docstring_is_no_import(layers: Any, tmp_path: Path):
    files = {
        "schedules/named.py": "from importlib import import_module\ndef get():\n"
        "    return import_module('redense.criteria')",
        "criteria.py": '"""redense.phase"""\nfrom .schedules.named import get',
        "phase.py": "from .criteria import magnitude",
    }
    assert found(layers, tmp_path, files) == ["import circle: redense.criteria, redense.schedules.named"]


def test_a_task_may_name_its_part_of_the_report_and_nothing_else_above(layers: Any, tmp_path: Path):
    text = "REPORT = 'redense.report.tasks.speech.part:sections'\nOTHER = 'redense.report.pages:Kind'"
    files = {"tasks/speech.py": text, "report/tasks/speech/part.py": "", "report/pages.py": ""}
    (only,) = found(layers, tmp_path, files)
    assert only.startswith("redense/tasks/speech.py:2: redense.tasks.speech (tasks) imports redense.report.pages")


def test_the_core_imports_nothing_of_others_but_torch(layers: Any, tmp_path: Path):
    files = {"criteria.py": "import math\nimport torch.nn\nimport numpy as np", "lab/store.py": "import numpy"}
    assert found(layers, tmp_path, files) == [
        "redense/criteria.py:3: redense.criteria (core) imports numpy; there it may be ['torch']"
    ]


def test_what_is_to_be_light_says_by_which_way_it_brings_torch(layers: Any, tmp_path: Path):
    later = "def f():\n    import torch"
    files = {"phase.py": "from .masks import select", "masks.py": "import torch", "schedule.py": later}
    assert found(layers, tmp_path, files) == ["redense.phase brings torch: redense.phase -> redense.masks -> torch"]


def test_a_package_that_a_light_module_is_in_counts_because_it_is_imported_first(layers: Any, tmp_path: Path):
    files = {"tasks/__init__.py": "import torch", "tasks/catalog.py": ""}
    assert found(layers, tmp_path, files) == [
        "redense.tasks.catalog brings torch: redense.tasks.catalog -> redense.tasks -> torch"
    ]
