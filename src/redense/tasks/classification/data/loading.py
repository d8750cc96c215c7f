"""Loading the labelled images that a recipe names: the layout of the source, its reader, three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch

from redense.errors import DataError
from redense.files.visible import counted, visible_line
from redense.tasks import catalog
from redense.tasks.classification.config import ImageData
from redense.tasks.names import apart, called_alike, like_another
from redense.tasks.split_names import idle_shares

from .assemble import divide, first_part, verify_labels
from .checking import OnChecked
from .duplicates import marked, shared_examples
from .reading import OWN, Found, read_images, usable_sets
from .room import room_for
from .sets import AnySet, EncodedSet, ImageSet, Splits, fingerprint
from .splits import limit_to, with_noise
from .transforms import Preparation, before_random, evaluation, fits_in_memory, shape_of, to_memory

_NAMED = 3  # kinds of classes that are called alike, or classes that a split lacks
_NO_CLASS = ("n/a", "#n/a", "<na>", "na", "n.a.", "?", "missing", "undefined", "none", "nan", "null")
_REDUCED = 2  # of the rule by which large pictures are decoded at a fraction of their size


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
    if not all(isinstance(part, ImageSet) for part in splits.by_name().values()):
        raise DataError(f"{source}: too many images for the memory; train on them with `redense run`")
    return cast("Splits[ImageSet]", splits)


def load_images(config: ImageData, *, seed: int = 0, on_checked: OnChecked | None = None) -> Splits[AnySet]:
    """Load the splits that a recipe names, in memory where they are small, else to be decoded image by image.

    What is in memory has the network's size, but for training images that are still to be cut out at random.

    ``config.source`` is one of: None or ``"sample"`` (10,000 + 10,000 images of Fashion-MNIST, shipped); a name that
    ``redense data list`` shows, or ``"debian"`` for Fashion-MNIST; a folder of idx files (flat, torchvision's
    ``FashionMNIST/raw/``, or an unpacked Debian package), of CIFAR's binary files, of class folders as ImageNet has,
    of images and a table of their classes, or of a Hugging Face set; a file of arrays (.npz); ``"hub:OWNER/NAME"`` or
    ``"hub:OWNER/NAME:CONFIGURATION"``.

    Raises:
        DataError: The data is missing, broken or unfit; the message names the file.
        MissingExtraError: The source needs a package that is not installed.
    """
    parts = with_cache(divide_images(config, read_images(config, on_checked=on_checked), seed), config)
    ready = _prepare(config, parts)
    # A set in memory is known by its pixels as they came; one of files by their names, sizes, marks and labels.
    pixels = config.size is None and all(isinstance(part, ImageSet) for part in ready.by_name().values())
    known = [fingerprint((ready if pixels else parts).by_name().values(), marks=marks) for marks in (True, False)]
    if not pixels and any(prepared.reduces(part) for part, prepared in preparations(parts, config)):
        known = [hashlib.sha256(f"{digest} reduced {_REDUCED}".encode()).hexdigest() for digest in known]
    digest, *others = catalog.in_turn(config.source, *known)
    return replace(ready, fingerprint=digest, known_as=tuple(others))


def preparations(splits: Splits[AnySet], config: ImageData) -> list[tuple[AnySet, Preparation]]:
    """Return every split with what is done to its pictures before anything random."""
    usual = evaluation(config)
    return [(splits.train, before_random(config)), (splits.validation, usual), (splits.test, usual)]


def with_cache(splits: Splits[AnySet], config: ImageData) -> Splits[AnySet]:
    """Return splits whose large pictures are kept in the cache once they are decoded, if there is room."""
    parts = [(part, how) for part, how in preparations(splits, config) if isinstance(part, EncodedSet)]
    kept, note = room_for(parts, config.cache_gb * 1e9, config.source or "sample")
    splits = splits.each(lambda part: replace(part, kept=kept) if isinstance(part, EncodedSet) else part)
    return replace(splits, notes=(*splits.notes, *([note] if note else [])))


def divide_images(config: ImageData, found: Found, seed: int = 0) -> Splits[AnySet]:
    """Return the three splits of what was found, as they are; nothing is decoded.

    Raises:
        DataError: nothing can be trained on it, or some of it cannot be used and is not to be skipped.
    """
    place = config.source or "sample"
    if config.label is not None and not found.has_labels:
        raise DataError(f"{place}: data.label {config.label!r} chooses nothing in {found.layout}: remove it")
    if not found.parts:
        _verify(place, found.in_memory)
        found = replace(found, in_memory=_only_shown(found.in_memory))
    sets, notes = usable_sets(place, found, config)
    if config.channels:
        sets = {name: part.with_channels(config.channels) for name, part in sets.items()}
    training = first_part(sets)
    notes += [*catalog.namesake(config.source, *OWN), *_expected(place, config, training)]
    notes += _alike(place, training.classes)
    notes += _unknown(place, training)
    train, validation, test = divide(place, sets, config.validation, seed)
    notes += idle_shares(config, sets if "test" in sets else (), "validation")  # without a test that is the test
    if config.limit is not None:
        train = train.take(limit_to(train.labels, config.limit, seed))
    splits = Splits(train, validation, test)
    notes += _lacking(place, splits)
    notes += shared_examples(place, {name: marked(part) for name, part in splits.by_name().items()}, "images")
    if config.label_noise:
        labels = with_noise(train.labels, len(train.classes), config.label_noise, seed)
        splits = replace(splits, train=replace(train, labels=labels))
        share = f"{100 * config.label_noise:g}%"
        notes.append(f"{place}: {share} of the training labels are random, as data.label_noise asks")
    for name, part in splits.by_name().items():
        if len(part) == 0:
            raise DataError(
                f"{place}: the {name} split is empty ({len(training):,} training images, "
                f"validation share {config.validation}), expected images in every split"
            )
    if config.size is None:
        _require_one_size(place, splits.by_name().values())
    return replace(splits, notes=tuple(notes))


def _verify(place: str, sets: Mapping[str, ImageSet]) -> None:
    """Refuse what no classifier can be trained and tested on."""
    training = first_part(sets)
    for name, part in sets.items():
        if len(part) == 0:
            raise DataError(
                f"{place}: there are no {'training' if part is training else name} images, expected at least one"
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
            strange = [part.classes[label] for label in unknown[:5]]
            alike = like_another(strange[0], [training.classes[label] for label in sorted(known)])
            names = ", ".join(map(repr, strange))
            raise DataError(f"{place}: the {name} images show classes that no training image shows: {names}{alike}")


def _only_shown(sets: Mapping[str, ImageSet]) -> dict[str, ImageSet]:
    """Return the sets with the classes that training images show: a name that no image has is no class."""
    training = first_part(sets)
    shown = training.labels.unique()
    classes = tuple(training.classes[label] for label in shown.tolist())
    return {
        name: replace(part, labels=torch.searchsorted(shown, part.labels), classes=classes)
        for name, part in sets.items()
    }


def _lacking(place: str, splits: Splits[AnySet]) -> list[str]:
    """Say which classes each split has no image of, of all that the network is to tell apart."""
    notes: list[str] = []
    for name, part in splits.by_name().items():
        counts = part.labels.bincount(minlength=len(part.classes)).tolist()
        lacking = [own for own, count in zip(part.classes, counts, strict=True) if not count]
        if lacking and len(part):
            shown = ", ".join(map(visible_line, lacking[:_NAMED]))
            more = f" and {len(lacking) - _NAMED:,} more" if len(lacking) > _NAMED else ""
            whole = f"{len(part.classes):,} classes{'' if part is splits.train else ' of the training set'}"
            notes.append(f"{place}: {name} has no image of {len(lacking):,} of the {whole}: {shown}{more}")
    return notes


def _alike(place: str, classes: Sequence[str]) -> list[str]:
    """Say which classes are called alike: nobody would see from their names that they are two."""
    found = called_alike(classes)
    notes: list[str] = []
    for own in found[:_NAMED]:
        notes.append(
            f"{place}: the classes {' and '.join(apart(own))} are called alike; if they are one, give them one name"
        )
    return [*notes, *([f"{place}: so are {len(found) - _NAMED:,} more"] if len(found) > _NAMED else [])]


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


def _require_one_size(place: str, parts: Iterable[AnySet]) -> None:
    encoded = [part for part in parts if isinstance(part, EncodedSet)]
    for part in encoded:
        first = encoded[0].sizes[0]
        if len(other := np.flatnonzero((part.sizes != first).any(1))):
            height, width = part.sizes[other[0]].tolist()
            raise DataError(
                f"{place}: the images differ in size, {part.name(int(other[0]))} is {height} x {width} pixels and "
                f"others are {first[0]} x {first[1]}; set data.size to bring them to one size"
            )


def _prepare(config: ImageData, splits: Splits[AnySet]) -> Splits[AnySet]:
    """Bring to their size, in memory, the splits that are small enough and not cut out at random."""
    shape = shape_of(splits.train, config.size)

    def ready(part: AnySet) -> AnySet:
        if isinstance(part, ImageSet) and config.size is None:
            return part
        random = part is splits.train and config.augment != "none"
        if random or not fits_in_memory(len(part), shape):
            return part
        return to_memory(part, evaluation(config), shape)

    return splits.each(ready)


def _shape(images: ImageSet) -> str:
    return str(tuple(images.images.shape[1:]))


def _unknown(place: str, training: AnySet) -> list[str]:
    """Say which classes have names that tables write where nobody knows the class."""
    notes: list[str] = []
    for number, name in enumerate(training.classes):
        if name.strip().casefold() in _NO_CLASS:
            count = counted(int((training.labels == number).sum()), "training image")
            notes.append(
                f"{place}: {name!r} is a class like others here, of {count}; if it says that the class is not known, "
                "leave it empty, write -1, or take these images away"
            )
    return notes
