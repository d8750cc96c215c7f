"""LoRA of peft: what is pruned, what stays, and three phases that leave nothing but other numbers in the adapter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense import Schedule
from redense.errors import ScoreError
from redense.optional.torchvision import make_importable

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # peft's and transformers' own warnings

make_importable()
peft: Any = pytest.importorskip("peft")


def plain() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 4)), torch.randn(8, 12)


def pictures() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Flatten(), nn.Linear(128, 4)]
    return nn.Sequential(*layers), torch.randn(8, 1, 4, 4)


def words() -> tuple[nn.Module, Tensor]:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config), torch.randint(0, 32, (4, 8))


CASES: dict[str, tuple[Callable[[], tuple[nn.Module, Tensor]], dict[str, Any]]] = {
    "linear": (plain, {"target_modules": ["0", "2"], "modules_to_save": ["3"]}),
    "dora": (plain, {"target_modules": ["0", "2"], "use_dora": True}),
    "rank-stabilised, dropout": (plain, {"target_modules": ["2"], "use_rslora": True, "lora_dropout": 0.1}),
    "convolutions": (pictures, {"target_modules": ["1", "3"]}),
    "gpt-2": (words, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
}


def looked_up() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(20, 16), nn.Flatten(), nn.Linear(64, 4)), torch.randint(0, 20, (8, 4))


SCHEDULE = Schedule.dsd(dense=3, sparse=4, redense=3, sparsity=0.4)


def made(case: str) -> tuple[Any, torch.optim.Optimizer, Tensor]:
    make, how = CASES[case]
    base, inputs = make()
    torch.manual_seed(1)
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, **how))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, torch.optim.AdamW(trained, lr=0.01), inputs


def step(model: Any, optimizer: torch.optim.Optimizer, inputs: Tensor) -> None:
    out = model(inputs)
    (getattr(out, "logits", out)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("case", CASES)
def test_the_adapter_is_trained_in_three_phases_and_the_network_under_it_stays(case: str):
    model, optimizer, inputs = made(case)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    chosen = redense.prunable(model)
    assert chosen
    assert all("lora_" in name or "modules_to_save" in name for name in chosen)
    assert {name for name in chosen if "lora_B" in name}
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for number in range(SCHEDULE.total_steps):
        step(model, optimizer, inputs)
        if 3 <= number < 6:  # the masks are in force
            for name, parameter in chosen.items():
                assert int((parameter == 0).sum()) == round(0.4 * parameter.numel()), name
    assert dsd.phase is None
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in frozen)
    assert all(int((parameter == 0).sum()) == 0 for parameter in chosen.values())


@pytest.mark.parametrize("case", CASES)
def test_a_new_adapter_is_refused_where_a_phase_prunes_at_once_and_nothing_is_changed(case: str):
    model, optimizer, _ = made(case)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ScoreError, match=r"lora_B.default.weight' is all zeros"):
        redense.DSD(model, optimizer, Schedule.dsd(dense=0, sparse=4, redense=3, sparsity=0.4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["LoRA on an embedding", "AdaLoRA"])
def test_matrices_that_peft_keeps_by_adapter_are_pruned_and_what_is_looked_up_is_not(kind: str):
    if kind == "AdaLoRA":
        (base, inputs), prefix, own = plain(), "lora", ("0", "2")
        config = peft.AdaLoraConfig(init_r=4, target_r=2, total_step=100, target_modules=list(own))
        expected = {f"base_model.model.{layer}.lora_{side}.default" for layer in own for side in "AB"}
    else:
        (base, inputs), prefix = looked_up(), "lora_embedding"
        config = peft.LoraConfig(r=4, target_modules=["0"], init_lora_weights=False)
        expected = {"base_model.model.0.lora_embedding_B.default"}
    model = peft.get_peft_model(base, config)
    chosen = redense.prunable(model)
    assert set(chosen) == expected
    reasons = {row.name: row.reason for row in redense.summary(model).rows if f".{prefix}_" in row.name}
    assert {reasons[name] for name in expected} == {"linear"}
    if kind != "AdaLoRA":
        assert reasons["base_model.model.0.lora_embedding_A.default"] == "an embedding"
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.01)
    redense.DSD(model, optimizer, SCHEDULE)
    for number in range(SCHEDULE.total_steps):
        step(model, optimizer, inputs)
        if 3 <= number < 6:
            assert all(int((one == 0).sum()) == round(0.4 * one.numel()) for one in chosen.values())
    assert all(int((one == 0).sum()) == 0 for one in chosen.values())


def test_a_resumed_adapter_ends_with_the_bits_of_one_that_was_not_stopped():
    whole, optimizer, inputs = made("linear")
    redense.DSD(whole, optimizer, SCHEDULE)
    for _ in range(SCHEDULE.total_steps):
        step(whole, optimizer, inputs)
    model, optimizer, inputs = made("linear")
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    for _ in range(5):
        step(model, optimizer, inputs)
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict(), dsd.state_dict()))
    dsd.close()
    again, optimizer, inputs = made("linear")
    again.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    redense.DSD(again, optimizer, SCHEDULE).load_state_dict(kept[2])
    for _ in range(5):
        step(again, optimizer, inputs)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in again.state_dict().items())


def test_what_peft_does_with_an_adapter_it_does_after_three_phases():
    base, inputs = plain()
    plainly = base(inputs)
    model, optimizer, _ = made("dora")
    with model.disable_adapter():
        assert torch.equal(model(inputs), plainly)
    redense.DSD(model, optimizer, SCHEDULE)
    for _ in range(SCHEDULE.total_steps):
        step(model, optimizer, inputs)
    answers = model(inputs)
    assert not torch.allclose(answers, plainly)
    assert all("lora_" in name for name in peft.get_peft_model_state_dict(model))
    merged = model.merge_and_unload()
    assert [name for name, _ in merged.named_parameters()] == [name for name, _ in base.named_parameters()]
    torch.testing.assert_close(merged(inputs), answers)


def test_the_network_under_an_adapter_is_pruned_where_it_is_trained_and_named():
    model, _, inputs = made("linear")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("base_layer.weight" in name or "lora_" in name)
    chosen = redense.prunable(model, include=["*.base_layer.weight"])
    assert sorted(chosen) == ["base_model.model.0.base_layer.weight", "base_model.model.2.base_layer.weight"]
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.01)
    with redense.sparse(model, optimizer, sparsity=0.5, include=["*.base_layer.weight"]):
        step(model, optimizer, inputs)
        assert all(int((parameter == 0).sum()) == parameter.numel() // 2 for parameter in chosen.values())
