"""The arms of a comparison as tables: what came out of each, what each is, and every seed."""

from __future__ import annotations

from functools import partial

from redense.files.markup import Child, Element, h
from redense.lab.judging.results import tried_sentence
from redense.report.kit.parts import Cell, Column, Table, table_of
from redense.report.kit.quantities import NOTHING, Number, cell, count, duration, estimate, titled, whole

from .looks import swatch
from .types import Arm, Comparison
from .words import arms_sentence, table_sentence


def table_of_arms(c: Comparison) -> list[Child]:
    """Return the table of the arms, which runs diverged, and what can be unfolded below."""
    apart = c.points
    others = {name: name for name in (c.baseline, *c.controls)}
    if c.form == "recipe":
        others[c.baseline] = "baseline"
    swept = any(arm.tried.settings > 1 for arm in c.arms)
    noted = any(arm.note or arm.diverged for arm in c.arms)
    columns: list[Column[Arm]] = [
        ("Arm", False, lambda arm: [swatch(arm), " ", arm.name]),
        (titled(_figure(c), c.metric.unit), True, lambda arm: _mean(c, arm)),
        *((titled(f"Against {called}", apart), True, partial(_against, c, other)) for other, called in others.items()),
        ("Steps", True, lambda arm: whole(arm.steps)),
        ("Gradients", True, lambda arm: whole(arm.gradients)),
        ("Time", True, lambda arm: NOTHING if arm.seconds is None else duration(arm.seconds)),
        ("Weights", True, lambda arm: whole(arm.parameters)),
        ("Non\u2011zero", True, lambda arm: whole(arm.nonzeros)),
        *([("Settings", False, _settings)] if swept else []),
        *([("Note", False, _note)] if noted else []),
    ]
    if c.form != "recipe":  # what nobody told has no column
        columns = [column for column in columns if any(column[2](arm) != NOTHING for arm in c.arms)]
    if c.has_intervals:
        caption = "Mean ± half its 95 % interval over seeds; a difference is named where it is more than chance"
    elif any(len(arm.alive) > 1 for arm in c.arms):
        caption = "Means over seeds that all have the same figure; without a spread there is no interval"
    else:
        caption = "The figures of single runs; what of a difference is chance cannot be told"
    settings = tried_sentence({arm.name: arm.tried for arm in c.arms})
    return [
        h("p", table_sentence(c)),
        *([h("p", settings, class_="note")] if settings else []),
        table_of(caption, c.arms, columns, class_="noted" if noted else ""),
        *_diverged(c),
        h("details", h("summary", "What each arm is"), h("p", arms_sentence(c)), _what_they_are(c)),
        h("details", h("summary", "Every seed"), _every_seed(c)),
    ]


def _mean(c: Comparison, arm: Arm) -> Cell:
    return arm.ended if arm.mean is None else estimate(arm.mean, arm.interval, c.decimals)


def _against(c: Comparison, other: str, arm: Arm) -> Number:
    if (item := c.difference(arm.name, other)) is None:
        return NOTHING
    word = item.verdict if item.verdict in ("better", "worse", "equivalent") else ""
    return estimate(item.paired.mean, item.paired.interval, c.decimals, signed=True, word=word)


def _settings(arm: Arm) -> str:
    if arm.tried.settings == 1:
        return "1"
    return f"best of {arm.tried.settings}" if arm.tried.best else f"one of {arm.tried.settings}"


def _note(arm: Arm) -> Cell:
    diverged = f"{len(arm.diverged)} of {count(len(arm.seeds), 'run')} {arm.ended}" if arm.diverged else ""
    said = "; ".join(filter(None, [arm.note, diverged]))
    return h("span", said, class_="wrap") if said else ""


def _diverged(c: Comparison) -> list[Element]:
    runs = [f"{arm.name}, seed {seed.seed}: {seed.failed}" for arm in c.arms for seed in arm.diverged]
    if not runs:
        return []
    return [h("p", f"Runs that {c.arms[0].ended}, and why:"), h("ul", [h("li", run) for run in runs], class_="said")]


def _what_they_are(c: Comparison) -> Table:
    return table_of(
        "What each arm is, phase by phase",
        c.arms,
        [
            ("Arm", False, lambda arm: [arm.name, h("span", arm.about, class_="about")]),
            ("Phases", False, lambda arm: [h("span", f"{one.name}: {one.about}", h("br")) for one in arm.phases]),
            ("Source", False, lambda arm: h("span", arm.source, class_="wrap") if arm.source else NOTHING),
        ],
    )


def _every_seed(c: Comparison) -> Table:
    def of(seed: int | str, arm: Arm) -> Cell:
        run = {run.seed: run for run in arm.seeds}.get(seed)
        return NOTHING if run is None else arm.ended if run.failed else cell(run.test, c.decimals)

    seeds = dict.fromkeys(seed.seed for arm in c.arms for seed in arm.seeds)
    columns = [(f"Seed {seed}", True, partial(of, seed)) for seed in seeds]
    return table_of(
        f"{titled(_figure(c), c.metric.unit)} of every run", c.arms, [("Arm", False, lambda arm: arm.name), *columns]
    )


def _figure(c: Comparison) -> str:
    return c.figure[:1].upper() + c.figure[1:]
