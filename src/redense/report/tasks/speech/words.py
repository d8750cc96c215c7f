"""The sentences on what recognisers heard, set by set and clip by clip."""

from __future__ import annotations

import re
from dataclasses import replace

from redense.report.kit.names import of_control
from redense.report.kit.quantities import Number, cell, count, duration, number, percent, quantity, signed
from redense.tasks.speech.schema import Clip, SetRow
from redense.tasks.speech.schema import SpeechEvidence as Evidence

DECIMALS = 2
INTERVALS = (
    "Intervals: 95 %, 2,000 resamplings of whole clips; they tell of other clips like these, and not of other seeds, "
    "speakers or rooms. Decoding is greedy, without a language model, as in the paper."
)
KEY = "Each word as it was said and heard; errors are marked by a sign as well as a colour:"
_PHASE = re.compile(r"(?:(?P<dense>dense)|(?P<sparse>sparse)|(?P<redense>redense))(?:-(?P<cycle>[1-9]\d?))?")


def paper_names(networks: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what the paper calls the phases of a run (D0, S1, D1, ...); None where they are no such phases.

    >>> paper_names(("dense", "sparse-1", "redense-1", "sparse-2", "redense-2"))
    ('D0', 'S1', 'D1', 'S2', 'D2')
    >>> paper_names(("baseline", "dsd")) is None
    True
    """
    found: list[str] = []
    for name in networks:
        match = _PHASE.fullmatch(name)
        if match is None:
            return None
        cycle = match["cycle"] or "1"
        found.append("D0" if match["dense"] else f"S{cycle}" if match["sparse"] else f"D{cycle}")
    return tuple(found)


def change_cell(value: float | None) -> Number:
    """Return a change with its sign, for a table."""
    return replace(cell(value, DECIMALS), shown=signed(value, DECIMALS))


def rates_sentence(e: Evidence) -> str:
    """Return the sentence above the rates."""
    clips = count(e.utterances, "test clip")
    length = f" ({duration(e.seconds)})" if e.seconds else ""
    last, first = e.every.words[-1], e.every.words[0]
    if last.rate is None or first.rate is None:
        return f"The transcripts of the {clips}{length} have no word: there is no error rate."
    change = e.every.change(len(e.networks) - 1)
    text = (
        f"In {clips}{length} the {e.after} network gets {quantity(last.rate, '%', DECIMALS)} of "
        f"{count(last.reference, 'word')} wrong (WER), the {e.before} network {quantity(first.rate, '%', DECIMALS)}"
    )
    if change is None or change.points == 0:
        return f"{text}: no difference."
    less = "less" if change.points < 0 else "more"
    text += f": {number(abs(change.points), DECIMALS)} points {less}"
    if change.relative is not None:
        text += f", {percent(round(abs(change.relative) / 100, 4))} of its errors"
    if change.interval:
        within = change.interval[0] <= 0 <= change.interval[1]
        low, high = (signed(end, DECIMALS) for end in change.interval)
        text += f" (95 % interval of the difference {low} to {high} points"
        text += ": it may be none)" if within else ")"
    return f"{text}.{of_control(e.networks, lambda place: quantity(e.every.words[place].rate, '%', DECIMALS))}"


def empties_sentence(e: Evidence) -> str | None:
    """Return what has to be said of empty references and transcripts; None without any."""
    said = e.every.words[0].empty_references
    first, last = e.every.words[0].empty_hypotheses, e.every.words[-1].empty_hypotheses
    parts: list[str] = []
    if said:
        parts.append(f"{count(said, 'clip')} without a word in the reference: all that is heard there is inserted")
    if first or last:
        parts.append(
            f"clips in which nothing is heard: {first:,} by the {e.before} network, {last:,} by the {e.after} network"
        )
    return f"{'; '.join(parts)[0].upper()}{'; '.join(parts)[1:]}." if parts else None


def set_name(found: SetRow) -> str:
    """Return the name of a set in a table."""
    return "all" if found.name is None else found.name


def clips_sentence(e: Evidence) -> str:
    """Return the sentence above the clips."""
    better, worse = e.better, e.worse
    if not better.total and not worse.total:
        return f"The {e.after} network makes as many errors as the {e.before} network in every clip."
    text = (
        f"Against the {e.before} network the {e.after} network makes fewer word errors in "
        f"{count(better.total, 'clip')}, of which it now has {better.wholly:,} wholly right, and more in "
        f"{worse.total:,}, of which {worse.wholly:,} had been wholly right; as many in {e.same.total:,}."
    )
    if any(found.total > len(found.shown) for found in (better, worse)):
        text += " Shown are those with the greatest changes."
    return text


def clip_facts(clip: Clip) -> str:
    """Return the line above a clip."""
    before, after = clip.errors
    facts = [f"clip {clip.index:,}", clip.set or "", f"{number(clip.seconds, 1)}\u00a0s" if clip.seconds else ""]
    return " · ".join([*filter(None, facts), f"word errors {before:,} → {after:,}"])


def spoken(clip: Clip) -> str:
    """Return what was said in a clip."""
    return " ".join(edit.said for edit in clip.edits[0] if edit.said is not None)


def describe_rates(e: Evidence) -> str:
    """Return what the plot of the rates shows, for someone who cannot see it."""
    return (
        f"Dot plot: the word error rate of each of {len(e.networks)} networks with its 95 % interval"
        f"{', for each test set' if e.parts else ''}; the table below has the numbers."
    )


def rates_caption(e: Evidence) -> str:
    """Return how to read the plot of the rates."""
    return f"Word error rate in the test split, with 95 % intervals{'; one symbol a test set' if e.parts else ''}."
