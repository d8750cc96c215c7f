"""The five moments: histograms of one layer's weights through D-S-D, for one layer and for every pruned one."""

from __future__ import annotations

import json
import math

import pytest
import torch

from redense.errors import ParameterError, StateError
from redense.lab.diagnosis.landscape import DiagnosisError
from redense.lab.diagnosis.moments import Cycle, cycle_moments, five_moments


def test_five_moments_are_the_papers_figure() -> None:
    dense = torch.tensor([[-1.0, -0.2, 0.1], [0.3, 0.6, -0.7]])
    mask = dense.abs() >= 0.3
    sparse = dense * mask * 1.1
    end = sparse + torch.tensor([[0.0, 0.1, -0.5], [0.0, 0.0, 0.0]])
    states = {"dense": {"w": dense}, "sparse": {"w": sparse}, "redense": {"w": end}}
    found = five_moments("w", states, Cycle({"w": mask}), bins=11)
    assert [m.weights for m in found.moments] == [6, 4, 4, 6, 6]
    assert [sum(m.counts) for m in found.moments] == [6, 4, 4, 6, 6]
    assert [m.counts[5] for m in found.moments] == [1, 0, 0, 2, 1]  # cut out, and the spike at zero
    assert len(found.edges) == 12
    assert found.edges[-1] == -found.edges[0] == pytest.approx(1.1)
    assert found.edges[5] == pytest.approx(-0.1)
    assert found.moments[1].mean_magnitude == pytest.approx(0.65)
    assert (found.old.weights, found.regrown.weights) == (4, 2)
    assert found.old.mean_magnitude == pytest.approx(0.715)
    assert found.regrown.mean_magnitude == pytest.approx(0.3)
    assert found.regrown.mean == pytest.approx(-0.2)
    assert found.cut == pytest.approx(0.2)
    assert found.stayed_small == 0.5
    assert found.old_moved == 0


def test_counts_are_those_of_a_plain_histogram() -> None:
    dense = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    mask = dense.abs() > 0.4
    states = {"a": {"w": dense}, "b": {"w": dense * mask}, "c": {"w": dense + 0.01}}
    found = five_moments("w", states, Cycle({"w": mask}, "a", "b", "c"))
    edges = torch.tensor(found.edges, dtype=torch.float64)
    for moment, weights in zip(
        found.moments, (dense, dense[mask], dense[mask], dense * mask, dense + 0.01), strict=True
    ):
        where = (torch.bucketize(weights.double().flatten(), edges, right=True) - 1).clamp(0, 100)
        assert moment.counts == tuple(torch.bincount(where, minlength=101).tolist())


def test_weights_released_from_elsewhere_start_there() -> None:
    w, mask = torch.tensor([1.0, 0.5]), torch.tensor([True, False])
    states = {"dense": {"w": w}, "sparse": {"w": w * mask}, "redense": {"w": w}}
    assert five_moments("w", states, Cycle({"w": mask})).moments[3].counts[50] == 1
    assert five_moments("w", states, Cycle({"w": mask}, start={"w": w})).moments[3].counts[50] == 0


def test_five_moments_survive_edge_cases() -> None:
    zero = {"w": torch.zeros(4)}
    states = {"dense": zero, "sparse": zero, "redense": zero}
    whole = five_moments("w", states, Cycle({"w": torch.ones(4, dtype=torch.bool)}))
    assert (whole.stayed_small, whole.regrown.weights, whole.regrown.mean) == (None, 0, None)
    assert whole.moments[0].counts[50] == 4


def test_five_moments_refuse_what_does_not_fit() -> None:
    w, mask = {"conv.weight": torch.ones(4)}, torch.ones(4, dtype=torch.bool)
    states = {"dense": w, "sparse": w, "redense": w}
    with pytest.raises(DiagnosisError, match="odd number"):
        five_moments("conv.weight", states, Cycle({"conv.weight": mask}), bins=10)
    with pytest.raises(ParameterError, match=r"'conv\.weigth' has no mask; did you mean 'conv\.weight'"):
        five_moments("conv.weigth", states, Cycle({"conv.weight": mask}))
    with pytest.raises(StateError, match="no state 'end' among dense, sparse, redense"):
        five_moments("conv.weight", states, Cycle({"conv.weight": mask}, redense="end"))
    with pytest.raises(DiagnosisError, match="the flow has diverged"):
        five_moments(
            "conv.weight",
            states | {"redense": {"conv.weight": torch.full((4,), math.nan)}},
            Cycle({"conv.weight": mask}),
        )


# --- of a run -------------------------------------------------------------------------------------------------------


def test_every_pruned_layer_has_its_moments_and_the_largest_is_the_default():
    random = torch.Generator().manual_seed(0)
    dense = {name: torch.randn(size, generator=random) for name, size in (("a", 5), ("b", 30), ("c", 9), ("free", 99))}
    masks = {name: dense[name].abs() > 0.5 for name in ("a", "b", "c")}
    sparse = {name: w * masks.get(name, True) for name, w in dense.items()}
    cycle = Cycle(masks, "dense", "sparse-2", "redense-2")
    found = cycle_moments({"dense": dense, "sparse-2": sparse, "redense-2": dense}, cycle, bins=5)
    assert [layer["name"] for layer in found["layers"]] == ["a", "b", "c"]
    assert (found["default"], found["sparse"], found["redense"]) == (1, "sparse-2", "redense-2")
    one = five_moments("b", {"dense": dense, "sparse-2": sparse, "redense-2": dense}, cycle, bins=5)
    layer = found["layers"][1]
    assert layer["old"]["counts"] == list(one.old.counts)
    assert [moment["weights"] for moment in layer["moments"]] == [moment.weights for moment in one.moments]
    assert "free" not in json.dumps(found)


def test_a_layer_that_cannot_be_measured_says_why_and_the_others_go_on():
    states = {name: {"a": torch.ones(4), "b": torch.ones(3)} for name in ("dense", "sparse", "redense")}
    states["redense"]["a"] = torch.tensor([1, math.inf, 1, 1])
    masks = {name: torch.ones(size, dtype=torch.bool) for name, size in (("a", 4), ("b", 3))}
    bad, good = cycle_moments(states, Cycle(masks))["layers"]
    assert bad == {"name": "a", "error": "the weights of 'a' are not finite: the flow has diverged"}
    assert good["moments"][0]["weights"] == 3
