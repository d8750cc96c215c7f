"""Make the pages of the method cards for `make docs`, and put them into the site: mkdocs calls the functions on_*.

Words are from `redense.lab.arms.cards`, phases and budget from the arm itself in the quickstart's setting, and figures
from `results/*/compare.json`. Nothing is written into docs/.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import redense
from redense.errors import RecipeError
from redense.lab.arms import Arm, Setting, card_of, get_arms
from redense.lab.arms.cards import PAPERS
from redense.lab.judging.verdicts import Decision
from redense.lab.recipe.recipe import load_recipe
from redense.lab.training.plan import PlannedPhase
from redense.methods.base import make_method

RESULTS = Path(__file__).parent.parent / "results"
INTRODUCTION = (
    "What `redense compare` can set beside each other: DSD, its controls, its ablations, and what a user might try",
    "instead. All have the budget of `dsd`, unless their card says otherwise, and share the phases that are alike.",
    "`redense arms` lists them; [an arm of your own](../how-to/new-arm.md) is a short function.",
)
SEEDS = (0, 1, 2, 3, 4)
STEPS_PER_EPOCH = 140  # of the quickstart: 9,000 images in whole batches of 64


@functools.cache
def setting() -> Setting:
    """Return what the cards show the arms in: the quickstart."""
    return Setting(load_recipe("quickstart"), STEPS_PER_EPOCH, SEEDS, lambda seed: f"dense{seed}")


def gradients(phases: Sequence[PlannedPhase]) -> int:
    """Return how many gradients of a batch phases take."""
    return round(sum(p.steps * make_method(p.method, p.options, 0).gradient_evaluations for p in phases))


def card(arm: Arm) -> str:
    """Return the page of an arm."""
    words, flow, dsd = card_of(arm), arm.make(setting()), get_arms(["dsd"])[0].make(setting())
    if words is None:
        raise RecipeError(f"the arm '{arm.name}' has no card")
    own, whole = gradients(flow.phases), gradients(dsd.phases)
    budget = "That of `dsd`" if own == whole else f"{own / whole:.0%} of the gradients of `dsd`".replace("%", " %")
    steps = sum(phase.steps for phase in flow.phases)
    facts = {
        "In a line": f"{arm.about[0].upper()}{arm.about[1:]}.",
        "Source": _source(arm.source),
        "Budget": f"{budget}: {steps:,} optimizer steps in the quickstart"
        + (f"; {flow.note}" if flow.note else "")
        + ".",
        "Network at the end": "sparse" if flow.phases[-1].phase.is_sparse else "dense, like the one it began with",
    }
    if arm.name == "ensemble":
        facts["Network at the end"] = "several, whose answers are averaged: as many times the cost at inference"
    if arm.name == "batchnorm":
        facts["Network at the end"] = "dense, with batch normalisation"
    if arm.name == "svd":
        facts["Network at the end"] = "fully-connected layers in two factors"
    rows = [f"| **{name}** | {text} |" for name, text in facts.items()]
    lines = [f"# {arm.name}", "", rows[0], "|---|---|", *rows[1:]]  # the first one heads the table
    lines += ["", "## What it does", "", words.does, "", "In the quickstart:", "", *_phases(flow.phases)]
    lines += ["", "## What can be set", "", f"{words.settings[0].upper()}{words.settings[1:]}.".replace("..", ".")]
    lines += ["", "## When to compare with it", "", words.use, "", "```console", command(arm), "```"]
    lines += ["", "## What we measured", "", *_measured(arm.name), ""]
    return "\n".join(lines)


def command(arm: Arm) -> str:
    """Return the command that tries an arm."""
    arms = dict.fromkeys(("dsd", "restart", arm.name))
    return f"redense compare quickstart --arms {','.join(arms)} --seeds 5"


def index() -> str:
    """Return the page that lists all cards."""
    lines = ["# Methods", "", *INTRODUCTION]
    lines += ["", "| arm | what it is | source | measured on |", "|---|---|---|---|"]
    for arm in get_arms():
        shown = len({name for name, _ in _rows(arm.name)})
        measured = f"{shown} experiment{'s' if shown > 1 else ''}" if shown else "not yet"
        lines.append(
            f"| [`{arm.name}`]({arm.name}.md) | {arm.about} | {_source(arm.source, short=True)} | {measured} |"
        )
    return "\n".join([*lines, ""])


def _source(source: str, *, short: bool = False) -> str:
    if source not in PAPERS:
        return source
    title, link = PAPERS[source]
    return f"[{source}]({link})" if short else f"[{source}]({link}): *{title}*"


def _phases(phases: Sequence[PlannedPhase]) -> list[str]:
    lines = ["| phase | steps | first learning rate | sparsity | trained with |", "|---|---|---|---|---|"]
    base = setting().recipe.training.optimizer.lr
    for planned in phases:
        phase = planned.phase
        sparsity = f"{phase.sparsity:.0%}".replace("%", " %") if isinstance(phase.sparsity, float) else "dense"
        how = [f"method `{planned.method}`"] if planned.method else []
        how += [f"{k} {v}" for k, v in planned.options.items() if k not in ("teachers", "steps")]
        how += [f"`{key}` {value}" for key, value in _changes(planned.changes)]
        how += [f"from the end of {phases[planned.after].phase.name}"] if planned.after is not None else []
        how += ["the ends of " + ", ".join(_part(phases, part) for part in planned.joins)] if planned.joins else []
        how += [f"criterion {phase.criterion}"] if phase.is_sparse and phase.criterion != "magnitude" else []
        how += ["one threshold for all layers"] if phase.scope == "global" else []
        how += [f"shares by {planned.allocation}"] if planned.allocation != "uniform" else []
        how += ["a mask that is revised"] if phase.surgery else []
        lines.append(f"| {phase.name} | {planned.steps:,} | {phase.lr * base:.3g} | {sparsity} | {', '.join(how)} |")
    return lines


def _changes(changes: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return settings that a phase changes, as ``training.label_smoothing``, with their values."""
    found: list[tuple[str, Any]] = []
    for key, value in changes.items():
        found += _changes(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _part(phases: Sequence[PlannedPhase], part: int | str) -> str:
    """Return what joins a phase: one of the flow by its name, or the dense phase of a seed."""
    return phases[part].phase.name if isinstance(part, int) else f"the dense phase of seed {part.removeprefix('dense')}"


@functools.cache
def _comparisons() -> dict[str, Any]:
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*/compare.json"))
    }


def _rows(name: str) -> list[tuple[str, Mapping[str, Any]]]:
    found = [(where, row) for where, result in _comparisons().items() for row in result["rows"]]
    return [(where, row) for where, row in found if row["arm"].partition(" ")[0] == name]


def _measured(name: str) -> list[str]:
    rows = _rows(name)
    if not rows:
        return ["Not yet: there is no comparison with this arm among ours. The command above makes one."]
    lines = [
        "| experiment | arm | test figure | against the dense baseline | against the control that decides |",
        "|---|---|---|---|---|",
    ]
    for where, row in rows:
        metric, interval, decision = _comparisons()[where]["metric"], row["interval"], _decision(where)
        around = f" ± {(interval[1] - interval[0]) / 2:.2f}" if interval else ""  # of equal figures there is none
        shown = f"{metric['name']} {row['mean']:.2f}{around} {metric['unit']}".rstrip()
        told = [
            f"`{other}`: {found}" for other in decision.deciding if (found := _against(decision, row["arm"], other))
        ]
        against = _against(decision, row["arm"], decision.baseline)
        lines.append(f"| `{where}` | `{row['arm']}` | {shown} | {against} | {'; '.join(told)} |")
    note = (
        "Mean and 95 % interval over seeds; differences are paired by seed, verdicts made from the raw numbers by "
        "today's rule, corrected over the comparisons of their own command. The control that decides is the strongest "
        "arm without a mask of that command, chosen by validation figures; another command may have had a stronger "
        "one, and the results say so. Of BLEU-4 more is better, of errors less."
    )
    link = "[What these experiments are, and how to read them](../results.md); raw numbers: `results/EXPERIMENT/`."
    return [*lines, "", note, link]


@functools.cache
def _decision(where: str) -> Decision:
    return redense.judge(RESULTS / where).decision  # with the margin that was set beforehand


def _against(decision: Decision, arm: str, other: str) -> str:
    item = decision.contrast(arm, other)
    if item is None or item.paired.interval is None:
        return ""
    low, high = item.paired.interval
    difference = f"{item.paired.mean:+.2f}".replace("-", "−")
    return f"{difference} ± {(high - low) / 2:.2f}, {item.verdict}"


def pages() -> dict[str, str]:
    """Return all pages: path in the site's sources -> Markdown."""
    return {"methods/index.md": index(), **{f"methods/{arm.name}.md": card(arm) for arm in get_arms()}}


# --- what mkdocs calls ----------------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the cards under *Methods*."""
    for section in config.nav or []:
        if isinstance(section, dict) and "Methods" in section:
            section["Methods"] = [*section["Methods"], *({arm.name: f"methods/{arm.name}.md"} for arm in get_arms())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files
