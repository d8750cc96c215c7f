"""A small set that needs no download: sentences of made-up words, every letter a tone. It is synthetic, and easy."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from redense.tasks import catalog
from redense.tasks.speech.audio import Samples, require_soundfile

RATE = 16_000
LETTERS = "abdegiklmnorstu"
_SENTENCES = 400
_WORDS = 40
_VERSION = 1  # of what is made


def tones_folder() -> Path:
    """Return the folder of the set in the cache; it is made first if it is not there."""
    folder = catalog.cache_dir() / f"tones-{_VERSION}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tones-", dir=folder.parent) as scratch:
        write_tones(Path(scratch) / "ready", _SENTENCES)
        try:
            (Path(scratch) / "ready").rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first
                raise
    return folder


def write_tones(folder: Path, sentences: int, *, seed: int = 0) -> None:
    """Write clips and their list; about a second of sound each."""
    soundfile = require_soundfile()
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    words = ["".join(generator.choice(list(LETTERS), generator.integers(2, 5))) for _ in range(_WORDS)]
    lines: list[str] = []
    seen: set[str] = set()
    while len(lines) < sentences:
        text = " ".join(generator.choice(words, generator.integers(1, 4)))
        if text in seen:
            continue
        seen.add(text)
        name = f"{len(lines):04d}.wav"
        soundfile.write(os.fspath(folder / name), spoken(text, generator), RATE, subtype="PCM_16")
        lines.append(json.dumps({"audio_filepath": name, "text": text}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def spoken(text: str, generator: np.random.Generator) -> Samples:
    """Return samples (n,) at 16 kHz: 60 to 90 ms a letter, 60 ms of silence a space, under a little noise."""
    pieces: list[Samples] = []
    pitch = generator.uniform(0.97, 1.03)  # of the speaker
    for letter in text:
        count = int(RATE * (0.06 if letter == " " else generator.uniform(0.06, 0.09)))
        seconds = np.arange(count) / RATE
        frequency = 0.0 if letter == " " else pitch * (400 + 180 * LETTERS.index(letter))
        envelope = np.sin(np.pi * np.arange(count) / count)
        pieces.append((0.3 * envelope * np.sin(2 * np.pi * frequency * seconds)).astype(np.float32))
    silence = np.zeros(RATE // 20, np.float32)
    samples = np.concatenate([silence, *pieces, silence])
    noise = 0.01 * generator.standard_normal(len(samples))
    return (samples + noise).astype(np.float32)
