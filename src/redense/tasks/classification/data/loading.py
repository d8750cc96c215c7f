"""From what a recipe says of its data to three splits: which layout a source has, and who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from redense.errors import DataError, nearest
from redense.tasks import catalog

from ..config import ImageData
from .assemble import Part, assemble, divide, verify_labels
from .checking import OnChecked, check
from .cifar import find_cifar, read_cifar
from .folder import SUFFIXES, find_parts, list_folder
from .hub import is_hub_folder, read_by_row, read_in_memory
from .idx import IDX_NAMES, SAMPLE, find_idx, read_idx_set
from .pixels import require_pillow
from .sets import AnySet, EncodedSet, ImageSet, Splits, fingerprint
from .splits import limit_to, with_noise
from .transforms import evaluation_transform, fits_in_memory, shape_of, to_memory


def load_splits(source: str | None, *, validation: float = 0.1, seed: int = 0) -> Splits[ImageSet]:
    """Load a classification set into memory as it is, with a share ``validation`` of every training class held out.

    ``source`` is what ``data.source`` of a recipe is. Images that differ in size need ``load_images``.

    ``seed`` is the seed of this split alone. Leave it as it is from run to run, so that runs are comparable.

    >>> splits = load_splits("sample")
    >>> len(splits.train), len(splits.validation), len(splits.test), splits.train.images.shape[1:]
    (9000, 1000, 10000, torch.Size([1, 28, 28]))

    Raises:
        DataError: The data is missing, broken or unfit; the message names the file.
        MissingExtraError: The source needs a package that is not installed.
    """
    if not 0.0 < validation < 1.0:
        raise DataError(f"the validation share must be in (0, 1), got {validation}")
    splits = load_images(ImageData(source=source, validation=validation), seed=seed)
    if not all(isinstance(part, ImageSet) for part in (splits.train, splits.validation, splits.test)):
        raise DataError(f"{source}: too many images for the memory; train on them with `redense run`")
    return cast("Splits[ImageSet]", splits)


def load_images(config: ImageData, *, seed: int = 0, on_checked: OnChecked | None = None) -> Splits[AnySet]:
    """Load the splits that a recipe names, in memory where they are small, else to be decoded image by image.

    What is in memory has the network's size, but for training images that are still to be cut out at random.

    ``config.source`` is one of: None or ``"sample"`` (10,000 + 10,000 images of Fashion-MNIST, shipped); a name that
    ``redense data list`` shows, or ``"debian"`` for Fashion-MNIST; a folder of idx files (flat, torchvision's
    ``FashionMNIST/raw/``, or an unpacked Debian package), of CIFAR's binary files, of class folders as ImageNet has,
    or of a Hugging Face set; ``"hub:OWNER/NAME"`` or ``"hub:OWNER/NAME:CONFIGURATION"``.

    Raises:
        DataError: The data is missing, broken or unfit; the message names the file.
        MissingExtraError: The source needs a package that is not installed.
    """
    place = config.source or "sample"
    sets, notes = _read(config, on_checked)
    if all(isinstance(part, ImageSet) for part in sets.values()):
        _verify(place, cast("Mapping[str, ImageSet]", sets))
    training = sets["all"] if "all" in sets else sets["train"]
    notes += _expected(place, config, training)
    train, validation, test = divide(place, sets, config.validation, seed)
    if config.limit is not None:
        train = train.take(limit_to(train.labels, config.limit, seed))
    if config.label_noise:
        train = replace(train, labels=with_noise(train.labels, len(train.classes), config.label_noise, seed))
        notes.append(f"{place}: {config.label_noise:.0%} of the training labels are random, as data.label_noise asks")
    parts = {"training": train, "validation": validation, "test": test}
    for name, part in parts.items():
        if len(part) == 0:
            raise DataError(
                f"{place}: the {name} split is empty ({len(training):,} training images, "
                f"validation share {config.validation}), expected images in every split"
            )
    if config.size is None:
        _require_one_size(place, parts)
    ready = _prepare(config, train, validation, test)
    # A set in memory is known by its pixels as they came; one of files by their names, sizes and labels.
    known = ready if config.size is None and all(isinstance(part, ImageSet) for part in ready) else (*parts.values(),)
    return Splits(*ready, fingerprint=fingerprint(known), notes=tuple(notes))


def find_images(source: str | None) -> Path | str:
    """Return the folder that a source names, or the source itself if it is on the hub.

    Raises:
        DataError: there is no such thing; the message says what could be meant.
    """
    if source is None or source == "sample":
        return SAMPLE
    name = "fashion-mnist" if source == "debian" else source
    if name in catalog.SOURCES:
        return catalog.check(catalog.SOURCES[name])
    if source.startswith("hub:"):
        return source
    folder = Path(source).expanduser()
    if not folder.is_dir():
        names = ["sample", "debian", *catalog.SOURCES]
        raise DataError(
            f"no data at {source!r}: expected one of {', '.join(names)}, an existing folder, "
            f"or hub:OWNER/NAME{nearest(source, names)}"
        )
    return folder


def read_folder_parts(
    folder: Path, place: str, *, full: bool = False, on_checked: OnChecked | None = None
) -> dict[str, Part]:
    """List and check the splits of a folder of class folders; no image is refused yet.

    Raises:
        DataError: it is no such folder.
    """
    if not _holds_images(folder):
        raise DataError(
            f"{folder}: neither idx files ({', '.join(IDX_NAMES)}, each plain or .gz), nor CIFAR's binary files, nor "
            "parquet files, nor images in folders train/CLASS/ and val/CLASS/ or test/CLASS/"
        )
    require_pillow()
    root = folder.absolute()
    parts: dict[str, Part] = {}
    for name, below in find_parts(root).items():
        listing = list_folder(below, root)
        checked = check(listing.files, str(below), full=full, on_checked=on_checked)
        faults = [f"{below.relative_to(root) / name} is an empty class folder" for name in listing.empty]
        if listing.loose and name != "all":
            faults.append(f"{len(listing.loose):,} images lie in {below.name}/ itself, in no class folder")
        parts[name] = Part(listing.files, listing.labels, listing.classes, checked, faults)
    return parts


def _read(config: ImageData, on_checked: OnChecked | None) -> tuple[dict[str, AnySet], list[str]]:
    """Return the parts that a source has, and notes."""
    found = find_images(config.source)
    place = config.source or "sample"
    if isinstance(found, str) or (not (idx := find_idx(found)) and is_hub_folder(found)):
        if config.size is None:
            return {**read_in_memory(place, config.label)}, []
        encoded, notes = assemble(place, read_by_row(place, config.label, on_checked=on_checked), config)
        return {**encoded}, notes
    if idx:
        training, test = read_idx_set(idx)
        return {"train": training, "test": test}, []
    if cifar := find_cifar(found):
        sets, notes = read_cifar(*cifar, config.label)
        return {**sets}, notes
    encoded, notes = assemble(place, read_folder_parts(found, place, on_checked=on_checked), config)
    return {**encoded}, notes


def _holds_images(folder: Path) -> bool:
    return any(
        path.suffix.lower() in SUFFIXES for pattern in ("*/*", "*/*/*", "*/*/*/*") for path in folder.glob(pattern)
    )


def _verify(place: str, sets: Mapping[str, ImageSet]) -> None:
    """Refuse what no classifier can be trained and tested on."""
    training = sets["train"]
    for name, part in sets.items():
        if len(part) == 0:
            raise DataError(
                f"{place}: there are no {'training' if name == 'train' else name} images, expected at least one"
            )
        if training.images.shape[1:] != part.images.shape[1:]:
            raise DataError(
                f"{place}: training images are {_shape(training)}, {name} images {_shape(part)} "
                "(channels, height, width); they must be alike"
            )
    verify_labels(place, training.classes, training.labels)
    known = set(training.labels.unique().tolist())
    for name, part in sets.items():
        if unknown := sorted(set(part.labels.unique().tolist()) - known):
            names = ", ".join(repr(part.classes[label]) for label in unknown[:5])
            raise DataError(f"{place}: the {name} images show classes that no training image shows: {names}")


def _expected(place: str, config: ImageData, training: AnySet) -> list[str]:
    """Compare what the recipe expects with what there is.

    Raises:
        DataError: the classes or the channels are others: it is another set.
    """
    expected = config.expected
    if expected is None:
        return []
    channels = shape_of(training, 1)[0]
    if (expected.classes, expected.channels) != (len(training.classes), channels):
        raise DataError(
            f"{place}: {len(training.classes)} classes and {channels} channels, but the recipe expects "
            f"{expected.classes} and {expected.channels}: correct data.expected, or data.source"
        )
    if expected.train != len(training):
        return [f"{place}: {len(training):,} training images, the recipe expects {expected.train:,}"]
    return []


def _require_one_size(place: str, parts: Mapping[str, AnySet]) -> None:
    sizes = [part.sizes for part in parts.values() if isinstance(part, EncodedSet)]
    if not sizes:
        return
    first = sizes[0][0]
    for part in parts.values():
        if isinstance(part, EncodedSet) and len(other := np.flatnonzero((part.sizes != first).any(1))):
            height, width = part.sizes[other[0]].tolist()
            raise DataError(
                f"{place}: the images differ in size, {part.name(int(other[0]))} is {height} x {width} pixels and "
                f"others are {first[0]} x {first[1]}; set data.size to bring them to one size"
            )


def _prepare(config: ImageData, train: AnySet, validation: AnySet, test: AnySet) -> tuple[AnySet, AnySet, AnySet]:
    """Bring to their size, in memory, the splits that are small enough and not cut out at random."""
    shape = shape_of(train, config.size)

    def ready(part: AnySet, random: bool) -> AnySet:
        if isinstance(part, ImageSet) and config.size is None:
            return part
        if random or not fits_in_memory(len(part), shape):
            return part
        return to_memory(part, evaluation_transform(config), shape)

    return ready(train, config.augment != "none"), ready(validation, False), ready(test, False)


def _shape(images: ImageSet) -> str:
    return str(tuple(images.images.shape[1:]))
