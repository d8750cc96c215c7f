"""A trained network that captions pictures: with its vocabulary and its CNN, and without the data it learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from redense.errors import StateError
from redense.files.checksums import check_folder
from redense.files.json_text import parse_json
from redense.files.opening import at_home, read_text
from redense.tasks.classification.classifier import open_picture
from redense.tasks.classification.data.sets import first_line
from redense.tasks.weights import final_weights, load_weights_, verify_answer

from .beam import write_all
from .config import CNN, CaptionData, CaptionModel
from .features import Eyes, digest_of, open_eyes
from .network import NeuralTalk
from .tokens import Vocabulary, vocabulary_from_json


@dataclass(frozen=True)
class Caption:
    """A sentence, and how likely the network finds it: the natural logarithm of its probability."""

    text: str
    log_probability: float


@dataclass(frozen=True, eq=False)
class Captioner:
    """A network in evaluation mode with all that it needs to caption a picture.

    Args:
        eyes: the CNN.
        network: writes.
        vocabulary: its words.
        model: how it writes, if nothing else is said.
    """

    eyes: Eyes
    network: NeuralTalk
    vocabulary: Vocabulary
    model: CaptionModel

    def captions(self, pictures: Sequence[Any], *, beam: int | None = None) -> list[list[Caption]]:
        """Return for each picture the sentences that the beam found, the most likely first.

        Args:
            pictures: RGB, of Pillow.
            beam: sentences kept while one is written; None: as many as the recipe says.
        """
        features = self.eyes.see(pictures).to(next(self.network.parameters()).device)
        words, scores = write_all(self.network, features, beam=beam or self.model.beam, longest=self.model.longest)
        return [
            [
                Caption(" ".join(self.vocabulary.decode(row)), float(score))
                for row, score in zip(own.tolist(), likely.tolist(), strict=True)
                if math.isfinite(score)  # a beam that is wider than there are sentences
            ]
            for own, likely in zip(words, verify_answer(scores), strict=True)
        ]

    def predict(self, path: str | Path) -> str:
        """Return the caption of a picture's file.

        Raises:
            DataError: it is missing, or no picture.
        """
        return self.captions([open_picture(Path(path))])[0][0].text


def open_captioner(folder: Path, data: CaptionData, model: CaptionModel) -> Captioner:
    """Return the network of a finished run of these settings, or of its export.

    Raises:
        StateError: the run is not finished, a file of it is missing or damaged, or its CNN is not there or another.
        RecipeError: the CNN has no such layer.
        DataError: the CNN's weights cannot be downloaded.
    """
    network, words, digest = open_writer(folder, model)
    _refuse_another(data, digest, folder)
    eyes = open_eyes(data.features)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return Captioner(eyes, network.to(device), words, model)


def companions(folder: Path, data: CaptionData) -> dict[str, Path]:
    """Return the files of the CNN that a trained network sees with, by their names in an export; a library's has none.

    Raises:
        StateError: the CNN is not there, or is another than that of the training, or needs its data.
        CheckpointError: a file of it is damaged.
    """
    if data.features.is_of_library:
        return {}
    _refuse_another(data, _read(folder, "features.json", _features)[1], folder)
    place = at_home(data.features.weights)
    if place.is_file():
        return {f"{CNN}{place.suffix}": place}
    check_folder(place)
    files = {f"{CNN}/{name}": place / name for name in ("model.safetensors", "recipe.yaml", "artifacts/inputs.json")}
    if missing := [path for path in files.values() if not path.is_file()]:
        raise StateError(f"{missing[0]} is missing: an older redense trained that CNN, and it needs its data")
    return files


def _refuse_another(data: CaptionData, digest: str, folder: Path) -> None:
    if digest_of(data.features) != digest:
        raise StateError(
            f"{data.features.weights} is not the CNN that {folder} was trained with: its weights or settings differ"
        )


def open_writer(folder: Path, model: CaptionModel) -> tuple[NeuralTalk, Vocabulary, str]:
    """Return the network of a finished run or export, its words, and the digest of the CNN that sees for it.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    weights = final_weights(folder)
    check_folder(folder)
    words = _read(folder, "vocabulary.json", vocabulary_from_json)
    features, digest = _read(folder, "features.json", _features)
    network = NeuralTalk(features, len(words), model)
    load_weights_(network, weights)
    return network.eval(), words, digest


def _features(text: str) -> tuple[int, str]:
    said: Any = parse_json(text)
    return int(said["features"]), str(said["digest"])


def _read(folder: Path, name: str, parse: Any) -> Any:
    path = folder / "artifacts" / name
    try:
        return parse(read_text(path))
    except FileNotFoundError:
        raise StateError(
            f"{folder} has no artifacts/{name}: an older redense trained it; train it again, or copy the whole folder"
        ) from None
    except (ArithmeticError, KeyError, OSError, TypeError, ValueError) as error:
        raise StateError(f"{path} is damaged ({first_line(error)}): take the whole run folder again") from None
