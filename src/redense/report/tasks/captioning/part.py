"""Sections on caption generation: the paper's table, and its figure of images with captions side by side."""

from __future__ import annotations

from collections.abc import Sequence

from redense.files.markup import Child, Element, h
from redense.report.kit.assets import asset
from redense.report.kit.document import About, Section
from redense.report.kit.names import CONTROL
from redense.report.kit.parts import Cell, Table, scrolled
from redense.report.kit.quantities import NOTHING, cell, count, number, share, signed
from redense.tasks.captioning.schema import CaptioningEvidence as Evidence
from redense.tasks.captioning.schema import Figures, Image

from . import words

PAPER_RECIPE = "flickr8k/neuraltalk"

# PAPER.md section 3: sparsity, BLEU-1 to BLEU-4. The beam is not stated there.
_PAPER: dict[str, tuple[float, tuple[float, float, float, float]]] = {
    "baseline": (0.0, (57.2, 38.6, 25.4, 16.8)),
    "sparse": (0.8, (58.4, 39.7, 26.3, 17.5)),
    "DSD": (0.0, (59.2, 40.7, 27.4, 18.5)),
}
_MOST_ON_A_CARD = 4  # networks; of more, the first, the control and the last, and the others to be opened
_BLEU = tuple((f"BLEU-{order}", True) for order in (1, 2, 3, 4))


def sections(e: Evidence, about: About) -> list[Section]:
    """Return the sections of a page on captions."""
    style, script = asset("tasks/captioning/captioning.css"), asset("tasks/captioning/captioning.js")
    found = [Section("bleu", f"BLEU{about.of}", _figures(e, about), "bleu", style)]
    if e.shown:
        found.append(
            Section(
                "captions",
                f"Captions side by side{about.of}",
                _captions(e),
                "captions",
                style,
                script,
            )
        )
    return found


# --- the table ------------------------------------------------------------------------------------------------------


def _figures(e: Evidence, about: About) -> list[Child]:
    columns = [("Network", False), ("Sparsity", True), *_BLEU, ("chrF", True), ("Perplexity", True)]
    rows = [_row(name, row, about) for name, row in zip(e.networks, e.table, strict=True)]
    if about.recipe == PAPER_RECIPE:
        for name, (sparsity, bleu) in _PAPER.items():
            figures = [cell(value, 1) for value in bleu]
            rows.append([_papers(name), share(sparsity), *figures, NOTHING, NOTHING])
    return [
        h("p", words.table_sentence(e)),
        Table("Test figures of each network, with 95 % intervals; lower perplexity is better", columns, rows),
        _changes(e, about) if len(e.table) > 1 else None,
        h("p", words.method_sentence(e), class_="note"),
        [h("p", f"{note[:1].upper()}{note[1:]}.", class_="note") for note in e.notes],
    ]


def _row(name: str, row: Figures, about: About) -> list[Cell]:
    cells: list[Cell] = [
        _with_ends(number(v, 1), [number(end, 1) for end in ends])
        for v, ends in zip(row.bleu, row.interval, strict=True)
    ]
    perplexity = cell(row.perplexity, 1) if row.perplexity is not None else "not finite"
    return [name, share(about.sparsities.get(name)), *cells, cell(row.chrf, 1), perplexity]


def _with_ends(shown: str, ends: Sequence[str]) -> list[Child]:
    return [shown, h("small", f"{ends[0]} to {ends[1]}")]


def _changes(e: Evidence, about: About) -> Table:
    columns = [("Network", False), *_BLEU]
    rows: list[list[Cell]] = []
    for name, row in zip(e.networks[1:], e.table[1:], strict=True):
        cells: list[Cell] = [
            _with_ends(_change(gain, relative), [signed(end, 1) for end in ends])
            for gain, relative, ends in zip(row.gain, row.relative, row.gain_interval, strict=True)
        ]
        rows.append([name, *cells])
    if about.recipe == PAPER_RECIPE:
        base = _PAPER["baseline"][1]
        for name in ("sparse", "DSD"):
            changes = [(value - other, other) for value, other in zip(_PAPER[name][1], base, strict=True)]
            shown = [_change(change, 100 * change / other) for change, other in changes]
            rows.append([_papers(name), *shown])
    caption = f"Change against the {e.before} network, absolute and relative, with 95 % intervals of the absolute one"
    return Table(caption, columns, rows)


def _papers(name: str) -> Element:
    return h("span", f"the paper's {name}", class_="papers")


def _change(absolute: float, relative: float | None) -> str:
    return signed(absolute, 1) + (f" ({signed(relative, 1)}\u00a0%)" if relative is not None else "")


# --- the figure -----------------------------------------------------------------------------------------------------


def _captions(e: Evidence) -> list[Child]:
    cards = [
        h(
            "li",
            _card(e, shown),
            data_groups=" ".join(shown.groups),
            data_gain=f"{shown.gain:.2f}",
            data_index=shown.index,
        )
        for shown in sorted(e.shown, key=lambda shown: -shown.gain)
    ]
    empty = h("p", "None of the images shown has these words.", class_="note none", hidden=True)
    gallery = scrolled([h("ul", cards), empty], "Images with what each network wrote", tall=True, class_="gallery")
    missing = f"There are no pictures: {e.no_pictures}."
    return [
        h("p", words.captions_sentence(e)),
        h("p", words.scores_sentence(e), class_="note"),
        _controls(e),
        gallery,
        h("p", missing, class_="note") if e.no_pictures else None,
    ]


def _controls(e: Evidence) -> Element:
    def named(group: str, text: str) -> Element | None:
        found = sum(group in shown.groups for shown in e.shown)
        return h("option", f"{text} ({found})", value=group) if found else None

    options = [
        named("random", "a random sample"),
        named("won", f"{e.after} scores higher, by the most"),
        named("lost", f"{e.before} scores higher, by the most"),
        h("option", f"the greatest difference, either way ({len(e.shown)})", value="different"),
    ]
    choose = h("label", "Show ", h("select", options))
    search = h("label", "with the words ", h("input", type="search", autocomplete="off", spellcheck="false"))
    # The page's script shows them: without one they would do nothing.
    return h("p", choose, search, class_="controls screen", hidden=True)


def _card(e: Evidence, shown: Image) -> list[Child]:
    picture = None
    if shown.picture is not None:
        source = f"data:image/png;base64,{shown.picture}"
        picture = h("img", src=source, alt=f"test image {shown.name}", width=96, height=96, loading="lazy")
    first, rest = _places(e)
    others = h("details", h("summary", f"{count(len(rest), 'other network')}"), _said(e, shown, rest))
    told = h(
        "div",
        _said(e, shown, first),
        others if rest else None,
        h("ul", [h("li", sentence) for sentence in shown.references], class_="references", aria_label="References"),
        h("div", shown.name, class_="file"),
        class_="told",
    )
    return [picture, told]


def _places(e: Evidence) -> tuple[list[int], list[int]]:
    """Return the networks whose captions are on a card, and those that are to be opened."""
    every = list(range(len(e.networks)))
    if len(every) <= _MOST_ON_A_CARD:
        return every, []
    first = [place for place in every if place in (0, every[-1]) or e.networks[place] == CONTROL]
    return first, [place for place in every if place not in first]


def _said(e: Evidence, shown: Image, places: Sequence[int]) -> Element:
    best = max(shown.scores)
    lines = [
        h(
            "div",
            h("dt", e.networks[place]),
            h("dd", shown.captions[place])
            if shown.captions[place]
            else h("dd", "nothing: the sentence ends at once", class_="none-said"),
            h("dd", number(shown.scores[place], 1), class_="score"),
            class_="best" if shown.scores[place] == best > min(shown.scores) else None,
        )
        for place in places
    ]
    return h("dl", lines)
