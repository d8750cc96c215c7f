"""Wheels of PyPI: downloaded by pip, compared with their checksum, unpacked without harm; the two that we know."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from redense.errors import DataError, RecipeError
from redense.lab.training.pretrained import load_start_
from redense.tasks import catalog
from redense.tasks.classification.classifier import open_picture
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.data.loading import load_images
from redense.tasks.classification.data.sets import ImageSet
from redense.tasks.classification.data.transforms import evaluation_transform
from redense.tasks.classification.models import build
from redense.tasks.fetching import elpv, pypi
from redense.tasks.fetching.packages import Pypi, run_tool


def wheel(path: Path, members: dict[str, bytes]) -> Pypi:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Pypi("tiny", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "tiny/data", 0.1)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], list[list[str]]]:
    """Let pip give a wheel, or fail; return the commands that it was called with."""

    def gives(path: Path | None) -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], folder: Path, watch: Any, **_: Any) -> tuple[bool, str]:
            calls.append(command)
            if path is None:
                return False, "No matching distribution found for tiny==1.0"
            shutil.copy(path, command[command.index("--dest") + 1])
            return True, ""

        monkeypatch.setattr(pypi, "run_tool", run)
        return calls

    return gives


def test_a_wheel_is_downloaded_without_what_it_depends_on_and_only_its_data_is_unpacked(
    tmp_path: Path, pip: Callable[[Path | None], list[list[str]]]
):
    made = tmp_path / "tiny-1.0-py3-none-any.whl"
    package = wheel(made, {"tiny/__init__.py": b"raise SystemExit", "tiny/data/a/b.png": b"b", "tiny/database": b"c"})
    (tmp_path / "scratch").mkdir()
    calls = pip(made)
    folder = pypi.fetch(package, tmp_path / "scratch", lambda what, done: None)
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == ["a/b.png"]
    assert calls[0][-1] == "tiny==1.0"
    assert {"--no-deps", "--only-binary=:all:"} < set(calls[0])  # no setup.py is ever run


def test_without_pip_nothing_is_started(
    tmp_path: Path, pip: Callable[[Path | None], list[list[str]]], monkeypatch: pytest.MonkeyPatch
):
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    calls = pip(None)
    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(DataError, match=r"tiny 1\.0 is downloaded by pip, which .* does not have"):
        pypi.fetch(Pypi("tiny", "1.0", "0" * 64, "tiny/data", 0.1), tmp_path, lambda what, done: None)
    assert calls == []


@pytest.mark.parametrize(
    ("members", "change", "words"),
    [
        ({"tiny/data/a": b"a"}, b"x", "is not the one that redense knows: its wheel has sha256"),
        ({"tiny/data/../../../a": b"a"}, b"", "is not safe to unpack"),
    ],
)
def test_another_wheel_or_an_unsafe_one_is_refused(
    members: dict[str, bytes],
    change: bytes,
    words: str,
    tmp_path: Path,
    pip: Callable[[Path | None], list[list[str]]],
):
    made = tmp_path / "tiny-1.0-py3-none-any.whl"
    package = wheel(made, members)
    made.write_bytes(made.read_bytes() + change)
    (tmp_path / "scratch").mkdir()
    pip(made)
    with pytest.raises(DataError, match=words):
        pypi.fetch(package, tmp_path / "scratch", lambda what, done: None)
    assert not (tmp_path / "a").exists()


def test_why_pip_could_not_is_said(tmp_path: Path, pip: Callable[[Path | None], list[list[str]]]):
    pip(None)
    package = Pypi("tiny", "1.0", "0" * 64, "tiny", 0.1)
    with pytest.raises(DataError, match=r"cannot download the PyPI package tiny 1.0: No matching.*check the network"):
        pypi.fetch(package, tmp_path, lambda what, done: None)


def test_pins_of_the_environment_whose_file_is_named_from_another_folder_do_not_stop_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_CONSTRAINT", "pins.txt")  # as `make` sets it
    show = "import os; print(os.environ.get('PIP_CONSTRAINT'))"
    assert run_tool([sys.executable, "-S", "-c", show], tmp_path) == (True, "None")


def test_cells_are_sorted_by_what_the_annotators_thought_and_split_by_name(tmp_path: Path, monkeypatch: Any):
    pytest.importorskip("PIL")
    from PIL import Image

    (tmp_path / "data" / "images").mkdir(parents=True)
    said = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
    lines = [f"images/cell{n:04}.png  {said[n % 4]}  mono" for n in range(80)]
    for n in range(80):
        Image.new("L", (8, 8), n).save(tmp_path / "data" / "images" / f"cell{n:04}.png")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    ready = tmp_path / "ready"
    ready.mkdir()
    elpv.arrange([tmp_path / "data"], ready)
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    splits = load_images(ImageData(source=str(ready), channels=3))
    assert splits.train.classes == ("defective", "functional")
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 80
    assert 5 < len(splits.test) < 30
    assert isinstance(splits.test, ImageSet)
    assert splits.test.images.shape[1] == 3
    assert torch.equal(splits.test.images[:, 0], splits.test.images[:, 2])  # a grey picture, as colours
    four = load_images(ImageData(source=str(ready), label="probability"))
    assert set(four.train.classes) == {"0", "1/3", "2/3", "1"}
    assert isinstance(four.test, ImageSet)
    assert four.test.images.shape[1] == 1
    ready_again = tmp_path / "again"
    ready_again.mkdir()
    elpv.arrange([tmp_path / "data"], ready_again)
    assert (ready / "test.csv").read_bytes() == (ready_again / "test.csv").read_bytes()


def test_weights_that_are_fetched_by_name_are_a_start_and_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="get it with: redense data get efficientnet-lite0"):
        load_start_(torch.nn.Linear(1, 1), "efficientnet-lite0", None)
    with pytest.raises(DataError, match="it holds weights, give --start efficientnet-lite0"):
        load_images(ImageData(source="efficientnet-lite0"))


@pytest.mark.slow
def test_the_weights_of_lite0_call_a_flower_a_daisy_and_a_temple_a_palace(tmp_path: Path):
    catalog.get(catalog.find("efficientnet-lite0"))
    pictures = Pypi(
        "scikit-learn",
        "1.7.2",
        "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
        "sklearn/datasets/images",
        9.7,
    )
    network = build(ImageModel(name="timm/tf_efficientnet_lite0"), (3, 224, 224), 1000)
    load_start_(network, "efficientnet-lite0", None)
    folder = pypi.fetch(pictures, tmp_path, lambda what, done: None)
    prepare = evaluation_transform(ImageData(size=224, resize=256))
    for name, wanted in (("flower.jpg", 985), ("china.jpg", 698)):  # ImageNet's numbers of daisy and palace
        pixels = prepare(open_picture(folder / name)).float().sub(127.5).div(127.5)
        assert int(network.eval()(pixels[None]).argmax()) == wanted
    with pytest.raises(RecipeError, match="is of another network"):
        load_start_(torch.nn.Linear(1, 1), "efficientnet-lite0", None)


@pytest.mark.slow
def test_the_pretrained_network_is_fine_tuned_on_solar_cells_and_names_one(tmp_path: Path, redense: Any):
    for name in ("elpv", "efficientnet-lite0"):
        catalog.get(catalog.find(name))
    short = ["--data.limit", "64", "--dense.epochs", "1", "--sparse.epochs", "1", "--redense.epochs", "1"]
    code, out, err = redense("run", "elpv/efficientnet-lite0", *short, "--no-store", "--out", "run")
    assert code == 0, err
    assert "is of 1,000 classes, here are 2: the last layer (classifier) is made anew" in out + err
    cell = catalog.cache_dir() / "elpv" / "images" / "cell0001.png"
    code, out, _ = redense("predict", "run", str(cell))
    assert code == 0
    assert re.search(r"cell0001.png: (defective|functional) [\d.]+ %, ", out)
