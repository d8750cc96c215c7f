"""Images brought to size, augmented and normalised: like torchvision, and the same whoever makes the batch."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from redense.errors import DataError, RecipeError
from redense.lab.recipe.recipe import Recipe, load_recipe
from redense.lab.training.batches import Batches, loader
from redense.pruning import derive_seed
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.data import transforms
from redense.tasks.classification.data.loading import load_images, load_splits
from redense.tasks.classification.data.png import thumbnail
from redense.tasks.classification.data.sets import EncodedSet, ImageSet
from redense.tasks.classification.examples import ImageExamples, TransformedExamples
from redense.tasks.classification.task import Classification
from redense.tasks.task import Split

MakeFolder = Callable[..., Path]
TRAIN, VAL = {"cat": 10, "dog": 10}, {"cat": 4, "dog": 4}


@pytest.fixture
def folder(make_folder: MakeFolder) -> Path:
    return make_folder({"train": TRAIN, "val": VAL})


def make(folder: Path | str | None, **how: Any) -> Classification:
    source = None if folder is None else str(folder)
    return Classification(ImageData.model_validate({"source": source, **how}), ImageModel())


def batch(task: Classification, indices: list[int], *, split: Split = "train", seed: int = 5) -> Tensor:
    examples = task.examples(split)
    examples.begin_epoch(seed)
    return examples.__getitems__(indices)[0]


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "IN_MEMORY", 1000)


# --- size -----------------------------------------------------------------------------------------------------------


def test_an_evaluated_image_is_that_of_torchvisions_own_transforms(folder: Path):
    from torchvision.transforms import v2

    reference = v2.Compose([v2.Resize(20), v2.CenterCrop(16), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    normalize = v2.Normalize(*((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    paths = sorted((folder / "val").glob("*/*"))
    expected = torch.stack([normalize(reference(Image.open(path).convert("RGB"))) for path in paths])
    images = batch(make(folder, size=16, resize=20, normalize="imagenet"), list(range(8)), split="test")
    torch.testing.assert_close(images, expected)


def test_a_training_image_is_that_of_torchvisions_own_transforms_under_the_same_seed(folder: Path):
    from torchvision.transforms import v2

    task = make(folder, size=16, augment="scale-aspect", normalize="imagenet")
    images = task.examples("train").images
    assert isinstance(images, EncodedSet)
    reference = v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    expected: list[Tensor] = []
    for index in range(6):
        torch.manual_seed(derive_seed(5, index))
        expected.append(reference(Image.open(folder / images.name(index)).convert("RGB")))
    mean, std = (255 * torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(batch(task, list(range(6))), (torch.stack(expected) - mean) / std)


def test_the_shorter_side_is_8_7_of_the_size_if_nothing_else_is_said():
    assert ImageData(size=224).shorter_side == 256
    assert ImageData(size=64, resize=64).shorter_side == 64


def test_sets_in_memory_are_resized_too(image_folder: Path):
    task = make(image_folder, size=16, resize=18)
    assert task.shape == (1, 16, 16)
    for split in ("train", "validation", "test"):
        assert task.examples(split).__getitems__([0, 1])[0].shape == (2, 1, 16, 16)
    cut = make(image_folder, augment="scale-aspect")
    assert cut.shape == (1, 8, 8)
    assert isinstance(cut.examples("train"), TransformedExamples)
    assert batch(cut, [0, 1]).shape == (2, 1, 8, 8)


def test_images_of_several_sizes_need_a_size(folder: Path):
    with pytest.raises(DataError, match=r"differ in size, .* is 30 x 20 pixels and others are 20 x 24; set data.size"):
        make(folder)


def test_images_of_one_size_are_taken_as_they_are_and_grey_if_all_are(make_folder: MakeFolder):
    folder = make_folder({"train": TRAIN, "val": VAL}, sizes=((12, 10),), suffixes=("png",))
    splits = load_images(ImageData(source=str(folder)))
    assert isinstance(splits.train, ImageSet)
    assert splits.train.images.shape == (18, 3, 10, 12)
    assert isinstance(splits.test, ImageSet)
    assert np.array_equal(
        splits.test.picture(0).permute(1, 2, 0).numpy(), np.asarray(Image.open(folder / "val/cat/000.png"))
    )
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert make(folder).shape == (1, 10, 12)
    assert make(folder, size=8).shape == (1, 8, 8)
    Image.new("RGB", (12, 10)).save(folder / "val/cat/000.png")
    assert make(folder).shape == (3, 10, 12)


# --- memory or not --------------------------------------------------------------------------------------------------


def test_what_is_kept_in_memory_is_what_would_be_decoded_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    kept = make(folder, size=16)
    assert all(isinstance(kept.examples(split), ImageExamples) for split in ("train", "validation", "test"))
    monkeypatch.setattr(transforms, "IN_MEMORY", 1000)
    decoded = make(folder, size=16)
    assert all(isinstance(decoded.examples(split).images, EncodedSet) for split in ("train", "validation", "test"))
    assert kept.fingerprint == decoded.fingerprint
    for split in ("train", "validation", "test"):
        a, b = (task.examples(split).__getitems__([1, 0]) for task in (kept, decoded))
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)  # the deviation is summed in another order


def test_flip_and_crop_work_on_images_that_are_not_in_memory(folder: Path, small_memory: None):
    plain = batch(make(folder, size=16), list(range(18)))
    changed = batch(make(folder, size=16, flip=True), list(range(18)))
    same = (plain == changed).flatten(1).all(1)
    mirrored = (plain == changed.flip(-1)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert 0 < int(mirrored.sum()) < 18
    assert not torch.equal(batch(make(folder, size=16, crop=3), list(range(18))), plain)


def test_only_training_images_are_augmented(folder: Path):
    plain, cut = (
        make(folder, size=16, normalize="imagenet"),
        make(folder, size=16, normalize="imagenet", augment="scale-aspect"),
    )
    for split in ("validation", "test"):
        assert torch.equal(batch(plain, [0, 1], split=split), batch(cut, [0, 1], split=split))
    assert not torch.equal(batch(plain, [0, 1]), batch(cut, [0, 1]))


# --- what is random -------------------------------------------------------------------------------------------------


def test_augmentation_depends_on_the_epoch_and_the_image_alone(folder: Path):
    task = make(folder, size=16, augment="scale-aspect")
    first = batch(task, [3, 7, 1])
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(batch(task, [1, 3, 7]), first[[2, 0, 1]])  # another batch, the same images
    assert torch.equal(torch.get_rng_state(), state)  # the model's random numbers do not notice
    assert not torch.equal(batch(task, [3, 7, 1], seed=6), first)
    assert not torch.equal(batch(task, [3, 3])[0], batch(task, [7, 7])[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on a machine of one core
def test_workers_and_a_start_in_the_middle_make_the_same_batches(folder: Path):
    task = make(folder, size=16, augment="scale-aspect")
    train = task.examples("train")
    train.begin_epoch(3)
    runs = [
        [images for images, _ in loader(train, Batches(len(train), 4, seed=1, skip=skip), workers=workers)]
        for workers, skip in ((0, 0), (1, 0), (2, 0), (1, 2))
    ]
    for run in runs[1:3]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(runs[3], runs[0][2:], strict=True))


def test_a_run_over_a_folder_trains_and_a_second_one_gives_the_same_bits(folder: Path, tmp_path: Path):
    from redense.lab.recipe.recipe import build_recipe
    from redense.lab.runs.run import new_run, train_run

    recipe = build_recipe(
        {
            "data": {"source": str(folder), "size": 16, "augment": "scale-aspect", "workers": 0},
            "model": {"widths": [4, 4]},
            "training": {"batch_size": 6},
            **{phase: {"epochs": 1} for phase in ("dense", "sparse", "redense")},
        }
    )
    models = []
    for name in ("a", "b"):
        train_run(new_run(recipe, tmp_path / name))
        models.append((tmp_path / name / "model.safetensors").read_bytes())
    assert models[0] == models[1]


# --- scale ----------------------------------------------------------------------------------------------------------


def test_the_scale_is_that_of_the_training_images_or_of_imagenet(folder: Path, small_memory: None):
    task = make(folder, size=16)
    images = batch(task, list(range(18)))
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    known = batch(make(folder, size=16, normalize="imagenet"), [0])[0]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    back = 255 * (known * std.view(3, 1, 1) + mean.view(3, 1, 1))
    torch.testing.assert_close(back, back.round(), atol=1e-3, rtol=0)


def test_imagenets_scale_is_not_for_grey_images():
    with pytest.raises(DataError, match="normalize 'imagenet' is for colour images, these are grey"):
        make(None, normalize="imagenet")


# --- limit, expectations, pictures ----------------------------------------------------------------------------------


def test_a_limit_takes_from_every_class_and_leaves_the_other_splits(folder: Path):
    task = make(folder, size=16, limit=6)
    assert [len(task.examples(split)) for split in ("train", "validation", "test")] == [6, 2, 8]
    assert torch.bincount(task.examples("train").images.labels).tolist() == [3, 3]
    assert task.fingerprint != make(folder, size=16).fingerprint
    assert len(make(None, limit=100).examples("train")) == 100


def test_another_set_than_the_expected_one_is_refused_and_another_number_noted(folder: Path):
    good = {"train": 20, "classes": 2, "channels": 3}
    assert make(folder, size=16, expected=good).notes == ()
    (note,) = make(folder, size=16, expected=good | {"train": 25}).notes
    assert "20 training images, the recipe expects 25" in note
    for wrong in ({"classes": 1000}, {"channels": 1}):
        with pytest.raises(DataError, match=r"2 classes and 3 channels, but the recipe expects .*data.expected"):
            make(folder, size=16, expected=good | wrong)


def test_the_fingerprint_of_files_covers_names_sizes_and_labels(folder: Path):
    def known(**how: Any) -> str:
        return load_images(ImageData(source=str(folder), size=16, **how)).fingerprint

    first = known()
    assert known() == first
    assert known(augment="scale-aspect") == first
    assert known(validation=0.2) != first
    path = folder / "train/cat/000.jpg"
    path.rename(folder / "train/cat/00x.jpg")
    renamed = known()
    assert renamed != first
    (folder / "train/cat/00x.jpg").rename(folder / "train/dog/00x.jpg")
    assert known() not in (first, renamed)


@pytest.mark.parametrize("how", [{}, {"augment": "scale-aspect"}], ids=["memory", "decoded"])
def test_pictures_are_small_pngs_of_what_the_network_sees(how: dict[str, str], folder: Path):
    task = make(folder, size=128, resize=128, **how)
    for split in ("train", "test"):
        first, second = (Image.open(io.BytesIO(content)) for content in task.pictures(split, [4, 0]))
        assert first.format == "PNG"
        assert first.size == (96, 96)
        assert first.mode == "RGB"
        assert np.asarray(first).tobytes() != np.asarray(second).tobytes()
    grey = Image.open(io.BytesIO(make(None).pictures("test", [2])[0]))
    assert (grey.mode, grey.size) == ("L", (28, 28))
    assert np.array_equal(np.asarray(grey), load_splits(None).test.picture(2)[0].numpy())


@pytest.mark.parametrize(("shape", "size"), [((3, 200, 100), (48, 96)), ((1, 5, 960), (96, 1)), ((3, 7, 9), (9, 7))])
def test_a_thumbnail_keeps_its_proportions(shape: tuple[int, int, int], size: tuple[int, int]):
    image = Image.open(io.BytesIO(thumbnail(torch.full(shape, 200, dtype=torch.uint8))))
    assert image.size == size
    assert {value for band in image.split() for value in band.getextrema()} == {200}


# --- recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["--data.resize", "64"], "resize needs a size that is no larger, got resize 64 and size None"),
        (["--data.size", "64", "--data.resize", "32"], "resize needs a size that is no larger"),
        (["--data.augment", "scale-aspect", "--data.crop", "4"], "crop 4 is for augment none"),
        (["--data.augment", "scale-aspect", "--data.flip", "true"], "data.flip is for data.augment none and trivial"),
        (["--data.augment", "scale"], "augment"),
        (["--data.limit", "0"], "limit"),
    ],
)
def test_settings_that_do_not_fit_are_a_line_of_the_recipe(settings: list[str], complaint: str):
    with pytest.raises(RecipeError, match=complaint) as caught:
        load_recipe("quickstart", settings)
    assert "\n" not in str(caught.value)


def test_what_is_expected_can_be_set_in_a_recipe():
    recipe: Recipe = load_recipe("quickstart", ["--data.expected.train", "5", "--data.expected.classes", "2"])
    assert recipe.data.expected.train == 5
