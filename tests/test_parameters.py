"""Which parameters are pruned, and what `summary` says about the others."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import redense
from redense import parameters
from redense.errors import LeftDenseWarning, ParameterError


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
        "first.weight": "reads the input: 3 channels",
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


def test_a_tied_weight_is_excluded_under_any_of_its_names_and_included_under_its_first():
    layer = nn.Linear(3, 3)
    model = nn.ModuleDict(
        {"tied": Tied(nn.Linear(3, 3), nn.Linear(3, 3)), "a": layer, "b": layer, "c": nn.Linear(3, 3)}
    )
    assert list(redense.prunable(model)) == ["tied.first.weight", "a.weight", "c.weight"]
    assert list(redense.prunable(model, exclude=["tied.second", "b.weight"])) == ["c.weight"]
    assert list(redense.prunable(model, exclude="b")) == ["tied.first.weight", "c.weight"]
    for include in ("b.weight", "b"):
        with pytest.raises(
            ParameterError, match=rf"include '{include}' is tied to 'a\..*', which stands for both: give 'a\."
        ):
            redense.prunable(model, include=include)
    for name in ("b.weight", "b", "b.*"):  # the latter two are the bias as well, which is not pruned
        schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity={name: 0.5})
        with pytest.raises(ParameterError, match=rf"sparsity '{re.escape(name)}' is tied to 'a\.weight', which stands"):
            redense.DSD(model, torch.optim.SGD(model.parameters(), lr=0.1), schedule)
    with pytest.raises(ParameterError, match=r"exclude 'd' matches no parameter of the model"):
        redense.prunable(model, exclude="d")
    model["c"].weight = layer.weight  # its bias is its own, and would be pruned alone
    with pytest.raises(ParameterError, match=r"include 'c' is tied to 'a\.weight', which .*: give 'a\.weight'"):
        redense.prunable(model, include="c")


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


def test_a_module_name_selects_what_is_below_it_and_an_exact_name_comes_first():
    model = nn.ModuleDict({"encoder": nn.Sequential(*(nn.Linear(3, 3) for _ in range(11))), "head": nn.Linear(3, 3)})
    assert list(redense.prunable(model, include="encoder.1")) == ["encoder.1.weight"]
    assert len(redense.prunable(model, include="encoder")) == 11
    assert list(redense.prunable(model, exclude="encoder")) == ["head.weight"]
    assert list(redense.prunable(model, include=["encoder.1", "head"], exclude="encoder.1")) == ["head.weight"]
    model.register_parameter("head[0-9]", nn.Parameter(torch.ones(2, 2)))
    assert list(redense.prunable(model, include="head[0-9]")) == ["head[0-9]"]
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity={"encoder.1": 0.5, "head": 0.2})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    prunable_now = [row.name for row in redense.DSD(model, optimizer, schedule).summary().rows if row.prunable]
    assert prunable_now == ["encoder.1.weight", "head.weight"]


class Mixture(nn.Module):
    """A matrix that no rule covers, beside one that a rule does."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(4, 8, 8))
        self.out = nn.Linear(8, 8)


def test_a_pattern_takes_the_matrices_that_no_rule_covers_if_it_finds_no_others():
    model = nn.Sequential(Mixture(), Mixture())
    assert list(redense.prunable(model)) == ["0.out.weight", "1.out.weight"]
    assert list(redense.prunable(model, include="*.mix")) == ["0.mix", "1.mix"]
    assert list(redense.prunable(model, include=["*.mix", "0.out"])) == ["0.mix", "0.out.weight", "1.mix"]
    assert list(redense.prunable(model, include="0")) == ["0.out.weight"]
    model[0].mix.requires_grad_(False)
    assert list(redense.prunable(model, include="*.out.*")) == ["0.out.weight", "1.out.weight"]


@pytest.mark.parametrize(
    ("include", "why"),
    [("*bias", "a bias"), ("embedding", "an embedding"), ("first*", "a bias, reads the input: 3 channels")],
)
def test_a_pattern_that_selects_nothing_says_why(include: str, why: str):
    with pytest.raises(
        ParameterError, match=rf"include '{include[0:1]}?.*' matches \d+ parameters? and selects none \({why}"
    ):
        redense.prunable(Everything(), include=["linear", include])


def test_much_that_no_rule_covers_is_said_once_unless_the_user_spoke_of_it():
    model = nn.Sequential(Mixture(), Mixture())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = redense.Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.5)
    with pytest.warns(
        LeftDenseWarning, match=r"512 of 656 weights \(78\.0%\) stay dense .* '0\.mix' \(of a Mixture"
    ) as said:
        redense.DSD(model, optimizer, schedule).close()
    assert len(said) == 1
    assert said[0].filename == __file__
    with pytest.warns(LeftDenseWarning) as said, redense.sparse(model, optimizer, 0.5):
        pass
    assert len(said) == 1
    assert said[0].filename == __file__
    with redense.sparse(model, optimizer, 0.5, exclude="*.mix"):
        pass
    with redense.sparse(model, optimizer, 0.5, include=["*.mix", "*.out.*"]) as block:
        assert len(block.masks) == 4
    assert redense.summary(model).left_dense == {
        "of a Mixture, which no rule covers: include it by name": 512,
        "a bias": 16,
    }


@pytest.mark.parametrize("wrong", [[3], 3.0, [None]])
def test_include_takes_names_and_nothing_else(wrong: Any):
    with pytest.raises((ParameterError, TypeError)):
        redense.prunable(nn.Linear(2, 2), include=wrong)


def test_what_is_no_module_is_refused():
    with pytest.raises(ParameterError, match=r"model must be a torch\.nn\.Module, got dict"):
        redense.prunable({"weight": torch.ones(2, 2)})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("what", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_names_the_nearest(what: str):
    with pytest.raises(
        ParameterError,
        match=rf"{what} 'linear\.wieght' matches no parameter of the model; did you mean 'linear\.weight'",
    ):
        redense.prunable(Everything(), **{what: ["linear.bias", "linear.wieght"]})
    with pytest.raises(ParameterError, match=rf"{what} '\*\.kernel' matches no parameter"):
        redense.summary(Everything(), **{what: "*.kernel"})


@pytest.mark.parametrize(
    ("normed", "of"),
    [
        (nn.utils.parametrizations.weight_norm, "1.parametrizations.weight"),
        pytest.param(
            nn.utils.weight_norm, "1.weight_v", marks=pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
        ),
    ],
)
def test_the_name_of_a_weight_that_is_computed_leads_to_what_it_is_computed_from(normed: Any, of: str):
    model = nn.Sequential(nn.Linear(3, 3), normed(nn.Linear(3, 3)), nn.Linear(3, 3))
    with pytest.raises(ParameterError, match=rf"exclude '1\.weight' matches no .*: it is computed, give '{of}', which"):
        redense.prunable(model, exclude="1.weight")
    assert list(redense.prunable(model, exclude=of)) == ["0.weight", "2.weight"]


def test_the_example_of_an_exact_name_is_one_that_can_be_pruned():
    model = nn.Sequential(nn.Embedding(3, 3), nn.LayerNorm(3))
    with pytest.raises(ParameterError, match=r"\(an embedding\): give exact names, for example '0\.weight'$"):
        redense.prunable(model, include="0")


def test_names_have_no_prefixes_of_wrappers():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    wrapped = nn.DataParallel(torch.compile(model, backend="eager"))  # pyright: ignore[reportArgumentType]
    assert parameters.unwrap(wrapped) is model
    assert list(redense.prunable(wrapped)) == ["0.weight"]
    outer = nn.Sequential(nn.Linear(3, 3))
    outer.append(torch.compile(nn.Linear(3, 3), backend="eager"))  # pyright: ignore[reportArgumentType]
    assert [name for name, _ in outer.named_parameters()][2] == "1._orig_mod.weight"
    assert list(redense.prunable(outer)) == ["0.weight", "1.weight"]


class _FabricModule(nn.Module):
    """Named and made as Lightning Fabric's wrapper."""

    def __init__(self, module: nn.Module, original: nn.Module) -> None:
        super().__init__()
        self._forward_module, self._original_module = module, original


def test_names_have_no_prefixes_of_fabric_or_of_wrappers_inside_and_around_others():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "module": nn.Linear(3, 3)})
    plain = list(redense.prunable(model))
    assert plain == ["a.weight", "module.weight"]
    assert list(redense.prunable(_FabricModule(model, model))) == plain
    parallel = nn.DataParallel(model)
    assert list(redense.prunable(_FabricModule(parallel, model))) == plain
    assert list(redense.prunable(_FabricModule(torch.compile(parallel, backend="eager"), model))) == plain  # pyright: ignore[reportArgumentType]
    inside = nn.ModuleDict({"generator": _FabricModule(parallel, model), "discriminator": nn.DataParallel(model["a"])})
    assert list(redense.prunable(inside)) == ["generator.a.weight", "generator.module.weight"]


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
    assert lines[1].endswith("reads the input: 3 channels")
    assert lines[-4:-1] == [
        "left dense: 216 (78.3%), reads the input: 3 channels",
        "left dense: 12 (4.3%), a bias",
        "left dense: 8 (2.9%), a normalisation",
    ]
    assert lines[-1] == "40 of 276 weights can be pruned (14.5%)"
    assert not any(line != line.rstrip() for line in lines)


def test_a_meta_model_is_summarised_but_refused_by_name_for_pruning():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 3))
    assert redense.summary(model).rows[0].sparsity == 0.0
    with pytest.raises(ParameterError, match=r"'0\.weight' is on the meta device and has no values: load the model"):
        redense.prunable(model)


def test_a_lazy_module_is_refused_until_it_has_its_shape_or_is_excluded():
    model = nn.Sequential(nn.Linear(3, 3), nn.LazyLinear(2))
    with pytest.raises(ParameterError, match=r"'1\.weight' is not initialised yet: run one batch"):
        redense.prunable(model)
    assert list(redense.prunable(model, exclude="1")) == ["0.weight"]
    assert list(redense.prunable(model, include=["0", "1.weight"], exclude="1")) == ["0.weight"]
    with pytest.raises(
        ParameterError, match=r"include '1' matches 2 parameters and selects none \(excluded\): leave it out$"
    ):
        redense.prunable(model, include="1", exclude="1")
    assert [row.name for row in redense.summary(model, exclude="1").rows] == ["0.weight", "0.bias"]
    with pytest.raises(ParameterError, match=r"'1\.bias' is not initialised yet"):
        redense.prunable(model, exclude="1.weight")
    model(torch.ones(1, 3))
    assert list(redense.prunable(model)) == ["0.weight", "1.weight"]


def test_two_parameters_that_only_the_name_of_a_wrapper_tells_apart_are_refused():
    model = nn.Module()
    model.fc, inner = nn.Linear(2, 2), nn.Module()
    inner.fc = nn.Linear(2, 2)
    model._orig_mod = inner
    with pytest.raises(ParameterError, match=r"two parameters .* are 'fc\.weight' .* '_orig_mod\.fc\.weight'"):
        redense.prunable(model)
