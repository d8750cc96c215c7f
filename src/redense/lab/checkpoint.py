"""Checkpoints: a tree of tensors and plain data in one safetensors file, written atomically and checked on load.

There is no code in the file: tensors are safetensors' own, the tree around them is JSON in the header, and a digest
over both is compared before anything is used. A file is written aside, synced and renamed, so that a kill at any
moment leaves either the old file or the new one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from redense.errors import CheckpointError
from redense.files.opening import open_regular
from redense.files.writing import write_bytes

_KEY = "redense"
_FORMAT = 1


def save_tree(path: Path, tree: Any) -> None:
    """Write a tree of dicts, lists, tuples, tensors and plain values to ``path``, atomically.

    Raises:
        CheckpointError: the file cannot be written (full disk, read-only folder); an older one is still there.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_take_apart(tree, tensors, {}))
    header = json.dumps({"format": _FORMAT, "digest": _digest(skeleton, tensors), "tree": skeleton})
    # One entry only: safetensors writes several in a random order, and equal states shall be equal files.
    write_bytes(path, to_bytes(tensors, metadata={_KEY: header}))


def is_tree(path: Path) -> bool:
    """Whether a safetensors file is one of `save_tree`, and not weights alone.

    Raises:
        SafetensorError: it is no safetensors file.
    """
    with open_regular(path), safe_open(path, framework="pt") as file:
        return _KEY in (file.metadata() or {})


def load_tree(path: Path) -> Any:
    """Return the tree that `save_tree` wrote; tensors on CPU.

    Raises:
        CheckpointError: no such file, a damaged one, or one that redense did not write.
    """
    try:
        with open_regular(path), safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no dict
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint: {' '.join(str(error).split())}") from None
    if entry is None:
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of redense")
    try:
        header = json.loads(entry)
        version, skeleton, digest = header["format"], str(header["tree"]), header["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{path} is damaged: its header cannot be read") from None
    if version != _FORMAT:
        raise CheckpointError(f"{path} has the checkpoint format {version}; this redense reads {_FORMAT}")
    if digest != _digest(skeleton, tensors):
        raise CheckpointError(f"{path} is damaged: its content does not match its digest")
    try:
        return _put_together(json.loads(skeleton), tensors)
    except (ValueError, LookupError, TypeError, RecursionError):  # the digest is right: somebody made it so
        raise CheckpointError(f"{path} is damaged: its tree is none that redense writes") from None


def pack_tree(tree: Any) -> bytes:
    """Return a tree as bytes, to be sent and not to be kept."""
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps(_take_apart(tree, tensors, {})).encode()
    return len(skeleton).to_bytes(8, "big") + skeleton + to_bytes(tensors)


def unpack_tree(data: bytes) -> Any:
    """Return the tree that `pack_tree` was given; tensors on CPU."""
    end = 8 + int.from_bytes(data[:8], "big")
    return _put_together(json.loads(data[8:end]), from_bytes(data[end:]))


def _digest(skeleton: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(skeleton.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _take_apart(node: Any, tensors: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> Any:
    if isinstance(node, Tensor):
        source = node.detach()
        # Tied weights are one tensor; a copy each would not be wrong, only larger.
        key = (source.data_ptr(), source.dtype, tuple(source.shape), source.stride(), source.device)
        if source.numel() == 0 or key not in names:
            names[key] = f"t{len(tensors)}"
            tensors[names[key]] = source.cpu().contiguous().clone()
        return {"tensor": names[key]}
    if isinstance(node, dict):
        for key in node:
            if not (key is None or isinstance(key, (bool, int, float, str))):
                raise CheckpointError(f"a checkpoint holds tensors and plain values, not keys of {type(key).__name__}")
        return {"dict": [[key, _take_apart(value, tensors, names)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_take_apart(value, tensors, names) for value in node]}
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise CheckpointError(f"a checkpoint holds tensors and plain values, not {type(node).__name__}")


def _put_together(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _put_together(item, tensors) for key, item in value}
    if kind not in ("list", "tuple"):
        raise ValueError(kind)
    items = [_put_together(item, tensors) for item in value]
    return tuple(items) if kind == "tuple" else items


def clone(tree: Any) -> Any:
    """Return a copy of a tree of dicts, lists and tensors that shares no tensor with it."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {key: clone(value) for key, value in tree.items()}
    return [clone(value) for value in tree] if isinstance(tree, list) else tree
