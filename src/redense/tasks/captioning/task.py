"""Caption generation as the engine sees it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.tasks.classification.data.pixels import decode
from redense.tasks.classification.data.png import thumbnail
from redense.tasks.graphs import Graph
from redense.tasks.task import Settings, Split

from . import METRIC, bleu, exporting
from .beam import write
from .config import CaptionData, CaptionModel
from .data import CaptionSet, load_captions
from .evidence import evidence
from .examples import PAD, CaptionedImages, CaptionPairs, Judged, Pairs
from .features import digest_of, features_of, open_eyes
from .network import NeuralTalk
from .tokens import vocabulary_of

_COMPARED = 32  # images that an export is compared with the network on
_EVALUATED = 20_000  # sentences of a beam at once, about


class Captioning:
    """Caption generation: the likelihood of every sentence in training; BLEU of what the network writes, to judge by.

    The loss is NeuralTalk's: the sum over the words of a sentence, its end too, as a mean over the sentences.

    Args:
        data: of the recipe.
        model: of the recipe.
        label_smoothing: part of each word that training spreads over all words; the loss that is reported has none.
    """

    name = "captioning"
    things: Mapping[Split, str] = {"train": "sentences", "validation": "images", "test": "images"}
    metric = METRIC
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ("words.*",)  # PAPER.md section 3: everything is pruned but Ws, the word embedding

    def __init__(self, data: CaptionData, model: CaptionModel, *, label_smoothing: float = 0.0) -> None:
        self.splits = splits = load_captions(data)
        self._data, self._model, self._smoothing = data, model, label_smoothing
        self.vocabulary, rare = vocabulary_of(splits.train.tokens, data.threshold, data.source or "", data.longest)
        self._digest = digest = digest_of(data.features)
        self.fingerprint, *others = (f"{known}/{digest}" for known in (splits.fingerprint, *splits.known_as))
        self.known_as = tuple(others)
        self.notes = (*splits.notes, *rare)
        parts: dict[Split, CaptionSet] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        numbers = [number for part in parts.values() for number in part.index]
        eyes = partial(open_eyes, data.features)
        seen = features_of(splits.train.images, numbers, eyes, digest, data.source or "")
        self.features = seen.shape[1]
        self._seen = dict(zip(parts, seen.split([len(part) for part in parts.values()]), strict=True))
        learned = [[words for words in own if words] for own in self._encoded(splits.train)]  # the notes count the rest
        self._train = CaptionPairs(self._seen["train"], learned, data.longest)
        # Outcomes are stored: a number in the source is another one as soon as a picture is left out before it.
        first: dict[Split, int] = {"validation": 0, "test": len(splits.validation)}
        self._judged: dict[Split, CaptionedImages] = {
            name: CaptionedImages(self._seen[name], self._encoded(parts[name]), range(place, place + len(parts[name])))
            for name, place in first.items()
        }
        self._references = [*splits.validation.tokens, *splits.test.tokens]

    def _encoded(self, part: CaptionSet) -> list[list[list[int]]]:
        return [[self.vocabulary.encode(words) for words in own] for own in part.tokens]

    @property
    def evaluation_batch(self) -> int:
        """Images judged at once."""
        return max(1, min(500, _EVALUATED // self._model.beam))

    @overload
    def examples(self, split: Literal["train"]) -> CaptionPairs: ...
    @overload
    def examples(self, split: Literal["validation", "test"]) -> CaptionedImages: ...
    def examples(self, split: Split) -> CaptionPairs | CaptionedImages:
        """Return a split."""
        return self._train if split == "train" else self._judged[split]

    def varied(self, settings: Settings) -> Captioning:
        """Return the task with another label smoothing."""
        other = copy.copy(self)
        other._smoothing = settings.training.label_smoothing
        return other

    def build_model(self) -> NeuralTalk:
        """Return a freshly initialised network."""
        return NeuralTalk(
            self.features, len(self.vocabulary), self._model, log_frequencies=self.vocabulary.log_frequencies()
        )

    def loss(self, model: nn.Module, batch: Pairs) -> Tensor:
        """Return the negative log likelihood of a sentence, with label smoothing, as a mean over the batch's."""
        logits, following = model(batch.features, batch.words).flatten(0, 1), batch.following.flatten()
        smoothing = self._smoothing
        total = F.cross_entropy(logits, following, ignore_index=PAD, reduction="sum", label_smoothing=smoothing)
        return total / len(batch.words)

    def outputs(self, model: nn.Module, batch: Pairs) -> Tensor:
        """Return the logits of every word to be said: (words, vocabulary)."""
        return model(batch.features, batch.words)[batch.following != PAD]

    def outcome(self, model: nn.Module, batch: Judged) -> dict[str, Tensor]:
        """Return for every image its place, what the network writes, and how likely its sentences are.

        The place is that among the pictures of validation and then of the test, whatever else is in the source.
        ``image`` (b,), ``hypothesis`` int32 (b, longest) padded with -1, ``loss`` (b,) the sum over ``words`` (b,).
        """
        logits = model(batch.features[batch.owner], batch.words).float()
        losses = F.cross_entropy(logits.transpose(1, 2), batch.following, ignore_index=PAD, reduction="none").sum(1)
        zeros = torch.zeros(len(batch.image), device=losses.device)
        counts = (batch.following != PAD).sum(1)
        writer = cast("NeuralTalk", model)  # perhaps wrapped
        said, _ = write(writer, batch.features, beam=self._model.beam, longest=self._model.longest)
        over = (said == 0).cumsum(1) > 0
        return {
            "image": batch.image,
            "hypothesis": said.masked_fill(over, PAD).int(),
            "loss": zeros.index_add(0, batch.owner, losses),
            "words": zeros.long().index_add(0, batch.owner, counts),
        }

    def sentences(self, outcome: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
        """Return the words of what a network wrote for each image of an outcome."""
        return [self.vocabulary.decode(row) for row in outcome["hypothesis"].tolist()]

    def references(self, outcome: Mapping[str, Tensor]) -> list[tuple[tuple[str, ...], ...]]:
        """Return the words of what people said of each image of an outcome."""
        return [self._references[place] for place in outcome["image"].tolist()]

    def metrics(self, outcome: Mapping[str, Tensor]) -> dict[str, float]:
        """Return BLEU-1 to BLEU-4, chrF, the perplexity of a word, and the mean loss of one, in nats."""
        said, references = self.sentences(outcome), self.references(outcome)
        loss = float(outcome["loss"].double().sum() / outcome["words"].sum())
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            **bleu.bleu(bleu.statistics(said, references)),
            "chrf": bleu.chrf(said, references),
        }

    def graphs(self, model: nn.Module) -> list[Graph]:
        """Return the two steps of writing a sentence: looking at an image, and one more word."""
        return exporting.graphs(model, self.examples("validation").features[:_COMPARED], self._model.longest)

    def artifacts(self) -> dict[str, str]:
        """Return ``vocabulary.json``, and ``features.json``, which tells the CNN from others."""
        seen = {"digest": self._digest, "features": self.features}
        return {"vocabulary.json": self.vocabulary.to_json(), "features.json": json.dumps(seen) + "\n"}

    def pictures(self, split: Split, indices: Sequence[int]) -> list[bytes | None]:
        """Return small PNG files of chosen images of a split; None for one that can no longer be read."""
        part: CaptionSet = getattr(self.splits, split)
        return [_thumbnail(part, index) for index in indices]

    def evidence(self, outcomes: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the scores of what networks wrote for the test images, and images with their captions.

        An outcome has a row for each test image, in order; ``image`` of an older redense's is a number in the source as
        it was then, and is not asked for.
        """
        test = self.splits.test
        return evidence(
            outcomes,
            self.sentences,
            test.tokens,
            [test.images.name(number) for number in test.index],
            partial(self.pictures, "test"),
            notes=self.notes,
        )


def _thumbnail(part: CaptionSet, index: int) -> bytes | None:
    try:
        picture = decode(part.images.read(part.index[index]))
    except Exception:  # noqa: BLE001  # Pillow raises a dozen kinds; a report without one picture is still a report
        return None
    return thumbnail(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
