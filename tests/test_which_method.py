"""The page that says what to use instead is computed from the raw tables, sentences included."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "make_which_method", raising=False)
    import make_which_method  # pyright: ignore[reportMissingImports]  # tools/ is no package

    return make_which_method


def test_the_page_is_what_the_raw_tables_give(tool: ModuleType):
    assert tool.OUT.read_text(encoding="utf-8") == tool.page(), "run tools/make_which_method.py"


def test_the_answer_of_the_readme_is_its_first_two_sentences(tool: ModuleType):
    first, second = (
        line[3:] for line in tool.OUT.read_text(encoding="utf-8").splitlines() if line[:3] in ("1. ", "2. ")
    )
    assert f"{first} {second}" in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_a_sentence_that_is_no_longer_true_stops_the_page(tool: ModuleType):
    groups = {name: [tool.judged(one) for one in tool.GROUPS[name]] for name in tool.GROUPS}
    first = groups["Right labels, images"][0].cells
    first["dsd"] = tool.Cell("dsd", 0.2, (0.1, 0.3), "better", (1.0,) * 5, 1.0)
    with pytest.raises(SystemExit, match="no longer true: In none of the"):
        list(tool.answers(groups))


def test_an_arm_that_is_always_ahead_wins_every_seed_and_one_that_ties_half_of_them(tool: ModuleType):
    cells = {"first": tool.Cell("first", 1.0, (1.0, 1.0), "better", (1.0,) * 5, 1.0)}
    cells["second"] = tool.Cell("second", 0.0, (0.0, 0.0), "", (0.5,) * 5, 1.0)
    column = tool.Column(tool.GROUPS[tool.CONVERGED][0], "restart", 5, cells, {}, {}, True)
    assert tool.pooled([column], "first") == (1.0, 1.0, 1.0, 1)
    assert tool.pooled([column, column], "second") == (0.5, 0.5, 0.5, 2)


def test_the_zoo_has_the_best_network_of_the_tables(tool: ModuleType):
    columns = [tool.judged(one) for group in tool.GROUPS.values() for one in group]
    means = {
        (float(np.mean(list(figures.values.values()))), column.experiment.folder, setting)
        for column in columns
        if tool.compared(column.experiment.folder).get("recipe", "").startswith(("quickstart", "fashion-mnist/"))
        for setting, figures in column.figures.items()
    }
    _, folder, setting = min(means)
    (card,) = (
        card
        for path in (ROOT / "zoo").glob("*/zoo.json")
        for card in [json.loads(path.read_text(encoding="utf-8"))]
        if setting in card["figures"]
    )
    assert card["recipe"] == tool.compared(folder)["recipe"]
    assert card["over_seeds"]["seeds"] == tool.compared(folder)["seeds"]
