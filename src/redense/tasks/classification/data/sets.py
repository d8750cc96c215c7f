"""A loaded set: images in memory, or encoded images that are decoded when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from redense.errors import BrokenImageError, DataError, command

from .kept import Kept
from .layouts.folder import Files
from .pixels import KNOWN, decode

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 4 * 2**30
"""Splits of raw pixels are held in memory; a file that claims more is refused before anything is allocated."""

_MOST = 100
"""How many times its size a compressed file may become; images that are mostly black come to some tens."""
_ALWAYS = 1 << 26  # bytes that any file may become


def check_claim(size: int, on_disk: int, what: object) -> None:
    """Refuse a compressed file that would become far larger than pictures do.

    Args:
        size: bytes that it announces.
        on_disk: its bytes.
        what: what a message calls it.

    Raises:
        DataError: it is one.
    """
    if size > max(_ALWAYS, _MOST * on_disk):
        raise DataError(
            f"{what}: {on_disk:,} bytes would become {size:,}, more than {_MOST} times as many: "
            "compressed pictures are none such; unpack it first if it is yours"
        )


_LUMA = (19595, 38470, 7471)  # of 65,536: Pillow's, so that a grey level is the same whoever takes the colours away


class Encoded(Protocol):
    """Image files, or rows of a table, that are read one by one; ``lengths`` int64 (n,) are their sizes in bytes."""

    lengths: np.ndarray

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def name(self, index: int) -> str:
        """Return how one is called in a message."""
        ...

    def read(self, index: int) -> bytes:
        """Return the bytes of one."""
        ...


def identity(files: Encoded, index: int) -> str:
    """Return what a file is known again by in its folder; of a row what tells its table from others.

    Of a file that is its name, its size, its date and the time of its last change.
    """
    changed = f"\0{files.changed[index]}" if isinstance(files, Files) else ""
    return identity_before(files, index) + changed


def identity_before(files: Encoded, index: int) -> str:
    """Return what a file was known again by before the time of its last change counted."""
    modified = files.modified[index] if isinstance(files, Files) else getattr(files, "version", 0)
    return f"{files.name(index)}\0{files.lengths[index]}\0{modified}"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and what they show: ``images`` uint8 (n, c, h, w), ``labels`` int64 (n,), one name a class."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, index: int) -> Tensor:
        """Return one image, uint8 (c, h, w)."""
        return self.images[index]

    def with_channels(self, channels: int) -> ImageSet:
        """Return the images as grey or with colours: grey ones repeated, colours weighted as Pillow does."""
        images = self.images
        if images.shape[1] < channels:
            images = images.expand(-1, channels, -1, -1)
        elif images.shape[1] > channels:
            red, green, blue = (images[:, i : i + 1].int() * weight for i, weight in enumerate(_LUMA))
            images = ((red + green + blue + 0x8000) >> 16).to(torch.uint8)
        return replace(self, images=images)

    def take(self, indices: Tensor) -> ImageSet:
        """Return the part with these images, in this order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """Images that are decoded when they are asked for.

    Args:
        files: all files of a folder, or rows of a table, shared by the splits.
        index: which of them are in this split, int64 (n,).
        labels: int64 (n,).
        classes: one name a class.
        channels: 1 if all images of the set are grey, else 3.
        sizes: height and width of every image, int32 (n, 2).
        place: what a user calls the whole set, for messages.
        marks: of every image, uint64 (n,): images that differ in it differ.
        turned: of every image, bool (n,): whether `decode` turns it, as its camera noted.
        kept: where pictures that take long to decode are kept once they are; None: nowhere.
    """

    files: Encoded
    index: np.ndarray
    labels: Tensor
    classes: tuple[str, ...]
    channels: int
    sizes: np.ndarray
    place: str
    marks: np.ndarray
    turned: np.ndarray
    kept: Kept | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return how an image is called in a message."""
        return self.files.name(int(self.index[index]))

    def identity(self, index: int) -> str:
        """Return what tells an image from all others, and from what it was before it changed."""
        own = identity(self.files, int(self.index[index]))
        if isinstance(self.files, Files):  # another folder may have files of the same names, sizes and dates
            own = f"{self.files.place}\0{own}"
        turned = "turned\0" if self.turned[index] else ""  # before they were turned, they were kept by the rest of it
        return f"{turned}{self.channels}\0{int(self.marks[index])}\0{own}"

    def with_channels(self, channels: int) -> EncodedSet:
        """Return the images as grey or with colours."""
        return replace(self, channels=channels)

    def picture(self, index: int, *, least: int = 0, exact: bool = False) -> Image:
        """Return one image, decoded: grey or RGB, transparency on white; at a fraction of its size, see `decode`.

        Raises:
            BrokenImageError: it cannot be decoded, or is gone.
        """
        try:
            content = self.files.read(int(self.index[index]))
            return decode(content, grey=self.channels == 1, least=least, exact=exact)
        except Exception as error:  # Pillow raises a dozen kinds for a broken image
            found = command("redense", "data", "check", self.place, "--full")
            raise BrokenImageError(
                f"{self.place}: {self.name(index)} cannot be decoded ({first_line(error)}); find all such files with "
                f"`{found}`, which remembers them, and leave them out with data.broken: skip"
            ) from error

    def take(self, indices: Tensor) -> EncodedSet:
        """Return the part with these images, in this order."""
        chosen = indices.numpy()
        return replace(
            self,
            index=self.index[chosen],
            labels=self.labels[indices],
            sizes=self.sizes[chosen],
            marks=self.marks[chosen],
            turned=self.turned[chosen],
        )


AnySet = ImageSet | EncodedSet
SetT = TypeVar("SetT", ImageSet, EncodedSet, AnySet)


@dataclass(frozen=True, eq=False)
class Splits(Generic[SetT]):
    """Three disjoint splits; ``notes`` say in a sentence each what was left out or looks odd.

    ``fingerprint`` is a sha256: of the shapes and bytes of images in memory, of the names, sizes, marks and labels of
    files, and of which of them are turned. ``known_as`` are other fingerprints of the same data, see `fingerprint`.
    """

    train: SetT
    validation: SetT
    test: SetT
    fingerprint: str = ""
    notes: tuple[str, ...] = ()
    known_as: tuple[str, ...] = ()

    def by_name(self) -> dict[str, SetT]:
        """Return ``training``, ``validation`` and ``test``, as messages call them."""
        return {"training": self.train, "validation": self.validation, "test": self.test}

    def each(self, change: Callable[[AnySet], AnySet]) -> Splits[AnySet]:
        """Return the splits with each of them changed."""
        sets = map(change, (self.train, self.validation, self.test))
        return Splits(*sets, fingerprint=self.fingerprint, notes=self.notes, known_as=self.known_as)


def fingerprint(parts: Iterable[AnySet], *, marks: bool = True) -> str:
    """Return the sha256 (hex) over the shapes and bytes of images and labels, in the order given.

    Of encoded images it covers name, size in bytes, mark and label, and which of them are turned, where any is. Without
    ``marks`` it is that of an older redense, which covered nothing that is inside of a file.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, EncodedSet):
            digest.update(f"{len(part)} files".encode())
            digest.update("\0".join(map(part.name, range(len(part)))).encode("utf-8", "surrogateescape"))
            tensors = [torch.from_numpy(part.files.lengths[part.index]), part.labels]
            tensors += [torch.from_numpy(part.turned)] * bool(part.turned.any())
            tensors += [torch.from_numpy(part.marks.view(np.int64))] * marks
        else:
            tensors = [part.images, part.labels]
        for tensor in tensors:
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind."""
    if type(error).__name__ == "UnidentifiedImageError":  # Pillow's message holds an address in memory
        return f"it is no image of a known format ({KNOWN})"
    return next(iter(str(error).splitlines()), "") or type(error).__name__
