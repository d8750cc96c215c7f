"""The tree of a search on the page of its confirmation: every setting, round by round, and what all of it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redense.files.markup import Child, h
from redense.report.kit.parts import Cell, Table
from redense.report.kit.quantities import NOTHING, cell, count, number


def search_parts(search: Mapping[str, Any]) -> list[Child]:
    """Return what was searched before the confirmation that the page is about."""
    runs = search["runs"]
    price = f"{count(runs['search'], 'run')} to search and {count(runs['confirm'], 'run')} to confirm."
    return [
        h("p", str(search["sentence"])),
        h(
            "p",
            f"Settings were halved from round to round by validation figures alone, the controls with as many settings "
            f"as the candidates: {price} The seeds of the confirmation are fresh, and their number was fixed before.",
            class_="note",
        ),
        *(_tree(pool, rounds) for pool, rounds in search["rounds"].items() if rounds),
    ]


def _tree(pool: str, rounds: list[Mapping[str, Any]]) -> Table:
    columns = [("Setting", False)]
    columns += [(f"Round {place}, {count(len(one['seeds']), 'seed')}", True) for place, one in enumerate(rounds, 1)]
    rows: list[list[Cell]] = []
    for name in rounds[0]["means"]:
        row: list[Cell] = [name]
        for one in rounds:
            if name not in one["means"]:
                row.append(NOTHING)
            elif (mean := one["means"][name]) is None:
                row.append("failed")
            else:
                row.append(h("strong", number(mean)) if name in one["stay"] else cell(mean))
        rows.append(row)
    return Table(f"The {pool}: mean validation figure, bold where a setting stays", columns, rows)
