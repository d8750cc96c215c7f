"""Sound files and corpora, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_sound(path: Path, seconds: float = 0.4, rate: int = 8_000, *, seed: int = 0, level: float = 0.3) -> Path:
    """Write noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = level * np.random.default_rng(seed).uniform(-1, 1, int(seconds * rate))
    soundfile.write(path, samples, rate)
    return path


Write = Callable[..., Path]


@pytest.fixture
def corpus(tmp_path: Path) -> Write:
    """Return what writes a list of clips: texts, and for some of them other sounds."""

    def write(
        texts: Sequence[str], name: str = "manifest.jsonl", *, folder: str = "corpus", seconds: float = 0.4
    ) -> Path:
        root = tmp_path / folder
        lines: list[str] = []
        for index, text in enumerate(texts):
            clip = f"{Path(name).stem}-{index}.wav"
            write_sound(root / clip, seconds, seed=index)
            lines.append(json.dumps({"audio_filepath": clip, "text": text}))
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return root

    return write


@pytest.fixture
def sound() -> Write:
    """Return what writes a sound file: a path, and seconds, rate, seed or level."""
    return write_sound
