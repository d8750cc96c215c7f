"""Caption generation on random features and sentences: for plans and dry runs where the data is not at hand."""

from __future__ import annotations

import torch

from redense.tasks.task import Split

from .config import CaptionModel
from .examples import CaptionedImages, CaptionPairs
from .task import Captioning
from .tokens import Vocabulary


class SketchedCaptioning(Captioning):
    """The task with ``examples`` random images, each with one sentence of ``length`` words, in every split."""

    def __init__(
        self,
        model: CaptionModel,
        *,
        examples: int,
        words: int,
        features: int,
        length: int,
        label_smoothing: float = 0.0,
    ) -> None:
        self.fingerprint = f"sketch/{examples}/{words}/{features}/{length}"
        self.notes = ()
        self._model, self.features, self._smoothing = model, features, label_smoothing
        self.vocabulary = Vocabulary(tuple(f"w{index}" for index in range(1, words)), (1,) * words)
        generator = torch.Generator().manual_seed(0)
        seen = torch.randn(examples, features, generator=generator)
        drawn = torch.randint(1, words, (examples, 1, length), generator=generator)
        sentences = drawn.tolist()
        self._train = CaptionPairs(seen, sentences, length)
        judged = CaptionedImages(seen, sentences, range(examples))
        self._judged: dict[Split, CaptionedImages] = {"validation": judged, "test": judged}
        self._references = [tuple(self.vocabulary.decode(words) for words in own) for own in sentences]
