"""The zoo: small trained networks in a folder each, with the figures they reached and what shows the figures again.

A network of the zoo lies as an exported run does, so that `redense evaluate`, `redense transcribe` and a recipe's
``start`` take its folder too:

    zoo.json               what is here: figures, digests, who made it
    recipe.yaml            the resolved recipe
    dense.safetensors      the weights after the first phase
    model.safetensors      the weights after the last, or after another arm's training in its stead
    artifacts/             what the network needs beside its weights where the data is not
    README.md              the card
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from redense.errors import StateError, nearest
from redense.files.checksums import check_sums, file_sum
from redense.tasks.metrics import Metric

from .folder import read_json
from .runs.run import load_model
from .training.engine import Engine

DSD = "dsd"
_ARM = re.compile(r"[a-z][a-z0-9-]{0,39}")

TOLERANCE = 0.1
"""By how many points a figure may differ on another machine: its kernels add up in another order."""


def files(arm: str = DSD) -> dict[str, str]:
    """The two networks of an entry and their files: the dense one, and what an arm of `redense arms` ends with."""
    return {"dense": "dense.safetensors", arm: "model.safetensors"}


@dataclass(frozen=True)
class Entry:
    """A network of the zoo: one recipe, dense and after DSD, or after another arm."""

    name: str
    folder: Path
    about: str
    metric: Metric
    parameters: int
    figures: dict[str, float]  # of the test split, by the names of `files`
    digests: dict[str, str]  # sha256 of the files

    @property
    def arm(self) -> str:
        """The arm that its second network is of: ``dsd``, or another."""
        return next(name for name in self.figures if name != "dense")

    @property
    def bytes(self) -> int:
        """The size of its two files of weights, in bytes."""
        return sum((self.folder / file).stat().st_size for file in files(self.arm).values())


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
    found = [read_entry(path.parent) for path in sorted(zoo.glob("*/zoo.json"))]
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


def evaluate(entry: Entry, models: Sequence[str] = ()) -> list[Check]:
    """Load networks of an entry into the plain model, each by its name or both, and evaluate them on the test split.

    Raises:
        StateError: a file is missing, or is not the one that the card is of.
        DataError: the data is missing or is not the data that the card is of.
    """
    networks = {name: file for name, file in files(entry.arm).items() if not models or name in models}
    for model, file in networks.items():
        path = entry.folder / file
        if not path.is_file() or file_sum(path) != entry.digests[model]:
            raise StateError(f"{path} is missing or not the file that its card is of: take it from the source again")
    engine = load_model(entry.folder)
    return [Check(model, found, entry.figures[model]) for model, found in measured(engine, entry.folder, networks)]


def measured(engine: Engine, folder: Path, networks: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """Give the test figure of each network of a folder, as its file has it; ``networks`` are those of `files`."""
    for model, file in networks.items():
        engine.model.load_state_dict(load_file(folder / file))
        yield model, engine.evaluate("test")[engine.task.metric.name]


def read_entry(folder: Path) -> Entry:
    """Return the entry that a folder holds.

    Raises:
        StateError: its card is damaged, or none.
        CheckpointError: its card does not match its checksum.
    """
    check_sums(folder, "zoo.json")
    card = read_json(folder / "zoo.json")
    try:
        _, arm = sorted(card["figures"], key=lambda name: name != "dense")
        if not _ARM.fullmatch(arm):
            raise ValueError("what its second network was trained with is no name of an arm")
        figures = {model: float(card["figures"][model]) for model in files(arm)}
        digests = {model: str(card["sha256"][model]) for model in files(arm)}
        metric = Metric(**card["metric"])
        return Entry(folder.name, folder, card["about"], metric, int(card["parameters"]), figures, digests)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"{folder / 'zoo.json'} is no card of a zoo: {type(error).__name__} {error}") from None
