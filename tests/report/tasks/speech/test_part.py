"""The sections on recognisers: they say what was heard, hide nothing, and no transcript becomes markup."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import wave
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from redense.errors import DataError
from redense.report.kit.assets import asset
from redense.report.kit.document import About
from redense.report.tasks.speech.part import sections
from redense.tasks.evidence import visible
from redense.tasks.speech.evidence import evidence
from redense.tasks.speech.schema import SpeechEvidence
from redense.tasks.speech.transcripts.alphabet import Alphabet

STYLE = asset("kit/page.css")
SPEECH_STYLE = asset("tasks/speech/speech.css")

#        set   said                 dense              sparse             redense
CASES = [
    ("92", "la casa azul", "la caza azul", "la casa azul", "la casa azul"),
    ("92", "un gato", "un", "un gato", "un gato y"),
    ("93", "el perro come", "perro", "el perro", "el perro coma"),
    ("93", "no", "no", "no", "si"),
    ("93", "hola", "hola", "hola", "hola"),
]
PHASES = ("dense", "sparse-1", "redense-1")


def told(cases: Sequence[Sequence[str]] = CASES, networks: Sequence[str] = PHASES, **how: Any) -> dict[str, Any]:
    """What `evidence` tells of such transcripts; the task's own code, so that the format is the real one."""
    alphabet = Alphabet.of("".join(case[1:]) for case in cases)

    def padded(place: int) -> torch.Tensor:
        rows = [torch.tensor(alphabet.encode(case[place]), dtype=torch.int16) for case in cases]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)

    reference = padded(1)
    outcomes = {
        name: {"reference": reference, "hypothesis": padded(place)} for place, name in enumerate(networks, start=2)
    }
    options: dict[str, Any] = {"sets": [case[0] for case in cases], "seconds": [1.5] * len(cases), "sound": beep}
    return evidence(outcomes, alphabet, **options | how)


def beep(index: int) -> tuple[torch.Tensor, int]:
    return torch.sin(torch.arange(800) * (0.1 + 0.01 * index)), 8000


@pytest.fixture
def page(small_run: Any, page_of: Any) -> Callable[..., Any]:
    def make(data: Any = None, **result: Any) -> Any:
        metric = {"name": "wer", "unit": "%", "lower_is_better": True}
        plain = {"task": "speech", "metric": metric}
        return page_of(small_run({"evidence.json": told() if data is None else data}, **plain | result))

    return make


# --- what is said ---------------------------------------------------------------------------------------------------


def test_the_table_is_the_papers_with_a_row_a_phase_and_a_column_a_set(page):
    text = page().text
    assert "Network WER, 92, % WER, 93, % WER, all, % 95 % interval Change, points Fewer errors, % CER, %" in text
    assert "D0 (dense) 40.00 40.00 40.00 " in text  # 2 of 5 words, 2 of 5
    assert "S1 (sparse-1) 0.00 20.00 10.00 " in text
    assert re.search(r"D1 \(redense-1\) 20\.00 40\.00 30\.00 [\d.]+ to [\d.]+ −10\.00 \+25\.00 ", text)


def test_arms_keep_their_names_and_the_control_is_said(page):
    text = page(told(networks=("baseline", "restart", "dsd"))).text
    assert "baseline 40.00" in text
    assert "D0" not in text
    assert "For restart, the same budget without a mask, it is 10.00 %." in text


def test_the_sentence_gives_rates_difference_and_its_interval(page):
    text = page().text
    assert "In 5 test clips (7.5 s) the redense-1 network gets 30.00 % of 10 words wrong (WER)" in text
    assert re.search(r"10\.00 points less, 25 % of its errors \(95 % interval of the difference −[\d.]+ to \+", text)
    assert "points: it may be none)" in text


def test_kinds_of_errors_are_told_for_each_set(page):
    text = page().text
    assert "Word and character errors, 92" in text
    assert "Word and character errors, 93" in text
    assert re.search(r"D1 \(redense-1\) 40\.00 [\d.]+ to [\d.]+ 5 2 0 0 2 of 3", text)  # set 93: two substitutions


def test_without_several_sets_there_is_one_column(page):
    text = page(told(sets=None)).text
    assert "Network WER, all, % 95 % interval" in text
    assert page(told(sets=["only"] * 5)).text == text


def test_clips_are_aligned_with_what_was_said_and_errors_have_signs(page):
    found = page()
    text = found.text
    assert "Fewer errors: 2" in text
    assert "More errors: 1" in text
    assert "As many errors: 2" in text
    assert "clip 0 · 92 · 1.5 s · word errors 1 → 0 said la casa azul dense la casa → caza azul redense-1 la" in text
    assert "said el perro come dense − el perro − come redense-1 el perro come → coma" in text
    assert "redense-1 un gato + y" in text
    titles = {a["title"] for name, a in found.elements if name in ("span", "del", "ins") and "title" in a}
    assert {"casa was heard as caza", "el was not heard", "y was not said"} <= titles
    assert "in 2 clips, of which it now has 1 wholly right, and more in 1, of which 1 had been wholly right" in text


def test_every_clip_can_be_played(page):
    found = page()
    players = found.all("audio")
    assert sorted(player["aria-label"] for player in players) == [f"clip {i}" for i in range(5)]
    data = base64.b64decode(players[0]["src"].removeprefix("data:audio/wav;base64,"))
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth(), file.getnchannels()) == (8000, 800, 2, 1)
    policy = next(meta["content"] for meta in found.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "media-src data:;" in policy


def test_without_sound_the_page_says_why(page):
    found = page(told(sound=None))
    assert not found.all("audio")
    assert "Not every clip can be played: the task gives no sound of its examples." in found.text


def test_a_choice_is_said_where_not_all_clips_are_shown(page):
    assert "Shown are those with the greatest changes." in page(told(most=1)).text
    assert "greatest changes." not in page().text


def test_transcripts_without_words_have_no_rate(page):
    text = page(told([("a", "", " ", "", "x")], sets=None)).text
    assert "The transcripts of the 1 test clip (1.5 s) have no word: there is no error rate." in text
    assert "1 clip without a word in the reference: all that is heard there is inserted" in text
    assert "wer-plot" not in page(told([("a", "", " ", "", "x")], sets=None)).source


def test_networks_that_hear_alike_are_said_to(page):
    text = page(told([("a", "no", "si", "si", "si")])).text
    assert "wrong (WER), the dense network 100.00 %: no difference." in text
    assert "makes as many errors as the dense network in every clip" in text


def test_one_clip_has_no_interval(page):
    assert "D0 (dense) 100.00 – – – 100.00" in page(told([("a", "no", "si", "si", "si")])).text


# --- where there is nothing -----------------------------------------------------------------------------------------


def test_a_reason_is_given_where_there_is_no_evidence(small_run, page_of):
    assert "is not known: there is no evidence.json" in page_of(small_run(task="speech")).text
    missing = small_run({"evidence.json": evidence({}, Alphabet(("a",)))}, task="speech")
    assert "is not known: what was heard was not kept" in page_of(missing).text


@pytest.mark.parametrize(
    "change",
    [
        {"sets": []},
        {"sets": [3]},
        {"networks": []},
        {"networks": ["dense"]},
        {"better": {"total": 1, "wholly": 0, "shown": [{}]}},
        {"better": {"total": 1}},
        {"utterances": None},
        {"seconds": "long"},
    ],
    ids=str,
)
def test_damaged_evidence_is_refused_by_name(page, change):
    with pytest.raises(DataError, match=r"evidence\.json is not what redense writes"):
        page(told() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"sound": '"><script>'},
        {"edits": [[["magic", "a", "b"]], []]},
        {"edits": [[["insertion", "a", "b"]], []]},
        {"edits": [[["deletion", None, None]], []]},
        {"edits": [[]]},
        {"errors": [1]},
    ],
    ids=["sound", "kind", "insertion", "deletion", "edits", "errors"],
)
def test_a_damaged_clip_is_refused_by_name(page, change):
    data = told()
    data["better"]["shown"][0] |= change
    with pytest.raises(DataError, match=r"evidence\.json is not what redense writes"):
        page(data)


# --- for everyone ---------------------------------------------------------------------------------------------------


def test_transcripts_cannot_become_markup(page, evil):
    # No blank in it, or alignment would part it: the whole attack is one word.
    word = evil.replace(" ", "/")
    cases = [(f"{one[0]}{evil}", *(f"{text} {word}{place}" for place, text in enumerate(one[1:]))) for one in CASES]
    data = told(cases)
    data["networks"] = [f"{name}{evil}" for name in data["networks"]]
    data["no_sound"] = evil
    harmless, found = page(), page(data)
    assert len(found.all("script")) == len(harmless.all("script"))
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert not [attributes for attributes in found.all("img") if attributes.get("src") == "x"]
    assert word in found.text
    drawn = json.dumps(found.plots()["wer-plot"], ensure_ascii=False)
    assert not re.search(r"<(?!/?b>|br>|/?extra>)", drawn)
    assert "%{x}" not in "".join(
        trace["hovertemplate"].replace("%{x:.2f}", "") for trace in found.plots()["wer-plot"]["data"]
    )


def test_hidden_characters_are_shown_and_do_no_harm(page):
    bad = "a\u202eb\x00c\u200bd\ud800e\x1b"
    data = told([("s", "uno dos", "uno dos", "uno dos", "uno")])
    data["worse"]["shown"][0]["edits"][1][0] = ["substitution", bad, "x\u2028y"]
    found = page(data)
    assert "a⟨U+202E⟩b␀c⟨U+200B⟩d⟨U+D800⟩e␛" in found.text
    assert "x⟨U+2028⟩y" in found.text
    assert not set("\u202e\x00\u200b\u2028\x1b") & set(found.source)


def test_ordinary_writing_is_left_alone():
    for text in ("niño, ¿qué?", "žluťoučký kůň", "שלום", "\u0645\u06cc\u200c\u062e\u0648", "日本語", "a\u0301"):
        assert visible(text) == text


def test_sections_have_headings_labels_and_texts(page):
    found = page()
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"recognition", "transcripts"} <= set(ids)
    assert all(header.get("scope") in ("col", "row") for header in found.all("th"))
    scrolled = [a for a in found.all("div") if (a.get("class") or "").startswith("scroll")]
    assert all(a["tabindex"] == "0" and len(a["aria-label"]) > 10 for a in scrolled)
    assert len(found.all("label")) == len(found.all("select")) + len(found.all("input"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["sub", "del", "ins"])
def test_marked_words_can_be_read(theme, name, palettes, contrast):
    colours = palettes(STYLE, SPEECH_STYLE)[theme]
    assert contrast(colours[name], colours["paper"]) >= 4.5


def test_the_plot_is_a_valid_figure_in_colours_of_the_style_sheet():
    from plotly import graph_objects

    found = SpeechEvidence.model_validate(told())
    (figure,) = sections(found, About())[0].figures
    assert figure.name == "wer-plot"
    plot = figure.plot
    text = json.dumps({"data": plot["data"], "layout": plot["layout"]})
    assert set(re.findall(r'"--([\w-]+)"', text)) <= set(re.findall(r"--([\w-]+):", STYLE))
    graph_objects.Figure(json.loads(re.sub(r'"--[\w-]+"', '"#123456"', text)))
    assert [trace["x"] for trace in plot["data"]] == [[40, 0, 20], [40, 20, 40], [40, 10, 30]]
