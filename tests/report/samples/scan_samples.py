"""Scans as `redense sensitivity` writes them, with names that must not become markup."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from redense.scans.result import Curve, Scan

MAGNITUDES = tuple(i / 200 for i in range(201))
DATA: dict[str, Any] = {
    "recipe": "<b>tiny</b>",
    "seed": 3,
    "source": "quickstart",
    "follows": "loss",
    "unit": "",
    "validation_examples": 500,
    "environment": {"torch": "2.13", "cores": 2},
}


def scan(**changes: Any) -> Scan:
    curves = (
        Curve("first</script>.weight", (10, 10), ((0.3, 0.51), (0.6, 0.9), (0.9, None)), MAGNITUDES),
        Curve("rnn.weight_hh_l0", (40, 10), ((0.3, 0.5), (0.6, 0.5), (0.9, 0.53)), MAGNITUDES),
        Curve("rnn.weight_hh_l0[i]", (10, 10), ((0.6, 0.55),), MAGNITUDES, gate=True),
    )
    return Scan(0.5, curves, (0.3, 0.6, 0.9), **{"tolerance": 0.01, "hopeless": 0.4, "evaluations": 9, **changes})


def write_scan(folder: Path) -> Path:
    """Write a scan as `redense sensitivity` does."""
    found = scan()
    chosen = found.allocate(0.5)
    kept = {
        "scan": found.to_dict(),
        "allocation": {
            "sparsities": chosen.to_dict(),
            "predicted": chosen.predicted,
            "beside": chosen.beside,
            "predictions": {
                name: value if math.isfinite(value) else None for name, value in chosen.predictions.items()
            },
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sensitivity.json").write_text(json.dumps({**DATA, **kept}))
    return folder
