"""The entry of speech recognition: a task made with its data, described without it, or sketched on random frames."""

from __future__ import annotations

from redense.errors import RecipeError
from redense.tasks.task import Facts, Settings

from .config import ExpectedSpeech, SpeechData
from .data.inspecting import small_notes
from .sketch import SketchedSpeech
from .spectrogram import frames_in
from .task import Speech

_KNOWN: dict[tuple[str, ...], ExpectedSpeech] = {
    ("tones",): ExpectedSpeech(train=323, seconds=0.71, symbols=16),
}
"""What is known of named sources, as long as no clip is left out for other reasons than ours."""


def make(settings: Settings) -> Speech:
    """Return the task of a recipe, its data loaded.

    Raises:
        DataError: the data is missing, broken or unfit.
    """
    _refuse(settings)
    return Speech(settings.data, settings.model)


def facts(settings: Settings) -> Facts:
    """Return what the data is: as the recipe says, or else by loading it.

    Raises:
        DataError: the recipe does not say, and the data is missing.
    """
    _refuse(settings)
    data: SpeechData = settings.data
    said = data.expected or (_KNOWN.get(data.sources) if data == SpeechData() else None)
    notes: tuple[str, ...] = ()
    if said:
        train, seconds, symbols = min(said.train, data.limit or said.train), said.seconds, said.symbols
    else:
        task = make(settings)
        utterances = task.utterances("train")
        train, symbols = len(utterances), len(task.alphabet.symbols)
        seconds = sum(utterance.seconds for utterance in utterances) / train
        notes = (
            *task.notes,
            *small_notes({"validation": task.utterances("validation"), "test": task.utterances("test")}),
        )
    frames = frames_in(seconds, data.spectrogram)
    return Facts(
        train=train,
        text=f"{train:,} clips of {seconds:.1f} s on average, {frames} frames of {data.spectrogram.bins} bins, "
        f"{symbols} symbols",
        size=frames * data.spectrogram.bins,
        looked_at=not said,
        notes=notes,
        details={"frames": frames, "symbols": symbols},
    )


def sketch(settings: Settings, facts: Facts, examples: int) -> SketchedSpeech:
    """Return the task on so many random clips of the average length."""
    return SketchedSpeech(
        settings.data,
        settings.model,
        frames=facts.details["frames"],
        symbols=facts.details["symbols"],
        examples=examples,
    )


def _refuse(settings: Settings) -> None:
    if settings.training.label_smoothing:
        raise RecipeError("training.label_smoothing is for classification and captioning, not for speech: remove it")
