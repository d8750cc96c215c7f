"""Networks as graphs: any batch, any length, compared with the network, and refused where the numbers are others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from redense.lab.recipe.recipe import Recipe, read_run_recipe
from redense.lab.runs import formats
from redense.lab.runs.formats import Compared, ExportError
from redense.lab.runs.graphs import write_graphs
from redense.lab.runs.run import load_model, new_run, train_run
from redense.tasks.captioning.config import CaptionModel
from redense.tasks.captioning.exporting import Look, NextWords, graphs
from redense.tasks.captioning.network import NeuralTalk
from redense.tasks.graphs import Graph
from redense.tasks.speech.config import SpeechModel
from redense.tasks.speech.exporting import exportable
from redense.tasks.speech.network.models import build

Run = Callable[..., tuple[int, str, str]]

SPEECH = {
    "deepspeech": {"stride": 2},
    "deepspeech2": {"layers": 2, "channels": 4},
    "blstm": {"layers": 2, "context": 3},
}


def speech(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = build(SpeechModel(name=name, hidden=16, **SPEECH[name]), bins=33, size=7)  # pyright: ignore[reportArgumentType]
    network.train()
    for _ in range(3):  # so that batch normalisation has statistics that matter
        network(*clips([50, 31, 44]))
    return network.eval()


def clips(lengths: list[int]) -> tuple[Tensor, Tensor]:
    frames = torch.zeros(len(lengths), max(lengths), 33)
    for clip, length in zip(frames, lengths, strict=True):
        clip[:length] = torch.randn(length, 33)
    return frames, torch.tensor(lengths)


class OneGraph:
    """A task that has one graph."""

    name = "one"

    def __init__(self, make: Callable[[nn.Module], list[Graph]]) -> None:
        self.graphs = make


def of_speech(network: nn.Module) -> list[Graph]:
    inputs = {"frames": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}
    calls = [clips([40, 33, 17]), clips([21]), clips([5, 60])]
    return [Graph("model", exportable(network), network, inputs, ("logits", "logit_lengths"), calls, "frames")]


@pytest.fixture(scope="module")
def run(tiny: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_run(tiny(), tmp_path_factory.mktemp("exported") / "run")
    train_run(folder)
    return folder


# --- the forms that are exported ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "deepspeech2" else []) for name in SPEECH]
)
@torch.no_grad()
def test_a_clip_gives_the_same_numbers_without_packing_alone_and_among_others(name: str):
    network = speech(name)
    for lengths in ([40, 33, 17], [21], [1, 60, 2]):
        inputs = clips(lengths)
        expected, found = network(*inputs), exportable(network)(*inputs)
        assert torch.equal(found[1], expected[1])
        torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tanh", [True, False])
@torch.no_grad()
def test_two_steps_write_what_the_captioner_writes(tanh: bool):
    torch.manual_seed(0)
    network = NeuralTalk(6, 11, CaptionModel(width=5, hidden=8, tanh=tanh)).eval()
    features = torch.randn(3, 6)
    state, own = network.look(features), Look(network)(features)
    for words in (torch.tensor([0, 0, 0]), torch.tensor([4, 1, 10])):
        torch.testing.assert_close(own, state)
        logits, state = network.next_words(words, state)
        found, *own = NextWords(network)(words, *own)
        torch.testing.assert_close(found, logits)
        own = tuple(own)


# --- written --------------------------------------------------------------------------------------------------------


def test_a_classifier_is_written_for_torch_alone_and_compared(redense: Run, run: Path, tmp_path: Path):
    code, out, err = redense("export", run, "out", "--format", "torch-export")
    assert (code, err) == (0, "")
    first, *files = out.splitlines()
    assert first.startswith("model.pt2: as the network on 2 inputs of validation data, by torch.export: largest diff")
    assert [line.split()[0] for line in files] == sorted(line.split()[0] for line in files)
    assert {"out/model.pt2", "out/model.safetensors", "out/README.md"} <= {line.split()[0] for line in files}
    card = (tmp_path / "out" / "README.md").read_text()
    code = card.split("```python\n")[-1].split("```")[0]
    assert 'torch.export.load("model.pt2").module()' in code
    engine = load_model(run)
    images = engine.task.examples("test").__getitems__(range(7))[0]
    space: dict[str, Any] = {"images": images}
    exec(code.replace('"model.pt2"', repr(str(tmp_path / "out" / "model.pt2"))), space)
    torch.testing.assert_close(space["logits"], engine.model.eval()(images))


def test_a_run_whose_data_is_gone_is_exported_on_random_inputs_or_on_other_data_and_says_so(
    redense: Run, run: Path, image_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    moved = tmp_path / "run"
    shutil.copytree(run, moved, ignore=shutil.ignore_patterns("SHA256SUMS"))
    recipe = read_run_recipe(moved)
    gone = recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": str(tmp_path / "gone")})})
    (moved / "recipe.yaml").write_text(gone.to_yaml())
    code, out, err = redense("export", "run", "out", "--format", "torch-export")
    assert code == 0
    assert "inputs are made at random, because the data of the run is not here: " in caplog.text
    assert out.startswith("model.pt2: as the network on 2 inputs made at random, by torch.export: largest difference ")
    assert "on 2 inputs made at random by torch.export" in (tmp_path / "out" / "README.md").read_text()
    code, out, err = redense("export", "run", "again", "--format", "torch-export", "--data", image_folder)
    assert (code, err) == (0, "")
    assert out.startswith("model.pt2: as the network on 2 inputs of validation data, by torch.export")
    code, out, err = redense("export", "run", "third", "--data", "sample")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--data is for graphs" in err
    assert not (tmp_path / "third").exists()


def test_a_graph_with_other_numbers_is_refused_and_nothing_is_left(run: Path, tmp_path: Path):
    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0.001

    def make(model: nn.Module) -> list[Graph]:
        return [Graph("model", Other(), lambda x: x, {"x": {0: "batch"}}, ("y",), [(torch.ones(2, 3),)], "numbers")]

    with pytest.raises(ExportError, match=r"model\.pt2 was not written: it gives other numbers .* by up to 0\.001"):
        write_graphs(OneGraph(make), nn.Identity(), tmp_path, "torch-export")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_one_line(redense: Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class ByNumbers(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    def make(model: nn.Module) -> list[Graph]:
        return [Graph("model", ByNumbers(), torch.abs, {"x": {0: "batch"}}, ("y",), [(torch.ones(2, 3),)], "numbers")]

    with pytest.raises(ExportError, match="this network cannot be written as torch-export: ") as raised:
        write_graphs(OneGraph(make), nn.Identity(), tmp_path, "torch-export")
    assert "\n" not in str(raised.value)
    with pytest.raises(ExportError, match="a task of 'other' has no graphs"):
        write_graphs(type("Other", (), {"name": "other"})(), nn.Identity(), tmp_path, "onnx")
    monkeypatch.setattr(formats, "is_installed", lambda name: False)
    code, out, err = redense("export", run, "out", "--format", "onnx")
    assert (code, out, err) == (2, "", "redense: --format onnx needs onnx: pip install 'redense[onnx]'\n")
    assert not (tmp_path / "out").exists()


def test_what_was_not_compared_is_said():
    said = str(Compared("model.onnx", "images", ("x",), ("y",), None, 1e-4, 2, "onnxruntime"))
    assert said == "model.onnx: not compared with the network: onnxruntime is not installed"


# --- ONNX, and every network ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", formats.ENDINGS)
@pytest.mark.parametrize("name", SPEECH)
def test_a_recogniser_is_a_graph_of_any_batch_and_any_length(name: str, form: str, tmp_path: Path):
    if form == "onnx":
        pytest.importorskip("onnxscript")
    (told,) = write_graphs(OneGraph(of_speech), speech(name), tmp_path, form)
    assert told.difference is not None
    assert told.difference < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("form", formats.ENDINGS)
@pytest.mark.parametrize("tanh", [True, False])
def test_a_captioner_is_two_graphs_of_any_batch(form: str, tanh: bool, tmp_path: Path):
    if form == "onnx":
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = NeuralTalk(6, 11, CaptionModel(width=5, hidden=8, tanh=tanh))
    told = write_graphs(OneGraph(lambda model: graphs(model, torch.randn(3, 6), 4)), network, tmp_path, form)
    assert [one.file.partition(".")[0] for one in told] == ["look", "next_words"]
    assert all(one.difference is not None and one.difference < 1e-5 for one in told)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_onnx_of_a_run_is_used_as_its_card_says(redense: Run, run: Path, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert redense("export", run, "out", "--format", "onnx")[0] == 0
    card = (tmp_path / "out" / "README.md").read_text()
    code = card.split("```python\n")[-1].split("```")[0]
    assert "onnxruntime.InferenceSession" in code
    engine = load_model(run)
    images = engine.task.examples("test").__getitems__(range(5))[0]
    space: dict[str, Any] = {"images": images.numpy(), "onnxruntime": onnxruntime}
    exec(code.replace('"model.onnx"', repr(str(tmp_path / "out" / "model.onnx"))), space)
    expected = engine.model.eval()(images).detach().numpy()
    np.testing.assert_allclose(space["logits"], expected, rtol=1e-4, atol=1e-5)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["task"] == "classification"
