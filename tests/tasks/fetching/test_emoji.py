"""Emoji in order: which picture is of which concept, and which concept is on which side."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense.tasks import catalog
from redense.tasks.fetching.emoji import STYLES, Picture, arrange, family_of, split_by_concept


def picture(code: str, style: str = "google", group: str = "food", digest: str | None = None) -> Picture:
    return Picture(Path(f"{code}.png"), style, code, f"the {code}", group, digest or f"{code}-{style}")


codes = st.lists(st.integers(0x1F300, 0x1F5FF).map("{:x}".format), min_size=5, max_size=40, unique=True)


@given(codes=codes, groups=st.integers(1, 3))
def test_the_three_sides_share_no_concept_and_miss_none(codes: list[str], groups: int):
    pictures = [
        picture(code, style, f"group{index % groups}") for index, code in enumerate(codes) for style in ("a", "b")
    ]
    splits = split_by_concept(pictures)
    assert sorted(p.digest for part in splits.values() for p in part) == sorted(p.digest for p in pictures)
    sides = {name: {p.code for p in part} for name, part in splits.items()}
    assert not sides["train"] & sides["test"]
    assert not sides["train"] & sides["validation"]
    assert not sides["validation"] & sides["test"]
    assert {p.group for p in splits["test"]} == {p.group for p in pictures}


def test_the_forms_of_one_thing_for_man_woman_and_person_are_one_family():
    assert len({family_of(code) for code in ("1f468-1f692", "1f469-1f692", "1f9d1-1f692")}) == 1
    assert family_of("1f6a3-2640") == family_of("1f6a3-2642") == family_of("1f6a3")
    assert family_of("1f6a3") != family_of("1f6a4")


def test_concepts_that_share_a_file_are_on_one_side_and_the_file_is_there_once():
    pictures = [picture(f"{number:x}", style) for number in range(40) for style in ("google", "twitter")]
    for index in range(0, 80, 8):  # every fourth concept looks like the next in one style
        pictures[index + 2] = picture(pictures[index + 2].code, digest=pictures[index].digest)
    splits = split_by_concept(pictures)
    side = {p.code: name for name, part in splits.items() for p in part}
    for number in range(0, 40, 4):
        assert side[f"{number:x}"] == side[f"{number + 1:x}"]
    digests = [p.digest for part in splits.values() for p in part]
    assert len(digests) == len(set(digests)) == 70


def test_a_file_that_two_groups_share_is_left_out():
    pictures = [
        picture(f"{n:x}", group=group) for group, start in (("a", 0), ("b", 20)) for n in range(start, start + 10)
    ]
    pictures += [picture("99", group="a", digest="same"), picture("98", group="b", digest="same")]
    assert "same" not in {p.digest for part in split_by_concept(pictures).values() for p in part}


def test_pictures_are_matched_to_names_without_joiners_and_skin_tones_are_left_out(tmp_path: Path):
    names = tmp_path / "names"
    (names / "en").mkdir(parents=True)
    (names / "meta").mkdir()
    concepts = [
        {"hexcode": f"1F34{n:X}", "label": f"fruit: no. {n}!", "group": 4, "skins": [{"hexcode": f"1F34{n:X}-1F3FB"}]}
        for n in range(10)
    ]
    concepts += [{"hexcode": "2764-FE0F-200D-1F525", "label": "heart on fire", "group": 8}]
    concepts += [{"hexcode": "1F1E6", "label": "regional indicator A"}]
    (names / "en/data.json").write_text(json.dumps(concepts))
    (names / "meta/groups.json").write_text(json.dumps({"groups": {"4": "food-drink", "8": "symbols"}}))
    folders = []
    for style, inside in STYLES.items():
        folder = tmp_path / style / inside
        folder.mkdir(parents=True)
        folders.append(tmp_path / style)
        for name in (*(f"1f34{n:x}" for n in range(10)), "1f340-1f3fb", "2764-fe0f-200d-1f525", "1f1e6", "ffff"):
            (folder / f"{name}.png").write_text(f"{style} {name}")
    texts = tmp_path / "texts"
    (texts / "lib/data").mkdir(parents=True)
    (texts / "lib/data/1.json").write_text(
        json.dumps({"codepointsHex": ["U+1F340"], "description": "A green leaf, seen from its side."})
    )
    (tmp_path / "ready").mkdir()
    arrange([names, *folders, texts], tmp_path / "ready")
    found = sorted(path.relative_to(tmp_path / "ready").as_posix() for path in (tmp_path / "ready").rglob("*.png"))
    assert len(found) == 33
    assert "test/symbols/2764-1f525-heart-on-fire-fluent.png" in found
    assert any(name.endswith("food-drink/1f340-fruit-no-0-twitter.png") for name in found)
    sides = defaultdict(set)
    for name in found:
        sides[name.split("/")[2].split("-")[0]].add(name.split("/")[0])
    assert all(len(names) == 1 for names in sides.values())
    listed = json.loads((tmp_path / "ready/dataset.json").read_text())["images"]
    assert len(listed) == 3
    assert {item["filename"].split("/")[0] for item in listed} == {item["split"] for item in listed} == sides["1f340"]
    assert all((tmp_path / "ready" / item["filename"]).is_file() for item in listed)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm")
def test_emoji_are_really_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    folder = catalog.get(catalog.find("emoji"))
    assert folder == catalog.check(catalog.find("emoji"))
    counts = {part: len(list((folder / part).glob("*/*"))) for part in ("train", "validation", "test")}
    assert counts == {"train": 4531, "validation": 540, "test": 554}
    assert len(list((folder / "train").iterdir())) == 10


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian system")
def test_openclipart_is_really_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    folder = catalog.get(catalog.find("openclipart"))
    assert len(list(folder.rglob("*.png"))) == 6900
    assert sum(path.is_dir() for path in folder.iterdir()) == 22
