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
LONGEST = [name for name in CHECKS if "technique" in name or "lengths" in name]

Ranks = Callable[..., list[dict[str, str]]]
Tiny = Callable[..., Recipe]


def assert_passed(ranks: Ranks, tiny: Tiny, folder: Path, world: int, checks: list[str], **more: Any) -> None:
    plain = folder / "recipe.json"
    plain.write_text(json.dumps(tiny().model_dump(mode="json")))
    results = ranks(SCRIPT, world, folder, plain, *checks, **more)
    problems = [f"rank {rank}, {name}:\n{text}" for rank, r in enumerate(results) for name, text in r.items() if text]
    assert not problems, "\n".join(problems)
    assert all(set(result) == set(checks) for result in results)


@pytest.mark.timeout(300)
def test_two_ranks_train_the_run_of_one_and_fail_together(ranks: Ranks, tiny: Tiny, tmp_path: Path):
    assert_passed(ranks, tiny, tmp_path, 2, [name for name in CHECKS if name not in LONGEST], timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", LONGEST)
def test_two_ranks(name: str, ranks: Ranks, tiny: Tiny, tmp_path: Path):
    assert_passed(ranks, tiny, tmp_path, 2, [name], timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", [3, 4])  # gloo's sum of three numbers depends on where DDP has put them
def test_more_ranks_pass_every_check(world: int, ranks: Ranks, tiny: Tiny, tmp_path: Path):
    assert_passed(ranks, tiny, tmp_path, world, CHECKS, timeout=880)
