"""Sections on image classification: classes, confusions, examples that were fixed and broken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from redense.files.markup import Child, Element, h
from redense.report.kit.assets import asset
from redense.report.kit.document import About, Section
from redense.report.kit.parts import Cell, Figure, Table, scrolled, shown
from redense.report.kit.plotting import Plot, axis, no_markup, no_template, plot, rows_axis, shortened, told_apart
from redense.report.kit.quantities import NOTHING, cell, count, percent, share, whole
from redense.tasks.classification.schema import Changes, ClassRow, Example
from redense.tasks.classification.schema import ClassificationEvidence as Evidence

from . import words

_MOST_IN_MATRIX = 30  # classes; more are a list of their commonest confusions
_MOST_SIDE_BY_SIDE = 12
_MOST_IN_PLOT = 40
_MOST_PAIRS = 30


def sections(e: Evidence, about: About) -> list[Section]:
    """Return the sections of a page on classes."""
    style, script = asset("tasks/classification/classification.css"), asset("tasks/classification/classification.js")
    of = about.of
    return [
        Section("classes", f"By class{of}", _classes(e)),
        Section(
            "confusion",
            f"Confusions{of}",
            _confusion(e),
            "confusions",
            style,
        ),
        Section(
            "changes",
            f"Fixed and broken{of}",
            _changes(e),
            "changes",
            style,
            script,
        ),
    ]


# --- classes --------------------------------------------------------------------------------------------------------


def _hardest_first(e: Evidence) -> list[ClassRow]:
    return sorted(e.classes, key=lambda row: -1.0 if row.errors[-1] is None else row.errors[-1], reverse=True)


def _classes(e: Evidence) -> list[Child]:
    rows = _hardest_first(e)
    columns = [("Class", False), ("Examples", True), *((name, True) for name in e.networks)]
    columns += [("Change, points", True), ("Fixed", True), ("Broken", True)]
    body: list[list[Cell]] = [
        [
            row.name,
            whole(row.examples),
            *(cell(error, 2) for error in row.errors),
            cell(row.change, 2, signed=True),
            whole(row.fixed),
            whole(row.broken),
        ]
        for row in rows
    ]
    caption = f"Test error of each class, %, the hardest first; change, fixed and broken: {e.after} against {e.before}"
    tall = len(rows) > 20
    figure = None
    if len(e.classes) <= _MOST_IN_PLOT:
        figure = Figure("classes-plot", words.describe_classes(e), words.classes_caption(e), classes_plot(e))
    return [
        h("p", words.classes_sentence(e)),
        figure,
        Table(caption, columns, body, tall=tall),
        h("details", h("summary", _more_title(e)), _more(e, rows, tall)),
    ]


def _more_title(e: Evidence) -> str:
    return "Top-5 error and loss of each class" if e.classes and e.classes[0].top5_errors else "Loss of each class"


def _more(e: Evidence, rows: Sequence[ClassRow], tall: bool) -> Table:
    top5 = all(row.top5_errors for row in rows)
    columns = [("Class", False)]
    columns += [(f"Top-5 error, {name}, %", True) for name in e.networks] if top5 else []
    columns += [(f"Loss, {name}", True) for name in e.networks]
    body: list[list[Cell]] = [
        [row.name, *(cell(error, 2) for error in row.top5_errors), *(cell(one.loss, 3) for one in row.networks)]
        for row in rows
    ]
    return Table(f"{_more_title(e)} in the test split", columns, body, tall=tall)


def classes_plot(e: Evidence) -> Plot:
    """Return the error of each class before and after, joined by a line."""
    rows = [row for row in _hardest_first(e) if row.examples]
    before, after = ([row.errors[place] or 0.0 for row in rows] for place in (0, -1))
    at = list(range(len(rows)))
    joined = {
        "type": "scatter",
        "mode": "lines",
        "x": [x for pair in zip(before, after, strict=True) for x in (*pair, None)],
        "y": [y for row in at for y in (row, row, None)],
        "line": {"color": "--thin", "width": 3},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    dots = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": no_markup(name),
            "x": values,
            "y": at,
            "text": [no_markup(row.name) for row in rows],
            "marker": {
                "color": color,
                "symbol": symbol,
                "size": 10,
                "line": {"color": color, "width": 2},
            },
            "hovertemplate": f"<b>%{{text}}</b><br>%{{x:.2f}} %, {no_template(name)}<extra></extra>",
            "cliponaxis": False,
        }
        for name, values, color, symbol in (
            (e.before, before, "--muted", "circle-open"),
            (e.after, after, "--accent", "circle"),
        )
    ]
    return plot(
        [joined, *dots],
        26 * len(rows) + 110,
        (8, 16, 40, 46),
        key=True,
        xaxis=axis("test error, %", range=[0, 1.06 * max([*before, *after, 1.0])], fixedrange=True),
        yaxis=rows_axis(shortened([row.name for row in rows])),
    )


# --- confusions -----------------------------------------------------------------------------------------------------


def _confusion(e: Evidence) -> list[Child]:
    ties = words.ties_sentence(e)
    head: list[Child] = [h("p", words.confusion_sentence(e)), h("p", ties, class_="note") if ties else None]
    if len(e.classes) > _MOST_IN_MATRIX:
        return [*head, _pairs(e)]
    strongest = max(
        (_share(e, pair, cells) for cells in e.confusions for pair in cells if pair[0] != pair[1]), default=1
    )
    before, after = (
        _matrix(e, name, cells, strongest) for name, cells in zip((e.before, e.after), e.confusions, strict=True)
    )
    key = "A row is a class, a column an answer. Blue: mistakes, the fuller the greater their share of the class. "
    return [
        *head,
        h("div", before, after, class_="pair")
        if len(e.classes) <= _MOST_SIDE_BY_SIDE
        else [after, h("details", h("summary", f"The same for the {e.before} network"), before)],
        h("p", key + "Grey: right answers.", class_="note"),
        h("details", h("summary", "The commonest confusions as a list"), _pairs(e)) if words.confused(e) else None,
    ]


def _share(e: Evidence, pair: tuple[int, int], cells: Mapping[tuple[int, int], int]) -> float:
    return cells[pair] / max(1, e.classes[pair[0]].examples)


@dataclass(frozen=True)
class _Matrix(Table):
    """A table of counts whose cells are coloured: ``heat`` is from 0 to 1, None where the answer is right."""

    heat: Mapping[tuple[int, int], float | None] = field(default_factory=dict[tuple[int, int], "float | None"])
    titles: Mapping[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])

    @override
    def elements(self) -> Child:
        _, *names = (title for title, _ in self.columns)
        named = list(zip(names, told_apart(names, 20), strict=True))
        head = [h("th", h("span", short), scope="col", title=name) for name, short in named]
        body = [
            h("tr", h("th", short, scope="row", title=name), [self._cell(row, c) for c in range(len(names))])
            for row, (name, short) in enumerate(named)
        ]
        inside = [h("caption", self.caption), h("thead", h("tr", h("td", "class"), head)), h("tbody", body)]
        return scrolled(h("table", inside, class_=self.class_), self.caption)

    def _cell(self, row: int, column: int) -> Element:
        place = (row, column)
        if place not in self.heat:
            return h("td")
        found, heat, title = shown(self.rows[row][1 + column]), self.heat[place], self.titles[place]
        if heat is None:
            return h("td", found, class_="right", title=title)
        return h("td", found, style=f"--heat: {heat:.3f}", title=title)


def _matrix(e: Evidence, network: str, cells: Mapping[tuple[int, int], int], strongest: float) -> Table:
    names = [row.name for row in e.classes]
    heat: dict[tuple[int, int], float | None] = {}
    titles: dict[tuple[int, int], str] = {}
    for (row, column), found in cells.items():
        if not found:
            continue
        part = _share(e, (row, column), cells)
        taken = f"{names[row]} {'as it is' if row == column else f'taken for {names[column]}'}"
        titles[row, column] = f"{taken}: {found:,} of {e.classes[row].examples:,} ({percent(round(part, 4))})"
        # The root shows the small ones too.
        heat[row, column] = None if row == column else math.sqrt(part / strongest)
    size = range(len(names))
    return _Matrix(
        caption=f"{network}: test examples of each class by answer",
        columns=[("class", False), *((name, True) for name in names)],
        rows=[
            [name, *(whole(cells[row, c]) if cells.get((row, c)) else "" for c in size)]
            for row, name in enumerate(names)
        ],
        class_="matrix" if len(names) <= _MOST_SIDE_BY_SIDE else "matrix many",
        heat=heat,
        titles=titles,
    )


def _pairs(e: Evidence) -> Table:
    before, after = e.confusions
    columns = [("Class", False), ("Taken for", False), (e.before, True), (e.after, True), ("Change", True)]
    columns += [("Of the class", True)]
    rows: list[list[Cell]] = []
    for row, column in words.confused(e)[:_MOST_PAIRS]:
        one, other = before.get((row, column), 0), after.get((row, column), 0)
        of = e.classes[row]
        part = share(round(other / of.examples, 4)) if of.examples else NOTHING
        change = cell(other - one, 0, signed=True)
        rows.append([of.name, e.classes[column].name, whole(one), whole(other), change, part])
    caption = f"The {len(rows)} commonest confusions of the {e.after} network, in test examples"
    return Table(caption, columns, rows, tall=len(rows) > 20)


# --- fixed and broken -----------------------------------------------------------------------------------------------


def _changes(e: Evidence) -> list[Child]:
    parts: list[Child] = [h("p", words.changes_sentence(e))]
    kinds = {"fixed": ("Fixed", e.fixed), "broken": ("Broken", e.broken)}
    if any(changes.shown for _, changes in kinds.values()):
        parts += [h("p", words.cards_sentence(e), class_="note"), _chooser(e)]
    for name, (title, changes) in kinds.items():
        if not changes.total:
            continue
        parts += [h("h3", f"{title}: {changes.total:,}"), _examples(e, name, title, changes)]
    if e.no_pictures:
        parts.append(h("p", f"There are no pictures: {e.no_pictures}.", class_="note"))
    return parts


def _chooser(e: Evidence) -> Element:
    labels = [example.label for changes in (e.fixed, e.broken) for example in changes.shown]
    options = [
        h("option", f"{e.classes[label].name} ({count(labels.count(label), 'example')})", value=label)
        for label in sorted(set(labels))
    ]
    chooser = h("select", h("option", f"all classes ({count(len(labels), 'example')})", value=""), options)
    # The page's script shows it: without one it would do nothing.
    return h("p", h("label", "Shown are examples of ", chooser), class_="chooser screen", hidden=True)


def _examples(e: Evidence, name: str, title: str, changes: Changes) -> Element:
    wrong = 0 if name == "fixed" else 1
    cards = [h("li", _card(e, example, wrong), data_label=example.label) for example in changes.shown]
    empty = h("p", "None of this class is among those shown.", class_="note none", hidden=True)
    label = f"{title} examples, the greatest change first"
    inside = [h("ul", cards, class_="cards"), empty]
    return scrolled(inside, label, tall=True, class_="changed")


def _card(e: Evidence, example: Example, wrong: int) -> list[Child]:
    """Return the card of one example; ``wrong`` is the place of the network that got it wrong."""
    true = e.classes[example.label].name
    picture = None
    if example.picture is not None:
        source = f"data:image/png;base64,{example.picture}"
        picture = h("img", src=source, alt=f"test example {example.index:,}, {true}", width=64, loading="lazy")
    answers = [
        f"{e.classes[answer].name}{' (a tie)' if place == wrong and answer == example.label else ''}"
        for place, answer in enumerate(example.answers)
    ]
    chances = [percent(round(chance, 2)) for chance in example.probabilities]
    lines = [h("span", " → ".join(answers)), h("span", f"true class: {' → '.join(chances)}")]
    return [picture, h("div", h("b", true), lines)]
