"""What a notebook shows: the numbers of the text, escaped, drawn without a library, and without a flood of lines."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import redense
from redense import Phase, Schedule
from redense.lab.pairs import progress as lines
from redense.lab.search.halving import Round
from redense.report.searched import Searched
from redense.report.tuned import Tuned
from redense.scans.result import Curve, Scan

ODD = "<img src=x onerror=alert(1)>\x1b[2J"
TABLE = {"dense": [1, 2, 4], ODD: [2, 3, 4]}


class Parsed(HTMLParser):
    """The elements and the text of markup; it fails where an element does not end."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open, self.tags, self.text = list[str](), list[str](), ""
        self.feed(markup)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def odd_summary() -> Any:
    model = nn.Module()
    model.register_module(ODD.replace(".", ""), nn.Linear(8, 4))
    return redense.summary(model)


def scan(**changed: Any) -> Scan:
    curves = (
        Curve(f"{ODD}.weight", (4, 8), ((0.3, 11.0), (0.6, None)), (0.0, 1.0)),
        Curve("b.weight", (4, 2), ((0.3, 9.5), (0.6, 12.0)), (0.0, 1.0)),
    )
    given: dict[str, Any] = {"tolerance": 0.1, "hopeless": 4.0, "evaluations": 5, "note": ODD} | changed
    return Scan(10.0, curves, (0.3, 0.6), **given)


def searched() -> Searched:
    rounds = {"candidates": [Round((0, 1), {ODD: 1.25, "b": None}, (ODD,))], "controls": []}
    return Searched(Path(), None, None, rounds, {"search": 4, "confirm": 0}, None, 7)


SHOWN = {
    "summary": (odd_summary, ["4 x 8", "32", "weights can be pruned"]),
    "scan": (scan, ["9.5", "12", "unpruned: 10"]),
    "scan without a limit": (lambda: scan(hopeless=float("inf")), ["unpruned: 10"]),
    "allocation": (lambda: scan().allocate(overall=0.2), ["overall", "sum of drops"]),
    "judgement": (
        lambda: redense.judge(TABLE, lower_is_better=True),
        ["2.3 [", "no gain"],
    ),
    "search": (searched, ["1.25", "failed", "Nothing could be confirmed", "3 of its budget of 7 are left over"]),
    "search, one run left": (lambda: replace(searched(), budget=5), ["1 of its budget of 5 is left over"]),
    "tuned": (lambda: Tuned(0.4, searched()), ["1.25", "A sparsity of 0.4 is the best"]),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_is_shown_with_the_numbers_of_its_text_and_nothing_in_a_name_is_obeyed(name: str):
    make, told = SHOWN[name]
    value = make()
    found = Parsed(value._repr_html_())
    assert {"table", "th", "td"} <= set(found.tags)
    assert "img" not in found.tags
    assert "\x1b" not in found.text
    assert "\\u001b[2J" in found.text
    for words in told:
        assert words in found.text
        assert words in str(value)
    assert "\x1b" not in str(value)
    assert "\\u001b[2J" in str(value)


def test_a_cell_of_a_scan_is_tinted_by_its_drop():
    rows = scan()._repr_html_().partition("<tbody>")[2].split("<tr>")[1:]
    assert "rgba(214,80,40,0.10)" in rows[0]  # 1 of 4
    assert "rgba(214,80,40,0.40)" in rows[0]  # beyond it
    assert rows[1].count("rgba") == 1  # better than the baseline has no tint
    assert "rgba(214,80,40,0.20)" in rows[1]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule.dsd(dense=60, sparse=30, redense=30, sparsity=0.3), ["sparse: 30 % removed", "1, 1, 0.1 at the"]),
        (Schedule((Phase.dense(9, name=ODD), Phase.sparse(3, pattern=(2, 4)))), ["2 of 4 kept", "12 steps"]),
        (Schedule((Phase.sparse(9, {"a": 0.5}), Phase.dense(1, lr=0))), ["a sparsity a layer", "1, 0 at the start"]),
        (Schedule(tuple(Phase.dense(1, lr=1 / n) for n in range(1, 9))), ["× 1 to 0.125 at the start"]),
    ],
)
def test_a_schedule_is_drawn(schedule: Schedule, words: list[str]):
    found = Parsed(schedule._repr_html_())
    assert found.tags.count("g") == len(schedule.phases)
    assert "img" not in found.tags
    for told in words:
        assert told in found.text


def test_a_block_of_a_drawing_is_as_wide_as_its_phase_is_long_and_as_high_as_what_is_kept():
    schedule = Schedule.dsd(dense=60, sparse=30, redense=30, sparsity=0.75)
    drawn = schedule._repr_html_().split("<g>")[1:]
    sizes = [[float(part.partition('"')[0]) for part in block.split(' width="')[1:]] for block in drawn]
    heights = [[float(part.partition('"')[0]) for part in block.split(' height="')[1:]] for block in drawn]
    assert sizes == [[312, 312], [156, 156], [156, 156]]
    assert [high for _, high in heights] == [34, 34 / 4, 34]


def test_the_curve_of_a_drawing_falls_where_the_rate_falls():
    points = Schedule.dsd(dense=60, sparse=30, redense=30, sparsity=0.5)._repr_html_().partition('points="')[2]
    heights = [float(point.partition(",")[2]) for point in points.partition('"')[0].split(" ")]
    assert len(set(heights)) == 2
    assert heights == sorted(heights)  # downwards


def test_a_long_comparison_writes_few_lines_into_a_log_or_a_cell(monkeypatch: pytest.MonkeyPatch):
    clock = [0.0]
    monkeypatch.setattr(lines.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    line = lines.ProgressLine(4800, stream=out)
    for _ in range(4800):  # two hours
        clock[0] += 1.5
        line.tick("dsd, seed 1", 1)
    told = out.getvalue().splitlines()
    assert 20 < len(told) < 60
    assert told[-1].startswith("4,800 of 4,800")
    assert "\r" not in out.getvalue()
