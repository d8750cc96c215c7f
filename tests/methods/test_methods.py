"""Techniques: each trains through the engine, can be interrupted anywhere, and leaves nothing but its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from redense.errors import ScheduleError, StateError
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine, StoppedError, steps_per_epoch
from redense.lab.training.plan import PlannedPhase, plan, schedule
from redense.methods.base import Context, make_method
from redense.methods.dropconnect import DropConnect
from redense.phase import Phase
from redense.pruning import derive_seed
from redense.schedule import Schedule
from redense.tasks.classification.task import Classification
from redense.variants import restarted

Tiny = Callable[..., Recipe]


@dataclass(frozen=True)
class Case:
    """A technique in the middle phase of three."""

    method: str | None
    options: dict[str, Any] = field(default_factory=dict)
    sparse: bool = False
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def reshapes(self) -> bool:
        return self.method == "lowrank"


CASES = {
    "none": Case(None),
    "swa": Case("average", {"kind": "swa", "every": 2, "start": 0.5, "steps": 11}),
    "ema": Case("average", {"kind": "ema", "decay": 0.8}),
    "swa under a mask": Case("average", {"kind": "swa", "every": 3}, sparse=True),
    "distill, itself": Case("distill", {"temperature": 3.0, "mix": 0.7}),
    "distill, ensemble": Case("distill", {"teachers": ["one", "two"]}),
    "distill under a mask, keep best": Case("distill", sparse=True, changes={"training": {"keep": "best"}}),
    "dropconnect": Case("dropconnect", {"rate": 0.3}),
    "jump": Case("jump", {"sparsity": 0.5, "scale": 0.7}),
    "lowrank, energy": Case("lowrank", {"energy": 0.7}),
    "lowrank, rank": Case("lowrank", {"rank": 2}),
    "lowrank under a mask": Case("lowrank", {"ranks": {"fc1": 3}}, sparse=True),
    "release, value": Case("release", {"start": "value"}, sparse=True),
    "release, fresh": Case("release", {"start": "fresh"}, sparse=True),
    "momentum": Case("momentum", sparse=True),
    "momentum, adam": Case("momentum", sparse=True, changes={"training": {"optimizer": {"name": "adam", "lr": 0.01}}}),
    "sam": Case("sam", {"rho": 0.1}),
    "sam now and then": Case("sam", {"every": 4}),
    "born again": Case("born-again"),
    "depth": Case(
        "depth", {"rate": 0.5}, changes={"model": {"name": "resnet20", "widths": [4, 4, 4], "dropout": None}}
    ),
    "dropout": Case("dropout", {"first": 0.9}),
    "forget": Case("forget"),
    "gce": Case("gce", {"q": 0.5}),
    "latest": Case("latest", {"every": 3, "last": 2}),
    "mixup": Case("mixup", {"alpha": 1.0}),
    "shrink": Case("shrink"),
    "sam, adam": Case("sam", changes={"training": {"optimizer": {"name": "adam", "lr": 0.01}}}),
    "distill, accumulate": Case("distill", changes={"training": {"batch_size": 16, "accumulate": 2}}),
    "distill, bf16": Case("distill", changes={"training": {"precision": "bf16"}}),
    "dropconnect, cnn": Case("dropconnect", changes={"model": {"name": "cnn", "widths": [4, 6]}}),
}
each = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
OTHERWISE = ("momentum, adam", "sam, adam", "distill, bf16", "dropconnect, cnn", "depth", "gce", "mixup", "shrink")
"""They change what an interrupted phase must save; the other questions they are asked by the slow tests."""
each_method = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=[pytest.mark.slow] if name in OTHERWISE else [])
        for name, case in CASES.items()
        if case.method
    ],
)


def make_task(recipe: Recipe) -> Classification:
    return Classification(recipe.data, recipe.model, label_smoothing=recipe.training.label_smoothing)


def engine_of(recipe: Recipe, case: Case, **hooks: Any) -> Engine:
    task = make_task(recipe)
    first, second, last = plan(recipe, steps_per_epoch(task, recipe))
    middle = second.phase if case.sparse else restarted_middle(recipe, task)
    phases = (first, PlannedPhase(middle, case.method, case.options), last)
    teachers: dict[str, dict[str, Tensor]] = {}

    def resolve(key: str) -> dict[str, Tensor]:
        if not teachers:
            for seed, name in enumerate(("one", "two")):
                torch.manual_seed(seed)
                teachers[name] = task.build_model().state_dict()
        return teachers[key]

    return Engine(task, recipe, phases, resolve=resolve, **hooks)


def restarted_middle(recipe: Recipe, task: Classification) -> Phase:
    return restarted(schedule(recipe, steps_per_epoch(task, recipe))).phases[1]


def train_all(engine: Engine) -> None:
    while engine.phase_index < len(engine.plan):
        engine.train()


def same_tree(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_tree, a, b))
    return a == b


def ending(engine: Engine, events: list[dict[str, Any]]) -> dict[str, Any]:
    """All that a training ends with, but the clock."""
    measured = [{k: v for k, v in e.items() if k != "seconds"} for e in events if e["kind"] in ("step", "epoch")]
    state = engine.snapshot()
    return {"state": {k: state[k] for k in ("model", "optimizer", "masks", "reshaped")}, "events": measured}


def weights_of(engine: Engine) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in engine.model.state_dict().items()}


def resumed(recipe: Recipe, case: Case, path: Path, events: list[dict[str, Any]], *, stop_at: int) -> Engine:
    """A new engine that goes on with what is saved."""
    torch.manual_seed(99)  # whatever the process did before must not matter
    save = lambda state: save_tree(path, state)  # noqa: E731
    engine = engine_of(recipe, case, emit=events.append, stop=lambda: engine.step >= stop_at, save=save)
    if path.exists():
        engine.restore(load_tree(path))
    return engine


# --- through the engine ---------------------------------------------------------------------------------------------


@each
def test_an_interrupted_phase_ends_with_the_same_bits(case: Case, tiny: Tiny, tmp_path: Path):
    recipe, path = tiny(**case.changes), tmp_path / "last.safetensors"
    expected: list[dict[str, Any]] = []
    straight = engine_of(recipe, case, emit=expected.append)
    train_all(straight)

    events: list[dict[str, Any]] = []
    # After the first step of the technique's phase, inside it, and after its last step but before its end.
    for at in (12, 18, 22):
        engine = resumed(recipe, case, path, events, stop_at=at)
        with pytest.raises(StoppedError):
            train_all(engine)
        assert engine.step == at
    engine = resumed(recipe, case, path, events, stop_at=1000)
    train_all(engine)
    assert same_tree(ending(engine, events), ending(straight, expected))


@each_method
def test_a_method_makes_a_difference_and_leaves_nothing_behind(case: Case, tiny: Tiny):
    recipe = tiny(**case.changes)
    plain, engine = engine_of(recipe, replace(case, method=None, options={})), engine_of(recipe, case)
    fresh = engine_of(recipe, case)
    train_all(plain)
    model = engine.model
    engine.train()
    before = weights_of(engine)
    engine.train()
    middle = weights_of(engine)
    train_all(engine)

    if case.reshapes:
        assert sum(w.numel() for w in middle.values()) < sum(w.numel() for w in before.values())
    else:
        assert engine.model is model
        assert list(weights_of(engine)) == list(weights_of(plain))
        assert any(
            not torch.equal(a, b) for a, b in zip(weights_of(engine).values(), weights_of(plain).values(), strict=True)
        )
        assert [type(m) for m in model.modules()] == [type(m) for m in fresh.model.modules()]
        assert [name for name, _ in model.named_buffers()] == [name for name, _ in fresh.model.named_buffers()]
    for module in engine.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not hasattr(module, "parametrizations")
    assert all(parameter.requires_grad for parameter in engine.model.parameters())
    assert all(torch.isfinite(weight).all() for weight in weights_of(engine).values())
    for group, clean in zip(engine.optimizer.param_groups, plain.optimizer.param_groups, strict=True):
        assert set(group) == set(clean)
        assert {k: v for k, v in group.items() if k != "params"} == {k: v for k, v in clean.items() if k != "params"}
    states = [set(state) for state in engine.optimizer.state_dict()["state"].values()]
    expected = [set(state) for state in plain.optimizer.state_dict()["state"].values()]
    assert states
    assert all(state == expected[0] for state in states)
    assert not engine.optimizer._optimizer_step_post_hooks
    assert not engine.optimizer._optimizer_step_pre_hooks


@each_method
def test_a_step_takes_as_many_gradients_as_the_method_says(case: Case, tiny: Tiny):
    engine = engine_of(tiny(**case.changes), case)
    engine.train()
    counted = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal counted
        counted += torch.is_grad_enabled()

    # On a layer that every technique keeps; a deep copy of the model has the hook too, but takes no gradient.
    kept = next(m for m in engine.model.modules() if isinstance(m, nn.ReLU | nn.BatchNorm2d))
    handle = kept.register_forward_hook(count)
    try:
        engine.train()
    finally:
        handle.remove()
    training = engine.recipe.training
    expected = make_method(case.method, case.options, 0).gradient_evaluations * training.accumulate
    # A technique of every so many steps begins with one.
    assert counted == math.ceil(engine.plan[1].phase.steps * expected)


@each_method
def test_evaluation_in_a_phase_is_that_of_the_plain_model(case: Case, tiny: Tiny):
    """What the technique does in training must not reach the figures."""
    events: list[dict[str, Any]] = []
    engine = engine_of(tiny(**case.changes), case, emit=events.append)
    engine.train()
    seen: list[dict[str, float]] = []
    own = engine.evaluate

    def evaluate(split: Any) -> dict[str, float]:
        seen.append(own(split))
        assert own(split) == seen[-1]  # nothing random
        return seen[-1]

    engine.evaluate = evaluate
    engine.train()
    if engine.recipe.training.keep == "best":
        del seen[0]  # of where the phase began
    assert [e["validation"] for e in events if e["kind"] == "epoch" and e["phase_index"] == 1] == seen


def test_an_unknown_method_or_option_is_refused_before_anything_is_trained(tiny: Tiny):
    with pytest.raises(ScheduleError, match=r"unknown technique 'distil'; did you mean 'distill'\?"):
        engine_of(tiny(), Case("distil"))
    with pytest.raises(ScheduleError, match=r"unknown option 'temprature' of method 'distill'; did you mean"):
        engine_of(tiny(), Case("distill", {"temprature": 2}))


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("average", {"kind": "mean"}, "'swa' or 'ema', got 'mean'"),
        ("release", {"start": "zero"}, "'value' or 'fresh', got 'zero'"),
        ("lowrank", {"energy": 1.5}, r"in \(0, 1\], got 1.5"),
    ],
)
def test_an_impossible_option_is_refused_by_name(method: str, options: dict[str, Any], says: str, tiny: Tiny):
    engine = engine_of(tiny(), Case(method, options))
    engine.train()
    with pytest.raises(ScheduleError, match=says):
        engine.train()


def test_a_teacher_that_is_in_no_store_is_named():
    method = make_method("distill", {"teachers": ["abc"]}, 0)
    with pytest.raises(StateError, match=r"phase abc is not in a store here.*redense compare"):
        method.begin(Context(nn.Linear(2, 2)))


# --- averaging ------------------------------------------------------------------------------------------------------


def steps_of(engine: Engine) -> list[dict[str, Tensor]]:
    """Record the weights after every optimizer step from now on."""
    seen: list[dict[str, Tensor]] = []
    engine.optimizer.register_step_post_hook(lambda *_: seen.append(weights_of(engine)))
    return seen


def test_swa_is_the_mean_of_the_weights_at_its_steps(tiny: Tiny):
    engine = engine_of(tiny(), CASES["swa"])
    engine.train()
    seen = steps_of(engine)
    engine.train()
    assert len(seen) == 11
    taken = [seen[i] for i in (7, 9)]  # every second step of those from 5.5 on
    for name, weight in engine.model.state_dict().items():
        expected = (taken[0][name].double() + taken[1][name].double()) / 2
        torch.testing.assert_close(weight.double(), expected, rtol=1e-6, atol=1e-7)


def test_ema_is_the_moving_average_of_the_weights_at_every_step(tiny: Tiny):
    engine = engine_of(tiny(), CASES["ema"])
    engine.train()
    seen = steps_of(engine)
    engine.train()
    for name, weight in engine.model.state_dict().items():
        expected = seen[0][name].double()
        for step in seen[1:]:
            expected = 0.8 * expected + 0.2 * step[name].double()
        torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-7)


def test_an_average_of_nothing_keeps_the_weights_and_one_under_a_mask_stays_sparse(tiny: Tiny):
    engine = engine_of(tiny(), Case("average", {"kind": "swa", "every": 100}))
    engine.train()
    seen = steps_of(engine)
    engine.train()
    assert same_tree(dict(engine.model.state_dict()), seen[-1])
    masked = engine_of(tiny(), CASES["swa under a mask"])
    masked.train()
    masked.train()
    assert int((masked.model.get_parameter("fc1.weight") == 0).sum()) == round(0.3 * 512)


def test_the_statistics_of_batch_normalisation_are_those_of_the_average():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    weight = model.get_parameter("0.weight")
    method = make_method("average", {"kind": "swa"}, 0)
    batches = [(torch.randn(8, 3), torch.zeros(8)) for _ in range(4)]
    run = Context(model, batches=lambda: iter(batches))
    method.begin(run)
    for run.step, value in enumerate((1.0, 3.0), start=1):
        weight.data.fill_(value)
        method.after_step(run)
    method.finish(run)
    assert torch.equal(weight, torch.full((2, 3), 2.0))
    inputs = torch.stack([batch @ weight.detach().T for batch, _ in batches])
    buffers = dict(model.named_buffers())
    torch.testing.assert_close(buffers["1.running_mean"], inputs.mean((0, 1)))
    torch.testing.assert_close(buffers["1.running_var"], inputs.var(1).mean(0))


# --- distillation ---------------------------------------------------------------------------------------------------


class Pairs:
    """A task of inputs and classes."""

    name = "pairs"

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0])

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    def inputs(self, batch: Any) -> Tensor:
        return batch[0]

    def targets(self, batch: Any) -> Tensor:
        return batch[1]

    def replaced(self, batch: Any, inputs: Tensor, targets: Tensor | None = None) -> Any:
        return inputs, batch[1] if targets is None else targets


@pytest.mark.parametrize("teachers", [1, 3])
def test_the_soft_loss_is_t_squared_times_the_divergence_written_out(teachers: int):
    torch.manual_seed(0)
    T, mix = 2.5, 0.3
    student = nn.Linear(4, 3)
    states = {str(i): nn.Linear(4, 3).state_dict() for i in range(teachers)}
    method = make_method("distill", {"temperature": T, "mix": mix, "teachers": list(states)}, 0)
    run = Context(student, task=Pairs(), stored=states.__getitem__)
    method.begin(run)
    x, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    loss = method.loss(run, student, (x, labels))
    gradient, value = torch.autograd.grad(loss, student.weight)[0], float(loss.detach())

    def logits(state: dict[str, Tensor], row: int) -> list[float]:
        weight, bias = state["weight"].tolist(), state["bias"].tolist()
        return [sum(w * v for w, v in zip(weight[k], x[row].tolist(), strict=True)) + bias[k] for k in range(3)]

    def softmax(values: list[float], temperature: float) -> list[float]:
        powers = [math.exp(v / temperature) for v in values]
        return [p / sum(powers) for p in powers]

    own, expected = {k: v.detach() for k, v in student.state_dict().items()}, 0.0
    by_hand = torch.zeros(3, 4, dtype=torch.float64)
    for row in range(5):
        each_teacher = [softmax(logits(state, row), T) for state in states.values()]
        p = [sum(column) / teachers for column in zip(*each_teacher, strict=True)]
        q, q1 = softmax(logits(own, row), T), softmax(logits(own, row), 1.0)
        divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        expected += ((1 - mix) * -math.log(q1[int(labels[row])]) + mix * T**2 * divergence) / 5
        for k in range(3):  # d/dz of the cross-entropy is q - y, of the soft part T (q_T - p_T)
            slope = (1 - mix) * (q1[k] - (int(labels[row]) == k)) + mix * T * (q[k] - p[k])
            by_hand[k] += slope * x[row].double() / 5
    assert value == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient.double(), by_hand, rtol=1e-4, atol=1e-6)


def test_the_teacher_is_the_model_before_the_phase_and_does_not_learn_or_drop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    before = copy.deepcopy(model.state_dict())
    method, run = make_method("distill", {"mix": 1.0, "temperature": 1.0}, 0), Context(model, task=Pairs())
    method.begin(run)
    model.eval()
    batch = (torch.randn(6, 4), torch.zeros(6, dtype=torch.long))
    agreed = method.loss(run, model, batch)
    assert float(agreed.detach()) == pytest.approx(0.0, abs=1e-6)  # it agrees with itself
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(-2.0)
    first, second = (method.loss(run, model, batch).detach() for _ in range(2))
    assert float(first) > 1e-3
    assert float(first) == float(second)
    (state,) = method.state_dict()["teachers"]
    assert same_tree(dict(state), dict(before))
    assert not any(value.requires_grad for value in state.values())


def test_both_losses_are_of_one_forward_pass_with_one_draw_of_dropout():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    method = make_method("distill", {"mix": 0.5}, 0)
    method.begin(Context(model))
    seen: list[Tensor] = []
    batch = (torch.randn(6, 4), torch.zeros(6, dtype=torch.long))

    class Looking(Pairs):
        @override
        def outputs(self, model: nn.Module, batch: Any) -> Tensor:
            seen.extend([model(batch[0])] if torch.is_grad_enabled() else [])
            return super().outputs(model, batch)

        @override
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            seen.append(model(batch[0]))
            return super().loss(model, batch)

    method.loss(Context(model, task=Looking()), model, batch)
    assert len(seen) == 2
    assert seen[0] is seen[1]


# --- DropConnect ----------------------------------------------------------------------------------------------------


def dropped_once(model: nn.Module, rate: float) -> Tensor:
    """The weights of the one linear layer of ``model`` as a training pass sees them: (in, out)."""
    size = next(model.parameters()).shape[1]
    seen: list[Tensor] = []

    class Looking(Pairs):
        @override
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            seen.append(model(torch.eye(size)).detach())
            return seen[-1].sum()

    DropConnect({"rate": rate}, 0).loss(Context(model, task=Looking()), model, None)
    return seen[0]


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropconnect_drops_about_the_rate_and_scales_what_is_left(rate: float):
    torch.manual_seed(0)
    model = nn.Linear(200, 200, bias=False)
    weight = model.weight.detach().T.clone()
    first, second = dropped_once(model, rate), dropped_once(model, rate)
    assert float((first == 0).float().mean()) == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / 40_000))
    kept = first != 0
    torch.testing.assert_close(first[kept], weight[kept] / (1 - rate))
    assert not torch.equal(first == 0, second == 0)
    assert torch.equal(model.weight.T, weight)
    assert torch.equal(model(torch.eye(200)), weight)  # called as usual, it is as it was


def test_dropconnect_leaves_biases_and_convolutions_alone_and_dropped_weights_get_no_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(18, 50))
    x = torch.randn(3, 1, 4, 4)
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    plain = model(x)

    class Sum(Pairs):
        @override
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return model(batch[0]).sum()

    loss = DropConnect({"rate": 0.5}, 0).loss(Context(model, task=Sum()), model, (x,))
    loss.backward()
    assert torch.equal(seen[0], seen[1])
    gradient = model.get_parameter("2.weight").grad
    assert gradient is not None
    assert 0.4 < float((gradient == 0).float().mean()) < 0.6
    bias = model.get_parameter("2.bias").grad
    assert bias is not None
    assert torch.equal(bias, torch.full((50,), 3.0))
    assert not torch.equal(loss.detach(), plain.sum())


# --- the jump of annealing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sparsity", "scale"), [(0.3, 1.0), (0.5, 0.5), (0.0, 1.0)])
def test_a_jump_is_as_large_as_what_pruning_would_remove(sparsity: float, scale: float):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 7))
    weights = {name: p for name, p in model.named_parameters() if name.endswith("weight")}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    make_method("jump", {"sparsity": sparsity, "scale": scale}, 7).begin(Context(model, prunable=weights))
    assert torch.equal(torch.get_rng_state(), state)
    directions: list[Tensor] = []
    for name, parameter in model.named_parameters():
        step = parameter.detach() - before[name]
        if name not in weights:
            assert not step.any()
            continue
        smallest = before[name].abs().flatten().double().sort().values[: round(sparsity * step.numel())]
        assert float(step.double().norm()) == pytest.approx(scale * float(smallest.norm()), rel=1e-4)
        directions.append(step.flatten()[:100])
    if sparsity:
        assert abs(float(torch.cosine_similarity(directions[0], directions[1], dim=0))) < 0.5

    again = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 7))
    for seed, same in ((7, True), (8, sparsity == 0)):
        again.load_state_dict(before)
        own = {name: p for name, p in again.named_parameters() if name in weights}
        make_method("jump", {"sparsity": sparsity, "scale": scale}, seed).begin(Context(again, prunable=own))
        assert torch.equal(again.get_parameter("0.weight"), model.get_parameter("0.weight")) == same


# --- low rank -------------------------------------------------------------------------------------------------------


def linear_of(values: list[float], inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with these singular values."""
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(outputs, len(values), dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(inputs, len(values), dtype=torch.float64))
    linear = nn.Linear(inputs, outputs)
    with torch.no_grad():
        linear.weight.copy_(u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T)
    return linear


def product(model: nn.Module) -> Tensor:
    return (model.get_parameter("fc.up.weight") @ model.get_parameter("fc.down.weight")).detach()


def named(linear: nn.Linear) -> nn.Module:
    model = nn.Sequential()
    model.add_module("fc", linear)
    return model


@pytest.mark.parametrize("options", [{"rank": 3}, {"energy": 0.9999}, {"ranks": {"fc": 3}, "rank": 1}])
def test_a_matrix_of_low_rank_is_reproduced_exactly_with_t_times_n_plus_k_weights(options: dict[str, Any]):
    linear = linear_of([5.0, 3.0, 1.0], inputs=20, outputs=12)
    x, weight, bias = torch.randn(6, 20), linear.weight.detach().clone(), linear.bias.detach().clone()
    model, made = make_method("lowrank", options, 0).reshape(Context(linear), named(linear))
    assert made == {"fc": 3}
    torch.testing.assert_close(product(model), weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(x), F.linear(x, weight, bias), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) == 3 * (20 + 12) + 12


# The energies of 5, 3 and 1 are 25, 34 and 35 of 35.
@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.71, 1), (0.72, 2), (0.97, 2), (0.98, 3)])
def test_the_rank_is_the_smallest_that_keeps_the_energy(energy: float, rank: int):
    linear = linear_of([5.0, 3.0, 1.0], inputs=20, outputs=12)
    weight = linear.weight.detach().clone()
    model, made = make_method("lowrank", {"energy": energy}, 0).reshape(Context(linear), named(linear))
    assert made == {"fc": rank}
    lost = float((weight - product(model)).square().sum())
    assert lost == pytest.approx(sum([25.0, 9.0, 1.0][rank:]), abs=1e-3)  # Eckart and Young: the best of this rank


def test_a_layer_is_only_replaced_where_that_saves_weights():
    linear = linear_of([5.0, 3.0, 1.0], inputs=20, outputs=12)
    _, made = make_method("lowrank", {"rank": 8}, 0).reshape(
        Context(linear), named(linear)
    )  # 8 * 32 > 20 * 12 > 7 * 32
    assert made is None
    assert make_method("lowrank", {"rank": 7}, 0).reshape(Context(linear), named(linear))[1] == {"fc": 7}


def test_what_was_made_is_made_again_from_a_fresh_model(tiny: Tiny, tmp_path: Path):
    case = CASES["lowrank, energy"]
    first = engine_of(tiny(), case)
    first.train()
    first.train()
    second = engine_of(tiny(), case)
    save_tree(tmp_path / "first.safetensors", first.snapshot())
    second.restore(load_tree(tmp_path / "first.safetensors"))
    assert same_tree(weights_of(first), weights_of(second))
    assert same_tree(first.outcome("test"), second.outcome("test"))
    train_all(first)
    train_all(second)
    assert same_tree(weights_of(first), weights_of(second))


def test_a_low_rank_that_saves_nothing_changes_nothing(tiny: Tiny):
    """Not even the optimizer: it would start anew for no reason."""
    case = Case("lowrank", {"rank": 100})
    engine, plain = engine_of(tiny(), case), engine_of(tiny(), Case(None))
    train_all(engine)
    train_all(plain)
    assert same_tree(weights_of(engine), weights_of(plain))


# --- release --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["value", "fresh"])
def test_released_weights_start_from_exactly_the_value_asked_for_and_kept_ones_stay(start: str, tiny: Tiny):
    recipe = tiny()
    engine, zero = (engine_of(recipe, case) for case in (CASES[f"release, {start}"], Case(None, sparse=True)))
    for each_engine in (engine, zero):
        each_engine.train()
    before = weights_of(engine)
    for each_engine in (engine, zero):
        each_engine.train()
    seed = derive_seed(recipe.seed, 1, "method")
    torch.manual_seed(seed)
    fresh = {"fc1.weight": nn.Linear(64, 8), "fc2.weight": nn.Linear(8, 4)}  # in the order of the model
    for name, module in fresh.items():
        mask = zero.model.get_parameter(name) != 0
        assert int((~mask).sum()) == round(0.3 * mask.numel())
        weight = engine.model.get_parameter(name).detach()
        assert torch.equal(weight[mask], zero.model.get_parameter(name).detach()[mask])
        expected = before[name] if start == "value" else module.weight.detach()
        assert torch.equal(weight[~mask], expected[~mask])
        momentum = engine.optimizer.state[engine.model.get_parameter(name)]["momentum_buffer"]
        assert not momentum[~mask].any()
    assert torch.equal(engine.model.get_parameter("fc1.bias"), zero.model.get_parameter("fc1.bias"))


# --- sharpness-aware minimisation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", [None, False, True])
def test_sam_steps_with_the_gradient_at_the_climbed_point(foreach: bool | None):
    slopes, w0, lr, rho = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([1.0, -2.0, 0.5]), 0.01, 0.2
    weight = nn.Parameter(w0.clone())
    optimizer = torch.optim.SGD([weight], lr=lr, momentum=0.9, foreach=foreach)
    places: list[Tensor] = []

    def gradient() -> None:
        optimizer.zero_grad()
        places.append(weight.detach().clone())
        (0.5 * slopes * weight.square()).sum().backward()

    method, run = make_method("sam", {"rho": rho}, 0), Context(nn.Module())
    groups = [set(group) for group in optimizer.param_groups]
    velocity = torch.zeros(3)
    for _ in range(3):
        start = weight.detach().clone()
        gradient()
        method.step(run, optimizer, gradient)
        g = slopes * start
        climbed = start + rho * g / g.norm()
        torch.testing.assert_close(places[-1], climbed)
        velocity = 0.9 * velocity + slopes * climbed
        torch.testing.assert_close(weight.detach(), start - lr * velocity, rtol=1e-5, atol=1e-6)
        assert [set(group) for group in optimizer.param_groups] == groups
        assert set(optimizer.state[weight]) == {"momentum_buffer"}
    assert len(places) == 2 * 3
    assert method.gradient_evaluations == 2


def test_sam_of_several_batches_a_step_is_sam_of_their_union(tiny: Tiny):
    """The second gradient is that of all batches of the step, as the first is."""
    ends: list[dict[str, Tensor]] = []
    for training in ({}, {"batch_size": 16, "accumulate": 2}):
        # One after the other: Accelerate keeps the accumulation of a process, not of an engine.
        engine = engine_of(tiny(model={"dropout": 0.0}, training=training), CASES["sam"])
        engine.train()
        engine.train()
        ends.append(weights_of(engine))
    for name, weight in ends[0].items():
        torch.testing.assert_close(weight, ends[1][name], rtol=1e-4, atol=1e-5)


# --- momentum kept under the mask ------------------------------------------------------------------------------------


def test_kept_momentum_is_that_of_a_loop_that_multiplies_the_weights_by_the_mask_and_no_more(tiny: Tiny):
    recipe = tiny(model={"dropout": 0.0})
    engine, cleared = engine_of(recipe, CASES["momentum"]), engine_of(recipe, Case(None, sparse=True))
    for trained in (engine, cleared):
        trained.train()
        trained.train()
    for name, weight in weights_of(engine).items():  # under the mask nothing of it is seen
        assert torch.equal(weight, weights_of(cleared)[name])
    by_hand = engine_of(recipe, Case(None, sparse=True))
    by_hand.train()
    velocity: dict[str, Tensor] = {}
    masks = {name: engine.progress.masks[name] for name in engine.progress.masks}
    named = dict(by_hand.model.named_parameters())
    for name, weight in named.items():
        velocity[name] = by_hand.optimizer.state[weight]["momentum_buffer"].clone()
        if name in masks:
            weight.data.mul_(masks[name])
            velocity[name].mul_(masks[name])
    torch.manual_seed(derive_seed(recipe.seed, 1, "phase"))
    phase = engine.plan[1].phase
    by_hand.model.train()
    for step, (images, labels) in enumerate(by_hand._feed.batches(1, 0, 0, phase.steps)):
        by_hand.model.zero_grad()
        torch.nn.functional.cross_entropy(by_hand.model(images), labels).backward()
        lr = recipe.training.optimizer.lr * Schedule((phase,)).lr_factor(step)
        for name, weight in named.items():
            assert weight.grad is not None
            velocity[name] = 0.9 * velocity[name] + weight.grad
            weight.data.add_(velocity[name], alpha=-lr)
            if name in masks:
                weight.data.mul_(masks[name])
    for name, weight in engine.model.named_parameters():
        kept = engine.optimizer.state[weight]["momentum_buffer"]
        torch.testing.assert_close(kept, velocity[name], rtol=1e-4, atol=1e-6)
        if name in masks:
            assert kept[~masks[name]].abs().max() > 0
            assert not cleared.optimizer.state[cleared.model.get_parameter(name)]["momentum_buffer"][~masks[name]].any()
