"""A judgement as a page, and as a table for a page of text or a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redense.files.checksums import NAME as SUMS
from redense.files.locks import LOCK, locked
from redense.files.visible import markdown
from redense.files.writing import write_text
from redense.lab.folder import new_folder
from redense.lab.judging.figures import ArmFigures
from redense.lab.judging.judge import Judgement
from redense.lab.judging.results import described, plain_steps, seed_of
from redense.lab.pairs.results import FILES, write_tables

from .comparisons.page import write_compare_report
from .kit.parts import Table
from .paper.tabular import to_latex as latex_of
from .paper.tabular import to_markdown as markdown_of


def write_judgement(judgement: Judgement, out: Path, name: str) -> Path:
    """Write the page of a judgement into a new folder, with its numbers, and its table as Markdown and LaTeX.

    Args:
        judgement: of a table, with its figures.
        out: the folder.
        name: what the table is called.

    Raises:
        StateError: the folder exists and is not empty, or cannot be made.
    """
    own = ("verdicts.md", "verdicts.tex", *FILES, SUMS, LOCK)
    folder = new_folder(out, "judge", left=own)
    with locked(folder):
        write_text(folder / "verdicts.md", to_markdown(judgement))
        write_text(folder / "verdicts.tex", to_latex(judgement))
        write_tables(folder, results_of(judgement, name), None)
        return write_compare_report(folder)


def results_of(judgement: Judgement, name: str) -> dict[str, Any]:
    """The judgement in the form of ``compare.json``, which the page is made of."""
    decision = judgement.decision
    metric = decision.metric or "figure"
    rows: list[dict[str, Any]] = []
    for arm in decision.arms:
        figures = judgement.figures[arm.name]
        seeds = [
            {
                "seed": seed_of(seed),
                **_steps(figures, seed),
                "test": {metric: value},
                **({"validation": {metric: figures.validation[seed]}} if seed in figures.validation else {}),
            }
            for seed, value in figures.values.items()
        ]
        seeds += [
            {"seed": seed_of(seed), **_steps(figures, seed), "failed": why} for seed, why in figures.failures.items()
        ]
        rows.append(
            {
                "arm": arm.name,
                "control": arm.role == "control",
                "ended": figures.ended,
                "note": figures.note,
                **({"bound": True} if figures.bound else {}),
                **({"unmasked": True} if figures.unmasked else {}),
                **({"same": figures.same} if figures.same else {}),
                "steps": plain_steps(figures.steps),
                "gradients": None,
                "phases": [],
                "seeds": seeds,
                "mean": arm.mean,
                "interval": None if arm.interval is None else list(arm.interval),
            }
        )
    return {
        "form": "table",
        "dense": judgement.dense,
        "recipe": name,
        "task": "",
        "split": judgement.split,
        "metric": {"name": metric, "unit": decision.unit, "lower_is_better": decision.lower_is_better},
        "seeds": list(dict.fromkeys(seed["seed"] for row in rows for seed in row["seeds"])),
        "test_examples": None,
        "rows": rows,
        "judged": {
            "margin": decision.margin,
            "looks": decision.family.looks,
            "added": decision.added,
            "baseline": decision.baseline,
            "validation_only": decision.validation_only,
            **({"folders": [[seed_of(seed) for seed in own] for own in decision.folders]} if decision.folders else {}),
        },
        **described(decision),
    }


def _steps(figures: ArmFigures, seed: str) -> dict[str, Any]:
    return {"steps": plain_steps(figures.steps_of[seed])} if seed in figures.steps_of else {}


def to_markdown(judgement: Judgement) -> str:
    """Return the arms as Markdown, with the conclusions below."""
    said = "".join(f"- {markdown(text)}\n" for text in judgement.said)
    return f"{markdown_of(_table(judgement))}\n{said}"


def to_latex(judgement: Judgement) -> str:
    """Return the arms as a table in the style of booktabs."""
    return latex_of(_table(judgement), "verdicts")


def _table(judgement: Judgement) -> Table:
    head, rows = judgement.table
    numeric = [name in ("n", "mean", "p") or name.startswith("against") for name in head]
    # A minus, as on the page: LaTeX would set a hyphen.
    signed = [[c.replace("-", "−") if num else c for c, num in zip(row, numeric, strict=True)] for row in rows]
    return Table(judgement.caption, list(zip(head, numeric, strict=True)), signed)
