"""Small files, large damage: pictures, lists and numbers are refused, or cost little, before anything is allocated."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from redense.errors import DataError, PluginError, RecipeError
from redense.files.yaml_text import parse_yaml
from redense.lab.pairs.plan import seed_list
from redense.lab.recipe.recipe import load_recipe
from redense.plugins import load_plugins
from redense.tasks.captioning.tokens import vocabulary_from_json
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.data import transforms
from redense.tasks.classification.data.pixels import FORMATS, decode, look
from redense.tasks.classification.data.transforms import evaluation_transform, fitting_transform
from redense.tasks.speech.audio import look as sound_of
from redense.tasks.speech.data.manifests import read_manifest
from redense.tasks.speech.transcripts.beam import Search

Run = Callable[..., tuple[int, str, str]]

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) print\nshowpage\n%%EOF\n"


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(stream, kind)
    return stream.getvalue()


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PCX", "DDS", "SGI", "TGA", "ICO", "EPS"])
def test_no_decoder_is_open_but_those_of_the_documented_formats(kind: str, monkeypatch: pytest.MonkeyPatch):
    content = EPS if kind == "EPS" else encoded(kind)
    monkeypatch.setattr("subprocess.Popen", lambda *given, **more: pytest.fail("a program was started"))
    assert "is no image of a known format (JPEG, PNG" in look(io.BytesIO(content), len(content), full=True).fault
    with pytest.raises(Image.UnidentifiedImageError):
        decode(content)


def test_every_documented_format_is_read():
    assert FORMATS == ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
    for kind in FORMATS:
        assert decode(encoded(kind)).size == (16, 16)


def test_a_strip_is_cut_before_it_is_enlarged():
    transform = evaluation_transform(ImageData(size=64))
    pixels = torch.arange(3000, dtype=torch.uint8).repeat(1, 1)[None].expand(3, 1, 3000)
    for picture in (Image.new("RGB", (100_000, 1)), Image.new("RGB", (1, 100_000)), pixels):
        assert transform(picture).shape == (3, 64, 64)
    wide = torch.randint(256, (3, 40, 1200), dtype=torch.uint8)  # of 30 to 1 it is what it was
    from torchvision.transforms import v2

    plain = v2.Compose([v2.Resize(73, antialias=True), v2.CenterCrop(64)])
    assert transform(wide).equal(plain(wide))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 12), (3, 1, 40)])
def test_a_strip_is_cut_before_it_is_fitted_to_a_network_and_other_pictures_are_what_torchvision_makes_of_them(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
):
    enlarged: list[tuple[int, ...]] = []
    resize = transforms.interpolate

    def interpolate(image: torch.Tensor, size: list[int], **how: Any) -> torch.Tensor:
        enlarged.append((image.numel(), size[0] * size[1]))
        return resize(image, size, **how)

    monkeypatch.setattr(transforms, "interpolate", interpolate)
    fit, mode = fitting_transform(ImageData(), shape), "L" if shape[0] == 1 else "RGB"
    for size in ((100_000, 1), (1, 100_000), (60_000, 3)):
        assert fit(Image.new(mode, size)).shape == shape
    assert all(before < 50_000 and after < 50_000 for before, after in enlarged)
    from torchvision.transforms import v2

    for height, width in ((9, 7), (30, 31), (1, 30), (240, 10), (8, 8)):
        pixels = torch.randint(256, (shape[0], height, width), dtype=torch.uint8)
        scale = max(shape[1] / height, shape[2] / width)
        covering = [max(shape[1], round(height * scale)), max(shape[2], round(width * scale))]
        plain = v2.Compose([v2.Resize(covering, antialias=True), v2.CenterCrop(list(shape[1:]))])
        if max(covering[0] / shape[1], covering[1] / shape[2]) <= 32:
            assert fit(pixels).equal(plain(pixels))


def test_too_many_pixels_are_refused_and_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 255)
    content = encoded("PNG")
    assert "has 256 pixels, over Pillow's limit of 255" in look(io.BytesIO(content), len(content)).fault


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_picture_that_unpacks_to_far_more_than_its_file_is_refused_before_it_is_decoded(kind: str):
    stream, large = io.BytesIO(), (9000, 5000)
    Image.new("L", (1, 1)).save(stream, kind)
    content = bytearray(stream.getvalue())
    if kind == "png":
        content[16:24] = struct.pack(">2I", *large)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    else:
        content[6:10] = struct.pack("<2H", *large)
    fault = look(io.BytesIO(content), len(content), full=True).fault
    assert fault == f"has 45,000,000 pixels in {len(content)} bytes: it unpacks to far more than it is"
    with pytest.raises(Image.DecompressionBombError):
        decode(bytes(content))
    page = io.BytesIO()
    Image.new("RGB", (2500, 2000), "white").save(page, "png")  # an empty page is none
    assert decode(page.getvalue()).size == (2500, 2000)


def test_sound_of_a_format_that_nobody_keeps_speech_in_is_refused(tmp_path: Path):
    soundfile = pytest.importorskip("soundfile")
    for kind, fault in (("WAV", None), ("FLAC", None), ("OGG", None), ("MAT5", "MAT5"), ("VOC", "VOC"), ("HTK", "HTK")):
        path = tmp_path / f"a-{kind}.wav"
        soundfile.write(path, np.full(800, 0.3), 16_000, format=kind)
        found = sound_of(path).fault
        assert found is None if fault is None else f"is a sound file of the format {fault}" in str(found)


# --- what is no file ------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    if os.name != "posix":
        pytest.skip("this system has no pipes among its files")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_or_a_device_is_no_recipe_no_list_no_picture_and_no_sound(pipe: Path, redense: Run, tmp_path: Path):
    with pytest.raises(RecipeError, match="is a pipe, expected a file"):
        load_recipe(pipe.rename(tmp_path / "a.yaml"))
    with pytest.raises(DataError, match="is a pipe, expected a file"):
        read_manifest(tmp_path / "a.yaml")
    with pytest.raises(DataError, match="is a device, expected a file"):
        read_manifest(Path("/dev/zero"))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "train.jsonl").write_text(json.dumps({"audio_filepath": "/dev/zero", "text": "a"}) + "\n")
    code, out, _ = redense("data", "check", tmp_path / "clips")
    assert code == 1
    assert "is a device, expected a file" in out
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.png").write_bytes(encoded("PNG"))
    os.mkfifo(tmp_path / "set" / "a" / "zz.png")
    code, out, _ = redense("data", "check", tmp_path / "set", "--full")
    assert code == 1
    assert "zz.png" in out


# --- numbers and depths ---------------------------------------------------------------------------------------------


def test_a_recipe_of_ninety_thousand_names_is_refused_before_it_is_read_to_its_end():
    with pytest.raises(RecipeError, match="too many"):
        parse_yaml("\n".join(f"k{number}: 1" for number in range(90_000)), "a.yaml")
    with pytest.raises(RecipeError, match="more than 20,000 names and values"):
        parse_yaml("[" + "1," * 25_000 + "]", "a.yaml")


def test_sizes_without_sense_are_refused():
    with pytest.raises(ValidationError, match="16384"):
        ImageModel(widths=(400_000, 800_000))
    with pytest.raises(DataError, match="a beam is 1 to 10,000 wide, got 999,999,999"):
        Search(width=999_999_999)
    for text in ("999999999", "9" * 5000):
        with pytest.raises(RecipeError):
            seed_list(text)


@pytest.mark.parametrize("given", ["0", "10001", "9" * 5000, "1e3", "-1"])
def test_a_beam_is_refused_before_a_run_is_looked_for(given: str, redense: Run):
    code, _, err = redense("transcribe", "none", "a.wav", f"--beam={given}")
    assert (code, err.count("\n")) == (2, 1)
    assert "--beam must be a whole number from 1 to 10,000" in err


def test_a_vocabulary_nested_deep_is_no_vocabulary():
    with pytest.raises(ValueError, match="nested too deeply"):
        vocabulary_from_json("[" * 100_000)


def test_a_plugin_that_ends_the_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)\n")
    monkeypatch.setenv("REDENSE_PLUGINS", str(tmp_path / "leaves.py"))
    with pytest.raises(PluginError, match=r"leaves\.py cannot be loaded: it ends the program"):
        load_plugins()
