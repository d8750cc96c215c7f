"""The arms of a comparison as tables: what came out of each, what each is, and every seed."""

from __future__ import annotations

from redense.files.markup import Child, Element, h
from redense.lab.judging.results import tried_sentence
from redense.report.kit.parts import Cell, Table
from redense.report.kit.quantities import NOTHING, Number, cell, count, duration, estimate, whole

from .looks import swatch
from .numbers import decimals, has_intervals, points
from .types import Arm, Comparison, Difference
from .words import arms_sentence, table_sentence


def table_of_arms(c: Comparison) -> list[Child]:
    """Return the table of the arms, which runs diverged, and what can be unfolded below."""
    unit, apart = c.metric.unit, points(c)
    swept = any(arm.tried.settings > 1 for arm in c.arms)
    columns = [
        ("Arm", False),
        (f"{_figure(c)}{f', {unit}' if unit else ''}", True),
        (f"Against {'baseline' if c.form == 'recipe' else c.baseline}{f', {apart}' if apart else ''}", True),
        *((f"Against {control}{f', {apart}' if apart else ''}", True) for control in _controls(c)),
        ("Steps", True),
        ("Gradients", True),
        ("Time", True),
        ("Weights", True),
        ("Non\u2011zero", True),
        *([("Settings", False)] if swept else []),
        ("Note", False),
    ]
    rows: list[list[Cell]] = [
        [
            [swatch(arm), " ", arm.name],
            arm.ended if arm.mean is None else estimate(arm.mean, arm.interval, decimals(c)),
            _against(c, c.difference(arm.name, c.baseline)),
            *(_against(c, c.difference(arm.name, control)) for control in _controls(c)),
            whole(arm.steps),
            whole(arm.gradients),
            NOTHING if arm.seconds is None else duration(arm.seconds),
            whole(arm.parameters),
            whole(arm.nonzeros),
            *([_settings(arm)] if swept else []),
            h("span", "; ".join(filter(None, [arm.note, _divergence(arm)])), class_="wrap")
            if arm.note or arm.diverged
            else "",
        ]
        for arm in c.arms
    ]
    if c.form != "recipe":  # what nobody told has no column
        told = [index for index in range(len(columns)) if any(row[index] != NOTHING for row in rows)]
        columns = [columns[index] for index in told]
        rows = [[row[index] for index in told] for row in rows]
    noted = "noted"
    if not any(arm.note or arm.diverged for arm in c.arms):
        columns, rows, noted = columns[:-1], [row[:-1] for row in rows], ""
    if has_intervals(c):
        caption = "Mean ± half its 95 % interval over seeds; a difference is named where it is more than chance"
    elif any(len(arm.alive) > 1 for arm in c.arms):
        caption = "Means over seeds that all have the same figure; without a spread there is no interval"
    else:
        caption = "The figures of single runs; what of a difference is chance cannot be told"
    settings = tried_sentence({arm.name: arm.tried for arm in c.arms})
    return [
        h("p", table_sentence(c)),
        *([h("p", settings, class_="note")] if settings else []),
        Table(caption, columns, rows, class_=noted),
        *_diverged(c),
        h("details", h("summary", "What each arm is"), h("p", arms_sentence(c)), _what_they_are(c)),
        h("details", h("summary", "Every seed"), _every_seed(c)),
    ]


def _against(c: Comparison, item: Difference | None) -> Number:
    if item is None:
        return NOTHING
    word = item.verdict if item.verdict in ("better", "worse", "equivalent") else ""
    return estimate(item.mean, item.interval, decimals(c), signed=True, word=word)


def _settings(arm: Arm) -> str:
    if arm.tried.settings == 1:
        return "1"
    return f"best of {arm.tried.settings}" if arm.tried.best else f"one of {arm.tried.settings}"


def _divergence(arm: Arm) -> str:
    return f"{len(arm.diverged)} of {count(len(arm.seeds), 'run')} {arm.ended}" if arm.diverged else ""


def _diverged(c: Comparison) -> list[Element]:
    runs = [f"{arm.name}, seed {seed.seed}: {seed.failed}" for arm in c.arms for seed in arm.diverged]
    if not runs:
        return []
    return [h("p", f"Runs that {c.ended}, and why:"), h("ul", [h("li", run) for run in runs], class_="said")]


def _what_they_are(c: Comparison) -> Table:
    columns = [("Arm", False), ("Phases", False), ("Source", False)]
    rows: list[list[Cell]] = [
        [
            [arm.name, h("span", arm.about, class_="about")],
            [h("span", f"{span.name}: {span.about}", h("br")) for span in arm.phases],
            h("span", arm.source, class_="wrap") if arm.source else NOTHING,
        ]
        for arm in c.arms
    ]
    return Table("What each arm is, phase by phase", columns, rows)


def _every_seed(c: Comparison) -> Table:
    seeds = list(dict.fromkeys(seed.seed for arm in c.arms for seed in arm.seeds))
    columns = [("Arm", False), *((f"Seed {seed}", True) for seed in seeds)]
    rows: list[list[Cell]] = []
    for arm in c.arms:
        runs = {seed.seed: seed for seed in arm.seeds}
        cells = [
            NOTHING if seed not in runs else arm.ended if runs[seed].failed else cell(runs[seed].test, decimals(c))
            for seed in seeds
        ]
        rows.append([arm.name, *cells])
    unit = f", {c.metric.unit}" if c.metric.unit else ""
    return Table(f"{_figure(c)}{unit} of every run", columns, rows)


def _figure(c: Comparison) -> str:
    return c.figure[:1].upper() + c.figure[1:]


def _controls(c: Comparison) -> list[str]:
    """The controls that have a column beside that of the baseline."""
    return [control for control in c.controls if control != c.baseline]
