"""The zoo shows the figures that its cards say, and only with the files and the data that they are of."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from redense.errors import RedenseError, StateError
from redense.files.checksums import add_sums
from redense.lab.recipe.recipe import Recipe, recipe_names
from redense.lab.runs.run import load_model, new_run, train_run
from redense.lab.zoo import Entry, default_zoo, entries, evaluate, files, find
from redense.tasks import catalog

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from make_zoo import add  # pyright: ignore[reportMissingImports]  # tools/ is no package

Tiny = Callable[..., Recipe]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_run(tiny(name="some/net"), tmp_path_factory.mktemp("zoo") / "run")
    train_run(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["fp32", "fp16"])
def entry(run: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Entry:
    return add(run, tmp_path / "zoo", half=request.param)


def test_an_entry_gives_the_figures_of_its_card(entry: Entry, run: Path):
    checks = evaluate(entry)
    assert [(check.model, check.found, check.same) for check in checks] == [
        (model, entry.figures[model], True) for model in files()
    ]
    phases = json.loads((run / "result.json").read_text())["phases"]
    if load_file(entry.folder / "model.safetensors")["fc1.weight"].dtype == torch.float32:
        assert entry.figures == {"dense": phases[0]["test"]["error"], "dsd": phases[-1]["test"]["error"]}
    assert entry.figures["dense"] != entry.figures["dsd"]  # or the test above shows nothing


def test_an_entry_of_another_arm_says_so(run: Path, tiny: Tiny, tmp_path: Path, redense: Run):
    other = new_run(tiny(name="some/net", arm="longer"), tmp_path / "other")
    train_run(other)
    entry = add(other, tmp_path / "zoo", dense=run)
    assert (entry.arm, list(entry.figures)) == ("longer", ["dense", "longer"])
    assert [check.same for check in evaluate(entry)] == [True, True]
    dense, last = (load_file(entry.folder / name)["fc1.weight"] for name in files("longer").values())
    assert not torch.equal(dense, last)
    assert torch.equal(last, load_file(other / "model.safetensors")["fc1.weight"])
    assert "; longer instead of DSD\n" in redense("zoo", "--zoo", entry.folder.parent)[1]
    assert "without a mask" in (entry.folder / "README.md").read_text()
    path = entry.folder / "zoo.json"
    path.write_text(path.read_text().replace('"longer": ', '"../longer": '))
    add_sums(entry.folder, [path])
    assert "is no card of a zoo" in redense("zoo", "--zoo", entry.folder.parent)[2]


def test_half_precision_takes_half_the_bytes(run: Path, tmp_path: Path):
    whole, half = (add(run, tmp_path / name, half=name == "half") for name in ("whole", "half"))
    weights = whole.parameters * 4 * 2
    assert whole.bytes - half.bytes == weights // 2


def test_a_folder_of_the_zoo_is_evaluated_and_started_from_as_a_run_is(entry: Entry, redense: Run, tiny: Tiny):
    code, out, err = redense("evaluate", entry.folder)
    assert (code, err) == (0, "")
    assert f"{entry.figures['dsd']:.4f} %" in out
    weights = {name: tensor.float() for name, tensor in load_file(entry.folder / "model.safetensors").items()}
    started = tiny(start=str(entry.folder))
    folder = new_run(started, entry.folder.parent / "run")
    train_run(folder)
    first = json.loads((folder / "result.json").read_text())["phases"][0]["test"]["error"]
    assert first == entry.figures["dsd"]
    assert weights.keys() == load_model(folder).model.state_dict().keys()


def test_another_file_than_that_of_the_card_is_refused(entry: Entry):
    weights = load_file(entry.folder / "dense.safetensors")
    weights["fc2.bias"] += 1
    save_file(weights, entry.folder / "dense.safetensors")
    add_sums(entry.folder, [entry.folder / "dense.safetensors"])
    with pytest.raises(StateError, match=r"dense\.safetensors is missing or not the file that its card is of"):
        evaluate(entry)
    assert evaluate(entry, ["dsd"])[0].same
    (entry.folder / "model.safetensors").unlink()
    with pytest.raises(StateError, match="is missing or not the file"):
        evaluate(entry, ["dsd"])


def test_other_data_than_that_of_the_card_is_refused(entry: Entry):
    card = json.loads((entry.folder / "zoo.json").read_text())
    (entry.folder / "zoo.json").write_text(json.dumps(card | {"data": "0" * 64}))
    add_sums(entry.folder, [entry.folder / "zoo.json"])
    for use in (evaluate, lambda entry: load_model(entry.folder)):
        with pytest.raises(StateError, match=r"the data of .*some-net is not what it was trained on"):
            use(entry)


def test_a_figure_that_is_not_the_cards_is_said_and_exits_with_1(entry: Entry, redense: Run):
    path = entry.folder / "zoo.json"
    card = json.loads(path.read_text())
    card["figures"]["dsd"] += 1.5
    path.write_text(json.dumps(card))
    assert "zoo.json is damaged" in redense("zoo", "evaluate", "some/net", "--zoo", entry.folder.parent)[2]
    add_sums(entry.folder, [path])
    code, out, err = redense("zoo", "evaluate", "some/net", "--zoo", entry.folder.parent)
    assert (code, err) == (1, "")
    dense, dsd, _ = out.splitlines()
    assert dense.endswith(", as its card says")
    assert dsd.endswith(f"{entry.figures['dsd']:.2f} %, its card says {entry.figures['dsd'] + 1.5:.2f} %")
    code, out, _ = redense("zoo", "evaluate", "some-net", "--zoo", entry.folder.parent, "--json")
    assert (code, [check["same"] for check in json.loads(out)]) == (1, [True, False])


def test_the_list_names_what_is_there(entry: Entry, redense: Run):
    code, out, err = redense("zoo", "--zoo", entry.folder.parent)
    assert (code, err) == (0, "")
    assert out.startswith("some-net ")
    assert f"error {entry.figures['dense']:.2f} -> {entry.figures['dsd']:.2f} %" in out
    rows = json.loads(redense("zoo", "--json", "--zoo", entry.folder.parent)[1])
    assert [(row["name"], row["dsd"]) for row in rows] == [("some-net", entry.figures["dsd"])]


def test_mistakes_are_one_line(entry: Entry, redense: Run, tmp_path: Path):
    def said(*arguments: object) -> str:
        code, out, err = redense("zoo", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "did you mean 'some-net'?" in said("evaluate", "some-nut", "--zoo", entry.folder.parent)
    assert "which network?" in said("evaluate")
    assert "list takes no name" in said("list", "some-net")
    assert "is no zoo" in said("--zoo", tmp_path / "nowhere")
    (entry.folder / "zoo.json").write_text("{}")
    add_sums(entry.folder, [entry.folder / "zoo.json"])
    assert "is no card of a zoo" in said("--zoo", entry.folder.parent)


def test_nothing_in_a_zoo_is_overwritten(run: Path, tmp_path: Path):
    add(run, tmp_path)
    with pytest.raises(StateError, match="exists and is not empty"):
        add(run, tmp_path)
    with pytest.raises(RedenseError, match="not got that far"):
        add(run, tmp_path / "other", results=tmp_path)


# --- the zoo that comes with redense ----------------------------------------------------------------------------------


def test_the_zoo_is_small_and_every_recipe_of_it_is_shipped():
    found = entries(default_zoo())
    files = [path for path in default_zoo().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2.1e7
    cards = [json.loads((entry.folder / "zoo.json").read_text()) for entry in found]
    assert {card["recipe"] for card in cards} <= set(recipe_names())
    for entry, card in zip(found, cards, strict=True):
        assert f"redense zoo evaluate {entry.name}\n" in (entry.folder / "README.md").read_text()
        assert card["over_seeds"], "a card shows what the control reached"


def test_a_wheel_has_all_of_it():
    root = default_zoo().parent
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    packed = {path: place for place, patterns in data.items() for pattern in patterns for path in root.glob(pattern)}
    expected = {
        path: f"share/redense/{path.parent.relative_to(root)}"
        for path in (root / "zoo").glob("*/**/*")
        if path.is_file()
    }
    assert packed == expected


def test_a_card_is_that_of_its_files_and_shows_its_figure():
    assert all(check.same for check in evaluate(find(default_zoo(), "quickstart"), ["dsd"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("fashion-mnist-squeezenet", "fashion-mnist"),
        ("fashion-mnist-resnet20", "fashion-mnist"),
        ("fashion-mnist-noisy-labels", "fashion-mnist"),
        ("prompts-es-deepspeech", "prompts-es"),
        ("emoji-neuraltalk", "emoji"),
    ],
)
def test_every_network_of_the_zoo_gives_the_figure_of_its_card(name: str, data: str):
    catalog.get(catalog.find(data))
    assert [check.same for check in evaluate(find(default_zoo(), name))] == [True, True]
