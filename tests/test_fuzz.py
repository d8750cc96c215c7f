"""Loaders under fuzzers: no crash, no hang, and no more memory or time than a function of the file's size.

``fuzz/hunt.py`` changes whole files of every kind; run it for an hour to look harder. ``fuzz/target.py`` is for
atheris, a fuzzer that is led by coverage, which looks into the readers that are written in Python.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import redense
from redense.lab.checkpoint import save_tree

HUNT = Path(__file__).parent / "fuzz" / "hunt.py"

pytestmark = pytest.mark.slow

SEEDS = {
    "recipe": [b"name: x\ndense: {epochs: 1}\nsparse: {epochs: 1, sparsity: 0.3}\nredense:\n  epochs: 1\n"],
    "checkpoint": [],
    "manifest": [
        b'{"audio_filepath": "a.wav", "text": "a", "offset": 1.5}\n',
        b"file_name,transcription\na.wav,hola\n",
    ],
    "captions": [
        b'{"images": [{"filename": "a.png", "split": "train", "sentences": [{"raw": "a dog", "tokens": ["a"]}]}]}',
        b'{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "caption": "a"}]}',
        b"a.jpg#0\tTwo dogs\n",
        b"image_name| comment_number| comment\na.jpg| 0| Two dogs\n",
    ],
    "idx": [bytes((0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4))],
}


@pytest.mark.timeout(3600)
def test_no_change_of_a_file_breaks_the_bounds_of_its_loader(tmp_path: Path):
    pytest.importorskip("soundfile")
    words = [sys.executable, "-W", "ignore", HUNT, "--seconds", "200", "--seed", "0", "--finds", tmp_path / "finds"]
    environment = {**os.environ, "PYTHONPATH": str(Path(redense.__file__).parents[1])}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.count(" 0 finds") > 40


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install 'redense[fuzz]'"
)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", SEEDS)
def test_no_bytes_crash_or_hang_a_loader(tmp_path: Path, target: str):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]):
        (corpus / str(number)).write_bytes(seed)
    if target == "checkpoint":
        save_tree(corpus / "tree", {"model": {"w": torch.ones(2)}, "step": 3, "of": [1, (2.5, None)]})
    script = Path(__file__).parent / "fuzz" / "target.py"
    limits = ["-max_total_time=30", "-runs=20000", "-timeout=20", "-rss_limit_mb=4096", "-seed=1", "-max_len=4096"]
    done = subprocess.run(
        [sys.executable, script, target, *limits, str(corpus)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
