"""Every optimizer of torch and pytorch_optimizer goes dense, sparse, dense; a page of the docs has the exceptions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import every_optimizer

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "optimizers.md"


def exceptions() -> dict[str, str]:
    """Return the table of the documentation: optimizer -> what does not hold of it."""
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| [^|]{5,} \|$", PAGE.read_text(), re.MULTILINE)
    return {name: outcome.strip() for name, outcome in rows}


def examined(entries: str) -> tuple[dict[str, set[str]], int]:
    """Return what does not hold of each optimizer in any of its configurations, and how many there are."""
    found: dict[str, set[str]] = {}
    number = 0
    for entry in getattr(every_optimizer, entries)():
        number += 1
        found.setdefault(entry.name.partition("(")[0], set()).add(every_optimizer.examine(entry))
    return found, number


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("library", ["torch", "pytorch_optimizer"])
def test_every_optimizer_does_what_the_page_says(library: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("expecttest" if library == "torch" else library)  # torch's database of optimizers imports it
    pytest.importorskip("lightning_fabric")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    known = {name: what for name, what in exceptions().items() if name.startswith("torch.") == (library == "torch")}
    assert known
    found, number = examined(f"of_{library}")
    assert {name: outcomes for name, outcomes in found.items() if outcomes != {""}} == {
        name: {what} for name, what in known.items()
    }
    assert f" {number} {'configurations' if library == 'torch' else 'optimizers'} " in PAGE.read_text()
