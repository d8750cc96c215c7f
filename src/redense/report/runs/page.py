"""The page of one run: a single HTML file that asks nothing of any network, on screen, phone and paper."""

from __future__ import annotations

from pathlib import Path

from redense.files.checksums import check_folder
from redense.files.markup import Child, h
from redense.report.kit.document import Page, Section, write_page
from redense.report.kit.parts import (
    Cell,
    Figure,
    Table,
    big_figures,
    command_line,
    command_list,
    downloads,
    environment_table,
    table_of,
)
from redense.report.kit.quantities import cell, count, duration, learning_rate, share, titled, whole

from . import commands, figures, words
from . import moments as moments_part
from .evidence import can_show, noted, show_evidence
from .reading import Run, read_run

_RAW = {
    "metrics.jsonl": "application/x-ndjson",
    "result.json": "application/json",
    "evidence.json": "application/json",
    "moments.json": "application/json",
    "sensitivity/sensitivity.json": "application/json",
}


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    The run may be going on, or have been killed: the page then shows what there is.

    Raises:
        DataError: ``run_dir`` is no run folder, or a file in it is damaged.
        CheckpointError: a file in it does not match its checksum.
    """
    check_folder(run_dir)
    return write_page(run_dir, read_page(run_dir))


def read_page(folder: Path) -> Page:
    """Return the page of the run in a folder."""
    return make_page(read_run(folder))


def make_page(run: Run, *, live: bool = False) -> Page:
    """Return the page of a run; a ``live`` one follows the run that goes on, through the server that it comes from."""
    pruned = any(phase.sparse for phase in run.phases)  # without moments: no dense phase follows, or from other values
    weights = moments_part.parts_of(run.moments or []) if run.moments or (run.moments == [] and not pruned) else None
    sections = [
        Section("verdict", "Verdict", _verdict(run), "verdict"),
        Section("phases", "Phases", _phases(run)),
        Section("curves-section", "Curves", _curves(run)),
        *_evidence(run),
        Section("layers-section", "Sparsity by layer", _layers(run)),
        *_scan(run),
        *([Section("weights", "Weight distribution", weights)] if weights else []),
        Section("provenance", "To reproduce it", _provenance(run)),
    ]
    return Page(
        kind="redense run report",
        name=run.heading,
        facts=_facts(run),
        sections=sections,
        live=live,
    )


def _scan(run: Run) -> list[Section]:
    """The section on the scan of the run's layers, where one was made."""
    if not (run.path / "sensitivity" / "sensitivity.json").is_file():
        return []
    from redense.report.scans.page import section_of_run  # it needs torch

    return [section_of_run(run.path / "sensitivity")]


def _evidence(run: Run) -> list[Section]:
    """The sections on what the networks did with the test examples, or the reason why they are not there."""
    shown = show_evidence(run.evidence)
    missing = run.evidence.missing if run.evidence else None
    if shown or not run.finished or not (missing or can_show(str(run.result.get("task")))):
        return shown
    if len(run.phases) == 1 and not missing:
        return []  # there is no network to hold it against
    reason = missing or "there is no evidence.json; an older redense finished this run"
    said = h("p", f"What the networks did example by example is not known: {reason}.")
    return [Section("classes", "Example by example", said)]


def _facts(run: Run) -> list[str]:
    steps = run.ends[-1] if run.phases else 0
    seconds = run.result.get("seconds")
    return [
        f"as {run.name} trains" if run.heading != run.name else "",
        str(run.result.get("task") or run.recipe.get("task") or ""),
        _trained_on(run),
        f"arm {run.arm}" if run.arm else "",
        "" if run.seed is None else f"seed {run.seed}",
        count(sum(phase.epochs for phase in run.phases), "epoch"),
        count(steps, "optimizer step"),
        duration(seconds) if isinstance(seconds, int | float) else "",
        "" if run.finished else "not finished",
    ]


def _trained_on(run: Run) -> str:
    """Describe the run's training data; of an unfinished or older run, the place of its data."""
    data = run.result.get("data")
    if isinstance(data, dict) and data.get("text"):
        return f"trained on {data['text']}"
    section = run.recipe.get("data")
    source = section.get("source") if isinstance(section, dict) else None
    return f"trained on {' + '.join(source) if isinstance(source, list) else source}" if source else ""


def _verdict(run: Run) -> list[Child]:
    verdict = words.verdict(run)
    first, *rest = (*verdict.remarks, "")
    return [
        h("p", verdict.sentence, class_="sentence"),
        big_figures(verdict.figures),
        h("p", first) if first else None,
        command_line(verdict.command) if verdict.command else None,
        [h("p", remark, class_="note") for remark in (*rest, *noted(run.result.get("notes"), run.evidence)) if remark],
    ]


def _phases(run: Run) -> list[Child]:
    sentence = h("p", words.phases_sentence(run))
    if not run.phases:
        return [sentence]
    decimals, name = run.decimals, run.metric.name
    validation, test = (titled(f"{split} {run.metric.label}", run.metric.unit) for split in ("Validation", "Test"))
    phases = table_of(
        "What each phase was, and what came out of it",
        run.phases,
        [
            ("Phase", False, lambda phase: phase.name),
            ("Sparsity", True, lambda phase: share(phase.sparsity)),
            ("Epochs", True, lambda phase: f"{phase.epochs:g}"),
            ("Initial LR" if run.finished else "First LR logged", True, lambda phase: learning_rate(phase.lr)),
            (validation, True, lambda phase: cell(phase.validation.get(name), decimals)),
            (test, True, lambda phase: cell(phase.test.get(name), decimals)),
            ("Time", True, lambda phase: duration(phase.seconds)),
        ],
    )
    kept = words.kept_sentence(run)
    return [sentence, phases, h("p", kept, class_="note") if kept else None]


def _curves(run: Run) -> list[Child]:
    sentence = h("p", words.curves_sentence(run))
    if not (run.log.epochs or run.log.steps):
        return [sentence]
    epochs = table_of(
        "Every epoch at its end",
        run.log.epochs,
        [
            ("Phase", False, lambda line: line.phase_name),
            ("Epoch", True, lambda line: f"{line.epoch:g}"),
            ("Step", True, lambda line: whole(line.step)),
            ("Training loss", True, lambda line: cell(line.train_loss, 4)),
            (f"Validation {run.metric.label}", True, lambda line: words.metric_cell(run, line)),
            ("LR", True, lambda line: learning_rate(line.lr)),
            ("Sparsity", True, lambda line: share(line.sparsity)),
        ],
        tall=True,
    )
    summary = h("summary", "The curves as a table, epoch by epoch")
    return [
        sentence,
        Figure("curves", figures.describe_curves(run), figures.curves_caption(run), figures.curves(run)),
        h("details", summary, epochs, class_="screen") if run.log.epochs else None,
    ]


def _layers(run: Run) -> list[Child]:
    sentence = h("p", words.layers_sentence(run))
    if not run.layers:
        return [sentence]
    columns = [("Layer", False), ("Shape", False), ("Weights", True), ("Pruned", False)]
    columns += [(f"After {phase.name}", True) for phase in run.phases]
    rows: list[list[Cell]] = [
        [
            h("code", layer.name),
            " × ".join(f"{size:,}" for size in layer.shape) or "scalar",
            whole(layer.weights),
            "yes" if layer.prunable else f"no: {layer.reason}" if layer.reason else "no",
            *(share(sparsity) for sparsity in layer.sparsity),
        ]
        for layer in run.layers
    ]
    bars = figures.layer_bars(run)
    description = "Bar plot: the sparsity of each prunable layer; the table below has the numbers."
    caption = "Sparsity of the prunable layers at the end of each phase."
    numbers = Table("Every layer, with its sparsity at the end of each phase", columns, rows, tall=len(rows) > 20)
    return [sentence, Figure("layers", description, caption, bars) if bars else None, numbers]


def _provenance(run: Run) -> list[Child]:
    typed = {
        "Train the same again": commands.reproduce_command(run),
        "Go on from the last checkpoint": None if run.finished else commands.resume_command(run),
        "Evaluate the model": commands.command(run, "evaluate") if run.finished else None,
        "Export the weights with a model card": f"{commands.command(run, 'export')} OUT" if run.finished else None,
    }
    return [
        h("p", words.provenance_sentence(run)),
        h("h3", "Commands"),
        command_list(typed),
        h("h3", "Recipe"),
        h("pre", h("code", run.recipe_text)) if run.recipe_text else h("p", "There is no recipe.yaml."),
        h("h3", "Environment"),
        environment_table(run.environment),
        h("h3", "Raw numbers"),
        downloads(run.path, _RAW) or h("p", "Nothing has been logged yet."),
    ]
