"""The page of a comparison: one HTML file that asks nothing of any network, on screen, phone and paper."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from .. import __version__
from . import compare_figures as figures
from . import compare_words as words
from . import diagnosis_part
from .assets import SCRIPT, STYLE
from .compare_assets import SCRIPT as COMPARE_SCRIPT
from .compare_assets import STYLE as COMPARE_STYLE
from .compare_reading import BASELINE, CONTROL, Arm, Comparison, Difference, read_comparison
from .markup import Child, Html, h, join
from .page import _MOST_EMBEDDED, _command, _data_block, _figure, _policy, _size, _table, flattened
from .quantities import NONE, count, duration, number

_KINDS = {
    "compare.json": "application/json",
    "compare.csv": "text/csv",
    "costs.json": "application/json",
    "curves.json": "application/json",
    "diagnosis.json": "application/json",
}


def write_compare_report(folder: Path) -> Path:
    """Write ``report.html`` into the folder of a comparison and return its path; it is replaced in one step.

    Raises:
        DataError: ``folder`` is no finished comparison, or a file in it is damaged.
    """
    target = folder / "report.html"
    text = render(read_comparison(folder))
    draft = folder / f".report.{os.getpid()}.html"
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def render(c: Comparison) -> str:
    """Return the page of a comparison."""
    from plotly.offline import get_plotlyjs

    flows = diagnosis_part.flows(c.diagnosis, c)
    diagnosis, diagnosed = diagnosis_part.parts_and_plots(flows, c.metric)
    drawn = {name: figures.forest(c, against) for name, against in figures.names_of_forests(c).items()}
    drawn |= {"curves": figures.curves(c), "cost": figures.cost(c), **diagnosed}
    plots = {name: plot for name, plot in drawn.items() if plot is not None}
    sections = {
        "verdict": ("Verdict", _verdict(c)),
        "arms": ("The arms", _table_of_arms(c)),
        "differences": ("Differences", _differences(c)),
        "validation": ("Validation curves", _curves(c) if "curves" in plots else []),
        "spent": (f"Cost against {c.metric.label}", _cost(c) if "cost" in plots else []),
        "examples": ("Example by example", _mcnemar(c)),
        "diagnosis": ("Diagnosis", [h("p", diagnosis_part.sentence(c.diagnosis, flows)), *diagnosis] if flows else []),
        "method": ("How this was decided", [h("p", words.statistics_sentences(c))]),
        "provenance": ("To reproduce it", _provenance(c)),
    }
    shown = {name: (title, parts) for name, (title, parts) in sections.items() if parts}
    scripts = [get_plotlyjs().replace("\r", ""), SCRIPT, COMPARE_SCRIPT] if plots else []
    body = h(
        "body",
        _header(c, {name: title for name, (title, _) in shown.items()}),
        h("main", [_section(name, title, parts) for name, (title, parts) in shown.items()]),
        h("footer", f"Made by redense {__version__}. This page loads nothing."),
        _data_block("plots", plots) if plots else None,
        [h("script", Html(script)) for script in scripts],
    )
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("link", rel="icon", href="data:,"),
        h("title", f"{c.recipe}: redense comparison"),
        h("style", Html(STYLE + COMPARE_STYLE)),
    )
    return f"<!doctype html>\n{h('html', head, body, lang='en')}\n"


def _header(c: Comparison, sections: Mapping[str, str]) -> Html:
    facts = [c.task, count(len(c.arms), "arm"), count(len(c.seeds), "seed")]
    if c.test_examples:
        facts.append(count(c.test_examples, "test example"))
    return h(
        "header",
        h("p", "redense comparison", class_="eyebrow"),
        h("h1", c.recipe),
        h("p", " · ".join(filter(None, facts)), class_="facts"),
        h(
            "nav",
            h("ul", [h("li", h("a", title, href=f"#{name}")) for name, title in sections.items()]),
            class_="contents",
            aria_label="Sections",
        ),
    )


def _section(name: str, title: str, parts: list[Html]) -> Html:
    heading = h("h2", title, id=f"{name}-heading")
    return h("section", heading, parts, id=name, class_=name, aria_labelledby=f"{name}-heading")


# --- the sections ---------------------------------------------------------------------------------------------------


def _verdict(c: Comparison) -> list[Html]:
    big = [
        h(
            "div",
            h("dt", figure.label),
            h("dd", figure.value, class_="value"),
            h("dd", figure.note, class_="note"),
            class_="missing" if figure.missing else None,
        )
        for figure in words.figures(c)
    ]
    won = {arm.name for arm in words.gains(c)}
    said = [
        h(
            "div",
            h("dt", figures.swatch(arm), arm.name),
            h("dd", words.conclusion(c, arm.name), class_="gain" if arm.name in won else None),
        )
        for arm in c.arms
        if arm.name in c.conclusions
    ]
    return [
        h("p", words.headline(c), class_="sentence"),
        h("dl", big, class_="figures"),
        *([h("p", c.caution, class_="caution")] if c.caution else []),
        *([h("dl", said, class_="conclusions")] if said else []),
        *(h("p", remark, class_="note") for remark in words.remarks(c) if remark),
    ]


def _table_of_arms(c: Comparison) -> list[Html]:
    unit, apart = c.metric.unit, words.points(c)
    columns = [
        ("Arm", False),
        (f"Test {c.metric.label}{f', {unit}' if unit else ''}", True),
        (f"Against baseline{f', {apart}' if apart else ''}", True),
        (f"Against {CONTROL}{f', {apart}' if apart else ''}", True),
        ("Steps", True),
        ("Gradients", True),
        ("Time", True),
        ("Weights", True),
        ("Non\u2011zero", True),
        ("Note", False),
    ]
    rows: list[list[Child]] = [
        [
            [figures.swatch(arm), " ", arm.name],
            "diverged" if arm.mean is None else words.with_interval(arm.mean, arm.interval, words.decimals(c)),
            _against(c, c.difference(arm.name, BASELINE)),
            _against(c, c.difference(arm.name, CONTROL)),
            f"{arm.steps:,}",
            f"{arm.gradients:,}",
            duration(arm.seconds),
            NONE if arm.parameters is None else f"{arm.parameters:,}",
            NONE if arm.nonzeros is None else f"{arm.nonzeros:,.0f}",
            h("span", "; ".join(filter(None, [arm.note, _divergence(arm)])), class_="wrap")
            if arm.note or arm.diverged
            else "",
        ]
        for arm in c.arms
    ]
    noted = "noted"
    if not any(arm.note or arm.diverged for arm in c.arms):
        columns, rows, noted = columns[:-1], [row[:-1] for row in rows], ""
    caption = "Mean ± half its 95 % interval over seeds; a difference is named where it is more than chance"
    if not words.has_intervals(c):
        caption = "The figures of single runs; what of a difference is chance cannot be told"
    return [
        h("p", words.table_sentence(c)),
        _table(caption, columns, rows, class_=noted),
        *_diverged(c),
        h("details", h("summary", "What each arm is"), h("p", words.arms_sentence(c)), _what_they_are(c)),
        h("details", h("summary", "Every seed"), _every_seed(c)),
    ]


def _against(c: Comparison, item: Difference | None) -> Child:
    if item is None:
        return NONE
    shown = words.with_interval(item.mean, item.interval, words.decimals(c), signed=True)
    if item.verdict not in ("better", "worse"):
        return shown
    return [shown, " ", h("span", item.verdict, class_=item.verdict)]


def _divergence(arm: Arm) -> str:
    return f"{len(arm.diverged)} of {count(len(arm.seeds), 'run')} diverged" if arm.diverged else ""


def _diverged(c: Comparison) -> list[Html]:
    runs = [f"{arm.name}, seed {seed.seed}: {seed.failed}" for arm in c.arms for seed in arm.diverged]
    if not runs:
        return []
    return [h("p", "Runs that diverged, and why:"), h("ul", [h("li", run) for run in runs], class_="said")]


def _what_they_are(c: Comparison) -> Html:
    columns = [("Arm", False), ("Phases", False), ("Source", False)]
    rows: list[list[Child]] = [
        [
            [arm.name, h("span", arm.about, class_="about")],
            [h("span", f"{span.name}: {span.about}", h("br")) for span in arm.phases],
            h("span", arm.source or NONE, class_="wrap"),
        ]
        for arm in c.arms
    ]
    return _table("What each arm is, phase by phase", columns, rows)


def _every_seed(c: Comparison) -> Html:
    seeds = list(dict.fromkeys(seed.seed for arm in c.arms for seed in arm.seeds))
    columns = [("Arm", False), *((f"Seed {seed}", True) for seed in seeds)]
    rows: list[list[Child]] = []
    for arm in c.arms:
        runs = {seed.seed: seed for seed in arm.seeds}
        cells = [
            NONE
            if seed not in runs
            else "diverged"
            if runs[seed].failed
            else number(runs[seed].test, words.decimals(c))
            for seed in seeds
        ]
        rows.append([arm.name, *cells])
    unit = f", {c.metric.unit}" if c.metric.unit else ""
    return _table(f"Test {c.metric.label}{unit} of every run", columns, rows)


def _differences(c: Comparison) -> list[Html]:
    forests = figures.names_of_forests(c)
    if not forests:
        return [h("p", words.forest_sentence(c))]
    titles = {BASELINE: "Against the dense baseline", CONTROL: f"Against {CONTROL}, the same budget without a mask"}
    halves = [
        h("div", h("h3", titles[against]), _figure(name, words.describe_forest(c, against), words.pairs(c, against)))
        for name, against in forests.items()
    ]
    missing = [] if CONTROL in forests.values() else [h("p", f"{CONTROL}, the control, was not run.", class_="note")]
    sentences = [h("li", item.sentence) for item in c.differences]
    return [
        h("p", words.forest_sentence(c)),
        h("div", halves, class_="pair"),
        *missing,
        h("p", words.forest_caption(c), class_="note"),
        h("details", h("summary", "Every comparison in words"), h("ul", sentences, class_="said")),
        h("details", h("summary", "Every comparison in numbers"), _numbers(c)),
    ]


def _numbers(c: Comparison) -> Html:
    apart, places = words.points(c), words.decimals(c)
    unit = f", {apart}" if apart else ""
    columns = [
        ("Arm", False),
        ("Against", False),
        ("n", True),
        (f"Difference{unit}", True),
        ("95 % interval", True),
        ("p, t-test", True),
        ("p, sign flips", True),
        ("p after Holm", True),
        (f"Detectable{unit}", True),
        ("Verdict", False),
    ]
    rows: list[list[Child]] = [
        [
            item.arm,
            item.against,
            str(item.n),
            words.with_interval(item.mean, None, places, signed=True),
            f"{number(item.interval[0], places)} to {number(item.interval[1], places)}" if item.interval else NONE,
            words.p_value(item.p_t),
            words.p_value(item.p_flip),
            words.p_value(item.p_adjusted),
            number(item.detectable, places),
            item.verdict,
        ]
        for item in c.differences
    ]
    return _table("Paired differences, arm − other", columns, rows, tall=len(rows) > 20)


def _curves(c: Comparison) -> list[Html]:
    arms = [arm for arm in c.arms if arm.curve]
    labels = [h("label", _checkbox(arm.index), figures.swatch(arm), arm.name) for arm in arms]
    buttons = [h("button", text, type="button", value=value) for text, value in (("all", "all"), ("none", "none"))]
    toggles = h("fieldset", h("legend", "Arms"), labels, buttons, class_="toggles")
    rows: list[list[Child]] = [
        [
            arm.name,
            f"{point.step:,}",
            point.phase,
            number(point.mean, words.decimals(c)),
            f"{number(point.low, words.decimals(c))} to {number(point.high, words.decimals(c))}",
            str(point.seeds),
        ]
        for arm in arms
        for point in arm.curve
    ]
    unit = f", {c.metric.unit}" if c.metric.unit else ""
    columns = [
        ("Arm", False),
        ("Step", True),
        ("Phase", False),
        (f"Validation {c.metric.label}{unit}, mean", True),
        ("Lowest and highest seed", True),
        ("Seeds", True),
    ]
    table = h(
        "details", h("summary", "The curves as a table"), _table("Every arm", columns, rows, tall=True), class_="screen"
    )
    return [
        h("p", words.curves_sentence(c)),
        toggles,
        _figure("curves", words.describe_curves(c), figures.curves_caption(c)),
        table,
    ]


def _checkbox(value: int) -> Html:
    return Html(f'<input type="checkbox" value="{value}" checked>')


def _cost(c: Comparison) -> list[Html]:
    key = [h("li", figures.swatch(arm), arm.name) for arm in c.arms if arm.mean is not None]
    mean = "Mean over seeds with its 95 % interval" if words.has_intervals(c) else "Figures of single runs"
    caption = f"{mean}; arms of the same cost stand beside each other around it."
    if (baseline := c.arm(BASELINE)) and baseline.mean is not None:
        caption += " Dotted: the dense baseline."
    return [
        h("p", words.cost_sentence(c)),
        h("ul", key, class_="key", aria_label="Key"),
        _figure("cost", words.describe_cost(c), caption),
    ]


def _mcnemar(c: Comparison) -> list[Html]:
    parts = [h("p", words.mcnemar_sentence(c))]
    for against in (BASELINE, CONTROL):
        items = [item for item in c.against(against) if item.flips]
        if not items:
            continue
        seeds = sorted({flips.seed for item in items for flips in item.flips})
        columns = [("Arm", False), *((f"Seed {seed}", True) for seed in seeds)]
        rows: list[list[Child]] = []
        for item in items:
            by_seed = {flips.seed: flips for flips in item.flips}
            cells: list[Child] = [
                [f"{one.fixed:,} / {one.broken:,}", h("span", f"p {_equals(one.p)}", class_="under")]
                if (one := by_seed.get(seed))
                else NONE
                for seed in seeds
            ]
            rows.append([item.arm, *cells])
        other = "the dense baseline" if against == BASELINE else against
        parts.append(
            _table(f"Test examples that only the arm / only {other} gets right, and McNemar's exact p", columns, rows)
        )
    return parts


def _equals(p: float) -> str:
    text = words.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _provenance(c: Comparison) -> list[Html]:
    recipe = c.asked.get("recipe")
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else ""
    commands = {
        "As it was started": str(c.environment.get("command") or ""),
        "The same again, from the recipe below saved as recipe.yaml": words.reproduce_command(c) if text else "",
        "The results again, from what the store still has": words.again_command(c),
    }
    listed = [join(h("dt", name), h("dd", _command(line))) for name, line in commands.items() if line]
    environment: list[list[Child]] = [[name, value] for name, value in flattened(c.environment)]
    columns = [("What", False), ("Value", False)]
    save = h("a", "recipe.yaml", href=_data_link(text.encode(), "application/yaml"), download="recipe.yaml")
    return [
        h("p", f"The recipe, where it ran, and the raw numbers of all {count(len(c.arms) * len(c.seeds), 'run')}."),
        h("h3", "Commands"),
        h("dl", listed, class_="commands"),
        h("h3", "Recipe"),
        join(h("p", "To save: ", save), h("pre", h("code", text))) if text else h("p", "There is no comparison.json."),
        h("h3", "Environment"),
        _table("What it ran on", columns, environment, class_="environment")
        if environment
        else h("p", "There is no environment.json."),
        h("h3", "Raw numbers"),
        _downloads(c.path),
    ]


def _downloads(folder: Path) -> Html:
    items: list[Html] = []
    for name, kind in _KINDS.items():
        path = folder / name
        if not path.is_file():
            continue
        size = path.stat().st_size
        if size > _MOST_EMBEDDED:
            items.append(h("li", f"{name}, {_size(size)}, too large for this page: it lies beside it"))
            continue
        link = h("a", name, href=_data_link(path.read_bytes(), kind), download=name)
        items.append(h("li", link, f", {_size(size)}, is in this page"))
    return h("ul", items)


def _data_link(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
