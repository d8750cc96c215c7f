"""Models of TorchScript, traces and exports: judged as the model that they were made of, or by no rule."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense.errors import LeftDenseWarning, ParameterError
from redense.layers.classes import class_of, is_a
from redense.parameters import first_layers

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
IMAGES = torch.randn(2, 3, 6, 6)


class OwnConv(nn.Conv2d):
    pass


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), OwnConv(8, 4, 3), nn.Flatten(), nn.Linear(16, 8))


def loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    return torch.jit.load(file)


def trained(model: Any) -> tuple[list[str], list[Tensor]]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = redense.Schedule.dsd(dense=1, sparse=2, redense=2, sparsity=0.5)
    dsd = redense.DSD(model, optimizer, schedule)
    pruned = list[str]()
    for _ in range(5):
        pruned = list(dsd.masks) or pruned
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    return pruned, [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("script", [torch.jit.script, loaded])
def test_a_scripted_model_is_judged_and_trained_as_the_one_that_it_was_made_of(script: Callable[[nn.Module], Any]):
    model = network()
    assert [(row.name, row.reason) for row in redense.summary(script(model)).rows] == [
        (row.name, row.reason) for row in redense.summary(model).rows
    ]
    names, weights = trained(script(network()))
    others, expected = trained(model)
    assert names == others == ["2.weight", "4.weight"]
    assert all(map(torch.equal, weights, expected))
    assert list(first_layers(script(network()), IMAGES)) == ["0.weight"]


def test_an_embedding_of_torchscript_is_one():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    assert list(redense.prunable(torch.jit.script(model))) == ["1.weight"]


def traced(model: nn.Module) -> Any:
    return torch.jit.trace(model, IMAGES)


def exported(model: nn.Module) -> Any:
    return torch.export.export(model.train(), (IMAGES,)).module()


@pytest.mark.parametrize("lose", [traced, exported])
def test_where_the_classes_of_layers_are_lost_no_rule_covers_what_is_left(lose: Callable[[nn.Module], nn.Module]):
    model = lose(network())
    assert redense.prunable(model) == {}
    assert {row.reason for row in redense.summary(model).rows if not row.name.endswith("bias")} == {
        "of a layer whose class TorchScript or an export has lost, which no rule covers: include it by name"
    }
    assert list(redense.prunable(model, include=["4.weight"])) == ["4.weight"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(LeftDenseWarning, match=r"'0\.weight' \(of a layer whose class"),
        pytest.raises(ParameterError, match="no prunable parameter"),
        redense.sparse(model, optimizer, 0.5),
    ):
        pass
    whole = nn.Sequential(model, nn.Linear(8, 8))
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    with pytest.warns(LeftDenseWarning, match=r"'0\.0\.weight' \(of a layer whose class"):
        redense.DSD(whole, optimizer, redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5)).close()


def test_a_graph_keeps_pytorchs_own_layers_and_loses_the_class_of_what_it_runs_through():
    graph = torch.fx.symbolic_trace(network())
    assert [class_of(graph), class_of(graph.get_submodule("2"))] == [None, None]
    assert is_a(graph.get_submodule("0"), nn.Conv2d)
    assert list(redense.prunable(graph)) == ["4.weight"]
