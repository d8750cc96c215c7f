"""`redense.search`: settings are halved on validation figures, and only what fresh seeds confirm is a gain."""

from __future__ import annotations

import importlib
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import redense
from redense.errors import DataError, RecipeError, StateError
from redense.lab.search.halving import halve, plan_rungs, price

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DSD = redense.Schedule.dsd(dense=40, sparse=20, redense=20, sparsity=0.3)


@pytest.mark.parametrize("settings", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("times", [1, 2, 5, 11])
def test_a_budget_is_kept_and_later_rounds_have_fewer_settings_and_more_seeds(settings: int, times: int):
    rungs = plan_rungs(settings, settings * times)
    assert 0 < price(rungs) <= settings * times
    assert rungs[0].settings == settings
    for before, after in itertools.pairwise(rungs):
        assert after.settings < before.settings
        assert after.seeds >= before.seeds


def test_a_budget_below_one_run_a_setting_is_refused():
    with pytest.raises(RecipeError, match="a search of 4 settings takes at least 4 runs, got 3"):
        plan_rungs(4, 3)


def test_the_better_half_stays_and_what_failed_does_not():
    truth = {"a": 4.0, "b": 1.0, "c": 3.0, "d": 2.0}

    def score(names: Sequence[str], seeds: Sequence[int]) -> Mapping[str, Mapping[int, float]]:
        return {name: dict.fromkeys(seeds, truth[name]) for name in names if name != "d"}

    winner, rounds = halve(list(truth), plan_rungs(4, 20), range(9), score, is_lower_better=lambda: True)
    assert (winner, rounds[0].stay, rounds[0].means["d"]) == ("b", ("b", "c"), None)
    assert halve(list(truth), plan_rungs(4, 20), range(9), score, is_lower_better=lambda: False)[0] == "a"
    assert halve(["d"], plan_rungs(1, 2), range(9), score, is_lower_better=lambda: True)[0] is None


def test_of_means_that_rounding_alone_parts_the_first_stays():
    figures = {"a": (100 * 21 / 36, 0.0), "b": (100 * 4 / 36, 100 * 17 / 36), "c": (99.0, 99.0)}

    def score(names: Sequence[str], seeds: Sequence[int]) -> Mapping[str, Mapping[int, float]]:
        return {name: {seed: figures[name][seed % 2] for seed in seeds} for name in names}

    for names in (["a", "b", "c"], ["b", "a", "c"]):
        means = halve(names, plan_rungs(3, 10), range(9), score, is_lower_better=lambda: True)[1][-1].means
        assert means["a"] != means["b"]  # though both are 21 of 72
        assert halve(names, plan_rungs(3, 10), range(9), score, is_lower_better=lambda: True)[0] == names[0]


@pytest.fixture
def null(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("null_searches")


def test_where_nothing_is_better_at_most_one_search_in_twenty_confirms_a_gain(null: Any):
    draw = random.Random(5)
    assert sum(null.confirmed(draw, null.KINDS["normal, heavy tails"]) for _ in range(200)) <= 10


def test_what_is_better_by_much_is_found_and_confirmed(null: Any):
    draw = random.Random(6)
    assert sum(null.confirmed(draw, null.KINDS["normal, heavy tails"], gain=2.5) for _ in range(50)) >= 40


def test_the_stored_searches_are_those_that_the_page_tells(null: Any):
    stored = json.loads((BENCHMARKS / "results" / "null_searches.json").read_text(encoding="utf-8"))
    counts = [len(searches) for searches in stored["confirmed"].values()]
    assert stored["settings"]["searches"] == 1000
    assert stored["confirmed"].keys() == null.KINDS.keys()
    page = (BENCHMARKS.parent / "docs" / "how-to" / "compare-your-training.md").read_text(encoding="utf-8")
    told = f"of 1,000 simulated searches without any difference {min(counts)} to {max(counts)} confirm a gain"
    assert told in " ".join(page.split())


# --- with a training ------------------------------------------------------------------------------------------------


class Trained:
    """A training of which the more is removed the better, by ``gain`` a weight."""

    def __init__(self, gain: float, stop_at: int = 0) -> None:
        self.gain, self.stop_at, self.calls = gain, stop_at, 0

    def __call__(self, schedule: redense.Schedule, seed: int) -> Any:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        removed = max((phase.sparsity for phase in schedule.phases if isinstance(phase.sparsity, float)), default=0.0)
        luck = random.Random(f"{schedule}{seed}").gauss(0, 0.1)
        error = 10 + random.Random(seed).gauss(0, 1) + luck - self.gain * removed
        return {"validation_error": error, "test_error": error + random.Random(f"{seed}{schedule}").gauss(0, 0.1)}


CANDIDATES = {
    f"dsd {share}": redense.Schedule.dsd(dense=40, sparse=20, redense=20, sparsity=share)
    for share in (0.3, 0.5, 0.7, 0.9)
}


def search(train: Any, out: Path, **more: Any) -> Any:
    given = {"candidates": CANDIDATES, "runs": 32, "metric": "error", "quiet": True, "out": out}
    return redense.search(train, DSD, **{**given, **more})


def test_the_best_is_confirmed_on_fresh_seeds_and_the_page_has_the_tree(tmp_path: Path):
    train = Trained(gain=2)
    found = search(train, tmp_path)
    assert (found.winner, found.gain) == ("dsd 0.9", True)
    assert train.calls == sum(found.runs.values())
    assert found.runs["search"] <= 32
    assert not {seed for rounds in found.rounds.values() for one in rounds for seed in one.seeds} & {
        *found.confirmed.results["seeds"]
    }
    assert len(found.confirmed.judgement.decision.contrasts) == 1
    assert f"dsd 0.9 beats {found.control}, the strongest control" in str(found)
    page = (tmp_path / "confirm/report.html").read_text(encoding="utf-8")
    assert "Settings were halved from round to round" in page
    assert "of a training of your own, by redense.compare; the same call goes on" in page
    for name in ("dsd 0.3", "longer", "restart rate=0.5"):
        assert f'<th scope="row">{name}</th>' in page
    assert json.loads((tmp_path / "search.json").read_text()) == found.to_dict()


@pytest.mark.parametrize("better", ["error", "accuracy"])
def test_the_figures_themselves_say_which_way_is_better(better: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("redense.report.searched.compared", lambda *given, **more: None)
    sign = 1 if better == "error" else -1

    def train(schedule: redense.Schedule, seed: int) -> Any:
        figure = 50 - sign * 10 * float(schedule.phases[-2].sparsity == 0.5) + seed / 10
        return {f"validation_{better}": figure, f"test_{better}": figure}

    found = redense.search(train, DSD, candidates=CANDIDATES, runs=40, out=tmp_path, quiet=True)
    assert found.winner == "dsd 0.5"


def test_a_winner_whose_control_failed_once_is_no_gain_and_the_sentence_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("redense.report.comparisons.page.write_compare_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("redense.report.searched.write_compare_report", lambda folder: folder / "report.html")
    whole = Trained(gain=2)

    def train(schedule: redense.Schedule, seed: int) -> Any:
        if seed == 1000 and not any(phase.sparsity for phase in schedule.phases):
            raise RuntimeError("out of memory")
        return whole(schedule, seed)

    found = search(train, tmp_path, confirm=5)
    assert not found.gain
    assert "dsd 0.9 against " in found.sentence
    assert found.sentence.endswith(f"1 of 5 runs of {found.control} failed, so no gain can be claimed.")


def test_a_winner_that_always_fails_on_fresh_seeds_is_told_from_a_control_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("redense.report.comparisons.page.write_compare_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("redense.report.searched.write_compare_report", lambda folder: folder / "report.html")
    whole = Trained(gain=2)

    def train(schedule: redense.Schedule, seed: int) -> Any:
        figures = whole(schedule, seed)
        fresh = seed >= 1000 and any(phase.sparsity for phase in schedule.phases)
        return {**figures, "test_error": float("nan")} if fresh else figures

    found = search(train, tmp_path, confirm=np.int64(5), runs=np.int64(32))
    assert f"dsd 0.9 against {found.control}, no run of dsd 0.9 has a figure on 5 fresh seeds" in found.sentence


def test_a_search_begins_in_no_folder_that_holds_something_else(tmp_path: Path):
    (tmp_path / "search.json").write_text("mine")
    train = Trained(gain=0)
    with pytest.raises(StateError, match="exists and is not empty: name another folder"):
        search(train, tmp_path)
    assert (tmp_path / "search.json").read_text() == "mine"
    assert not train.calls


def test_it_can_end_with_nothing_and_says_so_and_goes_on_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("redense.report.comparisons.page.write_compare_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("redense.report.searched.write_compare_report", lambda folder: folder / "report.html")
    whole = search(Trained(gain=0), tmp_path / "whole")
    assert not whole.gain
    assert "Nothing here beats the control" in whole.sentence
    for stop_at in (4, 11, 9):
        with pytest.raises(KeyboardInterrupt):
            search(Trained(0, stop_at), tmp_path / "stopped")
    assert search(Trained(0), tmp_path / "stopped").to_dict() == whole.to_dict()


@pytest.mark.parametrize(
    ("more", "error", "why"),
    [
        ({"controls": {"mine": DSD}}, RecipeError, "4 candidates beside 1 controls: controls are to be tuned as often"),
        ({"confirm": 3}, RecipeError, "confirm must be 5 to 1,000 fresh seeds"),
        (
            {"runs": 5},
            RecipeError,
            "of 4 candidates and 4 controls takes at least 8 runs, half of them for each; got 5",
        ),
        ({"metric": "mine"}, DataError, "is better is not known"),
        ({"runs": float("inf")}, RecipeError, "runs must be a whole number, got inf"),
        ({"runs": 10**12}, RecipeError, "a search has at most 1,000"),
        (
            {"candidates": {"mine": DSD, "flat": redense.variants.restarted(DSD)}},
            RecipeError,
            "candidate 'flat' has no mask, which makes it a control, and no gain: give it among the controls",
        ),
        ({"candidates": ()}, RecipeError, "there is no candidate: name arms, or give schedules"),
        ({"candidates": {"dense": DSD}}, RecipeError, "'dense' is the name of a baseline, and a search has none"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_trained(
    tmp_path: Path, more: dict[str, Any], error: type[Exception], why: str
):
    train = Trained(gain=0)
    with pytest.raises(error, match=why):
        search(train, tmp_path, **more)
    assert not train.calls


def test_a_search_needs_validation_figures(tmp_path: Path):
    with pytest.raises(DataError, match="a search needs validation figures"):
        search(lambda schedule, seed: {"error": 1.0}, tmp_path)
    with pytest.raises(DataError, match="a search confirms on test figures, and train returns none"):
        search(lambda schedule, seed: {"validation_error": 1.0}, tmp_path / "without")


# --- the sparsity alone ---------------------------------------------------------------------------------------------


def test_a_sparsity_is_chosen_on_validation_figures_and_told_beside_the_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("redense.report.comparisons.page.write_compare_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("redense.report.searched.write_compare_report", lambda folder: folder / "report.html")
    given: dict[str, Any] = {"sparsities": (0.1, 0.5, 0.7), "runs": 24, "metric": "error", "quiet": True}
    for gain, best in ((2, 0.7), (-2, 0.1)):  # the dense network is best in the second
        found = redense.tune(Trained(gain), DSD, out=tmp_path / str(gain), **given)
        assert found.sparsity == best
        assert found.gain == (gain > 0)
        assert f"A sparsity of {best:g} is the best on validation figures." in str(found)
        assert (f"sparsity={best:g} beats" in found.sentence) == found.gain
        assert f"A sparsity of {best:g}" in found._repr_html_()
        assert {"restart", "llr", "longer"} == set(found.searched.rounds["controls"][0].means)
        assert found.to_dict()["sparsity"] == best
    close = redense.tune(Trained(2), DSD, out=tmp_path / "close", **{**given, "sparsities": (0.5, 0.5000001)})
    assert set(close.searched.rounds["candidates"][0].means) == {"sparsity=0.5", "sparsity=0.5000001"}


ITERATIVE = redense.Schedule.dsd(dense=4, sparse=[2, 2], redense=[2, 2], sparsity=[0.5, 0.3])


@pytest.mark.parametrize(
    ("schedule", "sparsities", "why"),
    [
        (ITERATIVE, (0.2,), "tune chooses one sparsity"),
        (redense.Schedule((redense.Phase.dense(4),)), (0.2,), "tune chooses one sparsity"),
        (DSD, 0.5, "sparsities are several numbers, such as"),
        (redense.Schedule.dsd(dense=4, sparse=2, redense=2, sparsity={"a": 0.3}), (0.2,), "tune chooses one sparsity"),
        (DSD, (0.2, 0.2), r"different numbers in \(0, 1\), got 0.2"),
        (DSD, ("x",), r"different numbers in \(0, 1\), got 'x'"),
        (DSD, (0.0,), r"different numbers in \(0, 1\), got 0.0"),
        (DSD, (), "there is no sparsity to try"),
    ],
)
def test_a_schedule_or_sparsities_that_cannot_be_tuned_are_refused(
    tmp_path: Path, schedule: redense.Schedule, sparsities: Sequence[Any], why: str
):
    with pytest.raises(RecipeError, match=why):
        redense.tune(Trained(0), schedule, sparsities=sparsities, metric="error", out=tmp_path)


def test_what_failed_once_is_tried_again_and_a_second_confirmation_is_refused(tmp_path: Path):
    train, broken = Trained(gain=2), [0.9]

    def failing(schedule: redense.Schedule, seed: int) -> Any:
        if any(phase.sparsity in broken for phase in schedule.phases):
            raise RuntimeError("out of memory")
        return train(schedule, seed)

    assert search(failing, tmp_path / "a").winner == "dsd 0.7"
    broken.clear()
    calls = train.calls
    assert search(failing, tmp_path / "a").winner == "dsd 0.7"
    assert train.calls == calls
    with pytest.raises(StateError, match=r"'dsd 0.7' beside '.*' was confirmed in .*, and now 'dsd 0.9' beside"):
        search(failing, tmp_path / "a", retry_failed=True)
    broken.append(0.9)
    with pytest.MonkeyPatch.context() as patch:  # killed before the confirmation
        patch.setattr("redense.report.searched.compared", lambda *given, **more: None)
        search(failing, tmp_path / "b")
    broken.clear()
    assert search(failing, tmp_path / "b", retry_failed=True).winner == "dsd 0.9"
