"""The notebooks of the documentation hold what their scripts give, and the site shows it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
pytest.importorskip("mkdocs")
import notebooks  # noqa: E402  # pyright: ignore[reportMissingImports]  # tools/ is no package

SCRIPTS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


def stored(script: Path) -> dict[str, Any]:
    return json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))


def test_every_script_is_a_notebook_and_every_notebook_a_script():
    made = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in made] == [path.stem for path in SCRIPTS] != []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_are_those_of_its_script_and_its_outputs_are_of_them(script: Path):
    cells, notebook = notebooks.cells_of(script.read_text(encoding="utf-8")), stored(script)
    again = "run tools/notebooks.py"
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] == cells, again
    assert notebook["metadata"]["redense"]["executed"] == notebooks.digest_of(cells), again
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    kinds = [output["output_type"] for cell in code for output in cell["outputs"]]
    assert set(kinds) <= {"stream", "execute_result"}
    assert kinds.count("execute_result") >= 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_page_of_a_notebook_has_its_code_and_what_came_of_it(script: Path):
    page = notebooks.page(stored(script))
    for kind, text in notebooks.cells_of(script.read_text(encoding="utf-8")):
        assert text in page, kind
    assert page.count("<table") >= 4
    assert "<svg" in page
    assert "no gain" in page or "a gain" in page


def test_a_cell_shows_its_last_expression_and_what_it_prints_and_a_fault_is_not_kept():
    script = "# %% [markdown]\n# # Title\n# text\n\n# %%\nprint('hello')\nvalue = 3\n\n# %%\nvalue + 1\n\n# %%\nNone\n"
    made = notebooks.execute(script, "small")
    assert "".join(made["cells"][0]["source"]) == "# Title\ntext"
    outputs = [cell["outputs"] for cell in made["cells"][1:]]
    assert outputs[0] == [{"output_type": "stream", "name": "stdout", "text": ["hello\n"]}]
    assert outputs[1][0]["data"] == {"text/plain": ["4"]}
    assert outputs[2] == []
    with pytest.raises(ZeroDivisionError):
        notebooks.execute("# %%\n1 / 0\n", "broken")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_what_is_stored(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("sklearn")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = notebooks.execute(script.read_text(encoding="utf-8"), script.stem)
    finally:
        torch.set_num_threads(threads)
    kept = stored(script)
    alike = made["metadata"]["redense"] == kept["metadata"]["redense"]  # the same machine and PyTorch: the same digits
    for cell, before in zip(made["cells"], kept["cells"], strict=True):
        for output, known in zip(cell.get("outputs", ()), before.get("outputs", ()), strict=True):
            assert sorted(output.get("data", ())) == sorted(known.get("data", ()))
            assert output == known or not alike
