"""Evidence of captioning: the table and the picked images say what the captions say, and count groups, not copies."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from redense.tasks.captioning import bleu
from redense.tasks.captioning.evidence import choose, evidence, same_references, sentence_scores

REFERENCES = [
    [("a", "red", "dog", "runs", "fast")],
    [("two", "cats", "sleep", "on", "a", "mat"), ("cats", "sleep")],
    [("a", "blue", "ball", "on", "green", "grass")],
    [("a", "blue", "ball", "on", "green", "grass")],  # the same picture in another style
    [("an", "old", "house", "with", "a", "door")],
]
DENSE = [
    ("a", "red", "dog"),
    ("two", "cats", "sleep", "on", "a", "mat"),
    ("a", "ball"),
    ("a", "ball"),
    ("a", "tree"),
]
REDENSE = [
    ("a", "red", "dog", "runs", "fast"),
    ("a", "tree"),
    ("a", "blue", "ball", "on", "green", "grass"),
    ("a", "blue", "ball", "on"),
    ("a", "tree"),
]


def told(
    before: Sequence[tuple[str, ...]] = DENSE, after: Sequence[tuple[str, ...]] = REDENSE, **how: Any
) -> dict[str, Any]:
    written = {"dense": before, "sparse": before, "redense": after}
    outcomes = {
        name: {"loss": torch.full((5,), 2.0), "words": torch.full((5,), 4), "which": torch.tensor(place)}
        for place, name in enumerate(written)
    }
    captions = list(written.values())
    pictures = how.pop("pictures", lambda indices: [b"png %d" % index for index in indices])
    names = [f"image {index}" for index in range(5)]
    return evidence(outcomes, lambda outcome: captions[int(outcome["which"])], REFERENCES, names, pictures, **how)


def test_evidence_is_plain_json_with_a_row_for_every_network():
    data = json.loads(json.dumps(told(notes=("said of the data",)), allow_nan=False))
    assert data["networks"] == ["dense", "sparse", "redense"]
    assert [len(row["bleu"]) for row in data["table"]] == [4, 4, 4]
    assert (data["examples"], data["groups"], data["references"]) == (5, 4, [1, 2])
    assert data["notes"] == ["said of the data"]


def test_the_figures_are_those_of_the_metrics():
    row = told()["table"][-1]
    rows = bleu.statistics(REDENSE, REFERENCES)
    assert row["bleu"] == pytest.approx(list(bleu.bleu(rows).values()), abs=1e-4)
    assert row["chrf"] == pytest.approx(bleu.chrf(REDENSE, REFERENCES), abs=1e-4)
    assert row["perplexity"] == pytest.approx(np.exp(0.5), abs=1e-4)


def test_a_change_is_absolute_and_relative_to_the_first_network():
    first, middle, last = told()["table"]
    assert first["gain"] == middle["gain"] == [0.0] * 4
    assert last["gain"] == pytest.approx([a - b for a, b in zip(last["bleu"], first["bleu"], strict=True)], abs=1e-3)
    assert last["relative"][0] == pytest.approx(100 * last["gain"][0] / first["bleu"][0], abs=1e-2)


def test_a_change_relative_to_nothing_is_none():
    nothing = [("x",)] * 5
    assert told(before=nothing)["table"][-1]["relative"] == [None] * 4


def test_equal_networks_differ_by_nothing_in_every_draw():
    row = told()["table"][1]  # the draws are the same for both: their difference has no spread
    assert row["gain_interval"] == [[0.0, 0.0]] * 4
    assert row["interval"][0][0] < row["interval"][0][1]


def test_a_perplexity_that_is_no_number_is_none():
    outcome = {"loss": torch.full((5,), torch.inf), "words": torch.full((5,), 4)}
    data = evidence({"a": outcome, "b": outcome}, lambda _: DENSE, REFERENCES, [""] * 5, None)
    assert data["table"][0]["perplexity"] is None
    assert "no pictures" in data["no_pictures"]


def test_images_with_the_same_references_are_one_group():
    assert same_references(REFERENCES).tolist() == [0, 1, 2, 2, 3]


def test_copies_of_an_image_do_not_narrow_the_interval():
    width = _width(REFERENCES, DENSE)
    assert _width([*REFERENCES] * 20, [*DENSE] * 20) == pytest.approx(width, abs=1e-6)


def _width(references: Any, captions: Any) -> float:
    outcome = {"loss": torch.ones(len(captions)), "words": torch.ones(len(captions))}
    told = evidence({"a": outcome, "b": outcome}, lambda _: captions, references, [""] * len(captions), None)
    low, high = told["table"][0]["interval"][0]
    return high - low


def test_images_are_counted_by_whose_caption_scores_higher():
    data = told()
    assert (data["better"], data["worse"], data["alike"]) == (3, 1, 1)


def test_won_and_lost_are_the_greatest_changes_and_one_of_each_group():
    gain = np.array([5.0, 9.0, 8.0, -1.0, -7.0, 0.0])
    chosen = choose(gain, np.array([0, 1, 1, 2, 3, 4]), most=2)
    assert chosen["won"] == [1, 0]
    assert chosen["lost"] == [4, 3]


def test_the_random_sample_is_seeded_and_takes_no_notice_of_the_gain():
    gain, groups = np.arange(50.0), np.arange(50)
    sample = choose(gain, groups, most=10, seed=3)["random"]
    assert sample == choose(-gain, groups, most=10, seed=3)["random"]
    assert sample != choose(gain, groups, most=10, seed=4)["random"]
    assert len(set(sample)) == 10


def test_an_image_that_is_picked_out_has_captions_scores_references_and_a_picture():
    shown = {item["index"]: item for item in told()["shown"]}
    first = shown[0]
    assert first["captions"] == ["a red dog", "a red dog", "a red dog runs fast"]
    assert first["scores"][2] == pytest.approx(100, abs=0.01)
    assert first["scores"][0] == first["scores"][1] < 100
    assert first["references"] == ["a red dog runs fast"]
    assert base64.b64decode(first["picture"]) == b"png 0"
    assert "won" in first["groups"]
    assert "lost" in shown[1]["groups"]


def test_a_picture_that_cannot_be_had_is_left_out():
    data = told(pictures=lambda indices: [None] * len(indices))
    assert {item["picture"] for item in data["shown"]} == {None}


def test_a_caption_without_words_scores_nothing():
    assert sentence_scores([()], [[("a", "dog")]]).tolist() == [0.0]


def test_without_images_the_reason_is_said():
    assert evidence({}, lambda _: [], [], [], None)["missing"] == "the test split has no images"


def test_a_caption_without_four_words_in_a_row_of_a_reference_is_scored_all_the_same():
    words, reference = ("a", "dog", "runs", "in", "grass"), ("a", "dog", "sits", "in", "grass")
    (score,) = sentence_scores([words], [[reference]])
    assert bleu.bleu(bleu.statistics([words], [[reference]]))["bleu4"] == 0
    assert 20 < score < 50
