"""What networks wrote under test images: ``evidence.json`` as data, checked, and what the files beside it add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redense.errors import DataError
from redense.report.kit.loading import load_object

KIND = "captioning"
GROUPS = ("won", "lost", "random")

_Interval = tuple[float, float]


@dataclass(frozen=True)
class NetworkRow:
    """A network's figures over the test split; what has four entries is of BLEU-1 to BLEU-4.

    Args:
        name: of the network.
        sparsity: of its prunable weights; None where it is not known.
        bleu: 0 to 100.
        interval: 95 %.
        gain: on the baseline.
        gain_interval: 95 %, of the same draws for both.
        relative: gain as % of the baseline's; None where that is 0.
        chrf: 0 to 100.
        perplexity: of a word; None where it is no finite number.
    """

    name: str
    sparsity: float | None
    bleu: tuple[float, ...]
    interval: tuple[_Interval, ...]
    gain: tuple[float, ...]
    gain_interval: tuple[_Interval, ...]
    relative: tuple[float | None, ...]
    chrf: float
    perplexity: float | None


@dataclass(frozen=True)
class Shown:
    """An image with what each network wrote, in the order of the networks, and what people did."""

    index: int
    name: str
    groups: tuple[str, ...]
    captions: tuple[str, ...]
    scores: tuple[float, ...]
    references: tuple[str, ...]
    picture: str | None
    """PNG in base64."""

    @property
    def gain(self) -> float:
        """The last network's sentence score less the first one's."""
        return self.scores[-1] - self.scores[0]


@dataclass(frozen=True)
class Evidence:
    """What several networks wrote for the same test images; the first is the baseline, the last is judged.

    Args:
        recipe: its name, where it is known.
        table: a row a network.
        examples: images.
        groups: images that differ in their references; those that share all of them are one.
        draws: of the bootstrap.
        references: the least and the most that an image has.
        better: images where the last network has the higher sentence score.
        worse: where the first has.
        alike: images for which both wrote the same.
        shown: the images that were picked out.
        notes: what has to be said of the data.
        no_pictures: why there are none.
    """

    recipe: str | None
    table: tuple[NetworkRow, ...]
    examples: int
    groups: int
    draws: int
    references: tuple[int, int]
    better: int
    worse: int
    alike: int
    shown: tuple[Shown, ...]
    notes: tuple[str, ...]
    no_pictures: str | None

    @property
    def before(self) -> str:
        """The name of the baseline."""
        return self.table[0].name

    @property
    def after(self) -> str:
        """The name of the network that is judged."""
        return self.table[-1].name


def read_evidence(path: Path) -> Evidence | str | None:
    """Return what ``evidence.json`` says, the reason why it says nothing, or None where it is not of captions.

    The name of the recipe and the sparsity of each network are in ``result.json`` or ``compare.json`` beside it.

    Raises:
        DataError: it is damaged.
    """
    data = load_object(path)
    if data.get("kind") != KIND:
        return None
    if "missing" in data:
        return str(data["missing"])
    result = load_object(path.parent / "result.json") or load_object(path.parent / "compare.json")
    try:
        sparsities = _sparsities(result)
        networks = [str(name) for name in data["networks"]]
        if not networks or len(data["table"]) != len(networks):
            raise ValueError(f"{len(data['table'])} rows of {len(networks)} networks")
        rows = zip(networks, data["table"], strict=True)
        return Evidence(
            recipe=str(result["recipe"]) if "recipe" in result else None,
            table=tuple(_row(name, row, sparsities.get(name)) for name, row in rows),
            examples=int(data["examples"]),
            groups=int(data["groups"]),
            draws=int(data["draws"]),
            references=(int(data["references"][0]), int(data["references"][1])),
            better=int(data["better"]),
            worse=int(data["worse"]),
            alike=int(data["alike"]),
            shown=tuple(_shown(item, len(networks)) for item in data["shown"]),
            notes=tuple(str(note) for note in data["notes"]),
            no_pictures=str(data["no_pictures"]) if data["no_pictures"] else None,
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not what redense writes: {error!r}") from None


def _sparsities(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return network -> sparsity: of a run's phases as measured, of a comparison's arms as their last phase plans."""
    if "phases" in result:
        return {str(phase["name"]): float(phase["sparsity"]) for phase in result["phases"]}
    found: dict[str, float | None] = {}
    for row in result.get("rows", ()):
        last = row["phases"][-1]["phase"]
        sparsity = None if "pattern" in last else last.get("sparsity", 0.0)
        found[str(row["arm"])] = float(sparsity) if isinstance(sparsity, int | float) else None
    return found


def _row(name: str, item: Mapping[str, Any], sparsity: float | None) -> NetworkRow:
    return NetworkRow(
        name=name,
        sparsity=sparsity,
        bleu=_four(item["bleu"]),
        interval=tuple(_pair(ends) for ends in _listed(item["interval"])),
        gain=_four(item["gain"]),
        gain_interval=tuple(_pair(ends) for ends in _listed(item["gain_interval"])),
        relative=tuple(None if value is None else float(value) for value in _listed(item["relative"])),
        chrf=float(item["chrf"]),
        perplexity=None if item["perplexity"] is None else float(item["perplexity"]),
    )


def _four(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in _listed(values))


def _listed(values: Any) -> list[Any]:
    if len(values) != 4:
        raise ValueError(f"{len(values)} figures for BLEU-1 to BLEU-4")
    return list(values)


def _pair(ends: Any) -> _Interval:
    low, high = ends
    return float(low), float(high)


def _shown(item: Mapping[str, Any], networks: int) -> Shown:
    captions, scores = item["captions"], item["scores"]
    if len(captions) != networks or len(scores) != networks:
        raise ValueError(f"captions of {len(captions)} of {networks} networks")
    return Shown(
        index=int(item["index"]),
        name=str(item["name"]),
        groups=tuple(group for group in GROUPS if group in item["groups"]),
        captions=tuple(str(caption) for caption in captions),
        scores=tuple(float(score) for score in scores),
        references=tuple(str(sentence) for sentence in item["references"]),
        picture=None if item["picture"] is None else str(item["picture"]),
    )
