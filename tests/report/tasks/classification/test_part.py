"""The sections on classifiers: they say what the answers say, hide nothing, and no class name becomes markup."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from redense.errors import DataError
from redense.report.kit.assets import asset
from redense.report.kit.document import About
from redense.report.tasks.classification.part import sections
from redense.tasks.classification.data.png import thumbnail
from redense.tasks.classification.evidence import evidence
from redense.tasks.classification.schema import ClassificationEvidence

STYLE = asset("kit/page.css")
CLASSES_STYLE = asset("tasks/classification/classification.css")

NAMES = ("cat", "dog", "fox")
#       class  before  after
CASES = [
    *[("cat", "cat", "cat")] * 6,
    *[("cat", "dog", "cat")] * 3,
    *[("cat", "cat", "fox")] * 1,
    *[("dog", "cat", "cat")] * 4,
    *[("dog", "dog", "dog")] * 4,
    *[("fox", "fox", "fox")] * 5,
]


def outcome(label: list[int], answer: list[int], chances: Sequence[float]) -> dict[str, torch.Tensor]:
    right, answers = torch.tensor(label), torch.tensor(answer)
    return {
        "label": right,
        "answer": answers,
        "rank": (right != answers).long(),
        "loss": -torch.tensor(chances, dtype=torch.float64).log(),
    }


def told(cases: Sequence[tuple[str, str, str]] = CASES, names: Sequence[str] = NAMES, **how: Any) -> dict[str, Any]:
    """What `Classification.evidence` tells of such answers; the task's own code, so that the format is the real one."""
    label, before, after = ([names.index(case[place]) for case in cases] for place in range(3))
    low, high = [0.2 + 0.01 * i for i in range(len(cases))], [0.9 - 0.02 * i for i in range(len(cases))]
    middle = outcome(label, label, low)
    outcomes = {"dense": outcome(label, before, low), "sparse": middle, "redense": outcome(label, after, high)}
    pictures = how.pop(
        "pictures", lambda indices: [thumbnail(torch.full((1, 4, 4), i, dtype=torch.uint8)) for i in indices]
    )
    return evidence(outcomes, list(names), pictures, **how)


def many(count: int) -> dict[str, Any]:
    names = [f"class {index}" for index in range(count)]
    return told([(names[i], names[(i + 1) % count], names[i]) for i in range(count)], names)


@pytest.fixture
def page(small_run: Any, page_of: Any) -> Callable[..., Any]:
    def make(data: Any = None, **result: Any) -> Any:
        return page_of(small_run({"evidence.json": told() if data is None else data}, **result))

    return make


# --- what is said ---------------------------------------------------------------------------------------------------


def test_every_class_has_its_errors_their_change_and_what_was_fixed_and_broken(page):
    text = page().text
    assert "Class Examples dense sparse redense Change, points Fixed Broken" in text
    assert "dog 8 50.00 0.00 50.00 0.00 0 0" in text
    assert "cat 10 30.00 0.00 10.00 −20.00 3 1" in text
    assert "fox 5 0.00 0.00 0.00 0.00 0 0" in text
    assert text.index("dog 8") < text.index("cat 10") < text.index("fox 5")  # the hardest first


def test_the_sentence_names_hardest_and_easiest_and_counts_the_classes(page):
    text = page().text
    assert (
        "For the redense network the hardest class is dog, with an error of 50.00 %, the easiest fox, with 0.00 %"
        in text
    )
    assert "against the dense network the error is lower in 1 of 3 classes, higher in 0 and the same in 2." in text


def test_top5_error_is_shown_for_more_than_five_classes_and_loss_always(page):
    assert "Top-5 error" not in page().text
    assert "Loss of each class in the test split Class Loss, dense Loss, sparse Loss, redense dog" in page().text
    assert "Top-5 error, dense, % Top-5 error, sparse, % Top-5 error, redense, % Loss, dense" in page(many(6)).text


def test_the_matrix_has_every_answer_with_mistakes_coloured_and_right_answers_not(page):
    found = page()
    cells = [attributes for attributes in found.all("td") if "title" in attributes]
    titles = [cell["title"].replace("\u00a0", " ") for cell in cells]
    assert "cat taken for dog: 3 of 10 (30 %)" in titles
    assert "cat taken for fox: 1 of 10 (10 %)" in titles
    assert titles.count("dog taken for cat: 4 of 8 (50 %)") == 2
    assert "dog as it is: 4 of 8 (50 %)" in titles
    for cell, title in zip(cells, titles, strict=True):
        assert ("style" in cell) == ("taken for" in title) == (cell.get("class") != "right")
    heats = {title: cell["style"] for title, cell in zip(titles, cells, strict=True) if "style" in cell}
    assert heats["dog taken for cat: 4 of 8 (50 %)"] == "--heat: 1.000"
    assert heats["cat taken for dog: 3 of 10 (30 %)"] == f"--heat: {(0.3 / 0.5) ** 0.5:.3f}"
    assert "most often takes dog for cat: 4 of 8 times (50 %); the dense network does so 4 times." in found.text


def test_classes_whose_names_begin_alike_have_different_labels(page):
    names = [f"Common European viper {end}" for end in ("male", "female")]
    found = page(told([(names[0], names[1], names[0]), (names[1], names[1], names[0])], names))
    labels = found.plots()["classes-plot"]["layout"]["yaxis"]["ticktext"]
    assert sorted(labels) == ["Common Euro…per female", "Common Euro…viper male"]
    assert "Common Eur…per female Common Eur…iper male" in found.text or "Common Eur…iper male Common Eur" in found.text


def test_of_many_classes_the_commonest_confusions_are_a_list(page):
    found = page(many(45))
    assert not [table for table in found.all("table") if "matrix" in (table.get("class") or "")]
    assert "The 30 commonest confusions of the redense network" in found.text
    assert "classes-plot" not in found.source
    few = page(many(30))
    assert len([table for table in few.all("table") if "matrix" in (table.get("class") or "")]) == 2
    assert "The same for the dense network" in few.text  # side by side they would not fit


def test_every_example_has_its_class_both_answers_both_chances_and_a_picture(page):
    found = page()
    text = found.text
    assert (
        "gets 3 right that the dense network gets wrong, and 1 wrong that it gets right: 2 fewer errors in all." in text
    )
    assert "Fixed: 3 cat dog → cat true class: 26 % → 78 %" in text
    assert "Broken: 1 cat cat → fox true class: 29 % → 72 %" in text
    assert [image["alt"] for image in found.all("img")] == [f"test example {i}, cat" for i in (6, 7, 8, 9)]
    pictures = [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in found.all("img")]
    assert pictures == [thumbnail(torch.full((1, 4, 4), i, dtype=torch.uint8)) for i in (6, 7, 8, 9)]


def test_a_choice_is_said_where_not_all_changed_examples_are_shown(page):
    assert "shown are those where the probability of the true class changed the most" in page(told(most=2)).text
    assert "changed the most" not in page().text


def test_without_pictures_the_page_says_why(page):
    found = page(told(pictures=None))
    assert not found.all("img")
    assert "There are no pictures: the task gives no pictures of its examples." in found.text


def test_ties_are_said_and_marked(page):
    data = told()
    label, answer = torch.tensor([0, 1]), torch.tensor([0, 1])
    one = {"label": label, "answer": answer, "rank": torch.tensor([1, 0]), "loss": torch.tensor([1.0, 0.1])}
    other = one | {"rank": torch.tensor([0, 0])}
    data = evidence({"dense": one, "redense": other}, NAMES, None)
    text = page(data).text
    assert "1 answer of the dense network and 0 of the redense network. They count as wrong" in text
    assert "cat (a tie) → cat" in text


def test_networks_that_answer_alike_have_no_examples_and_no_mistake_is_said(page):
    found = page(told([(name, name, name) for name in NAMES]))
    assert "The redense network is right and wrong where the dense network is." in found.text
    assert "Neither network takes any class for another." in found.text
    assert not found.all("img")


# --- where there is nothing -----------------------------------------------------------------------------------------


def test_a_reason_is_given_where_a_classifier_has_no_evidence(small_run, page_of):
    assert "example by example is not known: there is no evidence.json" in page_of(small_run()).text
    missing = small_run({"evidence.json": evidence({}, NAMES, None)})
    assert "is not known: what was right was not kept with the answers" in page_of(missing).text


def test_another_task_or_a_kind_that_this_page_does_not_know_has_no_such_section(page):
    assert "By class" not in page({"kind": "captions"}, task="captioning").text
    assert "By class" not in page({}, task="speech").text


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 3},
        {"networks": []},
        {"networks": ["dense"]},
        {"confusion": [[], [[0, 3, 1]]]},
        {"confusion": [[]]},
        {"fixed": {"total": 1, "shown": [{}]}},
        {"ties": [1]},
        {"examples": None},
    ],
    ids=str,
)
def test_damaged_evidence_is_refused_by_name(page, change):
    with pytest.raises(DataError, match=r"evidence\.json is not what redense writes"):
        page(told() | change)


# --- for everyone ---------------------------------------------------------------------------------------------------


def test_names_cannot_become_markup(page, evil):
    names = [f"{name}{evil}" for name in NAMES]
    data = told([tuple(f"{one}{evil}" for one in case) for case in CASES], names)  # pyright: ignore[reportArgumentType]
    data["networks"] = [f"{name}{evil}" for name in data["networks"]]
    data["fixed"]["shown"][0]["picture"] = f'"{evil}'
    data["no_pictures"] = evil
    harmless, found = page(), page(data)
    assert len(found.all("script")) == len(harmless.all("script"))
    assert {image["src"][:22] for image in found.all("img")} == {"data:image/png;base64,"}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert f"cat{evil}" in found.text
    drawn = json.dumps(found.plots(), ensure_ascii=False)
    assert "&lt;img" in drawn
    assert not re.search(r"<(?!/?b>|br>|/?extra>)", drawn)
    assert "%{x}" not in "".join(
        t.get("hovertemplate", "").replace("%{x:.2f}", "") for t in found.plots()["classes-plot"]["data"]
    )


def test_sections_have_headings_labels_and_texts(page):
    found = page()
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"classes", "confusion", "changes"} <= set(ids)
    assert all(header.get("scope") in ("col", "row") for header in found.all("th"))
    scrolled = [a for a in found.all("div") if (a.get("class") or "").startswith("scroll")]
    assert all(a["tabindex"] == "0" and len(a["aria-label"]) > 10 for a in scrolled)
    assert all(image["alt"] for image in found.all("img"))
    assert found.source.count("<select") == found.source.count("<label>")
    policy = next(meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_in_the_fullest_cell_can_be_read(theme, palettes, contrast):
    colours = palettes(STYLE)[theme]
    light, dark = (int(part) / 100 for part in re.findall(r"--fullest: (\d+)%", CLASSES_STYLE))
    part = light if theme == "light" else dark
    channels = [
        round(part * int(colours["accent"][i : i + 2], 16) + (1 - part) * int(colours["paper"][i : i + 2], 16))
        for i in (1, 3, 5)
    ]
    assert contrast(colours["ink"], "#" + "".join(f"{channel:02x}" for channel in channels)) >= 4.5
    assert contrast(colours["muted"], colours["grid"]) >= 4.5  # of the right answers


def test_the_plot_is_a_valid_figure_in_colours_of_the_style_sheet():
    from plotly import graph_objects

    found = ClassificationEvidence.model_validate(told())
    (figure,) = sections(found, About())[0].figures
    assert figure.name == "classes-plot"
    plot = figure.plot
    text = json.dumps({"data": plot["data"], "layout": plot["layout"]})
    assert set(re.findall(r'"--([\w-]+)"', text)) <= set(re.findall(r"--([\w-]+):", STYLE))
    graph_objects.Figure(json.loads(re.sub(r'"--[\w-]+"', '"#123456"', text)))
    _, before, after = plot["data"]
    assert (before["x"], after["x"]) == ([50.0, 30.0, 0.0], [50.0, 10.0, 0.0])
