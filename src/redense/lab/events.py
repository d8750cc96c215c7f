"""Events: what training tells whoever listens, as it happens."""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]
"""What happens while training: see `metrics.jsonl` in `redense.lab.runs.run`."""
