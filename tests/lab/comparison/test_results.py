"""The answer of a comparison: every number is a raw one or the judge's, and no more is claimed than they say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from redense.files.writing import write_text
from redense.lab.comparison.comparison import Comparison
from redense.lab.comparison.diagnosis import diagnose_grid
from redense.lab.comparison.grid import Grid
from redense.lab.comparison.results import gather, write_results, wrong
from redense.lab.diagnosis.report import Settings
from redense.lab.judging import statistics
from redense.lab.judging.power import detectable
from redense.lab.recipe.recipe import Recipe
from redense.lab.store import PhaseStore

Tiny = Callable[..., Recipe]
Answer = Callable[..., dict[str, Any]]

BASELINE = (30.0, 31.0, 29.5, 30.5, 30.2, 29.8, 30.9, 30.4)
BETTER = tuple(e - 5 + 0.1 * (i % 3) for i, e in enumerate(BASELINE))
BEST = tuple(e - 8 + 0.1 * (i % 4) for i, e in enumerate(BASELINE))
WORSE = tuple(e + 5 + 0.1 * (i % 3) for i, e in enumerate(BASELINE))
NOISE = tuple(e + (-1) ** i * 0.4 for i, e in enumerate(BASELINE))


@pytest.fixture
def answer(tiny: Tiny, tmp_path: Path) -> Answer:
    """Return what a comparison says that ended with these test errors, nothing being trained: arm=(error, ...)."""

    def make(
        *, outcomes: Mapping[str, Sequence[Sequence[bool]]] | None = None, **errors: Sequence[float | None]
    ) -> dict[str, Any]:
        seeds = tuple(range(len(errors["baseline"])))
        arms = tuple(name for name in errors if name != "baseline")
        store = PhaseStore(tmp_path / "store")
        grid = Grid(Comparison(tiny(), arms, seeds, {}), store, tmp_path)
        for cell in grid.cells:
            folder, error = store.folder(cell.keys[-1]), errors[cell.label][cell.seed]
            folder.mkdir(parents=True)
            if error is None:
                write_text(folder / "failed.json", json.dumps({"error": "the loss became nan"}))
                continue
            numbers = {"error": error, "loss": error / 30}
            facts = {"test": numbers, "validation": numbers, "parameters": 556, "nonzeros": 500}
            write_text(folder / "facts.json", json.dumps(facts))
            if outcomes:
                ranks = torch.tensor([int(w) for w in outcomes[cell.label][cell.seed]])
                store.put_outcome(cell.keys[-1], "test", {"rank": ranks})
        return gather(grid)

    return make


def comparison_of(result: dict[str, Any], arm: str, against: str) -> dict[str, Any]:
    (found,) = [item for item in result["comparisons"] if (item["arm"], item["against"]) == (arm, against)]
    return found


# --- what is claimed ------------------------------------------------------------------------------------------------


def test_a_gain_is_better_than_the_baseline_and_than_the_control(answer: Answer):
    result = answer(baseline=BASELINE, dsd=BEST, restart=BETTER, random=BETTER[::-1], scratch=WORSE)
    said = result["conclusions"]
    assert said["dsd"] == "dsd: a gain. Against the baseline: better; against restart, the control: better."
    assert said["restart"] == "restart: the control. Against the baseline: better."
    assert said["scratch"].startswith("scratch: no gain. Against the baseline: worse;")
    assert said["random"].startswith("random: no gain.")
    assert set(said) == {"dsd", "restart", "random", "scratch"}
    assert result["gains"] == ["dsd"]
    assert result["caution"].startswith("The p-values hold for one look")


def test_the_strongest_control_without_a_mask_decides(answer: Answer):
    result = answer(baseline=BASELINE, dsd=BETTER, restart=NOISE, llr=BEST)
    assert (result["control"], result["family"]["comparisons"]) == (["llr"], 4)
    assert comparison_of(result, "dsd", "llr")["verdict"] == "worse"
    assert result["conclusions"]["dsd"] == (
        "dsd: no gain. Against the baseline: better; against llr, the control: worse."
    )
    assert result["control_sentence"] == "The control is llr: on validation figures it is ahead of restart."


def test_an_arm_that_only_ties_with_the_control_is_no_gain(answer: Answer):
    almost = tuple(e + (-1) ** i * 0.4 for i, e in enumerate(BETTER))
    said = answer(baseline=BASELINE, dsd=almost, restart=BETTER)["conclusions"]["dsd"]
    assert said == ("dsd: no gain. Against the baseline: better; against restart, the control: no difference shown.")


def test_without_a_control_nothing_is_called_a_gain(answer: Answer):
    result = answer(baseline=BASELINE, dsd=BEST, random=BETTER)
    assert comparison_of(result, "dsd", "baseline")["verdict"] == "better"
    for arm in ("dsd", "random"):
        said = result["conclusions"][arm]
        assert said.startswith(f"{arm}: no gain.")
        assert said.endswith("counts as a control without a mask, so no gain can be claimed.")
    assert ": a gain" not in json.dumps(result)


def test_what_differs_in_more_than_the_method_is_said_with_the_conclusion(answer: Answer):
    result = answer(baseline=BASELINE, restart=BEST, dropout=BETTER)
    assert result["conclusions"]["dropout"].startswith("dropout: a control. ")
    assert result["conclusions"]["dropout"].endswith(" It differs in more: dropout 0 in every phase.")


@pytest.mark.parametrize("control", [(None,) * 8, (None, *BETTER[1:])], ids=["always", "once"])
def test_a_control_that_diverged_is_none(control: tuple[float | None, ...], answer: Answer):
    result = answer(baseline=BASELINE, dsd=BEST, restart=control)
    failed = control.count(None)
    said = result["conclusions"]
    assert said["dsd"].startswith("dsd: no gain. Against the baseline: better")
    assert said["dsd"].endswith(f"{failed} of 8 runs of restart diverged, so no gain can be claimed.")
    assert said["restart"].endswith(f" {failed} of 8 runs of restart diverged.")
    assert len(result["comparisons"]) == (1 if failed == 8 else 3)
    assert result["gains"] == []


def test_one_seed_says_that_it_shows_nothing(answer: Answer):
    result = answer(baseline=BASELINE[:1], dsd=BEST[:1], restart=BETTER[:1])
    assert result["conclusions"]["dsd"] == "dsd: no gain. One seed shows nothing."
    assert {item["verdict"] for item in result["comparisons"]} == {"one seed shows nothing"}
    assert result["caution"].startswith("One seed shows nothing")
    assert [(item["p_t"], item["p_flip"], item["interval"]) for item in result["comparisons"]] == [(None,) * 3] * 3
    assert ": a gain" not in json.dumps(result)


def test_few_seeds_come_with_a_caution(answer: Answer):
    result = answer(baseline=BASELINE[:3], dsd=BEST[:3], restart=BETTER[:3])
    assert result["caution"].startswith("With 3 seeds the sign-flip test gives no p below 0.25")


def test_an_arm_that_diverged_with_one_seed_is_no_gain_however_good_the_others(answer: Answer):
    result = answer(baseline=BASELINE, dsd=(None, *BEST[1:]), restart=BETTER)
    assert result["conclusions"]["dsd"].endswith("1 of 8 runs of dsd diverged, so no gain can be claimed.")
    assert comparison_of(result, "dsd", "restart")["seeds"] == list(range(1, 8))
    row = next(row for row in result["rows"] if row["arm"] == "dsd")
    assert row["seeds"][0] == {"seed": 0, "key": row["seeds"][0]["key"], "failed": "the loss became nan"}
    assert row["mean"] == statistics.interval(BEST[1:])[0]


def test_every_number_of_a_comparison_is_that_of_the_statistics(answer: Answer):
    errors = {"baseline": BASELINE, "dsd": BEST, "restart": BETTER, "llr": NOISE, "scratch": WORSE}
    result = answer(**errors)
    pairs = [(arm, "baseline") for arm in ("dsd", "restart", "llr", "scratch")]
    pairs += [(arm, "restart") for arm in ("dsd", "scratch")]
    assert [(item["arm"], item["against"]) for item in result["comparisons"]] == pairs
    found = [statistics.compare_paired(errors[a], errors[b]) for a, b in pairs]
    adjusted = statistics.holm([pair.p for pair in found])  # over all that is printed
    for item, pair, p in zip(result["comparisons"], found, adjusted, strict=True):
        assert (item["n"], item["difference"], item["differences"]) == (8, pair.mean, list(pair.differences))
        assert (item["p_t"], item["p_flip"], item["p_adjusted"]) == (pair.p_t, pair.p_flip, p)
        assert item["interval"] == (list(pair.interval) if pair.interval else None)
        assert item["effect"] == pair.effect
        assert item["detectable"] == (None if pair.sd is None else pair.sd * (detectable(8, 6) or 0))
        assert item["sentence"].startswith(f"{item['arm']}")
    verdicts = {(item["arm"], item["against"]): item["verdict"] for item in result["comparisons"]}
    assert set(verdicts.values()) == {"better", "worse", "no difference shown"}
    for row in result["rows"]:
        mean, interval = statistics.interval(errors[row["arm"]])
        assert (row["mean"], tuple(row["interval"])) == (mean, interval)


def test_mcnemar_counts_what_an_arm_fixes_and_breaks_seed_by_seed(answer: Answer):
    outcomes = {
        "baseline": [[True, True, True, False, False], [True] * 5],
        "restart": [[True, True, False, False, False], [False] * 5],
        "dsd": [[False, False, True, True, False], [True, True, True, True, False]],
    }
    result = answer(outcomes=outcomes, baseline=(60, 100), restart=(40, 0), dsd=(40, 80))
    found = comparison_of(result, "dsd", "baseline")["mcnemar"]
    assert found == [{"seed": 0, "fixed": 2, "broken": 1, "p": 1.0}, {"seed": 1, "fixed": 1, "broken": 0, "p": 1.0}]
    found = comparison_of(result, "dsd", "restart")["mcnemar"]
    assert [(item["fixed"], item["broken"]) for item in found] == [(2, 2), (0, 4)]
    assert found[1]["p"] == pytest.approx(2 * 0.5**4)
    assert comparison_of(result, "restart", "baseline")["mcnemar"][1]["p"] == pytest.approx(2 * 0.5**5)


def test_a_task_without_right_and_wrong_has_no_mcnemar():
    assert wrong({"loss": torch.zeros(3)}) is None
    found = wrong({"rank": torch.tensor([0, 1, 7])})
    assert found is not None
    assert found.tolist() == [False, True, True]


# --- what is written ------------------------------------------------------------------------------------------------


def test_the_json_has_every_raw_number_of_the_store(some_arms: Any):
    result = json.loads(some_arms.raw())
    assert result == some_arms.result
    assert result["recipe"] == "tiny"
    assert result["metric"] == {"name": "error", "unit": "%", "lower_is_better": True}
    assert (result["seeds"], result["test_examples"]) == ([0, 1], 100)
    assert result["data"] == some_arms.grid.task.fingerprint
    store = some_arms.grid.store
    for row in result["rows"]:
        for seed in row["seeds"]:
            outcome = store.outcome(seed["key"], "test")
            assert seed["test"] == some_arms.grid.task.metrics(outcome)
            state = store.state(seed["key"])["model"]
            weights = {name: value for name, value in state.items() if "running_" not in name and "num_" not in name}
            assert seed["parameters"] == sum(w.numel() for w in weights.values())
            assert seed["nonzeros"] == sum(int((w != 0).sum()) for w in weights.values())
            assert store.records(seed["key"])[-1]["validation"].keys() == seed["validation"].keys()
    assert "NaN" not in some_arms.raw().decode()


def test_mcnemar_is_that_of_the_answers_of_the_networks(some_arms: Any):
    store = some_arms.grid.store
    for item in some_arms.result["comparisons"]:
        rows = [some_arms.row(item["arm"]), some_arms.row(item["against"])]
        for index, found in enumerate(item["mcnemar"]):
            ranks = [store.outcome(row["seeds"][index]["key"], "test")["rank"] for row in rows]
            assert found["fixed"] == int(((ranks[0] == 0) & (ranks[1] > 0)).sum())
            assert found["broken"] == int(((ranks[0] > 0) & (ranks[1] == 0)).sum())
        assert [found["seed"] for found in item["mcnemar"]] == [0, 1]


def test_the_evidence_is_of_the_first_seed_and_agrees_with_mcnemar(some_arms: Any):
    found = json.loads(some_arms.raw("evidence.json"))
    assert (found["networks"][0], found["networks"][-1]) == ("baseline", "dsd")
    assert set(found["networks"]) == {row["arm"] for row in some_arms.result["rows"]}
    test = comparison_of(some_arms.result, "dsd", "baseline")["mcnemar"][0]
    assert (test["seed"], test["fixed"], test["broken"]) == (0, found["fixed"]["total"], found["broken"]["total"])
    for index, arm in enumerate(found["networks"]):
        wrong = sum(row["networks"][index]["wrong"] for row in found["classes"])
        assert 100 * wrong / found["examples"] == pytest.approx(some_arms.row(arm)["seeds"][0]["test"]["error"])


def test_an_arm_that_has_trained_the_networks_of_another_is_said_to_change_nothing(compared: Callable[..., Any]):
    found = compared("restart", "smooth", "restart-dsd", "llr", changes={"training": {"label_smoothing": 0.1}})
    assert {row["arm"]: row.get("same") for row in found.result["rows"]} == {
        "baseline": None, "restart": None, "smooth": "restart", "restart-dsd": "restart", "llr": None
    }  # fmt: skip
    said = found.result["conclusions"]
    assert said["smooth"].endswith("It changes nothing here: its networks are those of restart, to the bit.")
    assert "to the bit" not in said["restart"] + said["llr"]


def test_without_another_arm_the_control_is_held_against_the_baseline(compared: Callable[..., Any]):
    found = compared("restart", seeds=(0,))
    assert json.loads(found.raw("evidence.json"))["networks"] == ["baseline", "restart"]


def test_the_csv_says_what_the_json_says(some_arms: Any):
    lines = list(csv.DictReader(io.StringIO(some_arms.raw("compare.csv").decode())))
    expected = [(row, seed) for row in some_arms.result["rows"] for seed in row["seeds"]]
    assert len(lines) == len(expected)
    for line, (row, seed) in zip(lines, expected, strict=True):
        assert line == {
            "arm": row["arm"],
            "seed": str(seed["seed"]),
            "steps": str(row["steps"]),
            "gradients": str(row["gradients"]),
            "parameters": str(seed["parameters"]),
            "nonzeros": str(seed["nonzeros"]),
            "failed": "",
            **{f"{split}_{name}": str(seed[split][name]) for split in ("validation", "test") for name in seed[split]},
        }


def test_the_curves_and_costs_are_those_of_all_phases_of_an_arm(some_arms: Any):
    curves, costs = json.loads(some_arms.raw("curves.json")), json.loads(some_arms.raw("costs.json"))
    names = [row["arm"] for row in some_arms.result["rows"]]
    assert list(curves) == list(costs) == names
    (first, _) = curves["dsd"]
    assert [(point["phase"], point["step"]) for point in first["points"]] == [
        ("dense", 11),
        ("sparse", 22),
        ("redense", 33),
    ]
    assert [point["sparsity"] > 0 for point in first["points"]] == [False, True, False]
    assert curves["restart"][0]["points"][0] == first["points"][0]  # the phase that they share


def test_phases_that_take_gradients_to_choose_a_mask_count_them(tiny: Tiny, tmp_path: Path):
    recipe = tiny(sparse={"criterion": "saliency"}, training={"accumulate": 2, "batch_size": 16})
    grid = Grid(Comparison(recipe, ("dsd", "restart"), (0,), {}), PhaseStore(tmp_path / "s"), tmp_path)
    for cell in grid.cells:
        folder = grid.store.folder(cell.keys[-1])
        folder.mkdir(parents=True)
        numbers = {"error": 1.0, "loss": 1.0}
        facts = {"test": numbers, "validation": numbers, "parameters": 1, "nonzeros": 1}
        write_text(folder / "facts.json", json.dumps(facts))
    rows = {row["arm"]: (row["steps"], row["gradients"]) for row in gather(grid)["rows"]}
    assert rows == {"baseline": (11, 22), "dsd": (33, 2 * (33 + 11)), "restart": (33, 66)}


def test_writing_the_results_again_gives_the_same_bytes(some_arms: Any, tmp_path: Path):
    write_results(tmp_path, some_arms.grid)
    for name in ("compare.json", "compare.csv", "costs.json", "curves.json", "evidence.json"):
        assert (tmp_path / name).read_bytes() == some_arms.raw(name)


# --- diagnosis ------------------------------------------------------------------------------------------------------


def test_the_diagnosis_sets_dsd_beside_restart(some_arms: Any):
    settings = Settings(points=3, products=4, weight_scales=(0.1,), input_scales=(0.1,), draws=1, bins=11)
    told: list[tuple[int, int, str]] = []
    found = diagnose_grid(some_arms.grid, settings=settings, progress=lambda *what: told.append(what))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["arms"]) == ["dsd", "restart"]
    assert (found["seed"], found["loss_examples"], found["metric_examples"]) == (0, 250, 40)
    dsd, restart = found["arms"].values()
    assert dsd["states"] == ["dense", "sparse", "redense"]
    assert restart["states"] == ["dense", "restart", "redense"]
    assert dsd["levels"][0] == restart["levels"][0] | {"state": "dense"}
    for name, flow in found["arms"].items():
        assert {"levels", "line", "sharpness", "weight_noise", "input_noise", "distance", "similarity"} <= set(flow)
        assert not [row for rows in flow.values() if isinstance(rows, list) for row in rows if "error" in row]
        last = some_arms.row(name)["seeds"][0]["validation"]
        assert flow["levels"][-1]["metric"] == pytest.approx(last["error"])
    assert "five_moments" in dsd
    assert "five_moments" not in restart
    assert {what.partition(":")[0] for _, _, what in told} == {"dsd", "restart"}


def test_the_diagnosis_leaves_out_what_was_not_compared_or_diverged(compared: Callable[..., Any]):
    found = diagnose_grid(compared("llr", seeds=(1,)).grid)
    assert (found["seed"], found["arms"]) == (1, {})
