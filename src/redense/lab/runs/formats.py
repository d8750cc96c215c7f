"""The forms that a network is exported in, and what is said of each that was written. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from redense.errors import MissingExtraError, RedenseError
from redense.optional.extras import is_installed

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}
"""Graph format -> what its files end in."""

FORMATS = ("safetensors", *ENDINGS)
"""What a network is written as; the weights as safetensors are always there."""

WITHOUT_GUARDS = "torch.export, check_guards=False"
"""What runs a graph of torch.export whose own checks refuse sizes that it computes rightly."""

SEARCH = "decoding"
"""The folder, in that of a run, of a search that `redense decode` has tuned."""

_NEEDED = {"onnx": ("onnx", "onnxscript")}


class ExportError(RedenseError, RuntimeError):
    """A network cannot be exported as a graph, or the graph gives other numbers."""


VALIDATION = "of validation data"
RANDOM = "made at random"
OTHER = "of other data than the run's"


@dataclass(frozen=True)
class Compared:
    """The distance of a graph from the network.

    Args:
        file: of the graph.
        about: what it takes and gives.
        inputs: the names of its inputs.
        outputs: the names of its outputs.
        difference: the largest between two numbers; None where nothing can run the graph here.
        bound: the largest difference that is rounding.
        calls: how many inputs were compared, of different sizes.
        by: what ran the graph.
        of: what the inputs are.
    """

    file: str
    about: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float | None
    bound: float
    calls: int
    by: str
    of: str = VALIDATION

    def __str__(self) -> str:
        if self.difference is None:
            return f"{self.file}: not compared with the network: {self.by} is not installed"
        return (
            f"{self.file}: as the network on {self.calls} inputs {self.of}, by {self.by}: largest difference "
            f"{self.difference:.1e}, bound {self.bound:.1e}"
        )


def check_format(form: str) -> None:
    """Raise unless a network can be written in this form here.

    Raises:
        ExportError: there is no such form.
        MissingExtraError: what writes it is not installed.
    """
    if form not in FORMATS:
        raise ExportError(f"--format must be one of {', '.join(FORMATS)}, got '{form}'")
    for name in _NEEDED.get(form, ()):
        if not is_installed(name):
            raise MissingExtraError(f"--format {form} needs {name}: pip install 'redense[onnx]'")
