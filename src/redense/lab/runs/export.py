"""Handing a model on: weights, what else it needs, recipe, result and a model card, in a folder of their own."""

from __future__ import annotations

import functools
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from redense.errors import DataError, RedenseError, StateError
from redense.files.checksums import check_sums, write_sums
from redense.files.visible import markdown, visible_line
from redense.files.writing import write_bytes, write_text
from redense.lab.environment import needed_plugins
from redense.lab.folder import read_json
from redense.lab.headings import heading_of
from redense.lab.recipe.recipe import NEEDED, Recipe, names_in, read_run_recipe
from redense.plugins import VARIABLE
from redense.tasks.metrics import shown_name
from redense.tasks.registry import task_named

from .formats import OTHER, RANDOM, SEARCH, VALIDATION, WITHOUT_GUARDS, Compared, ExportError, check_format

log = logging.getLogger(__name__)


def export_run(
    folder: Path,
    out: Path,
    form: str = "safetensors",
    *,
    data: str | None = None,
    tell: Callable[[Compared], None] = lambda compared: None,
) -> Path:
    """Copy what a user of the model needs to ``out``: weights, artifacts, a tuned search, recipe, result, and a card.

    Args:
        folder: of a finished run.
        out: a new folder.
        form: ``safetensors``, or ``onnx`` or ``torch-export``: then the network is written too, as
            graphs of any batch size and any length, each compared with the network.
        data: where the run's data lies now, or other data of the same kind, to compare on; if not given, the run's own
            validation data, or inputs made at random where that is not here.
        tell: called with each comparison.

    Raises:
        StateError: the run is not finished, its weights are not finite, or ``out`` is not empty.
        CheckpointError: what would be copied is damaged.
        ExportError: the network cannot be written so, or the graph gives other numbers.
        DataError: ``data`` is broken or unfit, or the run's data is not here, of a task that cannot do without.
    """
    from redense.tasks.weights import verify_file

    check_format(form)
    recipe = read_run_recipe(folder)
    if not (folder / "checkpoints").is_dir() and (folder / "model.safetensors").is_file():
        raise StateError(f"{folder} is an export, or a network of the zoo: copy it, or export the run that it is of")
    result, made = (read_json(folder / f"{name}.json") for name in ("result", "environment"))
    write: Callable[[], list[Compared]] = list
    if form != "safetensors":
        from .graphs import write_graphs

        task, model, of = _network_of(folder, recipe, data)
        write = functools.partial(write_graphs, task, model, out, form, tell, of=of)
    elif data is not None:
        raise ExportError("--data is for graphs, which are compared on it: give --format onnx or torch-export too")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise StateError(f"{out} exists and is not empty: name another folder")
        verify_file(folder / "model.safetensors")
        out.mkdir(parents=True, exist_ok=True)
        try:
            for name in ("model.safetensors", "recipe.yaml", "result.json"):
                write_bytes(out / name, (folder / name).read_bytes())
            for path in sorted((folder / "artifacts").glob("*")):
                (out / "artifacts").mkdir(exist_ok=True)
                write_bytes(out / "artifacts" / path.name, path.read_bytes())
            if needed := _needed(recipe):
                write_text(out / NEEDED, json.dumps(needed, indent=2) + "\n")
            own = copy_companions(folder, recipe, out)
            graphs = write()
            taken = [path for path in out.rglob("*") if path.is_file()]
            write_sums(out, taken)
            _copy_search(folder / SEARCH, out / SEARCH)
            write_text(out / "README.md", model_card(recipe, result, made, graphs, own))
        except BaseException:  # half of it would pass for an export
            shutil.rmtree(out, ignore_errors=True)
            raise
    except OSError as error:
        raise StateError(f"cannot export to {out}: {error.strerror}: {error.filename}") from None
    return out


def _needed(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Return what the folder says of plugins without which its network cannot be used; what trained it is none."""
    used = names_in(recipe)
    return needed_plugins({kind: used[kind] for kind in ("task", "network")})


def copy_companions(folder: Path, recipe: Recipe, out: Path) -> list[str]:
    """Copy what a trained network needs of others, as the CNN that a captioner sees with; return what lies in ``out``.

    Where it is not there any more, a warning says so.
    """
    task = task_named(recipe.task)
    if not task.has("companions"):
        return []
    try:
        files: dict[str, Path] = task.load("companions")(folder, recipe.data)
    except RedenseError as error:
        log.warning("what the network needs beside its own files is not copied: %s", error)
        return []
    for name, path in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out / name, path.read_bytes())
    own = sorted({name.partition("/")[0] for name in files})
    for name in own:
        if (out / name).is_dir():
            write_sums(out / name, [path for path in (out / name).rglob("*") if path.is_file()])
    return own


def _copy_search(kept: Path, out: Path) -> None:
    """Copy a search that `redense decode` has tuned, if there is one, with its language model, wherever that lies.

    It has checksums of its own, so that it can be tuned anew in the export.
    """
    if not (kept / "decoding.json").is_file():
        return
    check_sums(kept)
    found = read_json(kept / "decoding.json")
    if not isinstance(found, dict) or not isinstance(name := cast("dict[str, Any]", found).get("model"), str):
        raise StateError(f"{kept / 'decoding.json'} is damaged: it names no language model; tune the search anew")
    model = kept / name  # an absolute path stays one
    out.mkdir()
    shutil.copyfile(model, out / model.name)
    write_text(out / "decoding.json", json.dumps(found | {"model": model.name}, indent=2) + "\n")
    write_sums(out, [out / model.name, out / "decoding.json"])


def _network_of(folder: Path, recipe: Recipe, data: str | None) -> tuple[Any, Any, str]:
    """Return what has the graphs of a run, its network, and what inputs they are compared on.

    Raises:
        StateError: the run is not finished, or its data has changed.
        DataError: there is no data, and the task cannot do without; or ``data`` is unfit.
    """
    from redense.lab.tasks import make_task
    from redense.tasks.weights import final_weights

    from .elsewhere import data_elsewhere
    from .resume import check_unchanged
    from .run import engine_of

    final_weights(folder)
    if data is not None:
        other, found, own = data_elsewhere(folder, data)
        engine = engine_of(folder, other, found.task)
        return engine.task, engine.model, VALIDATION if own else OTHER
    try:
        task = make_task(recipe)
    except (DataError, StateError) as error:  # of captions also: its CNN is not here
        known = task_named(recipe.task)
        if not known.has("alone"):
            raise
        log.warning("inputs are made at random, because the data of the run is not here: %s; or give --data", error)
        alone = known.load("alone")(folder, recipe.data, recipe.model)
        return alone, alone.network, RANDOM
    check_unchanged(folder, recipe, task)
    engine = engine_of(folder, recipe, task)
    return engine.task, engine.model, VALIDATION


def model_card(
    recipe: Recipe,
    result: dict[str, Any],
    made: dict[str, Any],
    graphs: Sequence[Compared] = (),
    companions: Sequence[str] = (),
) -> str:
    """Return the card of a model in Markdown: what it is, how it was made, what it reached, what that does not show."""
    metric = result["metric"]
    name = shown_name(metric["name"])
    name, unit = markdown(name), markdown(metric.get("unit", ""))
    header = f"| phase | sparsity | epochs | initial LR | validation {name} | test {name} |"
    rows = [
        f"| {markdown(p['name'])} | {100 * p['sparsity']:g}% | {p['epochs']:g} | {p['lr']:g} "
        f"| {p['validation'][metric['name']]:.2f} {unit} | {p['test'][metric['name']]:.2f} {unit} |"
        for p in result["phases"]
    ]
    weights = sum(layer["weights"] for layer in result["layers"])
    data = result.get("data") or {}  # a run of an older redense does not say
    trained_on = markdown(f"Trained on {data['text']}.") if data else ""
    lines = [
        f"# {markdown(heading_of(recipe.name, recipe.about))}",
        "",
        markdown(_about(recipe)),
        "",
        *([trained_on, ""] if trained_on else []),
        f"Trained with redense {result['redense']}: {_how_trained(result)}. "
        f"{weights:,} weights; the network is the plain one, its architecture and speed are unchanged.",
        "",
        header,
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Seed {result['seed']}, {result['test_examples']:,} test examples. {_not_shown(result)}",
        "",
        *_notes(result),
        *_usage(recipe, companions),
        *_plugins(recipe),
        "Or load the weights into the plain model of your own code:",
        "",
        "```python",
        "from safetensors.torch import load_file",
        'model.load_state_dict(load_file("model.safetensors"), strict=True)',
        "```",
        "",
        *(line for graph in graphs for line in _graph_usage(graph)),
        f"Made with Python {made.get('python')}, PyTorch {made.get('torch')} on {made.get('processor')}. "
        "The whole recipe is in `recipe.yaml`, every figure in `result.json`.",
        "",
    ]
    return "\n".join(lines)


def _about(recipe: Recipe) -> str:
    """Return what the recipe says of itself; of an arm, that it is the recipe that says it."""
    if recipe.arm and recipe.about:
        return f"The arm {recipe.arm} of the recipe: {recipe.about}"
    return recipe.about or f"A model for {recipe.task}."


def _how_trained(result: dict[str, Any]) -> str:
    """Return the flow of phases that a network comes from, in words."""
    arm = result.get("arm")
    if not arm:
        return "dense, sparse, dense (Han et al., ICLR 2017, arXiv:1607.04381)"
    label, about = (markdown(visible_line(str(arm[name]))) for name in ("label", "about"))
    return f"as the arm {label} of `redense compare`, {about}"


def _not_shown(result: dict[str, Any]) -> str:
    """Return what the table of phases does not show."""
    if result.get("arm"):
        return "One seed, and no other arm: the table does not show that this one is the better."
    return "One seed, no control of the same budget: the table does not show that the mask is what helped."


def _notes(result: dict[str, Any]) -> list[str]:
    """Return the lines of the card on what the run says of its data, its start and its phases."""
    notes = [f"- {markdown(visible_line(str(note)))}" for note in result.get("notes") or ()]
    return ["What has to be known of the run:", "", *notes, ""] if notes else []


def _graph_usage(graph: Compared) -> list[str]:
    """Return the lines of the card that say what a graph takes and gives, and how to run it."""
    names = ", ".join(graph.inputs)
    if graph.file.endswith(".onnx"):
        given = ", ".join(f'"{name}": {name}' for name in graph.inputs)
        code = [
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession("{graph.file}")',
            f"{', '.join(graph.outputs)}{',' * (len(graph.outputs) == 1)} = session.run(None, {{{given}}})  # of numpy",
        ]
    else:
        guards = "check_guards=False" if graph.by == WITHOUT_GUARDS else ""
        code = [
            "import torch",
            f'network = torch.export.load("{graph.file}").module({guards})',
            f"{', '.join(graph.outputs)} = network({names})",
        ]
    compared = (
        ""
        if graph.difference is None
        else (
            f" Compared with the network on {graph.calls} inputs {graph.of} by {graph.by}: the largest "
            f"difference is {graph.difference:.1e}."
        )
    )
    return [f"`{graph.file}` takes {graph.about}.{compared}", "", "```python", *code, "```", ""]


def _plugins(recipe: Recipe) -> list[str]:
    """Return the lines of the card on the plugins that the network needs."""
    named = sorted(set(_needed(recipe).get("plugins", {}).values()))
    needs = " and ".join(f"`{name}`" for name in named)
    return [f"redense needs {needs} in `{VARIABLE}`, or installed, to use it.", ""] if named else []


def _usage(recipe: Recipe, companions: Sequence[str]) -> list[str]:
    """Return the lines of the card that say how to use the model; none for a task that `redense.load` does not know."""
    sample = task_named(recipe.task).sample
    if sample is None:
        return []
    file, what = sample
    needs = getattr(recipe.data, "needs", "")
    if companions:
        named = ", ".join(f"`{name}`" for name in companions)
        needs = f"What it needs of other networks is in this folder, too: {named}."
    return [
        "Use it, from this folder:",
        "",
        "```python",
        "import redense",
        'model = redense.load(".")',
        f'print(model.predict("{file}"))  # {what}',
        "```",
        "",
        *([needs, ""] if needs else []),
    ]
