"""Sections on speech recognition: word error rate by phase and set, aligned transcripts, with a player."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from redense.files.markup import Child, Element, h
from redense.report.kit.assets import asset
from redense.report.kit.document import About, Section
from redense.report.kit.parts import Figure, Table, scrolled, table_of
from redense.report.kit.plotting import Plot, axis, no_markup, no_template, plot, rows_axis, shortened, whiskers
from redense.report.kit.quantities import Number, between, cell, whole
from redense.tasks.speech.schema import Clip, Clips, Edit, Rate, SetRow
from redense.tasks.speech.schema import SpeechEvidence as Evidence

from . import words

_MOST_IN_PLOT = 6  # sets
_COLOURS = ("--accent", "--second", "--muted", "--ink")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


def sections(e: Evidence, about: About) -> list[Section]:
    """Return the sections of a page on transcripts."""
    style, script = asset("tasks/speech/speech.css"), asset("tasks/speech/speech.js")
    of = about.of
    return [
        Section("recognition", f"Word error by test set{of}", _rates(e)),
        Section(
            "transcripts",
            f"Fixed and broken transcripts{of}",
            _transcripts(e),
            style=style,
            script=script,
        ),
    ]


# --- rates ----------------------------------------------------------------------------------------------------------


def _names(e: Evidence) -> list[str]:
    """Return the networks as the table calls them: with the paper's name where it has one."""
    letters = words.paper_names(e.networks)
    return (
        [f"{letter} ({name})" for letter, name in zip(letters, e.networks, strict=True)] if letters else [*e.networks]
    )


def _sets(e: Evidence) -> tuple[SetRow, ...]:
    return (*e.parts, e.every)


def _rates(e: Evidence) -> list[Child]:
    empties = words.empties_sentence(e)
    figure = None
    if any(found.rate is not None for found in e.every.words):
        figure = Figure("wer-plot", words.describe_rates(e), words.rates_caption(e), rates_plot(e))
    return [
        h("p", words.rates_sentence(e)),
        h("p", empties, class_="note") if empties else None,
        figure,
        _table_of_rates(e),
        h("p", words.INTERVALS, class_="note"),
        [h("details", h("summary", _details_title(found)), _details(e, found)) for found in _sets(e)],
    ]


def _table_of_rates(e: Evidence) -> Table:
    """The paper's table: a row a phase, a column a test set."""
    names, every, sets = _names(e), e.every, _sets(e)
    what = "interval, change, fewer errors and CER: of all clips, " if e.parts else ""
    return table_of(
        f"Errors in the test split; {what}changes against {e.before}",
        range(len(names)),
        [
            ("Network", False, lambda place: names[place]),
            *((f"WER, {words.set_name(one)}, %", True, partial(_rate, one.words)) for one in sets),
            ("95 % interval", True, partial(_interval, every.words)),
            ("Change, points", True, lambda place: words.change_cell((one := every.change(place)) and one.points)),
            ("Fewer errors, %", True, lambda place: words.change_cell((one := every.change(place)) and one.relative)),
            ("CER, %", True, partial(_rate, every.characters)),
        ],
    )


def _rate(rates: Sequence[Rate], place: int) -> Number:
    return cell(rates[place].rate, words.DECIMALS)


def _interval(rates: Sequence[Rate], place: int) -> str:
    return between(rates[place].interval, words.DECIMALS)


def _details_title(found: SetRow) -> str:
    return f"Substitutions, deletions and insertions, {words.set_name(found)}" if found.name else "Kinds of errors"


def _details(e: Evidence, found: SetRow) -> Table:
    names, rates = _names(e), found.words
    return table_of(
        f"Word and character errors, {words.set_name(found)}",
        range(len(names)),
        [
            ("Network", False, lambda place: names[place]),
            ("WER, %", True, partial(_rate, rates)),
            ("95 % interval", True, partial(_interval, rates)),
            ("Words", True, lambda place: whole(rates[place].reference)),
            ("Substituted", True, lambda place: whole(rates[place].substitutions)),
            ("Deleted", True, lambda place: whole(rates[place].deletions)),
            ("Inserted", True, lambda place: whole(rates[place].insertions)),
            ("Clips with errors", True, lambda place: f"{rates[place].wrong:,} of {found.utterances:,}"),
            ("CER, %", True, partial(_rate, found.characters)),
            ("Its interval", True, partial(_interval, found.characters)),
        ],
    )


def rates_plot(e: Evidence) -> Plot:
    """Return the word error rate of every network with its interval, a line a test set."""
    sets = _sets(e) if len(e.parts) <= _MOST_IN_PLOT else (e.every,)
    at = list(range(len(e.networks)))
    data: list[dict[str, object]] = []
    highest = 1.0
    for place, found in enumerate(sets):
        color, symbol = _COLOURS[place % len(_COLOURS)], _SYMBOLS[place % len(_SYMBOLS)]
        values = [rate.rate for rate in found.words]
        spans = [rate.interval or (rate.rate, rate.rate) for rate in found.words]
        known = [(v, s) for v, s in zip(values, spans, strict=True) if v is not None]
        highest = max([highest, *(float(s[1] or v) for v, s in known)])
        shift = 0.16 * (place - (len(sets) - 1) / 2)
        name = words.set_name(found)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": no_markup(name),
                "x": values,
                "y": [row + shift for row in at],
                "error_x": whiskers(
                    [_reach(v, s[1]) for v, s in zip(values, spans, strict=True)],
                    [_reach(s[0], v) for v, s in zip(values, spans, strict=True)],
                    color,
                    thickness=1.5,
                    width=4,
                ),
                "text": [no_markup(network) for network in e.networks],
                "marker": {"color": color, "symbol": symbol, "size": 10},
                "hovertemplate": f"<b>%{{text}}</b><br>%{{x:.2f}} %, {no_template(name)}<extra></extra>",
                "cliponaxis": False,
            }
        )
    return plot(
        data,
        34 * len(at) + 20 * len(sets) + 110,
        (8, 16, 40, 46),
        key=len(sets) > 1,
        xaxis=axis("word error rate, %", range=[0, 1.06 * highest], fixedrange=True),
        yaxis=rows_axis(shortened(_names(e))),
    )


def _reach(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else round(high - low, 6)


# --- transcripts ----------------------------------------------------------------------------------------------------


def _transcripts(e: Evidence) -> list[Child]:
    kinds = {"Fewer errors": e.better, "More errors": e.worse, "As many errors": e.same}
    parts: list[Child] = [h("p", words.clips_sentence(e))]
    if any(found.shown for found in kinds.values()):
        parts += [_key(), _finder(e)]
    for title, found in kinds.items():
        if found.shown:
            parts += [h("h3", f"{title}: {found.total:,}"), _list(e, title, found)]
    if e.no_sound:
        parts.append(h("p", f"Not every clip can be played: {e.no_sound}.", class_="note"))
    return parts


def _key() -> Element:
    examples = [
        ("said→heard, substituted", Edit("substitution", "cat", "bat")),
        ("deleted: said, not heard", Edit("deletion", "the", None)),
        ("inserted: heard, not said", Edit("insertion", None, "a")),
    ]
    shown = [[" " if not place else "; ", _edit(edit), f" {text}"] for place, (text, edit) in enumerate(examples)]
    return h("p", words.KEY, shown, ".", class_="note")


def _finder(e: Evidence) -> Element:
    clips = [clip for found in (e.better, e.worse, e.same) for clip in found.shown]
    parts: list[Child] = [h("label", "Transcripts with ", h("input", type="search", autocomplete="off"))]
    if e.parts:
        names = [found.name or "" for found in e.parts]
        options = [
            h("option", f"{name} ({sum(clip.set == name for clip in clips)})", value=str(place))
            for place, name in enumerate(names)
        ]
        chooser = h("select", h("option", f"all sets ({len(clips)})", value=""), options)
        parts.append(h("label", "of ", chooser))
    # The page's script shows it: without one it would do nothing.
    return h("p", parts, class_="chooser finder screen", hidden=True)


def _list(e: Evidence, title: str, found: Clips) -> Element:
    places = {part.name: place for place, part in enumerate(e.parts)}
    clips = [h("li", _clip(e, clip), data_set=places.get(clip.set)) for clip in found.shown]
    empty = h("p", "No transcript here is like that.", class_="note none", hidden=True)
    inside = [h("ul", clips, class_="clips"), empty]
    label = f"{title}, the greatest change first"
    return scrolled(inside, label, tall=True, class_="heard-list")


def _clip(e: Evidence, clip: Clip) -> list[Child]:
    player = None
    if clip.sound is not None:
        source = f"data:audio/wav;base64,{clip.sound}"
        player = h("audio", controls=True, preload="none", src=source, aria_label=f"clip {clip.index:,}")
    lines: list[Child] = [h("dt", "said"), h("dd", h("bdi", words.spoken(clip) or "(nothing)"))]
    for name, edits in zip((e.before, e.after), clip.edits, strict=True):
        lines += [h("dt", name), h("dd", _alignment(edits))]
    return [h("div", h("span", words.clip_facts(clip)), player, class_="clip-head"), h("dl", lines, class_="heard")]


def _alignment(edits: Sequence[Edit]) -> Child:
    if not edits:
        return "(nothing)"
    return [[" " if place else None, _edit(edit)] for place, edit in enumerate(edits)]


def _edit(edit: Edit) -> Element:
    """One step; ``bdi`` keeps a word of the other direction from turning its neighbours around."""
    if edit.kind == "substitution":
        title = f"{edit.said} was heard as {edit.heard}"
        return h("span", h("bdi", edit.said), "→", h("bdi", edit.heard), class_="sub", title=title)
    if edit.kind == "deletion":
        return h("del", "−", h("bdi", edit.said), class_="del", title=f"{edit.said} was not heard")
    if edit.kind == "insertion":
        return h("ins", "+", h("bdi", edit.heard), class_="ins", title=f"{edit.heard} was not said")
    return h("bdi", edit.heard)
