"""Code of a user's own: it is found, it is loaded once, what it trains is kept apart, and its mistakes are one line."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from redense import plugins
from redense.criteria import CRITERIA, WITH_GRADIENTS, get_criterion
from redense.errors import DataError, PluginError, RecipeError, ScheduleError, ScoreError, StateError
from redense.files.checksums import write_with_sums
from redense.lab.arms import ARMS, Setting, card_of
from redense.lab.arms.cards import PAPERS
from redense.lab.comparison.comparison import Comparison, new_comparison
from redense.lab.comparison.extension import write_extended
from redense.lab.keys import phase_keys
from redense.lab.recipe import recipe as recipes
from redense.lab.recipe.optimizers import OPTIMIZERS
from redense.lab.recipe.recipe import Recipe, build_recipe, load_recipe
from redense.lab.runs.run import new_run, train_run
from redense.lab.runs.trained import load as load_network
from redense.lab.search.recipes import RecipeTraining, training_of
from redense.lab.tasks import make_task
from redense.lab.training.engine import Engine, StoppedError
from redense.lab.training.plan import plan
from redense.methods.base import Method, technique
from redense.phase import Phase
from redense.pruning import choose
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import load_splits
from redense.tasks.classification.data.reading import READERS, Found, layout
from redense.tasks.classification.data.sets import ImageSet
from redense.tasks.classification.models import NETWORKS, network

from .trainings import stop_after

EXAMPLES = Path(__file__).parent.parent / "examples" / "plugins"
Tiny = Callable[..., Recipe]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _forgotten_afterwards(registries: None) -> Iterator[None]:
    papers, gradients = dict(PAPERS), set(WITH_GRADIENTS)
    yield
    for name in set(PAPERS) - set(papers):
        del PAPERS[name]
    files = ("one_threshold", "lamp", "characters", "gradient_noise", "failing", "v1.2")
    for name in (*files, "named_plugin", "installed_plugin"):
        sys.modules.pop(name, None)
    WITH_GRADIENTS.intersection_update(gradients)
    recipes.recipe_type.cache_clear()
    plugins._installed.cache_clear()


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, ...]]:
    def do(*named: object) -> tuple[str, ...]:
        monkeypatch.setenv("REDENSE_PLUGINS", ",".join(map(str, named)))
        return plugins.load_plugins()

    return do


def test_without_plugins_nothing_is_loaded(load: Callable[..., tuple[str, ...]]):
    assert load() == ()


def test_the_example_arm_is_listed_and_prunes_by_one_threshold(redense: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDENSE_PLUGINS", str(EXAMPLES / "one_threshold.py"))
    code, out, err = redense("arms")
    assert (code, err) == (0, "")
    assert "one-threshold    DSD under one threshold" in out
    assert out.startswith("dsd ")  # ours come first


def test_a_criterion_of_ones_own_is_taken_by_a_recipe_and_its_name_is_checked(load: Callable[..., tuple[str, ...]]):
    with pytest.raises(RecipeError, match=r"magnitude, random, saliency.*; did you mean 'saliency'"):
        load_recipe("quickstart", ["--sparse.criterion", "saliencey"])
    with pytest.raises(RecipeError, match="lamp"):
        load_recipe("quickstart", ["--sparse.criterion", "lamp"])
    assert load(EXAMPLES / "lamp.py") == ("lamp",)
    assert load_recipe("quickstart", ["--sparse.criterion", "lamp"]).sparse.criterion == "lamp"


def test_an_export_is_used_without_the_plugin_that_trained_it(
    load: Callable[..., tuple[str, ...]], tiny: Tiny, tmp_path: Path, redense: Run, monkeypatch: pytest.MonkeyPatch
):
    load(EXAMPLES / "lamp.py")
    OPTIMIZERS.register("mine", replace(OPTIMIZERS["sgd"], settings=()))
    recipe = tiny(sparse={"criterion": "lamp"}, training={"optimizer": {"name": "mine", "lr": 0.1}})
    run = new_run(recipe, tmp_path / "run")
    train_run(run)
    export = tmp_path / "export"
    assert redense("export", run, export)[0] == 0
    before = redense("evaluate", export, "--json")[1]
    assert not (export / "plugins.json").exists()
    del CRITERIA["lamp"], OPTIMIZERS["mine"]
    assert redense("evaluate", export, "--json")[:2] == (0, before)
    assert load_network(export).network is not None
    code, _, err = redense("evaluate", run)
    assert (code, "lamp" in err) == (2, True)  # a run is to be gone on with


def test_lamp_is_what_its_paper_says(load: Callable[..., tuple[str, ...]]):
    load(EXAMPLES / "lamp.py")
    weight = torch.tensor([[3.0, -1.0], [2.0, 0.0]])
    # 9 / 9, 1 / (9 + 4 + 1), 4 / (9 + 4), 0 / 14
    torch.testing.assert_close(
        get_criterion("lamp")(weight, 0), torch.tensor([[1, 1 / 14], [4 / 13, 0]], dtype=torch.float64)
    )
    parameters = {"small": torch.nn.Parameter(weight * 1e-3), "large": torch.nn.Parameter(weight)}
    masks = choose(Phase.sparse(1, 0.5, criterion="lamp", scope="global"), parameters, {}, lambda name: 0)
    assert torch.equal(masks["small"], masks["large"])  # the scale of a layer does not matter
    assert masks["large"].tolist() == [[True, False], [True, False]]


def test_a_criterion_that_needs_gradients_is_given_some(tiny: Tiny, tmp_path: Path, redense: Run):
    seen: list[bool] = []

    @importlib.import_module("redense").criterion("seen", gradients=True)
    def seen_gradients(parameter: torch.Tensor, seed: int) -> torch.Tensor:
        seen.append(parameter.grad is not None)
        return parameter.abs()

    (tmp_path / "own.yaml").write_text(tiny(sparse={"criterion": "seen"}).to_yaml())
    assert redense("run", tmp_path / "own.yaml", "--out", tmp_path / "run", "--quiet")[0] == 0
    assert seen
    assert all(seen)


def test_the_example_task_trains_and_is_judged_by_its_own_figure(
    redense: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REDENSE_PLUGINS", str(EXAMPLES / "characters.py"))
    (tmp_path / "text").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    small = ["--data", tmp_path / "text", "--data.length", "16", "--model.width", "16", "--dense.epochs", "2"]
    small += ["--sparse.epochs", "1", "--redense.epochs", "1"]
    code, out, err = redense("run", EXAMPLES / "characters.yaml", *small, "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "test bits" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 < result["phases"][-1]["test"]["bits"] < 6
    assert str(tmp_path / "text") in (tmp_path / "run" / "report.html").read_text()  # what it was trained on
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Where the redense network differs most from the dense network, in the test text." in page
    evidence = json.loads((tmp_path / "run" / "evidence.json").read_text())
    assert (evidence["kind"], evidence["networks"]) == ("characters", ["dense", "sparse", "redense"])
    assert page.count(evidence["pieces"][0]["text"]) == 1
    (tmp_path / "run" / "SHA256SUMS").unlink()
    (tmp_path / "run" / "evidence.json").write_text(json.dumps({**evidence, "pieces": [{"text": 3, "bits": []}]}))
    code, _, err = redense("report", tmp_path / "run")
    assert code == 2
    assert re.search(r"evidence\.json is not what redense writes: pieces\.0\.text: .*\n\Z", err)
    export = tmp_path / "export"
    assert redense("export", tmp_path / "run", export)[0] == 0
    assert "redense needs `characters.py` in `REDENSE_PLUGINS`" in (export / "README.md").read_text()
    with monkeypatch.context() as without:
        without.setitem(plugins._ALL, "task", {})
        with pytest.raises(PluginError, match=r"export needs the task 'characters' of the plugin characters\.py"):
            load_network(export)
    assert redense("recipes", "show", EXAMPLES / "characters.yaml", *small, "--dry-run")[0] == 0
    code, _, err = redense("run", EXAMPLES / "characters.yaml", "--data", tmp_path / "none")
    assert code == 2
    assert err.count("\n") == 1


def test_what_another_version_of_the_code_has_trained_is_not_taken(
    tiny: Tiny, tmp_path: Path, load: Callable[..., tuple[str, ...]]
):
    source = (EXAMPLES / "lamp.py").read_text()
    (tmp_path / "lamp.py").write_text(source)
    load(tmp_path / "lamp.py")
    recipe = tiny(sparse={"criterion": "lamp"})
    first = phase_keys(recipe, "data", plan(recipe, 11))
    assert first == phase_keys(recipe, "data", plan(recipe, 11))
    (tmp_path / "lamp.py").write_text(f"{source}\n# another version\n")
    del sys.modules["lamp"]  # as a new process has not loaded it
    load(tmp_path / "lamp.py")
    second = phase_keys(recipe, "data", plan(recipe, 11))
    assert first[0] == second[0]  # the dense phase knows no criterion
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_a_run_is_not_resumed_with_a_plugin_that_was_edited(
    tiny: Tiny, tmp_path: Path, load: Callable[..., tuple[str, ...]]
):
    source, folder = (EXAMPLES / "lamp.py").read_text(), tmp_path / "run"
    (tmp_path / "lamp.py").write_text(source)
    load(tmp_path / "lamp.py")
    new_run(tiny(sparse={"criterion": "lamp"}), folder)
    with pytest.raises(StoppedError):
        train_run(folder, stop=stop_after(3))
    (tmp_path / "lamp.py").write_text(f"{source}\n# edited\n")
    del sys.modules["lamp"]
    load(tmp_path / "lamp.py")
    with pytest.raises(StateError, match=r"the criterion 'lamp' \(its code, .*\) of .*run changed .*: bring it back"):
        train_run(folder)
    started = json.loads((folder / "started.json").read_text())
    assert {what.partition(" (")[0] for what in started} == {"data", "recipe", "criterion 'lamp'"}
    write_with_sums(folder, {"started.json": json.dumps({what: started[what] for what in ("data", "recipe")})})
    with pytest.raises(StoppedError):  # an older redense has noted no code
        train_run(folder, stop=stop_after(3))
    write_with_sums(folder, {"started.json": json.dumps(started)})
    (tmp_path / "lamp.py").write_text(source)
    del sys.modules["lamp"]
    load(tmp_path / "lamp.py")
    assert len(train_run(folder)["phases"]) == 3


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("this is no Python", "SyntaxError: invalid syntax"),
        (
            "from redense.lab.arms import arm\n@arm('dsd', 'mine')\ndef mine(setting): ...",
            "there is an arm 'dsd' already",
        ),
        (
            "from redense.lab.arms import arm\n@arm('baseline', 'mine')\ndef mine(setting): ...",
            "'baseline' is the dense phase alone, which every comparison has",
        ),
        (
            "from redense.lab.arms import arm\n@arm('a,b', 'mine')\ndef mine(setting): ...",
            "no arm can be called 'a,b', because nothing could ask for it",
        ),
        (
            "import redense\n@redense.criterion('magnitude')\ndef mine(parameter, seed): ...",
            "there is a criterion 'magnitude' already",
        ),
        (
            "import redense\n@redense.criterion('mine')\ndef mine(parameter): ...",
            "criterion 'failing:mine' is called with (parameter, seed)",
        ),
        (
            "from redense.methods.base import Method, technique\n@technique('sam')\nclass Mine(Method): ...",
            "there is a technique 'sam' already",
        ),
    ],
)
def test_a_plugin_that_fails_is_one_line(source: str, said: str, redense: Run, monkeypatch: pytest.MonkeyPatch):
    Path("failing.py").write_text(source)
    monkeypatch.setenv("REDENSE_PLUGINS", "failing.py")
    code, out, err = redense("arms")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "the plugin failing.py cannot be loaded" in err
    assert said in err


def test_a_plugin_that_is_not_there_or_is_called_as_a_library_is_one_line(
    load: Callable[..., tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(PluginError, match="there is no such file here"):
        load(tmp_path / "none.py")
    with pytest.raises(PluginError, match=r"names the module 'nothing.here', which Python does not find"):
        load("nothing.here")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "library_for_a_test.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    for name in ("json", "this", "library_for_a_test"):  # one is imported, two could be
        (tmp_path / f"{name}.py").write_text("import redense")
        with pytest.raises(PluginError, match=f"there is a module '{name}' already: rename the file"):
            load(tmp_path / f"{name}.py")


def test_a_module_by_name_and_an_installed_one_are_loaded_once(
    load: Callable[..., tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("named_plugin", "installed_plugin"):
        (tmp_path / f"{name}.py").write_text("count = []\n")
    point = EntryPoint("mine", "installed_plugin", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == plugins.GROUP else [])
    assert load("named_plugin", EXAMPLES / "one_threshold.py") == ("installed_plugin", "named_plugin", "one_threshold")
    sys.modules["named_plugin"].count.append(1)
    assert load("named_plugin", EXAMPLES / "one_threshold.py")[1:] == ("named_plugin", "one_threshold")
    assert sys.modules["named_plugin"].count == [1]


def test_the_arms_of_other_optimizers_are_listed_and_a_file_with_a_dot_is_named_whole(
    load: Callable[..., tuple[str, ...]], tiny: Tiny, tmp_path: Path
):
    path = tmp_path / "v1.2.py"
    path.write_text((EXAMPLES / "other_optimizers.py").read_text())
    load(path)
    assert ARMS.plugin_of("adamw-0.003") == "v1.2.py"
    flow = ARMS["adamw-0.003"].make(Setting(tiny(), 11, (0,), str))
    assert (flow.recipe.training.optimizer.name, flow.recipe.training.optimizer.lr) == ("adamw", 0.003)


def test_a_folder_names_the_plugin_that_it_needs_and_says_so_where_that_is_missing(
    redense: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REDENSE_PLUGINS", f"{EXAMPLES / 'lamp.py'},{EXAMPLES / 'one_threshold.py'}")
    (tmp_path / "own.yaml").write_text(tiny(sparse={"criterion": "random"}).to_yaml().replace("random", "lamp"))
    run, compared = tmp_path / "run", tmp_path / "compared"
    assert redense("run", tmp_path / "own.yaml", "--out", run, "--quiet")[0] == 0
    assert json.loads((run / "environment.json").read_text())["plugins"] == {"criterion lamp": "lamp.py"}
    new_comparison(Comparison(tiny(), ("dsd", "restart-one-threshold"), (0,), {}), compared)
    needed = {"arm one-threshold": "one_threshold.py"}
    assert json.loads((compared / "environment.json").read_text())["plugins"] == needed
    plain, more = Comparison(tiny(), ("dsd",), (0,), {}), Comparison(tiny(), ("dsd", "one-threshold"), (0,), {})
    grown = new_comparison(plain, tmp_path / "grown")
    assert "plugins" not in json.loads((grown / "environment.json").read_text())
    write_extended(grown, plain, more)  # compare --resume --arms one-threshold
    assert json.loads((grown / "environment.json").read_text())["plugins"] == needed
    monkeypatch.delenv("REDENSE_PLUGINS")
    del CRITERIA["lamp"], ARMS["one-threshold"]
    for command, what, plugin in (
        (("evaluate", run), "the criterion 'lamp'", "lamp.py"),
        (("compare", "--resume", compared), "the arm 'one-threshold'", "one_threshold.py"),
        (("compare", "--resume", grown), "the arm 'one-threshold'", "one_threshold.py"),
    ):
        code, _, err = redense(*command)
        assert (code, err.count("\n")) == (2, 1)
        assert f"needs {what} of the plugin {plugin}, which is not loaded: set REDENSE_PLUGINS={plugin}" in err


def test_the_example_technique_is_one_short_file_with_its_arm_and_card_and_resumes_to_the_same_bits(
    tiny: Tiny, tmp_path: Path, load: Callable[..., tuple[str, ...]]
):
    path = EXAMPLES / "gradient_noise.py"
    assert len(path.read_text().splitlines()) <= 60
    load(path)
    own = ARMS["gradient-noise"]
    assert card_of(own) is not None
    recipe = tiny()
    flow, task = own.make(Setting(recipe, 11, (0,), str)), make_task(recipe)
    ends: list[dict[str, torch.Tensor]] = []
    for stop in (1000, 15):
        saved: list[dict[str, object]] = []
        engine = Engine(task, recipe, flow.phases, save=saved.append)
        engine._stop = lambda engine=engine, stop=stop: engine.step == stop
        try:
            while engine.phase_index < 3:
                engine.train()
        except StoppedError:
            engine = Engine(task, recipe, flow.phases)
            engine.restore(saved[-1])
            while engine.phase_index < 3:
                engine.train()
        ends.append(engine.model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    plain = Engine(task, recipe, [replace(phase, method=None) for phase in flow.phases])
    while plain.phase_index < 3:
        plain.train()
    assert not torch.equal(plain.model.state_dict()["fc1.weight"], ends[0]["fc1.weight"])


def test_a_technique_with_the_arguments_of_before_is_refused_in_a_line_that_names_the_change():
    class Old(Method):
        def begin(self, model: object, prunable: object) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    with pytest.raises(
        ScheduleError,
        match=r"begin of the technique 'old' takes \(self, model, prunable\); it is called with a context, as "
        r"\(self, run\): what was given one by one is in `run` now",
    ):
        technique("old")(Old)


def test_a_network_of_ones_own_is_built_and_its_code_is_in_the_keys(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    @network("own-network")
    def own(config: object, shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(shape[1] * shape[2] * shape[0], classes))

    try:
        recipe = tiny(model={"name": "own-network", "widths": None, "dropout": None})
        assert [type(m).__name__ for m in make_task(recipe).build_model().children()] == ["Flatten", "Linear"]
        before = phase_keys(recipe, "data", plan(recipe, 11))
        monkeypatch.setattr("redense.lab.keys.code_of", lambda thing: "another" if thing is own else None)
        assert not set(before) & set(phase_keys(recipe, "data", plan(recipe, 11)))
    finally:
        del NETWORKS["own-network"]
    with pytest.raises(RecipeError, match="there is a network 'cnn' already"):
        network("cnn")(own)


def test_a_layout_of_ones_own_is_asked_before_ours_and_a_file_that_nobody_takes_is_refused(tmp_path: Path):
    file = tmp_path / "images.own"
    file.write_text("4")

    @layout("four by four")
    def own(found: Path, config: ImageData) -> Found | None:
        if found.suffix != ".own":
            return None
        images = torch.arange(40 * 16, dtype=torch.uint8).reshape(40, 1, 4, 4)
        part = ImageSet(images, torch.arange(40) % 2, ("even", "odd"))
        return Found("four by four", {"train": part, "test": part.take(torch.arange(10))})

    try:
        splits = load_splits(str(file))
        assert (splits.train.images.shape[1:], splits.train.classes) == ((1, 4, 4), ("even", "odd"))
        (tmp_path / "other").write_text("")
        with pytest.raises(DataError, match="no reader of a plugin takes this file"):
            load_splits(str(tmp_path / "other"))
        with pytest.raises(DataError, match="there is a data layout 'idx files' already"):
            layout("idx files")(own)
    finally:
        del READERS["four by four"]


def test_a_cell_that_is_run_twice_registers_twice_and_nobody_else_takes_the_name():
    things: plugins.Registry[object] = plugins.Registry("thing for a test", RecipeError)

    def cell() -> object:
        def mine() -> None: ...

        return mine

    for _ in range(2):  # as a notebook runs it again
        things.register("mine", cell())
    with pytest.raises(RecipeError, match=r"there is a thing for a test 'mine' already, of .*test_plugins"):
        things.register("mine", load_recipe)
    with pytest.raises(RecipeError, match=r"unknown thing for a test 'mien'; did you mean 'mine'\? \(known: mine\)"):
        things.get_named("mien")
    for odd in ("", "two words", "a=b", "-x", "x" * 65, "a\n"):
        with pytest.raises(RecipeError, match="no thing for a test can be called"):
            things.register(odd, cell())


TWICE = {
    "functions": "@criterion('mine')\ndef mine(parameter, seed): ...\n" * 2,
    "lambdas": "criterion('mine')(lambda parameter, seed: 1)\ncriterion('mine')(lambda parameter, seed: 2)\n",
    "partials": "def f(parameter, seed, a): ...\nfor a in (1, 2):\n    criterion('mine')(functools.partial(f, a=a))\n",
}


@pytest.mark.parametrize("kind", TWICE)
def test_a_name_that_a_file_takes_twice_is_refused_and_a_module_that_is_loaded_anew_takes_its_own_again(
    kind: str, tmp_path: Path, load: Callable[..., tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    head, path = "import functools\nfrom redense import criterion\n", tmp_path / "failing.py"
    path.write_text(head + TWICE[kind])
    with pytest.raises(PluginError, match=r"there is a criterion 'mine' already, of .*: call yours otherwise"):
        load(path)
    with pytest.raises(ScoreError, match="there is a criterion 'mine' already"):
        importlib.import_module("failing")
    sys.modules.pop("failing", None)
    path.write_text(head + TWICE[kind].replace("@criterion('mine')", "", 1).replace("criterion('mine')(l", "(l", 1))
    if kind == "partials":
        path.write_text(head + TWICE[kind].replace("(1, 2)", "(1,)"))
    importlib.invalidate_caches()
    importlib.reload(importlib.import_module("failing"))


def test_the_partials_of_two_plugins_are_two_things(tmp_path: Path, load: Callable[..., tuple[str, ...]]):
    for name in ("failing", "named_plugin"):
        (tmp_path / f"{name}.py").write_text(
            "import functools\nfrom redense import criterion\nfrom redense.criteria import random\n"
            "criterion('mine')(functools.partial(random))\n"
        )
    with pytest.raises(PluginError, match="there is a criterion 'mine' already"):
        load(tmp_path / "failing.py", tmp_path / "named_plugin.py")


@pytest.mark.slow
def test_the_processes_of_a_comparison_load_plugins_too(
    redense: Run, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REDENSE_PLUGINS", f"{EXAMPLES / 'one_threshold.py'},{EXAMPLES / 'lamp.py'}")
    settings = ["--sparse.criterion", "lamp", "--seeds", "2", "--jobs", "2"]
    arms = "dsd,restart,one-threshold"
    code, out, err = redense("compare", recipe_file, "--arms", arms, *settings, "--out", tmp_path / "out")
    assert code == 0, err
    assert "one-threshold" in out


def test_a_task_may_be_registered_again(load: Callable[..., tuple[str, ...]]):
    load(EXAMPLES / "characters.py")
    least = {"task": "characters", "dense": {"epochs": 1}, "sparse": {"epochs": 1}, "redense": {"epochs": 1}}
    assert build_recipe({**least, "data": {"length": 8}}).data.length == 8
    with pytest.raises(RecipeError, match=r"unknown setting 'data.lenght'; did you mean 'data.length'"):
        build_recipe({**least, "data": {"lenght": 8}})


def test_a_search_in_a_process_of_its_own_has_the_plugins(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REDENSE_PLUGINS", str(EXAMPLES / "lamp.py"))
    plain = tiny().model_dump(mode="json")
    training = RecipeTraining({**plain, "sparse": {**plain["sparse"], "criterion": "lamp"}}, {})
    assert training(training_of(tiny()).schedule, 0)["steps"] == 33
