"""Spectrograms made once and kept in the cache: shards of clips, named by what is in them.

The name of a shard is a hash of the settings and of the sound of its clips: other settings or other sounds are other
shards, and what was made before an interruption is not made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from redense.errors import CheckpointError, DataError
from redense.files.checksums import file_sum, sha256
from redense.files.opening import read_text
from redense.files.writing import write_bytes, write_text
from redense.tasks import catalog

from .config import SpectrogramSettings, SpeechData
from .data.checking import progress
from .data.clips import Utterance
from .spectrogram import spectrogram

log = logging.getLogger(__name__)

_CLIPS = 256  # of a shard: some 60 MB
_SUM = ".sha256"  # beside each shard
_VERSION = 1  # of `spectrogram`: another one makes other shards


class FeatureStore:
    """The frames of clips (t, bins), read from shards that lie in the cache in half precision."""

    def __init__(self, shards: Sequence[Path], lengths: Sequence[int]) -> None:
        self._shards, self.lengths = shards, lengths
        self._open: dict[int, tuple[Tensor, list[int]]] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Tensor:
        shard, place = divmod(index, _CLIPS)
        if shard not in self._open:  # mapped into memory, not read
            with safe_open(self._shards[shard], framework="pt") as file:
                self._open[shard] = file.get_tensor("frames"), [0, *file.get_tensor("lengths").cumsum(0).tolist()]
        frames, ends = self._open[shard]
        return frames[ends[place] : ends[place + 1]].float()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": {}}  # a worker maps the files for itself


def stored(utterances: Sequence[Utterance], data: SpeechData) -> FeatureStore:
    """Return the spectrograms of clips of a recipe, made now where they are not in the cache yet.

    Raises:
        DataError: a clip cannot be read any more, or the cache cannot be written.
    """
    folder, settings = catalog.cache_dir() / "spectrograms", data.spectrogram
    parts = [utterances[start : start + _CLIPS] for start in range(0, len(utterances), _CLIPS)]
    paths = [folder / f"{_name(part, settings)}.safetensors" for part in parts]
    lengths = [_lengths(path, len(part)) for path, part in zip(paths, parts, strict=True)]
    todo = [index for index, known in enumerate(lengths) if known is None]
    if todo:
        clips = sum(len(parts[index]) for index in todo)
        steps = progress("making spectrograms, once", clips, " + ".join(data.sources))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            jobs = ((parts[index], settings, paths[index]) for index in todo)
            for index, made in zip(todo, _made(jobs, min(data.workers, len(todo))), strict=True):
                lengths[index] = made
                for _ in made:
                    next(steps)
        except (OSError, CheckpointError) as error:
            raise DataError(
                f"cannot keep spectrograms in {folder}: {error}; free some space there, set REDENSE_CACHE to another "
                "folder, or use data.features: live"
            ) from error
    return FeatureStore(paths, [length for known in lengths if known is not None for length in known])


def _made(jobs: Iterator[tuple[Sequence[Utterance], SpectrogramSettings, Path]], workers: int) -> Iterator[list[int]]:
    if workers < 2:
        return (_make_shard(*job) for job in jobs)
    from joblib import Parallel, delayed

    made: Any = Parallel(n_jobs=workers, return_as="generator")(delayed(_make_shard)(*job) for job in jobs)
    return made


def _make_shard(part: Sequence[Utterance], settings: SpectrogramSettings, path: Path) -> list[int]:
    samples = (torch.from_numpy(utterance.clip.samples(settings.rate)) for utterance in part)
    clips = [spectrogram(one, settings).half() for one in samples]
    lengths = [len(frames) for frames in clips]
    data = save({"frames": torch.cat(clips), "lengths": torch.tensor(lengths)})
    write_text(path.with_suffix(_SUM), f"{sha256(data)}\n")  # first: a kill in between leaves what is made anew
    write_bytes(path, data)
    return lengths


def _name(part: Sequence[Utterance], settings: SpectrogramSettings) -> str:
    clips = [(utterance.digest, utterance.clip.start, utterance.clip.length) for utterance in part]
    known = {"version": _VERSION, "settings": settings.model_dump(), "clips": clips}
    if any(utterance.clip.path.suffix.lower() == ".mp3" for utterance in part):
        known["mp3"] = 2  # in those of before what is behind 65,536 samples is distorted
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _lengths(path: Path, clips: int) -> list[int] | None:
    """Return the frames of every clip of a shard; None if it is not there, or damaged, or without a checksum."""
    try:
        if file_sum(path) != read_text(path.with_suffix(_SUM)).strip():
            log.warning("%s is damaged: made again", path)
            return None
        with safe_open(path, framework="pt") as file:
            lengths: list[int] = file.get_tensor("lengths").tolist()
            frames = file.get_slice("frames").get_shape()[0]
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError) as error:
        log.info("%s is damaged (%s): made again", path, error)
        return None
    return lengths if len(lengths) == clips and sum(lengths) == frames else None
