"""Make zoo/ from runs of its recipes: the first seed of each, from the phase store where the experiments were made.

    python tools/make_zoo.py [--only NAME]

A network that is in the zoo already stays; remove its folder to make it again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from redense.errors import RedenseError
from redense.files.checksums import add_sums, file_sum, write_sums
from redense.files.writing import write_bytes, write_text
from redense.lab.checkpoint import load_tree
from redense.lab.folder import new_folder, read_json
from redense.lab.recipe.recipe import Recipe, read_run_recipe
from redense.lab.runs.export import copy_companions
from redense.lab.runs.run import load_model
from redense.lab.zoo import DSD, Entry, files, measured, read_entry
from redense.tasks.metrics import Metric, shown_name

ROOT = Path(__file__).parents[1]


class Network(NamedTuple):
    """How a network is trained, the comparison that its card shows, and whether it is kept in half precision."""

    results: str
    half: bool = False
    settings: str = ""
    arm: str = ""  # of a network that no mask has made, the arm: its dense network is that of the recipe's first phase
    about: str = ""  # where the recipe's own line does not hold with these settings


# The last is the network with the best mean of all images of docs/which-method.md.
NETWORKS = {
    "quickstart": Network("quickstart"),
    "fashion-mnist/squeezenet": Network("fashion-mnist-squeezenet"),
    "fashion-mnist/noisy-labels": Network("noisy-labels", half=True),
    "prompts-es/deepspeech": Network("prompts-es-deepspeech", half=True),
    "emoji/neuraltalk": Network("emoji-neuraltalk", half=True),
    "fashion-mnist/resnet20": Network(
        "converged-resnet20-ten",
        half=True,
        settings="--dense.epochs 30 --sparse.epochs 8 --redense.epochs 8 --sparse.lr 0.01 --redense.lr 0.001 "
        "--seed 500",
        arm="longer",
        about="ResNet-20 on Fashion-MNIST, bf16, until its validation error is flat; no download",
    ),
}
# Recipe -> the recipe of the run that it needs, and where that lies.
BEFORE = {"emoji/neuraltalk": ("emoji/cnn", "runs/emoji-cnn")}


def add(
    run: Path,
    zoo: Path,
    *,
    half: bool = False,
    results: Path | None = None,
    dense: Path | None = None,
    settings: str = "",
) -> Entry:
    """Put a finished run into a zoo: its dense network, its last one, and their figures as the kept files give them.

    Args:
        run: a run folder.
        zoo: the folder of the zoo.
        dense: a run folder whose first phase is the dense one, if that is not the first of ``run``.
        settings: what the card says behind the name of the recipe, to train it anew; if not given, the seed.
        half: keep weights in half precision; the figures are those of the rounded weights.
        results: the folder of a comparison of the same recipe, whose means over seeds the card shows too.

    Raises:
        StateError: the run is not finished, or the zoo has it already.
    """
    recipe, result = read_run_recipe(run), read_json(run / "result.json")
    over_seeds = _over_seeds(results, recipe) if results else None
    settings = settings or f"--seed {recipe.seed}"
    folder = new_folder(zoo / recipe.name.replace("/", "-"), "")
    (first,) = (dense or run).glob("checkpoints/0-*.safetensors")
    arm = recipe.arm or DSD
    weights = {"dense": load_tree(first)["model"], arm: load_file(run / "model.safetensors")}
    networks = files(arm)
    for model, file in networks.items():
        kept = {name: _rounded(tensor) if half else tensor.contiguous() for name, tensor in weights[model].items()}
        write_bytes(folder / file, to_bytes(kept, metadata={"format": "pt"}))
    write_text(folder / "recipe.yaml", recipe.to_yaml())
    for path in sorted((run / "artifacts").glob("*")):
        (folder / "artifacts").mkdir(exist_ok=True)
        write_bytes(folder / "artifacts" / path.name, path.read_bytes())
    companions = copy_companions(run, recipe, folder)
    write_sums(folder, [path for path in folder.rglob("*") if path.is_file()])
    engine = load_model(folder)
    figures = dict(measured(engine, folder, networks))
    made = read_json(run / "environment.json")
    card: dict[str, Any] = {
        "recipe": recipe.name,
        "about": recipe.about,
        "metric": vars(engine.task.metric),
        "seed": recipe.seed,
        "parameters": sum(parameter.numel() for parameter in engine.model.parameters()),
        "precision": "fp16" if half else "fp32",
        "test_examples": len(engine.task.examples("test")),
        "data": engine.task.fingerprint,
        "figures": figures,
        "sha256": {model: file_sum(folder / file) for model, file in networks.items()},
        "made": {key: made.get(key) for key in ("redense", "python", "torch", "processor")},
        "over_seeds": over_seeds,
    }
    write_text(folder / "zoo.json", json.dumps(card, indent=2) + "\n")
    add_sums(folder, [folder / "zoo.json"])
    write_text(folder / "README.md", _card(card, recipe, result, companions, settings))
    return read_entry(folder)


def _rounded(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.dtype == torch.float32 else tensor).contiguous()


def _over_seeds(results: Path, recipe: Recipe) -> dict[str, Any]:
    """Return the means of the rows that a card shows; of a sweep, those of the recipe's sparsity."""
    compared = read_json(results / "compare.json")
    rows = {row["arm"]: {"mean": row["mean"], "interval": row["interval"]} for row in compared["rows"]}
    swept = f"dsd sparsity={recipe.sparse.sparsity}"
    found = {"baseline": rows.get("baseline"), "dsd": rows.get("dsd", rows.get(swept)), "restart": rows.get("restart")}
    if recipe.arm:
        found[recipe.arm] = rows.get(recipe.arm)
    missing = [arm for arm, row in found.items() if row is None]
    if missing or compared["recipe"] != recipe.name:
        raise RedenseError(f"{results} is no comparison of {recipe.name} with {', '.join(found)}")
    return {"seeds": compared["seeds"], "rows": found}


def _card(card: dict[str, Any], recipe: Recipe, result: dict[str, Any], companions: list[str], settings: str) -> str:
    metric = Metric(**card["metric"])
    what, unit = f"test {shown_name(metric.name)}", f" {metric.unit}".rstrip()
    sparse = next((phase for phase in result["phases"] if phase["sparsity"]), None)
    (_, arm) = card["figures"]
    how = (
        f"{sparse['sparsity']:.0%} of the prunable weights were pruned for {sparse['epochs']:g} epochs"
        if sparse
        else f"`dense` is trained for {recipe.dense.epochs:g} epochs, `{arm}` for {result['phases'][-1]['epochs']:g}, "
        "without a mask"
    )
    name = recipe.name.replace("/", "-")
    lines = [
        f"# {recipe.name}",
        "",
        f"{recipe.about}. {card['parameters']:,} weights, kept as {card['precision']}.",
        "",
        f"| network | file | {what} |",
        "|---|---|---|",
        *(f"| {model} | `{file}` | {card['figures'][model]:.2f}{unit} |" for model, file in files(arm).items()),
        "",
        f"Seed {card['seed']}, the first and not the best; {card['test_examples']:,} test examples; "
        f"{how}. The figures are those of these files:",
        "",
        "```console",
        f"redense zoo evaluate {name}",
        "```",
        "",
        "The data is that of the recipe, and redense finds it by name where it is not shipped. Train it anew with",
        "",
        "```console",
        *(f"redense run {name} --out {folder}" for name, folder in filter(None, [BEFORE.get(recipe.name)])),
        f"redense run {recipe.name} {settings}",
        "```",
        "",
        *(f"`{name}` is the network that it sees with." for name in companions),
        *[""] * bool(companions),
        *_means(card, what, unit),
        f"Made with redense {card['made']['redense']}, Python {card['made']['python']} and PyTorch "
        f"{card['made']['torch']} on {card['made']['processor']}. `recipe.yaml` is the whole recipe, `zoo.json` all of "
        "the above for programs.",
        "",
    ]
    return "\n".join(lines)


def _means(card: dict[str, Any], what: str, unit: str) -> list[str]:
    over = card["over_seeds"]
    if not over:
        return ["No comparison over seeds was made: that DSD is what helped is not shown.", ""]
    return [
        f"One pair of networks shows little. Over {len(over['seeds'])} seeds (mean and 95 % interval):",
        "",
        f"| arm | {what} |",
        "|---|---|",
        *(
            f"| `{arm}` | {row['mean']:.2f} ± {(row['interval'][1] - row['interval'][0]) / 2:.2f}{unit} |"
            for arm, row in over["rows"].items()
        ),
        "",
        *(
            ["`restart` is the control: the same steps and learning rates without a mask."]
            if len(over["rows"]) == 3
            else [
                "All but the baseline make as many steps; `restart` has the learning rates of `dsd` too, and no mask."
            ]
        ),
        "",
    ]


def redense(*arguments: str) -> None:
    """Run the command line in the repository; end with it if it fails."""
    subprocess.run([sys.executable, "-m", "redense.cli", *arguments], check=True, cwd=ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    only = parser.parse_args().only
    for recipe, network in NETWORKS.items():
        if (only and recipe != only) or (ROOT / "zoo" / recipe.replace("/", "-")).exists():
            continue
        if before := BEFORE.get(recipe):
            name, folder = before
            if not (ROOT / folder / "model.safetensors").exists():
                redense("run", name, "--out", folder)
        results, settings = ROOT / "results" / network.results, network.settings.split()
        with tempfile.TemporaryDirectory() as place:
            run, dense = Path(place) / "run", None
            about = ("--about", network.about) if network.about else ()
            if network.arm:
                dense = Path(place) / "dense"
                redense("run", recipe, *settings, "--out", str(dense))
                settings += ["--arm", network.arm]
            redense("run", recipe, *settings, *about, "--out", str(run))
            entry = add(run, ROOT / "zoo", half=network.half, results=results, dense=dense, settings=" ".join(settings))
        print(f"{entry.name}: {entry.bytes:,} bytes, {entry.figures}")


if __name__ == "__main__":
    main()
