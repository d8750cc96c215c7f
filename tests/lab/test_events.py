"""The stream of events: who listens hears a run and the workers of a comparison, and can break nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from redense.lab.events import Inbox, Outbox, listen, listening, tell
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.store import PhaseStore

Tiny = Callable[..., Recipe]


def test_who_listens_hears_a_run_in_order_and_what_is_logged_is_a_part_of_it(tiny: Tiny, tmp_path: Path):
    heard: list[dict[str, Any]] = []
    with listening(heard.append):
        train_run(new_run(tiny(), tmp_path / "run"))
    kinds = [event["kind"] for event in heard]
    assert kinds == ["plan", "phase", "epoch", "phase", "epoch", "phase", "epoch", "testing"]
    assert {event["folder"] for event in heard} == {str(tmp_path / "run")}
    assert [event["phase"] for event in heard if event["kind"] == "epoch"] == ["dense", "sparse", "redense"]
    assert "folder" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_who_listens_hears_what_a_comparison_trains_and_whose_it_is(compared: Callable[..., Any], tmp_path: Path):
    heard: list[dict[str, Any]] = []
    with listening(heard.append):
        compared("dsd", "restart", seeds=(0,))
    epochs = {(event["phase"], tuple(event["arms"])) for event in heard if event["kind"] == "epoch"}
    dense = next(arms for phase, arms in epochs if phase == "dense")
    assert set(dense) == {"baseline", "dsd", "restart"}
    assert {arms for phase, arms in epochs if phase != "dense"} == {("dsd",), ("restart",)}
    assert {event["seed"] for event in heard} == {0}
    assert {event["folder"] for event in heard} == {str(tmp_path / "compared")}
    assert not (tmp_path / "compared" / ".events").exists()


def test_a_listener_that_fails_is_told_nothing_more_and_the_others_are(caplog: pytest.LogCaptureFixture):
    heard: list[Any] = []

    def fail(event: dict[str, Any]) -> None:
        heard.append("failed")
        raise ValueError("no network")

    with listening(fail), listening(heard.append):
        tell({"kind": "step"}, seed=1)
        tell({"kind": "testing"})
    assert heard == ["failed", {"kind": "step", "seed": 1}, {"kind": "testing"}]
    assert "a listener has failed" in caplog.text


def test_who_has_ended_listening_hears_nothing():
    heard: list[Any] = []
    end = listen(heard.append)
    end()
    end()
    tell({"kind": "step"})
    assert heard == []


def test_a_line_that_is_being_written_is_told_when_it_is_whole(tmp_path: Path):
    heard: list[Any] = []
    with Inbox(tmp_path / "events", heard.append) as inbox:
        path = tmp_path / "events" / "other-1.jsonl"
        path.write_text('{"kind": "st')
        inbox.look()
        assert heard == []
        path.write_text('{"kind": "step"}\n')
        Outbox(tmp_path / "events").put({"kind": "epoch"}, key="a")
    assert sorted(heard, key=lambda event: event["kind"]) == [{"kind": "epoch", "key": "a"}, {"kind": "step"}]


def test_a_listener_changes_no_bit_of_a_run_or_of_a_comparison_in_this_process(
    compared: Callable[..., Any], tiny: Tiny, tmp_path: Path
):
    recipe = tiny(model={"dropout": 0.5})
    threads: set[str] = set()

    def disturb(event: dict[str, Any]) -> None:
        threads.add(threading.current_thread().name)
        torch.rand(3)
        torch.set_grad_enabled(False)
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)

    train_run(new_run(recipe, tmp_path / "alone"))
    alone = compared("dsd", seeds=(0,), into="one", changes={"model": {"dropout": 0.5}})
    before = torch.get_num_threads()
    with listening(disturb):
        train_run(new_run(recipe, tmp_path / "heard"))
        store = PhaseStore(tmp_path / "another store")
        heard = compared("dsd", seeds=(0,), into="other", store=store, changes={"model": {"dropout": 0.5}})
    assert (torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_dtype()) == (
        True,
        before,
        torch.float32,
    )
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "heard")]
    assert weights[0] == weights[1]
    assert heard.raw() == alone.raw()
    assert threads == {threading.current_thread().name}
