"""Word and character error rates by exact alignment (jiwer), with bootstrap intervals.

The rate of a set is its errors over its reference's length, both summed over the utterances: not a mean of rates. An
empty reference is scored as any other (all that is heard there is inserted) and counted, so that it can be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from redense.errors import DataError, MissingExtraError
from redense.optional.extras import refuse_folder

if TYPE_CHECKING:
    from jiwer.process import AlignmentChunk

Unit: TypeAlias = Literal["words", "characters"]
Kind: TypeAlias = Literal["hit", "substitution", "deletion", "insertion"]
Rows: TypeAlias = NDArray[np.int64]

DRAWS = 2000
LEVEL = 0.95
_CHUNK = 1 << 22  # numbers of a resampling held at once
_KINDS: dict[str, Kind] = {
    "equal": "hit",
    "substitute": "substitution",
    "delete": "deletion",
    "insert": "insertion",
}


@dataclass(frozen=True)
class Counts:
    """The units of a reference by result; hits, substitutions and deletions are all of them."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """All that is wrong: the edit distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference(self) -> int:
        """The length of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float | None:
        """Errors in % of the reference; over 100 where much is inserted, None where the reference is empty."""
        return 100 * self.errors / self.reference if self.reference else None


@dataclass(frozen=True)
class Edit:
    """One step of an alignment; what is not there is None."""

    kind: Kind
    reference: str | None
    hypothesis: str | None


@dataclass(frozen=True)
class Score:
    """The error rate of a set, its 95 % interval, and what has to be said beside it.

    Args:
        counts: summed over the utterances.
        interval: in %, by the percentile bootstrap over utterances; None with fewer than two, or no reference at all.
        wrong: utterances with any error.
        empty_references: utterances whose reference has no unit; all that was heard there is inserted.
        empty_hypotheses: utterances of which nothing was heard.
    """

    unit: Unit
    utterances: int
    counts: Counts
    interval: tuple[float, float] | None
    wrong: int
    empty_references: int
    empty_hypotheses: int

    @property
    def rate(self) -> float | None:
        """The error rate in %; None where the references are empty."""
        return self.counts.rate


@dataclass(frozen=True)
class Change:
    """One network against another over the same utterances.

    Args:
        points: the difference of the rates, after - before, in percentage points.
        relative: the part of the errors that is gone, in %; negative where there are more.
        interval: of ``points``, 95 %, by the paired bootstrap over utterances.
        better: the share of resamplings in which ``after`` has fewer errors (Bisani and Ney, 2004); ties count half.
    """

    points: float
    relative: float | None
    interval: tuple[float, float] | None
    better: float | None


def units(text: str, unit: Unit = "words") -> list[str]:
    """Return the words of a text, or its characters; blanks at its ends and double ones do not count.

    >>> units(" hello  you ")
    ['hello', 'you']
    >>> units("a  b ", "characters")
    ['a', ' ', 'b']
    """
    words = text.split()
    return words if unit == "words" else list(" ".join(words))


def align(hypothesis: str, reference: str, unit: Unit = "words") -> list[Edit]:
    """Return the steps that lead from a reference to a hypothesis, with the fewest errors.

    >>> [(edit.kind, edit.reference, edit.hypothesis) for edit in align("the bat sat", "the cat sat down")]
    [('hit', 'the', 'the'), ('substitution', 'cat', 'bat'), ('hit', 'sat', 'sat'), ('deletion', 'down', None)]

    Raises:
        MissingExtraError: jiwer is not installed.
    """
    said, heard = units(reference, unit), units(hypothesis, unit)
    ((chunks),) = _chunks([heard], [said])
    return [
        Edit(
            _KINDS[chunk.type],
            None if chunk.type == "insert" else said[chunk.ref_start_idx + step],
            None if chunk.type == "delete" else heard[chunk.hyp_start_idx + step],
        )
        for chunk in chunks
        for step in range(max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx))
    ]


def utterance_counts(hypotheses: Sequence[str], references: Sequence[str], unit: Unit = "words") -> Rows:
    """Return hits, substitutions, deletions and insertions of every utterance: (n, 4).

    Raises:
        DataError: there are not as many hypotheses as references.
        MissingExtraError: jiwer is not installed.
    """
    if len(hypotheses) != len(references):
        raise DataError(f"got {len(hypotheses)} hypotheses for {len(references)} references, expected one for each")
    rows = np.zeros((len(references), 4), dtype=np.int64)
    columns = {"equal": 0, "substitute": 1, "delete": 2, "insert": 3}
    said, heard = ([units(text, unit) for text in texts] for texts in (references, hypotheses))
    for row, chunks in zip(rows, _chunks(heard, said), strict=True):
        for chunk in chunks:
            length = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            row[columns[chunk.type]] += length
    return rows


def error_counts(hypotheses: Sequence[str], references: Sequence[str], unit: Unit = "words") -> Counts:
    """Return the counts of a set.

    >>> error_counts(["a c", ""], ["a b", "d"])
    Counts(hits=1, substitutions=1, deletions=1, insertions=0)

    Raises:
        DataError: there are not as many hypotheses as references.
        MissingExtraError: jiwer is not installed.
    """
    return total(utterance_counts(hypotheses, references, unit))


def total(rows: Rows) -> Counts:
    """Return the sum of the counts of utterances; rows: (n, 4)."""
    return Counts(*(int(column) for column in rows.sum(axis=0)))


def score(rows: Rows, unit: Unit = "words", *, draws: int = DRAWS, seed: int = 0) -> Score:
    """Return the error rate of utterances with its interval; rows: (n, 4), of `utterance_counts`.

    Whole utterances are drawn with replacement, since the errors inside one depend on each other. The same seed gives
    the same interval.

    >>> score(utterance_counts(["a c", "d"], ["a b", "d"]), draws=100).rate
    33.33...
    """
    errors, lengths = _errors_and_lengths(rows)
    interval = None
    if len(rows) > 1 and lengths.sum():
        sums = np.concatenate(list(_resampled(np.stack([errors, lengths], axis=1), draws, seed)))
        rates = 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)  # a draw of empty references alone has no rate
        interval = _percentiles(rates[sums[:, 1] > 0])
    return Score(
        unit=unit,
        utterances=len(rows),
        counts=total(rows),
        interval=interval,
        wrong=int((errors > 0).sum()),
        empty_references=int((lengths == 0).sum()),
        empty_hypotheses=int((rows[:, [0, 1, 3]].sum(axis=1) == 0).sum()),
    )


def change(before: Rows, after: Rows, *, draws: int = DRAWS, seed: int = 0) -> Change | None:
    """Return what another network changes on the same utterances; None where the references are empty.

    Raises:
        DataError: the rows are not of the same references.
    """
    (was, lengths), (now, others) = _errors_and_lengths(before), _errors_and_lengths(after)
    if len(was) != len(now) or not np.array_equal(lengths, others):
        raise DataError("two networks are compared on the same utterances; these have different references")
    if not lengths.sum():
        return None
    points = float(100 * (now.sum() - was.sum()) / lengths.sum())
    relative = float(100 * (was.sum() - now.sum()) / was.sum()) if was.sum() else None
    if len(was) < 2:
        return Change(points, relative, None, None)
    sums = np.concatenate(list(_resampled(np.stack([now - was, lengths], axis=1), draws, seed)))
    sums = sums[sums[:, 1] > 0]
    better = float(((sums[:, 0] < 0) + 0.5 * (sums[:, 0] == 0)).mean())
    return Change(points, relative, _percentiles(100 * sums[:, 0] / sums[:, 1]), better)


def by_group(groups: Sequence[str]) -> Mapping[str, NDArray[np.int64]]:
    """Return the places of each group, in the order in which the groups first come up.

    >>> {name: places.tolist() for name, places in by_group(["92", "93", "92"]).items()}
    {'92': [0, 2], '93': [1]}
    """
    places: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    return {group: np.array(found, dtype=np.int64) for group, found in places.items()}


def _errors_and_lengths(rows: Rows) -> tuple[Rows, Rows]:
    return rows[:, 1:].sum(axis=1), rows[:, :3].sum(axis=1)


def _resampled(columns: Rows, draws: int, seed: int) -> Iterator[Rows]:
    """Yield sums of each column over as many utterances drawn with replacement: (draws, columns) in all."""
    generator, n = np.random.default_rng(seed), len(columns)
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        weights = generator.multinomial(n, np.full(n, 1 / n), size=min(step, draws - start))
        yield weights @ columns


def _percentiles(values: NDArray[Any]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _chunks(heard: list[list[str]], said: list[list[str]]) -> list[list[AlignmentChunk]]:
    try:
        import jiwer

        refuse_folder(jiwer)
    except ImportError as error:
        raise MissingExtraError("error rates need jiwer: pip install 'redense[speech]'") from error
    # Already in units: jiwer's own transforms would split them again.
    transform: Any = _as_given
    given: Any = (said, heard)
    return jiwer.process_words(*given, reference_transform=transform, hypothesis_transform=transform).alignments


def _as_given(units: list[list[str]]) -> list[list[str]]:
    return units
