"""The packages that are not there after a plain ``pip install redense``, and the line that installs them."""

from __future__ import annotations

from redense.errors import MissingExtraError

LAB = frozenset({"accelerate", "joblib", "plotly", "pydantic", "rich", "safetensors", "scipy", "yaml"})
"""What the extra ``lab`` brings, as it is imported. The other extras are named where they are used."""


def missing_extra(error: ModuleNotFoundError, what: str) -> MissingExtraError | None:
    """Return the error that says how to install the module that ``what`` lacks; None if it is of no extra.

    >>> print(missing_extra(ModuleNotFoundError("No module named 'rich'", name="rich.table"), "redense run"))
    redense run needs rich: pip install 'redense[lab]'
    """
    name = (error.name or "").partition(".")[0]
    return MissingExtraError(f"{what} needs {name}: pip install 'redense[lab]'") if name in LAB else None
