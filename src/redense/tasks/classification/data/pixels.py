"""Decoding image files to pixels, and facts about a file without decoding it. Needs Pillow."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from redense.errors import MissingExtraError
from redense.optional.extras import refuse_folder

if TYPE_CHECKING:
    from PIL.Image import Image, Transpose

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats of pictures that are read, as Pillow calls them; PPM stands for PGM and PBM, too."""

KNOWN = "JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, PGM"

_PIXELS = 1 << 27  # where somebody has switched Pillow's limit off
_FEW = 1 << 22  # pixels that a file of any size may have
_A_BYTE = 2048  # and pixels more for each of its bytes: an empty ground in colours has a sixth of that as a PNG
_ROOM = 1.5  # times as large as is enough: not worth another resampling
_BILINEAR = 2  # Pillow's number; with its antialiasing
_TAIL = 4096  # some cameras and sites append a little to an image
_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82", "GIF": b"\x3b"}  # at the end
_PARTS = ((273, 279), (324, 325))  # tags of a TIFF: where its strips or tiles begin, and how many bytes they have
_ORIENTATION = 0x0112  # the tag of Exif
# What turns a picture upright, by the value of the tag, as Pillow's transpositions are numbered.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_QUARTER = (2, 4, 5, 6)  # of them those after which height is width
_FAINT = 1 << 12  # a picture of 16 bits of grey all of whose numbers are below becomes 0 to 15 of 255


@dataclass(frozen=True)
class Look:
    """The facts of one file: its upright size in pixels, whether it is grey, turned or faint, and its fault.

    ``by_pillow``: it is turned, too, but by Pillow, which does that with a TIFF.
    """

    height: int = 0
    width: int = 0
    grey: bool = False
    turned: bool = False
    faint: bool = False
    fault: str = ""
    by_pillow: bool = False


def require_pillow() -> None:
    """Import Pillow.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import PIL

        refuse_folder(PIL)
    except ImportError as error:
        raise MissingExtraError("images in files need Pillow: pip install 'redense[vision]'") from error


def opened(stream: BinaryIO) -> Image:
    """Return a picture whose header is read and whose pixels are not.

    Every picture of redense is opened here: by the decoders of the documented formats and by no other (Pillow has some
    forty, of which one starts Ghostscript), and only up to Pillow's limit of pixels, and to a limit that grows with the
    file: a WebP of 474 bytes may have a ground of 50 million pixels.

    Raises:
        UnidentifiedImageError: it is of none of the formats.
        DecompressionBombError: it has too many pixels, altogether or for its bytes.
        Exception: Pillow raises a dozen kinds for a broken image.
    """
    from PIL import Image

    with warnings.catch_warnings():  # from its limit to twice of it Pillow only warns
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(stream, formats=FORMATS)
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS or _PIXELS
    if pixels > limit:
        raise Image.DecompressionBombError(f"{pixels} pixels are over Pillow's limit of {limit}")
    place = stream.tell()
    length = stream.seek(0, io.SEEK_END)
    stream.seek(place)
    if pixels > _FEW + _A_BYTE * length:
        raise Image.DecompressionBombError(f"{pixels:,} pixels in {length:,} bytes: it unpacks to far more than it is")
    return image


def _turn(image: Image) -> Transpose | None:
    """Return what brings a picture upright that its camera noted to lie on its side; None: it is, or nothing is noted.

    Of a PNG only what stands before its pixels is read. A TIFF is turned by Pillow itself.
    """
    from PIL.Image import Transpose

    if image.format == "TIFF" or not image.info.keys() & {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}:
        return None
    try:
        noted = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001  # as many kinds as for a broken image; the pixels may be whole
        return None
    turn = _TURNS.get(noted) if isinstance(noted, int) else None
    return None if turn is None else Transpose(turn)


def is_turned(content: bytes) -> bool:
    """Whether `decode` turns the picture of a file, or mirrors it, as its camera noted; False of what is none."""
    try:
        return _turn(opened(io.BytesIO(content))) is not None
    except Exception:  # noqa: BLE001  # whoever decodes it says what is wrong
        return False


def decode(content: bytes, *, grey: bool | None = False, least: int = 0, exact: bool = False) -> Image:
    """Return an image file's first picture, in 8 bits a channel: grey or RGB, with what is transparent on white.

    It is turned as its camera noted (the orientation of Exif), so that it is upright, as every viewer shows it.

    Args:
        content: of the file.
        grey: without colours; None: as the file is.
        least: pixels of the shorter side that are enough; 0: all that there are. A JPEG of at least twice as many is
            decoded at a half, a fourth or an eighth of its size, which takes a fraction of the time; any smaller
            picture, and one whose sides are both under `SMALL`, is decoded as it is, whatever is asked.
        exact: bring a picture of at least twice as many, of any format, down to about ``least``.
    """
    image = opened(io.BytesIO(content))
    turn = _turn(image)
    picture = _decoded(image, is_grey(image.mode) if grey is None else grey, least, exact=exact)
    return picture if turn is None else picture.transpose(turn)


def _decoded(image: Image, grey: bool, least: int, *, exact: bool) -> Image:
    if not is_reduced(image.height, image.width, least):
        return flatten(image, grey=grey)
    whole = image.size
    if image.format == "JPEG":
        scale = min(8, min(whole) // least)
        image.draft(image.mode, (whole[0] // scale, whole[1] // scale))
    scale = round(whole[0] / image.width)
    picture = flatten(image, grey=grey)
    if any(side % scale for side in whole):  # the last row or column stands for a part of one: it would shift the rest
        picture = picture.crop((0, 0, whole[0] // scale, whole[1] // scale))
    shorter = min(picture.size)
    if exact and shorter > _ROOM * least:
        width, height = (max(1, round(side * least / shorter)) for side in picture.size)
        picture = picture.resize((width, height), resample=_BILINEAR)
    return picture


SMALL = 512
"""Pixels: a picture that is smaller both ways is quick to decode whole, and a fraction would change what is seen."""


def is_reduced(height: int, width: int, least: int) -> bool:
    """Whether `decode` may give less of a picture of this size than there is, where ``least`` pixels are enough."""
    return bool(least) and min(height, width) >= 2 * least and max(height, width) >= SMALL


def flatten(image: Image, *, grey: bool) -> Image:
    """Return a picture of any mode as grey or RGB; what is transparent gets a white ground.

    Of 16 bits of grey the upper 8 are kept: black stays black, white white.

    Raises:
        ValueError: its numbers are no shades from black to white.
    """
    from PIL import Image

    if image.mode == ("L" if grey else "RGB") and "transparency" not in image.info:
        image.load()
        return image
    _check_depth(image.mode)
    if _is_deep(image.mode):
        image = _shades(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        front = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(front)
    return image.convert("L" if grey else "RGB")


def is_grey(mode: str) -> bool:
    """Whether a Pillow mode has no colours."""
    return mode in ("1", "L", "LA", "La") or _is_deep(mode)


def look(stream: BinaryIO, length: int, *, full: bool = False) -> Look:
    """Look at a file of ``length`` bytes: its header and its end, or with ``full`` all of it, decoded.

    The end marker of a JPEG, PNG, GIF or WebP and the list of a TIFF's parts tell most of the truncated files. Where
    the end is not in its place, the file is decoded, as are those of plain pixels, which have none: only what really
    cannot be read is a fault.
    """
    from PIL import Image, UnidentifiedImageError

    if not length:
        return Look(fault="is empty")
    try:
        with opened(stream) as image:
            turn = _turn(image)
            width, height = reversed(image.size) if turn in _QUARTER else image.size
            by_pillow = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_ORIENTATION) in _TURNS
            seen = Look(height, width, is_grey(image.mode), turn is not None, by_pillow=by_pillow)
            _check_depth(image.mode)
            if full or _is_deep(image.mode) or not _ends_well(stream, length, image):
                seen = replace(seen, faint=_is_faint(image))
                image.load()
                flatten(image, grey=seen.grey)  # as training does it: an index may lie beyond its palette
    except Image.DecompressionBombError as error:
        if str(error).endswith("than it is"):
            return Look(fault=f"has {error}")
        pixels = re.search(r"\d+", str(error))
        count = f"{int(pixels[0]):,}" if pixels else "too many"
        return Look(fault=f"has {count} pixels, over Pillow's limit of {Image.MAX_IMAGE_PIXELS:,}")
    except UnidentifiedImageError:
        return Look(fault=f"is no image of a known format ({KNOWN})")
    except Exception as error:  # noqa: BLE001  # Pillow raises a dozen kinds for a broken image; none is ours
        words = next(iter(str(error).splitlines()), "") or type(error).__name__
        return Look(fault="is truncated" if "truncated" in words.lower() else f"cannot be decoded ({words})")
    return seen


def _check_depth(mode: str) -> None:
    if mode == "F":
        raise ValueError("mode F, numbers with a fraction: expected 8 bits a channel, or 16 of grey")


def _is_deep(mode: str) -> bool:
    return mode == "I" or mode.startswith("I;16")


def is_faint(content: bytes) -> bool:
    """Whether a picture of 16 bits of grey becomes black, or nearly, with 8: none of its numbers is large."""
    try:
        return _is_faint(opened(io.BytesIO(content)))
    except Exception:  # noqa: BLE001  # whoever decodes it says what is wrong
        return False


def _is_faint(image: Image) -> bool:
    return _is_deep(image.mode) and 0 < int(np.asarray(image).max()) < _FAINT


def _shades(image: Image) -> Image:
    """Return a picture of 16 bits of grey with 8; of a PNG one grey may be transparent, which becomes white."""
    from PIL import Image as Pillow

    numbers = np.asarray(image).astype(np.int64)
    if isinstance(transparent := image.info.get("transparency"), int):
        numbers[numbers == transparent] = (1 << 16) - 1
    low, high = int(numbers.min()), int(numbers.max())
    if not 0 <= low <= high < 1 << 16:
        raise ValueError(f"numbers from {low:,} to {high:,}, expected 16 bits of grey")
    return Pillow.fromarray((numbers >> 8).astype(np.uint8))


def _ends_well(stream: BinaryIO, length: int, image: Image) -> bool:
    place, kind = stream.tell(), image.format or ""
    try:
        if kind == "WEBP":
            stream.seek(4)
            return int.from_bytes(stream.read(4), "little") + 8 <= length
        if kind == "TIFF":
            return _last_part(image) <= length
        marker = _MARKERS.get(kind)
        if marker is None:
            return False
        stream.seek(-min(_TAIL, length), io.SEEK_END)
        tail = stream.read()
        return tail.endswith(marker) if kind == "GIF" else marker in tail
    finally:
        stream.seek(place)


def _last_part(image: Image) -> float:
    """Return where the last part of a TIFF's first picture ends; nowhere if it does not say it."""
    tags = getattr(image, "tag_v2", {})
    for places, counts in _PARTS:
        starts, sizes = np.atleast_1d(tags.get(places, ())), np.atleast_1d(tags.get(counts, ()))
        if len(starts) and len(starts) == len(sizes):
            return float((starts + sizes).max())
    return np.inf
