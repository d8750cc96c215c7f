"""Using a trained classifier: pictures of one's own, Python, data that was moved, other data, and its card."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import redense as package
from redense import verbs
from redense.cli import main
from redense.tasks.classification.classifier import Classifier

Run = Callable[..., tuple[int, str, str]]
SHORT = ["--dense.epochs", "4", "--sparse.epochs", "1", "--redense.epochs", "1", "--training.batch_size", "4"]


def picture(path: Path, level: int, seed: int, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 60, (*size, 3), dtype=np.uint8) + np.uint8(level)
    Image.fromarray(pixels).save(path)


def make_set(folder: Path, first: int = 0) -> Path:
    for number in range(40):
        kind = ("bright", "dark")[number % 2]
        picture(folder / kind / f"{number}.png", 190 * (kind == "bright"), first + number)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set, a run on it, and its export."""
    here = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDENSE_CACHE", str(here / "cache"))
        data = str(make_set(here / "lamps"))
        more = ["--model.widths", "[4,8]", *SHORT, "--quiet", "--no-store"]
        assert main(["run", "quickstart", "--data", data, *more, "--out", str(here / "run")]) == 0
        assert main(["export", str(here / "run"), str(here / "model")]) == 0
    return here


def test_a_line_a_picture_says_its_classes_and_how_likely_they_are(trained: Path, redense: Run, tmp_path: Path):
    picture(tmp_path / "mine" / "a.png", 190, 900, (30, 50))  # another size than the network's
    picture(tmp_path / "mine" / "deeper" / "b.png", 0, 901)
    for name in ("._a.png", ".ipynb_checkpoints/c.png", "__MACOSX/d.png", "e.heic"):
        (tmp_path / "mine" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(b"\0\5")
    for model in ("run", "model"):
        code, out, err = redense("predict", trained / model, "mine")
        assert code == 0
        lines = out.splitlines()
        assert [line.split(":")[0] for line in lines] == ["mine/a.png", "mine/deeper/b.png"]
        assert re.fullmatch(r"mine/a.png: bright \d+\.\d %, dark \d+\.\d %", lines[0])
        assert lines[1].split(": ")[1].startswith("dark ")
        assert "1 .heic" in err


def test_programs_get_json_or_a_table(trained: Path, redense: Run, tmp_path: Path):
    picture(tmp_path / "a.png", 190, 900)
    (tmp_path / "b.png").write_bytes(b"no picture")
    code, out, err = redense("predict", trained / "run", "a.png", "b.png", "gone.png", "--json")
    assert code == 2
    told = [json.loads(line) for line in out.splitlines()]
    assert [one["class"] for one in told[0]["classes"]] == ["bright", "dark"]
    assert sum(one["probability"] for one in told[0]["classes"]) == pytest.approx(1, abs=1e-5)
    assert ["error" in one for one in told] == [False, True, True]
    assert "redense: b.png cannot be decoded (it is no image of a known format" in err
    assert "redense: gone.png is missing" in err
    os.mkfifo(tmp_path / "pipe.png")
    code, out, err = redense("predict", trained / "run", "pipe.png", f"{'x' * 300}.png", "a.png", "--json")
    assert [json.loads(line).get("error") for line in out.splitlines()] == [
        "cannot be read (is a pipe, expected a file)",
        "cannot be read (File name too long)",
        None,
    ]
    code, out, _ = redense("predict", trained / "run", "a.png", "--csv", "--top", 1)
    assert code == 0
    table = list(csv.reader(out.splitlines()))
    assert [table[0], table[1][:3]] == [["image", "rank", "class", "probability"], ["a.png", "1", "bright"]]
    assert len(table) == 2


def test_python_gets_a_list_but_for_one_file(trained: Path, tmp_path: Path):
    path = tmp_path / "mine" / "a.png"
    picture(path, 190, 900)
    one = verbs.predict(trained / "run", path)
    assert [kind["class"] for kind in one["classes"]] == ["bright", "dark"]
    assert verbs.predict(trained / "run", path.parent) == verbs.predict(trained / "run", [path]) == [one]
    assert verbs.predict(trained / "run", "gone.png") == {"image": "gone.png", "error": "is missing"}


def test_a_name_makes_no_line_of_its_own_and_no_formula(trained: Path, redense: Run, tmp_path: Path):
    shutil.copytree(trained / "model", folder := tmp_path / "model")
    inputs = json.loads((folder / "artifacts/inputs.json").read_text())
    (folder / "artifacts/inputs.json").write_text(json.dumps({**inputs, "classes": ["@a\nb", "c"]}))
    (folder / "SHA256SUMS").unlink()
    names = ["=1+1.png", "ok.png: bright 99.9 %\nz.png"]
    for name in names:
        picture(tmp_path / name, 190, 900)
    lines = redense("predict", folder, *names)[1].splitlines()
    assert [line.partition(".png")[0] for line in lines] == ["=1+1", "ok"]
    assert all(r"@a\u000ab" in line for line in lines)
    table = list(csv.reader(io.StringIO(redense("predict", folder, *names, "--csv")[1], newline="")))[1:]
    assert {row[0] for row in table} == {"'=1+1.png", names[1]}
    assert {row[2] for row in table} == {"'@a\nb", "c"}


def test_python_loads_what_a_run_has_trained_and_the_card_says_how(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    picture(tmp_path / "picture.jpg", 190, 900)
    model = package.load(trained / "run")
    assert isinstance(model, Classifier)
    best, chance = model.predict(tmp_path / "picture.jpg")[0]
    assert best == "bright"
    assert 0.5 < chance <= 1
    card = (trained / "model" / "README.md").read_text()
    assert "Fashion-MNIST" not in card
    assert "lamps: 32 training, 4 validation and 4 test examples of 2 classes: bright, dark" in card
    code = re.search(r"```python\n(import redense\n.*?)```", card, re.DOTALL)
    assert code
    shutil.copy(tmp_path / "picture.jpg", trained / "model" / "picture.jpg")
    monkeypatch.chdir(trained / "model")
    exec(code[1], {})  # the lines that the card shows
    assert capsys.readouterr().out.startswith("[('bright', ")


def test_heading_and_report_say_what_was_trained_on(trained: Path):
    page = (trained / "run" / "report.html").read_text()
    assert "lamps: 32 training, 4 validation and 4 test examples of 2 classes: bright, dark" in page
    assert "<h1>lamps</h1>" in page
    assert "as quickstart trains" in page
    assert (trained / "model" / "README.md").read_text().startswith("# lamps\n\nas quickstart trains, on ")
    assert "a small CNN on Fashion-MNIST" not in (trained / "run" / "recipe.yaml").read_text()


def test_data_that_was_moved_gives_the_same_figures_and_other_data_its_own(trained: Path, redense: Run, tmp_path: Path):
    shutil.copytree(trained / "lamps", tmp_path / "moved")
    result = json.loads((trained / "run" / "result.json").read_text())
    expected = result["phases"][-1]["test"]["error"]
    for model in ("run", "model"):
        code, out, _ = redense("evaluate", trained / model, "--data", "moved", "--json")
        assert code == 0
        assert json.loads(out)["error"] == pytest.approx(expected)
        assert json.loads(out)["split"] == "test"
    make_set(tmp_path / "other", first=500)
    code, out, _ = redense("evaluate", trained / "model", "--data", "other")
    assert code == 0
    assert "40 images to evaluate, all of it" in out
    assert "all split, 40 examples" in out
    said = json.loads(redense("evaluate", trained / "model", "--data", "other", "--json")[1])
    assert said["examples"] == 40
    assert "40 images to evaluate, all of it" in said["notes"][0]
    (tmp_path / "other" / "dark").rename(tmp_path / "other" / "dim")
    code, _, err = redense("evaluate", trained / "run", "--data", "other")
    assert code == 2
    assert "other shows dim, which the network does not know: its classes are bright, dark" in err


def test_an_export_is_not_evaluated_on_what_its_data_has_become(trained: Path, redense: Run):
    # Some of its training pictures would be in the test.
    added = ["lamps/dark/1000.png", "lamps/bright/1001.png"]
    try:
        for number, name in enumerate(added):
            picture(trained / name, 100, 700 + number)
        code, out, err = redense("evaluate", trained / "model")
        assert (code, out) == (2, "")
        assert "is not what it was trained on any more: `redense evaluate --data` takes where that lies now" in err
    finally:
        for name in added:
            (trained / name).unlink()
    assert redense("evaluate", trained / "model")[0] == 0


@pytest.mark.parametrize(("value", "message"), [(np.nan, "holds numbers that are not finite"), (3e38, "is no number")])
def test_weights_that_give_no_answer_are_an_error_and_no_percentage(
    value: float, message: str, trained: Path, redense: Run, tmp_path: Path
):
    shutil.copytree(trained / "model", folder := tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file({name: np.full_like(array, value) for name, array in weights.items()}, folder / "model.safetensors")
    (folder / "SHA256SUMS").unlink()
    picture(tmp_path / "a.png", 190, 900)
    code, out, err = redense("predict", folder, "a.png", "--json")
    assert (code, out) == (2, "")
    assert message in err


def test_what_is_no_classifier_is_refused_in_a_line(redense: Run, tmp_path: Path):
    assert (
        "quickstrat is no run folder, no export, and no network of the zoo"
        in redense("predict", "quickstrat", "a.png")[2]
    )
    assert "redense transcribe" in redense("predict", "prompts-es-deepspeech", "a.png")[2]
    for top in ("0", "9" * 5000):
        assert "--top must be a whole number" in redense("predict", "quickstart", "a.png", "--top", top)[2]
