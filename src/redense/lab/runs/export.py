"""Handing a model on: weights, what else it needs, recipe, result and a model card, in a folder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redense.errors import StateError
from redense.files.checksums import write_sums
from redense.files.writing import write_bytes, write_text
from redense.lab.folder import read_json
from redense.lab.recipe.recipe import Recipe, read_run_recipe
from redense.tasks.metrics import shown_name
from redense.tasks.registry import task_named


def export_run(folder: Path, out: Path) -> Path:
    """Copy what a user of the model needs to ``out``: weights, artifacts, recipe, result, and a model card.

    Raises:
        StateError: the run is not finished, or ``out`` is not empty.
        CheckpointError: what would be copied is damaged.
    """
    recipe, result = read_run_recipe(folder), read_json(folder / "result.json")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise StateError(f"{out} exists and is not empty: name another folder")
        out.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "recipe.yaml", "result.json"):
            write_bytes(out / name, (folder / name).read_bytes())
        for path in sorted((folder / "artifacts").glob("*")):
            (out / "artifacts").mkdir(exist_ok=True)
            write_bytes(out / "artifacts" / path.name, path.read_bytes())
        taken = [path for path in out.rglob("*") if path.is_file()]
        write_sums(out, taken)
        write_text(out / "README.md", model_card(recipe, result, read_json(folder / "environment.json")))
    except OSError as error:
        raise StateError(f"cannot export to {out}: {error.strerror}: {error.filename}") from None
    return out


def model_card(recipe: Recipe, result: dict[str, Any], made: dict[str, Any]) -> str:
    """Return the card of a model in Markdown: what it is, how it was made, what it reached, what that does not show."""
    metric = result["metric"]
    name = shown_name(metric["name"])
    header = f"| phase | sparsity | epochs | initial LR | validation {name} | test {name} |"
    rows = [
        f"| {p['name']} | {p['sparsity']:.0%} | {p['epochs']:g} | {p['lr']:g} "
        f"| {p['validation'][metric['name']]:.2f} {metric['unit']} | {p['test'][metric['name']]:.2f} {metric['unit']} |"
        for p in result["phases"]
    ]
    weights = sum(layer["weights"] for layer in result["layers"])
    data = result.get("data") or {}  # a run of an older redense does not say
    trained_on = f"Trained on {data['text']}." if data else ""
    lines = [
        f"# {recipe.name}",
        "",
        recipe.about or f"A model for {recipe.task}.",
        "",
        *([trained_on, ""] if trained_on else []),
        f"Trained with redense {result['redense']}: dense, sparse, dense (Han et al., ICLR 2017, arXiv:1607.04381). "
        f"{weights:,} weights; the network is the plain one, its architecture and speed are unchanged.",
        "",
        header,
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Seed {result['seed']}, {result['test_examples']:,} test examples. One seed, no control of the same budget: "
        "the table does not show that the mask is what helped.",
        "",
        *_usage(recipe),
        "Or load the weights into the plain model of your own code:",
        "",
        "```python",
        "from safetensors.torch import load_file",
        'model.load_state_dict(load_file("model.safetensors"), strict=True)',
        "```",
        "",
        f"Made with Python {made.get('python')}, PyTorch {made.get('torch')} on {made.get('processor')}. "
        "The whole recipe is in `recipe.yaml`, every figure in `result.json`.",
        "",
    ]
    return "\n".join(lines)


def _usage(recipe: Recipe) -> list[str]:
    """Return the lines of the card that say how to use the model; none for a task that `redense.load` does not know."""
    sample = task_named(recipe.task).sample
    if sample is None:
        return []
    file, what = sample
    return [
        "Use it, from this folder:",
        "",
        "```python",
        "import redense",
        'model = redense.load(".")',
        f'print(model.predict("{file}"))  # {what}',
        "```",
        "",
    ]
