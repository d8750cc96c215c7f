"""Features of a frozen CNN: what they are, when they are computed, and whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from redense.errors import DataError, RecipeError, StateError
from redense.tasks.captioning import features
from redense.tasks.captioning.config import FeatureSource
from redense.tasks.captioning.data import load_captions
from redense.tasks.captioning.features import digest_of, features_of, open_eyes

from .conftest import mean_colour


@pytest.fixture
def images(captioned, config, monkeypatch, tmp_path):
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    return load_captions(config(captioned(train=600, val=3, test=3))).train


def forbidden():
    raise AssertionError("the CNN is not needed")


def test_features_are_computed_once(images):
    first = features_of(images.images, images.index, mean_colour, "x", "set")
    assert first.shape == (600, 3)
    assert first[0].argmax() == 0  # the first image is red
    assert torch.equal(features_of(images.images, images.index, forbidden, "x", "set"), first)


def test_another_cnn_and_other_bytes_are_seen_anew(images):
    features_of(images.images, images.index, mean_colour, "x", "set")
    with pytest.raises(AssertionError):
        features_of(images.images, images.index, forbidden, "y", "set")
    path = images.images.path(0)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(AssertionError):
        features_of(images.images, images.index, forbidden, "x", "set")


def test_a_photo_that_its_camera_noted_to_lie_is_seen_upright_and_kept_apart(captioned, config, monkeypatch, tmp_path):
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    folder, exif = captioned(train=3, val=3, test=3), Image.Exif()
    plain = load_captions(config(folder))
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (8, 12)).save(folder / "images" / "train-0.png", exif=exif)
    splits = load_captions(config(folder))
    assert splits.fingerprint != plain.fingerprint
    assert f"{folder}: 1 of 9 images are turned upright, as their camera noted" in splits.notes
    seen = []

    class Watched:
        def see(self, pictures):
            seen.extend(picture.size for picture in pictures)
            return torch.zeros(len(pictures), 3)

    eyes: Any = Watched()
    arguments = splits.train.images, splits.train.index, lambda: eyes, "x", "set"
    features_of(*arguments)
    features_of(*arguments)
    assert seen == [(12, 8), (8, 8), (8, 8)]
    monkeypatch.setattr(features, "is_turned", lambda content: False)  # what was kept before photos were turned
    features_of(*arguments)
    assert len(seen) == 6


def test_a_computation_that_was_stopped_goes_on_with_the_part_at_hand(images, monkeypatch, caplog):
    class Stopped(Exception):
        pass

    class Watched:
        def __init__(self, most: int) -> None:
            self.eyes, self.most, self.seen = mean_colour(), most, 0

        def see(self, pictures):
            self.seen += len(pictures)
            if self.seen > self.most:
                raise Stopped
            return self.eyes.see(pictures)

    first: Any = Watched(300)
    second: Any = Watched(600)
    with pytest.raises(Stopped):
        features_of(images.images, images.index, lambda: first, "x", "set")
    monkeypatch.setattr(features, "_SAY_SECONDS", -1.0)
    features_of(images.images, images.index, lambda: second, "x", "set")
    assert second.seen == 600 - 256
    told = [record.getMessage().partition(" images")[0] for record in caplog.records]
    assert told == [f"set: the CNN has seen {done} of 600" for done in (256, 512, 600)]
    kept = sorted((images.images.root.parent.parent / "cache/features").glob("*"))
    parts = [path for path in kept if path.suffix == ".safetensors"]
    assert len(parts) == 3
    assert kept == sorted([*parts, *(part.with_suffix(".sha256") for part in parts)])


def test_a_damaged_part_is_computed_anew(images):
    first = features_of(images.images, images.index[:10], mean_colour, "x", "set")
    (part,) = (images.images.root.parent.parent / "cache/features").glob("*.safetensors")
    whole = part.read_bytes()
    for damaged in (whole[:-7], whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:]):  # a bit of a number, too
        part.write_bytes(damaged)
        assert torch.equal(features_of(images.images, images.index[:10], mean_colour, "x", "set"), first)
        assert part.read_bytes() == whole
    part.with_suffix(".sha256").unlink()  # of an older redense: nothing vouches for it
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert torch.equal(features_of(images.images, images.index[:10], mean_colour, "x", "set"), first)


def test_an_image_that_cannot_be_decoded_is_named(images):
    path = images.images.path(2)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"train-2\.png cannot be decoded"):
        features_of(images.images, images.index[:5], mean_colour, "x", "set")


def test_a_network_sees_pictures_as_it_learned_to_see_them_and_features_of_another_scale_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = pytest.importorskip("torchvision.models")
    torch.save(models.squeezenet1_1(num_classes=1000).state_dict(), tmp_path / "weights.pt")
    source = FeatureSource(network="squeezenet1_1", weights=str(tmp_path / "weights.pt"), layer="features", size=64)
    usual, digest = open_eyes(source), digest_of(source)
    assert [round(float(value), 3) for value in usual.mean.flatten() / 255] == [0.485, 0.456, 0.406]
    monkeypatch.setattr("redense.tasks.classification.networks.scale_of", lambda *_: ((0.5,) * 3, (0.25,) * 3))
    other = open_eyes(source)
    assert (other.mean.flatten().tolist(), other.std.flatten().tolist()) == ([127.5] * 3, [63.75] * 3)
    assert other.digest == digest_of(source) != digest


def test_the_last_layers_input_of_a_library_network(tmp_path: Path):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    network = models.squeezenet1_1(num_classes=1000)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    named = FeatureSource(
        network="squeezenet1_1", weights=str(tmp_path / "weights.pt"), layer="features", size=64, resize=64
    )
    eyes = open_eyes(named)
    picture = (torch.rand(3, 64, 64) * 255).to(torch.uint8)
    (own,) = eyes.see([picture])
    expected = network.eval().features(((picture - eyes.mean) / eyes.std)[None]).mean((2, 3))[0]
    torch.testing.assert_close(own, expected)
    with pytest.raises(RecipeError, match="has no linear layer; name the module"):
        open_eyes(named.model_copy(update={"layer": "last"}))
    with pytest.raises(RecipeError, match=r"has no module 'feature'.*did you mean 'features'"):
        open_eyes(named.model_copy(update={"layer": "feature"}))


class Odd(nn.Module):
    """A network with a map whose channels are last, a module that gives two tensors, and one that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.lstm, self.unused = nn.Identity(), nn.LSTM(3, 2), nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.map(images.permute(0, 2, 3, 1))[:, 0])[0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("map", "a module whose map is 8 x 8 x 3, with its channels last"),
        ("lstm", "a module that gives no tensor"),
        ("unused", "a module that is not used"),
    ],
)
def test_a_module_that_gives_no_features_is_refused(layer: str, message: str):
    network = Odd()
    eyes = features.Eyes(
        network, getattr(network, layer), False, lambda picture: picture, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), ""
    )
    with pytest.raises(RecipeError, match=message):
        eyes.see([torch.zeros(3, 8, 8)])


def test_weights_that_are_not_there_or_damaged_are_explained(tmp_path: Path):
    with pytest.raises(StateError, match="train the CNN there first, for example: redense run emoji/cnn --out runs/no"):
        digest_of(FeatureSource(weights="runs/no"))
    (tmp_path / "w.pt").write_bytes(b"no weights")
    source = FeatureSource(network="squeezenet1_1", weights=str(tmp_path / "w.pt"), layer="features", size=64)
    with pytest.raises(StateError, match=r"w\.pt is damaged, or of another network"):
        open_eyes(source)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("task: classification\n")
    with pytest.raises(StateError, match="is no finished run"):
        digest_of(FeatureSource(weights=str(tmp_path / "run")))


def test_the_digest_depends_on_weights_and_settings(tmp_path: Path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"1")
    source = FeatureSource(weights=str(path))
    first = digest_of(source)
    assert digest_of(source.model_copy(update={"size": 64})) != first
    assert digest_of(source.model_copy(update={"layer": "features"})) != first
    path.write_bytes(b"22")
    assert digest_of(source) != first
