"""A diagnosis has every measure, and the model is afterwards bit for bit what it was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from redense.errors import ParameterError, StateError
from redense.lab.diagnosis.report import (
    Cycle,
    DiagnosisError,
    Probes,
    Settings,
    diagnose,
    input_noise,
    line,
    sharpness,
    weight_noise,
)

from .known import State, X, Y, copy, cross_entropy, error, network

# --- all of it ------------------------------------------------------------------------------------------------------

QUICK = Settings(points=5, weight_scales=(0.1, 0.5), input_scales=(0.5,), draws=2)


def flow() -> tuple[dict[str, State], Cycle]:
    states = {name: copy(network(seed)) for seed, name in enumerate(("dense", "sparse", "redense"))}
    masks = {name: states["dense"][name].abs() > 0.1 for name in ("0.weight", "4.weight")}
    for name, mask in masks.items():
        states["sparse"][name] *= mask
    return states, Cycle(masks)


def noisy_error(model: nn.Module, scale: float, seed: int) -> float:
    noise = torch.randn(X.shape, generator=torch.Generator().manual_seed(seed))
    return 100 * float((model(X + scale * noise).argmax(1) != Y).double().mean())


def hidden_units(model: Any) -> Tensor:
    return model[:3](X)


PROBES = Probes(cross_entropy, error, hidden_units, noisy_error)


def test_a_diagnosis_has_every_part_as_plain_data() -> None:
    states, cycle = flow()
    told: list[tuple[int, int, str]] = []
    found = diagnose(network(7), states, PROBES, cycle=cycle, settings=QUICK, progress=lambda *what: told.append(what))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    pairs = [("dense", "sparse"), ("sparse", "redense"), ("dense", "redense")]
    for section in ("line", "distance", "similarity"):
        assert [(row["from"], row["to"]) for row in found[section]] == pairs
    for section in ("levels", "sharpness", "weight_noise", "input_noise"):
        assert [row["state"] for row in found[section]] == ["dense", "sparse", "redense"]
    assert not any(
        "error" in row for rows in found.values() if isinstance(rows, list) for row in rows if row != str(row)
    )
    assert found["states"] == ["dense", "sparse", "redense"]
    assert found["five_moments"][0]["name"] == "0.weight"  # the larger one
    assert found["levels"][0]["loss"] == found["line"][0]["losses"][0] == found["sharpness"][0]["loss"]
    assert found["levels"][2]["metric"] == found["weight_noise"][2]["clean"] == found["input_noise"][2]["clean"]
    assert found["distance"][1]["regrown"]["start"] == 0
    assert set(found["distance"][0]["tensors"]) == {n for n, _ in network().named_parameters()}
    done, total, what = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert done[0] == 0
    assert set(total) == {done[-1]}
    assert what[-1] == ""
    assert "line: dense to sparse" in what
    assert "weight noise: redense" in what


def test_a_flow_without_a_mask_is_diagnosed_too() -> None:
    states, _ = flow()
    found = diagnose(network(7), states, Probes(cross_entropy, error), settings=QUICK)
    assert set(found) == {"states", "settings", "levels", "line", "sharpness", "weight_noise", "distance"}
    assert found["distance"][0]["kept"] is None


def test_the_same_seed_gives_the_same_diagnosis() -> None:
    states, cycle = flow()
    torch.manual_seed(1)
    first = diagnose(network(7), states, PROBES, cycle=cycle, settings=QUICK)
    torch.manual_seed(2)
    assert diagnose(network(8), states, PROBES, cycle=cycle, settings=QUICK) == first


def test_a_diverged_solution_does_not_spoil_the_others() -> None:
    states, cycle = flow()
    states["redense"] = {k: v * math.nan if v.is_floating_point() else v for k, v in states["redense"].items()}
    found = diagnose(network(7), states, PROBES, cycle=cycle, settings=QUICK)
    errors = {(section, i) for section, rows in found.items() if section not in ("states", "settings")
              for i, row in enumerate(rows) if "error" in row}  # fmt: skip
    single = {(section, 2) for section in ("levels", "sharpness")}
    pairs = {(section, i) for section in ("line", "distance", "similarity") for i in (1, 2)}
    assert errors == single | pairs | {("five_moments", 0)}  # the error rate of NaN is a number, so noise has rows
    assert "diverged" in found["levels"][2]["error"]


def test_what_is_asked_wrongly_is_told_before_anything_is_measured() -> None:
    states, cycle = flow()

    def diagnosed(**changes: Any) -> None:
        arguments: dict[str, Any] = {"states": states, "cycle": cycle} | changes
        told = []
        try:
            diagnose(network(7), probes=PROBES, settings=QUICK, progress=lambda *what: told.append(what), **arguments)
        finally:
            assert not told

    with pytest.raises(StateError, match="at least two states, got 1: dense"):
        diagnosed(states={"dense": states["dense"]})
    with pytest.raises(StateError, match="of another model"):
        diagnosed(states=states | {"redense": {"w": torch.ones(1)}})
    with pytest.raises(ParameterError, match=r"'4\.wieght' has no mask; did you mean '4\.weight'"):
        diagnosed(layer="4.wieght")
    with pytest.raises(ParameterError, match=r"no tensor 'fc\.weight'"):
        diagnosed(cycle=Cycle({"fc.weight": torch.ones(2, dtype=torch.bool)}))
    with pytest.raises(StateError, match="no state 'last'"):
        diagnosed(cycle=Cycle(cycle.masks, redense="last"))
    wrong: dict[str, Any]
    for wrong in ({"points": 1}, {"tolerance": 2.0}, {"bins": 2}, {"draws": 0}, {"weight_scales": ()}):
        with pytest.raises(DiagnosisError):
            Settings(**wrong)


# --- the model afterwards -------------------------------------------------------------------------------------------


def recompute_norm(model: Any) -> None:
    model[1].train()
    model(X)


def measures(states: dict[str, State], cycle: Cycle) -> dict[str, Callable[[nn.Module], object]]:
    a, b = states["dense"], states["redense"]
    return {
        "line": lambda m: line(m, a, b, cross_entropy, 3, recompute=recompute_norm),
        "lanczos": lambda m: sharpness(m, a, cross_entropy, products=3),
        "power": lambda m: sharpness(m, a, cross_entropy, products=4, method="power"),
        "weight noise": lambda m: weight_noise(m, a, error, [0.5], 2),
        "input noise": lambda m: input_noise(m, a, noisy_error, [0.5], 2),
        "diagnose": lambda m: diagnose(m, states, PROBES, cycle=cycle, settings=QUICK),
        "a failure": lambda m: line(m, a, b, lambda m: cross_entropy(m) / 0),
        "an exception": lambda m: weight_noise(m, a, lambda m: 1 / 0, [0.1]),
        "a wrong state": lambda m: sharpness(m, b | {"0.weight": torch.ones(1)}, cross_entropy),
    }


@pytest.mark.parametrize("measure", list(measures(*flow())))
def test_the_model_is_afterwards_bit_for_bit_what_it_was(measure: str) -> None:
    states, cycle = flow()
    given = {name: {k: v.clone() for k, v in state.items()} for name, state in states.items()}
    model = network(7)
    model.train()
    model[1].eval()  # a mode of its own
    model[0].bias.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, identities = copy(model), [id(p) for p in model.parameters()]
    random = torch.get_rng_state()
    try:
        measures(states, cycle)[measure](model)
    except (DiagnosisError, StateError, ZeroDivisionError):
        assert measure.startswith("a")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [id(p) for p in model.parameters()] == identities
    assert [p.requires_grad for p in model.parameters()] == [True, False, *[True] * 4]
    assert all(p.grad is not None and bool((p.grad == 1).all()) for p in model.parameters())
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), random)
    for name, state in given.items():
        assert all(torch.equal(value, states[name][key]) for key, value in state.items())
