"""Evidence of caption generation: captions of the same test images, the paper's table and figure, as plain data.

Figures of a set are BLEU as `bleu` has it. A single sentence seldom shares four words in a row with a reference, so the
score beside a caption is smoothed: sacrebleu's sentence BLEU, of as many orders as the sentence has words for, up to
4, with its exponential smoothing. The two are not to be compared.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redense.tasks.evidence import Missing

from . import bleu
from .bleu import Words
from .schema import KIND, CaptioningEvidence, Figures, Four, Image, Intervals

MOST_SHOWN = 12  # images of each group that go into the report
DRAWS = 1000

Pictures = Callable[[Sequence[int]], Sequence[bytes | None]]
"""The pictures of test images by index, as PNG; None for one that cannot be had."""


def evidence(
    outcomes: Mapping[str, Mapping[str, Tensor]],
    captions: Callable[[Mapping[str, Tensor]], Sequence[Words]],
    references: Sequence[Sequence[Words]],
    names: Sequence[str],
    pictures: Pictures | None,
    *,
    notes: Sequence[str] = (),
    most: int = MOST_SHOWN,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what networks wrote, as plain JSON data; or ``missing``, with the reason why it cannot be told.

    Args:
        outcomes: network -> outcome of the same images; the first is the baseline, the last the one that is judged.
        captions: gives the words that an outcome has for each image.
        references: of each image.
        names: of the images.
        pictures: gives them; None where the task has none.
        notes: what has to be said of the data.
        most: images of each group that are picked out: most won, most lost, drawn at random.
        seed: of the drawing, and of the bootstrap.

    Raises:
        MissingExtraError: sacrebleu is not installed.
    """
    if not outcomes or not references:
        return Missing(kind=KIND, missing="the test split has no images").to_dict()
    said = {name: captions(outcome) for name, outcome in outcomes.items()}
    rows = {name: bleu.statistics(written, references) for name, written in said.items()}
    groups = same_references(references)
    counts = _draws(int(groups.max()) + 1, seed)
    first, last = next(iter(said)), next(reversed(said))
    scores = {name: sentence_scores(said[name], references) for name in (first, last)}
    gain = scores[last] - scores[first]
    chosen = choose(gain, groups, most=most, seed=seed)
    return CaptioningEvidence(
        networks=tuple(said),
        examples=len(references),
        groups=int(groups.max()) + 1,
        draws=DRAWS,
        references=(min(map(len, references)), max(map(len, references))),
        table=tuple(
            _figures(rows[name], rows[first], groups, counts, bleu.chrf(said[name], references), _perplexity(outcome))
            for name, outcome in outcomes.items()
        ),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        alike=sum(tuple(a) == tuple(b) for a, b in zip(said[first], said[last], strict=True)),
        shown=_shown(chosen, said, scores, references, names, pictures),
        notes=tuple(notes),
        no_pictures=None if pictures else "the task gives no pictures of its examples",
    ).to_dict()


def sentence_scores(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """Return a score of each caption, 0 to 100, (n,): sacrebleu's sentence BLEU, smoothed.

    >>> one = [[("a", "red", "dog")]]
    >>> sentence_scores([("a", "red", "dog")], one).round(1).tolist()
    [100.0]
    >>> sentence_scores([("a", "dog")], one).round(1).tolist()
    [42.9]
    """
    metric = bleu.sacrebleu().BLEU(tokenize="none", smooth_method="exp", effective_order=True)
    return np.array(
        [
            metric.sentence_score(" ".join(words), [" ".join(other) for other in own]).score
            for words, own in zip(captions, references, strict=True)
        ]
    )


def same_references(references: Sequence[Sequence[Words]]) -> np.ndarray:
    """Return for every image the number of its group, int64 (n,): images of one group have the very same references.

    Such are the styles of one emoji, or a photograph that is there twice: they say little that is new, so the
    bootstrap draws whole groups, and of a group only one image is picked out.

    >>> same_references([[("a",)], [("b",)], [("a",)]]).tolist()
    [0, 1, 0]
    """
    known: dict[tuple[tuple[str, ...], ...], int] = {}
    return np.array([known.setdefault(tuple(tuple(words) for words in own), len(known)) for own in references])


def choose(gain: np.ndarray, groups: np.ndarray, *, most: int, seed: int = 0) -> dict[str, list[int]]:
    """Return the images that are picked out: ``won`` and ``lost`` the most, and ``random`` ones, of any gain.

    Of a group, one at most is in each list. Equal gains go by index.

    >>> choose(np.array([1.0, 5.0, -2.0, 0.0]), np.arange(4), most=2)["won"]
    [1, 0]
    """
    order = np.argsort(-gain, kind="stable")
    drawn = np.random.default_rng(seed).permutation(len(gain))
    lost = np.argsort(gain, kind="stable")
    return {
        "won": _one_of_each([i for i in order.tolist() if gain[i] > 0], groups, most),
        "lost": _one_of_each([i for i in lost.tolist() if gain[i] < 0], groups, most),
        "random": _one_of_each(drawn.tolist(), groups, most),
    }


def _one_of_each(order: Sequence[int], groups: np.ndarray, most: int) -> list[int]:
    first: dict[int, int] = {}
    for index in order:
        first.setdefault(int(groups[index]), index)
    return list(first.values())[:most]


def _draws(groups: int, seed: int) -> np.ndarray:
    """Return the counts of each group in each bootstrap set: the same for every network, so that they pair."""
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)
    return drawn.astype(np.float64)


def _figures(
    rows: np.ndarray, base: np.ndarray, groups: np.ndarray, counts: np.ndarray, chrf: float, perplexity: float | None
) -> Figures:
    """Return BLEU-1 to BLEU-4 with 95 % intervals, and what is gained on the baseline, with that of the difference."""
    mine, other = (counts @ _per_group(part, groups) for part in (rows, base))
    value, before = bleu.scores_of(rows.sum(0)[None])[0], bleu.scores_of(base.sum(0)[None])[0]
    scores, scores_before = bleu.scores_of(mine), bleu.scores_of(other)
    pairs = zip(value.tolist(), before.tolist(), strict=True)
    one, two, three, four = (round(100 * (a - b) / b, 4) if b > 0 else None for a, b in pairs)
    return Figures(
        bleu=_rounded(value),
        interval=_ends(scores),
        gain=_rounded(value - before),
        gain_interval=_ends(scores - scores_before),
        relative=(one, two, three, four),
        chrf=round(chrf, 4),
        perplexity=perplexity,
    )


def _per_group(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    np.add.at(sums, groups, rows)
    return sums


def _ends(scores: np.ndarray) -> Intervals:
    low, high = (_rounded(ends) for ends in np.quantile(scores, [0.025, 0.975], axis=0))
    one, two, three, four = zip(low, high, strict=True)
    return one, two, three, four


def _rounded(values: np.ndarray) -> Four:
    one, two, three, four = (round(float(value), 4) for value in values)
    return one, two, three, four


def _perplexity(outcome: Mapping[str, Tensor]) -> float | None:
    mean = float(outcome["loss"].double().sum() / torch.clamp(outcome["words"].sum(), min=1))
    return round(math.exp(mean), 4) if math.isfinite(mean) and mean < 700 else None


def _shown(
    chosen: Mapping[str, Sequence[int]],
    said: Mapping[str, Sequence[Words]],
    known: Mapping[str, np.ndarray],
    references: Sequence[Sequence[Words]],
    names: Sequence[str],
    pictures: Pictures | None,
) -> tuple[Image, ...]:
    indices = list(dict.fromkeys(index for group in chosen.values() for index in group))
    own = [references[index] for index in indices]
    scores = {
        name: known[name][indices] if name in known else sentence_scores([said[name][i] for i in indices], own)
        for name in said
    }
    images = pictures(indices) if pictures and indices else [None] * len(indices)
    return tuple(
        Image(
            index=index,
            name=names[index],
            groups=tuple(group for group, members in chosen.items() if index in members),
            captions=tuple(" ".join(said[name][index]) for name in said),
            scores=tuple(round(float(scores[name][place]), 2) for name in said),
            references=tuple(" ".join(words) for words in own[place]),
            picture=base64.b64encode(image).decode() if image else None,
        )
        for place, (index, image) in enumerate(zip(indices, images, strict=True))
    )
