"""Files of weights, whatever the task: read without running anything in them, and within bounds."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from redense.errors import StateError, resuming
from redense.files.opening import open_regular

_LONGEST = 1000  # characters of the name of a class
_LEGACY = 4  # pickles before the tensors of a file that is no archive


def final_weights(folder: Path) -> Path:
    """Return the file with the weights that a run has ended with.

    Raises:
        StateError: the run is not finished.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise StateError(f"{folder} has no model.safetensors yet: finish it with: {resuming(folder)}")
    return path


def load_weights_(network: nn.Module, path: Path) -> None:
    """Load weights of a file into a network, in place.

    Raises:
        StateError: the file is damaged, of another network, or of numbers that are not finite or no weights.
    """
    try:
        weights = dict(read_weights(path))
        verify_kinds(weights, network.state_dict(), path)
        network.load_state_dict(weights)
    except StateError:
        raise
    except Exception as error:  # torch.load raises a dozen kinds for a file that is none
        raise StateError(f"{path} is damaged, or of another network: {' '.join(str(error).split())[:200]}") from error
    verify_finite(network.state_dict(), path)


def verify_file(path: Path) -> None:
    """Refuse a file of weights of which no network could be made.

    Raises:
        StateError: it is damaged, or its numbers are not finite.
    """
    try:
        weights = read_weights(path)
    except Exception as error:  # of the dozen kinds that `read_weights` names
        raise StateError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    verify_finite(weights, path)


def verify_kinds(weights: Mapping[str, Any], own: Mapping[str, Tensor], what: object) -> None:
    """Refuse whole numbers, truth values and complex numbers where a network has weights: PyTorch would copy them.

    Args:
        weights: of a file.
        own: of the network.
        what: names the file in the message.

    Raises:
        StateError: one is such.

    >>> verify_kinds({"bias": torch.ones(2, dtype=torch.int8)}, {"bias": torch.zeros(2)}, "model.pt")
    Traceback (most recent call last):
        ...
    redense.errors.StateError: model.pt holds 'bias' as int8: expected weights as they are trained, not quantised
    """
    for name, value in own.items():
        given = weights.get(name)
        if value.is_floating_point() and isinstance(given, Tensor) and not given.is_floating_point():
            kind = str(given.dtype).removeprefix("torch.")
            raise StateError(f"{what} holds '{name}' as {kind}: expected weights as they are trained, not quantised")


def verify_finite(weights: Mapping[str, Tensor], what: object) -> None:
    """Refuse weights and buffers with which every answer would be nonsense; a mask of 0 and -inf is none of them.

    Args:
        weights: names and dense tensors.
        what: names them in the message.

    Raises:
        StateError: one has a number that is not finite.

    >>> verify_finite({"bias": torch.tensor([0.5, torch.nan])}, "model.pt")
    Traceback (most recent call last):
        ...
    redense.errors.StateError: model.pt holds numbers that are not finite in 'bias': take another file of them
    """
    for name, value in weights.items():
        if not value.is_floating_point() or value.element_size() == 1:  # PyTorch asks nothing of floats of 8 bits
            continue
        finite = torch.isfinite(value)
        if not finite.all() and not bool(((value == -torch.inf) | (value == 0)).all()):
            raise StateError(f"{what} holds numbers that are not finite in '{name}': take another file of them")


def verify_answer(values: Tensor) -> Tensor:
    """Return the numbers that a network has answered.

    Raises:
        StateError: they are none, because its weights are so large that sums of them overflow.
    """
    if bool(values.isnan().any()):
        raise StateError("the network's answer is no number: its weights are too large")
    return values


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Return what a file of safetensors or of ``torch.save`` holds; tensors on CPU.

    Raises:
        Exception: of a dozen kinds where it is neither; OSError where it is no regular file.
    """
    from safetensors.torch import load_file

    with open_regular(path) as file:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check(path)
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
        return loaded


def _check(path: Path) -> None:
    """Raise where a file would take more memory or time to read than its bytes are worth.

    ``torch.save`` compresses nothing, and names no class by thousands of characters: PyTorch (2.13) searches its
    message about a class that it does not allow by patterns whose time grows with the square of the name's length, 5 s
    for 14,000. Nothing is made of the pickles that are read here.
    """
    if not zipfile.is_zipfile(path):
        with open_regular(path) as file:
            for _ in range(_LEGACY):
                _check_pickle(file)
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type for member in members) or (
            sum(member.file_size for member in members) > path.stat().st_size
        ):
            raise ValueError("its parts are compressed, or lie over each other, as torch.save never writes them")
        for member in members:
            if member.filename.endswith(".pkl"):
                with archive.open(member) as file:
                    _check_pickle(file)


def _check_pickle(file: IO[bytes]) -> None:
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in ("GLOBAL", "INST") and len(str(argument)) > _LONGEST:
            raise ValueError(f"it names a class by {len(str(argument)):,} characters")
