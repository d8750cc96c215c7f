"""What a frozen CNN sees in the images: computed once, kept in the cache, and taken from there by everyone later.

Features are kept in parts of 256 images. The name of a part is a hash of all that its numbers depend on: the CNN's
weights, how images are brought to its size, and the bytes of the images. So a part is never stale, sets that share
images share parts, and a computation that was interrupted goes on with the part at hand.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...errors import DataError, RecipeError, StateError, nearest
from ...files.yaml_text import parse_yaml
from ..catalog import cache_dir
from ..classification.config import ImageData, ImageModel
from ..classification.data.pixels import decode
from ..classification.data.sets import Encoded, first_line
from ..classification.data.transforms import Transform, evaluation_transform
from ..classification.normalisation import IMAGENET
from .config import FeatureSource

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""Called with how many images have been seen, and how many there are to see."""

_PART = 256  # images
_BATCH = 32
_CLASSES = 1000  # of networks that come trained, ImageNet's
_SAY_SECONDS = 20.0  # between two lines in the log


@dataclass(frozen=True, eq=False)
class Eyes:
    """A frozen CNN with what it does to an image before it looks.

    Args:
        network: in evaluation mode; its output is not used.
        layer: the module whose input (``last``) or output is the features.
        takes_input: whether it is the input.
        transform: from a picture to uint8 (3, h, w).
        mean: and
        std: (3, 1, 1), of pixels from 0 to 255.
        digest: tells them from any others.
    """

    network: nn.Module
    layer: nn.Module
    takes_input: bool
    transform: Transform
    mean: Tensor
    std: Tensor
    digest: str

    @torch.no_grad()
    def see(self, pictures: Sequence[Any]) -> Tensor:
        """Return the features of pictures: float32 (b, d)."""
        device = next(self.network.parameters()).device
        images = torch.stack([self.transform(picture) for picture in pictures]).float().sub(self.mean).div(self.std)
        found: list[Tensor] = []

        def before(module: nn.Module, inputs: Any) -> None:
            found.append(inputs[0])

        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            found.append(output)

        if self.takes_input:
            hook = self.layer.register_forward_pre_hook(before)
        else:
            hook = self.layer.register_forward_hook(after)
        try:
            self.network(images.to(device))
        finally:
            hook.remove()
        seen = found[-1]
        if seen.ndim == 4:  # a map of features: its mean over the places
            seen = seen.mean((2, 3))
        return seen.flatten(1).float().cpu()


def open_eyes(source: FeatureSource) -> Eyes:
    """Return the CNN that a recipe names, with its weights.

    Raises:
        RecipeError: there is no such network or layer.
        StateError: the weights cannot be read, or are of another network.
        DataError: they cannot be downloaded, or the data of the run that made them is missing.
    """
    folder = Path(source.weights).expanduser()
    if (folder / "recipe.yaml").is_file():
        return _eyes_of_run(folder, source)
    if _is_run(source.weights) and not folder.exists():
        raise StateError(
            f"data.features.weights: no such file or run folder {source.weights}; train the CNN there first, for "
            f"example: redense run emoji/cnn --out {source.weights}"
        )
    return _eyes_of_library(source)


def features_of(
    images: Encoded,
    numbers: Sequence[int],
    eyes: Callable[[], Eyes],
    digest: str,
    place: str,
    on_progress: OnProgress | None = None,
) -> Tensor:
    """Return the features of chosen images, from the cache where they are there: float32 (n, d).

    Args:
        images: encoded.
        numbers: which of them.
        eyes: gives the CNN, if it is needed at all.
        digest: of the CNN, see `digest_of`.
        place: what a user calls the images, for messages.
        on_progress: called as it goes on.

    Raises:
        DataError: an image cannot be decoded.
    """
    from safetensors.torch import load_file, save_file

    folder = cache_dir() / "features"
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Tensor] = []
    say = _progress(len(numbers), place, on_progress)
    opened: Eyes | None = None
    for start in range(0, len(numbers), _PART):
        chosen = numbers[start : start + _PART]
        path = folder / f"{_part_key(images, chosen, digest)}.safetensors"
        part = _kept(path, len(chosen), load_file)
        if part is None:
            opened = opened or eyes()
            part = torch.cat(
                [_see(opened, images, chosen[i : i + _BATCH], place) for i in range(0, len(chosen), _BATCH)]
            )
            aside = path.with_suffix(f".{os.getpid()}.tmp")
            save_file({"features": part.contiguous()}, aside)
            aside.replace(path)
        parts.append(part)
        say(start + len(chosen))
    return torch.cat(parts)


def digest_of(source: FeatureSource) -> str:
    """Return what tells the features of a CNN from any others: sha256 of its weights and its settings.

    Raises:
        StateError: the file of the weights is not there.
    """
    settings = source.model_dump(mode="json", exclude={"weights"})
    weights = source.weights
    folder = Path(weights).expanduser()
    if (folder / "recipe.yaml").is_file():
        weights = _sha256(_model_of(folder)) + _sha256(folder / "recipe.yaml")
    elif folder.is_file():
        weights = _sha256(folder)
    elif _is_run(weights):
        open_eyes(source)  # says what is missing
    return hashlib.sha256(json.dumps([settings, weights]).encode()).hexdigest()


# --- the CNN --------------------------------------------------------------------------------------------------------


def _is_run(weights: str) -> bool:
    return not weights.startswith(("torchvision:", "timm:"))


def _model_of(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise StateError(f"{folder} is no finished run: go on with `redense run --resume {folder}`")
    return path


def _eyes_of_run(folder: Path, source: FeatureSource) -> Eyes:
    from ..classification.models import build
    from ..classification.task import Classification

    recipe: Any = parse_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"), str(folder / "recipe.yaml"))
    if not isinstance(recipe, dict) or recipe.get("task", "classification") != "classification":
        raise RecipeError(f"data.features.weights: {folder} is no run of a classifier")
    recipe = cast("dict[str, Any]", recipe)
    data, model = ImageData.model_validate(recipe["data"]), ImageModel.model_validate(recipe["model"])
    inputs = folder / "artifacts" / "inputs.json"
    if inputs.is_file():
        shape, classes, mean, std = _read_inputs(inputs)
        network = build(model, shape, classes)
    else:  # a run of an older redense: its data says it
        task = Classification(data, model)
        network, (mean, std) = task.build_model(), task.scale
    load_weights_(network, _model_of(folder))
    return _eyes(network, source, evaluation_transform(data), mean, std)


def _read_inputs(path: Path) -> tuple[tuple[int, int, int], int, Tensor, Tensor]:
    """Return shape, number of classes, mean and deviation that a classifier's run has kept."""
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
        channels, height, width = map(int, said["shape"])
        mean, std = (torch.tensor(said[name], dtype=torch.float32).view(channels, 1, 1) for name in ("mean", "std"))
        return (channels, height, width), len(said["classes"]), mean, std
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise StateError(f"{path} is damaged ({first_line(error)}): take the whole run folder again") from None


def _eyes_of_library(source: FeatureSource) -> Eyes:
    from ..classification.networks import TRANSFORM_INPUT, build, pretrained

    config = ImageModel(name=source.network, transform_input=source.network in TRANSFORM_INPUT)
    data = ImageData(size=source.size, resize=source.resize)
    path = Path(source.weights).expanduser()
    weights = None if path.is_file() else pretrained(config, source.weights)
    network = build(config, (3, source.size, source.size), _CLASSES)
    if weights is None:
        load_weights_(network, path)
    else:
        own = network.state_dict()
        if missing := [name for name in own if name not in weights]:
            raise StateError(f"data.features.weights: {source.weights} has no '{missing[0]}' of {source.network}")
        network.load_state_dict({name: weights[name] for name in own})
    mean, std = (255 * torch.tensor(values).view(-1, 1, 1) for values in IMAGENET)
    return _eyes(network, source, evaluation_transform(data), mean, std)


def _eyes(network: nn.Module, source: FeatureSource, transform: Transform, mean: Tensor, std: Tensor) -> Eyes:
    modules = dict(network.named_modules())
    if source.layer == "last":
        linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
        if not linear:
            raise RecipeError(
                f"data.features.layer: {source.network} has no linear layer; name the module whose output is meant"
            )
        layer = linear[-1]
    elif source.layer in modules:
        layer = modules[source.layer]
    else:
        raise RecipeError(
            f"data.features.layer: {source.network} has no module {source.layer!r}{nearest(source.layer, modules)}"
        )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return Eyes(
        network.eval().to(device), layer, source.layer == "last", transform, mean, std, digest=digest_of(source)
    )


def load_weights_(network: nn.Module, path: Path) -> None:
    """Load weights of a file into a network, in place.

    Raises:
        StateError: the file is damaged, or of another network.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            weights: Mapping[str, Tensor] = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(dict(weights))
    except Exception as error:  # torch.load raises a dozen kinds for a file that is none
        raise StateError(f"{path} is damaged, or of another network: {first_line(error)[:200]}") from error


# --- the cache ------------------------------------------------------------------------------------------------------


def _kept(path: Path, count: int, load: Callable[[Path], Mapping[str, Tensor]]) -> Tensor | None:
    from safetensors import SafetensorError

    if not path.is_file():
        return None
    try:
        part = load(path)["features"]
    except (SafetensorError, KeyError, OSError):
        return None  # computed anew
    return part if len(part) == count else None


def _part_key(images: Encoded, numbers: Sequence[int], digest: str) -> str:
    whole = hashlib.sha256(digest.encode())
    for number in numbers:
        whole.update(hashlib.sha256(images.read(number)).digest())
    return whole.hexdigest()


def _see(eyes: Eyes, images: Encoded, numbers: Sequence[int], place: str) -> Tensor:
    pictures: list[Any] = []
    for number in numbers:
        try:
            pictures.append(decode(images.read(number)))
        except Exception as error:  # Pillow raises a dozen kinds for a broken image
            raise DataError(
                f"{place}: {images.name(number)} cannot be decoded ({first_line(error)}); find all such files with "
                "`redense data check FOLDER --full`, which remembers them, and leave them out with data.broken: skip"
            ) from error
    return eyes.see(pictures)


def _progress(total: int, place: str, on_progress: OnProgress | None) -> Callable[[int], None]:
    began = said = time.monotonic()

    def say(done: int) -> None:
        nonlocal said
        if on_progress:
            on_progress(done, total)
        elif time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            left = (said - began) / done * (total - done)
            log.warning("%s: the CNN has seen %s of %s images, %.0f s left", place, f"{done:,}", f"{total:,}", left)

    return say


@functools.lru_cache(maxsize=64)
def _sha256_at(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_at(path, status.st_size, status.st_mtime_ns)
