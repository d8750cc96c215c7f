"""What `tests/lab/ranks/test_ranks.py` checks, in the ranks of one job: every function `check_...`."""

from __future__ import annotations

import copy
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from redense.errors import DataError, RecipeError, RedenseError, StateError
from redense.lab.checkpoint import load_tree
from redense.lab.events import listening
from redense.lab.ranks import ranks as job
from redense.lab.recipe.recipe import Recipe, build_recipe, load_recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.store import PhaseStore, SharedStore
from redense.lab.tasks import make_task
from redense.lab.training.batches import Batches, Parts
from redense.lab.training.engine import Engine, StoppedError, TrainingError
from redense.lab.training.plan import PlannedPhase
from redense.masks import unpack
from redense.tasks.task import Part

RANK, WORLD = int(sys.argv[1]), int(sys.argv[2])
FOLDER, PLAIN = Path(sys.argv[5]), json.loads(Path(sys.argv[6]).read_text())


def recipe(**changes: Any) -> Recipe:
    """The recipe of the `tiny` fixture without dropout; batches of 24, which 2, 3 and 4 ranks can part."""

    def merge(old: Any, new: Any) -> Any:
        if not isinstance(old, dict) or not isinstance(new, dict):
            return new
        return old | {key: merge(old.get(key), value) for key, value in new.items()}

    base = merge(PLAIN, {"model": {"dropout": 0.0}, "training": {"batch_size": 24}})
    return build_recipe(merge(base, changes))


def trained(made: Recipe, phases: tuple[PlannedPhase, ...] | None = None, **more: Any) -> Engine:
    engine = Engine(make_task(made), made, phases, **more)
    while engine.phase_index < len(engine.plan):
        engine.train()
    return engine


def weights(engine: Engine) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in engine.model.state_dict().items()}


def masks(engine: Engine) -> dict[str, Tensor]:
    return {name: unpack(item["bits"], item["shape"]) for name, item in engine.snapshot()["masks"].items()}


def assert_equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert list(one) == list(two)
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def assert_close(one: Mapping[str, Tensor], two: Mapping[str, Tensor], tolerance: float = 1e-5) -> None:
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=tolerance)


def raised(do: Callable[[], Any]) -> RedenseError:
    with pytest.raises(RedenseError) as caught:
        do()
    return caught.value


def path_for(name: str) -> Path:
    return FOLDER / f"{WORLD}-{name}"


# --- words ----------------------------------------------------------------------------------------------------------


def check_ranks_tell_each_other_what_they_know() -> None:
    ranks = job.current()
    assert (ranks.rank, ranks.world, ranks.many, ranks.is_main) == (RANK, WORLD, True, RANK == 0)
    tree = {"a": [RANK, None], 3: torch.arange(RANK + 1), "empty": torch.zeros(0)}
    for rank, other in enumerate(ranks.gather(tree)):
        assert other["a"] == [rank, None]
        assert torch.equal(other[3], torch.arange(rank + 1))
    assert ranks.mean(float(RANK)) == (WORLD - 1) / 2
    assert ranks.main(lambda: {"rank": RANK}) == {"rank": 0}
    assert ranks.asked(RANK == WORLD - 1, False) == (True, False)
    assert ranks.asked(False, RANK == 1) == (False, False)  # when to save is rank 0's affair
    assert ranks.asked(False, RANK == 0) == (False, True)


def check_an_error_on_one_rank_is_raised_on_all_of_them() -> None:
    ranks = job.current()

    def fail(rank: int) -> Callable[[], None]:
        def do() -> None:
            if rank == RANK:
                raise DataError("no such file")

        return do

    for error, says in (
        (raised(lambda: ranks.main(fail(0))), "no such file"),
        (raised(lambda: ranks.in_turn(fail(0))), "no such file"),
        (raised(lambda: ranks.in_turn(fail(WORLD - 1))), f"rank {WORLD - 1}: no such file"),
    ):
        assert (type(error), str(error)) == (DataError, says)
    error = raised(lambda: ranks.agree("the data", str(RANK)))
    assert isinstance(error, StateError)
    assert "the data of rank 1 differ from those of rank 0" in str(error)


def check_only_the_first_rank_to_fail_says_why() -> None:
    assert sum(job.current().gather(job.speaks_first())) == 1


def check_a_rank_can_work_by_itself_while_the_others_wait() -> None:
    ranks = job.current()
    with job.by_itself():
        assert job.current().world == 1
        if RANK == 0:
            trained(recipe(), trained_plan()[:1])
    assert job.current() is ranks


def check_the_store_is_read_and_written_by_rank_0_alone() -> None:
    own = PhaseStore(path_for("store") / str(RANK))  # which the others could not see
    store, key = SharedStore(own.root, job.current()), "ab" * 16
    with store.locked(key):
        assert not store.has(key)
        assert store.partial(key) is None
        store.put(key, {"weights": torch.full((3,), float(RANK))}, [{"kind": "epoch"}])
        store.put_outcome(key, "test", {"rank": torch.arange(4)})
        store.put_text(key, "failed.json", '{"error": "it diverged"}')
        store.progress(key, 1, 2)
    assert store.has(key)
    assert torch.equal(store.state(key)["weights"], torch.zeros(3))
    assert store.records(key) == [{"kind": "epoch"}]
    assert store.failure([key]) == "it diverged"
    outcome = store.outcome(key, "test")
    assert outcome is not None
    assert torch.equal(outcome["rank"], torch.arange(4))
    assert own.root.exists() == (RANK == 0)
    assert "no checkpoint at" in str(raised(lambda: store.state("cd" * 16)))


# --- batches and answers --------------------------------------------------------------------------------------------


def check_the_parts_of_the_ranks_are_the_batches() -> None:
    lengths = torch.randint(1, 9, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    for grouped in (None, lengths):
        batches = Batches(100, 24, seed=5, limit=4, skip=1, lengths=grouped)
        parts = job.current().gather([list(part) for part in Parts(batches, RANK, WORLD)])
        assert [[index for part in same for index in part] for same in zip(*parts, strict=True)] == list(batches)
    error = raised(lambda: Parts(Batches(100, 25), RANK, WORLD))
    assert isinstance(error, RecipeError)
    assert f"training.batch_size 25 is that of a whole step and cannot be parted equally among {WORLD}" in str(error)


def check_images_are_augmented_as_in_the_whole_batch() -> None:
    examples = make_task(recipe(data={"flip": True, "crop": 1})).examples("train")
    examples.begin_epoch(3)
    whole = list(range(5, 5 + 2 * WORLD))
    images, labels = examples.__getitems__(whole)
    mine = Part(whole, 2 * RANK, 2 * RANK + 2)
    assert mine == whole[2 * RANK : 2 * RANK + 2]
    assert copy.deepcopy(mine).whole == whole  # as a loader's workers get it
    own, its = examples.__getitems__(mine)
    assert torch.equal(own, images[2 * RANK : 2 * RANK + 2])
    assert torch.equal(its, labels[2 * RANK : 2 * RANK + 2])


def check_every_example_is_answered_once_and_in_order() -> None:
    made = recipe()
    for size in (7, 33, 500):  # uneven last batches, uneven numbers of batches, fewer batches than ranks
        task: Any = make_task(made)
        type(task).evaluation_batch = size
        with job.by_itself():
            alone = Engine(task, made)
            expected = alone.outcome("validation")
        together = Engine(task, made).outcome("validation")
        assert_equal(expected, together)
        assert len(together["label"]) == len(task.examples("validation"))


# --- training -------------------------------------------------------------------------------------------------------


def trained_plan() -> tuple[PlannedPhase, ...]:
    made = recipe()
    return Engine(make_task(made), made).plan


def check_many_ranks_train_the_run_of_one() -> None:
    apart: list[dict[str, Any]] = [
        {},
        {"training": {"accumulate": 2, "clip_norm": 0.5}},
        {"data": {"flip": True, "crop": 1}, "training": {"keep": "best"}},
        {"sparse": {"criterion": "saliency"}},
        {"prune": {"allocation": "sensitivity"}},
    ]
    together: list[dict[str, Any]] = [
        {"training": {"accumulate": 2, "clip_norm": 0.5}, "sparse": {"criterion": "saliency"}},
        {"data": {"flip": True, "crop": 1}, "training": {"keep": "best"}, "prune": {"allocation": "sensitivity"}},
    ]
    for changes in apart if WORLD > 2 else together:
        events: list[list[dict[str, Any]]] = [[], []]
        made = recipe(**changes)
        with job.by_itself():
            one = Engine(make_task(made), made, emit=events[0].append, log_steps=3)
            many_of_one = [one.train() or masks(one) for _ in one.plan]
        two = Engine(make_task(made), made, emit=events[1].append, log_steps=3)
        many_of_two = [two.train() or masks(two) for _ in two.plan]
        assert many_of_one[1]
        for a, b in zip(many_of_one, many_of_two, strict=True):
            assert_equal(a, b)
        assert_close(weights(one), weights(two))
        for a, b in zip(*events, strict=True):
            assert (a["kind"], a["step"]) == (b["kind"], b["step"])
            for key in ("loss", "train_loss"):
                assert abs(a.get(key, 0.0) - b.get(key, 0.0)) < 1e-5, (changes, a, b)


def check_examples_of_different_lengths_train_over_ranks_as_alone() -> None:
    settings = ["--data.limit", str(24 * WORLD), "--dense.epochs", "1", "--sparse.epochs", "1", "--redense.epochs", "1"]
    # SGD, for Adam makes a step of the learning rate of a gradient that is all rounding.
    settings += [
        "--model.hidden",
        "16",
        "--training.batch_size",
        "24",
        "--training.optimizer.name",
        "sgd",
        "--training.optimizer.lr",
        "0.0003",
    ]
    made = load_recipe("tones/deepspeech", [*settings, "--model.dropout", "0"])
    with job.by_itself():
        one = trained(made)
    two = trained(made)
    assert_close(weights(one), weights(two), 1e-4)
    alone, together = one.outcome("validation"), two.outcome("validation")
    assert torch.equal(alone["reference"], together["reference"])
    torch.testing.assert_close(alone["loss"], together["loss"], rtol=1e-3, atol=1e-3)


def check_every_technique_trains_over_ranks_what_it_trains_alone() -> None:
    made = recipe(training={"batch_size": 48, "optimizer": {"lr": 0.05}})
    planned = trained_plan()[0]
    for method, options in (
        ("average", {"steps": planned.steps}),
        ("lowrank", {"rank": 3}),
        # By themselves they are no other way over ranks, and the library of SAM takes seconds to import.
        *([("distill", {}), ("release", {"start": "fresh"})] if WORLD > 2 else []),
        *([("jump", {}), ("momentum", {}), ("sam", {})] if WORLD > 2 else []),
        ("dropconnect", {"rate": 0.0}),  # it draws numbers of its own on every rank: without them, it can be compared
    ):
        phases = (planned, replace(planned, method=method, options=options))
        if method in ("momentum", "release"):
            phases = (planned, replace(trained_plan()[1], method=method, options=options))
        try:
            with job.by_itself():
                one = trained(made, phases)
        except ImportError:  # a library that is not installed
            continue
        two = trained(made, phases)
        assert_close(weights(one), weights(two))


def check_dropout_draws_other_numbers_on_every_rank_and_the_weights_stay_the_same() -> None:
    for changes in ({"model": {"dropout": 0.5}}, {"training": {"precision": "bf16"}, "model": {"dropout": 0.5}}):
        engine = trained(recipe(**changes))
        drawn = job.current().gather(torch.rand(3))
        assert not torch.equal(drawn[0], drawn[1])
        for other in job.current().gather(weights(engine)):
            assert_equal(weights(engine), other)


def check_batch_statistics_are_those_of_rank_0() -> None:
    made = recipe(model={"name": "cnn", "widths": [4], "dropout": 0.0})
    task: Any = make_task(made)
    build = task.build_model
    task.build_model = lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4)) if build else None
    engine = Engine(task, made)
    engine.train()
    engine.evaluate("validation")
    states = job.current().gather(weights(engine))
    assert states[0]["1.running_mean"].abs().sum() > 0
    for other in states[1:]:
        assert_equal(states[0], other)


def check_a_loss_that_breaks_on_one_rank_ends_all_of_them() -> None:
    made = recipe()
    task: Any = make_task(made)
    loss = task.loss
    task.loss = lambda model, batch: loss(model, batch) * (float("nan") if RANK == WORLD - 1 else 1.0)
    engine = Engine(task, made)
    assert isinstance(raised(engine.train), TrainingError)


def check_a_rank_whose_weights_differ_is_found() -> None:
    engine = Engine(make_task(recipe()), recipe())
    job.current().agree_on_weights(engine.model, {})
    if RANK == 1:
        next(engine.model.parameters()).data[0] += 1
    assert "weights or masks of rank 1 differ" in str(raised(lambda: job.current().agree_on_weights(engine.model, {})))


# --- runs -----------------------------------------------------------------------------------------------------------


def run_folder(name: str, made: Recipe) -> Path:
    folder = path_for(name)
    job.current().main(lambda: str(new_run(made, folder)))
    return folder


def last_steps(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_seconds(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in event.items() if key != "seconds"} for event in events]


def check_a_signal_on_one_rank_stops_all_and_the_run_goes_on_with_the_same_bits() -> None:
    made = recipe(model={"dropout": 0.5}, training={"keep": "best"})
    undisturbed = run_folder("undisturbed", made)
    expected = train_run(undisturbed)
    folder = run_folder("stopped", made)
    for steps in (4, 9, 3):
        asked = [0]

        def stop(steps: int = steps, asked: list[int] = asked) -> bool:
            asked[0] += 1
            return RANK == WORLD - 1 and asked[0] >= steps

        assert isinstance(raised(lambda stop=stop: train_run(folder, stop=stop)), StoppedError)
        assert len(set(job.current().gather(asked[0]))) == 1
        snapshot = load_tree(folder / "checkpoints" / "last.safetensors")
        assert len(snapshot.get("ranks", [])) in (0, WORLD)
    result = train_run(folder)
    for name in ("0-dense", "1-sparse", "2-redense"):
        one, two = (load_tree(f / "checkpoints" / f"{name}.safetensors") for f in (undisturbed, folder))
        assert_equal(one["model"], two["model"])
        assert torch.equal(one["rng"]["cpu"], two["rng"]["cpu"])
    assert without_seconds(last_steps(undisturbed)) == without_seconds(last_steps(folder))
    for one, two in zip(expected["phases"], result["phases"], strict=True):
        assert one["test"] == two["test"]


def check_one_process_goes_on_with_the_run_of_many() -> None:
    made = recipe()
    folder = run_folder("fewer", made)
    stops = iter([False] * 20 + [True] * 9)
    assert isinstance(raised(lambda: train_run(folder, stop=lambda: next(stops))), StoppedError)
    said: list[dict[str, Any]] = []
    store = PhaseStore(path_for("fewer-store"))
    with job.by_itself():
        if RANK == 0:
            with listening(said.append):
                train_run(folder, store=store)
            notes = [note for event in said if event["kind"] == "resumed" for note in event["notes"]]
            assert any(f"ranks were {WORLD}, are 1: the result may differ" in note for note in notes), notes
            assert not store.phases()  # a run of two halves is no phase that others may share
            with_one = trained(made)
            final = load_tree(folder / "checkpoints" / "2-redense.safetensors")
            assert_close(final["model"], weights(with_one))
    job.current().gather(None)


def check_a_phase_is_trained_once_and_then_taken_from_the_store() -> None:
    made = recipe()
    store = PhaseStore(path_for("shared-store"))
    first, second = run_folder("first", made), run_folder("second", made)
    one = train_run(first, store=store)
    said: list[dict[str, Any]] = []
    with listening(said.append):
        two = train_run(second, store=store)
    assert [event.get("stored") for event in said if event["kind"] == "phase"] == ([True] * 3 if RANK == 0 else [])
    assert [phase["test"] for phase in one["phases"]] == [phase["test"] for phase in two["phases"]]
    if RANK == 0:
        assert len(store.phases()) == 3
        assert (second / "result.json").exists()


# --- the job --------------------------------------------------------------------------------------------------------


def meet(file: Path) -> None:
    """Set what torchrun sets: rank 0 finds a free port, and the others read it."""
    if RANK == 0:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        file.with_suffix(".new").write_text(str(port))
        file.with_suffix(".new").replace(file)
    while not file.exists():
        time.sleep(0.01)
    os.environ.update(
        RANK=str(RANK),
        LOCAL_RANK=str(RANK),
        WORLD_SIZE=str(WORLD),
        LOCAL_WORLD_SIZE=str(WORLD),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=file.read_text(),
    )


def main() -> None:
    torch.set_num_threads(1)
    meet(Path(sys.argv[3]))
    error = raised(job.current)
    assert "start it without torchrun" in str(error)
    job.join()
    results: dict[str, str] = {}
    wanted = sys.argv[7:]
    for name, check in list(globals().items()):
        if not name.startswith("check_") or (wanted and name.removeprefix("check_") not in wanted):
            continue
        try:
            check()
            results[name.removeprefix("check_")] = ""
        except BaseException:  # noqa: BLE001  # the test shows it
            results[name.removeprefix("check_")] = traceback.format_exc()
            break  # the others may be waiting somewhere else
    Path(sys.argv[4]).write_text(json.dumps(results))
    if all(not problem for problem in results.values()):
        job.leave()
    os._exit(0)


if __name__ == "__main__":
    main()
