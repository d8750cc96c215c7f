"""A recording of any length in pieces: read, brought to another rate, and put through a network in constant memory.

A network sees a piece with some seconds on either side, and only the frames of the piece itself are kept. Where it
looks no further than that, the frames are those of the whole recording. What depends on all of it is not: a recurrence
with a long memory, and the normalisation of the spectrogram, which each piece has for itself. A recording that fits
into one piece is computed whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from redense.errors import DataError, StateError

from .audio import SILENT, Samples, beyond, decoded
from .transcripts.alphabet import BLANK

_BLOCK = 1 << 16  # samples resampled at once
_WINDOW = 0.1  # seconds; no frame sees more sound than that
_TAPS = 10  # scipy's resampling filter reaches over so many samples of the lower rate

LogProbs = Callable[[Tensor], Tensor]
"""Samples (n,) -> log probabilities (t, symbols) of their frames."""


@dataclass(frozen=True)
class Pieces:
    """The cutting of a recording.

    Args:
        seconds: of a piece.
        context: seconds that the network sees on either side of it.
    """

    seconds: float = 20.0
    context: float = 4.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise DataError(f"a piece must be longer than 0 seconds, got {self.seconds:g}")
        if not (math.isfinite(self.context) and self.context >= 0):
            raise DataError(f"the context of a piece must be at least 0 seconds, got {self.context:g}")


def read_blocks(path: Path, rate: int) -> Iterator[Samples]:
    """Yield the samples of a file at ``rate``, its channels averaged, in blocks.

    Raises:
        DataError: it is missing, empty, damaged or no sound file; the message names it.
        MissingExtraError: soundfile is not installed.
    """
    source = decoded(path)
    own = next(source)
    yield from resampled(source, own, rate)


def resampled(blocks: Iterable[Samples], own: int, rate: int) -> Iterator[Samples]:
    """Yield blocks at another rate: together what resampling all of it at once gives."""
    if own == rate:
        yield from blocks
        return
    from scipy.signal import resample_poly

    shared = math.gcd(own, rate)
    up, down = rate // shared, own // shared
    # Cut where input and output samples coincide: every ``down`` samples of the input are ``up`` of the output.
    reach = math.ceil((_TAPS * max(up, down) / up + 1) / down)  # periods that the filter sees on either side
    core = max(1, _BLOCK // down)
    kept, before, ended = np.empty(0, np.float32), 0, False
    source = iter(blocks)
    while not ended:
        while len(kept) < (before + core + reach) * down and not ended:
            block = next(source, None)
            ended = block is None
            kept = kept if block is None else np.concatenate([kept, block])
        whole = np.asarray(resample_poly(kept, up, down), np.float32)
        if ended:
            yield whole[before * up :]
            return
        yield whole[before * up : (before + core) * up]
        drop = before + core - reach
        if drop > 0:
            kept, before = kept[drop * down :], reach
        else:
            before += core


def log_probs_of(
    blocks: Iterable[Samples], network: LogProbs, rate: int, hop: int, pieces: Pieces | None = None
) -> Iterator[Tensor]:
    """Yield log probabilities (t, symbols) piece by piece; together they are the frames of the recording.

    Args:
        blocks: samples at ``rate``.
        network: its n-th frame must begin n * ``hop`` samples after the first sample that it is given.
        rate: samples a second.
        hop: samples from a frame to the next.
        pieces: how to cut.

    Raises:
        DataError: a sample is no number or far too large, there is none, or all are silent; the caller knows which
            file it is.
        StateError: the network has another hop.
    """
    pieces = pieces or Pieces()
    core = max(1, round(pieces.seconds * rate / hop))  # frames
    context = round(pieces.context * rate / hop)
    ahead = max(context, math.ceil(_WINDOW * rate / hop))
    kept, before, loudest, silent = torch.empty(0), 0, -1.0, 0

    def heard() -> Iterator[Tensor]:
        nonlocal silent
        frames = network(kept[: (before + core + ahead) * hop] if more else kept)
        if more and len(frames) < before + core:
            raise StateError(f"a network gave {len(frames)} frames for {before + core}: its hop is not {hop} samples")
        if float(kept.abs().max()) < SILENT:
            frames = _blanks(frames, len(frames))
        while silent:
            yield _blanks(frames, min(silent, core))
            silent -= min(silent, core)
        yield frames[before : before + core] if more else frames[before:]

    more = True
    for block in blocks:
        if not len(block):
            continue
        samples = torch.from_numpy(np.ascontiguousarray(block))
        own = float(samples.abs().max())
        if fault := beyond(own):
            raise DataError(fault)
        loudest = max(loudest, own)
        kept = torch.cat([kept, samples])
        while len(kept) >= (before + core + ahead) * hop:
            if float(kept[: (before + core + ahead) * hop].abs().max()) < SILENT:
                silent += core  # it may be all there is, and a network may hear voices in it
            else:
                yield from heard()
            drop = max(0, before + core - context)
            kept, before = kept[drop * hop :], before + core - drop
    if loudest < 0:
        raise DataError("holds no sound")
    if loudest < SILENT:
        raise DataError("is silent: there is nothing louder than 80 dB below full scale")
    more = False
    if len(kept) > before * hop:
        yield from heard()


def _blanks(like: Tensor, frames: int) -> Tensor:
    """Return log probabilities (frames, symbols) that are sure of nothing being said."""
    blanks = like.new_full((frames, like.shape[1]), -math.inf)
    blanks[:, BLANK] = 0.0
    return blanks
