"""A task of one's own: predict the next character of a text, judged in bits per character.

REDENSE_PLUGINS=examples/plugins/characters.py redense run examples/plugins/characters.yaml
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from redense.errors import DataError
from redense.files.markup import h
from redense.report.kit.document import About, Section
from redense.report.kit.parts import Cell, Table
from redense.report.kit.quantities import cell
from redense.tasks.evidence import Evidence, Plain, Text
from redense.tasks.metrics import Metric
from redense.tasks.registry import Registration, register
from redense.tasks.task import Facts, Settings, Split


# --8<-- [start:sections]
class TextData(BaseModel):
    """The recipe's section `data`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = Field(default=None, description="a text file in UTF-8")
    length: int = Field(default=64, ge=2, description="characters of an example")


class TextModel(BaseModel):
    """The recipe's section `model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "lstm"
    width: int = Field(default=128, ge=1)


# --8<-- [end:sections]
# --8<-- [start:data]
class Windows:
    """A split: a list of indices -> characters (b, length + 1), int64."""

    def __init__(self, text: Tensor, length: int) -> None:
        self.windows = text[: (len(text) - 1) // length * length + 1].unfold(0, length + 1, length)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        return self.windows[torch.as_tensor(indices)]

    def begin_epoch(self, seed: int) -> None:
        """Nothing about an example is random."""


# --8<-- [end:data]
# --8<-- [start:model]
class NextCharacter(nn.Module):
    """Characters (b, t) -> logits (b, t, alphabet)."""

    def __init__(self, alphabet: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.output = nn.Linear(width, alphabet)

    def forward(self, characters: Tensor) -> Tensor:
        return self.output(self.lstm(self.embedding(characters))[0])


# --8<-- [end:model]
# --8<-- [start:task]
class Characters:
    """The task: everything that the engine asks of it."""

    name = "characters"
    metric = Metric("bits", "", lower_is_better=True)
    include: Sequence[str] | None = None  # redense.prunable says which: no embedding, no bias
    exclude: Sequence[str] = ()
    notes: Sequence[str] = ()  # what a user should be told about the data

    def __init__(self, data: TextData, model: TextModel) -> None:
        if data.source is None:
            raise DataError("data.source is missing: give a text file, --data FILE")
        try:
            text = Path(data.source).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{data.source} cannot be read as a text in UTF-8: {error}") from None
        self.alphabet = sorted(set(text))
        codes = {character: code for code, character in enumerate(self.alphabet)}
        encoded = torch.tensor([codes[character] for character in text])
        parts = encoded.tensor_split([len(text) * 8 // 10, len(text) * 9 // 10])
        if min(len(part) for part in parts) <= data.length:
            raise DataError(f"{data.source} has {len(text):,} characters: too few for examples of {data.length}")
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        names: tuple[Split, ...] = ("train", "validation", "test")
        self._splits = {name: Windows(part, data.length) for name, part in zip(names, parts, strict=True)}
        self._model = model

    def examples(self, split: Split) -> Windows:
        return self._splits[split]

    def build_model(self) -> nn.Module:
        return NextCharacter(len(self.alphabet), self._model.width)

    def outputs(self, model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch[:, :-1]).flatten(0, 1)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(self.outputs(model, batch), batch[:, 1:].flatten())

    def outcome(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        logits = model(batch[:, :-1]).float().transpose(1, 2)
        return {"loss": F.cross_entropy(logits, batch[:, 1:], reduction="none").mean(1)}  # one row an example

    def metrics(self, outcome: Mapping[str, Tensor]) -> dict[str, float]:
        loss = float(outcome["loss"].double().mean())
        return {"loss": loss, "bits": loss / math.log(2)}

    def evidence(self, outcomes: Mapping[str, Mapping[str, Tensor]]) -> "CharactersEvidence":
        bits = torch.stack([outcome["loss"].double() for outcome in outcomes.values()]) / math.log(
            2
        )  # networks, examples
        most = (bits[-1] - bits[0]).abs().argsort(descending=True, stable=True)[:12]
        windows = self._splits["test"].windows
        return CharactersEvidence(
            networks=tuple(outcomes),
            pieces=tuple(
                Piece(
                    text="".join(self.alphabet[code] for code in windows[index, 1:].tolist()),
                    bits=tuple(round(value, 4) for value in bits[:, index].tolist()),
                )
                for index in most.tolist()
            ),
        )


# --8<-- [end:task]
# --8<-- [start:evidence]
class Piece(Plain):
    """A piece of the test text, and the bits per character that each network needs for it."""

    text: Text
    bits: tuple[float, ...]


class CharactersEvidence(Evidence):
    """The pieces for which the last network differs most from the first: what `evidence.json` of a run holds."""

    kind = "characters"
    pieces: tuple[Piece, ...]


def sections(evidence: CharactersEvidence, about: About) -> list[Section]:
    """Return what the report shows of it."""
    columns = [("Piece", False), *((name, True) for name in evidence.networks)]
    rows: list[list[Cell]] = [[piece.text, *(cell(bits, 2) for bits in piece.bits)] for piece in evidence.pieces]
    table = Table("Bits per character of each piece, the greatest difference first", columns, rows)
    said = f"Where the {evidence.after} network differs most from the {evidence.before} network, in the test text."
    return [Section("pieces", f"Piece by piece{about.of}", [h("p", said), table])]


# --8<-- [end:evidence]
# --8<-- [start:entry]
def make(settings: Settings) -> Characters:
    """Return the task of a recipe, its data loaded."""
    return Characters(settings.data, settings.model)


def facts(settings: Settings) -> Facts:
    """Return what a plan has to know of the data: `redense recipes show` asks."""
    task = make(settings)
    train, length = len(task.examples("train")), settings.data.length
    text = f"{train:,} pieces of {length} characters, {len(task.alphabet)} different ones"
    return Facts(train=train, text=text, size=length, looked_at=True)


def sketch(settings: Settings, facts: Facts, examples: int) -> Characters:
    """Return a task to try a few steps on. A text is small: it is the task itself."""
    return make(settings)


register(
    Registration(
        name="characters",
        data=TextData,
        model=TextModel,
        entry=__name__,
        metric=Characters.metric,
        things="pieces of text",
        evidence=f"{__name__}:CharactersEvidence",
        report=f"{__name__}:sections",
    )
)
# --8<-- [end:entry]
