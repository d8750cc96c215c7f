"""A comparison: what is compared is read, written and laid out in cells, and what means nothing is refused."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from redense.errors import PluginError, RecipeError, StateError
from redense.lab.arms import ARMS, Flow, Setting, arm
from redense.lab.comparison.comparison import (
    Comparison,
    cells,
    check_started,
    comparison_digest,
    discard_comparison,
    names_in_flows,
    new_comparison,
    parse_sweep,
    read_comparison,
)
from redense.lab.comparison.extension import extended, write_extended
from redense.lab.comparison.grid import Grid
from redense.lab.pairs.plan import seed_list
from redense.lab.recipe.recipe import Recipe
from redense.lab.store import PhaseStore
from redense.lab.tasks import make_task
from redense.plugins import _loaded_code, refuse_edited, refuse_typed
from redense.schedules.named_criteria import CRITERIA, criterion
from redense.variants import restarted

Tiny = Callable[..., Recipe]


# --- what other processes need ----------------------------------------------------------------------------------------


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Register a criterion as a module of this name would."""

    def register(module: str) -> Any:
        def score(parameter: Any, seed: int) -> Any:
            return -parameter.detach().abs()

        score.__module__ = module
        return criterion("backwards")(score)

    yield register
    CRITERIA.pop("backwards", None)


def test_what_a_script_registers_is_refused_where_other_processes_would_lack_it(
    typed: Callable[[str], Any], tiny: Tiny, tmp_path: Path
):
    typed("__main__")
    compared = Comparison(tiny(sparse={"criterion": "backwards"}), ("dsd",), (0,), {})
    grid = Grid(compared, PhaseStore(tmp_path / "s"), tmp_path)
    with pytest.raises(PluginError, match=r"the criterion 'backwards' is registered by what you run.* give jobs=1"):
        grid.run(jobs=2)
    assert [job.carried and job.carried.plugins for job in next(grid.jobs())] == [{}]


def test_a_module_that_a_script_imports_is_imported_by_other_processes_as_it_was(
    typed: Callable[[str], Any], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "backwards_for_a_test.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("backwards_for_a_test")
    typed("backwards_for_a_test")
    grid = Grid(Comparison(tiny(), ("dsd",), (0,), {"criterion": ["backwards"]}), PhaseStore(tmp_path / "s"), tmp_path)
    refuse_typed(names_in_flows(cell.flow for cell in grid.cells))
    (plugins,) = [job.carried.plugins for job in next(grid.jobs()) if job.carried]
    assert list(plugins) == ["backwards_for_a_test"]
    _loaded_code.cache_clear()
    refuse_edited(plugins)
    (tmp_path / "backwards_for_a_test.py").write_text("A = 2\n")
    importlib.reload(importlib.import_module("backwards_for_a_test"))
    _loaded_code.cache_clear()
    with pytest.raises(PluginError, match="the plugin 'backwards_for_a_test' was edited meanwhile"):
        refuse_edited(plugins)
    _loaded_code.cache_clear()


def test_optimizers_and_techniques_of_phases_are_named(tiny: Tiny, tmp_path: Path):
    grid = Grid(Comparison(tiny(), ("sam", "muon"), (0,), {}), PhaseStore(tmp_path / "s"), tmp_path)
    named = names_in_flows(cell.flow for cell in grid.cells)
    assert (named["technique"], named["optimizer"]) == (["sam"], ["muon", "sgd"])


# --- what is swept, and which seeds -----------------------------------------------------------------------------------


def test_several_settings_are_swept_in_all_combinations(tiny: Tiny, tmp_path: Path):
    sweep = {"sparsity": [0.2, 0.5], "criterion": ["magnitude", "random"]}
    grid = Grid(Comparison(tiny(), ("dsd", "llr"), (0,), sweep), PhaseStore(tmp_path / "s"), tmp_path)
    labels = [f"dsd sparsity={s} criterion={c}" for s in (0.2, 0.5) for c in ("magnitude", "random")]
    assert [cell.label for cell in grid.cells] == ["baseline", *labels, "llr"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("", {}),
        ("sparsity=0.2,0.3", {"sparsity": [0.2, 0.3]}),
        ("pattern=[2,4],[1,4] sparsity=0.2", {"pattern": [[2, 4], [1, 4]], "sparsity": [0.2]}),
        ("sparsity=0.2 criterion=random,saliency", {"sparsity": [0.2], "criterion": ["random", "saliency"]}),
    ],
)
def test_a_sweep_is_read(text: str | None, expected: dict[str, Any]):
    assert parse_sweep(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sparsty=0.2", "no setting 'sparsty'; did you mean 'sparsity'?"),
        ("sparsity", "give values, as in --sweep sparsity=0.2,0.3,0.5"),
        ("sparsity=", "give values"),
        ("epochs=1,2", "the control would have another budget"),
        ("lr=0.1,0.2", "the control would have another budget"),
        ("sparsity=0.3,0.2,0.3", "given twice"),
        ("sparsity=0.3,0.30", "given twice"),
        ("sparsity=0.3 sparsity=0.2", "given twice"),
        ("sparsity=[0.3", "not valid YAML"),
    ],
)
def test_a_sweep_that_means_nothing_is_refused(text: str, says: str):
    with pytest.raises(RecipeError) as caught:
        parse_sweep(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1", (0,)), ("3", (0, 1, 2)), ("3,7,11", (3, 7, 11)), ("5,", (5,)), ("5,,", None), ("1_0", None)],
)
def test_seeds_are_a_number_or_a_list(text: str, seeds: tuple[int, ...] | None):
    if seeds is None:
        with pytest.raises(RecipeError, match="--seeds is a number of seeds, or a list"):
            seed_list(text)
    else:
        assert seed_list(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "3,3", "1,-2", "1,2147483648", "x", "", "1.5", "1;2"])
def test_seeds_that_mean_nothing_are_refused(text: str):
    with pytest.raises(RecipeError, match="--seeds") as caught:
        seed_list(text)
    assert f"'{text}'" in str(caught.value)


# --- the folder -----------------------------------------------------------------------------------------------------


def test_a_comparison_is_read_back_as_it_was_written(tiny: Tiny, tmp_path: Path):
    comparison = Comparison(tiny(seed=3), ("dsd", "llr"), (3, 7), {"sparsity": [0.2, 0.3]})
    folder = new_comparison(comparison, tmp_path / "deep" / "folder")
    assert read_comparison(folder) == comparison
    assert {path.name for path in folder.iterdir()} == {"comparison.json", "environment.json", "SHA256SUMS", ".lock"}
    named = new_comparison(replace(comparison, recipe=tiny(name="a/b")), root=tmp_path)
    assert named.parent == tmp_path
    assert named.name.startswith("compare-a-b-")


def test_what_is_no_comparison_or_damaged_is_refused(tiny: Tiny, tmp_path: Path):
    with pytest.raises(StateError, match=r"is no comparison: it has no comparison\.json"):
        read_comparison(tmp_path)
    for text in ("{", "{}", "[]", '{"recipe": 3, "arms": [], "seeds": [], "sweep": {}}'):
        (tmp_path / "comparison.json").write_text(text)
        with pytest.raises(StateError, match="is damaged"):
            read_comparison(tmp_path)


def test_a_comparison_of_patterns_in_another_order_is_another_one(tiny: Tiny):
    shares = {"2*": 0.5, "*weight": 0.3}
    orders = (shares, dict(reversed(shares.items())))
    one, other = (comparison_digest(Comparison(tiny(sparse={"sparsity": own}), ("dsd",), (0,), {})) for own in orders)
    assert one != other


def test_a_folder_that_is_not_empty_is_left_alone(tiny: Tiny, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    comparison = Comparison(tiny(), ("dsd",), (0,), {})
    for taken in (tmp_path, tmp_path / "mine", tmp_path / "mine" / "below"):
        with pytest.raises(StateError, match=r"not empty|cannot make"):
            new_comparison(comparison, taken)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_is_discarded_keeps_what_is_the_users(tiny: Tiny, tmp_path: Path):
    comparison = Comparison(tiny(), ("dsd",), (0,), {})
    discard_comparison(new_comparison(comparison, tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    kept = new_comparison(comparison, tmp_path / "kept")
    (kept / "notes.txt").write_text("mine")
    discard_comparison(kept)
    assert [path.name for path in kept.iterdir()] == ["notes.txt"]


def test_comparisons_of_the_same_second_get_folders_of_their_own(tiny: Tiny, tmp_path: Path):
    comparison = Comparison(tiny(), ("dsd",), (0,), {})
    folders = {new_comparison(comparison, root=tmp_path) for _ in range(4)}
    assert len(folders) == 4
    assert all(read_comparison(folder) == comparison for folder in folders)


RES = {"name": "resnet20", "widths": [2, 2, 2], "dropout": None}
SQUEEZED = {"name": "squeezenet-small", "widths": [2], "dropout": None}


@pytest.mark.parametrize(
    ("name", "model", "says"),
    [
        ("dropout", RES, "model.dropout: resnet20 has no dropout layer"),
        ("early-dropout", RES, "the network has no dropout layer whose rate could fall"),
        ("svd", SQUEEZED, "the network has no fully-connected layer whose rank could be cut"),
        ("dropconnect", SQUEEZED, "drop_connect drops weights of fully-connected layers .* and the model has none"),
    ],
)
def test_an_arm_that_would_not_train_or_change_nothing_is_named(
    name: str, model: dict[str, Any], says: str, tiny: Tiny, tmp_path: Path
):
    with pytest.raises(RecipeError, match=f"arm '{name}': {says}"):
        Grid(Comparison(tiny(model=model), ("restart", name), (0,), {}), PhaseStore(tmp_path / "s"), tmp_path)


@pytest.fixture
def edited() -> Iterator[Callable[[int], None]]:
    """Make the arm ``edited`` by a function that holds a number, as by a plugin that was edited where it is another."""

    def made(number: int) -> None:
        def make(setting: Setting) -> Flow:
            return setting.flow(restarted(setting.dsd), note=str(number))

        arm("edited", "an arm of these tests", source="these tests")(make)

    made(1)
    yield made
    del ARMS["edited"]


@pytest.mark.parametrize("added", [False, True])
def test_a_comparison_goes_on_with_no_arm_whose_code_has_changed(
    tiny: Tiny, tmp_path: Path, edited: Callable[[int], None], added: bool
):
    task: Any = SimpleNamespace(fingerprint="data")
    comparison = Comparison(tiny(), ("dsd", "restart-dsd-iter") if added else ("dsd", "edited"), (0,), {})
    new_comparison(comparison, tmp_path / "c")
    check_started(tmp_path / "c", comparison, task)
    if added:
        more = extended(comparison, None, ("edited",))
        write_extended(tmp_path / "c", comparison, more)
        comparison = more
    check_started(tmp_path / "c", comparison, task)
    edited(2)
    with pytest.raises(StateError, match=r"arm 'edited' \(its code, .* changed since .* make a new comparison"):
        check_started(tmp_path / "c", comparison, task)


def test_a_comparison_of_an_older_redense_goes_on_by_the_fingerprint_that_it_knows_its_data_by(
    tiny: Tiny, tmp_path: Path
):
    comparison = Comparison(tiny(), ("llr",), (0,), {})
    before, now = (SimpleNamespace(fingerprint=known) for known in ("names", "content"))
    folder = new_comparison(comparison, tmp_path / "c")
    assert check_started(folder, comparison, cast("Any", before)) == "names"
    with pytest.raises(StateError, match=r"the data of .* changed"):
        check_started(folder, comparison, cast("Any", now))
    now.known_as = ("names",)
    assert check_started(folder, comparison, cast("Any", now)) == "names"
    new = new_comparison(comparison, tmp_path / "d")
    assert check_started(new, comparison, cast("Any", now)) == "content"
    with pytest.raises(StateError, match=r"the data of .* changed"):
        check_started(new, comparison, cast("Any", before))
    task = make_task(tiny())
    assert cells(comparison, task, "names")[0].keys != cells(comparison, task)[0].keys
    assert cells(comparison, task, task.fingerprint) == cells(comparison, task)


def test_data_that_changes_in_the_life_of_a_process_is_other_data(tiny: Tiny, image_folder: Path, tmp_path: Path):
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    comparison = Comparison(tiny(data={"source": str(data)}), ("llr",), (0,), {})
    folder, store = new_comparison(comparison, tmp_path / "c"), PhaseStore(tmp_path / "s")
    Grid(comparison, store, folder)
    images = data / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + bytes([images.read_bytes()[-1] ^ 1]))
    with pytest.raises(StateError, match=r"the data of .* changed since it was started"):
        Grid(comparison, store, folder)
