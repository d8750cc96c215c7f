"""A task is one registration: what is registered is all that the rest needs, and nothing else names a task."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

import redense
from redense.cli import main
from redense.errors import RecipeError, StateError
from redense.lab.recipe.recipe import build_recipe, recipe_type, register_task
from redense.lab.runs.elsewhere import data_elsewhere
from redense.tasks import registry
from redense.tasks.faults import Checked, Fault
from redense.tasks.registry import Registration, register, task_named, tasks

PACKAGE = Path(redense.__file__).parent
# A command for pictures alone, and the extras of the package, two of which are called as the tasks that need them.
MAY_NAME_ONE = {"cli/data/cache.py", "cli/data/caching.py", "lab/doctor.py"}


class Leaves(BaseModel):
    source: str | None = None
    veins: int = 3


class Tree(BaseModel):
    height: int = 2


@pytest.fixture
def leaves(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registration]:
    module = ModuleType("leaves_of_a_test")

    def check(data: Leaves, full: bool, show: Callable[[int, int], None]) -> Checked:
        show(1, 1)
        return Checked([f"1 leaf of {data.veins} veins"], {"veins": data.veins}, [Fault("a.leaf", "is torn")], "")

    vars(module).update(check=check, recognises=lambda path: (path / "a.leaf").exists(), opens=lambda *given: given)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before = set(tasks())
    yield register(
        Registration(
            name="leaves",
            data=Leaves,
            model=Tree,
            entry=module.__name__,
            things="leaves",
            recognises="leaves_of_a_test:recognises",
            check="leaves_of_a_test:check",
            opens="leaves_of_a_test:opens",
        )
    )
    for name in set(tasks()) - before:
        del registry._TASKS[name]
    recipe_type.cache_clear()


def test_every_task_of_ours_has_all_that_a_task_can_have_and_what_it_names_is_there():
    assert list(tasks()) == ["classification", "captioning", "speech"]
    for task in tasks().values():
        for field in ("recognises", "check", "opens"):
            assert callable(task.load(field)), (task.name, field)
        assert task.metric
        assert task.tag
        assert task.verb
        assert task.sample


def test_a_registered_task_is_checked_and_recognised_by_its_data_without_a_word_elsewhere(
    leaves: Registration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.leaf").touch()
    assert main(["data", "check", str(tmp_path), "--data.veins", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 leaf of 5 veins",
        "training takes this set, without the 1 that cannot be used",
    ]


def test_a_recipe_of_a_registered_task_has_its_sections(leaves: Registration):
    section: dict[str, Any] = {"epochs": 1}
    recipe = build_recipe({"task": "leaves", "dense": section, "sparse": section, "redense": section})
    assert (recipe.data.veins, recipe.model.height) == (3, 2)


def test_what_a_task_does_not_have_is_named():
    with pytest.raises(RecipeError, match="the task captioning has no 'other'"):
        task_named("captioning").load("other")
    with pytest.raises(RecipeError, match="task must be one of classification, captioning, speech, got 'sorting'"):
        task_named("sorting")


def test_a_task_that_is_registered_with_its_sections_alone_can_be_trained_and_no_more(leaves: Registration):
    register_task("twigs", Leaves, Tree, entry="leaves_of_a_test")
    task = task_named("twigs")
    assert [field for field in ("check", "opens", "recognises", "other", "report") if task.has(field)] == []


def test_a_network_of_a_registered_task_is_evaluated_on_its_data_where_that_was_moved(
    leaves: Registration, tmp_path: Path
):
    vars(sys.modules[leaves.entry])["make"] = lambda settings: SimpleNamespace(fingerprint=settings.data.source)
    section: dict[str, Any] = {"epochs": 1}
    plain = {"task": "leaves", "data": {"source": "here"}, "dense": section, "sparse": section, "redense": section}
    (tmp_path / "recipe.yaml").write_text(build_recipe(plain).to_yaml())
    (tmp_path / "started.json").write_text('{"data": "there"}')
    recipe, _, own = data_elsewhere(tmp_path, "there")
    assert (recipe.data.source, own) == ("there", True)
    with pytest.raises(StateError, match="a network of leaves knows its own alone"):
        data_elsewhere(tmp_path, "nowhere")


def test_no_file_outside_a_task_names_it():
    names = set(tasks())
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if not path.is_relative_to(PACKAGE / "tasks") and not path.is_relative_to(PACKAGE / "report")
        if any(name in path.read_text(encoding="utf-8") for name in names)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert naming <= MAY_NAME_ONE
