"""Which parameters are pruned, and what `summary` says about the others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import redense
from redense import parameters
from redense.errors import ParameterError


class Everything(nn.Module):
    """One of each kind of layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3)
        self.up = nn.ConvTranspose1d(4, 2, 2)
        self.batch = nn.BatchNorm2d(4)
        self.layer = nn.LayerNorm(4)
        self.group = nn.GroupNorm(2, 4)
        self.rms = nn.RMSNorm(4)
        self.instance = nn.InstanceNorm1d(4, affine=True)
        self.embedding = nn.Embedding(5, 4)
        self.bag = nn.EmbeddingBag(5, 4)
        self.linear = nn.Linear(4, 3)
        self.bilinear = nn.Bilinear(2, 3, 4)
        self.lstm = nn.LSTM(3, 2, bidirectional=True, proj_size=1)
        self.cell = nn.GRUCell(3, 2)
        self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True)
        self.same = nn.MultiheadAttention(4, 2)
        self.prelu = nn.PReLU()
        self.scale = nn.Parameter(torch.ones(4, 4))


PRUNED = {
    "second.weight": "convolution",
    "up.weight": "convolution",
    "linear.weight": "linear",
    "bilinear.weight": "linear",
    "lstm.weight_ih_l0": "recurrent",
    "lstm.weight_hh_l0": "recurrent",
    "lstm.weight_hr_l0": "recurrent",
    "lstm.weight_ih_l0_reverse": "recurrent",
    "lstm.weight_hh_l0_reverse": "recurrent",
    "lstm.weight_hr_l0_reverse": "recurrent",
    "cell.weight_ih": "recurrent",
    "cell.weight_hh": "recurrent",
    "attention.q_proj_weight": "attention",
    "attention.k_proj_weight": "attention",
    "attention.v_proj_weight": "attention",
    "attention.out_proj.weight": "linear",
    "same.in_proj_weight": "attention",
    "same.out_proj.weight": "linear",
}


def test_the_rule_takes_the_weights_of_layers_and_nothing_else():
    model = Everything()
    rows = {row.name: row for row in redense.summary(model).rows}
    assert list(rows) == [name for name, _ in model.named_parameters()]
    assert {name: row.reason for name, row in rows.items() if row.prunable} == PRUNED
    assert set(redense.prunable(model)) == set(PRUNED)
    for name, why in {
        "first.weight": "the first convolution",
        "linear.bias": "a bias",
        "lstm.bias_hh_l0": "a bias",
        "attention.bias_k": "a bias",
        "attention.in_proj_bias": "a bias",
        "batch.weight": "a normalisation",
        "batch.bias": "a normalisation",
        "layer.weight": "a normalisation",
        "group.weight": "a normalisation",
        "rms.weight": "a normalisation",
        "instance.weight": "a normalisation",
        "embedding.weight": "an embedding",
        "bag.weight": "an embedding",
        "prelu.weight": "of a PReLU, which no rule covers: include it by name",
        "scale": "of a Everything, which no rule covers: include it by name",
    }.items():
        assert rows[name].reason == why, name


def test_prunable_gives_the_models_own_parameters_under_their_state_dict_names():
    model = Everything()
    state = model.state_dict(keep_vars=True)
    for name, parameter in redense.prunable(model).items():
        assert state[name] is parameter


def test_layers_that_are_known_by_their_class_name_follow_the_rule():
    class LlamaRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    class Conv1D(nn.Module):  # as in transformers' GPT-2
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))
            self.bias = nn.Parameter(torch.ones(3))

    rows = redense.summary(nn.Sequential(LlamaRMSNorm(), Conv1D())).rows
    assert [(row.name, row.prunable, row.reason) for row in rows] == [
        ("0.weight", False, "a normalisation"),
        ("1.weight", True, "linear"),
        ("1.bias", False, "a bias"),
    ]


class Tied(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        second.register_parameter("weight", first.get_parameter("weight"))


def test_tied_weights_are_listed_once_under_their_first_name():
    model = Tied(nn.Linear(3, 3), nn.Linear(3, 3))
    assert list(redense.prunable(model)) == ["first.weight"]
    assert redense.summary(model).weights == 9 + 3 + 3


@pytest.mark.parametrize("embedding_first", [True, False])
def test_a_weight_that_an_embedding_shares_is_an_embedding(embedding_first: bool):
    pair = (nn.Embedding(4, 3), nn.Linear(3, 4))
    model = Tied(*(pair if embedding_first else pair[::-1]))
    assert redense.prunable(model) == {}
    assert {row.name: row.reason for row in redense.summary(model).rows}["first.weight"] == "an embedding"


def test_a_module_used_twice_is_listed_once():
    layer = nn.Linear(3, 3)
    assert list(redense.prunable(nn.Sequential(layer, layer))) == ["0.weight"]


def test_frozen_parameters_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    assert list(redense.prunable(model)) == ["1.weight"]
    assert redense.summary(model).rows[0].reason == "frozen"


def test_integer_parameters_are_left_alone_and_refused_by_name():
    model = nn.Linear(3, 3)
    model.weight = nn.Parameter(torch.ones(3, 3, dtype=torch.int8), requires_grad=False)
    assert redense.prunable(model) == {}
    assert redense.summary(model).rows[0].reason == "not floating-point (torch.int8)"
    with pytest.raises(
        ParameterError, match=r"'weight' must have a floating-point dtype to be pruned, got torch\.int8"
    ):
        redense.prunable(model, include="weight")


def test_a_pattern_selects_among_what_the_rule_finds():
    model = Everything()
    assert list(redense.prunable(model, include="*linear*")) == ["linear.weight", "bilinear.weight"]
    assert list(redense.prunable(model, include=["lstm.*", "up.*"], exclude="*_reverse")) == [
        "up.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "lstm.weight_hr_l0",
    ]
    reasons = {row.name: row.reason for row in redense.summary(model, include="linear.*", exclude="linear.w*").rows}
    assert reasons["linear.weight"] == "excluded"
    assert reasons["second.weight"] == "not included"
    assert reasons["linear.bias"] == "a bias"


def test_an_exact_name_is_taken_whatever_the_rule_says():
    model = Everything()
    assert list(redense.prunable(model, include=["first.weight", "scale", "linear.*"])) == [
        "scale",
        "first.weight",
        "linear.weight",
    ]
    assert redense.prunable(model, include="first.weight", exclude="first.*") == {}


@pytest.mark.parametrize("what", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_names_the_nearest(what: str):
    with pytest.raises(
        ParameterError,
        match=rf"{what} 'linear\.wieght' matches no parameter of the model; did you mean 'linear\.weight'",
    ):
        redense.prunable(Everything(), **{what: ["linear.bias", "linear.wieght"]})
    with pytest.raises(ParameterError, match=rf"{what} '\*\.kernel' matches no parameter"):
        redense.summary(Everything(), **{what: "*.kernel"})


def test_names_have_no_prefixes_of_wrappers():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    wrapped = nn.DataParallel(torch.compile(model, backend="eager"))  # pyright: ignore[reportArgumentType]
    assert parameters.unwrap(wrapped) is model
    assert list(redense.prunable(wrapped)) == ["0.weight"]
    outer = nn.Sequential(nn.Linear(3, 3))
    outer.append(torch.compile(nn.Linear(3, 3), backend="eager"))  # pyright: ignore[reportArgumentType]
    assert [name for name, _ in outer.named_parameters()][2] == "1._orig_mod.weight"
    assert list(redense.prunable(outer)) == ["0.weight", "1.weight"]


def test_a_model_without_parameters_or_weights_has_an_empty_summary():
    assert redense.prunable(nn.ReLU()) == {}
    assert str(redense.summary(nn.ReLU())).endswith("0 of 0 weights can be pruned (0.0%)")


def test_the_summary_shows_shapes_sparsities_and_totals():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(10, 4), nn.LayerNorm(4))
    with torch.no_grad():
        model[1].get_parameter("weight").view(-1)[:10] = 0
    shown = redense.summary(model)
    assert shown.prunable_weights == 40
    assert shown.weights == 216 + 8 + 40 + 4 + 4 + 4
    assert shown.rows[2] == parameters.Row("1.weight", (4, 10), 40, True, "linear", 0.25)
    lines = str(shown).splitlines()
    assert lines[0].split() == ["name", "shape", "weights", "pruned", "sparsity", "why"]
    assert lines[3].split() == ["1.weight", "4", "x", "10", "40", "yes", "25.00%", "linear"]
    assert lines[1].endswith("the first convolution")
    assert lines[-1] == "40 of 276 weights can be pruned (14.5%)"
    assert not any(line != line.rstrip() for line in lines)


def test_a_meta_model_is_summarised_but_refused_by_name_for_pruning():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 3))
    assert redense.summary(model).rows[0].sparsity == 0.0
    with pytest.raises(ParameterError, match=r"'0\.weight' is on the meta device and has no values: load the model"):
        redense.prunable(model)


def test_a_lazy_module_is_refused_until_it_has_its_shape():
    model = nn.Sequential(nn.Linear(3, 3), nn.LazyLinear(2))
    with pytest.raises(ParameterError, match=r"'1\.weight' is not initialised yet: run one batch"):
        redense.prunable(model)
    model(torch.ones(1, 3))
    assert list(redense.prunable(model)) == ["0.weight", "1.weight"]
