"""The schema of ``evidence.json`` for caption generation: captions of test images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from redense.tasks.evidence import Count, Evidence, Interval, Plain, Reason, Text, check_each

KIND = "captioning"
GROUPS = ("won", "lost", "random")

Four: TypeAlias = tuple[float, float, float, float]
"""Of BLEU-1 to BLEU-4."""
Intervals: TypeAlias = tuple[Interval, Interval, Interval, Interval]


class Figures(Plain):
    """A network's figures over the test split; what has four entries is of BLEU-1 to BLEU-4.

    Args:
        bleu: 0 to 100.
        interval: 95 %.
        gain: on the baseline.
        gain_interval: 95 %, of the same draws for both.
        relative: gain as % of the baseline's; None where that is 0.
        chrf: 0 to 100.
        perplexity: of a word; None where it is no finite number.
    """

    bleu: Four
    interval: Intervals
    gain: Four
    gain_interval: Intervals
    relative: tuple[float | None, float | None, float | None, float | None]
    chrf: float
    perplexity: float | None


class Image(Plain):
    """An image with what each network wrote, in the order of the networks, and what people did."""

    index: Count
    name: Text
    groups: Annotated[tuple[str, ...], AfterValidator(lambda found: tuple(one for one in GROUPS if one in found))]
    captions: tuple[Text, ...]
    scores: tuple[float, ...]
    references: tuple[Text, ...]
    picture: str | None
    """PNG in base64."""

    @property
    def gain(self) -> float:
        """The last network's sentence score less the first one's."""
        return self.scores[-1] - self.scores[0]


class CaptioningEvidence(Evidence):
    """The captions of several networks for the same test images.

    Args:
        examples: images.
        groups: images that differ in their references; those that share all of them are one.
        draws: of the bootstrap.
        references: the least and the most that an image has.
        table: a row for each network.
        better: images where the last network has the higher sentence score.
        worse: where the first has.
        alike: images for which both wrote the same.
        shown: the images that were picked out.
        notes: what has to be said of the data.
        no_pictures: why there are none.
    """

    kind: ClassVar[str] = KIND
    examples: Count
    groups: Count
    draws: Count
    references: tuple[Count, Count]
    table: tuple[Figures, ...]
    better: Count
    worse: Count
    alike: Count
    shown: tuple[Image, ...]
    notes: tuple[Text, ...] = Field(default=())
    no_pictures: Reason

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_each(self.networks, "figures", self.table)
        check_each(self.networks, "captions", *(part for one in self.shown for part in (one.captions, one.scores)))
        return self
