"""Selection over shards equals the selection of one process, to the bit, however they are cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from redense import masks
from redense.errors import ParameterError, ScoreError, SparsityError
from redense.masks import digits
from redense.masks import sharded as distributed
from redense.masks.sharded import Piece, kth, select_pieces, select_pieces_each
from redense.masks.sharding import Extent, Ranks

Pieces = list[dict[str, Piece]]


class Exchange:
    """Adds up the tensors of threads that stand for ranks, or takes the largest, and counts what a rank would send."""

    def __init__(self, ranks: int) -> None:
        self.barrier = threading.Barrier(ranks, timeout=20)
        self.given: list[Tensor] = [torch.empty(0)] * ranks
        self.calls: list[list[int]] = [[] for _ in range(ranks)]

    def of(self, rank: int) -> Ranks:
        def reduce(own: Tensor, combine: Callable[[Tensor], Tensor]) -> Tensor:
            assert own.dtype == torch.int64
            self.given[rank] = own.clone()
            self.calls[rank].append(own.numel() * own.element_size())
            self.barrier.wait()
            total = combine(torch.stack(self.given))  # also checks that all ranks ask for the same thing
            self.barrier.wait()
            return total

        return Ranks(
            lambda own: reduce(own, lambda all_: all_.sum(0)), lambda own: reduce(own, lambda all_: all_.amax(0))
        )


def together(ranks: int, work: Callable[[int, Ranks], Any]) -> tuple[list[Any], list[int]]:
    """What ``work`` returned, or raised, on every rank; and the bytes of every call, the same on all of them."""
    exchange, results = Exchange(ranks), [None] * ranks

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank, exchange.of(rank))
        except Exception as error:  # noqa: BLE001  # handed to the test
            results[rank] = error  # pyright: ignore[reportArgumentType, reportCallIssue]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(calls == exchange.calls[0] for calls in exchange.calls)
    return results, exchange.calls[0]


def cut(scores: Tensor, owners: Sequence[Tensor], ranks: int) -> list[Piece]:
    """Cut scores along every dimension: ``owners[d][i]`` is the part that position i of dimension d goes to."""
    pieces: list[Piece] = []
    for rank in range(ranks):
        positions, rest = [], rank
        for dimension, size in enumerate(scores.shape):
            parts = int(owners[dimension].max()) + 1 if size else 1
            positions.append((owners[dimension] == rest % parts).nonzero().flatten())
            rest //= parts
        extent = Extent(tuple(scores.shape), tuple(positions), counted=rest == 0)
        pieces.append(Piece(extent.take(scores), extent))
    return pieces


def assert_equal_masks(ranks: Pieces, scores: dict[str, Tensor], sparsity: float, absolute: bool) -> list[int]:
    """Compare one threshold over all scores, and one over each, with one process; return the calls of both."""
    shares = {name: sparsity * 0.9**i for i, name in enumerate(scores)}
    expected = (
        masks.select_global(scores, sparsity, absolute=absolute),
        {name: masks.select(values, shares[name], absolute=absolute) for name, values in scores.items()},
    )
    results, calls = together(
        len(ranks),
        lambda rank, others: (
            select_pieces(ranks[rank], sparsity, others, absolute=absolute),
            select_pieces_each(ranks[rank], shares, others, absolute=absolute),
        ),
    )
    for rank, both in enumerate(results):
        assert isinstance(both, tuple), both
        for chosen, right in zip(both, expected, strict=True):
            assert list(chosen) == list(scores)
            for name, mask in chosen.items():
                assert mask.dtype == torch.bool
                assert torch.equal(mask, ranks[rank][name].extent.take(right[name])), (rank, name)
    return calls


@st.composite
def problems(draw: st.DrawFn) -> tuple[Pieces, dict[str, Tensor], float, bool]:
    ranks = draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    levels = draw(st.sampled_from([1, 2, 5, 0]))  # how many different scores; 0 for any
    scores: dict[str, Tensor] = {}
    of_rank: Pieces = [{} for _ in range(ranks)]
    for i in range(draw(st.integers(1, 3))):
        shape = draw(st.lists(st.integers(0 if i else 1, 7), min_size=0, max_size=3))
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if levels:
            values = (values * levels).round() / 3
        name = f"{i}.weight"
        scores[name] = values.to(dtype)
        grid = [draw(st.integers(1, 2 if shape[1:] else 4)) for _ in shape]  # parts of every dimension, some empty
        owners = [
            torch.tensor([draw(st.integers(0, n - 1)) for _ in range(s)]) for n, s in zip(grid, shape, strict=True)
        ]
        parts = 1
        for n, s in zip(owners, shape, strict=True):
            parts *= int(n.max()) + 1 if s else 1
        for rank, piece in enumerate(cut(scores[name], owners, max(parts, ranks))):
            if rank < ranks:
                of_rank[rank][name] = piece
        if parts > ranks:  # more parts than ranks: everybody holds everything instead, and one counts
            for rank in range(ranks):
                extent = Extent.whole(tuple(shape), counted=rank == 0)
                of_rank[rank][name] = Piece(scores[name], extent)
    return of_rank, scores, draw(st.floats(0, 0.99)), draw(st.booleans())


@pytest.mark.parametrize("whole", [True, False], ids=["sent whole", "searched"])
@given(problem=problems())
def test_any_extent_gives_the_masks_of_one_process(whole: bool, problem: tuple[Pieces, dict[str, Tensor], float, bool]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_WHOLE", 2 if whole else 0)
        patch.setattr(digits, "_ROOM", 2048 if whole else 256)  # the more digits
        assert_equal_masks(*problem)


QUICK = ((2, False), (7, True))


@pytest.mark.parametrize("dimension", [0, 1, 2])
@pytest.mark.parametrize(
    ("ranks", "ties"),
    [
        pytest.param(ranks, ties, marks=[] if (ranks, ties) in QUICK else [pytest.mark.slow])
        for ranks in (1, 2, 4, 7)
        for ties in (False, True)
    ],
)
def test_an_uneven_or_empty_shard_along_any_dimension_changes_nothing(
    ranks: int, dimension: int, ties: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(distributed, "_WHOLE", 0)
    scores = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(1))
    scores = scores.round() if ties else scores
    owners = [torch.zeros(size, dtype=torch.int64) for size in scores.shape]
    each = -(-scores.shape[dimension] // ranks)
    owners[dimension] = torch.arange(scores.shape[dimension]) // each
    pieces = [{"w": piece} for piece in cut(scores, owners, int(owners[dimension].max()) + 1)]
    nothing = Extent((5, 3, 6), tuple(torch.arange(0 if d == dimension else s) for d, s in enumerate(scores.shape)))
    pieces += [{"w": Piece(nothing.take(scores), nothing)} for _ in range(ranks - len(pieces))]
    for sparsity in (0.1, 0.93):
        for absolute in (False, True):
            assert_equal_masks(pieces, {"w": scores}, sparsity, absolute)


@pytest.mark.parametrize(
    ("kind", "dtype", "most"),
    [("random", torch.float32, 8), ("equal", torch.bfloat16, 8), ("apart", torch.float64, 20)],
)
def test_a_choice_sends_a_few_batches_of_16_kilobytes_however_many_weights_there_are(
    kind: str, dtype: torch.dtype, most: int
):
    layers, numel = 32, 1 << 13
    generator = torch.Generator().manual_seed(0)
    scores = {f"{i}": torch.randn(numel, generator=generator).to(dtype) for i in range(layers)}
    if kind == "equal":  # which needs the most calls: for the index of the last tie
        scores = {name: torch.ones_like(values) for name, values in scores.items()}
    if kind == "apart":  # what the ranks find among their own scores says the least
        scores = {name: values.sort().values for name, values in scores.items()}
    owners = [torch.arange(numel) * 2 // numel]
    halves = {name: cut(values, owners, 2) for name, values in scores.items()}
    pieces = [{name: parts[rank] for name, parts in halves.items()} for rank in range(2)]
    shares = {name: 0.3 + 0.01 * i for i, name in enumerate(scores)}

    results, calls = together(2, lambda rank, ranks: select_pieces_each(pieces[rank], shares, ranks, absolute=True))
    for own, chosen in zip(pieces, results, strict=True):
        assert isinstance(chosen, dict), chosen
        for name, mask in chosen.items():
            assert torch.equal(mask, own[name].extent.take(masks.select(scores[name], shares[name], absolute=True)))
    # A call a layer and digit would be 32 x 5 calls.
    assert len(calls) <= most, calls
    assert max(calls) <= 8 * layers * (1 + 64), calls

    results, calls = together(2, lambda rank, ranks: select_pieces(pieces[rank], 0.4, ranks, absolute=True))
    assert len(calls) <= 8
    assert sum(calls) < 120_000


def test_weights_that_are_smaller_than_their_counts_are_sent_whole_in_the_first_call():
    scores = {f"{i}": torch.randn(9, 11, generator=torch.Generator().manual_seed(i)).round() for i in range(8)}
    owners = [torch.arange(9) // 5, torch.zeros(11, dtype=torch.int64)]
    halves = {name: cut(values, owners, 2) for name, values in scores.items()}
    pieces = [{name: parts[rank] for name, parts in halves.items()} for rank in range(2)]
    assert_equal_masks(pieces, scores, 0.4, True)
    _, calls = together(2, lambda rank, ranks: select_pieces_each(pieces[rank], dict.fromkeys(scores, 0.4), ranks))
    assert calls == [8 * (1 + 8 * 99)]


def test_replicas_are_counted_once():
    scores = torch.randn(6, 4)
    rows = [torch.arange(3), torch.arange(3, 6)]
    ranks = [
        {"w": Piece(scores[r], Extent((6, 4), (r, torch.arange(4)), counted=first))}
        for first in (True, False)
        for r in rows
    ]
    assert_equal_masks(ranks, {"w": scores}, 0.4, absolute=True)


def test_a_nan_on_one_rank_is_an_error_on_every_rank():
    scores = torch.ones(4, 2)
    scores[3, 1] = torch.nan
    pieces = cut(scores, [torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0])], 2)
    results, _ = together(2, lambda rank, ranks: select_pieces({"fc": pieces[rank]}, 0.5, ranks))
    assert [type(r) for r in results] == [ScoreError, ScoreError]
    assert all("1 of the 8 scores of 'fc' are NaN or infinite" in str(r) for r in results)


def test_a_sparsity_out_of_range_is_refused_before_anything_is_sent():
    piece = Piece(torch.ones(3), Extent.whole((3,)))

    def sent(own: Tensor) -> Tensor:
        raise AssertionError("sent")

    with pytest.raises(SparsityError, match=r"sparsity of 'fc' must be in \[0, 1\), got 1\.5"):
        select_pieces({"fc": piece}, 1.5, Ranks(sent, sent))


@given(
    parts=st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20), min_size=1, max_size=4).filter(any),
    data=st.data(),
)
def test_the_kth_of_signed_integers_is_that_of_the_sorted_list(parts: list[list[int]], data: st.DataObject):
    everything = sorted(value for part in parts for value in part)
    k = data.draw(st.integers(1, len(everything)))
    tensors = [torch.tensor(part, dtype=torch.int32) for part in parts]
    value = everything[k - 1]
    low, high = (data.draw(st.integers(*ends)) for ends in ((-(2**31), value), (value, 2**31 - 1)))
    results, _ = together(len(parts), lambda rank, ranks: kth(lambda: tensors[rank].split(7), k, low, high, ranks.sum))
    expected = (value, sum(v < value for v in everything), everything.count(value))
    assert results == [expected] * len(parts)


def test_an_extent_knows_the_index_of_every_element_it_holds():
    whole = torch.arange(60).view(3, 4, 5)
    extent = Extent((3, 4, 5), (torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0, 3, 4])))
    part = extent.take(whole)
    assert part.shape == extent.local_shape
    assert torch.equal(extent.index(torch.arange(12)), part.reshape(-1))
    assert extent.numel == 60


def test_a_part_that_is_one_block_is_a_view():
    whole = torch.arange(12).view(4, 3)
    extent = Extent((4, 3), (torch.tensor([1, 2]), torch.arange(3)))
    assert extent.take(whole).data_ptr() == whole[1].data_ptr()


def test_plain_tensors_are_chosen_as_ever_and_nothing_is_sent():
    scores = torch.randn(6, 8)
    assert torch.equal(distributed.select(scores, 0.3), masks.select(scores, 0.3))
    assert torch.equal(distributed.select_pattern(scores, (2, 4)), masks.select_pattern(scores, (2, 4)))
    with pytest.raises(ParameterError, match="has no groups of 4"):
        distributed.select_pattern(scores[:, :6], (2, 4))
