"""The sections on captions: the table says what was measured, the images what was written, and no word is markup."""

from __future__ import annotations

import base64
import copy
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from redense.errors import DataError

PNG = base64.b64encode(b"png").decode()


def network(bleu4: float, gain: float = 0.0, ends: tuple[float, float] = (0.0, 0.0)) -> dict[str, Any]:
    bleu = [50.0, 30.0, 20.0, bleu4]
    return {
        "bleu": bleu,
        "interval": [[value - 1, value + 1] for value in bleu],
        "gain": [0.0, 0.0, 0.0, gain],
        "gain_interval": [[0.0, 0.0]] * 3 + [list(ends)],
        "relative": [0.0, 0.0, None, 100 * gain / (bleu4 - gain)],
        "chrf": 33.3,
        "perplexity": 12.34,
    }


def image(index: int, before: float, after: float, groups: list[str], word: str = "dog") -> dict[str, Any]:
    return {
        "index": index,
        "name": f"picture-{index}.png",
        "groups": groups,
        "captions": [f"a {word} {index}", "", f"a red {word} {index}"],
        "scores": [before, 0.0, after],
        "references": [f"one red {word}", "an animal"],
        "picture": PNG,
    }


DATA: dict[str, Any] = {
    "kind": "captioning",
    "networks": ["dense", "sparse", "redense"],
    "examples": 10,
    "groups": 10,
    "draws": 1000,
    "references": [1, 3],
    "table": [network(10.0), network(10.5, 0.5, (-0.5, 1.5)), network(12.0, 2.0, (0.4, 3.1))],
    "better": 4,
    "worse": 1,
    "alike": 2,
    "shown": [
        image(0, 10.0, 30.0, ["won", "random"]),
        image(1, 40.0, 10.0, ["lost"], "cat"),
        image(2, 20.0, 25.0, ["won"]),
        image(3, 7.0, 7.0, ["random"]),
    ],
    "notes": ["emoji: one concept, several sentences"],
    "no_pictures": None,
}
PHASES = [
    {"name": name, "kind": "dense", "sparsity": sparsity, "epochs": 1, "lr": 0.1, "steps": 1, "seconds": 1}
    | {"validation": {}, "test": {}}
    for name, sparsity in (("dense", 0.0), ("sparse", 0.8), ("redense", 0.0))
]


@pytest.fixture
def page(small_run: Any, page_of: Any) -> Callable[..., Any]:
    def make(data: Any = None, **result: Any) -> Any:
        facts: dict[str, Any] = {"task": "captioning", "phases": PHASES, **result}
        return page_of(small_run({"evidence.json": DATA | (data or {})}, **facts))

    return make


# --- the table ------------------------------------------------------------------------------------------------------


def test_every_network_has_bleu_with_intervals_chrf_perplexity_and_its_sparsity(page):
    text = page().text
    assert "Network Sparsity BLEU-1 BLEU-2 BLEU-3 BLEU-4 chrF Perplexity" in text
    assert "sparse 80 % 50.0 49.0 to 51.0 30.0 29.0 to 31.0 20.0 19.0 to 21.0 10.5 9.5 to 11.5 33.3 12.3" in text


def test_a_change_is_absolute_relative_and_with_its_interval(page):
    text = page().text
    assert "redense 0.0 (0.0 %) 0.0 to 0.0 0.0 (0.0 %) 0.0 to 0.0 0.0 0.0 to 0.0 +2.0 (+20.0 %) +0.4 to +3.1" in text


@pytest.mark.parametrize(
    ("ends", "said"),
    [((0.4, 3.1), "so these images tell them apart"), ((-0.4, 3.1), "so it may be no change at all")],
    ids=["apart", "not apart"],
)
def test_the_sentence_says_whether_the_images_tell_the_networks_apart(page, ends, said):
    table = [network(10.0), network(10.0), network(12.0, 2.0, ends)]
    assert f"a change of +2.0, 95 % interval {'+0.4' if ends[0] > 0 else '−0.4'} to +3.1, {said}." in (
        page({"table": table}).text
    )


def test_the_control_is_named_where_it_was_trained(page):
    assert "the same budget without a mask" not in page().text
    text = page({"networks": ["baseline", "restart", "dsd"]}).text
    assert "For restart, the same budget without a mask, it is 10.5." in text


def test_the_papers_figures_stand_beside_the_papers_recipe_alone(page):
    assert "the paper" not in page().text
    text = page(recipe="flickr8k/neuraltalk").text
    assert "the paper's DSD 0 % 59.2 40.7 27.4 18.5" in text
    assert "the paper's DSD +2.0 (+3.5 %) +2.1 (+5.4 %) +2.0 (+7.9 %) +1.7 (+10.1 %)" in text


def test_what_has_to_be_said_of_the_data_is_said(page):
    assert "Emoji: one concept, several sentences." in page().text


def test_groups_are_spoken_of_where_images_share_references(page):
    assert "10 test images, 1 to 3 references an image." in page().text
    text = page({"groups": 4}).text
    assert "10 test images in 4 groups with the same references each" in text
    assert "1,000 sets of groups drawn with replacement" in text
    assert "Of images with the same references one is picked out." in text


def test_a_network_without_a_perplexity_or_sparsity_says_so(page):
    table = copy.deepcopy(DATA["table"])
    table[0]["perplexity"] = None
    assert "dense – 50.0" in page({"table": table}, phases=[]).text
    assert "33.3 not finite" in page({"table": table}).text


def test_the_arms_of_a_comparison_have_the_sparsity_that_they_end_with(tmp_path):
    import json

    from redense.report.runs.evidence import read_evidence

    rows = [
        {"arm": arm, "phases": [{"phase": {"steps": 1}}, {"phase": {"steps": 1, **last}}]}
        for arm, last in (("dense", {}), ("sparse", {"sparsity": 0.7}), ("redense", {"pattern": [2, 4]}))
    ]
    (tmp_path / "compare.json").write_text(json.dumps({"recipe": "r", "rows": rows}))
    (tmp_path / "evidence.json").write_text(json.dumps(DATA))
    found = read_evidence(tmp_path / "evidence.json")
    assert found is not None
    assert found.about.sparsities == {"dense": 0.0, "sparse": 0.7, "redense": None}
    assert found.about.recipe == "r"


# --- the figure -----------------------------------------------------------------------------------------------------


def test_every_image_has_its_captions_scores_references_and_picture(page):
    found = page()
    assert "dense a dog 0 10.0 sparse nothing: the sentence ends at once 0.0 redense a red dog 0 30.0" in found.text
    assert "one red dog an animal picture-0.png" in found.text
    assert [one["alt"] for one in found.all("img")] == [f"test image picture-{i}.png" for i in (0, 2, 3, 1)]
    assert {one["src"] for one in found.all("img")} == {f"data:image/png;base64,{PNG}"}
    best = [place for place, one in enumerate(found.all("div")) if one.get("class") == "best"]
    assert len(best) == 5  # two of the image that both networks caption equally well


def test_who_wins_how_often_is_said_and_the_scores_are_called_smoothed(page):
    text = page().text
    assert "the caption of the redense network has the higher sentence score for 4 (40 %), that of the dense" in text
    assert "network for 1 (10 %); for 5 the scores are equal. Under 2 both write the same." in text
    assert "sacrebleu's sentence BLEU, smoothed" in text


def test_networks_that_write_the_same_are_said_to(page):
    assert "write the same under every image" in page({"alike": 10, "better": 0, "worse": 0}).text


def test_of_many_networks_a_card_shows_the_first_the_control_and_the_last(page):
    names = ["baseline", "llr", "restart", "random", "dsd"]
    shown = image(0, 1.0, 2.0, ["random"]) | {"captions": list("abcde"), "scores": [1, 2, 3, 4, 5]}
    text = page({"networks": names, "table": [network(10.0)] * 5, "shown": [shown]}).text
    assert "baseline a 1.0 restart c 3.0 dsd e 5.0 2 other networks llr b 2.0 random d 4.0 one red dog" in text


def test_without_pictures_the_page_says_why_and_without_images_there_is_no_such_section(page):
    assert "There are no pictures: they are gone." in page({"no_pictures": "they are gone"}).text
    assert "side by side" not in page({"shown": []}).text


# --- where there is nothing, or too much ----------------------------------------------------------------------------


def test_a_reason_is_given_where_a_run_has_no_evidence(small_run, page_of):
    assert "example by example is not known: there is no evidence.json" in page_of(small_run(task="captioning")).text
    missing = small_run({"evidence.json": {"kind": "captioning", "missing": "it rained"}}, task="captioning")
    assert "is not known: it rained" in page_of(missing).text


@pytest.mark.parametrize(
    "change",
    [
        {"networks": ["dense"]},
        {"networks": []},
        {"table": [{}] * 3},
        {"table": [network(1.0) | {"bleu": [1.0]}] * 3},
        {"shown": [image(0, 1, 2, []) | {"captions": ["one"]}]},
        {"references": [1]},
        {"examples": None},
    ],
    ids=["networks", "none", "row", "bleu", "captions", "references", "examples"],
)
def test_damaged_evidence_is_refused_by_name(page, change):
    with pytest.raises(DataError, match=r"evidence\.json is not what redense writes"):
        page(change)


def test_captions_references_and_names_cannot_become_markup(page, evil):
    shown = image(0, 1.0, 2.0, ["won", "random"])
    shown |= {"captions": [evil] * 3, "references": [evil], "name": evil, "picture": f'"{evil}', "groups": [evil]}
    changes = {"shown": [shown], "notes": [evil], "no_pictures": evil, "networks": [f"{i}{evil}" for i in range(3)]}
    harmless, found = page(), page(changes)
    assert len(found.all("script")) == len(harmless.all("script"))
    assert {one["src"][:22] for one in found.all("img")} == {"data:image/png;base64,"}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert evil in found.text


def test_sections_have_headings_labels_and_texts(page):
    found = page()
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"bleu", "captions"} <= set(ids)
    scrolled = [one for one in found.all("div") if (one.get("class") or "").startswith("scroll")]
    assert all(one["tabindex"] == "0" and len(one["aria-label"]) > 10 for one in scrolled)
    assert found.source.count("<select") + found.source.count("<input") == found.source.count("<label>")
