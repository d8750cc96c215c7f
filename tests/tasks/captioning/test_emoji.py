"""The shipped recipes of emoji, end to end on a small part of the real set: the CNN, the captions, a picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm")
def test_the_recipes_of_emoji_train_on_a_part_of_them(redense, tmp_path: Path):
    short = ("--dense.epochs", 1, "--sparse.epochs", 1, "--redense.epochs", 1, "--data.limit", 300)
    assert redense("data", "get", "emoji")[0] == 0
    assert redense("run", "emoji/cnn", "--out", "runs/emoji-cnn", *short)[0] == 0
    code, out, _ = redense("run", "emoji/neuraltalk", "--out", "runs/captions", "--model.width", 32, *short)
    assert code == 0
    assert "test BLEU-4" in out
    result = json.loads((tmp_path / "runs/captions/result.json").read_text())
    assert result["test_examples"] == 372
    assert any("different sentences about one concept" in note for note in result["notes"])
    assert [round(phase["sparsity"], 2) for phase in result["phases"]] == [0.0, 0.8, 0.0]
    pictures = sorted((tmp_path / "cache/emoji/test").glob("*/*"))[:3]
    code, out, _ = redense("caption", "runs/captions", *pictures)
    assert code == 0
    assert len(out.splitlines()) == 3
