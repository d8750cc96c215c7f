"""redense: dense-sparse-dense training (Han et al., ICLR 2017) for PyTorch.

Public names are loaded when first used, so that the command line does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from . import variants as variants
    from .cli import calls as verbs  # noqa: F401  # it is no name of `__all__`
    from .controller import DSD, sparse
    from .criteria import criterion
    from .errors import RedenseError
    from .holding.rates import scale_lr
    from .lab.judging.judge import judge
    from .lab.runs.trained import load
    from .parameters import Summary, prunable, summary
    from .phase import Decay, Phase
    from .report.compared import compare
    from .report.searched import search
    from .report.tuned import tune
    from .scans.sensitivity import sensitivity
    from .schedule import Schedule
    from .surgery import Surgery

_HOME = {
    "DSD": "controller",
    "Decay": "phase",
    "Phase": "phase",
    "RedenseError": "errors",
    "Schedule": "schedule",
    "Summary": "parameters",
    "Surgery": "surgery",
    "compare": "report.compared",
    "criterion": "criteria",
    "judge": "lab.judging.judge",
    "load": "lab.runs.trained",
    "prunable": "parameters",
    "scale_lr": "holding.rates",
    "search": "report.searched",
    "sensitivity": "scans.sensitivity",
    "sparse": "controller",
    "summary": "parameters",
    "tune": "report.tuned",
}
_MODULES = {"variants": "variants", "verbs": "cli.calls"}
"""Modules that are public as a whole: ``redense.variants.restarted(schedule)``, ``redense.verbs.run("quickstart")``."""

__all__ = [
    "DSD",
    "Decay",
    "Phase",
    "RedenseError",
    "Schedule",
    "Summary",
    "Surgery",
    "compare",
    "criterion",
    "judge",
    "load",
    "prunable",
    "scale_lr",
    "search",
    "sensitivity",
    "sparse",
    "summary",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'redense' has no attribute '{name}'")
    try:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as error:
        from .optional.extras import missing_extra

        if (missing := missing_extra(error, f"redense.{name}")) is None:
            raise
        raise missing from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
