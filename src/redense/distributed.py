"""The exact selection of `masks`, over tensors that are sharded among ranks, without gathering them.

Scores are compared as integers that order as they do. The k-th smallest of all ranks is found digit by digit, from the
highest: every rank counts its scores by the next digit, the counts are added up over the ranks, and only what has the
k-th one's digit is looked at further. Scores that tie at the threshold go by their index in the whole tensor, which is
found in the same way. A selection sends a few counts of 16 KB, however large the model is, and its masks are those of
one process to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import masks as masking
from .errors import ParameterError
from .sharding import Layout, Reduce, is_sharded, layout_of, local, summed_over, wrap

_DIGIT = 11  # bits found a pass: 2,048 counts, which stay in the first cache and are 16 KB to send


@dataclass(frozen=True)
class Piece:
    """What a rank holds of one tensor of scores.

    Args:
        scores: the rank's part, of the layout's ``local_shape``.
        layout: where its elements are in the whole.
    """

    scores: Tensor
    layout: Layout


def select(scores: Tensor, sparsity: float, *, name: str = "weight", absolute: bool = False) -> Tensor:
    """Return the mask that `redense.masks.select` gives for the whole tensor, with the placement of the scores.

    All ranks of a DTensor's mesh must call this alike; for a plain tensor nothing is sent.

    Raises:
        SparsityError: the sparsity is not in [0, 1).
        ScoreError: a score of any rank is NaN or infinite; every rank raises.
        ParameterError: the scores are partial sums, or have no values.
    """
    return select_global({name: scores}, sparsity, absolute=absolute)[name]


def select_global(scores: Mapping[str, Tensor], sparsity: float, *, absolute: bool = False) -> dict[str, Tensor]:
    """Return the masks that `redense.masks.select_global` gives for the whole tensors; see `select`.

    Plain tensors among DTensors are taken to be the same on every rank.

    Raises:
        ParameterError: (also) the tensors are sharded over different device meshes.
    """
    if not any(is_sharded(values) for values in scores.values()):
        return masking.select_global(scores, sparsity, absolute=absolute)
    for name, values in scores.items():
        masking.check_storage(name, values)
    mesh = _common_mesh(scores)
    pieces = {name: Piece(local(values), _layout(values, mesh)) for name, values in scores.items()}
    masks = select_pieces(pieces, sparsity, summed_over(mesh), absolute=absolute)
    return {name: wrap(mask, scores[name]) for name, mask in masks.items()}


def select_pattern(scores: Tensor, pattern: tuple[int, int], *, name: str = "weight") -> Tensor:
    """Return the N:M mask that `redense.masks.select_pattern` gives for the whole tensor; see `select`.

    Raises:
        ParameterError: (also) the shards cut a group in two, on any rank.
    """
    if not is_sharded(scores):
        return masking.select_pattern(scores, pattern, name=name)
    _, m = masking.check_pattern(pattern)
    masking.check_groups(name, scores.shape, m)
    reduce = summed_over(_mesh(scores))
    piece = Piece(local(scores), layout_of(scores))
    _refuse_unordered({name: piece}, reduce)
    inputs = piece.layout.positions[1]
    groups = inputs[: inputs.numel() // m * m].view(-1, m)
    torn = bool(inputs.numel() % m or (groups[:, 0] % m).any() or (groups[:, -1] - groups[:, 0] != m - 1).any())
    if int(reduce(torch.tensor([torn], dtype=torch.int64))):
        raise ParameterError(
            f"'{name}' is sharded along its inputs (dimension 1) so that groups of {m} are cut in two: "
            "shard it along another dimension, or exclude it"
        )
    mask = torch.ones_like(piece.scores, dtype=torch.bool)
    return wrap(masking.select_pattern(piece.scores, pattern, name=name) if mask.numel() else mask, scores)


# --- the selection, of one rank that can only add up numbers with the others ---------------------------------------


def select_pieces(
    pieces: Mapping[str, Piece], sparsity: float, reduce: Reduce, *, absolute: bool = False
) -> dict[str, Tensor]:
    """Return this rank's masks: together, the ranks prune exactly ``round(sparsity * N)`` of all N scores.

    Equal scores go by the order of the mapping, then by their index in the whole tensor.

    Args:
        pieces: what this rank holds, the same names in the same order on every rank.
        sparsity: fraction removed, in [0, 1).
        reduce: adds up an int64 tensor over all ranks.
        absolute: score by ``|scores|``.

    Raises:
        SparsityError: the sparsity is not in [0, 1).
        ScoreError: a score of any rank is NaN or infinite.

    >>> piece = Piece(torch.tensor([3.0, 1.0, 1.0, 2.0]), Layout.whole((4,)))
    >>> select_pieces({"weight": piece}, 0.25, reduce=lambda counts: counts)["weight"]
    tensor([ True, False,  True,  True])
    """
    names = ", ".join(f"'{name}'" for name in pieces)
    sparsity = masking.check_sparsity(sparsity, names if len(pieces) == 1 else "all weights together")
    _refuse_unordered(pieces, reduce)
    dtype = masking.common_dtype(piece.scores for piece in pieces.values())
    key = masking.magnitude_bits if absolute else masking.ordered_bits
    parts = [_Part(piece, dtype, key) for piece in pieces.values()]
    for part, base in zip(parts, _bases(pieces.values()), strict=True):
        part.base = base
    total = sum(piece.layout.numel for piece in pieces.values())
    count = round(sparsity * total)
    if not count:
        return {name: torch.ones_like(piece.scores, dtype=torch.bool) for name, piece in pieces.items()}
    counted = [part for part in parts if part.layout.counted]
    bits = 8 * dtype.itemsize
    half = 1 << (bits - 1)  # the lowest key of all becomes digit 0

    def keys() -> Iterator[Tensor]:
        return (keys for part in counted for _, keys in part.blocks())

    threshold, below, equal = kth(keys, count, bits, reduce, flip=True)
    threshold -= half
    last = -1
    if below + equal > count:  # more tie at the threshold than may go

        def ties() -> Iterator[Tensor]:
            return (index for part in counted for index in part.ties(threshold))

        last, _, _ = kth(ties, count - below, max(total.bit_length(), 1), reduce)
    return {name: part.mask(threshold, last) for name, part in zip(pieces, parts, strict=True)}


def kth(
    blocks: Callable[[], Iterable[Tensor]], k: int, bits: int, reduce: Reduce, *, flip: bool = False
) -> tuple[int, int, int]:
    """Return the k-th smallest (k from 1) of all ranks' integers, how many are smaller, and how many are equal.

    Args:
        blocks: gives this rank's integers, in parts, as often as it is called.
        k: from 1 to the number of all ranks' integers.
        bits: every integer is in [0, 2**bits), or in [-2**(bits - 1), 2**(bits - 1)) if ``flip``.
        reduce: adds up an int64 tensor over all ranks.
        flip: the integers are signed; the returned one is then 2**(bits - 1) too large.

    >>> kth(lambda: [torch.tensor([7, 3]), torch.tensor([3, 9])], 2, 4, reduce=lambda counts: counts)
    (3, 0, 2)
    """
    found, below, equal, left = 0, 0, 0, bits
    while left:
        width = min(_DIGIT, left)
        left -= width
        top = 1 << (width - 1) if flip and left + width == bits else 0
        counts = torch.zeros(1 << width, dtype=torch.int64)
        for block in blocks():
            counts += torch.bincount(_digit(block, left, width, top), minlength=1 << width).cpu()
        upto = reduce(counts).cumsum(0)
        digit = int(torch.searchsorted(upto, k - below))
        before = int(upto[digit - 1]) if digit else 0
        equal = int(upto[digit]) - before
        below += before
        found = found << width | digit
        if left:
            chosen = [block[_digit(block, left, width, top) == digit] for block in blocks()]
            blocks = _again(chosen)
    return found, below, equal


def _again(chosen: list[Tensor]) -> Callable[[], Iterable[Tensor]]:
    return lambda: chosen


def _digit(block: Tensor, shift: int, width: int, top: int) -> Tensor:
    return ((block >> shift) & ((1 << width) - 1)) ^ top


class _Part:
    """A rank's scores of one tensor as integers, block by block, which keeps the temporaries in the cache."""

    def __init__(self, piece: Piece, dtype: torch.dtype, key: masking.Key) -> None:
        self.layout = piece.layout
        self.base = 0  # index of the tensor's first element among those of all tensors
        self._shape = piece.scores.shape
        self._flat = piece.scores.detach().to(dtype).reshape(-1)
        self._key = key

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Give each block's start in the part and its keys."""
        start = 0
        for block in masking.blocks(self._flat):
            yield start, self._key(block)
            start += block.numel()

    def ties(self, threshold: int) -> Iterator[Tensor]:
        """Give the index, among the elements of all whole tensors, of each key that is the threshold."""
        for start, keys in self.blocks():
            where = (keys == threshold).nonzero().flatten()
            yield self.layout.index(where + start) + self.base

    def mask(self, threshold: int, last: int) -> Tensor:
        """Keep what is above the threshold, and what ties with it after index ``last``; none of the ties if -1."""
        out = torch.empty(self._flat.shape, dtype=torch.bool, device=self._flat.device)
        for start, keys in self.blocks():
            torch.gt(keys, threshold, out=out[start : start + keys.numel()])
            if last >= 0:
                where = (keys == threshold).nonzero().flatten() + start
                out[where[self.layout.index(where) + self.base > last]] = True
        return out.view(self._shape)


def _bases(pieces: Iterable[Piece]) -> Iterator[int]:
    base = 0
    for piece in pieces:
        yield base
        base += piece.layout.numel


def _refuse_unordered(pieces: Mapping[str, Piece], reduce: Reduce) -> None:
    """Every rank learns of every rank's NaN, so that none is left waiting for the others."""
    bad = [
        sum(int((~torch.isfinite(block)).sum()) for block in masking.blocks(piece.scores.detach().reshape(-1)))
        if piece.layout.counted
        else 0
        for piece in pieces.values()
    ]
    for (name, piece), count in zip(pieces.items(), reduce(torch.tensor(bad, dtype=torch.int64)), strict=True):
        if count:
            raise masking.unordered(name, int(count), piece.layout.numel)


# --- meshes ---------------------------------------------------------------------------------------------------------


def _mesh(tensor: Any) -> Any:
    return tensor.device_mesh


def _common_mesh(scores: Mapping[str, Tensor]) -> Any:
    sharded = {name: _mesh(values) for name, values in scores.items() if is_sharded(values)}
    first, mesh = next(iter(sharded.items()))
    for name, other in sharded.items():
        if other != mesh:
            raise ParameterError(
                f"'{first}' and '{name}' are sharded over different device meshes ({mesh} and {other}), over which no "
                "common threshold can be found: use the scope 'layer', or shard them over one mesh"
            )
    return mesh


def _layout(values: Tensor, mesh: Any) -> Layout:
    if is_sharded(values):
        return layout_of(values)
    coordinate = mesh.get_coordinate()
    return Layout.whole(tuple(values.shape), counted=coordinate is not None and not any(coordinate))
