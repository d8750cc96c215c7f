"""Every arm has its card: words from one place, phases from the arm itself, figures from the results that we keep."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")

from redense import cli
from redense.lab.arms import card_of, get_arms
from redense.lab.arms.cards import CARDS, PAPERS
from redense.lab.recipe.recipe import load_recipe

NAMES = [arm.name for arm in get_arms()]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        import method_cards  # pyright: ignore[reportMissingImports]  # of tools/

        return method_cards.pages()


def test_every_arm_has_a_card_and_every_card_an_arm():
    arms = {arm.name: card_of(arm) for arm in get_arms()}
    assert None not in arms.values()
    assert not set(CARDS) - set(arms)


def test_every_source_is_a_paper_that_can_be_read_or_our_own():
    assert {arm.source for arm in get_arms()} == {*PAPERS, "our own control"}
    for title, link in PAPERS.values():
        assert title
        assert link.startswith("https://")


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_budget_settings_when_and_what_was_measured(name: str, pages: dict[str, str]):
    page = pages[f"methods/{name}.md"]
    for part in (
        "**Source**",
        "**Budget**",
        "## What it does",
        "## What can be set",
        "## When to",
        "## What we measured",
    ):
        assert part in page
    assert not re.search(r"\.\.[^/]|\bNone\b|<class", page)
    for setting in re.findall(r"`((?:sparse|prune|model)\.\w+)", page):
        section, key = setting.split(".")
        cli.parse(["run", "quickstart", f"--{section}.{key}", "1"])
        assert key in type(getattr(load_recipe("quickstart"), section)).model_fields, f"{setting} is no setting"
    for line in re.findall(r"(?m)^redense .*$", page):
        options, _ = cli.parse(shlex.split(line)[1:])
        assert get_arms(options.arms.split(","))


def test_figures_are_those_of_the_results(pages: dict[str, str]):
    result = json.loads((ROOT / "results" / "quickstart" / "compare.json").read_text())
    mean = next(row["mean"] for row in result["rows"] if row["arm"] == "dsd sparsity=0.3")
    assert f"| `quickstart` | `dsd sparsity=0.3` | error {mean:.2f} ±" in pages["methods/dsd.md"]
    assert "Not yet" not in pages["methods/dsd.md"]
    assert "| against the control that decides |" in pages["methods/dsd.md"]
    assert "`restart`: " in pages["methods/dsd.md"]
    assert "`restart`: " not in pages["methods/restart.md"]  # it is no gain over itself
    measured = {row["arm"].split()[0] for path in ROOT.glob("results/*/compare.json") for row in _rows(path)}
    for name in NAMES:
        assert ("Not yet" in pages[f"methods/{name}.md"]) == (name not in measured)


def _rows(path: Path) -> list[dict[str, str]]:
    return json.loads(path.read_text())["rows"]


def test_the_budget_is_that_of_dsd_but_where_the_card_says_otherwise(pages: dict[str, str]):
    other = [name for name in NAMES if "**Budget** | That of `dsd`: " not in pages[f"methods/{name}.md"]]
    assert other == ["ensemble"]
    assert "2,800 optimizer steps" in pages["methods/sam.md"]  # each of them with two gradients


def test_the_index_names_all(pages: dict[str, str]):
    assert set(pages) == {"methods/index.md", *(f"methods/{name}.md" for name in NAMES)}
    for name in NAMES:
        assert f"[`{name}`]({name}.md)" in pages["methods/index.md"]


def test_a_verdict_on_a_card_is_by_the_margin_that_was_set_beforehand(pages: dict[str, str]):
    told = [line for line in pages["methods/surgery.md"].splitlines() if line.startswith("| `arms-quickstart`")]
    assert [line.count("equivalent") for line in told] == [1]
    (ensemble,) = [line for line in pages["methods/ensemble.md"].splitlines() if line.startswith("| `arms-quickstart`")]
    assert "| error 12.43 % |" in ensemble  # one network of all seeds: no interval
