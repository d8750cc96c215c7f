"""The layouts in which people have pictures, captions and recordings: recognised, and counted as training does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from redense.cli import main
from redense.tasks import catalog
from redense.tasks.captioning.config import CaptionData
from redense.tasks.captioning.data.loading import load_captions
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_images
from redense.tasks.speech.config import SpeechData
from redense.tasks.speech.data.loading import load_corpus

from . import making as make


@dataclass(frozen=True)
class Layout:
    """What a folder is made of, and what is to be found in it: split -> examples, and the classes."""

    make: Callable[[Path], object]
    task: str
    splits: dict[str, int]
    classes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    place: str = ""


PAIR = ("cat", "dog")
LAYOUTS: dict[str, Layout] = {}


def layout(task: str, splits: dict[str, int], classes: tuple[str, ...] = (), **more: Any) -> Callable[..., Any]:
    def note(maker: Callable[[Path], object]) -> Callable[[Path], object]:
        LAYOUTS[maker.__name__] = Layout(maker, task, splits, classes, **more)
        return maker

    return note


def images(splits: dict[str, int], classes: tuple[str, ...] = PAIR, **more: Any) -> Callable[..., Any]:
    return layout("classification", splits, classes, **more)


# --- class folders ---


@images({"all": 20})
def class_folders_alone(at: Path) -> None:
    make.classes(at)


@images({"train": 20, "test": 8})
def kaggles_training_and_testing(at: Path) -> None:
    make.classes(at / "Training")
    make.classes(at / "Testing", 4)


@images({"train": 20, "validation": 8})
def names_of_splits_in_any_letters(at: Path) -> None:
    make.classes(at / "\uff34\uff32\uff21\uff29\uff2e")  # full-width
    make.classes(at / "VaLiD", 4)


@images({"all": 28}, ("Testen", "Trainieren"), said=("each holds cat/, dog/; if those are the classes",))
def splits_in_a_language_that_is_not_known(at: Path) -> None:
    make.classes(at / "Trainieren")
    make.classes(at / "Testen", 4)


@images({"all": 30}, ("Cat", "cat", "dog"), said=("'Cat' and 'cat' are called alike",))
def two_classes_of_one_name(at: Path) -> None:
    make.classes(at, names=("Cat", "cat", "dog"))


@images({"train": 20, "test": 8}, said=("seg_pred/", "3 images"))
def intels_seg_train_with_the_name_twice(at: Path) -> None:
    make.classes(at / "seg_train" / "seg_train")
    make.classes(at / "seg_test" / "seg_test", 4)
    make.pictures(at / "seg_pred" / "seg_pred", range(3))


@images({"train": 20, "validation": 8})
def validate_beside_train(at: Path) -> None:
    make.classes(at / "train")
    make.classes(at / "validate", 4)


@images({"train": 20, "validation": 4, "test": 6})
def all_three_splits_in_capitals(at: Path) -> None:
    make.classes(at / "TRAIN")
    make.classes(at / "Valid", 2)
    make.classes(at / "TEST_SET", 3)


@images({"train": 20, "validation": 4, "test": 6})
def dev_and_eval(at: Path) -> None:
    make.classes(at / "train_images")
    make.classes(at / "dev", 2)
    make.classes(at / "eval", 3)


@images({"train": 20, "validation": 8}, said=("test/ has no class folders", "5 images"))
def imagenet_with_an_unlabelled_test(at: Path) -> None:
    make.classes(at / "train")
    make.classes(at / "val", 4)
    make.pictures(at / "test", range(5))


@images({"train": 30, "test": 6}, ("bus", "car", "train"), said=("train in train/ is a class here",))
def a_class_that_is_called_train(at: Path) -> None:
    make.classes(at / "train", names=("bus", "car", "train"))
    make.classes(at / "test", 2, ("bus", "car", "train"))


@images({"train": 20, "test": 8}, said=("extra/ is called like no split", "3 images"))
def a_folder_beside_the_splits(at: Path) -> None:
    make.classes(at / "train")
    make.classes(at / "test", 4)
    make.pictures(at / "extra", range(3))


@images({"all": 20}, said=("3 .heic", "1 .cr2"))
def a_telephones_pictures_among_others(at: Path) -> None:
    make.classes(at)
    for name in ("1.heic", "2.heic", "3.HEIC", "4.CR2"):
        make.write(at / "cat" / name, b"not a picture that is read")


@images({"all": 20})
def what_programs_leave_behind(at: Path) -> None:
    make.classes(at)
    for name in ("._0.png", ".DS_Store", "Thumbs.db", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/._0.png"):
        make.write(at / "cat" / name, b"\0\5\x16\7")
    make.pictures(at / ".ipynb_checkpoints", range(2))
    make.pictures(at / "__MACOSX" / "cat", range(2))


@images({"all": 20})
def jfif_is_jpeg(at: Path) -> None:
    make.classes(at, 9)
    for name in PAIR:
        make.pictures(at / name, ["x"], ".jfif")


@images({"all": 20}, said=("2 images in no class folder",))
def pictures_beside_class_folders(at: Path) -> None:
    make.classes(at)
    make.pictures(at, ["logo", "chart"])


@images({"all": 20}, options=("--data.size", "8"))
def pictures_of_many_sizes(at: Path) -> None:
    make.classes(at, 5, height=9)
    for name in PAIR:
        make.pictures(at / name / "deeper", range(5), width=20)


@images({"all": 20})
def sixteen_bits_of_grey(at: Path) -> None:
    make.classes(at, mode="L")
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(at / "cat" / "0.png")


@images({"train": 20, "test": 8}, said=("of 8 test images 2 are in the training split too", "flatter"))
def the_same_picture_in_training_and_test(at: Path) -> None:
    make.classes(at / "train")
    make.classes(at / "test", 4)
    for name in ("0.png", "1.png"):
        make.write(at / "test" / "dog" / f"copy-of-{name}", (at / "train" / "dog" / name).read_bytes())
        (at / "test" / "dog" / f"{name[0]}.png").unlink()


# --- tables of classes ---


@images({"all": 20})
def labels_csv_beside_a_folder(at: Path) -> None:
    make.pictures(at / "images", range(20))
    make.rows(at / "labels.csv", [("id", "label"), *((f"{n}.png", PAIR[n % 2]) for n in range(20))])


@images({"all": 20}, ("N/A", "cat"), said=("'N/A' is a class like others here, of 10 training images",))
def a_table_that_says_not_available(at: Path) -> None:
    make.pictures(at, range(20))
    make.rows(at / "labels.csv", [("id", "label"), *((f"{n}.png", ("cat", "N/A")[n % 2]) for n in range(20))])


@images({"all": 20})
def labels_without_ending_and_without_a_head(at: Path) -> None:
    make.pictures(at / "img", range(100, 120))
    make.rows(at / "labels.csv", [(n, PAIR[n % 2]) for n in range(100, 120)])


@images({"train": 20, "test": 6}, said=("sample_submission.csv is a form",))
def train_csv_and_test_csv(at: Path) -> None:
    make.pictures(at / "train", range(20))
    make.pictures(at / "test", range(50, 56))
    make.rows(at / "train.csv", [("image_id", "breed"), *((n, PAIR[n % 2]) for n in range(20))], ";")
    make.rows(at / "test.csv", [("image_id", "breed"), *((n, PAIR[n % 2]) for n in range(50, 56))], ";")
    make.rows(at / "sample_submission.csv", [("image_id", "breed"), *((n, "cat") for n in range(50, 56))])


@images({"train": 20}, said=("test.csv names images and no classes", "6 images in no line"))
def a_test_table_without_classes(at: Path) -> None:
    make.pictures(at / "train", range(20))
    make.pictures(at / "test", range(50, 56))
    make.rows(at / "train.csv", [("file", "label"), *((f"train/{n}.png", PAIR[n % 2]) for n in range(20))])
    make.rows(at / "test.csv", [("file",), *((f"test/{n}.png",) for n in range(50, 56))])


@images({"train": 20, "test": 4}, ("0", "1"))
def hugging_faces_image_folder_with_metadata(at: Path) -> None:
    for split, count in (("train", 20), ("test", 4)):
        make.pictures(at / split, range(count))
        make.json_lines(
            at / split / "metadata.jsonl", ({"file_name": f"{n}.png", "label": n % 2} for n in range(count))
        )


@images({"train": 14, "validation": 2, "test": 4})
def a_column_that_divides_the_table(at: Path) -> None:
    make.pictures(at / "x", range(20))
    split = ["Training"] * 14 + ["dev"] * 2 + ["TEST"] * 4
    make.rows(at / "labels.csv", [("file", "what", "Split"), *((f"{n}.png", PAIR[n % 2], split[n]) for n in range(20))])


@images({"all": 20})
def a_table_from_another_file_system(at: Path) -> None:
    make.pictures(at / "x", [f"e\u0301te\u0301 {n}" for n in range(20)])
    make.rows(at / "labels.csv", [("file", "label"), *((f"X\\\u00c9t\u00e9 {n}.PNG", PAIR[n % 2]) for n in range(20))])


@images({"all": 20}, ("1", "2", "10"), options=("--label", "grade"))
def one_of_several_columns(at: Path) -> None:
    make.pictures(at / "x", range(20))
    make.rows(at / "all.csv", [("name", "age", "grade"), *((f"{n}.png", 40, (1, 2, 10)[n % 3]) for n in range(20))])


# --- arrays and parquet ---


@images({"train": 24, "test": 24}, ("0", "1", "2"))
def idx_files_of_emnist(at: Path) -> None:
    for split in ("train", "test"):
        pixels, labels = make.arrays()
        make.write(at / f"emnist-letters-{split}-images-idx3-ubyte.gz", make.idx(pixels, packed=True))
        make.write(at / f"emnist-letters-{split}-labels-idx1-ubyte.gz", make.idx(labels, packed=True))


@images({"train": 24, "test": 24}, ("0", "1", "2"), options=("--label", "digits"))
def one_of_emnists_sets(at: Path) -> None:
    idx_files_of_emnist(at)
    for path in sorted(at.iterdir()):
        make.write(at / path.name.replace("letters", "digits"), path.read_bytes())


@images({"train": 24, "test": 24}, ("0", "1", "2"))
def kerass_mnist_npz(at: Path) -> None:
    (x, y), (u, v) = make.arrays(), make.arrays()
    np.savez(at / "mnist.npz", x_train=x, y_train=y, x_test=u, y_test=v)


@images({"train": 24, "validation": 6, "test": 6}, ("0", "1", "2"), place="med.npz")
def medmnists_file_itself(at: Path) -> None:
    parts = {name: make.arrays(count) for name, count in (("train", 24), ("val", 6), ("test", 6))}
    named: dict[str, Any] = {f"{name}_images": np.stack([x] * 3, -1) for name, (x, _) in parts.items()}
    named |= {f"{name}_labels": y[:, None] for name, (_, y) in parts.items()}
    np.savez(at / "med.npz", **named)


@images({"all": 24}, ("0", "1", "2"))
def arrays_of_fractions_without_splits(at: Path) -> None:
    x, y = make.arrays()
    np.savez(at / "all.npz", x=(x / 255).astype(np.float32), y=y)


@images({"train": 20, "test": 4})
def parquet_with_words_for_classes(at: Path) -> None:
    make.parquet(at, {"train": ["cat", "dog"] * 10, "test": ["cat", "dog"] * 2}, kind="string")


@images({"train": 20, "test": 4}, ("False", "True"))
def parquet_with_yes_and_no(at: Path) -> None:
    make.parquet(at, {"train": [True, False] * 10, "test": [True, False] * 2}, "is_cat", "bool")


@images({"train": 20, "validation": 4}, ("0", "1"), said=("labels of the 3 test images are hidden",))
def parquet_with_a_hidden_test(at: Path) -> None:
    make.parquet(at, {"train": [0, 1] * 10, "validation": [0, 1] * 2, "test": [-1] * 3})


# --- captions ---


def captioned(splits: dict[str, int], **more: Any) -> Callable[..., Any]:
    return layout("captioning", splits, **more)


@captioned({"not divided": 41})
def pictures_with_metadata_jsonl(at: Path) -> None:
    lines = [*make.captions(40), {"file_name": "my_val_photo.png", "text": "a red dog runs"}]
    make.pictures(at, [Path(str(line["file_name"])).stem for line in lines])
    make.json_lines(at / "metadata.jsonl", lines)


@captioned({"train": 20, "validation": 3, "test": 3})
def metadata_in_the_folder_of_each_split(at: Path) -> None:
    for split, count in (("Train", 20), ("val", 3), ("test", 3)):
        make.pictures(at / split, range(count))
        make.json_lines(at / split / "metadata.jsonl", make.captions(count))


@captioned({"train": 30, "validation": 5, "test": 5})
def captions_of_windows_with_a_column_of_splits(at: Path) -> None:
    make.pictures(at / "images", range(40))
    split = ["restval"] * 30 + ["Val"] * 5 + ["testing"] * 5
    lines = [(f"images\\{n}.PNG", "a red dog runs", split[n]) for n in range(40)]
    make.rows(at / "captions.csv", [("image", "caption", "SPLIT"), *lines], ";")


@captioned({"not divided": 40}, said=("1 image without a sentence about it", "lost.png", "2 .heic"))
def captions_csv_with_commas_in_sentences(at: Path) -> None:
    make.pictures(at, [*range(40), "lost"])
    make.write(at / "a.heic")
    make.write(at / "b.heic")
    make.write(at / "captions.csv", "image,caption\n" + "".join(f"{n}.png,a red dog, running\n" for n in range(40)))


@captioned({"not divided": 40})
def kaggles_captions_txt_without_a_head(at: Path) -> None:
    make.pictures(at / "images", range(40), ".jpg")
    make.write(at / "captions.txt", "".join(f"{n}.jpg,a red dog runs\n" for n in range(40)))


@captioned({"train": 20, "validation": 17, "test": 23}, said=("COCO's test images have no captions",))
def coco_with_a_byte_order_mark(at: Path) -> None:
    for split, count in (("train", 20), ("val", 40)):
        make.pictures(at / f"{split}2017", range(count), ".jpg")
        shown = [{"id": n, "file_name": f"{n}.jpg"} for n in range(count)]
        said = [{"id": n, "image_id": n, "caption": "a red dog runs"} for n in range(count)]
        text = json.dumps({"images": shown, "annotations": said})
        make.write(at / "annotations" / f"captions_{split}2017.json", "\ufeff" + text)


# --- recordings ---


def spoken(splits: dict[str, int], **more: Any) -> Callable[..., Any]:
    return layout("speech", splits, **more)


ALL = {"not divided": 24}


@spoken(ALL)
def ljspeech(at: Path) -> None:
    for n in range(24):
        make.wav(at / "wavs" / f"LJ{n:03}.wav")
    make.write(
        at / "metadata.csv", "".join(f'LJ{n:03}|{n}, "Mr. X"|number, mister {"abc"[n % 3]}\n' for n in range(24))
    )


@spoken({"train": 20, "validation": 2, "test": 2})
def deepspeechs_csv(at: Path) -> None:
    for split, count in (("train", 20), ("dev", 2), ("test", 2)):
        head = ("wav_filename", "wav_filesize", "transcript")
        lines = [(f"{split}{n}.wav", 2444, "one two") for n in range(count)]
        make.rows(at / f"{split}.csv", [head, *lines])
        for name, _, _ in lines:
            make.wav(at / name)


@spoken({"train": 20, "validation": 2, "test": 2}, said=("1 sound file without a transcript", "lost.wav"))
def lists_of_json_lines_with_a_sound_beside(at: Path) -> None:
    for split, count in (("Train", 20), ("dev", 2), ("test", 2)):
        for n in range(count):
            make.wav(at / f"{split}{n}.wav")
        lines = [{"audio_filepath": f"{split}{n}.wav", "text": "नमस्ते दुनिया"} for n in range(count)]
        make.json_lines(at / f"{split}.jsonl", lines)
    make.wav(at / "lost.wav")


@spoken(ALL)
def sounds_with_texts_beside_them(at: Path) -> None:
    for n in range(24):
        make.write(
            make.wav(at / f"s{n % 2}" / f"{n}.wav").with_suffix(".txt"), "one two three four".rsplit(" ", n % 4)[0]
        )
    make.wav(at / "s0" / "._0.wav")


@spoken({"train": 20, "validation": 2, "test": 2}, said=("passed over for their endings: 1 .m4a",))
def a_list_with_librispeechs_splits(at: Path) -> None:
    split = ["train-clean-100"] * 20 + ["dev-other"] * 2 + ["test"] * 2
    for n in range(24):
        make.wav(at / f"{n}.wav")
    make.json_lines(at / "all.jsonl", ({"audio": f"{n}.wav", "text": "one two", "split": split[n]} for n in range(24)))
    make.write(at / "more.m4a", "x")


@spoken({"train": 20, "validation": 2, "test": 2})
def librispeech_with_files_of_a_mac(at: Path) -> None:
    for part, count in (("train-clean-100", 20), ("dev-clean", 2), ("test-clean", 2)):
        chapter = at / part / "19" / "1"
        for n in range(count):
            make.wav(chapter / f"19-1-{n:04}.wav")
        make.write(chapter / "19-1.trans.txt", "".join(f"19-1-{n:04} ONE TWO\n" for n in range(count)))
        make.write(chapter / "._19-1.trans.txt", b"\0\5\x16\7\xff\xfe")


@spoken({"train": 20, "validation": 2, "test": 2})
def an_audio_folder_with_metadata_in_each_split(at: Path) -> None:
    for split, count in (("train", 20), ("validation", 2), ("test", 2)):
        for n in range(count):
            make.wav(at / split / f"{n}.wav")
        make.rows(
            at / split / "metadata.csv", [("file_name", "text"), *((f"{n}.wav", "one two") for n in range(count))]
        )


# --- what must hold of each ---


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognised_and_counted_as_training_counts_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    case = LAYOUTS[name]
    at = tmp_path / "set"
    at.mkdir()
    case.make(at)
    place = str(at / case.place)
    code = main(["data", "check", place, "--json", *case.options])
    out, err = capsys.readouterr()
    assert code == 0, out + err
    found = json.loads(out)
    assert (found["task"], found["refused"], found["faults"]) == (case.task, None, [])
    counts = {split: facts.get("images", facts.get("clips")) for split, facts in found["splits"].items()}
    assert counts == case.splits
    for words in case.said:
        assert any(words in note for note in found["notes"]), (words, found["notes"])
    if case.task == "classification":
        seen = load_images(_images(place, case.options))
        assert seen.train.classes == tuple(next(iter(found["splits"].values()))["classes"]) == case.classes
        trained = {"training": len(seen.train), "validation": len(seen.validation), "test": len(seen.test)}
        assert found["trained"] == trained
        assert sum(trained.values()) == sum(counts.values())
    elif case.task == "captioning":
        told = load_captions(CaptionData(source=place, threshold=1))
        assert len(told.train) + len(told.validation) + len(told.test) == sum(counts.values())
    else:
        heard = load_corpus(SpeechData(source=place)).splits
        assert sum(map(len, heard.values())) == sum(counts.values())


def _images(place: str, options: tuple[str, ...]) -> ImageData:
    given = dict(zip(options[::2], options[1::2], strict=True))
    size = given.get("--data.size")
    return ImageData(source=place, label=given.get("--label"), size=int(size) if size else None)


def test_there_are_forty_layouts():
    assert len(LAYOUTS) >= 40
