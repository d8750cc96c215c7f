"""A setting that another one makes meaningless is refused with its name; what is read of a run folder is as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from redense.errors import RecipeError
from redense.lab.arms.of_recipe import swept
from redense.lab.recipe.optimizers import OPTIMIZERS
from redense.lab.recipe.recipe import Recipe, build_recipe, load_recipe, parse_yaml
from redense.tasks.speech import entry

from .files import LEAST

Tiny = Callable[..., Recipe]


def _cycle(said: str) -> str:
    return f"[{{sparse: {{epochs: 1, {said}}}, redense: {{epochs: 1}}}}]"


IDLE = [
    (["--training.optimizer.betas", "[0.8, 0.9]"], "training.optimizer.betas is no setting of sgd, which takes lr, "),
    (["--training.optimizer.options", "{amsgrad: true}"], "is for an optimizer of your own, and sgd takes none"),
    (["--training.decay.factor", "0.5"], "training.decay.factor is a setting of step, and training.decay.kind is cos"),
    (["--dense.decay.kind", "step", "--dense.decay.floor", "0.1"], "dense.decay.floor is a setting of cosine and lin"),
    (["--prune.allocation", "erk", "--sparse.scope", "global"], "prune.allocation erk shares one sparsity over the"),
    (["--prune.allocation", "erk", "--sparse.sparsity.fc1.weight", "0.5"], "prune.allocation erk shares"),
    (["--prune.allocation", "sensitivity", "--sparse.pattern", "[2, 4]"], "prune.allocation sensitivity shares"),
    (["--data", ""], "data.source is empty, which would be the folder at hand"),
    (["--tune.backbone_lr", "0.5"], "tune is for a network that comes trained, and there is no start"),
    (["--sparse.pattern", "[2, 4]", "--sparse.sparsity", "0.5"], r"no effect beside sparse.pattern \[2, 4\]"),
    (["--training.decay.kind", "linear", "--dense.decay.floor", "0.1"], "dense.decay says no kind, and would"),
    (["--cycles", _cycle("decay: {factor: 0.5}")], "cycles.0.sparse.decay.factor is a setting of step, and cycles.0"),
    (["--cycles", _cycle("pattern: [2, 4], sparsity: 0.5")], r"cycles.0.sparse.sparsity 0.5 has no effect beside cyc"),
    (["--sparse.pattern", "2,4"], r"sparse.pattern: must be a list, such as \[2, 4\], got '2,4'"),
    (["--log", "csv,tensorboard,csv"], "log: csv is named twice"),
]


@pytest.mark.parametrize(("given", "says"), IDLE)
def test_a_setting_without_effect_is_refused(given: list[str], says: str, tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(LEAST)
    with pytest.raises(RecipeError, match=says) as caught:
        load_recipe(path, given)
    assert str(caught.value).startswith((f"{path}: ", "log: "))


def test_a_pattern_on_the_command_line_takes_the_place_of_the_recipe_s_sparsity_and_beside_it_in_a_file_is_refused(
    tmp_path: Path,
):
    path = tmp_path / "own.yaml"
    own = "sparse: {epochs: 1, sparsity: 0.5"
    path.write_text(LEAST.replace("sparse: {epochs: 1", f"{own}, pattern: [2, 4]"))
    with pytest.raises(RecipeError, match=r"sparse.sparsity 0.5 has no effect beside sparse.pattern \[2, 4\]: remove"):
        load_recipe(path)
    path.write_text(LEAST.replace("sparse: {epochs: 1", own))
    recipe = load_recipe(path, ["--sparse.pattern", "[2, 4]"])
    path.write_text(recipe.to_yaml())
    assert load_recipe(path) == recipe  # a recipe with every default written out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("model.channels 7", "model.channels is no setting of deepspeech"),
        ("model.name deepspeech2 --model.context 7", "model.context is no setting of deepspeech2"),
        ("data.augment.width 7", "data.augment.width is of the bands of data.augment.times, and there are none"),
        ("data.augment.times 1 --data.augment.height 7", "data.augment.height is of the bands of data.augment.freq"),
    ],
)
def test_a_setting_of_speech_that_has_no_effect_is_refused(given: str, says: str):
    with pytest.raises(RecipeError, match=says):
        load_recipe("tones/deepspeech", f"--{given}".split())


def test_another_optimizer_drops_the_settings_that_it_does_not_take(monkeypatch: pytest.MonkeyPatch):
    first, other = (load_recipe("imagenet/resnet18", given) for given in ([], ["--training.optimizer.name", "adamw"]))
    assert (first.training.optimizer.momentum, first.training.optimizer.nesterov) == (0.9, True)
    assert (other.training.optimizer.momentum, other.training.optimizer.nesterov) == (0.0, False)
    assert other.training.optimizer.weight_decay == first.training.optimizer.weight_decay
    rmsprop = load_recipe("quickstart", ["--training.optimizer.name", "rmsprop"])
    assert rmsprop.training.optimizer.momentum == 0.9
    # One of the user's own takes what it likes.
    own = replace(OPTIMIZERS["adam"], make=lambda parameters, settings: None, settings=())
    monkeypatch.setitem(OPTIMIZERS._things, "adam", own)
    given = ["--training.optimizer.name", "adam", "--training.optimizer.momentum", "0.5"]
    assert load_recipe("quickstart", given).training.optimizer.momentum == 0.5
    # One that says what it takes, takes that, and options of its own.
    monkeypatch.setitem(OPTIMIZERS._things, "adam", replace(own, settings=("betas",)))
    with pytest.raises(RecipeError, match=r"momentum is no setting of adam, which takes lr, .*betas"):
        load_recipe("quickstart", given)
    options = ["--training.optimizer.name", "adam", "--training.optimizer.options", "{amsgrad: true}"]
    assert load_recipe("quickstart", options).training.optimizer.options == {"amsgrad": True}


def test_what_was_trained_with_an_idle_setting_is_still_read():
    plain = parse_yaml(LEAST, "old") | {"training": {"optimizer": {"name": "adam", "momentum": 0.9}}}
    assert build_recipe(plain).training.optimizer.momentum == 0.9


def test_a_sweep_over_sparsities_of_a_pattern_is_refused(tiny: Tiny):
    recipe = tiny(sparse={"pattern": [2, 4]})
    with pytest.raises(RecipeError, match=r"--sweep: a sparsity has no effect beside sparse.pattern \[2, 4\]"):
        swept(recipe, "dsd", {"sparsity": 0.5})
    assert swept(recipe, "dsd", {"sparsity": 0.5, "pattern": None})[1].sparse.pattern is None


def test_labels_of_speech_are_not_smoothed_and_no_start_is_none():
    recipe = load_recipe("tones/deepspeech", ["--training.label_smoothing", "0.1"])
    for ask in (entry.make, entry.facts):
        with pytest.raises(RecipeError, match=r"label_smoothing is for classification and captioning, not for speech"):
            ask(recipe)
    assert load_recipe("elpv/efficientnet-lite0").start
    assert load_recipe("elpv/efficientnet-lite0", ["--start", "null", "--tune", "null"]).start is None
