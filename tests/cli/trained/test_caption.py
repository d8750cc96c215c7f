"""``redense caption``: captions by a trained network without its data, and every mistake one line and exit code 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from redense import cli
from redense.errors import StateError
from redense.lab.runs.export import export_run
from redense.tasks.captioning.captioner import Caption, Captioner, companions, open_captioner
from redense.tasks.captioning.config import CaptionData, CaptionModel
from redense.tasks.captioning.features import digest_of, open_eyes

Run = Callable[..., tuple[int, str, str]]

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


def draw(path: Path, colour: str, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), tuple(max(0, part - shade) for part in COLOURS[colour])).save(path)
    return path


def recipe(task: str, data: object, model: object, **training: object) -> str:
    phases = {"dense": {"epochs": 12}, "sparse": {"epochs": 1, "sparsity": 0.3}, "redense": {"epochs": 1}}
    return yaml.safe_dump({"name": task, "task": task, "data": data, "model": model, "training": training, **phases})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cnn`` and ``talker``, two finished runs, and none of the pictures that they learned from."""
    here = tmp_path_factory.mktemp("talk")
    images = []
    for split, count in (("train", 12), ("val", 3), ("test", 3)):
        for colour in COLOURS:
            for shade in range(count):
                name = f"{split}/{colour}/{shade}.png"
                draw(here / "set" / name, colour, shade)
                sentences = [{"raw": f"a {colour} square"}, {"raw": f"this is {colour}"}]
                images.append({"filename": name, "split": split, "sentences": sentences})
    (here / "set" / "dataset.json").write_text(json.dumps({"images": images}))
    sgd = {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}, "batch_size": 12}
    (here / "cnn.yaml").write_text(
        recipe("classification", {"source": str(here / "set"), "size": 8}, {"name": "mlp", "widths": [8]}, **sgd)
    )
    features = {"network": "mlp", "weights": str(here / "cnn"), "size": 8}
    adam = {"optimizer": {"name": "adam", "lr": 0.02}, "batch_size": 6}
    data = {"source": str(here / "set"), "features": features, "threshold": 2}
    model = {"name": "neuraltalk", "width": 16, "hidden": 16, "dropout": 0.0, "beam": 2, "longest": 6}
    (here / "talker.yaml").write_text(recipe("captioning", data, model, **adam))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDENSE_CACHE", str(here / "cache"))
        for name in ("cnn", "talker"):
            assert cli.main(["run", str(here / f"{name}.yaml"), "--out", str(here / name), "--quiet"]) == 0
    shutil.rmtree(here / "set")
    shutil.rmtree(here / "cache")
    return here


def test_pictures_are_captioned_without_the_data_that_the_networks_learned_from(redense: Run, trained: Path, tmp_path):
    paths = [draw(tmp_path / f"{colour}.png", colour, 4) for colour in COLOURS]
    code, out, err = redense("caption", trained / "talker", *paths)
    assert (code, err) == (0, "")
    lines = dict(line.split(": ") for line in out.splitlines())
    assert list(lines) == [str(path) for path in paths]
    for path, colour in zip(paths, COLOURS, strict=True):
        assert lines[str(path)] in (f"a {colour} square", f"this is {colour}")


def test_json_has_probabilities_and_with_all_the_others_of_the_beam(redense: Run, trained: Path, tmp_path):
    path = draw(tmp_path / "red.png", "red")
    code, out, _ = redense("caption", trained / "talker", path, "--json", "--beam", 4, "--all")
    (told,) = map(json.loads, out.splitlines())
    chances = [told["log_probability"], *(one["log_probability"] for one in told["others"])]
    assert code == 0
    assert len(chances) == 4
    assert chances == sorted(chances, reverse=True)
    assert {told["caption"], told["others"][0]["caption"]} == {"a red square", "this is red"}
    assert "others" not in json.loads(redense("caption", trained / "talker", path, "--json")[1])


def test_with_all_each_sentence_is_printed_with_its_log_probability(redense: Run, trained: Path, tmp_path):
    _, out, _ = redense("caption", trained / "talker", draw(tmp_path / "blue.png", "blue"), "--all")
    first, *others = out.splitlines()
    assert len(others) == 2  # the recipe's beam
    assert others[0].split(maxsplit=1)[1] == first.split(": ")[1]
    assert float(others[0].split()[0]) <= 0


def test_a_folder_is_captioned_in_order_and_what_is_no_picture_is_passed_over(redense: Run, trained: Path, tmp_path):
    for name in ("b/2.png", "a.png", "b/1.png"):
        draw(tmp_path / "mine" / name, "green")
    (tmp_path / "mine" / "notes.txt").write_text("no picture")
    code, out, _ = redense("caption", trained / "talker", tmp_path / "mine")
    assert code == 0
    assert [Path(line.split(": ")[0]).name for line in out.splitlines()] == ["a.png", "1.png", "2.png"]


def test_what_cannot_be_read_is_named_after_the_others_were_captioned(redense: Run, trained: Path, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    good = [draw(tmp_path / f"{index}.png", "red") for index in range(10)]
    bad = [tmp_path / "broken.png", tmp_path / "gone.png", tmp_path / "empty"]
    code, out, err = redense("caption", trained / "talker", *bad, *good)
    assert code == 2
    assert len(out.splitlines()) == 10
    broken, gone, empty = err.splitlines()
    assert broken.startswith(f"redense: {bad[0]} cannot be decoded (")
    assert gone == f"redense: {bad[1]} is missing"
    assert empty == f"redense: {bad[2]} is a folder without images"
    _, out, _ = redense("caption", trained / "talker", bad[1], "--json")
    assert json.loads(out) == {"image": str(bad[1]), "error": "is missing"}


def test_an_export_captions_as_its_run_does(redense: Run, trained: Path, tmp_path):
    path = draw(tmp_path / "red.png", "red")
    out = export_run(trained / "talker", tmp_path / "export")
    told = redense("caption", trained / "talker", path)
    assert redense("caption", out, path) == told
    assert "in this folder, too: `cnn`." in (out / "README.md").read_text()
    (trained / "cnn").rename(tmp_path / "away")  # as on another machine
    try:
        assert redense("caption", out, path) == told
        assert redense("caption", Path(shutil.move(out, tmp_path / "elsewhere")), path) == told
        bare = export_run(trained / "talker", tmp_path / "bare")
    finally:
        (tmp_path / "away").rename(trained / "cnn")
    assert f"the CNN `{trained / 'cnn'}`, which is not in this folder" in (bare / "README.md").read_text()
    assert redense("caption", bare, path) == told
    for damaged in ("cnn/model.safetensors", "cnn/artifacts/inputs.json"):
        copied = Path(shutil.copytree(tmp_path / "elsewhere", tmp_path / damaged.replace("/", "-")))
        (copied / damaged).write_bytes((copied / damaged).read_bytes()[:-9])
        code, _, err = redense("caption", copied, path)
        assert (code, err.count("\n")) == (2, 1)
        assert damaged in err


def test_a_cnn_that_is_a_file_lies_in_the_export_as_one(tmp_path: Path):
    file = tmp_path / "vgg.pt"
    file.write_bytes(b"weights")
    data = CaptionData.model_validate({"features": {"weights": str(file)}})
    run = tmp_path / "run"
    (run / "artifacts").mkdir(parents=True)
    (run / "artifacts" / "features.json").write_text(json.dumps({"features": 9, "digest": digest_of(data.features)}))
    assert companions(run, data) == {"cnn.pt": file}
    shutil.copy(file, run / "cnn.pt")
    assert data.within(run).features.weights == str(run / "cnn.pt")
    assert data.within(tmp_path) == data
    file.write_bytes(b"other weights")
    with pytest.raises(StateError, match=r"vgg\.pt is not the CNN that .*run was trained with"):
        companions(run, data)


def test_the_scale_of_pixels_that_a_run_keeps_is_that_of_its_data_to_the_bit(trained: Path, tmp_path):
    kept = json.loads((trained / "cnn/artifacts/inputs.json").read_text())
    data = CaptionData.model_validate(yaml.safe_load((trained / "talker/recipe.yaml").read_text())["data"])
    eyes = open_eyes(data.features)
    assert eyes.mean.flatten().tolist() == kept["mean"]  # float32 is the same after the way through JSON
    assert eyes.std.flatten().tolist() == kept["std"]
    assert (kept["classes"], kept["shape"]) == (sorted(COLOURS), [3, 8, 8])


def test_help_explains_the_verb(redense: Run):
    code, out, err = redense("caption", "--help")
    assert (code, err) == (0, "")
    assert "usage: redense caption" in out
    assert "\n    caption " in redense("--help")[1]


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "talker", tmp_path / "copy"))


def test_a_run_of_another_task_or_no_run_at_all_is_refused(redense: Run, trained: Path, tmp_path):
    assert redense("caption", trained / "cnn", "x.png")[::2] == (
        2,
        f"redense: {trained / 'cnn'} is a run of classification, expected one of captioning\n",
    )
    assert "is no run folder" in redense("caption", tmp_path, "x.png")[2]


@pytest.mark.parametrize("beam", [0, -1, 101])
def test_a_beam_has_at_least_one_sentence_and_at_most_a_hundred(redense: Run, trained: Path, beam: int):
    code, _, err = redense("caption", trained / "talker", "x.png", "--beam", beam)
    assert (code, err) == (2, f"redense: --beam is a number of sentences from 1 to 100, got {beam}\n")


def test_a_run_that_is_not_finished_is_refused(redense: Run, copy: Path):
    (copy / "model.safetensors").unlink()
    assert "model.safetensors is gone; it has a checksum" in redense("caption", copy, "x.png")[2]
    (copy / "SHA256SUMS").unlink()
    code, _, err = redense("caption", copy, "x.png")
    assert code == 2
    assert f"finish it with: redense run --resume {copy}" in err


def test_a_missing_or_damaged_vocabulary_is_named(redense: Run, copy: Path):
    path = copy / "artifacts" / "vocabulary.json"
    whole = path.read_text()
    for damaged in (whole.replace("square", "circle"), whole[:-9]):
        path.write_text(damaged)
        code, out, err = redense("caption", copy, "x.png")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{path} is damaged: it does not match its checksum" in err
    (copy / "SHA256SUMS").unlink()  # as of an older redense
    for text in ("{", "[]", '{"words": ["a"], "counts": [1], "dropped": 0, "dropped_tokens": 0}'):
        path.write_text(text)
        code, _, err = redense("caption", copy, "x.png")
        assert code == 2
        assert err.startswith(f"redense: {path} is damaged (")
    path.unlink()
    assert "has no artifacts/vocabulary.json: an older redense trained it" in redense("caption", copy, "x.png")[2]


def test_another_cnn_than_that_of_the_training_is_refused(redense: Run, trained: Path, tmp_path):
    other = Path(shutil.copytree(trained / "cnn", tmp_path / "other"))
    path = draw(tmp_path / "red.png", "red")
    assert redense("caption", trained / "talker", path, "--cnn", other)[0] == 0  # the same, elsewhere
    (other / "recipe.yaml").write_text((other / "recipe.yaml").read_text() + "# changed\n")
    code, _, err = redense("caption", trained / "talker", path, "--cnn", other)
    assert code == 2
    assert f"{other} is not the CNN that {trained / 'talker'} was trained with" in err
    assert "if it has moved" in redense("caption", trained / "talker", path, "--cnn", tmp_path / "no")[2]


def test_a_caption_without_a_word_is_said(redense: Run, trained: Path, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Captioner, "captions", lambda self, pictures, beam: [[Caption("", -0.1)] for _ in pictures])
    paths = [draw(tmp_path / f"{name}.png", "red") for name in "ab"]
    code, out, err = redense("caption", trained / "talker", *paths)
    assert (code, out) == (0, f"{paths[0]}: \n{paths[1]}: \n")
    assert err.startswith("note: 2 captions have no word")


def test_damaged_inputs_of_the_cnn_are_named(trained: Path, tmp_path):
    other = Path(shutil.copytree(trained / "cnn", tmp_path / "other"))
    (other / "artifacts" / "inputs.json").write_text("{}")
    (other / "SHA256SUMS").unlink()
    text = yaml.safe_load((trained / "talker/recipe.yaml").read_text())
    text["data"]["features"]["weights"] = str(other)
    from redense.errors import StateError

    with pytest.raises(StateError, match=r"inputs\.json is damaged"):
        open_captioner(
            trained / "talker", CaptionData.model_validate(text["data"]), CaptionModel.model_validate(text["model"])
        )
