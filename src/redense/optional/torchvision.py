"""torchvision beside a torch of another build, for whoever imports it: our models, Lightning's metrics, transformers.

A torchvision wheel that was built for CUDA cannot load its library beside a CPU-only torch, and then fails to import
at the schema of an operator that no classifier uses. Declaring the schemas of the two that are missed is enough for
models, transforms and data sets. A torchvision that loads its library is left alone: there a second declaration would
abort the process.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_SCHEMAS = ("nms", "qnms")
_declared: list[Any] = []  # a torch.library.Library takes its declarations with it when it goes


def make_importable() -> None:
    """Declare what a torchvision without its library misses, when it is imported and by whomever; else do nothing."""
    if torch.version.cuda is None and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds nothing; it is asked before torchvision is imported, which is the moment to declare the schemas."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname != "torchvision" or _declared:
            return
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        spec = importlib.util.find_spec("torchvision")
        if spec is not None and not _library_loads(spec):
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in _SCHEMAS:
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)


def _library_loads(spec: ModuleSpec) -> bool:
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).glob("_C*.so")) + sorted(Path(folder).glob("_C*.pyd")):
            try:
                torch.ops.load_library(str(path))
            except OSError:
                continue
            return True
    return False
