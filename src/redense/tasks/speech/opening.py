"""Opening the recogniser of a run or export: its symbols, its weights, and other recordings to evaluate it on."""

from __future__ import annotations

from pathlib import Path

import torch
from typing_extensions import override

from redense.errors import StateError
from redense.files.json_text import read_json
from redense.tasks.graphs import Inputs, Standalone
from redense.tasks.task import OtherData, Split
from redense.tasks.weights import final_weights

from .config import SpeechData, SpeechModel
from .data.loading import corpus_to_judge
from .examples import SpeechExamples
from .exporting import graphs
from .recogniser import Recogniser
from .task import Speech
from .transcripts.alphabet import Alphabet


def open_recogniser(folder: Path, data: SpeechData, model: SpeechModel) -> Recogniser:
    """Return the recogniser of a run or export, on an accelerator where there is one.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    weights = final_weights(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Recogniser.load(data, model, alphabet_of(folder, data, model), weights, device)


def alone(folder: Path, data: SpeechData, model: SpeechModel) -> Standalone:
    """Return the network of a run or export without its data.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    opened, random = open_recogniser(folder, data, model), torch.Generator().manual_seed(0)
    calls: list[Inputs] = []
    for lengths in ([150, 97, 41], [60]):
        frames = torch.randn(len(lengths), max(lengths), data.spectrogram.bins, generator=random)
        own = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
        calls.append((frames * own[:, :, None], torch.tensor(lengths)))
    size, stride = opened.alphabet.size, opened.stride
    return Standalone(opened.network, lambda network: graphs(network, calls, stride, size))


def alphabet_of(folder: Path, data: SpeechData, model: SpeechModel) -> Alphabet:
    """Return the symbols of a run: of its recipe, as kept with its result, or of its training data.

    Raises:
        StateError: what is kept is damaged.
    """
    if data.alphabet:
        return Alphabet(tuple(data.alphabet))
    path = folder / "artifacts" / "alphabet.json"
    if path.is_file():
        try:
            symbols = read_json(path)
        except (OSError, ValueError) as error:
            raise StateError(f"{path} is damaged: {error}") from None
        if isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols):
            return Alphabet(tuple(symbols))
    return Speech(data, model).alphabet


def other_recordings(folder: Path, data: SpeechData, model: SpeechModel, split: str | None) -> OtherData:
    """Return recordings that a run was not trained on, read with its alphabet.

    Args:
        folder: of the run.
        data: names the recordings.
        model: the network.
        split: of them, or ``all``; None: their test split if they have one, else all.

    Raises:
        DataError: the data is missing, broken or unfit, or there is no such split.
    """
    known = "".join(alphabet_of(folder, data, model).symbols)
    data = SpeechData.model_validate({**data.model_dump(mode="json"), "alphabet": known})
    corpus, chosen = corpus_to_judge(data, split)
    task = OtherRecordings(data, model, corpus)
    which = "all of it" if chosen == "all" else f"its {chosen} split"
    said = f"{' + '.join(data.sources)} is other data than the run's, read with the run's alphabet: {which}"
    return OtherData(task, "test", (said, *task.notes), chosen)


class OtherRecordings(Speech):
    """The task with other recordings in place of its test split, and no others."""

    @override
    def examples(self, split: Split) -> SpeechExamples:
        """Return the clips that are judged, whatever the split is called."""
        return super().examples("test")
