"""The exact selection of `masks`, over tensors that are sharded among ranks, without gathering them.

Scores are compared as integers that order as they do. Every rank looks among its own scores for the one that would be
the threshold if all ranks' scores were like these. The threshold of all lies between the smallest and the largest of
what the ranks find, which are sent first, for all weights together. Between them it is found digit by digit: every
rank counts its scores by the next digit, the counts of all weights are added up over the ranks in one call, and only
scores with the threshold's digit are looked at further. Scores that tie at the threshold go by their index in the
whole tensor, which is found in the same way. A small weight, whose scores are fewer than its counts would be, is sent
whole with the bounds. Masks are those of one process to the bit, and a call sends 16 KB, however large the weights
are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from redense.errors import ParameterError
from redense.schedules.numeric import check_pattern, check_sparsity

from . import selection as masking
from .blocks import Key, blocks, magnitude_bits, ordered_bits
from .digits import Search, find, kth, width_of
from .sharding import Extent, Ranks, Reduce, extent_of, is_sharded, local, ranks_of, wrap
from .threshold import unordered

_WHOLE = 2  # how many times its counts of one call a weight may be large to be sent whole
_NOTHING = torch.iinfo(torch.int64).min  # what a rank gives to a maximum that it has nothing for


@dataclass(frozen=True)
class Piece:
    """The piece of one tensor of scores that a rank holds.

    Args:
        scores: the rank's part, of the extent's ``local_shape``.
        extent: where its elements are in the whole.
    """

    scores: Tensor
    extent: Extent


def select(scores: Tensor, sparsity: float, *, name: str = "weight", absolute: bool = False) -> Tensor:
    """Return the mask that `redense.masks.select` gives for the whole tensor, with the placement of the scores.

    All ranks of a DTensor's mesh must call this alike; for a plain tensor nothing is sent.

    Raises:
        SparsityError: the sparsity is not in [0, 1).
        ScoreError: a score of any rank is NaN or infinite; every rank raises.
        ParameterError: the scores are partial sums, or have no values.
    """
    return select_each({name: scores}, {name: sparsity}, absolute=absolute)[name]


def select_each(
    scores: Mapping[str, Tensor], sparsities: Mapping[str, float], *, absolute: bool = False
) -> dict[str, Tensor]:
    """Return what `select` gives for each of many tensors, in as many calls to the other ranks as one of them needs."""
    chosen: dict[str, Tensor] = {}
    sharded: dict[Any, dict[str, Piece]] = {}
    for name, values in scores.items():
        if is_sharded(values):
            masking.check_storage(name, values, scores=not absolute)
            sharded.setdefault(_mesh(values), {})[name] = Piece(local(values), extent_of(values))
        else:
            chosen[name] = masking.select(values, sparsities[name], name=name, absolute=absolute)
    for mesh, pieces in sharded.items():
        masks = select_pieces_each(pieces, sparsities, ranks_of(mesh), absolute=absolute)
        chosen |= {name: wrap(mask, scores[name]) for name, mask in masks.items()}
    return {name: chosen[name] for name in scores}


def select_global(scores: Mapping[str, Tensor], sparsity: float, *, absolute: bool = False) -> dict[str, Tensor]:
    """Return the masks that `redense.masks.select_global` gives for the whole tensors; see `select`.

    Plain tensors among DTensors are taken to be the same on every rank.

    Raises:
        ParameterError: (also) the tensors are sharded over different device meshes.
    """
    if not any(is_sharded(values) for values in scores.values()):
        return masking.select_global(scores, sparsity, absolute=absolute)
    for name, values in scores.items():
        masking.check_storage(name, values, scores=not absolute)
    mesh = _common_mesh(scores)
    pieces = {name: Piece(local(values), _extent(values, mesh)) for name, values in scores.items()}
    masks = select_pieces(pieces, sparsity, ranks_of(mesh), absolute=absolute)
    return {name: wrap(mask, scores[name]) for name, mask in masks.items()}


def select_pattern(scores: Tensor, pattern: tuple[int, int], *, name: str = "weight") -> Tensor:
    """Return the N:M mask that `redense.masks.select_pattern` gives for the whole tensor; see `select`.

    Raises:
        ParameterError: (also) the shards cut a group in two, on any rank.
    """
    return select_patterns({name: scores}, pattern)[name]


def select_patterns(scores: Mapping[str, Tensor], pattern: tuple[int, int]) -> dict[str, Tensor]:
    """Return what `select_pattern` gives for each of many tensors, in two calls to the other ranks."""
    _, m = check_pattern(pattern)
    sharded: dict[Any, dict[str, Piece]] = {}
    for name, values in scores.items():
        if is_sharded(values):
            masking.check_groups(name, values.shape, m)
            sharded.setdefault(_mesh(values), {})[name] = Piece(local(values), extent_of(values))
    for mesh, pieces in sharded.items():
        _refuse_torn(pieces, m, ranks_of(mesh).largest)
        _refuse_unordered(pieces, ranks_of(mesh).sum)
    chosen: dict[str, Tensor] = {}
    for name, values in scores.items():
        part = local(values)
        mask = torch.ones_like(part, dtype=torch.bool)
        chosen[name] = wrap(masking.select_pattern(part, pattern, name=name) if mask.numel() else mask, values)
    return chosen


# --- the selection, of one rank that can only add up numbers with the others ---------------------------------------


def select_pieces(
    pieces: Mapping[str, Piece], sparsity: float, ranks: Ranks, *, absolute: bool = False
) -> dict[str, Tensor]:
    """Return this rank's masks: together, the ranks prune exactly ``round(sparsity * N)`` of all N scores.

    Equal scores go by the order of the mapping, then by their index in the whole tensor.

    Args:
        pieces: what this rank holds, the same names in the same order on every rank.
        sparsity: fraction removed, in [0, 1).
        ranks: the others.
        absolute: score by ``|scores|``.

    Raises:
        SparsityError: the sparsity is not in [0, 1).
        ScoreError: a score of any rank is NaN or infinite.

    >>> piece = Piece(torch.tensor([3.0, 1.0, 1.0, 2.0]), Extent.whole((4,)))
    >>> select_pieces({"weight": piece}, 0.25, Ranks.alone())["weight"]
    tensor([ True, False,  True,  True])
    """
    names = ", ".join(f"'{name}'" for name in pieces)
    sparsity = check_sparsity(sparsity, names if len(pieces) == 1 else "all weights together")
    return _select([_Problem(pieces, sparsity, absolute)], ranks)


def select_pieces_each(
    pieces: Mapping[str, Piece], sparsities: Mapping[str, float], ranks: Ranks, *, absolute: bool = False
) -> dict[str, Tensor]:
    """Return this rank's masks, of every tensor by itself; see `select_pieces`."""
    checked = {name: check_sparsity(sparsities[name], f"'{name}'") for name in pieces}
    return _select([_Problem({name: pieces[name]}, s, absolute) for name, s in checked.items()], ranks)


class _Problem:
    """Some tensors that one threshold prunes to a sparsity."""

    def __init__(self, pieces: Mapping[str, Piece], sparsity: float, absolute: bool) -> None:
        self.pieces = pieces
        self.total = sum(piece.extent.numel for piece in pieces.values())
        self.count = round(sparsity * self.total)
        dtype = masking.common_dtype(piece.scores for piece in pieces.values())
        key = magnitude_bits if absolute else ordered_bits
        bases = _bases(pieces.values())
        self.parts = [_Part(piece, base, dtype, key) for piece, base in zip(pieces.values(), bases, strict=True)]
        self._half = 1 << (8 * dtype.itemsize - 1)
        self._mine = [part for part in self.parts if part.extent.counted]

    def _keys(self) -> Iterator[Tensor]:
        return (keys for part in self._mine for _, keys in part.blocks())

    def bounds(self) -> list[int]:
        """Return ``[-low, high]``, the maximum of which over all ranks bounds the threshold."""
        # A rank that holds n of N scores looks for its k n / N-th, rounded up. As many as k scores are not above the
        # largest of these, and fewer than k are below the smallest.
        numel = sum(part.numel for part in self._mine)
        if not numel:
            return [_NOTHING + 1, _NOTHING]
        k = -(-self.count * numel // self.total)
        threshold, _, _ = kth(self._keys, k, -self._half, self._half - 1, lambda counts: counts)
        return [min(-threshold, -(_NOTHING + 1)), threshold]

    def search(self, bounds: Tensor) -> Search:
        """Return the search for the threshold."""
        return Search(self._keys, self.count, -int(bounds[0]), int(bounds[1])).within()

    def search_tie(self, found: Search) -> Search:
        """Return the search for the index of the last score at the threshold that is pruned."""
        ties = [index for part in self._mine for index in part.ties(found.low)]
        return Search(lambda: ties, self.count - found.below, 0, self.total - 1)

    def spread(self) -> Tensor:
        """Return a place for every score of all ranks, with the keys that this rank counts in theirs."""
        keys = torch.full((self.total,), _NOTHING, device="cpu")
        for part in self._mine:
            for start, block in part.blocks():
                where = torch.arange(start, start + block.numel(), device=block.device)
                keys[(part.extent.index(where) + part.base).cpu()] = block.long().cpu()
        return keys

    def masks(self, threshold: int, last: int) -> dict[str, Tensor]:
        """Return the masks by the threshold, and by the index of the last tie that is pruned; -1 if all are."""
        return {name: part.mask(threshold, last) for name, part in zip(self.pieces, self.parts, strict=True)}


def _select(problems: list[_Problem], ranks: Ranks) -> dict[str, Tensor]:
    """Solve many problems together: the scores of small ones are sent, of the others bounds and then counts."""
    room = _WHOLE << width_of(max(len(problems), 1))
    small = [0 < p.total <= room and bool(p.count) for p in problems]
    pieces = {name: piece for problem in problems for name, piece in problem.pieces.items()}
    bad = _unordered(pieces)
    sent = [
        p.spread() if s else torch.tensor(p.bounds() if p.count else [], dtype=torch.int64, device="cpu")
        for p, s in zip(problems, small, strict=True)
    ]
    all_heard = ranks.largest(torch.cat([torch.tensor([int(any(bad))], device="cpu"), *sent]))
    ends = [*accumulate((len(values) for values in sent), initial=1)]
    heard = [all_heard[start:end] for start, end in pairwise(ends)]
    if all_heard[0]:
        _raise_unordered(pieces, bad, ranks.sum)
    masks: dict[str, Tensor] = {}
    searches: list[tuple[_Problem, Search]] = []
    for problem, is_small, values in zip(problems, small, heard, strict=True):
        if not problem.count:
            masks |= {name: torch.ones_like(p.scores, dtype=torch.bool) for name, p in problem.pieces.items()}
        elif is_small:
            last = int(torch.sort(values, stable=True).indices[problem.count - 1])
            masks |= problem.masks(int(values[last]), last)
        else:
            searches.append((problem, problem.search(values)))
    find((search for _, search in searches), ranks.sum)
    # More may tie at the threshold than go.
    ties = [p.search_tie(s) if s.below + s.equal > p.count else None for p, s in searches]
    find(filter(None, ties), ranks.sum)
    for (problem, search), tie in zip(searches, ties, strict=True):
        masks |= problem.masks(search.low, tie.low if tie else -1)
    return {name: masks[name] for name in pieces}


class _Part:
    """A rank's scores of one tensor as integers, block by block, which keeps the temporaries in the cache.

    Args:
        piece: the scores.
        base: index of the tensor's first element among those of all tensors.
        dtype: in which all of them are compared.
        key: makes integers of them.
    """

    def __init__(self, piece: Piece, base: int, dtype: torch.dtype, key: Key) -> None:
        self.extent, self.base = piece.extent, base
        self._shape = piece.scores.shape
        self._flat = piece.scores.detach().to(dtype).reshape(-1)
        self._key = key

    @property
    def numel(self) -> int:
        return self._flat.numel()

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Give each block's start in the part and its keys."""
        start = 0
        for block in blocks(self._flat):
            yield start, self._key(block)
            start += block.numel()

    def ties(self, threshold: int) -> Iterator[Tensor]:
        """Give the index, among the elements of all whole tensors, of each key that is the threshold."""
        for start, keys in self.blocks():
            where = (keys == threshold).nonzero().flatten()
            yield self.extent.index(where + start) + self.base

    def mask(self, threshold: int, last: int) -> Tensor:
        """Keep what is above the threshold, and what ties with it after index ``last``; none of the ties if -1."""
        out = torch.empty(self._flat.shape, dtype=torch.bool, device=self._flat.device)
        for start, keys in self.blocks():
            torch.gt(keys, threshold, out=out[start : start + keys.numel()])
            if last >= 0:
                where = (keys == threshold).nonzero().flatten() + start
                out[where[self.extent.index(where) + self.base > last]] = True
        return out.view(self._shape)


def _bases(pieces: Iterable[Piece]) -> Iterator[int]:
    base = 0
    for piece in pieces:
        yield base
        base += piece.extent.numel


def _unordered(pieces: Mapping[str, Piece]) -> list[int]:
    """Count the scores of each tensor that are NaN or infinite, of those that this rank counts."""
    return [
        sum(int((~torch.isfinite(block)).sum()) for block in blocks(piece.scores.detach().reshape(-1)))
        if piece.extent.counted
        else 0
        for piece in pieces.values()
    ]


def _raise_unordered(pieces: Mapping[str, Piece], bad: list[int], reduce: Reduce) -> None:
    """Raise on every rank, so that none waits for the others, for the first tensor that has such scores on any."""
    for (name, piece), count in zip(pieces.items(), reduce(torch.tensor(bad, device="cpu")), strict=True):
        if count:
            raise unordered(name, int(count), piece.extent.numel)


def _refuse_unordered(pieces: Mapping[str, Piece], reduce: Reduce) -> None:
    _raise_unordered(pieces, _unordered(pieces), reduce)


def _refuse_torn(pieces: Mapping[str, Piece], m: int, reduce: Reduce) -> None:
    torn: list[int] = []
    for piece in pieces.values():
        inputs = piece.extent.positions[1]
        groups = inputs[: inputs.numel() // m * m].view(-1, m)
        cut = bool(inputs.numel() % m or (groups[:, 0] % m).any() or (groups[:, -1] - groups[:, 0] != m - 1).any())
        torn.append(int(cut))
    for name, cut in zip(pieces, reduce(torch.tensor(torn, device="cpu")), strict=True):
        if cut:
            raise ParameterError(
                f"'{name}' is sharded along its inputs (dimension 1) so that groups of {m} are cut in two: "
                "shard it along another dimension, or exclude it"
            )


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


def _extent(values: Tensor, mesh: Any) -> Extent:
    if is_sharded(values):
        return extent_of(values)
    coordinate = mesh.get_coordinate()
    return Extent.whole(tuple(values.shape), counted=coordinate is not None and not any(coordinate))
