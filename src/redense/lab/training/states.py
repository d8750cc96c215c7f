"""Parts of a snapshot: the state of the random numbers that training draws, copies of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the state of what models draw from: the CPU's generator, and that of the GPU that is trained on."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = [torch.cuda.get_rng_state(device)]
    return state


def set_rng_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Go on drawing where `rng_state` was taken."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"][0], device)


def clone(tree: Any) -> Any:
    """Return a copy of a tree of dicts, lists and tensors that shares no tensor with it."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: clone(value) for key, value in tree.items()}
    return [clone(value) for value in tree] if isinstance(tree, list) else tree
