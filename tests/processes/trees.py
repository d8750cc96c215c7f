"""Whether two trees of tensors and plain data are the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def same_tree(a: Any, b: Any) -> bool:
    """Whether two trees have the same keys in the same order, types and values of tensors, and plain data."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_tree, a, b))
    return a == b
