"""Sentences about emoji: which are captions of a picture, and whose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redense.tasks.fetching.emoji_texts import captions, dataset, sentences


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("<p>A small <b>red</b> fox , seen from its side.</p>", ["A small red fox, seen from its side."]),
        ("<p>A fox &amp; a hen in a yard.</p>\r\n<p>Often used for slyness and wit.</p>", ["A fox & a hen in a yard."]),
        ("A fox with a bushy tail. Apple's design has a white tip of it.", ["A fox with a bushy tail."]),
        ("A fox. A fox with a bushy tail!", ["A fox with a bushy tail!"]),
        ("Not to be confused with the wolf emoji here.", []),
        ("Conveys that somebody is being sly today.", []),
        ("A fox " + "very " * 30 + "red.", []),
        ("", []),
    ],
    ids=["markup", "use", "vendor", "short", "other", "meaning", "long", "empty"],
)
def test_only_what_can_be_seen_is_a_caption(description, said):
    assert sentences(description) == said


def packages(tmp_path: Path, described: list[dict], concepts: list[dict]) -> tuple[Path, Path]:
    names, texts = tmp_path / "names", tmp_path / "texts"
    (names / "en").mkdir(parents=True)
    (texts / "lib/data").mkdir(parents=True)
    (names / "en/data.json").write_text(json.dumps(concepts))
    for number, one in enumerate(described):
        (texts / f"lib/data/{number}.json").write_text(json.dumps(one))
    return names, texts


def test_sentences_are_matched_by_code_points_without_joiners(tmp_path):
    described = [
        {"codepointsHex": ["U+2764", "U+FE0F", "U+200D", "U+1F525"], "description": "A heart with bright flames."},
        {"codepointsHex": ["U+1F98A"], "description": "The face of a fox. A fox's face in orange and white."},
        {"codepointsHex": ["U+1F98B"], "description": None},
    ]
    concepts = [
        {"hexcode": "2764-FE0F-200D-1F525", "label": "heart: on a big fire"},
        {"hexcode": "1F98A", "label": "fox"},
        {"hexcode": "1F1E6", "label": "flag of some far country"},
    ]
    assert captions(*packages(tmp_path, described, concepts)) == {
        "2764-1f525": ["A heart with bright flames.", "heart, on a big fire"],
        "1f98a": ["The face of a fox.", "A fox's face in orange and white."],
    }


def test_no_concept_has_more_than_five_captions_nor_one_twice(tmp_path):
    text = " ".join(f"A picture of fox number {n % 7}." for n in range(20))
    found = captions(*packages(tmp_path, [{"codepointsHex": ["U+1F98A"], "description": text}], []))
    assert found["1f98a"] == [f"A picture of fox number {n}." for n in range(5)]


def test_the_list_is_in_karpathys_layout_and_leaves_out_pictures_without_words():
    pictures = {"train": [("train/b.png", "2"), ("train/a.png", "1")], "test": [("test/c.png", "3")]}
    listed = dataset(pictures, {"1": ["one"], "2": ["two", "zwei"]})
    assert listed["images"] == [
        {"filename": "train/a.png", "split": "train", "sentences": [{"raw": "one"}]},
        {"filename": "train/b.png", "split": "train", "sentences": [{"raw": "two"}, {"raw": "zwei"}]},
    ]
