"""The page of one run: a single HTML file that asks nothing of any network, on screen, phone and paper."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from . import figures, words
from .assets import SCRIPT, STYLE
from .markup import Child, Html, h, join
from .quantities import count, duration, learning_rate, number, percent
from .reading import Run, read_run

_MOST_EMBEDDED = 16 << 20  # bytes of a raw file that still go into the page


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    The run may be going on, or have been killed: the page then shows what there is. It is replaced in one step, so a
    browser never reads half of it.

    Raises:
        DataError: ``run_dir`` is no run folder, or a file in it is damaged.
    """
    target = run_dir / "report.html"
    text = render(read_run(run_dir))
    draft = run_dir / f".report.{os.getpid()}.html"
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def render(run: Run) -> str:
    """Return the page of a run."""
    from plotly.offline import get_plotlyjs

    plots = {"curves": figures.curves(run)} if run.log.epochs or run.log.steps else {}
    bars = figures.layer_bars(run)
    if bars is not None:
        plots["layers"] = bars
    scripts = [get_plotlyjs().replace("\r", ""), SCRIPT] if plots else []
    title = f"{run.name}: redense run report"
    body = h(
        "body",
        _header(run),
        h("main", _verdict(run), _phases(run), _curves(run), _layers(run, bars is not None), _provenance(run)),
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
        h("title", title),
        h("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{h('html', head, body, lang='en')}\n"


def script_json(data: Any) -> Html:
    r"""Return JSON that no HTML parser can take for markup.

    >>> script_json({"name": "</script><b>&"})
    '{"name":"\\u003c/script\\u003e\\u003cb\\u003e\\u0026"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Html(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _policy(scripts: Sequence[str]) -> str:
    """The page may run these scripts, and neither load nor send anything."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _data_block(name: str, data: Any) -> Html:
    return h("script", script_json(data), type="application/json", id=name)


# --- the sections ---------------------------------------------------------------------------------------------------

_SECTIONS = {
    "verdict": "Verdict",
    "phases": "Phases",
    "curves-section": "Curves",
    "layers-section": "Sparsity by layer",
    "provenance": "To reproduce it",
}


def _header(run: Run) -> Html:
    steps = run.ends[-1] if run.phases else 0
    seconds = run.result.get("seconds")
    facts = [
        str(run.result.get("task") or run.recipe.get("task") or ""),
        "" if run.seed is None else f"seed {run.seed}",
        count(sum(phase.epochs for phase in run.phases), "epoch"),
        count(steps, "optimizer step"),
        duration(seconds) if isinstance(seconds, int | float) else "",
        "" if run.finished else "not finished",
    ]
    links = [h("li", h("a", text, href=f"#{name}")) for name, text in _SECTIONS.items()]
    return h(
        "header",
        h("p", "redense run report", class_="eyebrow"),
        h("h1", run.name),
        h("p", " · ".join(filter(None, facts)), class_="facts"),
        h("nav", h("ul", links), class_="contents", aria_label="Sections"),
    )


def _section(name: str, *children: Child, class_: str | None = None) -> Html:
    heading = h("h2", _SECTIONS[name], id=f"{name}-heading")
    return h("section", heading, *children, id=name, class_=class_, aria_labelledby=f"{name}-heading")


def _verdict(run: Run) -> Html:
    verdict = words.verdict(run)
    shown = [
        h(
            "div",
            h("dt", figure.label),
            h("dd", figure.value, class_="value"),
            h("dd", figure.note, class_="note"),
            class_="missing" if figure.missing else None,
        )
        for figure in verdict.figures
    ]
    first, *rest = (*verdict.remarks, "")
    return _section(
        "verdict",
        h("p", verdict.sentence, class_="sentence"),
        h("dl", shown, class_="figures") if shown else None,
        h("p", first) if first else None,
        _command(verdict.command) if verdict.command else None,
        [h("p", remark, class_="note") for remark in rest if remark],
        class_="verdict",
    )


def _phases(run: Run) -> Html:
    sentence = h("p", words.phases_sentence(run))
    if not run.phases:
        return _section("phases", sentence)
    unit = f", {run.metric.unit}" if run.metric.unit else ""
    decimals = words.metric_decimals(run)
    name = run.metric.name
    columns = [
        ("Phase", False),
        ("Sparsity", True),
        ("Epochs", True),
        ("Initial LR" if run.finished else "First LR logged", True),
        (f"Validation {run.metric.label}{unit}", True),
        (f"Test {run.metric.label}{unit}", True),
        ("Time", True),
    ]
    rows = [
        [
            phase.name,
            percent(phase.sparsity),
            f"{phase.epochs:g}",
            learning_rate(phase.lr),
            number(phase.validation.get(name), decimals),
            number(phase.test.get(name), decimals),
            duration(phase.seconds),
        ]
        for phase in run.phases
    ]
    return _section("phases", sentence, _table("What each phase was, and what came out of it", columns, rows))


def _curves(run: Run) -> Html:
    sentence = h("p", words.curves_sentence(run))
    if not (run.log.epochs or run.log.steps):
        return _section("curves-section", sentence)
    columns = [
        ("Phase", False),
        ("Epoch", True),
        ("Step", True),
        ("Training loss", True),
        (f"Validation {run.metric.label}", True),
        ("LR", True),
        ("Sparsity", True),
    ]
    rows = [
        [
            line.phase_name,
            f"{line.epoch:g}",
            f"{line.step:,}",
            number(line.train_loss, 4),
            words.metric(run, line.validation.get(run.metric.name)),
            learning_rate(line.lr),
            percent(line.sparsity),
        ]
        for line in run.log.epochs
    ]
    table = h(
        "details",
        h("summary", "The curves as a table, epoch by epoch"),
        _table("Every epoch at its end", columns, rows, tall=True),
        class_="screen",
    )
    return _section(
        "curves-section",
        sentence,
        _figure("curves", figures.describe_curves(run), figures.curves_caption(run)),
        table if rows else None,
    )


def _layers(run: Run, bars: bool) -> Html:
    sentence = h("p", words.layers_sentence(run))
    if not run.layers:
        return _section("layers-section", sentence)
    columns = [
        ("Layer", False),
        ("Shape", False),
        ("Weights", True),
        ("Pruned", False),
        *((f"After {phase.name}", True) for phase in run.phases),
    ]
    rows: list[list[Child]] = [
        [
            h("code", layer.name),
            " × ".join(f"{size:,}" for size in layer.shape) or "scalar",
            f"{layer.weights:,}",
            "yes" if layer.prunable else f"no: {layer.reason}" if layer.reason else "no",
            *(percent(sparsity) for sparsity in layer.sparsity),
        ]
        for layer in run.layers
    ]
    figure = _figure("layers", figures.describe_bars(run), "Sparsity of the prunable layers at the end of each phase.")
    table = _table("Every layer, with its sparsity at the end of each phase", columns, rows, tall=len(rows) > 20)
    return _section("layers-section", sentence, figure if bars else None, table)


def _provenance(run: Run) -> Html:
    commands = {
        "Train the same again": words.reproduce_command(run),
        "Go on from the last checkpoint": None if run.finished else words.resume_command(run),
        "Evaluate the model": words.command(run, "evaluate") if run.finished else None,
        "Export the weights with a model card": f"{words.command(run, 'export')} OUT" if run.finished else None,
    }
    listed = [join(h("dt", text), h("dd", _command(line))) for text, line in commands.items() if line is not None]
    environment = [[name, value] for name, value in flattened(run.environment)]
    return _section(
        "provenance",
        h("p", words.provenance_sentence(run)),
        h("h3", "Commands"),
        h("dl", listed, class_="commands"),
        h("h3", "Recipe"),
        h("pre", h("code", run.recipe_text)) if run.recipe_text else h("p", "There is no recipe.yaml."),
        h("h3", "Environment"),
        _table("What it ran on", [("What", False), ("Value", False)], environment, class_="environment")
        if environment
        else h("p", "There is no environment.json."),
        h("h3", "Raw numbers"),
        _downloads(run),
    )


def _downloads(run: Run) -> Html:
    kinds = {"metrics.jsonl": "application/x-ndjson", "result.json": "application/json"}
    items: list[Html] = []
    for name, kind in kinds.items():
        path = run.path / name
        if not path.is_file():
            continue
        size = path.stat().st_size
        if size > _MOST_EMBEDDED:
            items.append(h("li", f"{name}, {_size(size)}, too large for this page: it lies beside it"))
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        link = h("a", name, href=f"data:{kind};base64,{data}", download=name)
        items.append(h("li", link, f", {_size(size)}, is in this page"))
    return h("ul", items) if items else h("p", "Nothing has been logged yet.")


# --- parts ----------------------------------------------------------------------------------------------------------


def _command(line: str) -> Html:
    """A command line that breaks between its words where it has to break."""
    spans = [join(" " if index else None, h("span", word)) for index, word in enumerate(line.split(" "))]
    return h("pre", h("code", spans), class_="command")


def _figure(name: str, description: str, caption: str) -> Html:
    plot = h("div", id=name, class_="plot", role="group", aria_label=description)
    without = h("noscript", h("p", "The plot needs JavaScript; the table has its numbers."))
    return h("figure", plot, without, h("figcaption", caption))


def _table(
    caption: str,
    columns: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[Child]],
    *,
    tall: bool = False,
    class_: str = "",
) -> Html:
    """A table whose first column heads the rows; columns of numbers are marked True."""
    classes = ["number" if numeric else "nowrap" if len(columns) > 2 else None for _, numeric in columns]
    head = [h("th", text, scope="col", class_="number" if numeric else None) for text, numeric in columns]
    body = [
        h("tr", h("th", row[0], scope="row"), [h("td", cell, class_=c) for cell, c in _cells(row, classes)])
        for row in rows
    ]
    table = h(
        "table", h("caption", caption), h("thead", h("tr", head)), h("tbody", body), class_=f"wide {class_}".strip()
    )
    # What scrolls can be reached and scrolled with the keyboard.
    return h("div", table, class_="scroll tall" if tall else "scroll", tabindex=0, role="region", aria_label=caption)


def _cells(row: Sequence[Child], classes: Sequence[str | None]) -> Iterator[tuple[Child, str | None]]:
    return zip(row[1:], classes[1:], strict=True)


def flattened(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names and text.

    >>> list(flattened({"cpu": {"cores": 2}, "gpus": [], "packages": ["torch", "numpy"]}))
    [('cpu.cores', '2'), ('gpus', 'none'), ('packages', 'torch, numpy')]
    """
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        elif isinstance(value, list):
            yield name, ", ".join(str(item) for item in value) or "none"
        elif value is None:
            yield name, "none"
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        else:
            yield name, str(value)


def _size(size: int) -> str:
    return f"{size / 1024:,.0f}\u00a0kB" if size >= 1024 else f"{size}\u00a0bytes"
