"""Selection over shards equals the selection of one process, to the bit, whatever the layout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from redense import distributed, masks
from redense.distributed import Piece, kth, select_pieces
from redense.errors import ParameterError, ScoreError, SparsityError
from redense.sharding import Layout, Reduce

Ranks = list[dict[str, Piece]]


class Exchange:
    """Adds up the tensors of threads that stand for ranks, and counts what a rank would send."""

    def __init__(self, ranks: int) -> None:
        self.barrier = threading.Barrier(ranks, timeout=20)
        self.given: list[Tensor] = [torch.empty(0)] * ranks
        self.sent = [0] * ranks

    def of(self, rank: int) -> Reduce:
        def reduce(counts: Tensor) -> Tensor:
            assert counts.dtype == torch.int64
            self.given[rank] = counts.clone()
            self.sent[rank] += counts.numel() * counts.element_size()
            self.barrier.wait()
            total = torch.stack(self.given).sum(0)  # also checks that all ranks ask for the same thing
            self.barrier.wait()
            return total

        return reduce


def together(ranks: int, work: Callable[[int, Reduce], Any]) -> tuple[list[Any], int]:
    """What ``work`` returned, or raised, on every rank; and the most bytes that a rank sent."""
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
    return results, max(exchange.sent)


def cut(scores: Tensor, owners: Sequence[Tensor], ranks: int) -> list[Piece]:
    """Cut scores along every dimension: ``owners[d][i]`` is the part that position i of dimension d goes to."""
    pieces: list[Piece] = []
    for rank in range(ranks):
        positions, rest = [], rank
        for dimension, size in enumerate(scores.shape):
            parts = int(owners[dimension].max()) + 1 if size else 1
            positions.append((owners[dimension] == rest % parts).nonzero().flatten())
            rest //= parts
        layout = Layout(tuple(scores.shape), tuple(positions), counted=rest == 0)
        pieces.append(Piece(layout.take(scores), layout))
    return pieces


def assert_equal_masks(ranks: Ranks, scores: dict[str, Tensor], sparsity: float, absolute: bool) -> int:
    expected = masks.select_global(scores, sparsity, absolute=absolute)
    results, sent = together(
        len(ranks), lambda rank, reduce: select_pieces(ranks[rank], sparsity, reduce, absolute=absolute)
    )
    for rank, chosen in enumerate(results):
        assert isinstance(chosen, dict), chosen
        for name, mask in chosen.items():
            assert mask.dtype == torch.bool
            assert torch.equal(mask, ranks[rank][name].layout.take(expected[name])), (rank, name)
    return sent


@st.composite
def problems(draw: st.DrawFn) -> tuple[Ranks, dict[str, Tensor], float, bool]:
    ranks = draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    levels = draw(st.sampled_from([1, 2, 5, 0]))  # how many different scores; 0 for any
    scores: dict[str, Tensor] = {}
    of_rank: Ranks = [{} for _ in range(ranks)]
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
                layout = Layout.whole(tuple(shape), counted=rank == 0)
                of_rank[rank][name] = Piece(scores[name], layout)
    return of_rank, scores, draw(st.floats(0, 0.99)), draw(st.booleans())


@settings(max_examples=150)
@given(problem=problems())
def test_any_layout_gives_the_masks_of_one_process(problem: tuple[Ranks, dict[str, Tensor], float, bool]):
    assert_equal_masks(*problem)


@pytest.mark.parametrize("ranks", [1, 2, 4, 7])
@pytest.mark.parametrize("dimension", [0, 1, 2])
@pytest.mark.parametrize("ties", [False, True])
def test_an_uneven_or_empty_shard_along_any_dimension_changes_nothing(ranks: int, dimension: int, ties: bool):
    scores = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(1))
    scores = scores.round() if ties else scores
    owners = [torch.zeros(size, dtype=torch.int64) for size in scores.shape]
    each = -(-scores.shape[dimension] // ranks)
    owners[dimension] = torch.arange(scores.shape[dimension]) // each
    pieces = [{"w": piece} for piece in cut(scores, owners, int(owners[dimension].max()) + 1)]
    nothing = Layout((5, 3, 6), tuple(torch.arange(0 if d == dimension else s) for d, s in enumerate(scores.shape)))
    pieces += [{"w": Piece(nothing.take(scores), nothing)} for _ in range(ranks - len(pieces))]
    for sparsity in (0.0, 0.1, 0.5, 0.93):
        for absolute in (False, True):
            assert_equal_masks(pieces, {"w": scores}, sparsity, absolute)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_selection_sends_less_than_a_megabyte_however_many_weights_there_are(dtype: torch.dtype):
    # All scores tie, which needs the most passes; the bytes depend on the number of bits alone.
    scores = {f"{i}": torch.ones(1 << 18, dtype=dtype) for i in range(4)}
    owners = [torch.arange(1 << 18) % 2]
    halves = [cut(values, owners, 2) for values in scores.values()]
    ranks = [{name: halves[i][rank] for i, name in enumerate(scores)} for rank in range(2)]
    sent = assert_equal_masks(ranks, scores, 0.3, absolute=False)
    assert sent < 150_000
    # Indices of 2**40 weights have four digits instead of two: 32 KB more.
    assert sent + 2 * 8 * 2048 < 1 << 20


def test_replicas_are_counted_once():
    scores = torch.randn(6, 4)
    rows = [torch.arange(3), torch.arange(3, 6)]
    ranks = [
        {"w": Piece(scores[r], Layout((6, 4), (r, torch.arange(4)), counted=first))}
        for first in (True, False)
        for r in rows
    ]
    assert_equal_masks(ranks, {"w": scores}, 0.4, absolute=True)


def test_a_nan_on_one_rank_is_an_error_on_every_rank():
    scores = torch.ones(4, 2)
    scores[3, 1] = torch.nan
    pieces = cut(scores, [torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0])], 2)
    results, _ = together(2, lambda rank, reduce: select_pieces({"fc": pieces[rank]}, 0.5, reduce))
    assert [type(r) for r in results] == [ScoreError, ScoreError]
    assert all("1 of the 8 scores of 'fc' are NaN or infinite" in str(r) for r in results)


def test_a_sparsity_out_of_range_is_refused_before_anything_is_sent():
    piece = Piece(torch.ones(3), Layout.whole((3,)))

    def reduce(counts: Tensor) -> Tensor:
        raise AssertionError("sent")

    with pytest.raises(SparsityError, match=r"sparsity of 'fc' must be in \[0, 1\), got 1\.5"):
        select_pieces({"fc": piece}, 1.5, reduce)


@given(
    parts=st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20), min_size=1, max_size=4).filter(any),
    data=st.data(),
)
def test_the_kth_of_signed_integers_is_that_of_the_sorted_list(parts: list[list[int]], data: st.DataObject):
    everything = sorted(value for part in parts for value in part)
    k = data.draw(st.integers(1, len(everything)))
    tensors = [torch.tensor(part, dtype=torch.int32) for part in parts]
    results, _ = together(
        len(parts), lambda rank, reduce: kth(lambda: tensors[rank].split(7), k, 32, reduce, flip=True)
    )
    value = everything[k - 1]
    expected = (value + 2**31, sum(v < value for v in everything), everything.count(value))
    assert results == [expected] * len(parts)


def test_a_layout_knows_the_index_of_every_element_it_holds():
    whole = torch.arange(60).view(3, 4, 5)
    layout = Layout((3, 4, 5), (torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0, 3, 4])))
    part = layout.take(whole)
    assert part.shape == layout.local_shape
    assert torch.equal(layout.index(torch.arange(12)), part.reshape(-1))
    assert layout.numel == 60


def test_a_part_that_is_one_block_is_a_view():
    whole = torch.arange(12).view(4, 3)
    layout = Layout((4, 3), (torch.tensor([1, 2]), torch.arange(3)))
    assert layout.take(whole).data_ptr() == whole[1].data_ptr()


def test_plain_tensors_are_chosen_as_ever_and_nothing_is_sent():
    scores = torch.randn(6, 8)
    assert torch.equal(distributed.select(scores, 0.3), masks.select(scores, 0.3))
    assert torch.equal(distributed.select_pattern(scores, (2, 4)), masks.select_pattern(scores, (2, 4)))
    with pytest.raises(ParameterError, match="has no groups of 4"):
        distributed.select_pattern(scores[:, :6], (2, 4))
