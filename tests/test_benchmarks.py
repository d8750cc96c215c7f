"""The benchmarks run, on sizes that take no time, and store what they say they store; no time is judged here."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import redense
from redense.scans.result import Scan

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ONE_EPOCH = ("dense.epochs=1", "sparse.epochs=1", "redense.epochs=1")
TINY = {
    "select_weights": ["--size", "16"],
    "hold_masks": ["--width", "2"],
    "load_images": ["--images", "8", "--batch", "4", "--workers", "0"],
    "load_large_images": ["--images", "8", "--batch", "4", "--width", "40", "--height", "30"],
    "scan_recurrence": ["--hidden", "4", "--clips", "2", "--steps", "3"],
    "wait_policy": ["--images", "2", "--steps", "1"],
    "write_captions": ["--images", "3", "--few", "2", "--beam", "2"],
    "train_quickstart": ["--images", "64", "--validation", "0.01", "--same-process"],
    "step_quickstart": ["--images", "2"],
    "train_layers": ["--width", "16"],
    "measure_memory": ["--size", "64", "--switches", "12"],
    "memory_of_arms": ["--arms", "dsd"],
    "send_choices": ["--layers", "2", "--size", "64"],
    "cost_by_size": ["--millions", "0.05", "0.1"],
    "hold_networks": ["--networks", "squeezenet1_1", "--batch", "1", "--side", "32"],
    "overhead_compare": ["--set", "data.limit=64", *ONE_EPOCH, "--steps", "4", "--seeds", "2"],
    "overhead_quickstart": ["--set", "data.limit=64", *ONE_EPOCH],
}
DEAR = ("train_quickstart", "overhead_quickstart", "overhead_compare", "write_captions", "load_images")
DEAR += ("measure_memory", "train_layers", "hold_masks", "cost_by_size", "hold_networks", "load_large_images")
DEAR += ("step_quickstart", "memory_of_arms", "wait_policy")
"""They cost a second of processor time or more each."""
ON_A_GPU = ("select_weights", "hold_networks", "train_quickstart", "hold_masks", "train_layers")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))  # a benchmark that sets its own leaves it set
    return importlib.import_module


def run(module: ModuleType, folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    name = module.__name__
    status = module.main([*TINY[name], "--rounds", "1", "--out", str(folder), *more])
    (file,) = folder.glob(f"{name}-*.json")
    return status, json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in DEAR else []) for name in TINY]
)
def test_a_benchmark_that_misses_its_bars_fails_and_its_raw_result_says_everything(
    name: str, load: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = load(name)
    for bar in [bar for bar in vars(module) if bar.startswith("AT_MOST")]:
        monkeypatch.setattr(module, bar, float("-inf"))
    has_none = "There is no bar" in str(module.__doc__)
    status, result = run(module, tmp_path, "--check")
    assert status == (0 if has_none else 1)
    assert bool(result["bars"]) is not has_none
    assert not any(bar["met"] for bar in result["bars"])
    assert result["benchmark"] == name
    assert result["settings"]["rounds"] == 1
    assert result["environment"]["torch"]
    assert result["environment"]["threads"] == torch.get_num_threads()
    for group in result["seconds"].values():
        for times in group.values():
            assert len(times) == 1
            assert all(time > 0 for time in times)
    names = {name for group in result["seconds"].values() for name in group}
    if not names:  # it counts bytes
        counts = {label: peaks for label, peaks in result["facts"].items() if isinstance(peaks, dict)}
        names = {f"{label}: {arm}" for label, peaks in counts.items() for arm in peaks}
    for ratio in result["ratios"]:
        assert {ratio["of"], ratio["to"]} <= names
        assert ratio["least"] <= ratio["median"] <= ratio["greatest"]


@pytest.mark.parametrize(("bar", "check", "status"), [(1.0, True, 1), (2.0, True, 0), (1.0, False, 0)])
def test_the_status_tells_a_missed_bar_only_when_asked_to(
    bar: float, check: bool, status: int, load: Callable[[str], Any], tmp_path: Path
):
    common = load("common")
    options = common.parser("", rounds=1).parse_args(["--out", str(tmp_path), *["--check"] * check])
    seconds = {"a": [3.0], "b": [2.0]}
    ratio = common.ratio(seconds, "a", "b")
    bars = [common.Bar(ratio, at_most=bar)]
    assert common.finish("x", options, settings={}, seconds={"": seconds}, ratios=[ratio], bars=bars) == status
    (file,) = tmp_path.iterdir()
    assert [made["met"] for made in json.loads(file.read_text())["bars"]] == [bar == 2.0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, and the benchmark would run on it")
@pytest.mark.parametrize("name", ON_A_GPU)
def test_what_needs_a_gpu_is_skipped_with_the_reason(
    name: str, load: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert load(name).main([*TINY[name], "--device", "cuda", "--out", str(tmp_path), "--check"]) == 0
    assert "no CUDA device" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here")
@pytest.mark.parametrize("name", ON_A_GPU)
def test_what_can_use_a_gpu_runs_on_it(name: str, load: Callable[[str], Any], tmp_path: Path):
    _, result = run(load(name), tmp_path, "--device", "cuda")
    assert result["settings"]["timed"] == "the clock"
    assert result["bars"]


def test_choosing_refuses_a_mask_that_breaks_the_rule(
    load: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = load("select_weights")
    monkeypatch.setitem(module.METHODS, "redense.masks.select", lambda weight: torch.ones_like(weight).bool())
    assert module.main(["--size", "16", "--rounds", "1", "--out", str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())


def test_holding_refuses_a_mask_that_is_not_held(load: Callable[[str], Any]):
    module = load("hold_masks")
    model = module.resnet50(width=2)
    masks = {name: torch.rand(p.shape) > 0.3 for name, p in redense.prunable(model).items()}
    with pytest.raises(SystemExit, match="was not held"):
        module.check_zeros(model, masks)


def test_the_layers_are_those_of_resnet50(load: Callable[[str], Any]):
    module = load("hold_masks")
    with torch.device("meta"):
        model = module.resnet50()
    shapes = [tuple(p.shape) for p in model.parameters()]
    assert sum(p.numel() for p in model.parameters()) == module.RESNET50 == 25_557_032
    assert len(shapes) == 161
    assert shapes[0] == (64, 3, 7, 7)
    assert shapes[-2] == (1000, 2048)


def test_a_ratio_is_taken_within_each_round(load: Callable[[str], Any]):
    common = load("common")
    seconds = {"a": [1.0, 20.0, 3.0], "b": [1.0, 10.0, 1.0]}  # the machine was ten times slower in the second round
    ratio = common.ratio(seconds, "a", "b")
    assert (ratio.median, ratio.least, ratio.greatest) == (2.0, 1.0, 3.0)
    assert common.Bar(ratio, at_most=2.0).met
    assert not common.Bar(ratio, at_most=1.9).met
    assert not common.Bar(ratio, at_least=2.1).met


def test_a_round_runs_each_contestant_once_after_it_was_prepared(load: Callable[[str], Any]):
    common = load("common")
    calls: list[str] = []
    contestants = {
        "a": common.Contestant(lambda: calls.append("run a"), lambda: calls.append("prepare a")),
        "b": common.Contestant(lambda: calls.append("run b")),
    }
    seconds = common.measure(contestants, rounds=3)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert calls.count("run a") == calls.count("run b") == 4  # the first round warms up
    assert all(calls[i - 1] == "prepare a" for i, call in enumerate(calls) if call == "run a")


# --- scans ----------------------------------------------------------------------------------------------------------

SMALL = ["--depth", "8", "--width", "2", "--epochs", "0.01", "--examples", "20"]


@pytest.mark.slow
def test_scanning_stores_every_scan_and_refuses_other_bits(load: Callable[[str], Any], tmp_path: Path):
    module = load("scan_sensitivity")
    assert module.main([*SMALL, "--rounds", "1", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("scan_sensitivity-*.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["facts"]["evaluations"]["redense"] < result["facts"]["evaluations"]["plain grid"]
    assert set(result["seconds"]["scan"]) == {"plain grid", "reuse", "for any target", "one target", "redense"}
    plain = Scan.from_dict(result["facts"]["plain"])
    curve = plain.curves[0]
    other = replace(plain, curves=(replace(curve, points=((curve.points[0][0], 0.0),)), *plain.curves[1:]))
    with pytest.raises(SystemExit, match="gave"):
        module.check_same(plain, other)
    with pytest.raises(SystemExit, match="nothing was reused"):
        module.check_same(plain, replace(plain, note="nothing was reused: because"))


def test_allocating_prunes_every_way_by_the_same_number_of_weights(
    load: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = load("allocate_sparsity")
    monkeypatch.setattr(module, "OVERALL", (0.4, 0.7))
    assert module.main([*SMALL, "--seeds", "1", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("allocate_sparsity-*.json")
    runs = json.loads(file.read_text(encoding="utf-8"))["facts"]["runs"]
    assert [run["seed"] for run in runs] == [0]
    for run in runs:
        for overall, methods in run["pruned"].items():
            assert set(methods) == set(module.METHODS)
            for measured in methods.values():
                assert measured["overall"] == pytest.approx(float(overall), abs=1e-3)
                assert 0 <= measured["test error"] <= 100
