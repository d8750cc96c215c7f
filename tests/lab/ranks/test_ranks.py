"""A run over several ranks is the run of one: the same batches, masks and answers; one writer; one reason to end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redense.lab.recipe.recipe import Recipe

SCRIPT = "ranks/training.py"
CHECKS = re.findall(r"^def check_(\w+)", (Path(__file__).parents[2] / SCRIPT).read_text(), re.MULTILINE)
# Those that train longest; the others are quick.
LONG = [
    name for name in CHECKS if "technique" in name or "lengths" in name or "goes_on" in name or "train_the_run" in name
]

Ranks = Callable[..., list[dict[str, str]]]
Tiny = Callable[..., Recipe]


def assert_passed(ranks: Ranks, tiny: Tiny, folder: Path, world: int, checks: list[str], **more: Any) -> None:
    plain = folder / "recipe.json"
    plain.write_text(json.dumps(tiny().model_dump(mode="json")))
    results = ranks(SCRIPT, world, folder, plain, *checks, **more)
    problems = [f"rank {rank}, {name}:\n{text}" for rank, r in enumerate(results) for name, text in r.items() if text]
    assert not problems, "\n".join(problems)
    assert all(set(result) == set(checks) for result in results)


def test_two_ranks_part_batches_and_answers_and_fail_together(ranks: Ranks, tiny: Tiny, tmp_path: Path):
    assert_passed(ranks, tiny, tmp_path, 2, [name for name in CHECKS if name not in LONG])


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if "lengths" in name or "technique" in name else []) for name in LONG],
)
def test_two_ranks(name: str, ranks: Ranks, tiny: Tiny, tmp_path: Path):
    assert_passed(ranks, tiny, tmp_path, 2, [name], timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", [3, 4])  # gloo's sum of three numbers depends on where DDP has put them
def test_more_ranks_pass_every_check(world: int, ranks: Ranks, tiny: Tiny, tmp_path: Path):
    assert_passed(ranks, tiny, tmp_path, world, CHECKS, timeout=880)
