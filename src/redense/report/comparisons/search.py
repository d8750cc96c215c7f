"""The tree of a search on the page of its confirmation: every setting, round by round, and what all of it took."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from redense.files.markup import Child, h
from redense.report.kit.parts import Cell, Column, Table, table_of
from redense.report.kit.quantities import NOTHING, cell, count, number


def search_parts(search: Mapping[str, Any]) -> list[Child]:
    """Return what was searched before the confirmation that the page is about."""
    runs = search["runs"]
    price = f"{count(runs['search'], 'run')} to search and {count(runs['confirm'], 'run')} to confirm."
    return [
        h("p", str(search["sentence"])),
        h(
            "p",
            "Settings were halved from round to round by validation figures alone, the controls with at least as many "
            f"settings as the candidates: {price} The seeds of the confirmation are fresh, and their number was fixed "
            "before.",
            class_="note",
        ),
        *(_tree(pool, rounds) for pool, rounds in search["rounds"].items() if rounds),
    ]


def _tree(pool: str, rounds: list[Mapping[str, Any]]) -> Table:
    columns: list[Column[str]] = [("Setting", False, str)]
    for place, one in enumerate(rounds, 1):
        columns.append((f"Round {place}, {count(len(one['seeds']), 'seed')}", True, partial(_mean, one)))
    caption = f"The {pool}: mean validation figure, bold where a setting stays"
    return table_of(caption, list(rounds[0]["means"]), columns)


def _mean(one: Mapping[str, Any], name: str) -> Cell:
    if name not in one["means"]:
        return NOTHING
    if (mean := one["means"][name]) is None:
        return "failed"
    return h("strong", number(mean)) if name in one["stay"] else cell(mean)
