"""The facts that a plan needs about a set that may not be on this machine. Nothing is loaded here."""

from __future__ import annotations

from redense.tasks.classification.config import ImageData

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
