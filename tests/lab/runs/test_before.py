"""Folders of the version before the modules moved: a run, one that was stopped, a scan, a comparison and its store.

``before.tar.gz`` was made by commit 8a5ea89 from its data, with the settings in its recipes; pages are left out.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Redense = Callable[..., tuple[int, str, str]]


@pytest.fixture
def before(redense: Redense, tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).with_name("before.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_a_run_of_before_is_evaluated_shown_and_exported(before: Path, redense: Redense):
    result = json.loads((before / "run" / "result.json").read_text())
    code, out, _ = redense("evaluate", "run")
    assert code == 0
    assert f"{result['phases'][-1]['test']['error']:.2f}" in out
    assert redense("report", "run")[0] == 0
    assert "sensitivity" in (before / "run" / "report.html").read_text()
    code, _, err = redense("export", "run", "exported")
    assert code == 0, err
    digest = hashlib.sha256((before / "run" / "model.safetensors").read_bytes()).digest()
    assert hashlib.sha256((before / "exported" / "model.safetensors").read_bytes()).digest() == digest


@pytest.mark.slow
def test_a_run_that_was_stopped_before_goes_on(before: Path, redense: Redense):
    code, _, err = redense("run", "--resume", "stopped")
    assert code == 0, err
    assert json.loads((before / "stopped" / "result.json").read_text())["phases"][-1]["name"] == "redense"


@pytest.mark.skipif(
    torch.__version__.partition("+")[0] != "2.13.0", reason="the store is PyTorch 2.13.0's, which its keys say"
)
def test_a_comparison_takes_all_from_a_store_of_before_and_says_what_was_said(before: Path, redense: Redense):
    told = json.loads((before / "comparison" / "compare.json").read_text())
    settings = ["--data", "data", "--dense.epochs", 1, "--sparse.epochs", 1, "--redense.epochs", 1]
    settings += ["--model.widths", "[2]", "--training.batch_size", 20]
    arms = ["--arms", "dsd,restart", "--seeds", 2, "--jobs", 1, "--store", "store", "--out", "again"]
    code, out, err = redense("compare", "quickstart", *settings, *arms)
    assert code == 0, err
    assert "nothing had to be trained, all came from the store" in out
    again = json.loads((before / "again" / "compare.json").read_text())
    assert [again[key] for key in ("seeds", "comparisons", "gains")] == [
        told[key] for key in ("seeds", "comparisons", "gains")
    ]
    assert redense("report", "comparison")[0] == 0
    code, _, err = redense("judge", "comparison")
    assert code == 0, err
