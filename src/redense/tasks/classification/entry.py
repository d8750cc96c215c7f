"""The entry of image classification: a task made with its data, described without it, or sketched on random images."""

from __future__ import annotations

import math

from redense.files.sources import is_own
from redense.files.visible import counted
from redense.tasks.task import Facts, Settings

from .config import ImageData
from .data.inspecting import small_notes
from .models import NETWORKS, PLAIN
from .sketch import SketchedClassification
from .task import Classification

# name -> training images, classes, shape (None: as data.size says), and whether validation is apart from them
_KNOWN: dict[str, tuple[int, int, tuple[int, int | None], bool]] = {
    "sample": (10_000, 10, (1, 28), False),
    "fashion-mnist": (60_000, 10, (1, 28), False),
    "debian": (60_000, 10, (1, 28), False),
    "emoji": (4_531, 10, (3, None), True),
    "hub:uoft-cs/cifar10": (50_000, 10, (3, 32), False),
    "hub:uoft-cs/cifar100": (50_000, 100, (3, 32), False),
}


def expected_data(config: ImageData) -> tuple[int, int, tuple[int, int, int]] | None:
    """Return training examples, classes, and the images' (channels, height, width); None if they are not known.

    The examples are those after the validation split and ``limit``. What is known comes from ``expected`` and
    ``size``, or from the named sources.

    >>> expected_data(ImageData())
    (9000, 10, (1, 28, 28))
    """
    name = config.source or "sample"
    train, classes, (channels, side), apart = _KNOWN.get(name, (0, 0, (0, None), False))
    if name.endswith("cifar100") and (config.label or "").startswith("coarse"):
        classes = 20
    if config.expected:
        train, classes, channels = config.expected.train, config.expected.classes, config.expected.channels
    side, channels = config.size or side, config.channels or channels
    if not train or not side:
        return None
    if not apart:
        train -= round(config.validation * train)
    return min(train, config.limit or train), classes, (channels, side, side)


def make(settings: Settings) -> Classification:
    """Return the task of a recipe, its data loaded.

    Raises:
        DataError: the data is missing, broken or unfit.
    """
    return Classification(settings.data, settings.model, label_smoothing=settings.training.label_smoothing)


def facts(settings: Settings) -> Facts:
    """Return what the data is: as the recipe says, or else by loading it.

    Raises:
        DataError: the recipe does not say, and the data is missing.
    """
    said, notes = expected_data(settings.data), ()
    if said:
        train, classes, shape = said
    else:
        task = make(settings)
        train, classes, shape = len(task.examples("train")), len(task.classes), task.shape
        notes = (*task.notes, *small_notes(task.sets.by_name()))
    return Facts(
        train=train,
        text=f"{train:,} images of {' x '.join(map(str, shape))}, {counted(classes, 'class')}",
        size=math.prod(shape),
        looked_at=not said,
        details={"shape": list(shape), "classes": classes},
        notes=notes,
    )


def libraries(settings: Settings) -> tuple[str, ...]:
    """Return the packages that the network, or what is done to its images, is taken from."""
    data, name = settings.data, settings.model.name
    random = data.source is not None and (data.flip or data.crop)  # of images in memory they are our own
    found = {"timm"} if name.startswith("timm/") else {"torchvision"}
    if name in PLAIN or (name in NETWORKS and not is_own(NETWORKS[name])):
        found = set()
    if data.size is not None or data.augment != "none" or random:
        found.add("torchvision")
    return tuple(sorted(found))


def parts(settings: Settings) -> tuple[object, ...]:
    """Return the function that builds the network, where it is registered."""
    return (NETWORKS[settings.model.name],) if settings.model.name in NETWORKS else ()


def sketch(settings: Settings, facts: Facts, examples: int) -> SketchedClassification:
    """Return the task on so many random images of the real shape."""
    channels, height, width = facts.details["shape"]
    return SketchedClassification(
        settings.data,
        settings.model,
        shape=(channels, height, width),
        classes=facts.details["classes"],
        examples=examples,
        label_smoothing=settings.training.label_smoothing,
    )
