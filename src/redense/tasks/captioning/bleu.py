"""BLEU as ``multi-bleu.perl`` computes it, which the paper's baseline was scored with; through sacrebleu.

Words are compared as they are: nothing is tokenised again, no case is changed, nothing is smoothed. Of several
references the one nearest in length counts for brevity, the shorter of two that are equally near.

What a sentence adds to the score of a set is a row of integers, so that any choice of sentences can be scored without
going back to their words, which is what a bootstrap over images needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from redense.errors import MissingExtraError

ORDERS = (1, 2, 3, 4)

Words = Sequence[str]


def statistics(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """Return what each sentence adds: int64 (n, 10), lengths of hypothesis and reference, 4 matches, 4 n-grams.

    Args:
        hypotheses: a sentence for each image, as words.
        references: at least one sentence for each image.

    Raises:
        MissingExtraError: sacrebleu is not installed.
        ValueError: the two are not as many, or an image has no reference.
    """
    if len(hypotheses) != len(references) or not all(references):
        raise ValueError("expected a hypothesis and at least one reference for every image")
    if not hypotheses:
        return np.zeros((0, 10), np.int64)
    metric = sacrebleu().BLEU(tokenize="none", smooth_method="none", force=True)
    rows: list[list[int]] = []
    for hypothesis, own in zip(hypotheses, references, strict=True):
        score = metric.corpus_score([" ".join(hypothesis)], [[" ".join(words)] for words in own])
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    return np.array(rows, np.int64)


def bleu(rows: np.ndarray) -> dict[str, float]:
    """Return BLEU-1 to BLEU-4 of a set, 0 to 100, from what its sentences add: (n, 10).

    >>> rows = statistics([("a", "red", "dog")], [[("a", "red", "dog"), ("a", "dog")]])
    >>> [round(value, 1) for value in bleu(rows).values()]
    [100.0, 100.0, 100.0, 0.0]
    """
    scores = scores_of(np.asarray(rows).reshape(-1, 10).sum(0)[None])[0]
    return {f"bleu{order}": float(score) for order, score in zip(ORDERS, scores, strict=True)}


def scores_of(sums: np.ndarray) -> np.ndarray:
    """Return BLEU-1 to BLEU-4 of many sets at once: sums of statistics (m, 10) to (m, 4).

    >>> scores_of(np.array([[4, 4, 4, 3, 2, 1, 4, 3, 2, 1]])).tolist()
    [[100.0, 100.0, 100.0, 100.0]]
    """
    sums = np.asarray(sums, np.float64)
    written, wanted = sums[:, 0], sums[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(sums[:, 2:6] > 0, sums[:, 2:6] / sums[:, 6:10], 0.0)
        brevity = np.where(written >= wanted, 1.0, np.exp(1 - wanted / written))
        means = np.exp(np.cumsum(np.log(precision), axis=1) / np.arange(1, 5))
    return np.where(written[:, None] > 0, 100 * brevity[:, None] * means, 0.0)


def chrf(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Return chrF of a set, 0 to 100 (Popovic 2015): characters instead of words, so that endings count less."""
    most = max(map(len, references), default=0)
    columns: list[list[str]] = [
        [" ".join(own[place]) if place < len(own) else "" for own in references] for place in range(most)
    ]
    return float(sacrebleu().CHRF().corpus_score([" ".join(words) for words in hypotheses], columns).score)


def sacrebleu() -> ModuleType:
    """Return sacrebleu's metrics.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MissingExtraError("captions are scored by sacrebleu: pip install 'redense[captioning]'") from error
    return metrics
