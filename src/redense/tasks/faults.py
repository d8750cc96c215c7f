"""Faults of a data set, counted by cause: many of one kind are a number and a few examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redense.files.visible import visible_line

SHOWN = 10
"""Examples of a cause."""


@dataclass(frozen=True)
class Fault:
    """One thing that cannot be used: what it is called, and what is wrong with it."""

    name: str
    cause: str

    def __str__(self) -> str:
        """Return both in a sentence without an end."""
        return visible_line(f"{self.name} {self.cause}")


@dataclass(frozen=True)
class Checked:
    """The findings of `redense data check` on a set.

    Args:
        lines: for people.
        facts: for programs, plain JSON.
        faults: what cannot be used.
        refusal: why training with the same settings refuses the set; empty: it does not.
        broken: something of it is damaged that training would leave out.
    """

    lines: list[str]
    facts: dict[str, Any]
    faults: list[Fault]
    refusal: str
    broken: bool = False


def by_cause(faults: Iterable[Fault]) -> dict[str, list[Fault]]:
    """Return the faults of each kind of cause, the most frequent kind first; numbers in a cause make no other kind."""
    found: dict[str, list[Fault]] = {}
    for fault in faults:
        found.setdefault(re.sub(r"\d[\d,.]*", "N", fault.cause), []).append(fault)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def fault_lines(faults: Sequence[Fault], indent: str = "  ") -> list[str]:
    """Return lines that name the faults: all of a rare cause, ten of a frequent one and the number of the others.

    >>> fault_lines([Fault(f"{number}.png", "is empty") for number in range(12)], "")[-2:]
    ['  9.png is empty', '  and 2 more of this kind']
    """
    if not faults:
        return []
    lines = [f"{indent}{len(faults):,} cannot be used:"]
    for kind in by_cause(faults).values():
        lines += [f"{indent}  {fault}" for fault in kind[:SHOWN]]
        if len(kind) > SHOWN:
            lines.append(f"{indent}  and {len(kind) - SHOWN:,} more of this kind")
    return lines
