"""Nothing lost: damage, full disks, changed surroundings, signals and two at once end in the same result or in a line.

What a kill does is in `tests/crash`; what a checkpoint file alone must withstand in `test_checkpoint`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from redense.errors import CheckpointError, SparsityError
from redense.files.checksums import add_sums
from redense.lab.events import listening
from redense.lab.folder import read_json
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.store import PhaseStore
from redense.lab.training.engine import Engine, StoppedError
from redense.report.runs.page import write_report

from ...trainings import slow, stop_after, timeless

Tiny = Callable[..., Recipe]
Command = Callable[..., tuple[int, str, str]]

LONGER: dict[str, Any] = {"sparse": {"epochs": 2}}
STARTS = (0, 11, 33)  # optimizer steps before each phase


def all_of(folder: Path) -> dict[str, Any]:
    """What a run has found, but for the clock and for where it was found."""
    result = timeless(read_json(folder / "result.json"))
    return {
        "model": (folder / "model.safetensors").read_bytes(),
        "metrics": timeless([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]),
        "result": {name: value for name, value in result.items() if name != "notes"},
    }


def flip(path: Path, place: float = 0.5) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.unlink()  # another name may stand for the same bytes
    path.write_bytes(data)


@pytest.fixture(scope="module")
def runs(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its sparse phase and one that is finished, of one recipe; no test may change them."""
    root = tmp_path_factory.mktemp("runs")
    recipe = tiny(**LONGER)
    with pytest.raises(StoppedError):
        train_run(new_run(recipe, root / "stopped"), stop=stop_after(24))
    train_run(new_run(recipe, root / "finished"), store=PhaseStore(root / "store"))
    return root


@pytest.fixture
def recipe_file(tiny: Tiny, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny(**LONGER).to_yaml())
    return path


@pytest.fixture
def stopped(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "stopped", tmp_path / "run"))


@pytest.fixture
def finished(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "finished", tmp_path / "run"))


# --- one flipped bit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("checkpoints/last.safetensors", 0.5),
        slow("checkpoints/last.safetensors", 0.0),
        ("metrics.jsonl", 0.97),  # in the sparse phase: the dense one's checkpoint has not seen it
        ("metrics.sums", 0.9),
    ],
)
def test_after_a_flipped_bit_the_checkpoint_before_is_taken_and_the_run_ends_the_same(
    name: str, place: float, stopped: Path, runs: Path
):
    flip(stopped / name, place)
    train_run(stopped)
    assert all_of(stopped) == all_of(runs / "finished")


@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("metrics.jsonl", 0.1, "metrics.jsonl is damaged before step 11.* start a new run"),
        ("recipe.yaml", 0.5, ""),
        ("started.json", 0.3, "started.json is damaged"),
        ("environment.json", 0.0, "environment.json is damaged"),
        ("SHA256SUMS", 0.5, "SHA256SUMS"),
    ],
)
def test_a_flipped_bit_that_leaves_nothing_to_go_on_from_is_a_line(
    name: str, place: float, words: str, stopped: Path, redense: Command
):
    flip(stopped / name, place)
    code, _, err = redense("run", "--resume", stopped, "--no-store")
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("redense: ")
    assert "Traceback" not in err
    assert re.search(words, last), last
    assert not (stopped / "result.json").exists()


def test_a_checkpoint_of_an_earlier_phase_that_is_damaged_comes_from_the_store_and_nothing_is_trained_twice(
    stopped: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flip(stopped / "checkpoints" / "0-dense.safetensors")
    trained: list[int] = []
    train = Engine.train
    monkeypatch.setattr(Engine, "train", lambda engine: (trained.append(engine.position_in_phase), train(engine)))
    train_run(stopped, store=PhaseStore(Path(shutil.copytree(runs / "store", tmp_path / "store"))))
    assert trained == [13]  # the rest of the sparse phase; the last one is in the store too
    assert all_of(stopped) == all_of(runs / "finished")


def test_a_first_checkpoint_that_is_damaged_is_trained_again_and_nothing_after_it(
    stopped: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
):
    flip(stopped / "checkpoints" / "0-dense.safetensors")
    trained: list[tuple[int, int]] = []
    train = Engine.train
    monkeypatch.setattr(
        Engine, "train", lambda engine: (trained.append((engine.phase_index, engine.position_in_phase)), train(engine))
    )
    train_run(stopped)
    assert trained == [(0, 0), (1, 13), (2, 0)]
    assert all_of(stopped) == all_of(runs / "finished")


def test_a_checkpoint_that_is_damaged_after_the_training_is_mended_by_a_resume(finished: Path, runs: Path):
    flip(finished / "checkpoints" / "1-sparse.safetensors")
    train_run(finished)
    assert all_of(finished) == all_of(runs / "finished")


def test_a_flipped_bit_in_a_finished_run_is_named_by_whoever_reads_it(finished: Path, redense: Command, tmp_path: Path):
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=finished, check=True)
    for name in ("model.safetensors", "outcome.safetensors", "result.json", "metrics.jsonl", "moments.json"):
        whole = (finished / name).read_bytes()
        flip(finished / name)
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            write_report(finished)
        (finished / name).write_bytes(whole)
    flip(finished / "model.safetensors", 0.9)
    for words in (("evaluate", finished), ("export", finished, tmp_path / "out"), ("report", finished)):
        code, _, err = redense(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert "model.safetensors is damaged" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["state.safetensors", *map(slow, ("metrics.jsonl", "SHA256SUMS"))])
def test_a_phase_that_is_damaged_in_the_store_is_trained_again_by_a_run(
    name: str, tiny: Tiny, runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    store = PhaseStore(Path(shutil.copytree(runs / "store", tmp_path / "store")))
    for phase in store.phases():
        flip(phase / name)
    train_run(new_run(tiny(**LONGER), tmp_path / "run"), store=store)
    assert re.search("the phase is trained again|made again", caplog.text)
    assert all_of(tmp_path / "run") == all_of(runs / "finished")
    events: list[dict[str, Any]] = []
    with listening(events.append):
        train_run(new_run(tiny(**LONGER), tmp_path / "again"), store=store)
    assert [event.get("stored") for event in events if event["kind"] == "phase"] == [True] * 3  # and mended


def test_what_is_damaged_in_the_store_is_made_again_by_a_comparison(
    compared: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    first = compared("dsd", seeds=(0,))
    keys = list(first.grid.cells[-1].keys)
    damage = [(keys[0], "state.safetensors"), (keys[1], "metrics.jsonl"), (keys[2], "test.safetensors")]
    damage += [
        (keys[0], "SHA256SUMS"),
        (keys[2], "SHA256SUMS"),
        (keys[2], "facts.json"),
        (keys[2], "state.safetensors"),
    ]
    for number, (key, name) in enumerate(damage):
        if name == "state.safetensors":  # it is read where something after it is missing
            (first.grid.store.folder(keys[-1]) / "facts.json").unlink()
        if (key, name) == (keys[0], "state.safetensors"):
            first.grid.store.discard(keys[1])
        flip(first.grid.store.folder(key) / name)
        again = compared("dsd", seeds=(0,), into=f"again-{number}")
        assert again.raw() == first.raw()
    assert "the phase is trained again" in caplog.text


# --- disks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a small file system or change one; skip where this process may not."""
    mounted: list[Path] = []

    def do(name: str, *options: str) -> Path:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *options, place], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        if place not in mounted:
            mounted.append(place)
        return place

    if shutil.which("mount") is None or os.geteuid():
        pytest.skip("only root can mount a file system")
    yield do
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)


def small(mount: Callable[..., Path], kilobytes: int, *more: str) -> Path:
    return mount("disk", "-t", "tmpfs", "-o", ",".join([*more, f"size={kilobytes}k"]), "tmpfs")


def test_a_full_disk_is_a_line_and_with_room_the_run_goes_on_to_the_same_end(
    mount: Callable[..., Path], redense: Command, recipe_file: Path, runs: Path
):
    disk, ends = small(mount, 20), list[str]()
    for kilobytes in (32, 44, 64, 80, 4000, 20_000):  # it fills up in one place after another
        begun = (disk / "run" / "recipe.yaml").exists()
        code, _, err = redense("run", *(("--resume", disk / "run") if begun else (recipe_file, "--out", disk / "run")))
        if code:
            assert code == 2
            assert "Traceback" not in err
            assert "No space left on device" in err, err
            assert len(err.strip().splitlines()) == 1, err
            ends.append(err)
        small(mount, kilobytes, "remount")
    assert len(ends) > 1
    code, _, err = redense("run", "--resume", disk / "run")
    assert code == 0, err
    assert all_of(disk / "run") == all_of(runs / "finished")


def test_a_store_on_a_full_disk_costs_a_run_nothing_and_stops_a_comparison_with_a_line(
    mount: Callable[..., Path], redense: Command, recipe_file: Path, runs: Path, tmp_path: Path
):
    disk = small(mount, 8)
    code, _, err = redense("run", recipe_file, "--out", tmp_path / "run", "--store", disk / "store")
    assert code == 0, err
    assert all_of(tmp_path / "run") == all_of(runs / "finished")
    arms = ["--arms", "restart", "--seeds", "1", "--jobs", "1"]
    code, _, err = redense("compare", recipe_file, *arms, "--out", tmp_path / "compared", "--store", disk / "store")
    assert code == 2
    assert "No space left on device" in err
    assert "Traceback" not in err
    small(mount, 4000, "remount")
    code, _, err = redense("compare", "--resume", tmp_path / "compared", "--store", disk / "store", "--jobs", "1")
    assert (code, err) == (0, "")


def test_a_folder_that_is_read_only_is_a_line(mount: Callable[..., Path], redense: Command, stopped: Path, runs: Path):
    place = mount(stopped.name, "--bind", str(stopped))
    mount(stopped.name, "-o", "remount,ro,bind")
    code, _, err = redense("run", "--resume", place, "--no-store")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot write to" in err
    mount(stopped.name, "-o", "remount,rw,bind")
    assert redense("run", "--resume", place, "--no-store")[0] == 0
    assert all_of(stopped) == all_of(runs / "finished")


# --- another world --------------------------------------------------------------------------------------------------


def test_another_torch_is_said_and_what_it_gives_is_shared_with_no_other_run(stopped: Path, tmp_path: Path):
    made = read_json(stopped / "environment.json")
    (stopped / "environment.json").write_text(json.dumps({**made, "torch": "1.0.0"}))
    add_sums(stopped, [stopped / "environment.json"])
    store, events = PhaseStore(tmp_path / "store"), list[dict[str, Any]]()
    with listening(events.append):
        result = train_run(stopped, store=store)
    (said,) = [event["notes"] for event in events if event["kind"] == "resumed"]
    assert said == [f"torch was 1.0.0, is {made['torch']}: the result may differ in its last digits"]
    assert said[0] in result["notes"]
    assert store.phases() == []


def test_a_run_that_was_for_a_while_on_other_threads_says_so_ever_after(stopped: Path, tmp_path: Path):
    store, events = PhaseStore(tmp_path / "store"), list[dict[str, Any]]()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(StoppedError):
            train_run(stopped, store=store, stop=stop_after(3))
    finally:
        torch.set_num_threads(threads)
    with listening(events.append):
        result = train_run(stopped, store=store)
    assert any(f"threads was {threads + 1}, is {threads}" in note for note in result["notes"])
    assert store.phases() == []
    assert [one["threads"] for one in read_json(stopped / "environment.json")["resumed"]] == [threads + 1]


def test_data_that_is_gone_or_changed_is_a_line_on_resume_and_in_evaluate(
    tiny: Tiny, image_folder: Path, tmp_path: Path, redense: Command
):
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    recipe = tiny(data={"source": str(data)})
    with pytest.raises(StoppedError):
        train_run(new_run(recipe, tmp_path / "stopped"), stop=stop_after(15))
    train_run(new_run(recipe, tmp_path / "finished"))
    flip(data / "t10k-images-idx3-ubyte", 0.9)
    for words in (("run", "--resume", tmp_path / "stopped"), ("evaluate", tmp_path / "finished")):
        code, _, err = redense(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert "the data of" in err
        assert "changed since it was started" in err
    data.rename(tmp_path / "elsewhere")
    code, _, err = redense("run", "--resume", tmp_path / "stopped")
    assert (code, err.count("\n")) == (2, 1)
    assert f"no data at '{data}'" in err


def test_a_comparison_whose_recipe_or_data_changed_is_refused(compared: Callable[..., Any], redense: Command):
    done = compared("restart", seeds=(0,))
    path = done.folder / "comparison.json"
    path.write_text(path.read_text().replace('"epochs": 1.0', '"epochs": 2.0', 1))
    for says in ("comparison.json is damaged", "changed since it was started"):
        code, _, err = redense("compare", "--resume", done.folder, "--store", done.grid.store.root, "--jobs", 1)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
        add_sums(done.folder, [path])  # by somebody who knows how


# --- training that cannot go on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["dense", "sparse", "redense"])
def test_a_loss_that_is_not_finite_names_its_phase_and_what_was_trained_is_kept(
    phase: str, tiny: Tiny, redense: Command, tmp_path: Path
):
    (tmp_path / "r.yaml").write_text(tiny(**{phase: {"lr": 1e30}}).to_yaml())
    code, _, err = redense("run", "r.yaml", "--out", "run", "--no-store")
    assert (code, err.count("\n")) == (2, 1)
    assert f"in phase '{phase}'" in err
    assert "lower its learning rate" in err
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    assert kept == ["0-dense.safetensors", "1-sparse.safetensors"][: ("dense", "sparse", "redense").index(phase)]
    assert ("what was trained before is kept in run" in err) == bool(kept)


def test_a_layer_that_a_mask_would_leave_nothing_of_is_named_before_anything_is_trained(
    tiny: Tiny, redense: Command, tmp_path: Path
):
    (tmp_path / "r.yaml").write_text(tiny(sparse={"sparsity": 0.99}).to_yaml())
    code, _, err = redense("run", "r.yaml", "--out", "run", "--no-store")
    assert (code, err.count("\n")) == (2, 1)
    assert "phase 'sparse' would prune all 32 weights of 'fc2.weight'" in err
    assert not (tmp_path / "run").exists()


def test_a_layer_that_a_global_mask_leaves_nothing_of_is_named_and_the_phase_before_is_kept(
    runs: Path, tiny: Tiny, tmp_path: Path
):
    weights = load_file(runs / "finished" / "model.safetensors")
    weights["fc2.weight"] = weights["fc2.weight"] * 1e-9
    save_file(weights, tmp_path / "w.safetensors")
    recipe = tiny(start=str(tmp_path / "w.safetensors"), sparse={"scope": "global", "sparsity": 0.5})
    folder = new_run(recipe, tmp_path / "run")
    with pytest.raises(SparsityError, match=r"would prune all 32 weights of 'fc2\.weight'"):
        train_run(folder)
    assert (folder / "checkpoints" / "0-dense.safetensors").exists()


# --- two at once ----------------------------------------------------------------------------------------------------


def test_of_two_runs_into_one_folder_one_is_refused_and_takes_nothing_from_the_other(
    tiny: Tiny, recipe_file: Path, redense: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from redense.lab.runs import run

    refused: list[tuple[int, str, str]] = []
    write = run.write_text

    def write_and_let_another_start(path: Path, text: str) -> None:
        if not refused:  # this one has the folder, and nothing in it yet
            refused.append((0, "", ""))
            refused[:] = [redense("run", recipe_file, "--out", tmp_path / "run", "--no-store")]
        write(path, text)

    monkeypatch.setattr(run, "write_text", write_and_let_another_start)
    folder = new_run(tiny(), tmp_path / "run")
    refused.append(redense("run", recipe_file, "--out", folder, "--no-store"))
    assert [code for code, _, _ in refused] == [2, 2]
    assert "another process is training" in refused[0][2]
    assert "exists and is not empty" in refused[1][2]
    train_run(folder)
    assert (folder / "result.json").exists()


def test_a_start_that_was_killed_before_its_recipe_was_there_is_begun_again_by_the_same_command(
    recipe_file: Path, redense: Command, tmp_path: Path
):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in (".lock", "environment.json", ".recipe.yaml.123"):
        (tmp_path / "run" / name).write_text("{")
    assert redense("run", recipe_file, "--out", tmp_path / "run", "--no-store")[0] == 0
    assert not (tmp_path / "run" / ".recipe.yaml.123").exists()


def test_a_second_comparison_in_one_folder_is_refused(compared: Callable[..., Any], redense: Command):
    import fcntl

    done = compared("restart", seeds=(0,))
    with (done.folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = redense("compare", "--resume", done.folder, "--store", done.grid.store.root)
        assert (code, err.count("\n")) == (2, 1)
        assert "another process is training" in err


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "place"),
    [(signal.SIGTERM, 1), (signal.SIGTERM, "test"), (signal.SIGINT, "twice"), *map(slow, [signal.SIGINT] * 2, (0, 2))],
    ids=str,
)
def test_a_signal_in_any_phase_saves_says_so_in_a_line_and_the_run_goes_on_to_the_same_end(
    number: signal.Signals,
    place: int | str,
    recipe_file: Path,
    redense: Command,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    step, outcome = torch.optim.SGD.step, Engine.outcome
    steps = 0

    def send(times: int = 1) -> None:
        for _ in range(times):
            os.kill(os.getpid(), number)

    def counted(optimizer: Any, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == STARTS[place] + 4 if isinstance(place, int) else (place, steps) == ("twice", 15):
            send(1 if isinstance(place, int) else 2)
        return step(optimizer, *arguments)

    def asked(engine: Engine, split: Any) -> Any:
        if (place, split) == ("test", "test"):
            send()
        return outcome(engine, split)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", counted)
        patch.setattr(Engine, "outcome", asked)
        code, _, err = redense("run", recipe_file, "--out", "run", "--no-store")
    assert code == 128 + number
    (said,) = [line for line in err.splitlines() if line.startswith("redense: ")]
    assert said == f"redense: stopped by {number.name}; go on with: redense run --resume run"
    assert "Traceback" not in err
    if isinstance(place, int):
        events: list[dict[str, Any]] = []
        with listening(events.append):
            train_run(tmp_path / "run")
        assert next(event["step"] for event in events if event["kind"] == "resumed") == STARTS[place] + 4
    else:
        assert redense("run", "--resume", "run", "--no-store")[0] == 0
    assert all_of(tmp_path / "run") == all_of(runs / "finished")
