"""Evidence of a task of one's own: read through its schema, shown by its function, and told where either is unfit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from redense.errors import DataError, PluginError
from redense.report.kit.document import About, Section
from redense.report.runs.evidence import Found, can_show, noted, read_evidence, show_evidence
from redense.tasks import registry
from redense.tasks.evidence import Evidence, Text


class Heights(Evidence):
    kind = "towers"
    tallest: Text
    metres: float


class Foreign(Evidence):
    kind = "rivers"


def sections(evidence: Heights, about: About) -> list[Section]:
    return [Section("towers", f"Towers{about.of}", f"{evidence.tallest} of {evidence.after}: {evidence.metres:g} m")]


def failing(evidence: Heights, about: About) -> list[Section]:
    raise KeyError(evidence.tallest)


class Nothing(BaseModel):
    pass


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register a task whose evidence and report are these names of this module."""

    def add(evidence: str = "Heights", report: str = "sections") -> None:
        named = registry.Registration("towers", Nothing, Nothing, "elsewhere", evidence="here:x", report="here:y")
        things = {"evidence": globals()[evidence], "report": globals()[report]}
        monkeypatch.setitem(registry._TASKS, "towers", named)
        monkeypatch.setattr(registry.Registration, "load", lambda self, field: things[field])

    return add


@pytest.fixture
def file(tmp_path: Path) -> Path:
    told = Heights(networks=("dense", "redense"), tallest="Eiffel\u202e", metres=330)
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps(told.to_dict()))
    (tmp_path / "result.json").write_text(json.dumps({"recipe": "r", "phases": [{"name": "dense", "sparsity": {}}]}))
    return path


def test_what_the_schema_writes_it_reads_and_the_function_shows(task: Any, file: Path):
    assert json.loads(file.read_text())["kind"] == "towers"
    task()
    assert can_show("towers")
    found = read_evidence(file)
    assert found is not None
    assert found.about.sparsities == {"dense": None}  # by layer: no one figure
    (shown,) = show_evidence(found, ", seed 0")
    assert (shown.title, shown.parts) == ("Towers, seed 0", "Eiffel⟨U+202E⟩ of redense: 330 m")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metres": "high"}, "metres: "),
        ({"metres": None}, "metres: "),
        ({"tallest": 3}, "tallest: "),
        ({"networks": []}, "networks: "),
        ({"metres": float("nan")}, "metres: "),
    ],
    ids=str,
)
def test_damage_is_refused_with_the_place_where_it_is(task: Any, file: Path, change: dict[str, Any], said: str):
    task()
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=rf"evidence\.json is not what redense writes: {said}|is not valid JSON"):
        read_evidence(file)


def test_a_schema_of_another_kind_and_a_function_that_fails_are_errors_of_one_line(task: Any, file: Path):
    task("Foreign")
    with pytest.raises(PluginError, match=r"the evidence of the task 'towers' must be a subclass of .*Foreign"):
        read_evidence(file)
    task(report="failing")
    with pytest.raises(PluginError, match=r"the report of the task 'towers' failed: KeyError: .*Eiffel"):
        show_evidence(read_evidence(file))


def test_a_page_says_which_task_its_evidence_is_of_where_no_plugin_has_it(file: Path, small_run: Any, page_of: Any):
    assert not can_show("towers")
    text = page_of(small_run({"evidence.json": file.read_text()}, task="towers")).text
    assert "is not known: it is of the task 'towers', which no plugin here has (see REDENSE_PLUGINS)." in text


def test_notes_are_sentences_and_what_the_evidence_shows_is_not_said_twice():
    shown = cast("Evidence", SimpleNamespace(notes=("said",)))
    assert noted(["said", "two\nlines"], Found(shown)) == ["Two\\u000alines."]
    assert noted(("said",), Found()) == noted(["said"], None) == ["Said."]
    assert noted(None, None) == noted("damaged", None) == []
