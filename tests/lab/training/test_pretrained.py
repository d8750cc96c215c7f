"""Trained weights in place of the first dense phase."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from redense.errors import RecipeError, StateError
from redense.lab.arms import Setting, get_arms
from redense.lab.checkpoint import load_tree
from redense.lab.comparison.comparison import Comparison, check_started, new_comparison
from redense.lab.comparison.grid import Grid
from redense.lab.folder import read_json
from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.log import read_records
from redense.lab.runs.resume import begin
from redense.lab.runs.run import engine_of, new_run, train_run
from redense.lab.store import PhaseStore
from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine
from redense.lab.training.plan import PlannedPhase, plan
from redense.lab.training.pretrained import heads_of, load_start_, start_digest, tuned
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.sketch import SketchedClassification

Tiny = Callable[..., Recipe]


@pytest.fixture(scope="module")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `tiny`."""
    folder = new_run(tiny(), tmp_path_factory.mktemp("start") / "trained")
    train_run(folder)
    return folder


def finished(recipe: Recipe, folder: Path) -> dict[str, Any]:
    return train_run(new_run(recipe, folder))


def test_a_start_stands_in_place_of_the_first_phase_and_is_evaluated_first(trained: Path, tiny: Tiny, tmp_path: Path):
    result = finished(tiny(start=str(trained)), tmp_path / "run")
    first, last = result["phases"][0], read_json(trained / "result.json")["phases"][-1]
    assert (first["steps"], first["epochs"]) == (0, 0)
    assert first["test"] == last["test"]
    assert first["validation"] == last["validation"]
    assert [phase["steps"] for phase in result["phases"]] == [0, 11, 11]
    epochs = [event for event in read_records(tmp_path / "run" / "metrics.jsonl") if event["kind"] == "epoch"]
    assert (epochs[0]["phase"], epochs[0]["step"]) == ("dense", 0)
    assert epochs[0]["validation"] == last["validation"]


def test_from_the_checkpoint_of_its_own_first_phase_a_run_ends_with_the_same_weights(
    trained: Path, tiny: Tiny, tmp_path: Path
):
    recipe = tiny(start=str(trained / "checkpoints" / "0-dense.safetensors"), training={"optimizer": {"momentum": 0.0}})
    without = new_run(tiny(training={"optimizer": {"momentum": 0.0}}), tmp_path / "without")
    train_run(without)
    other = tiny(start=str(without / "checkpoints" / "0-dense.safetensors"), training={"optimizer": {"momentum": 0.0}})
    finished(other, tmp_path / "other")
    finished(recipe, tmp_path / "run")
    # Without momentum nothing but the weights passes from phase to phase.
    expected, found = (load_file(folder / "model.safetensors") for folder in (without, tmp_path / "other"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    different = load_file(tmp_path / "run" / "model.safetensors")
    assert not all(torch.equal(expected[name], different[name]) for name in expected)


@pytest.mark.parametrize("how", ["state dict", "nested", "of a DDP", "safetensors"])
def test_files_of_every_usual_kind_are_read(how: str, trained: Path, tiny: Tiny, tmp_path: Path):
    weights = load_file(trained / "model.safetensors")
    path = tmp_path / ("weights.safetensors" if how == "safetensors" else "weights.pt")
    if how == "safetensors":
        save_file(weights, path)
    elif how == "nested":
        torch.save({"epoch": 3, "state_dict": weights}, path)
    else:
        torch.save({f"module.{name}": value for name, value in weights.items()} if "DDP" in how else weights, path)
    model = make_task(tiny()).build_model()
    load_start_(model, str(path), None)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_a_file_with_code_in_it_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, "bomb.pt")
    with pytest.raises(StateError, match=r"bomb\.pt cannot be read as weights alone"):
        load_start_(nn.Linear(2, 2), "bomb.pt", None)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "cannot be read as weights alone"), (b"no weights", "cannot be read as weights alone")],
)
def test_a_damaged_file_is_named(content: bytes, words: str, tmp_path: Path):
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(StateError, match=words):
        load_start_(nn.Linear(2, 2), str(path), None)
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(StateError, match="is damaged or no safetensors file"):
        load_start_(nn.Linear(2, 2), str(path), None)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"wieght": torch.zeros(2, 2), "bias": torch.zeros(2)}, "it has no 'weight'; did you mean 'wieght'"),
        ({"weight": torch.zeros(2, 2), "bias": torch.zeros(2), "more": torch.zeros(1)}, "the network has no 'more'"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, r"'weight' is \(3, 2\), expected \(2, 2\)"),
    ],
    ids=["missing", "unknown", "other shape"],
)
def test_weights_of_another_network_are_refused_by_name(weights: dict[str, Any], words: str, tmp_path: Path):
    save_file(weights, tmp_path / "w.safetensors")
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    with pytest.raises(RecipeError, match=f"is of another network: .*{words}"):
        load_start_(model, str(tmp_path / "w.safetensors"), None)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda own: {"bias": own["bias"].to(torch.int8)},
            StateError,
            "holds 'bias' as int8: expected",
        ),
        (lambda own: {"weight": own["weight"] > 0}, StateError, "holds 'weight' as bool"),
        (lambda own: {"module.bias": own["bias"] + 1}, RecipeError, "'bias' and 'module.bias', which are one here"),
    ],
)
def test_numbers_that_are_no_weights_and_two_of_one_name_are_refused(
    change: Callable[..., dict[str, Any]], error: type[Exception], words: str, tmp_path: Path
):
    own = nn.Linear(2, 1).state_dict()
    torch.save({**own, **change(own)}, tmp_path / "w.pt")
    with pytest.raises(error, match=words):
        load_start_(nn.Linear(2, 1), str(tmp_path / "w.pt"), None)
    torch.save({**own, "module.bias": own["bias"]}, tmp_path / "w.pt")
    load_start_(nn.Linear(2, 1), str(tmp_path / "w.pt"), None)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused_before_a_loss_is_blamed(value: float, tmp_path: Path):
    save_file({"weight": torch.tensor([[0.0, value], [0.0, 0.0]]), "bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(StateError, match=r"start .*w\.safetensors holds numbers that are not finite in 'weight'"):
        load_start_(nn.Linear(2, 2), str(tmp_path / "w.safetensors"), None)


def test_what_is_wrong_with_a_start_is_said_before_anything_is_trained(tiny: Tiny, tmp_path: Path):
    for start, words in {
        str(tmp_path / "nothing.pt"): "no such file",
        str(tmp_path): "is no finished run",
        "torchvision:IMAGENET1K_V1": "torchvision has no weights of 'mlp'",
        "timm:pretrained": "is for a network timm/NAME",
    }.items():
        recipe = tiny(start=start)
        with pytest.raises((StateError, RecipeError), match=words):
            Engine(make_task(recipe), recipe).begin()


def test_the_plan_knows_other_weights_of_the_same_name(tiny: Tiny, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    recipe = tiny(start=str(path))
    first = plan(recipe, 11)
    save_file({"weight": torch.ones(3)}, path)
    assert start_digest(str(path)) != first[0].given
    assert plan(recipe, 11)[0] != first[0]
    assert [planned.steps for planned in first] == [0, 11, 11]
    assert json.loads(json.dumps(first[0].to_dict())) == first[0].to_dict()


def test_a_run_from_a_start_that_is_killed_goes_on_without_it(trained: Path, tiny: Tiny, tmp_path: Path):
    import shutil

    from redense.lab.training.engine import StoppedError

    start = tmp_path / "start"
    shutil.copytree(trained, start)
    recipe = tiny(start=str(start))
    straight, folder = new_run(recipe, tmp_path / "straight"), new_run(recipe, tmp_path / "run")
    train_run(straight)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 5

    with pytest.raises(StoppedError):
        train_run(folder, stop=stop)
    train_run(folder)
    expected, found = (load_file(each / "model.safetensors") for each in (straight, folder))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_start_that_learned_on_pictures_of_another_scale_is_said_with_the_cure(
    trained: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own, half = (tiny(start=str(trained), data={"normalize": name}) for name in ("data", "half"))
    assert not any("normalised" in note for note in tuned(own, make_task(own))[1])
    _, note = tuned(half, make_task(half))[1]
    assert note.startswith(f"start {trained} learned on pictures normalised by mean 0.")
    assert note.endswith("here they are by mean 0.500 and deviation 0.500, so that its layers see other numbers")
    grid = Grid(Comparison(half, ("restart",), (0,), {}), PhaseStore(tmp_path / "store"), tmp_path)
    assert grid.notes[-1] == note  # what `redense compare` says of all its arms
    monkeypatch.setattr("redense.tasks.classification.task.scale_of", lambda *_: ((0.5,) * 3, (0.5,) * 3))
    copy = own.model_copy(update={"start": str(trained / "model.safetensors")})
    _, note = tuned(copy, make_task(copy))[1]
    assert note.endswith(": give --data.normalize half")


# --- a start of other classes ---


@pytest.fixture
def of_seven_classes(trained: Path, tmp_path: Path) -> Path:
    """The weights of `trained` with a last layer of seven classes, where the data has four."""
    weights = load_file(trained / "model.safetensors")
    head = max(name.rpartition(".")[0] for name in weights)
    weights |= {f"{head}.weight": torch.zeros(7, 8), f"{head}.bias": torch.zeros(7)}
    save_file(weights, tmp_path / "seven.safetensors")
    return tmp_path / "seven.safetensors"


def test_from_other_classes_the_last_layer_is_new_and_the_dense_phase_trains(
    of_seven_classes: Path, tiny: Tiny, tmp_path: Path
):
    result = finished(tiny(start=str(of_seven_classes)), tmp_path / "run")
    assert [phase["steps"] for phase in result["phases"]] == [11, 11, 11]
    assert any("is of 7 classes, here are 4: the last layer" in note for note in result["notes"])
    # It is the training that `tune` asks for by itself.
    same = finished(tiny(start=str(of_seven_classes), tune={"backbone_lr": 1}), tmp_path / "same")
    assert same["phases"][-1]["test"] == result["phases"][-1]["test"]


def test_a_backbone_that_is_left_as_it_came_learns_in_the_phases_after(
    of_seven_classes: Path, tiny: Tiny, tmp_path: Path
):
    finished(tiny(start=str(of_seven_classes), tune={"backbone_lr": 0}), tmp_path / "run")
    start = load_file(of_seven_classes)
    ends = [load_tree(path)["model"] for path in sorted((tmp_path / "run" / "checkpoints").glob("[0-9]-*"))]
    first = next(name for name in start if name.endswith("weight"))
    assert torch.equal(ends[0][first], start[first])
    assert not torch.equal(ends[1][first], start[first])


def test_weights_of_the_same_classes_train_the_dense_phase_only_if_asked(trained: Path, tiny: Tiny, tmp_path: Path):
    result = finished(tiny(start=str(trained), tune={"backbone_lr": 0.1}), tmp_path / "run")
    assert [phase["steps"] for phase in result["phases"]] == [11, 11, 11]
    assert result["notes"] == [f"start {trained}: the first dense phase trains from these weights"]


def test_without_a_word_on_tuning_an_engine_refuses_other_classes_with_the_cure(of_seven_classes: Path, tiny: Tiny):
    recipe = tiny(start=str(of_seven_classes))
    with pytest.raises(RecipeError, match=r"expected \(4, 8\).*give --tune.backbone_lr 1"):
        Engine(make_task(recipe), recipe).begin()


@pytest.mark.parametrize(
    "name",
    ["cnn", "squeezenet1_1", "timm/resnet10t", pytest.param("timm/mobilenetv3_small_050", marks=pytest.mark.slow)],
)
def test_the_last_layer_of_every_library_is_found_and_all_other_weights_are_taken(
    name: str, tiny: Tiny, tmp_path: Path
):
    def of(classes: int) -> SketchedClassification:
        return SketchedClassification(
            ImageData(), ImageModel(name=name), shape=(3, 64, 64), classes=classes, examples=4
        )

    weights = of(7).build_model().state_dict()
    save_file(weights, tmp_path / "seven.safetensors")
    recipe, notes = tuned(tiny(start=str(tmp_path / "seven.safetensors")), of(4))
    assert recipe.tune is not None
    assert "is of 7 classes, here are 4: the last layer (" in notes[0]
    network = of(4).build_model()
    load_start_(network, str(tmp_path / "seven.safetensors"), None, may_be_new=heads_of(of(4)))
    other = {key for key, value in network.state_dict().items() if value.shape != weights[key].shape}
    assert other == heads_of(of(4))
    assert len(other) == 2  # a weight and a bias
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items() if key not in other)


@pytest.mark.parametrize("name", ["longer", "smooth", "mixup", "restart"])
def test_arms_that_train_the_dense_phase_in_their_own_way_begin_at_the_weights_that_are_tuned(
    name: str, of_seven_classes: Path, tiny: Tiny
):
    recipe = tiny(start=str(of_seven_classes), tune={"backbone_lr": 1})
    arm, setting = get_arms([name])[0], Setting(recipe, 11, (0,), lambda seed: "")
    flow, task = arm.make(setting), make_task(recipe)
    assert sum(planned.steps for planned in flow.phases) == 33
    first = flow.phases[0]
    assert first.begins is not None
    still = replace(first, phase=replace(first.phase, lr=0.0, steps=1))
    engine = Engine(task, flow.recipe, (still,))
    engine.train()
    start, own = load_file(of_seven_classes), dict(engine.model.named_parameters())
    heads = heads_of(task)
    assert all(torch.equal(value, start[key]) for key, value in own.items() if key not in heads)
    assert all(value.shape[0] == 4 for key, value in own.items() if key in heads)


@pytest.mark.parametrize(
    ("name", "tune", "words"),
    [
        ("longer", None, "cannot stand for it: give a recipe without one, or --tune.backbone_lr 1"),
        (
            "scratch-own",
            {"backbone_lr": 1},
            "it prunes in its first phase, and the recipe's `start` is tuned",
        ),
        ("ensemble", None, "its networks would be one and the same, the recipe's `start`"),
    ],
)
def test_an_arm_that_cannot_begin_at_the_weights_says_why(
    name: str, tune: dict[str, Any] | None, words: str, trained: Path, tiny: Tiny
):
    setting = Setting(tiny(start=str(trained), tune=tune), 11, (0, 1), lambda seed: "")
    with pytest.raises(RecipeError, match=words):
        get_arms([name])[0].make(setting)


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_what_began_from_weights_does_not_go_on_from_others_of_that_name(kind: str, tiny: Tiny, tmp_path: Path):
    task = cast("Any", SimpleNamespace(fingerprint="its data"))
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"some weights")
    recipe = tiny(start=str(own))
    compared = Comparison(recipe, ("restart",), (0,), {})
    folder = new_run(recipe, tmp_path / kind) if kind == "run" else new_comparison(compared, tmp_path / kind)

    def go() -> None:
        begin(folder, recipe, task) if kind == "run" else check_started(folder, compared, task)

    go()
    go()
    task.fingerprint, task.known_as = "by content", ("its data",)  # what an older redense has begun goes on
    go()
    task.known_as = ()
    with pytest.raises(StateError, match=r"the data of .* changed since it was started"):
        go()
    task.fingerprint = "its data"
    own.write_bytes(b"some other weights")
    with pytest.raises(StateError, match=r"start \(.*own.safetensors\) of .* changed since it was started"):
        go()


def test_a_finished_run_needs_the_weights_that_it_started_from_no_longer(trained: Path, tiny: Tiny):
    engine = engine_of(trained, tiny(start="gone.safetensors", tune={"backbone_lr": 0.5}), make_task(tiny()))
    own = load_file(trained / "model.safetensors")
    assert all(torch.equal(value, own[name]) for name, value in engine.model.state_dict().items())


def test_one_long_phase_tunes_the_backbone_for_as_long_as_the_first_phase_would(of_seven_classes: Path, tiny: Tiny):
    recipe = tiny(start=str(of_seven_classes), tune={"backbone_lr": 0})
    setting = Setting(recipe, 11, (0,), lambda seed: "")
    lengths = {name: get_arms([name])[0].make(setting).phases[0] for name in ("longer", "restart")}
    assert {name: (p.steps, p.tunes) for name, p in lengths.items()} == {"longer": (33, 11), "restart": (11, None)}
    long = lengths["longer"]
    assert PlannedPhase.from_dict(long.to_dict()) == long
    task, start = make_task(recipe), load_file(of_seven_classes)
    for tunes, learns in ((1, True), (None, False)):
        engine = Engine(task, recipe, (replace(long, phase=replace(long.phase, steps=2), tunes=tunes),))
        engine.train()
        rest = [name for name in start if name not in heads_of(task)]
        assert any(not torch.equal(engine.model.state_dict()[name], start[name]) for name in rest) == learns


def test_a_task_that_does_not_name_its_last_layer_is_tuned_as_a_whole_or_not_at_all(trained: Path, tiny: Tiny):
    recipe = tiny(start=str(trained), tune={"backbone_lr": 0.5})
    task: Any = make_task(recipe)
    task.heads = frozenset[str]  # as speech and captions have none
    with pytest.raises(RecipeError, match=r"tune.backbone_lr is for all layers but the last, .* give 1"):
        Engine(task, recipe)
    Engine(task, tiny(start=str(trained), tune={"backbone_lr": 1}))
