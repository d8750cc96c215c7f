"""The page of a comparison: one HTML file that asks nothing of any network, on screen, phone and paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from redense.files.checksums import check_folder
from redense.files.markup import Child, h
from redense.lab.headings import heading_of, on_other_data
from redense.lab.judging.words import control_sentence
from redense.report.kit.assets import asset
from redense.report.kit.document import Page, Section, write_page
from redense.report.kit.parts import (
    Cell,
    Column,
    Figure,
    Table,
    big_figures,
    command_list,
    data_link,
    downloads,
    environment_table,
    table_of,
)
from redense.report.kit.quantities import NOTHING, between, cell, count, learning_rate, p_value, share, titled, whole
from redense.report.runs import commands
from redense.report.runs.evidence import noted, show_evidence

from . import curves as compare_curves
from . import diagnosis, figures, words
from .looks import swatch
from .reading import read_comparison
from .search import search_parts
from .tables import table_of_arms
from .types import Comparison, Difference
from .verdict import gains, headline, key_figures, remarks, said_of

BY_RECIPE = "RecipeTraining"  # the code of arms that `redense search` and `tune` train
_RAW = {
    "compare.json": "application/json",
    "compare.csv": "text/csv",
    "costs.json": "application/json",
    "curves.json": "application/json",
    "evidence.json": "application/json",
    "diagnosis.json": "application/json",
}


def write_compare_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a comparison and return its path.

    Raises:
        DataError: ``folder`` is no finished comparison, or a file in it is damaged.
        CheckpointError: a file in it does not match its checksum.
    """
    check_folder(folder)
    return write_page(folder, read_page(folder))


def read_page(folder: Path) -> Page:
    """Return the page of the comparison in a folder."""
    return make_page(read_comparison(folder))


def make_page(c: Comparison) -> Page:
    """Return the page of a comparison."""
    sections = [
        Section("verdict", "Verdict", _verdict(c)),
        Section("searched", "The search", search_parts(c.search) if c.search else None),
        Section("arms", "The arms", table_of_arms(c)),
        Section("differences", "Differences", _differences(c)),
        Section("validation", "Curves", _curves(c), script=asset("comparisons/comparison.js")),
        Section("spent", f"Cost against {c.metric.label}", _cost(c)),
        Section("examples", "Example by example", _mcnemar(c) if c.form == "recipe" else None),
        *show_evidence(c.evidence, f", seed {c.seeds[0]}"),
        Section("diagnosis", "Diagnosis", diagnosis.parts_of(c)),
        Section("method", "How this was decided", h("p", words.method(c))),
        Section("provenance", "To reproduce it", _provenance(c)),
    ]
    facts = [c.task, count(len(c.arms), "arm"), count(len(c.seeds), "seed")]
    if c.test_examples:
        facts.append(count(c.test_examples, "test example"))
    asked = c.asked.get("recipe") or {}
    about = str(asked.get("about") or "") if isinstance(asked, Mapping) else ""
    return Page(
        kind="redense comparison" if c.form != "table" else "redense judgement",
        name=heading_of(c.recipe, about),
        facts=[on_other_data(c.recipe, about), *facts],
        sections=[replace(section, class_=section.class_ or section.name) for section in sections if section.parts],
        style=asset("comparisons/comparison.css"),
    )


# --- the sections ---------------------------------------------------------------------------------------------------


def _verdict(c: Comparison) -> list[Child]:
    won = {arm.name for arm in gains(c)}
    said = [
        h(
            "div",
            h("dt", swatch(arm), arm.name),
            h("dd", said_of(c, arm.name), class_="gain" if arm.name in won else None),
        )
        for arm in c.arms
        if arm.name in c.conclusions
    ]
    return [
        h("p", headline(c), class_="sentence"),
        big_figures(key_figures(c)),
        h("p", control_sentence(c.decision), class_="note"),
        *([h("p", c.caution, class_="caution")] if c.caution else []),
        *([h("dl", said, class_="conclusions")] if said else []),
        *(h("p", remark, class_="note") for remark in remarks(c) if remark),
        *(h("p", note, class_="note") for note in noted(c.notes, c.evidence)),
    ]


def _differences(c: Comparison) -> list[Child]:
    if not c.opponents:
        return [h("p", words.forest_sentence(c))]
    forests = {
        other: Figure(
            f"forest-{other}", words.describe_forest(c, other), words.pairs(c, other), figures.forest(c, other)
        )
        for other in c.opponents
    }
    halves = [h("div", h("h3", f"Against {words.named(c, other)}"), plot) for other, plot in forests.items()]
    missing = (
        [] if c.controls else [h("p", "No arm beside the baseline counts as a control without a mask.", class_="note")]
    )
    sentences = [h("li", item.sentence) for item in c.differences]
    return [
        h("p", words.forest_sentence(c)),
        h("div", halves, class_="pair"),
        *missing,
        h("p", words.forest_caption(c), class_="note"),
        h("details", h("summary", "Every comparison in words"), h("ul", sentences, class_="said")),
        h("details", h("summary", "Every comparison in numbers"), _numbers(c)),
    ]


def _numbers(c: Comparison) -> Table:
    apart, places = c.points, c.decimals
    return table_of(
        "Paired differences, arm − other",
        c.differences,
        [
            ("Arm", False, lambda item: item.arm),
            ("Against", False, lambda item: item.against),
            ("n", True, lambda item: str(item.paired.n)),
            (titled("Difference", apart), True, lambda item: cell(item.paired.mean, places, signed=True)),
            ("95 % interval", True, lambda item: between(item.paired.interval, places)),
            ("p, t-test", True, lambda item: p_value(item.paired.p_t)),
            ("p, sign flips", True, lambda item: p_value(item.paired.p_flip)),
            ("p, corrected", True, lambda item: p_value(item.p_adjusted)),
            ("d\u2009z", True, lambda item: cell(item.paired.effect, 2)),
            (titled("At most better", apart), True, lambda item: _at_most(item.reach and item.reach[0], places)),
            (titled("At most worse", apart), True, lambda item: _at_most(item.reach and item.reach[1], places)),
            (titled("Detectable", apart), True, lambda item: cell(item.detectable, places)),
            ("Seeds for 80 %", True, lambda item: whole(item.seeds_needed)),
            ("Verdict", False, lambda item: item.verdict),
        ],
        tall=len(c.differences) > 20,
    )


def _at_most(size: float | None, places: int) -> Cell:
    """Return how far the interval reaches to a side; a side that it excludes has no number."""
    return "none" if size is not None and size <= 0 else cell(size, places)


def _curves(c: Comparison) -> list[Child]:
    plot = compare_curves.curves(c)
    if plot is None:
        return []
    arms, places = [arm for arm in c.arms if arm.curve], c.decimals
    validation = titled(f"Validation {c.metric.label}", c.metric.unit)
    boxes = [h("input", type="checkbox", value=arm.index, checked=True) for arm in arms]
    labels = [h("label", box, swatch(arm), arm.name) for box, arm in zip(boxes, arms, strict=True)]
    buttons = [h("button", text, type="button", value=text) for text in ("all", "none")]
    toggles = h("fieldset", h("legend", "Arms"), labels, buttons, class_="toggles")
    numbers = table_of(
        "Every arm",
        [point for arm in arms for point in arm.curve],
        [
            ("Arm", False, lambda point: point.arm),
            ("Step", True, lambda point: whole(point.step)),
            ("Phase", False, lambda point: point.phase),
            (f"{validation}, mean", True, lambda point: cell(point.mean, places)),
            ("Lowest and highest seed", True, lambda point: between((point.low, point.high), places)),
            ("Seeds", True, lambda point: str(point.seeds)),
            ("Training loss", True, lambda point: cell(point.loss, 4)),
            ("LR", True, lambda point: learning_rate(point.lr)),
            ("Sparsity", True, lambda point: share(point.sparsity)),
        ],
        tall=True,
    )
    return [
        h("p", words.curves_sentence(c)),
        toggles,
        Figure("curves", words.describe_curves(c), compare_curves.curves_caption(c), plot),
        h("details", h("summary", "The curves as a table"), numbers, class_="screen"),
    ]


def _cost(c: Comparison) -> list[Child]:
    plot = figures.cost(c)
    if plot is None:
        return []
    key = [h("li", swatch(arm), arm.name) for arm in c.arms if arm.mean is not None]
    mean = "Mean over seeds with its 95 % interval" if c.has_intervals else "Figures of single runs"
    caption = f"{mean}; arms of the same cost stand beside each other around it."
    if (baseline := c.arm(c.decision.baseline)) and baseline.mean is not None:
        caption += f" Dotted: {c.named(c.baseline)}."
    return [
        h("p", words.cost_sentence(c)),
        h("ul", key, class_="key", aria_label="Key"),
        Figure("cost", words.describe_cost(c), caption, plot),
    ]


def _mcnemar(c: Comparison) -> list[Child]:
    parts: list[Child] = [h("p", words.mcnemar_sentence(c))]
    if any(item.examples for item in c.differences):
        parts += [_pooled(c), h("p", words.POOLED, class_="note")]
    for against in c.opponents:
        items = [item for item in c.against(against) if item.flips]
        if not items:
            continue
        run = {flips.seed for item in items for flips in item.flips}
        columns: list[Column[Difference]] = [
            ("Arm", False, lambda item: item.arm),
            *((f"Seed {seed}", True, partial(_flips, seed)) for seed in c.seeds if seed in run),
        ]
        caption = f"Test examples that only the arm / only {c.named(against)} gets right, and McNemar's exact p"
        parts.append(table_of(caption, items, columns))
    return parts


def _flips(seed: int | str, item: Difference) -> Cell:
    one = {flips.seed: flips for flips in item.flips}.get(seed)
    if one is None:
        return NOTHING
    p = p_value(one.p)
    equals = p if p.startswith("<") else f"= {p}"
    return [f"{one.fixed:,} / {one.broken:,}", h("span", f"p {equals}", class_="under")]


def _pooled(c: Comparison) -> Table:
    """The answers of all seeds together: McNemar's test, and the interval that has seeds and examples in it."""
    columns = [("Arm", False), ("Against", False), ("Only the arm right", True), ("Only the other", True), ("p", True)]
    columns += [("Share wrong, points", True), ("95 %, other seeds and examples", True)]
    rows: list[list[Cell]] = []
    for item in c.differences:
        if (found := item.examples) is not None:
            ends = (100 * found.interval[0], 100 * found.interval[1]) if found.interval else None
            mean = cell(100 * found.mean, 2, signed=True)
            numbers = [whole(found.fixed), whole(found.broken), p_value(found.p), mean, between(ends, 2)]
            rows.append([item.arm, item.against, *numbers])
    return Table("The answers of all seeds, example by example", columns, rows)


def _provenance(c: Comparison) -> list[Child]:
    if c.form != "recipe":
        return _given(c)
    import yaml

    recipe = c.asked.get("recipe")
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else ""
    typed = {
        "As it was started": str(c.environment.get("command") or ""),
        "The same again, from the recipe below saved as recipe.yaml": commands.compare_same_command(c) if text else "",
        "The results again, from what the store still has": commands.compare_again_command(c),
    }
    save = h("a", "recipe.yaml", href=data_link(text.encode(), "application/yaml"), download="recipe.yaml")
    return [
        h("p", f"The recipe, where it ran, and the raw numbers of all {count(len(c.arms) * len(c.seeds), 'run')}."),
        h("h3", "Commands"),
        command_list(typed),
        h("h3", "Recipe"),
        [h("p", "To save: ", save), h("pre", h("code", text))] if text else h("p", "There is no comparison.json."),
        h("h3", "Environment"),
        environment_table(c.environment),
        h("h3", "Raw numbers"),
        downloads(c.path, _RAW),
    ]


def _trained(c: Comparison) -> str:
    by_recipe = any(BY_RECIPE in (arm.get("pieces") or {}) for arm in c.asked.get("arms") or ())
    return "a recipe, by redense search or tune" if by_recipe else "a training of your own, by redense.compare"


def _given(c: Comparison) -> list[Child]:
    """Describe the source of the numbers of somebody else's training."""
    runs = count(sum(len(arm.seeds) for arm in c.arms), "run")
    told = {
        "function": f"The numbers of {runs} of {_trained(c)}; the same call goes on.",
        "command": f"The numbers of {runs} of programs; what each printed lies in the folder, under pairs/.",
    }
    typed = {"As it was started": str(c.environment.get("command") or "")}
    if c.form == "command":
        typed["To go on with it"] = commands.compare_again_command(c)
    return [
        h("p", told.get(c.form, f"The numbers of {runs}, as they were given; nothing was trained here.")),
        *([h("h3", "Commands"), command_list(typed)] if any(typed.values()) else []),
        *([h("h3", "Environment"), environment_table(c.environment)] if c.environment else []),
        h("h3", "Raw numbers"),
        downloads(c.path, {**({} if c.form == "table" else {"comparison.json": "application/json"}), **_RAW}),
    ]
