"""The packages that are not there after a plain ``pip install redense``, and the line that installs them."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from redense.errors import MissingExtraError

LAB = frozenset({"accelerate", "joblib", "plotly", "pydantic", "rich", "safetensors", "scipy", "yaml"})
"""What the extra ``lab`` brings, as it is imported. The other extras are named where they are used."""


def refuse_folder(*modules: ModuleType) -> None:
    """Raise where the import of a package found no more than a folder of its name.

    Python takes a folder without ``__init__.py``, in a place where it looks for modules, for a package that is empty.
    The folder at hand is such a place for ``python -m`` and for a script that lies in it, and may well have a folder
    called ``wandb``, which wandb writes, or ``datasets``.

    Raises:
        ModuleNotFoundError: it did.

    >>> import json
    >>> refuse_folder(json)
    """
    for module in modules:
        places = getattr(module, "__path__", None)
        if places is not None and getattr(module, "__file__", None) is None:
            name = module.__name__
            raise ModuleNotFoundError(f"No module named '{name}', only the folder {next(iter(places))}", name=name)


def is_installed(name: str) -> bool:
    """Whether there is a package of a name to be imported, and not only a folder; it is not imported.

    >>> is_installed("json"), is_installed("no_such_package")
    (True, False)
    """
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def missing_extra(error: ModuleNotFoundError, what: str) -> MissingExtraError | None:
    """Return the error that says how to install the module that ``what`` lacks; None if it is of no extra.

    >>> print(missing_extra(ModuleNotFoundError("No module named 'rich'", name="rich.table"), "redense run"))
    redense run needs rich: pip install 'redense[lab]'
    """
    name = (error.name or "").partition(".")[0]
    return MissingExtraError(f"{what} needs {name}: pip install 'redense[lab]'") if name in LAB else None
