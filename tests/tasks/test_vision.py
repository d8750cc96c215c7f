"""torchvision beside a torch of another build."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from redense.errors import MissingExtraError
from redense.tasks.classification import vision

pytest.importorskip("torchvision")


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchvision_imports_whoever_imports_it_first() -> None:
    code = (
        "from redense.tasks.classification.vision import make_importable; make_importable(); "
        "import sys; assert 'torchvision' not in sys.modules; import torchvision; print(torchvision.models.resnet18)"
    )
    assert "resnet18" in in_a_fresh_process(code)


def test_torchvision_is_imported_once_more_without_a_second_declaration() -> None:
    code = (
        "from redense import compat; from redense.tasks.classification import vision; "
        "a = vision.torchvision(); b = vision.torchvision(); print(a is b, len(compat._declared) <= 1)"
    )
    assert in_a_fresh_process(code).split() == ["True", "True"]


def test_nothing_is_declared_for_a_cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(sys, "meta_path", [])
    vision.make_importable()
    assert sys.meta_path == []


def test_a_missing_torchvision_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'redense\[vision\]'"):
        vision.torchvision()
