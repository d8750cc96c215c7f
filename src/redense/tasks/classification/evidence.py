"""Evidence of image classification: answers by class and by example, as plain data for the report.

Networks are compared by what they answered for the same examples. An outcome is what `Classification.outcome` gives:
``label``, ``answer``, ``rank`` (0 = right) and ``loss`` of every example, (n,) each.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from redense.tasks.evidence import Missing

from .schema import KIND, Changes, ClassificationEvidence, ClassRow, Example, OfClass

MOST_SHOWN = 24  # examples of each kind that go into the report
_TOP = 5

Outcome = Mapping[str, Tensor]
Pictures = Callable[[Sequence[int]], Sequence[bytes]]
"""The pictures of test examples by index, as PNG."""


def per_class(outcome: Outcome, classes: int) -> list[dict[str, Any]]:
    """Return for every class its examples, how many are wrong, how many are not in the first five, and its mean loss.

    ``top5_wrong`` is there for more than five classes. ``loss`` is None for a class without examples or with a loss
    that is no finite number.

    >>> outcome = {"label": [0, 0, 1], "rank": [0, 1, 0], "loss": [0.1, 0.9, 0.2]}
    >>> per_class({name: torch.tensor(values) for name, values in outcome.items()}, 2)[0]
    {'examples': 2, 'wrong': 1, 'loss': 0.5}
    """
    label, rank = outcome["label"], outcome["rank"]
    columns: dict[str, list[Any]] = {"examples": torch.bincount(label, minlength=classes).tolist()}
    columns["wrong"] = _count(label, rank > 0, classes)
    if classes > _TOP:
        columns["top5_wrong"] = _count(label, rank >= _TOP, classes)
    sums = torch.zeros(classes, dtype=torch.float64).index_add_(0, label, outcome["loss"].double()).tolist()
    means = [total / count if count else math.nan for total, count in zip(sums, columns["examples"], strict=True)]
    columns["loss"] = [round(mean, 6) if math.isfinite(mean) else None for mean in means]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def confusion(label: Tensor, answer: Tensor, classes: int) -> list[list[int]]:
    """Return how often each class was answered as each class: ``[class, answer, count]`` where that is not 0.

    Of a thousand classes few pairs are ever confused, so there is no matrix.

    >>> confusion(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    [[0, 0, 1], [0, 1, 1], [1, 1, 1]]
    """
    pairs, counts = torch.unique(label * classes + answer, return_counts=True)
    return torch.stack([pairs // classes, pairs % classes, counts], dim=1).tolist()


def flips(before: Outcome, after: Outcome) -> tuple[Tensor, Tensor]:
    """Return the indices of the examples that were fixed (wrong, then right) and broken (right, then wrong).

    The most confident changes come first: those where the probability of the true class rose, or fell, the most; equal
    ones go by index.
    """
    wrong_before, wrong_after = before["rank"] > 0, after["rank"] > 0
    rise = probability(after) - probability(before)
    return _ordered(wrong_before & ~wrong_after, rise), _ordered(~wrong_before & wrong_after, -rise)


def probability(outcome: Outcome) -> Tensor:
    """Return the probability that a network gave the true class of every example; 0 where its loss is no number."""
    return torch.exp(-outcome["loss"].double()).nan_to_num(0.0)


def evidence(
    outcomes: Mapping[str, Outcome], classes: Sequence[str], pictures: Pictures | None, *, most: int = MOST_SHOWN
) -> dict[str, Any]:
    """Return what networks did, as plain JSON data; or ``missing``, with the reason why it cannot be told.

    Args:
        outcomes: network -> outcome over the same examples; the first is the baseline, the last the one that is judged.
        classes: their names.
        pictures: gives the pictures of examples; None where the task has none.
        most: how many fixed and broken examples are picked out.
    """
    if not outcomes or any("label" not in outcome for outcome in outcomes.values()):
        why = "what was right was not kept with the answers; evaluate the networks anew"
        return Missing(kind=KIND, missing=why).to_dict()
    networks = list(outcomes.values())
    before, after = networks[0], networks[-1]
    fixed, broken = flips(before, after)
    label, size = after["label"], len(classes)
    rows = [per_class(outcome, size) for outcome in networks]
    fixed_of, broken_of = (torch.bincount(label[which], minlength=size).tolist() for which in (fixed, broken))
    cells = [confusion(outcome["label"], outcome["answer"], size) for outcome in (before, after)]
    first, last = (tuple((row, column, count) for row, column, count in one) for one in cells)
    return ClassificationEvidence(
        networks=tuple(outcomes),
        examples=len(label),
        classes=tuple(
            ClassRow(
                name=str(name),
                examples=rows[0][index]["examples"],
                fixed=fixed_of[index],
                broken=broken_of[index],
                networks=tuple(OfClass.model_validate(row[index]) for row in rows),
            )
            for index, name in enumerate(classes)
        ),
        confusion=(first, last),
        ties=(_ties(before), _ties(after)),
        fixed=Changes(total=len(fixed), shown=_shown(fixed[:most], before, after, pictures)),
        broken=Changes(total=len(broken), shown=_shown(broken[:most], before, after, pictures)),
        no_pictures=None if pictures else "the task gives no pictures of its examples",
    ).to_dict()


def _ties(outcome: Outcome) -> int:
    return int(((outcome["rank"] > 0) & (outcome["answer"] == outcome["label"])).sum())


def _count(label: Tensor, which: Tensor, classes: int) -> list[int]:
    return torch.bincount(label[which], minlength=classes).tolist()


def _ordered(which: Tensor, by: Tensor) -> Tensor:
    indices = which.nonzero().flatten()
    return indices[torch.sort(by[indices], descending=True, stable=True).indices]


def _shown(which: Tensor, before: Outcome, after: Outcome, pictures: Pictures | None) -> tuple[Example, ...]:
    indices = which.tolist()
    images = pictures(indices) if pictures and indices else [None] * len(indices)
    one, other = (probability(outcome) for outcome in (before, after))
    return tuple(
        Example(
            index=index,
            label=int(after["label"][index]),
            answers=(int(before["answer"][index]), int(after["answer"][index])),
            probabilities=(round(float(one[index]), 6), round(float(other[index]), 6)),
            picture=base64.b64encode(image).decode() if image else None,
        )
        for index, image in zip(indices, images, strict=True)
    )
