"""The entry of caption generation: a task made with its data, described without it, or sketched on random features."""

from __future__ import annotations

from redense.tasks.task import Facts, Settings

from .data.inspecting import small_notes
from .sketch import SketchedCaptioning
from .task import Captioning


def make(settings: Settings) -> Captioning:
    """Return the task of a recipe, its data loaded and seen by the CNN.

    Raises:
        DataError: the data is missing, broken or unfit.
        StateError: the CNN's weights are missing.
    """
    return Captioning(settings.data, settings.model, label_smoothing=settings.training.label_smoothing)


def facts(settings: Settings) -> Facts:
    """Return what the data is: as the recipe says, or else by loading it.

    Raises:
        DataError: the recipe does not say, and the data is missing.
    """
    expected, notes = settings.data.expected, ()
    if expected is not None:
        pairs, words, features, length = expected.pairs, expected.words, expected.features, expected.length
    else:
        task = make(settings)
        train = task.examples("train")
        pairs, words, features = len(train), len(task.vocabulary), task.features
        length = round(sum(train.lengths) / len(train))
        notes = (*task.notes, *small_notes(len(task.examples("validation")), len(task.examples("test"))))
    return Facts(
        train=pairs,
        text=f"{pairs:,} sentences of about {length} words, {words:,} words known, {features:,} features an image",
        size=features + length,
        looked_at=expected is None,
        details={"words": words, "features": features, "length": length},
        notes=notes,
    )


def sketch(settings: Settings, facts: Facts, examples: int) -> SketchedCaptioning:
    """Return the task on so many random sentences of random images."""
    smoothing = settings.training.label_smoothing
    return SketchedCaptioning(settings.model, examples=examples, label_smoothing=smoothing, **facts.details)
