"""torchvision beside a torch of another build."""

from __future__ import annotations

import sys

import forked
import pytest
import torch

from redense.errors import MissingExtraError
from redense.optional.torchvision import make_importable
from redense.tasks.classification import vision

pytest.importorskip("torchvision")


def test_torchvision_imports_whoever_imports_it_first_and_once_more_without_a_second_declaration() -> None:
    code = (
        "import sys; from redense.optional import torchvision as compat; "
        "from redense.tasks.classification import vision; "
        "compat.make_importable(); assert 'torchvision' not in sys.modules; "
        "import torchvision; assert 'resnet18' in dir(torchvision.models); "
        "a = vision.torchvision(); b = vision.torchvision(); print(a is b, len(compat._declared) <= 1)"
    )
    out, err = forked.start("-c", code).communicate(timeout=100)
    assert out.split() == ["True", "True"], err


def test_nothing_is_declared_for_a_cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(sys, "meta_path", [])
    make_importable()
    assert sys.meta_path == []


def test_a_missing_torchvision_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'redense\[vision\]'"):
        vision.torchvision()
