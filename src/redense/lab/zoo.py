"""The zoo: small trained networks in a folder each, with the figures they reached and what shows the figures again.

A network of the zoo lies as an exported run does, so that `redense evaluate`, `redense transcribe` and a recipe's
``start`` take its folder too:

    zoo.json               what is here: figures, digests, who made it
    recipe.yaml            the resolved recipe
    dense.safetensors      the weights after the first phase
    model.safetensors      the weights after the last
    artifacts/             what the network needs beside its weights where the data is not
    README.md              the card
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from redense.errors import RedenseError, StateError, nearest
from redense.files.checksums import add_sums, check_sums, file_sum, write_sums
from redense.files.writing import write_bytes, write_text
from redense.tasks.metrics import Metric, shown_name

from .checkpoint import load_tree
from .folder import new_folder, read_json
from .recipe.recipe import Recipe, read_run_recipe
from .runs.run import load_model
from .training.engine import Engine

MODELS = {"dense": "dense.safetensors", "dsd": "model.safetensors"}
"""The two networks of an entry, and their files."""

TOLERANCE = 0.1
"""By how many points a figure may differ on another machine: its kernels add up in another order."""


@dataclass(frozen=True)
class Entry:
    """A network of the zoo: one recipe, dense and after DSD."""

    name: str
    folder: Path
    about: str
    metric: Metric
    parameters: int
    figures: dict[str, float]  # of the test split, by `MODELS`
    digests: dict[str, str]  # sha256 of the files

    @property
    def bytes(self) -> int:
        """The size of its two files of weights, in bytes."""
        return sum((self.folder / file).stat().st_size for file in MODELS.values())


@dataclass(frozen=True)
class Check:
    """The figures of a network now, beside those of its card."""

    model: str
    found: float
    said: float

    @property
    def same(self) -> bool:
        """Whether the figure is the card's, as far as two machines agree."""
        return abs(self.found - self.said) <= TOLERANCE


def default_zoo() -> Path:
    """Return the folder of the zoo: that of the checkout, or where pip has put it.

    Raises:
        StateError: there is none.
    """
    places = (Path(__file__).parents[3] / "zoo", Path(sysconfig.get_path("data")) / "share" / "redense" / "zoo")
    for place in places:
        if any(place.glob("*/zoo.json")):
            return place
    raise StateError("redense was installed without its zoo: take it from the source, and name its folder with --zoo")


def entries(zoo: Path) -> list[Entry]:
    """Return what is in a zoo, by name.

    Raises:
        StateError: there is no such folder, or a card is damaged.
    """
    found = [_read(path.parent) for path in sorted(zoo.glob("*/zoo.json"))]
    if not found:
        raise StateError(f"{zoo} is no zoo: it has no folder with a zoo.json")
    return found


def find(zoo: Path, name: str) -> Entry:
    """Return the entry of that name; a recipe's name, with a slash, is taken too.

    Raises:
        StateError: there is none.
    """
    known = {entry.name: entry for entry in entries(zoo)}
    if entry := known.get(name.replace("/", "-")):
        return entry
    raise StateError(f"no network of the zoo is called '{name}'{nearest(name, known)} (see redense zoo)")


def evaluate(entry: Entry, models: Sequence[str] = tuple(MODELS)) -> list[Check]:
    """Load each network of an entry into the plain model and evaluate it on the test split.

    Raises:
        StateError: a file is missing, or is not the one that the card is of.
        DataError: the data is missing or is not the data that the card is of.
    """
    for model in models:
        path = entry.folder / MODELS[model]
        if not path.is_file() or file_sum(path) != entry.digests[model]:
            raise StateError(f"{path} is missing or not the file that its card is of: take it from the source again")
    card = read_json(entry.folder / "zoo.json")
    engine = load_model(entry.folder)
    if engine.task.fingerprint != card["data"]:
        raise StateError(f"the data of {entry.name} is not what its card is of: its figures cannot be shown with it")
    return [Check(model, found, entry.figures[model]) for model, found in _measured(engine, entry.folder, models)]


def add(run: Path, zoo: Path, *, half: bool = False, results: Path | None = None) -> Entry:
    """Put a finished run into a zoo: its dense network, its last one, and their figures as the kept files give them.

    Args:
        run: a run folder; its first phase is the dense one.
        zoo: the folder of the zoo.
        half: keep weights in half precision; the figures are those of the rounded weights.
        results: the folder of a comparison of the same recipe, whose means over seeds the card shows too.

    Raises:
        StateError: the run is not finished, or the zoo has it already.
    """
    recipe, result = read_run_recipe(run), read_json(run / "result.json")
    over_seeds = _over_seeds(results, recipe) if results else None
    folder = new_folder(zoo / recipe.name.replace("/", "-"), "")
    first = result["phases"][0]["name"]
    weights = {
        "dense": load_tree(run / "checkpoints" / f"0-{first}.safetensors")["model"],
        "dsd": load_file(run / "model.safetensors"),
    }
    for model, file in MODELS.items():
        kept = {name: _rounded(tensor) if half else tensor.contiguous() for name, tensor in weights[model].items()}
        write_bytes(folder / file, to_bytes(kept, metadata={"format": "pt"}))
    write_text(folder / "recipe.yaml", recipe.to_yaml())
    for path in sorted((run / "artifacts").glob("*")):
        (folder / "artifacts").mkdir(exist_ok=True)
        write_bytes(folder / "artifacts" / path.name, path.read_bytes())
    write_sums(folder, [path for path in folder.rglob("*") if path.is_file()])
    engine = load_model(folder)
    figures = dict(_measured(engine, folder, tuple(MODELS)))
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
        "sha256": {model: file_sum(folder / file) for model, file in MODELS.items()},
        "made": {key: made.get(key) for key in ("redense", "python", "torch", "processor")},
        "over_seeds": over_seeds,
    }
    write_text(folder / "zoo.json", json.dumps(card, indent=2) + "\n")
    add_sums(folder, [folder / "zoo.json"])
    write_text(folder / "README.md", _card(card, recipe, result))
    return _read(folder)


def _measured(engine: Engine, folder: Path, models: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Give the test figure of each network of a folder, as its file has it."""
    for model in models:
        engine.model.load_state_dict(load_file(folder / MODELS[model]))
        yield model, engine.evaluate("test")[engine.task.metric.name]


def _read(folder: Path) -> Entry:
    check_sums(folder, "zoo.json")
    card = read_json(folder / "zoo.json")
    try:
        figures = {model: float(card["figures"][model]) for model in MODELS}
        digests = {model: str(card["sha256"][model]) for model in MODELS}
        metric = Metric(**card["metric"])
        return Entry(folder.name, folder, card["about"], metric, int(card["parameters"]), figures, digests)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"{folder / 'zoo.json'} is no card of a zoo: {type(error).__name__} {error}") from None


def _rounded(tensor: Tensor) -> Tensor:
    return (tensor.half() if tensor.dtype == torch.float32 else tensor).contiguous()


def _over_seeds(results: Path, recipe: Recipe) -> dict[str, Any]:
    """Return the means of the rows that a card shows; of a sweep, those of the recipe's sparsity."""
    compared = read_json(results / "compare.json")
    rows = {row["arm"]: {"mean": row["mean"], "interval": row["interval"]} for row in compared["rows"]}
    swept = f"dsd sparsity={recipe.sparse.sparsity}"
    found = {"baseline": rows.get("baseline"), "dsd": rows.get("dsd", rows.get(swept)), "restart": rows.get("restart")}
    missing = [arm for arm, row in found.items() if row is None]
    if missing or compared["recipe"] != recipe.name:
        raise RedenseError(f"{results} is no comparison of {recipe.name} with baseline, dsd and restart")
    return {"seeds": compared["seeds"], "rows": found}


def _card(card: dict[str, Any], recipe: Recipe, result: dict[str, Any]) -> str:
    metric = Metric(**card["metric"])
    what, unit = f"test {shown_name(metric.name)}", f" {metric.unit}".rstrip()
    sparse = next(phase for phase in result["phases"] if phase["sparsity"])
    name = recipe.name.replace("/", "-")
    lines = [
        f"# {recipe.name}",
        "",
        f"{recipe.about}. {card['parameters']:,} weights, kept as {card['precision']}.",
        "",
        f"| network | file | {what} |",
        "|---|---|---|",
        *(f"| {model} | `{file}` | {card['figures'][model]:.2f}{unit} |" for model, file in MODELS.items()),
        "",
        f"Seed {card['seed']}, the first and not the best; {card['test_examples']:,} test examples; "
        f"{sparse['sparsity']:.0%} of the prunable weights were pruned for {sparse['epochs']:g} epochs. "
        "The figures are those of these files:",
        "",
        "```console",
        f"redense zoo evaluate {name}",
        "```",
        "",
        "The data is that of the recipe, and redense finds it by name where it is not shipped. Train it anew with",
        "",
        "```console",
        f"redense run {recipe.name} --seed {card['seed']}",
        "```",
        "",
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
        "`restart` is the control: the same steps and learning rates without a mask.",
        "",
    ]
