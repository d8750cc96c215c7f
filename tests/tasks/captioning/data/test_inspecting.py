"""``redense data check`` of a captioned folder: what is there, and what cannot be used, by name."""

from __future__ import annotations

import json

from PIL import Image

from redense.tasks.captioning.data.inspecting import has_captions


def test_a_captioned_folder_is_counted_split_by_split(captioned, redense):
    folder = captioned(train=12, val=6, test=6)
    code, out, err = redense("data", "check", folder)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "train: 12 images, 24 sentences",
        "validation: 6 images, 12 sentences",
        "test: 6 images, 12 sentences",
        "words: 216, of which 9 different; 9 occur at least 5 times, and are 100.0% of all",
        "words of a sentence: 3 to 6, half of them at least 6",
        "note: vocabulary: 9 words; 0 that occur less than 5 times in the training sentences are left out (0.0% of all "
        "words)",
        "note: only 6 validation images: BLEU over so few says little",
        "note: only 6 test images: BLEU over so few says little",
        "taken for pictures with captions",
        "nothing is wrong as far as headers and ends of files show; --full decodes every image",
    ]


def test_what_cannot_be_used_is_named_and_the_exit_status_is_1(captioned, redense):
    folder = captioned()
    (folder / "images/train-0.png").unlink()
    (folder / "images/train-1.png").write_bytes(b"no picture")
    data = json.loads((folder / "dataset.json").read_text())
    data["images"][2]["sentences"] = [{"raw": " ... "}]
    (folder / "dataset.json").write_text(json.dumps(data))
    code, out, _ = redense("data", "check", folder)
    assert code == 1
    assert out.splitlines()[-6:] == [
        "3 cannot be used:",
        "  train-0.png is missing",
        "  train-1.png is no image of a known format (JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, PGM)",
        "  train-2.png has sentences without a word",
        "taken for pictures with captions",
        "training refuses this set, or leaves these images out with data.broken: skip",
    ]
    assert out.startswith("train: 9 images, 18 sentences")


def test_a_folder_without_captions_is_one_of_classes(tmp_path, redense):
    assert not has_captions(tmp_path)
    assert "nor images in folders" in redense("data", "check", tmp_path)[2]


def test_one_image_whose_words_are_rare_is_told_as_one(tmp_path, redense):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    lines = [json.dumps({"file_name": "one.png", "text": text}) for text in ("a a", "b")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    code, out, _ = redense("data", "check", tmp_path)
    assert code == 1
    assert out.splitlines()[:3] == [
        "not divided: 1 image, 2 sentences",
        "words: 3, of which 2 different; 0 occur at least 5 times, and are 0.0% of all",
        "words of a sentence: 1 to 2, half of them at least 2",
    ]
