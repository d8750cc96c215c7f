"""The sentences on what networks wrote under images."""

from __future__ import annotations

from redense.report.kit.names import of_control
from redense.report.kit.quantities import count, number, percent, signed
from redense.tasks.captioning.schema import CaptioningEvidence as Evidence

_LAST = 3  # BLEU-4 among the four


def table_sentence(e: Evidence) -> str:
    """Return the sentence above the table: what became of BLEU-4, and whether the images could tell."""
    first, last = e.table[0], e.table[-1]
    low, high = last.gain_interval[_LAST]
    said = (
        f"BLEU-4 of the {e.after} network is {number(last.bleu[_LAST], 1)}, of the {e.before} network "
        f"{number(first.bleu[_LAST], 1)}: "
    )
    if low <= 0 <= high:
        verdict = "so it may be no change at all"
    else:
        verdict = "so these images tell them apart"
    gain, low, high = (signed(value, 1) for value in (last.gain[_LAST], low, high))
    change = f"a change of {gain}, 95 % interval {low} to {high}, {verdict}."
    return said + change + of_control(e.networks, lambda place: number(e.table[place].bleu[_LAST], 1))


def method_sentence(e: Evidence) -> str:
    """Return how the figures were made."""
    least, most = e.references
    each = count(most, "reference") if least == most else f"{least} to {count(most, 'reference')}"
    of = (
        count(e.examples, "test image")
        if e.groups == e.examples
        else f"{count(e.examples, 'test image')} in {count(e.groups, 'group')} with the same references each"
    )
    drawn = "images" if e.groups == e.examples else "groups"
    return (
        f"{of}, {each} an image. BLEU is multi-bleu's: the words as they are, nothing smoothed. An interval is that of "
        f"{e.draws:,} sets of {drawn} drawn with replacement: it says how much hangs on which images the test has, and "
        "nothing of other seeds."
    )


def captions_sentence(e: Evidence) -> str:
    """Return the sentence above the images."""
    if e.alike == e.examples:
        return f"The {e.after} and the {e.before} network write the same under every image."
    even = e.examples - e.better - e.worse
    return (
        f"Of {count(e.examples, 'test image')} the caption of the {e.after} network has the higher sentence score for "
        f"{e.better:,} ({percent(round(e.better / e.examples, 3))}), that of the {e.before} network for {e.worse:,} "
        f"({percent(round(e.worse / e.examples, 3))}); for {even:,} the scores are equal. Under {e.alike:,} both write "
        "the same."
    )


def scores_sentence(e: Evidence) -> str:
    """Return how to read the images."""
    picked = " Of images with the same references one is picked out." if e.groups < e.examples else ""
    return (
        "Beside a caption is its sentence score: sacrebleu's sentence BLEU, smoothed, as few single sentences share "
        f"four words in a row with a reference. It cannot be compared with the figures above.{picked}"
    )
