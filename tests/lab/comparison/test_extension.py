"""Seeds and arms that are added after looking: they join the family, and the correction grows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from redense.errors import DataError, RecipeError
from redense.lab.comparison.comparison import Comparison, new_comparison, read_comparison
from redense.lab.comparison.extension import Looks, extended, plan_looks, read_looks, write_extended
from redense.lab.recipe.recipe import Recipe

Tiny = Callable[..., Recipe]


@pytest.fixture
def begun(tiny: Tiny, tmp_path: Path) -> tuple[Path, Comparison]:
    comparison = Comparison(tiny(), ("dsd", "restart"), (0, 1, 2), {})
    return new_comparison(comparison, tmp_path / "c"), comparison


def results(folder: Path, seeds: list[int], arms: tuple[str, ...]) -> None:
    rows = [{"arm": arm} for arm in ("baseline", *arms)]
    (folder / "compare.json").write_text(json.dumps({"seeds": seeds, "rows": rows}))


def test_seeds_and_arms_are_added_and_never_taken_away(begun: tuple[Path, Comparison]):
    _, comparison = begun
    more = extended(comparison, (0, 1, 2, 7), ("restart", "random"))
    assert (more.seeds, more.arms) == ((0, 1, 2, 7), ("dsd", "restart", "random"))
    assert extended(comparison, None, None) == comparison
    with pytest.raises(RecipeError, match="--seeds leaves out 2, which the comparison has"):
        extended(comparison, (0, 1, 5), None)


def test_what_is_added_after_looking_is_noted_and_before_it_is_not(begun: tuple[Path, Comparison]):
    folder, comparison = begun
    first = extended(comparison, (0, 1, 2, 3), None)
    write_extended(folder, comparison, first)  # nothing was seen yet
    assert read_looks(folder, first) == Looks(now=(4, 2))
    results(folder, [0, 1, 2, 3], ("dsd", "restart"))
    second = extended(first, range(6), None)
    write_extended(folder, first, second)
    third = extended(second, range(8), None)
    write_extended(folder, second, third)  # the second was never finished, so nobody looked
    looks = read_looks(folder, third)
    assert read_comparison(folder) == third
    assert (looks.looked, looks.now, looks.correction) == (((4, 2),), (8, 2), 2)
    assert looks.added == (
        "Seeds (4, then 8) were added after looking, and no further look was planned: p-values are multiplied by 2 "
        "now. Over all looks a difference is shown by chance in up to 7.5 % of experiments, not 5 %; --looks, given "
        "beforehand, keeps that."
    )


def test_planned_looks_are_what_is_corrected_for(begun: tuple[Path, Comparison]):
    folder, comparison = begun
    plan_looks(folder, 4, 0.5)
    assert read_looks(folder, comparison) == Looks(4, 0.5, (), (3, 2))
    looked = Looks(4, 0.5, ((3, 2), (5, 2)), (8, 2))
    assert looked.correction == 4
    assert looked.added.endswith("The correction is that of the 4 looks that were planned.")
    assert [Looks(2, None, ((3, 2),) * k, (9, 2)).correction for k in range(5)] == [2, 2, 4, 8, 16]
    assert "up to 6.25 %" in Looks(2, None, ((3, 2), (4, 2)), (5, 2)).added
    with pytest.raises(DataError, match="looks must be a whole number"):
        plan_looks(folder, 0, None)


def test_arms_join_the_family():
    assert Looks(1, None, ((5, 3),), (5, 4)).added.startswith(
        "Arms (3, then 4; all are judged as one family) were added after looking"
    )
