"""Image features of a frozen CNN: computed once, cached, and read from the cache by every later run.

Features are kept in parts of 256 images. The name of a part is a hash of all that its numbers depend on: the CNN's
weights, how images are brought to its size, and the bytes of the images. So a part is never stale, sets that share
images share parts, and a computation that was interrupted goes on with the part at hand.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from redense.errors import DataError, RecipeError, StateError, command, nearest, resuming
from redense.files.checksums import check_folder, remembered_sum, sha256
from redense.files.opening import at_home, read_bytes, read_text
from redense.files.writing import write_bytes, write_text
from redense.files.yaml_text import MAX_BYTES, parse_yaml
from redense.tasks.catalog import cache_dir
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.data.pixels import decode, is_turned
from redense.tasks.classification.data.sets import Encoded, first_line
from redense.tasks.classification.data.transforms import Transform, evaluation_transform, fitting_transform
from redense.tasks.classification.normalisation import IMAGENET
from redense.tasks.weights import load_weights_

from .config import FeatureSource

log = logging.getLogger(__name__)

_LARGEST = 1 << 22  # pixels
_PART = 256  # images
_BATCH = 32
_SUM = ".sha256"  # beside each part
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
        grey: whether the network sees pictures without colours.
    """

    network: nn.Module
    layer: nn.Module
    takes_input: bool
    transform: Transform
    mean: Tensor
    std: Tensor
    digest: str
    grey: bool = False

    @torch.no_grad()
    def see(self, pictures: Sequence[Any]) -> Tensor:
        """Return the features of pictures: float32 (b, d).

        Raises:
            DataError: the CNN cannot look at them: they are too small or too large for it, or of several sizes.
            RecipeError: the module that was named gives no features of a picture.
        """
        device = next(self.network.parameters()).device
        pictures = [picture.convert("L") for picture in pictures] if self.grey else pictures
        seen_as = [self.transform(picture) for picture in pictures]
        sizes = {tuple(picture.shape[1:]) for picture in seen_as}
        if len(sizes) > 1:
            raise DataError("the CNN takes them as they are, and they are of several sizes")
        height, width = next(iter(sizes))
        if height * width > _LARGEST:
            raise DataError(f"{width} x {height} pixels are too many for a CNN that takes pictures as they are")
        images = torch.stack(seen_as).float().sub(self.mean).div(self.std)
        found: list[Any] = []
        if self.takes_input:
            hook = self.layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
        else:
            hook = self.layer.register_forward_hook(lambda _, inputs, output: found.append(output))
        try:
            self.network(images.to(device))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of a layer that finds nothing left of the picture
            raise DataError(f"{width} x {height} pixels do not fit the CNN: {first_line(error)[:200]}") from error
        finally:
            hook.remove()
        seen = found[-1] if found else None
        if not isinstance(seen, Tensor):
            gives = "is not used where the network looks at a picture" if seen is None else "gives no tensor"
            raise RecipeError(f"data.features.layer names a module that {gives}: name another one")
        if seen.ndim == 4:  # a map of features: its mean over the places
            # Of a square picture the two equal sides of a map are its places.
            if height == width and seen.shape[1] == seen.shape[2] != seen.shape[3]:
                sides = " x ".join(map(str, seen.shape[1:]))
                raise RecipeError(
                    f"data.features.layer names a module whose map is {sides}, with its channels last, expected them "
                    "first: name a module behind it"
                )
            seen = seen.mean((2, 3))
        return seen.flatten(1).float().cpu()


def open_eyes(source: FeatureSource) -> Eyes:
    """Return the CNN that a recipe names, with its weights.

    Raises:
        RecipeError: there is no such network or layer.
        StateError: the weights cannot be read, or are of another network.
        DataError: they cannot be downloaded, or the data of the run that made them is missing.
    """
    folder = at_home(source.weights)
    if (folder / "recipe.yaml").is_file():
        return _eyes_of_run(folder, source)
    if not source.is_of_library and not folder.exists():
        train = command("redense", "run", "emoji/cnn", "--out", source.weights)
        raise StateError(
            f"data.features.weights: no such file or run folder {source.weights}; if it has moved, say where it is "
            f"(redense caption: --cnn), or train the CNN there first, for example: {train}"
        )
    return _eyes_of_library(source)


def features_of(images: Encoded, numbers: Sequence[int], eyes: Callable[[], Eyes], digest: str, place: str) -> Tensor:
    """Return the features of chosen images, from the cache where they are there: float32 (n, d).

    Args:
        images: encoded.
        numbers: which of them.
        eyes: gives the CNN, if it is needed at all.
        digest: of the CNN, see `digest_of`.
        place: what a user calls the images, for messages.

    Raises:
        DataError: an image cannot be decoded.
    """
    folder = cache_dir() / "features"
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Tensor] = []
    say = _progress(len(numbers), place)
    opened: Eyes | None = None
    for start in range(0, len(numbers), _PART):
        chosen = numbers[start : start + _PART]
        path = folder / f"{_part_key(images, chosen, digest)}.safetensors"
        part = _kept(path, len(chosen))
        if part is None:
            opened = opened or eyes()
            part = torch.cat(
                [_see(opened, images, chosen[i : i + _BATCH], place) for i in range(0, len(chosen), _BATCH)]
            )
            _keep(path, part)
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
    folder = at_home(weights)
    if (folder / "recipe.yaml").is_file():
        weights = remembered_sum(_model_of(folder)) + remembered_sum(folder / "recipe.yaml")
        return _digest(settings, weights)
    scale = _scale(source)  # of an older redense it was ImageNet's whatever the network
    if folder.is_file():
        weights = remembered_sum(folder)
    elif not source.is_of_library:
        open_eyes(source)  # says what is missing
    return _digest(settings, weights, *([] if scale == IMAGENET else [scale]))


def _digest(*told: Any) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# --- the CNN --------------------------------------------------------------------------------------------------------


def _model_of(folder: Path) -> Path:
    path = folder / "model.safetensors"
    if not path.is_file():
        raise StateError(f"{folder} is no finished run: go on with: {resuming(folder)}")
    return path


def _eyes_of_run(folder: Path, source: FeatureSource) -> Eyes:
    from redense.tasks.classification.classifier import read_inputs
    from redense.tasks.classification.models import build
    from redense.tasks.classification.task import Classification

    check_folder(folder)
    recipe: Any = parse_yaml(read_text(folder / "recipe.yaml", MAX_BYTES), str(folder / "recipe.yaml"))
    if not isinstance(recipe, dict) or recipe.get("task", "classification") != "classification":
        raise RecipeError(f"data.features.weights: {folder} is no run of a classifier")
    recipe = cast("dict[str, Any]", recipe)
    data, model = ImageData.model_validate(recipe["data"]), ImageModel.model_validate(recipe["model"])
    inputs = folder / "artifacts" / "inputs.json"
    if inputs.is_file():
        known = read_inputs(folder)
        shape, mean, std = known.shape, known.mean, known.std
        network = build(model, shape, len(known.classes))
    else:  # a run of an older redense: its data says it
        task = Classification(data, model)
        shape, network, (mean, std) = task.shape, task.build_model(), task.scale
    load_weights_(network, _model_of(folder))
    return _eyes(network, source, str(folder), fitting_transform(data, shape), mean, std, grey=shape[0] == 1)


def _eyes_of_library(source: FeatureSource) -> Eyes:
    from redense.tasks.classification.networks import TRANSFORM_INPUT, build, pretrained

    config = ImageModel(name=source.network, transform_input=source.network in TRANSFORM_INPUT)
    data = ImageData(size=source.size, resize=source.resize)
    path = at_home(source.weights)
    weights = None if path.is_file() else pretrained(config, source.weights)
    network = build(config, (3, source.size, source.size), _CLASSES)
    if weights is None:
        load_weights_(network, path)
    else:
        own = network.state_dict()
        if missing := [name for name in own if name not in weights]:
            raise StateError(f"data.features.weights: {source.weights} has no '{missing[0]}' of {source.network}")
        network.load_state_dict({name: weights[name] for name in own})
    mean, std = (255 * torch.tensor(values).view(-1, 1, 1) for values in _scale(source))
    return _eyes(network, source, source.network, evaluation_transform(data), mean, std)


def _scale(source: FeatureSource) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation that a network of a library learned with; ImageNet's where nothing says it."""
    from redense.tasks.classification.networks import scale_of

    return scale_of(source.network, source.weights) or IMAGENET


def _eyes(
    network: nn.Module,
    source: FeatureSource,
    called: str,
    transform: Transform,
    mean: Tensor,
    std: Tensor,
    *,
    grey: bool = False,
) -> Eyes:
    modules = dict(network.named_modules())
    if source.layer == "last":
        linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
        if not linear:
            raise RecipeError(
                f"data.features.layer: {called} has no linear layer; name the module whose output is meant"
            )
        layer = linear[-1]
    elif source.layer in modules:
        layer = modules[source.layer]
    else:
        raise RecipeError(
            f"data.features.layer: {called} has no module {source.layer!r}{nearest(source.layer, modules)}"
        )
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    return Eyes(
        network.eval().to(device),
        layer,
        source.layer == "last",
        transform,
        mean,
        std,
        digest=digest_of(source),
        grey=grey,
    )


# --- the cache ------------------------------------------------------------------------------------------------------


def _kept(path: Path, count: int) -> Tensor | None:
    """Return the features of a part; None if they are not there, or damaged, or without a checksum: to be made anew."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = read_bytes(path)
        if sha256(data) != read_text(path.with_suffix(_SUM)).strip():
            log.warning("%s is damaged: its features are computed anew", path)
            return None
        part = load(data)["features"]
    except (SafetensorError, KeyError, OSError, ValueError):
        return None
    return part if len(part) == count else None


def _keep(path: Path, part: Tensor) -> None:
    from safetensors.torch import save

    data = save({"features": part.contiguous()})
    write_text(path.with_suffix(_SUM), f"{sha256(data)}\n")  # first: a kill in between leaves what is made anew
    write_bytes(path, data)


def _part_key(images: Encoded, numbers: Sequence[int], digest: str) -> str:
    whole = hashlib.sha256(digest.encode())
    for number in numbers:
        content = images.read(number)
        whole.update(hashlib.sha256(content).digest() + b"turned" * is_turned(content))
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


def _progress(total: int, place: str) -> Callable[[int], None]:
    began = said = time.monotonic()

    def say(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            left = (said - began) / done * (total - done)
            log.warning("%s: the CNN has seen %s of %s images, %.0f s left", place, f"{done:,}", f"{total:,}", left)

    return say
