"""What a parameter is in its layer, where its inputs are, and whether a mask on it holds in the layer's output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import redense
from redense.errors import ParameterError, SparsityError
from redense.parameters import judge


def layer(name: str, bases: tuple[type[nn.Module], ...] = (nn.Module,), **parameters: Any) -> nn.Module:
    """A layer of another library: a class of that name with parameters of these shapes."""
    made = type(name, bases, {})()
    for attribute, shape in parameters.items():
        made.register_parameter(attribute, nn.Parameter(torch.randn(shape)))
    return made


@pytest.mark.parametrize(
    ("module", "prunable"),
    [
        (layer("MixtralExperts", gate_up_proj=(4, 16, 6), down_proj=(4, 6, 8)), ["gate_up_proj", "down_proj"]),
        (layer("Experts", w=(4, 6, 8), w_bias=(4, 6)), ["w"]),
        (layer("GptOssTopKRouter", weight=(4, 8), bias=(4,)), ["weight"]),
        (layer("CondConv2d", weight=(4, 288), bias=(4, 8)), ["weight"]),
        (layer("XLNetRelativeAttention", q=(8, 2, 4), o=(8, 2, 4), r_w_bias=(2, 4), seg_embed=(2, 2, 4)), ["q", "o"]),
        (layer("MambaMixer", x_proj_weight=(2, 6, 8), A_log=(8, 16), D=(8,)), ["x_proj_weight"]),
        (layer("QuantEmbedding", weight=(8, 4)), []),
        (layer("ViTEmbeddings", position_embeddings=(1, 9, 8), cls_token=(1, 1, 8), mask_token=(2, 8)), []),
        (layer("Attention", rel_pos_h=(13, 4), relative_position_bias_table=(9, 2), temperature=(4, 1, 1)), []),
        (layer("MultiHeadRMSNorm", weight=(4, 8)), []),
        (layer("PoolingHead", probe=(2, 8), latent_query=(3, 8)), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_of_other_libraries_are_judged_by_shapes_and_names(module: nn.Module, prunable: list[str]):
    assert list(redense.prunable(module)) == prunable


def test_a_linear_layer_is_one_whatever_its_class_is_called():
    class LinearNorm(nn.Linear):
        pass

    class Conv2dNorm(nn.Conv2d):
        pass

    model = nn.Sequential(LinearNorm(4, 8), Conv2dNorm(8, 4, 3), layer("LinearNorm", weight=(4,)))
    assert [row.reason for row in redense.summary(model).rows if "weight" in row.name] == [
        "linear",
        "convolution",
        "a normalisation",
    ]


# --- groups of an N:M pattern -----------------------------------------------------------------------------------------


class Conv1D(nn.Module):
    """GPT-2's linear layer: the weight is (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))


PATTERNED: list[tuple[nn.Module, str, int]] = [
    (nn.Linear(8, 6), "weight", 1),
    (Conv1D(8, 6), "weight", 0),
    (nn.Conv2d(16, 6, 3, groups=2), "weight", 1),
    (nn.ConvTranspose2d(8, 6, 3), "weight", 0),
    (nn.ConvTranspose1d(8, 6, 3, groups=2), "weight", 0),
    (nn.GRU(8, 4), "weight_ih_l0", 1),
    (nn.LSTM(8, 8, proj_size=4), "weight_hr_l0", 1),
    (layer("MixtralExperts", gate_up_proj=(2, 24, 8), down_proj=(2, 8, 12)), "gate_up_proj", 2),
    (layer("GptOssExperts", gate_up_proj=(2, 8, 24), down_proj=(2, 12, 8)), "gate_up_proj", 1),
    (layer("GptOssExperts", gate_up_proj=(2, 8, 24), down_proj=(2, 12, 8)), "down_proj", 1),
    (layer("ParallelExperts", weight=(2, 6, 8)), "weight", 2),
    (layer("XLNetRelativeAttention", q=(8, 2, 3)), "q", 0),
]


@pytest.mark.parametrize(("module", "name", "inputs"), PATTERNED, ids=lambda value: str(value)[:24])
def test_groups_of_a_pattern_run_along_the_inputs_of_each_output(module: nn.Module, name: str, inputs: int):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with redense.sparse(module, optimizer, pattern=(2, 4), include=name) as block:
        mask = block.masks[name]
        assert mask.shape == module.get_parameter(name).shape
        groups = mask.movedim(inputs, -1).unflatten(-1, (-1, 4)).sum(-1)
        assert bool((groups == 2).all())
        magnitudes = module.get_parameter(name).detach().abs()
        assert bool((magnitudes[~mask] == 0).all())


def test_a_pattern_keeps_the_largest_of_each_group_along_the_inputs():
    module = Conv1D(4, 2)
    module.weight.data = torch.tensor([[1.0, 4.0], [2.0, 3.0], [3.0, 2.0], [4.0, 1.0]])
    with redense.sparse(module, torch.optim.SGD(module.parameters(), lr=0.1), pattern=(2, 4)) as block:
        assert block.masks["weight"].T.tolist() == [[False, False, True, True], [True, True, False, False]]


@pytest.mark.parametrize(
    ("module", "name", "says"),
    [
        (layer("Experts", w1=(2, 12, 8), w2=(2, 8, 12)), "w1", "not known along which dimension 'w1' has its inputs"),
        (layer("CondConv2d", weight=(4, 288)), "weight", "not known along which dimension 'weight' has its inputs"),
        (layer("Custom", scale=(8, 8)), "scale", "not known along which dimension 'scale' has its inputs"),
        (nn.ConvTranspose1d(8, 8, 3, groups=4), "weight", "'weight' has 2 inputs for each output"),
        (Conv1D(6, 8), "weight", r"no groups of 4 along its inputs \(dimension 0\)"),
    ],
)
def test_a_pattern_is_refused_when_the_schedule_is_given_where_no_groups_are_known(
    module: nn.Module, name: str, says: str
):
    phase = redense.Phase.sparse(1, pattern=(2, 4))
    with pytest.raises(ParameterError, match=says):
        redense.DSD(
            module,
            torch.optim.SGD(module.parameters(), lr=0.1),
            redense.Schedule((redense.Phase.dense(1), phase)),
            include=name,
        )


# --- weights that are computed from others ----------------------------------------------------------------------------


def effective(how: Callable[[nn.Module], nn.Module], module: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """Train a layer under a mask of half its weights; return it, and the masks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), how(module))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with redense.sparse(model, optimizer, 0.5, exclude="0") as block:
        masks = block.masks
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(16, 16)).square().mean().backward()
            optimizer.step()
        assert masks
        for mask in masks.values():
            weight = model[1].weight
            assert isinstance(weight, Tensor)
            assert torch.equal(weight != 0, mask)
    return model, masks


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("how", "name", "reason"),
    [
        (parametrizations.weight_norm, "parametrizations.weight.original1", "{} under weight_norm"),
        (parametrizations.spectral_norm, "parametrizations.weight.original", "{} under spectral_norm"),
        (nn.utils.weight_norm, "weight_v", "{} under weight_norm"),
        (nn.utils.spectral_norm, "weight_orig", "{} under spectral_norm"),
    ],
    ids=["weight_norm", "spectral_norm", "old weight_norm", "old spectral_norm"],
)
@pytest.mark.parametrize(("module", "kind"), [(nn.Linear, "linear"), (nn.Conv1d, "convolution")])
def test_the_weight_that_a_normalised_layer_uses_is_zero_under_the_mask(
    how: Any, name: str, reason: str, module: Any, kind: str
):
    model, masks = effective(how, module(16, 32) if module is nn.Linear else module(16, 32, 3))
    assert list(masks) == [f"1.{name}"]
    verdicts = {verdict.name: verdict for verdict in judge(model, None, ())}
    assert verdicts[f"1.{name}"].reason == reason.format(kind)
    assert not any(verdict.overlooked for verdict in verdicts.values())


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).T


def symmetric(module: nn.Module) -> nn.Module:
    parametrize.register_parametrization(module, "weight", Symmetric())
    return module


@pytest.mark.parametrize(
    ("how", "by"), [(parametrizations.orthogonal, "_Orthogonal"), (symmetric, "Symmetric")], ids=["orthogonal", "own"]
)
def test_a_weight_that_is_computed_so_that_zeros_are_lost_is_named_and_refused(how: Any, by: str):
    model = nn.Sequential(how(nn.Linear(8, 8)), nn.Linear(8, 8))
    name = "0.parametrizations.weight.original"
    row = {row.name: row for row in redense.summary(model).rows}[name]
    assert not row.prunable
    assert row.reason == f"a weight is computed from it by {by}, which undoes zeros"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(redense.errors.LeftDenseWarning, match=name), redense.sparse(model, optimizer, 0.5) as block:
        assert list(block.masks) == ["1.weight"]
    with pytest.raises(ParameterError, match=f"'{name}' cannot be pruned, because a mask on it would not hold"):
        redense.prunable(model, include=name)


def test_a_standardised_convolution_is_refused():
    class StdConv2d(nn.Conv2d):
        """As in timm's and transformers' BiT: the mean of each filter is taken off."""

    model = nn.Sequential(nn.Conv2d(3, 4, 3), StdConv2d(4, 4, 3), nn.Linear(8, 8))
    reasons = {row.name: row.reason for row in redense.summary(model).rows}
    assert reasons["1.weight"] == "standardised by StdConv2d, which undoes zeros"
    with pytest.raises(ParameterError, match="cannot be pruned"):
        redense.prunable(model, include="1.weight")


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("how", [parametrizations.weight_norm, nn.utils.weight_norm], ids=["new", "old"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_what_counts_under_weight_norm_is_the_size_of_the_weight_that_the_layer_uses(how: Any, scope: str):
    torch.manual_seed(0)
    layer = how(nn.Linear(32, 8, bias=False))
    (direction, length) = sorted((p for _, p in layer.named_parameters()), key=lambda p: -p.numel())
    with torch.no_grad():
        direction.mul_(torch.logspace(-2, 2, 8).view(8, 1))  # changes no weight, which are of the given lengths
        length.copy_(torch.linspace(1, 2, 8).view(8, 1))
        layer(torch.randn(1, 32))  # the older form computes the weight in a forward
        before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with redense.sparse(layer, optimizer, 0.5, scope=scope) as block:
        (mask,) = block.masks.values()
        assert before[~mask].abs().max() <= before[mask].abs().min()


def test_a_row_that_weight_norm_would_divide_by_zero_is_refused():
    model = parametrizations.weight_norm(nn.Linear(4, 2))
    with torch.no_grad():
        model.get_parameter("parametrizations.weight.original0")[0] = 1e-6
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(
            SparsityError, match=r"would prune all weights of output 0 of 'parametrizations\.weight\.original1'"
        ),
        redense.sparse(model, optimizer, 0.5),
    ):
        pass
