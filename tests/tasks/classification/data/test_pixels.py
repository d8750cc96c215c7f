"""Photos that a camera noted to lie on their side are upright wherever they are read, and what is kept of them, too."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from redense.tasks.classification.classifier import open_picture
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images
from redense.tasks.classification.data.pixels import decode, is_turned, look
from redense.tasks.classification.data.sets import AnySet

ORIENTATION = 0x0112
PIL_Image = Any
Picture = Callable[..., PIL_Image]


def written(image: PIL_Image, kind: str, orientation: object, **how: Any) -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(stream, kind, exif=exif, **how)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_turned_as_pillow_turns_it_and_looked_at_so(picture: Picture, kind: str, orientation: int):
    content = written(picture(3), kind, orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert np.array_equal(np.asarray(decode(content)), np.asarray(upright))
    seen = look(io.BytesIO(content), len(content))
    assert ((seen.width, seen.height), seen.fault) == (upright.size, "")
    assert seen.turned == is_turned(content) == (2 <= orientation <= 8 and kind != "TIFF")
    assert seen.by_pillow == (2 <= orientation <= 8 and kind == "TIFF")


def test_a_large_photo_is_turned_after_it_is_decoded_at_a_fraction(picture: Picture):
    content = written(picture(3, (1201, 801)), "JPEG", 6)
    assert decode(content).size == (801, 1201)
    assert decode(content, least=64).size == (100, 150)
    plain = decode(written(picture(3, (1201, 801)), "JPEG", 1), least=64, exact=True)
    assert np.array_equal(np.asarray(decode(content, least=64, exact=True)), np.rot90(np.asarray(plain), -1))


@pytest.mark.parametrize("orientation", [0, 9, 60_000])
def test_a_note_that_makes_no_sense_turns_nothing(picture: Picture, orientation: int):
    content = written(picture(3), "JPEG", orientation)
    assert decode(content).size == (24, 20)
    assert not is_turned(content)


def test_broken_notes_are_no_fault_of_the_pixels(picture: Picture):
    stream = io.BytesIO()
    picture(3).save(stream, "JPEG", exif=b"Exif\0\0" + b"no such thing" * 3)
    content = stream.getvalue()
    assert look(io.BytesIO(content), len(content), full=True).fault == ""
    assert decode(content).size == (24, 20)
    assert not is_turned(b"no picture")


# --- whole sets -----------------------------------------------------------------------------------------------------


def photos(folder: Path, picture: Picture, orientation: int, kind: str = "PNG") -> Path:
    """Write twelve pictures a class that are upright, noted as if they were, or lain down and noted so."""
    lay = {1: None, 6: Image.Transpose.ROTATE_90}[orientation]
    for number in range(48):
        split = "train" if number < 40 else "test"
        place = folder / split / ("cat", "dog")[number % 2] / f"{number:02}.{kind.lower()}"
        place.parent.mkdir(parents=True, exist_ok=True)
        image = picture(number, (12, 20))
        place.write_bytes(written(image if lay is None else image.transpose(lay), kind, orientation))
    return folder


def pixels(part: AnySet) -> list[bytes]:
    return [np.asarray(part.picture(index)).tobytes() for index in range(len(part))]


@pytest.mark.parametrize("small", [True, False])
def test_a_set_of_lain_down_photos_is_that_of_upright_ones_under_another_key(
    tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch, small: bool
):
    if not small:
        monkeypatch.setattr("redense.tasks.classification.data.transforms.IN_MEMORY", 100)
    upright = load_images(ImageData(source=str(photos(tmp_path / "upright", picture, 1)), size=8))
    lain = load_images(ImageData(source=str(photos(tmp_path / "lain", picture, 6)), size=8))
    for own, other in zip(upright.by_name().values(), lain.by_name().values(), strict=True):
        assert pixels(own) == pixels(other)
    assert not any("turned" in note for note in upright.notes)
    assert [note for note in lain.notes if "turned" in note] == [
        f"{tmp_path / 'lain'}: 48 of 48 images are turned upright, as their camera noted"
    ]
    assert lain.fingerprint != upright.fingerprint
    assert lain.fingerprint == load_images(ImageData(source=str(tmp_path / "lain"), size=8)).fingerprint


def test_photos_that_pillow_turns_are_counted_too(tmp_path: Path, picture: Picture):
    lain = ImageData(source=str(photos(tmp_path / "lain", picture, 6, "TIFF")), size=8)
    for _ in ("looked at", "known"):
        assert (
            f"{tmp_path / 'lain'}: 48 of 48 images are turned upright, as their camera noted" in load_images(lain).notes
        )


def test_predict_sees_what_training_sees(tmp_path: Path, picture: Picture):
    path = photos(tmp_path / "lain", picture, 6) / "train" / "cat" / "00.png"
    assert np.array_equal(np.asarray(open_picture(path, grey=False)), np.asarray(picture(0, (12, 20))))


@pytest.mark.parametrize("size", [None, 8])  # in memory, and row by row
def test_a_table_of_photos_is_upright_in_memory_and_row_by_row(tmp_path: Path, picture: Picture, size: int | None):
    hf = pytest.importorskip("datasets")
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=["cat", "dog"])})
    sets: list[AnySet] = []
    for name, lay, orientation in (("upright", None, 1), ("lain", Image.Transpose.ROTATE_90, 6)):
        images = [picture(number, (20, 20)) for number in range(24)]
        cells = [
            {"bytes": written(image if lay is None else image.transpose(lay), "PNG", orientation), "path": None}
            for image in images
        ]
        table = hf.Dataset.from_dict({"image": cells, "label": [0, 0, 1, 1] * 6}, features=features)
        (tmp_path / name / "data").mkdir(parents=True)
        for split in ("train", "test"):
            table.to_parquet(tmp_path / name / "data" / f"{split}-00000-of-00001.parquet")
        sets.append(load_images(ImageData(source=str(tmp_path / name), size=size)).test)
    assert len(sets[0]) == 24
    assert pixels(sets[0]) == pixels(sets[1])


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *(("BMP", {}), ("PPM", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})),
        ("MPO", {"save_all": True, "append_images": [Image.new("RGB", (20, 24))]}),
    ],
    ids=str,
)
def test_what_is_cut_off_is_found_without_decoding_every_picture(picture: Picture, kind: str, how: dict[str, Any]):
    stream = io.BytesIO()
    picture(3).save(stream, kind, **how)
    content = stream.getvalue()
    assert look(io.BytesIO(content), len(content)).fault == ""
    half = content[: len(content) // (4 if kind == "MPO" else 2)]
    assert look(io.BytesIO(half), len(half)).fault


def test_the_transparent_grey_of_16_bits_is_on_white():
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, 20_000], [20_001, 40_000]], np.uint16)).save(stream, "PNG", transparency=20_000)
    assert np.asarray(decode(stream.getvalue(), grey=None)).tolist() == [[0, 255], [78, 156]]
