"""The entry of image classification: a task made with its data, described without it, or sketched on random images."""

from __future__ import annotations

import math

from redense.files.sources import is_own
from redense.files.visible import counted
from redense.tasks.task import Facts, Settings, Split

from .data.expected import expected_data
from .data.inspecting import small_notes
from .models import NETWORKS, PLAIN
from .sketch import SketchedClassification
from .task import Classification

_SPLITS: dict[str, Split] = {"training": "train", "validation": "validation", "test": "test"}


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
        parts = {name: task.examples(split).images for name, split in _SPLITS.items()}
        notes = (*task.notes, *small_notes(parts))
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
