"""A module that was edited and not loaded again is refused: the code of before would run under the key of now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import redense
from redense.errors import PluginError
from redense.files.code.loaded import check_loaded
from redense.files.pieces import pieces_of, values_of
from redense.files.sources import code_of
from redense.schedules.named_criteria import CRITERIA

NAMES = ("mine_for_loading", "helper_for_loading")
MINE = "import redense\nA = 1\n@redense.criterion('loaded')\ndef mine(parameter, seed):\n"
MINE += "    import helper_for_loading\n    return helper_for_loading.scale()\n"


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "mine_for_loading.py").write_text(MINE)
    (tmp_path / "helper_for_loading.py").write_text("def scale():\n    return 1\n")
    yield tmp_path
    CRITERIA.pop("loaded", None)
    for name in NAMES:
        sys.modules.pop(name, None)


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "# edited\n")


def test_what_was_edited_since_it_registered_something_is_refused_until_it_is_loaded_again(folder: Path):
    module: Any = importlib.import_module("mine_for_loading")
    edit(folder / "mine_for_loading.py")
    with pytest.raises(PluginError, match=r"^mine_for_loading.py was edited since this process loaded it.*restart, or"):
        code_of(redense.criteria.get_criterion("loaded"))
    (folder / "mine_for_loading.py").write_text(MINE)
    before = code_of(module.mine)
    edit(folder / "mine_for_loading.py")
    importlib.reload(module)
    assert code_of(module.mine) != before
    assert code_of(module.mine) is not None


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_helper_that_was_edited_after_the_first_look_is_refused(folder: Path, is_loaded: bool):
    mine = importlib.import_module("mine_for_loading").mine
    if is_loaded:
        mine(None, 0)
    assert code_of(mine) == code_of(mine)
    assert pieces_of(mine) == pieces_of(mine)
    mine(None, 0)
    edit(folder / "helper_for_loading.py")
    for look in (code_of, pieces_of):
        with pytest.raises(PluginError, match=r"^helper_for_loading.py was edited"):
            look(mine)
    del sys.modules["helper_for_loading"]
    importlib.import_module("helper_for_loading")
    assert code_of(mine) is not None


def test_a_function_runs_as_it_is_loaded_here_and_is_sent_to_no_process_that_would_load_another(folder: Path):
    mine = importlib.import_module("mine_for_loading").mine
    before = pieces_of(mine)
    edit(folder / "mine_for_loading.py")
    assert pieces_of(mine) == before
    with pytest.raises(PluginError, match=r"^mine_for_loading.py was edited"):
        values_of(mine)


def test_what_has_no_file_is_passed_over():
    for name in ("sys", "__main__", "no_such_module"):
        check_loaded(name)
