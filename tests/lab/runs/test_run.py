"""Run folders: everything promised is there, a run that was killed ends with the same bits, damage is noticed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from redense.errors import CheckpointError, StateError
from redense.files.checksums import drop_sums
from redense.lab.checkpoint import load_tree
from redense.lab.events import listening
from redense.lab.folder import read_json
from redense.lab.recipe.recipe import Recipe, read_run_recipe
from redense.lab.runs.export import export_run, model_card
from redense.lab.runs.run import discard_unstarted, load_model, new_run, train_run
from redense.lab.training.engine import StoppedError
from redense.tasks.classification.data.loading import load_splits

from ...trainings import stop_after, timeless

Tiny = Callable[..., Recipe]
Command = Callable[..., tuple[int, str, str]]

PHASES = ("0-dense", "1-sparse", "2-redense")


def stopped(recipe: Recipe, folder: Path, step: int) -> Path:
    """Make a run that was stopped after so many steps."""
    new_run(recipe, folder)
    with pytest.raises(StoppedError):
        train_run(folder, stop=stop_after(step))
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(a: Path, b: Path, moved: tuple[str, str] = ("", "")) -> None:
    """Compare two runs to the bit; ``moved`` says where the pictures of the one and of the other lie."""
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert timeless(lines(a)) == timeless(lines(b))
    result = timeless(read_json(a / "result.json"))
    if any(moved):
        result = json.loads(json.dumps(result).replace(*moved))
    assert result == timeless(read_json(b / "result.json"))
    outcomes = [load_file(folder / "outcome.safetensors") for folder in (a, b)]
    assert outcomes[0].keys() == outcomes[1].keys()
    assert all(torch.equal(outcomes[0][key], outcomes[1][key]) for key in outcomes[0])


@pytest.fixture(scope="session")
def images(image_folder: Path) -> str:
    return str(image_folder)


@pytest.fixture
def finished(tiny: Tiny, tmp_path: Path, done: dict[str, Path]) -> Path:
    """A finished run of 3 x 2 epochs; the tests must not change it."""
    if "tiny" not in done:
        folder = new_run(tiny(dense={"epochs": 2}, sparse={"epochs": 2}, redense={"epochs": 2}), done["root"] / "run")
        train_run(folder)
        done["tiny"] = folder
    return done["tiny"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"root": tmp_path_factory.mktemp("finished")}


def plain_model() -> nn.Sequential:
    """The network of the tiny recipe as anyone would write it."""
    model = nn.Sequential()
    for name, layer in (
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(64, 8)),
        ("relu1", nn.ReLU()),
        ("dropout1", nn.Dropout(0.2)),
        ("fc2", nn.Linear(8, 4)),
    ):
        model.add_module(name, layer)
    return model.eval()


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_a_finished_run_has_every_file_that_is_promised(finished: Path):
    promised = {"recipe.yaml", "environment.json", "metrics.jsonl", "tensorboard", "checkpoints", "outcome.safetensors"}
    promised |= {"model.safetensors", "result.json", "evidence.json", "moments.json", "artifacts"}
    promised |= {"metrics.sums", "SHA256SUMS"}
    found = {path.name for path in finished.iterdir()}
    assert promised <= found
    assert found - promised <= {"started.json", ".lock", "report.html"}
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {f"{p}.safetensors" for p in ("last", *PHASES)}
    assert list((finished / "tensorboard").glob("events.*"))


def test_the_model_loads_into_the_plain_one_and_gives_the_test_error_of_the_result(finished: Path, images: str):
    model, splits = plain_model(), load_splits(images)
    model.load_state_dict(load_file(finished / "model.safetensors"), strict=True)
    pixels = splits.train.images.float()
    logits = model((splits.test.images.float() - pixels.mean()) / pixels.std()).detach()
    wrong = logits.argmax(1) != splits.test.labels
    test = read_json(finished / "result.json")["phases"][-1]["test"]
    assert test["error"] == pytest.approx(100 * int(wrong.sum()) / 100)
    assert test["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, splits.test.labels)), rel=1e-5)
    answers = load_file(finished / "outcome.safetensors")["2-redense/answer"]
    assert torch.equal(answers, logits.argmax(1))


def test_the_evidence_says_class_by_class_what_the_result_says_of_all(finished: Path):
    found, result = read_json(finished / "evidence.json"), read_json(finished / "result.json")
    assert found["networks"] == ["dense", "sparse", "redense"]
    for index, phase in enumerate(result["phases"]):
        wrong = sum(row["networks"][index]["wrong"] for row in found["classes"])
        assert 100 * wrong / found["examples"] == pytest.approx(phase["test"]["error"])
    outcomes = load_file(finished / "outcome.safetensors")
    before, after = outcomes["0-dense/rank"] > 0, outcomes["2-redense/rank"] > 0
    assert found["fixed"]["total"] == int((before & ~after).sum())
    assert found["broken"]["total"] == int((~before & after).sum())
    assert all(one["picture"] for one in found["fixed"]["shown"])


def test_the_moments_are_those_of_the_checkpoints(finished: Path):
    (cycle,) = read_json(finished / "moments.json")["cycles"]
    assert (cycle["dense"], cycle["sparse"], cycle["redense"]) == ("dense", "sparse", "redense")
    assert [layer["name"] for layer in cycle["layers"]] == ["fc1.weight", "fc2.weight"]
    layer = cycle["layers"][cycle["default"]]
    assert layer["name"] == "fc1.weight"  # the larger one
    dense, sparse, end = (load_tree(finished / "checkpoints" / f"{p}.safetensors")["model"] for p in PHASES)
    name = layer["name"]
    pruned = sparse[name] == 0
    assert layer["regrown"]["weights"] == int(pruned.sum()) == round(0.3 * pruned.numel())
    sizes = [moment["mean_magnitude"] for moment in layer["moments"]]
    expected = [dense[name], dense[name][~pruned], sparse[name][~pruned], sparse[name], end[name]]
    assert sizes == pytest.approx([float(w.double().abs().mean()) for w in expected])
    assert layer["regrown"]["mean_magnitude"] == pytest.approx(float(end[name][pruned].double().abs().mean()))
    assert layer["moments"][3]["counts"][50] >= pruned.sum()  # the spike at zero


def test_every_cycle_has_its_moments_and_a_run_without_a_mask_has_none(tiny: Tiny, tmp_path: Path):
    twice = tiny(cycles=[{"sparse": {"epochs": 1, "sparsity": 0.2}, "redense": {"epochs": 1}}])
    for name, recipe, cycles in (("twice", twice, 2), ("control", tiny(sparse={"sparsity": 0.0}), 0)):
        train_run(new_run(recipe, tmp_path / name))
        found = read_json(tmp_path / name / "moments.json")["cycles"]
        assert len(found) == cycles
        assert [cycle["dense"] for cycle in found] == ["dense", "redense-1"][:cycles]


def test_the_result_says_what_was_done(finished: Path):
    result = read_json(finished / "result.json")
    assert (result["recipe"], result["task"], result["seed"], result["test_examples"]) == (
        "tiny",
        "classification",
        0,
        100,
    )
    assert result["metric"] == {"name": "error", "unit": "%", "lower_is_better": True}
    assert [p["name"] for p in result["phases"]] == ["dense", "sparse", "redense"]
    assert [p["kind"] for p in result["phases"]] == ["dense", "sparse", "dense"]
    assert [(p["epochs"], p["steps"]) for p in result["phases"]] == [(2, 22)] * 3
    assert [p["lr"] for p in result["phases"]] == [0.1, 0.1, 0.01]
    assert [p["sparsity"] for p in result["phases"]] == [0.0, round(164 / 544, 6), 0.0]
    for phase in result["phases"]:
        assert set(phase["validation"]) == set(phase["test"]) == {"error", "loss"}
    layers = {layer["name"]: layer for layer in result["layers"]}
    assert list(layers) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert layers["fc1.weight"]["sparsity"] == [0.0, round(154 / 512, 6), 0.0]
    assert (layers["fc1.weight"]["prunable"], layers["fc1.bias"]["prunable"]) == (True, False)
    assert layers["fc1.weight"]["shape"] == [8, 64]


def test_the_metrics_have_every_epoch_once_in_order(finished: Path):
    epochs = [line for line in lines(finished) if line["kind"] == "epoch"]
    assert [(e["phase"], e["epoch"], e["step"]) for e in epochs] == [
        (name, epoch, 22 * index + 11 * epoch)
        for index, name in enumerate(("dense", "sparse", "redense"))
        for epoch in (1, 2)
    ]
    assert [line["step"] for line in lines(finished)] == sorted(line["step"] for line in lines(finished))
    steps = [line for line in lines(finished) if line["kind"] == "step"]
    assert [(s["phase"], s["step"]) for s in steps] == [("dense", 20), ("sparse", 42), ("redense", 64)]
    assert all(set(s) == {"kind", "phase", "phase_index", "step", "epoch", "loss", "lr"} for s in steps)


def test_the_environment_says_where_it_was_made(finished: Path):
    made = read_json(finished / "environment.json")
    assert made["torch"] == torch.__version__.partition("+")[0] or made["torch"] == torch.__version__
    assert {"redense", "python", "platform", "processor", "cores", "threads", "commit", "started"} <= set(made)


def test_the_recipe_of_a_run_is_the_one_that_was_given(finished: Path, tiny: Tiny):
    expected = tiny(dense={"epochs": 2}, sparse={"epochs": 2}, redense={"epochs": 2})
    assert read_run_recipe(finished) == expected


def test_a_loaded_model_is_ready_to_evaluate(finished: Path):
    assert load_model(finished).evaluate("test") == read_json(finished / "result.json")["phases"][-1]["test"]


# --- new folders ----------------------------------------------------------------------------------------------------


def test_runs_of_the_same_second_get_folders_of_their_own(tiny: Tiny, tmp_path: Path):
    folders = {new_run(tiny(name="a/b"), root=tmp_path) for _ in range(4)}
    assert len(folders) == 4
    assert all(folder.parent == tmp_path and folder.name.startswith("a-b-seed0-") for folder in folders)


def test_a_folder_that_is_not_empty_is_left_alone(tiny: Tiny, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    for taken in (tmp_path, tmp_path / "mine", tmp_path / "mine" / "below"):
        with pytest.raises(StateError, match=r"not empty|cannot make"):
            new_run(tiny(), taken)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert new_run(tiny(), tmp_path / "empty") == tmp_path / "empty"


def test_a_run_that_never_began_can_be_discarded_and_one_that_did_not(tiny: Tiny, tmp_path: Path):
    discard_unstarted(new_run(tiny(), tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    kept = new_run(tiny(), tmp_path / "kept")
    (kept / "notes.txt").write_text("mine")
    discard_unstarted(kept)
    assert (kept / "notes.txt").exists()
    begun = stopped(tiny(), tmp_path / "begun", 3)
    before = sorted(p.name for p in begun.iterdir())
    discard_unstarted(begun)
    assert sorted(p.name for p in begun.iterdir()) == before


@pytest.mark.parametrize(("labels", "words"), [([3], "class"), ([], "empty|announces")], ids=["one class", "no images"])
def test_data_of_one_class_or_none_is_a_line(
    labels: list[int], words: str, image_folder: Path, tiny: Tiny, redense: Command, tmp_path: Path
):
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    for part, images in (("train", 400), ("t10k", 100)):
        count = images * len(labels)
        array = np.full(count, *labels, dtype=np.uint8) if labels else np.zeros(0, np.uint8)
        header = bytes((0, 0, 8, 1)) + count.to_bytes(4, "big")
        (data / f"{part}-labels-idx1-ubyte").write_bytes(header + array.tobytes())
    (tmp_path / "r.yaml").write_text(tiny(data={"source": str(data)}).to_yaml())
    code, _, err = redense("run", "r.yaml", "--out", "run", "--no-store")
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(words, err)
    assert not (tmp_path / "run").exists()


# --- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [*(pytest.param(step, marks=pytest.mark.slow) for step in (1, 11, 66)), 30])
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not(step: int, finished: Path, tmp_path: Path):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", step)
    train_run(folder)
    assert_same_run(folder, finished)


def test_a_finished_run_can_be_resumed_and_stays_the_same(finished: Path, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    train_run(folder)
    assert_same_run(folder, finished)


def test_a_line_that_a_kill_cut_off_and_lines_after_the_checkpoint_are_forgotten(finished: Path, tmp_path: Path):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 30)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "phase": "sparse", "phase_index": 1, "step": 40, "loss": 9.9}\n')
        file.write('{"kind": "step", "phase": "sparse", "ph')
    train_run(folder)
    assert_same_run(folder, finished)


def test_what_was_logged_before_the_first_checkpoint_is_logged_once(finished: Path, tmp_path: Path):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 21)
    assert lines(folder)
    (folder / "checkpoints" / "last.safetensors").unlink()  # as if it had been killed before its first save
    train_run(folder)
    assert_same_run(folder, finished)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("validation/error")] == [11, 22, 33, 44, 55, 66]


def test_what_a_kill_left_half_written_is_removed(finished: Path, tmp_path: Path):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 5)
    left = folder / "checkpoints" / ".last.safetensors.12345"
    left.write_bytes(b"half")
    train_run(folder)
    assert not left.exists()
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {f"{p}.safetensors" for p in ("last", *PHASES)}


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.unlink()  # another file may share the bytes
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_taken(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 50)
    damage(folder / "checkpoints" / "last.safetensors")
    events: list[dict[str, Any]] = []
    with listening(events.append):
        train_run(folder)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "last.safetensors is damaged" in caplog.text
    assert next(event for event in events if event["kind"] == "resumed")["step"] == 44
    assert_same_run(folder, finished)


def test_with_two_damaged_checkpoints_the_third_is_taken(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 50)
    damage(folder / "checkpoints" / "last.safetensors")
    damage(folder / "checkpoints" / "1-sparse.safetensors")
    events: list[dict[str, Any]] = []
    with listening(events.append):
        train_run(folder)
    assert len(caplog.records) == 2
    assert next(event for event in events if event["kind"] == "resumed")["step"] == 22
    assert_same_run(folder, finished)


def test_without_any_whole_checkpoint_a_run_does_not_silently_start_over(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 30)
    for path in (folder / "checkpoints").iterdir():
        damage(path)
    with pytest.raises(CheckpointError, match="damaged"):
        train_run(folder)


def test_changed_data_is_refused(tiny: Tiny, tmp_path: Path, images: str):
    data = tmp_path / "data"
    shutil.copytree(images, data)
    folder = stopped(tiny(data={"source": str(data)}), tmp_path / "run", 5)
    path = data / "train-images-idx3-ubyte"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(StateError, match=r"data of .* changed since it was started"):
        train_run(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [("- 8", "- 9"), ("epochs: 2.0", "epochs: 3.0"), ("name: sgd", "name: adam"), ("lr: 0.1", "lr: 0.2")],
    ids=lambda text: text,
)
def test_a_changed_recipe_is_refused(old: str, new: str, finished: Path, tmp_path: Path):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 30)
    text = (folder / "recipe.yaml").read_text()
    assert old in text
    (folder / "recipe.yaml").write_text(text.replace(old, new))
    with pytest.raises(CheckpointError, match=r"recipe\.yaml is damaged.*changed it on purpose, delete its line"):
        train_run(folder)
    drop_sums(folder, ["recipe.yaml"])
    with pytest.raises(StateError, match=r"recipe of .* changed since it was started"):
        train_run(folder)


def test_data_that_was_moved_is_still_the_same(finished: Path, tmp_path: Path, images: str):
    shutil.copytree(images, tmp_path / "moved")
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 30)
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace(images, str(tmp_path / "moved")))
    drop_sums(folder, ["recipe.yaml"])  # as the message and the documentation say
    train_run(folder)
    assert_same_run(folder, finished, moved=(str(tmp_path / "moved"), images))


def test_a_second_process_in_one_folder_is_refused(tiny: Tiny, tmp_path: Path):
    folder = new_run(tiny(), tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from redense.lab.runs.run import train_run; train_run(Path(sys.argv[1]))"
    )
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="another process is training"):
            train_run(folder)
        _, said = forked.start("-c", code, folder).communicate(timeout=100)
        assert "StateError: another process is training" in said
    train_run(folder)


def test_two_trainings_of_one_process_do_not_share_a_folder_either(tiny: Tiny, tmp_path: Path):
    folder, met = new_run(tiny(), tmp_path / "run"), list[str]()

    def second(event: dict[str, Any]) -> None:
        if event["kind"] == "epoch" and not met:
            with pytest.raises(StateError, match="another process is training"):
                train_run(folder)
            met.append("refused")

    with listening(second):
        train_run(folder)
    assert met


def test_a_disk_that_is_full_stops_the_run_and_it_goes_on_later(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = stopped(read_run_recipe(finished), tmp_path / "run", 25)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(CheckpointError, match="No space left on device"):
            train_run(folder)
    train_run(folder)
    assert_same_run(folder, finished)


# --- export ---------------------------------------------------------------------------------------------------------


def test_an_export_holds_the_model_and_what_it_reached(finished: Path, tmp_path: Path):
    out = export_run(finished, tmp_path / "deep" / "out")
    names = ["README.md", "SHA256SUMS", "artifacts", "model.safetensors", "recipe.yaml", "result.json"]
    assert sorted(p.name for p in out.iterdir()) == names
    plain_model().load_state_dict(load_file(out / "model.safetensors"), strict=True)
    card = (out / "README.md").read_text()
    result = read_json(finished / "result.json")
    for phase in result["phases"]:
        assert f"{phase['test']['error']:.2f} %" in card
    assert "does not show that the mask is what helped" in card
    assert "strict=True" in card
    result["phases"][1]["sparsity"] = 0.995  # which is not 100 %
    result["notes"] = ["30 % of the training labels were drawn anew"]
    result["data"] = {"text": "a &lt; $b$"}
    card = model_card(read_run_recipe(finished), result, {})
    assert r"Trained on a \&lt; \$b\$." in card
    assert "| sparse | 99.5% |" in card
    assert "- 30 % of the training labels were drawn anew" in card


def test_an_unfinished_run_is_not_exported_and_no_folder_is_made(tiny: Tiny, tmp_path: Path):
    folder = stopped(tiny(), tmp_path / "run", 3)
    with pytest.raises(StateError, match="not got that far"):
        export_run(folder, tmp_path / "out")
    with pytest.raises(StateError, match="finish it with"):
        load_model(folder)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_neither_loaded_nor_exported(finished: Path, tmp_path: Path):
    shutil.copytree(finished, folder := tmp_path / "run")
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = torch.nan
    save_file(weights, folder / "model.safetensors")
    (folder / "SHA256SUMS").unlink()  # as with somebody else's
    for use in (load_model, lambda folder: export_run(folder, tmp_path / "out")):
        with pytest.raises(StateError, match=r"model\.safetensors holds numbers that are not finite in "):
            use(folder)
    assert not (tmp_path / "out").exists()


def test_an_export_overwrites_nothing(finished: Path, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(StateError, match="not empty"):
        export_run(finished, tmp_path)
    with pytest.raises(StateError, match="is an export, or a network of the zoo: copy it"):
        export_run(Path(__file__).parents[3] / "zoo" / "quickstart", tmp_path / "out")
    with pytest.raises(StateError, match=r"not empty|cannot export"):
        export_run(finished, tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
