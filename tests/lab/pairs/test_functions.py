"""`redense.compare`: pairs are trained once, kept as they come, and judged as `redense.judge` judges them."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch

import redense
from redense import variants
from redense.errors import DataError, StateError
from redense.lab.pairs.by_name import schedule_of
from redense.lab.pairs.named import NAMED

DSD = redense.Schedule.dsd(dense=40, sparse=20, redense=20, sparsity=0.3)
ARMS = ("dsd", "restart", "llr", "longer")
Train = Callable[[redense.Schedule, int], Any]


class Trained:
    """A training whose figures are known, and that counts its calls."""

    def __init__(
        self, stop_at: int = 0, fails: Callable[[redense.Schedule, int], bool] = lambda s, seed: False
    ) -> None:
        self.calls: list[tuple[int, int]] = []
        self.stop_at, self.fails = stop_at, fails

    def __call__(self, schedule: redense.Schedule, seed: int) -> dict[str, float]:
        if len(self.calls) + 1 == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append((len(schedule.phases), seed))
        if self.fails(schedule, seed):
            raise ValueError("no luck\nat all")
        luck, masked = random.Random(f"{schedule}{seed}").gauss(0, 0.05), any(p.is_sparse for p in schedule.phases)
        error = 10 + random.Random(seed).gauss(0, 0.5) - 0.3 * (schedule.total_steps > 40) - 0.9 * masked + luck
        return {"validation_error": error + 0.01 * masked, "test_error": error}


def compare(train: Any, out: Path, **more: Any) -> Any:
    return redense.compare(train, DSD, **{"arms": ARMS, "seeds": 3, "out": out, "quiet": True, **more})


@pytest.fixture(autouse=True)
def _no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has tests of its own; here it would cost most of the time."""
    if "the_page_has" not in request.node.name:
        monkeypatch.setattr(
            "redense.report.comparisons.page.write_compare_report", lambda folder: folder / "report.html"
        )


def test_the_verdicts_are_those_of_judge(tmp_path: Path):
    short = compare(Trained(), tmp_path / "short", metric="validation_error")
    assert "its validation error is" in short.judgement.headline
    assert str(short) == str(redense.judge(tmp_path / "short"))
    result = compare(Trained(), tmp_path / "out")
    judged = redense.judge(tmp_path / "out" / "compare.csv", metric="error")
    assert result.to_dict() == judged.to_dict()
    assert result.gains == ("dsd",)
    assert str(result) == str(judged)
    assert result._repr_html_() == judged._repr_html_()
    assert [arm["arm"] for arm in result.to_dict()["arms"]] == ["baseline", *ARMS]


def test_a_comparison_that_is_stopped_goes_on_and_ends_with_the_same_table(tmp_path: Path):
    whole = Trained()
    compare(whole, tmp_path / "whole")
    calls: list[Any] = []
    for stop_at in (3, 1, 5):
        train = Trained(stop_at)
        with pytest.raises(KeyboardInterrupt):
            compare(train, tmp_path / "stopped")
        calls += train.calls
    last = Trained()
    compare(last, tmp_path / "stopped")
    assert calls + last.calls == whole.calls
    for name in ("compare.json", "compare.csv"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = Trained()
    compare(again, tmp_path / "stopped")
    assert not again.calls


def test_what_a_training_leaves_behind_changes_no_other_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []

    def train(schedule: redense.Schedule, seed: int) -> dict[str, float]:
        state = Path.cwd(), torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
        seen.append((*map(str, state), torch.are_deterministic_algorithms_enabled()))
        os.chdir(tmp_path / "else")
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        return Trained()(schedule, seed)

    compare(train, Path("out"))
    assert len(set(seen)) == 1
    assert (tmp_path / "out/pairs/dsd/2/result.json").is_file()


def test_numbers_of_numpy_are_numbers(tmp_path: Path):
    terms = {"looks": np.int64(2), "margin": np.float32(0.5), "threads": np.int64(1), "lower_is_better": np.bool_(True)}
    found = compare(Trained(), tmp_path, seeds=np.arange(3), jobs=np.int64(1), **terms)
    assert (found.judgement.decision.family.looks, found.judgement.decision.margin) == (2, 0.5)
    assert compare(Trained(), tmp_path, seeds=3, lower_is_better=True, looks=2, margin=0.5).results == found.results


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"metric": 3}, "metric is the name of a figure, got '3'"),
        ({"lower_is_better": 0}, "lower_is_better is True or False, got '0'"),
        ({"threads": 0}, "threads must be a whole number from 1 on, or None, got '0'"),
        ({"threads": "2"}, "threads must be a whole number"),
    ],
)
def test_a_term_that_cannot_be_is_refused_before_anything_is_trained(tmp_path: Path, wrong: dict[str, Any], why: str):
    with pytest.raises(redense.errors.RedenseError, match=why):
        compare(Trained(), tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_result_that_is_damaged_is_trained_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    compare(Trained(), tmp_path)
    path = tmp_path / "pairs" / "dsd" / "1" / "result.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    train = Trained()
    compare(train, tmp_path)
    assert len(train.calls) == 1
    assert "does not match its checksum" in caplog.text


def test_a_failure_is_kept_as_that_of_its_pair_and_the_others_go_on(tmp_path: Path):
    def fails(schedule: redense.Schedule, seed: int) -> bool:
        return seed == 1 and schedule == schedule_of("llr", DSD)

    train = Trained(fails=fails)
    result = compare(train, tmp_path)
    assert len(train.calls) == 15
    assert result.failed == {("llr", 1): "ValueError: no luck at all"}
    assert "llr, seed 1 failed: ValueError: no luck at all" in result._repr_html_()
    assert "Traceback" in (tmp_path / "pairs/llr/1/traceback.txt").read_text()
    assert not result.gains
    assert "1 of 3 runs of llr failed" in str(result)
    assert "diverged" not in str(result)
    assert not compare(Trained(), tmp_path).gains  # it is not tried again by itself
    assert compare(Trained(), tmp_path, retry_failed=True).gains == ("dsd",)


def test_a_figure_that_is_no_number_is_a_failure_of_its_pair(tmp_path: Path):
    def train(schedule: redense.Schedule, seed: int) -> float:
        return float("nan") if seed == 2 and len(schedule.phases) == 1 else 1.0 + seed

    result = compare(train, tmp_path, lower_is_better=True, arms=("dsd",))
    assert list(result.failed) == [("baseline", 2)]
    assert "diverged" in result.failed["baseline", 2]


def test_where_every_pair_fails_that_is_the_error(tmp_path: Path):
    with pytest.raises(DataError, match="all 15 pairs failed; baseline, seed 0: ValueError: no luck"):
        compare(Trained(fails=lambda schedule, seed: True), tmp_path)


# --- what may be another, and what may not --------------------------------------------------------------------------


def test_seeds_and_arms_that_are_added_have_their_price(tmp_path: Path):
    compare(Trained(), tmp_path)
    train = Trained()
    result = compare(train, tmp_path, seeds=5, arms=(*ARMS, "random"))
    assert len(train.calls) == 2 * 5 + 5
    assert "were added after looking, and no further look was planned" in result.judgement.caution
    assert result.to_dict()["family"]["looks"] == 2
    planned = compare(Trained(), tmp_path / "planned", looks=2)
    assert "Corrected for 2 looks" in planned.judgement.caution
    assert compare(Trained(), tmp_path / "planned", looks=2, seeds=4).to_dict()["family"]["looks"] == 2


def test_adding_before_there_was_a_result_costs_nothing(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        compare(Trained(stop_at=4), tmp_path)
    assert compare(Trained(), tmp_path, seeds=4).to_dict()["family"]["looks"] == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seeds": 2}, "seeds 2 of .* are left out: seeds can be added, not taken away"),
        ({"arms": ("dsd",)}, "arm 'restart' of .* is left out"),
        ({"lower_is_better": False}, "which way is better of .* is not given, and not no"),
        ({"looks": 3}, "the number of looks of .* is '1', and not '3'"),
        ({"threads": 2}, "the number of threads of"),
        ({"schedule": variants.at_random(DSD)}, "the schedule of arm 'dsd' is another"),
        ({"arms": {"dsd": Trained(), "restart": DSD}}, "the schedule of arm 'dsd' is another"),
    ],
)
def test_another_comparison_in_the_folder_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], why: str):
    compare(Trained(), tmp_path)
    train, schedule = Trained(), change.pop("schedule", DSD)
    with pytest.raises(StateError, match=why) as caught:
        redense.compare(train, schedule, **{"arms": ARMS, "seeds": 3, "out": tmp_path, "quiet": True, **change})
    assert "\n" not in str(caught.value)
    assert not train.calls


def written(gain: float, fails: int = -1, **more: Any) -> Any:
    """A training whose body has a number in it, as one that was typed anew."""
    given: dict[str, Any] = {"redense": redense, **more}
    text = (
        "def train(schedule, seed, start=None):\n"
        f"    if seed == {fails}:\n        raise ValueError('no luck')\n"
        f"    return {{'error': 1 + seed / 7 - {gain} * len(schedule.phases), 'state': {{'seen': {gain}}}}}\n"
    )
    exec(text, given)
    return given["train"]


def test_a_training_whose_body_has_changed_is_refused_and_named(tmp_path: Path):
    compare(written(0.1), tmp_path)
    compare(written(0.1), tmp_path, seeds=4, looks=1)
    with pytest.raises(
        StateError, match=r"the code that trains arm 'baseline' of .* has changed .'train'. since"
    ) as told:
        compare(written(0.2), tmp_path, seeds=4)
    assert "4 of its pairs were trained: name another folder, or say" in str(told.value)
    assert str(told.value).endswith("that its numbers are the same as before, changed_code=True")
    assert (
        compare(written(0.2), tmp_path, seeds=4, changed_code=True).results["rows"][0]["seeds"][0]["test"]["error"]
        == 0.9
    )
    compare(written(0.2), tmp_path, seeds=4)  # which is the code now


def test_code_that_only_failed_may_be_mended(tmp_path: Path):
    arms = {"base": written(0.1), "new": written(0.1, fails=0)}
    given: dict[str, Any] = {"baseline": "base", "seeds": 1, "out": tmp_path, "quiet": True, "metric": "error"}
    assert redense.compare(None, DSD, arms=[arms], **given).failed
    mended = redense.compare(None, DSD, arms=[{**arms, "new": written(0.2)}], **given, retry_failed=True)
    assert not mended.failed


def test_what_other_code_has_left_to_be_shared_is_trained_again(tmp_path: Path):
    compare(written(0.1, fails=1), tmp_path, share="dense", seeds=1, arms=("dsd", "restart", "longer"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "old.pt").write_bytes(b"")
    given: dict[str, Any] = {"share": "dense", "seeds": 1, "arms": ("dsd", "restart", "longer")}
    compare(written(0.2), tmp_path, **given, changed_code=True)
    assert not (tmp_path / "shared").exists()


def test_two_runs_of_one_folder_are_refused(tmp_path: Path):
    def train(schedule: redense.Schedule, seed: int) -> Any:
        with pytest.raises(StateError, match="another process is training"):
            compare(Trained(), tmp_path)
        return {"error": 1.0 + seed}

    assert not compare(train, tmp_path).failed


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(StateError, match="exists and is not empty"):
        compare(Trained(), tmp_path)
    (tmp_path / "comparison.json").write_text('{"recipe": {}}')
    with pytest.raises(StateError, match="is a comparison of a recipe"):
        compare(Trained(), tmp_path)
    (tmp_path / "comparison.json").write_text("[]")
    with pytest.raises(StateError, match="is damaged"):
        compare(Trained(), tmp_path)


def test_a_mistake_in_the_figure_costs_no_training(tmp_path: Path):
    def train(schedule: redense.Schedule, seed: int) -> Any:
        calls.append(seed)
        return {"score": 1.0 + seed + len(calls) / 100, "seconds": 3.0 if seed else float("nan")}

    calls: list[int] = []
    with pytest.raises(DataError, match="more than one figure: say which decides"):
        compare(train, tmp_path)
    with pytest.raises(DataError, match=r"no figure 'scor'; did you mean 'score'\?"):
        compare(train, tmp_path, metric="scor", lower_is_better=True)
    with pytest.raises(DataError, match="which way of 'score' is better is not known"):
        compare(train, tmp_path, metric="score")
    compare(train, tmp_path, metric="score", lower_is_better=False)
    assert len(calls) == 15


# --- arms -----------------------------------------------------------------------------------------------------------


def test_arms_of_ones_own_are_added_to_the_usual_ones(tmp_path: Path):
    def mine(schedule: redense.Schedule, seed: int) -> Any:
        return {"validation_error": 5.0 + seed, "test_error": 5.0 + seed}

    result = compare(Trained(), tmp_path, arms={"mine": mine, "again": DSD})
    told = {arm["arm"]: arm["role"] for arm in result.to_dict()["arms"]}
    assert told == {
        **{"baseline": "baseline", "dsd": "arm", "restart": "control", "llr": "control", "longer": "control"},
        **{"mine": "arm", "again": "arm"},
    }
    assert "trained by" in next(row["about"] for row in result.results["rows"] if row["arm"] == "mine")


def test_arms_may_all_be_functions_without_a_schedule(tmp_path: Path):
    arms = {
        name: (lambda schedule, seed, own=own: {"error": own + seed / 10}) for name, own in (("base", 3), ("new", 1))
    }
    result = redense.compare(arms=arms, baseline="base", seeds=[4, 7], out=tmp_path, quiet=True)
    assert [arm["role"] for arm in result.to_dict()["arms"]] == ["baseline", "arm"]
    assert "No arm beside the baseline counts as a control" in str(result)
    with pytest.raises(redense.RedenseError, match="there is nothing to compare: give a schedule"):
        redense.compare(arms["base"])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"arms": "sam"}, "arm 'sam' is more than a schedule: it needs redense's own training"),
        ({"arms": "dsd-erk"}, "'dsd-erk' is more than a schedule"),
        ({"arms": "restert"}, r"unknown arm 'restert'; did you mean 'restart'\?"),
        ({"arms": "restart-llr"}, "'llr' has no mask"),
        ({"arms": {"mine": 3}}, "arm 'mine' must be a redense.Schedule or a function"),
        ({"arms": [3]}, "arms are names, or schedules and functions by name"),
        ({"arms": {"../x": DSD}}, "an arm's name begins with a letter or digit"),
        ({"arms": ("dsd", {"DSD": DSD})}, "an arm is named twice: 'dsd'"),
        ({"arms": {"mine": lambda seed: 0}}, r"arm 'mine' must be a function train\(schedule, seed\)"),
        ({"arms": {"mine": lambda seed, schedule: 0}}, r"train\(schedule, seed\), and takes \(seed, schedule\)"),
        ({"seeds": 0}, "seeds are a number of them"),
        ({"seeds": True}, "seeds are a number of them"),
        ({"seeds": [1, 1]}, "seeds are a number of them"),
        ({"share": "dense"}, r"train must be a function train\(schedule, seed, start=None\)"),
        ({"share": "sparse"}, "share must be 'dense' or None"),
        ({"jobs": 0}, "jobs must be 1 to 1,000"),
        ({"backend": "dask"}, "backend must be 'loky' or 'ray', got 'dask'"),
        ({"controls": ["none"]}, "no such arm"),
        ({"margin": -1}, "the margin must be a number above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(tmp_path: Path, more: dict[str, Any], why: str):
    train = Trained()
    with pytest.raises(redense.RedenseError, match=why):
        compare(train, tmp_path / "out", **more)
    assert not train.calls
    assert not (tmp_path / "out").exists()


def test_named_arms_are_those_of_the_lab():
    from redense.lab.arms import get_arms

    lab = {arm.name: arm for arm in get_arms()}
    assert len(NAMED) == 13
    for name, own in NAMED.items():
        assert (own.about, own.source, own.masked) == (lab[name].about, lab[name].source, lab[name].masked)
        assert any(phase.is_sparse for phase in own.make(DSD).phases) == own.masked


# --- what arms share ------------------------------------------------------------------------------------------------


class Sharing:
    """A training whose figure depends on every step, that can go on from a state, and that counts its steps."""

    def __init__(self, stop_at: int = 0, fails: bool = False) -> None:
        self.steps, self.calls, self.stop_at, self.fails = 0, 0, stop_at, fails

    def __call__(self, schedule: redense.Schedule, seed: int, start: Any = None) -> dict[str, Any]:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        if self.fails and schedule.phases[0].steps == 40:
            raise ValueError("no dense phase")
        weight = torch.tensor(float(seed)) if start is None else start["weight"]
        for step in range(schedule.total_steps):
            weight = torch.cos(weight + schedule.lr_factor(step)) + (schedule.phase_at(step).is_sparse) / 3  # pyright: ignore[reportOptionalMemberAccess]
        self.steps += schedule.total_steps
        return {"error": float(weight), "state": {"weight": weight, "seen": [1, "two", None]}}


def test_arms_that_begin_alike_train_that_part_once(tmp_path: Path):
    alone, shared = Sharing(), Sharing()
    apart = compare(alone, tmp_path / "apart")
    together = compare(shared, tmp_path / "together", share="dense")
    assert together.to_dict() == apart.to_dict()
    assert (alone.steps, shared.steps) == (3 * (40 + 4 * 80), 3 * (40 + 3 * 40 + 80))
    assert not (tmp_path / "together" / "shared").exists()


def test_what_is_shared_survives_a_stop_too(tmp_path: Path):
    whole = compare(Sharing(), tmp_path / "whole", share="dense")
    for stop_at in (2, 4, 3):
        with pytest.raises(KeyboardInterrupt):
            compare(Sharing(stop_at), tmp_path / "stopped", share="dense")
    for state in (tmp_path / "stopped" / "shared").glob("*.pt"):
        state.write_bytes(state.read_bytes()[:-1])
    assert compare(Sharing(), tmp_path / "stopped", share="dense").to_dict() == whole.to_dict()


def test_where_the_shared_part_fails_those_that_need_it_say_so(tmp_path: Path):
    result = compare(Sharing(fails=True), tmp_path, share="dense", arms=("dsd", "restart", "longer"))
    assert {arm for arm, _ in result.failed} == {"baseline", "dsd", "restart"}
    assert "the part that it shares with other arms failed: ValueError: no dense phase" in str(result)


def test_a_state_has_to_be_returned_and_to_be_data(tmp_path: Path):
    def none(schedule: redense.Schedule, seed: int, start: Any = None) -> Any:
        return {"error": 1.0}

    def code(schedule: redense.Schedule, seed: int, start: Any = None) -> Any:
        return {"error": 1.0 + seed, "state": {"model": torch.nn.Linear(2, 2)}}

    for name, train, why in (("none", none, "must return it as 'state'"), ("code", code, "holds more than tensors")):
        with pytest.raises(DataError, match=f"seed 0: .*{why}"):
            compare(train, tmp_path / name, share="dense", arms=("dsd", "restart", "longer"))


# --- beside each other, and the page --------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_give_the_same_table(tmp_path: Path):
    def train(schedule: redense.Schedule, seed: int) -> Any:
        luck = random.Random(f"{schedule}{seed}").gauss(0, 0.05)
        return {"error": 10 + luck - any(phase.is_sparse for phase in schedule.phases)}

    compare(train, tmp_path / "one")
    compare(train, tmp_path / "more", jobs=2)
    assert (tmp_path / "one/compare.json").read_bytes() == (tmp_path / "more/compare.json").read_bytes()


def test_progress_has_an_end_and_goes_to_the_error_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    compare(Trained(), tmp_path, quiet=False)
    out, err = capsys.readouterr()
    assert not out
    assert "15 of 15 pairs" in err
    assert "dsd: a gain." in err
    compare(Trained(), tmp_path)
    assert not capsys.readouterr().err


def test_the_page_has_the_verdict_and_nothing_that_nobody_told(tmp_path: Path):
    result = compare(Trained(), tmp_path, arms=("dsd", "restart"))
    text = result.page.read_text(encoding="utf-8")
    assert "dsd is a gain: its test error is" in text
    assert "Non\u2011zero" not in text
    assert "Example by example" not in text
    assert json.loads((tmp_path / "compare.json").read_text())["form"] == "function"
    assert r"\begin{tabular}" in result.to_latex()
    assert "| dsd |" in result.to_markdown()


SCRIPT = """
import random, sys, time
import redense

def train(schedule, seed):
    time.sleep(0.05)
    luck = random.Random(f"{schedule}{seed}").gauss(0, 0.05)
    return {"error": 10 + luck - any(phase.is_sparse for phase in schedule.phases)}

dsd = redense.Schedule.dsd(dense=40, sparse=20, redense=20, sparsity=0.3)
redense.compare(train, dsd, seeds=int(sys.argv[2]), out=sys.argv[1], quiet=True)
"""


@pytest.mark.slow
def test_a_comparison_that_is_killed_ten_times_ends_with_the_same_table(tmp_path: Path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    words = [str(tmp_path / "mine.py"), str(tmp_path / "killed"), "8"]
    for place in range(10):
        child = forked.start(*words, start_new_session=True)
        wanted = 4 * place + 1  # some more each time
        while len(list(tmp_path.glob("killed/pairs/*/*/result.json"))) < wanted and child.poll() is None:
            time.sleep(0.005)
        time.sleep(0.007 * place)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    last = forked.start(*words)
    last.communicate()
    whole = forked.start(words[0], str(tmp_path / "whole"), "8")
    whole.communicate()
    assert (last.returncode, whole.returncode) == (0, 0)
    for name in ("compare.json", "compare.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
