"""What each rival does is what its card says: one property each, on one small recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.errors import RecipeError, ScheduleError
from redense.lab.arms import ARMS, Setting, get_arms
from redense.lab.judging.results import decide_rows
from redense.lab.keys import phase_keys
from redense.lab.recipe.optimizers import OPTIMIZERS, optimizer
from redense.lab.recipe.recipe import Recipe
from redense.lab.training.engine import Engine
from redense.lab.training.plan import PlannedPhase, plan
from redense.methods.base import Context, make_method
from redense.tasks.classification.task import Classification

Tiny = Callable[..., Recipe]


def setting_of(recipe: Recipe, seeds: tuple[int, ...] = (0, 1)) -> Setting:
    return Setting(recipe, 11, seeds, str)


def engine_of(name: str, recipe: Recipe, task: Any, **options: Any) -> Engine:
    flow = ARMS[name].make(setting_of(recipe))
    return Engine(task, flow.recipe, flow.phases, **options)


@pytest.fixture(scope="module")
def task(tiny: Tiny) -> Classification:
    recipe = tiny()
    return Classification(recipe.data, recipe.model)


@pytest.fixture(scope="module")
def batch(task: Classification) -> tuple[Tensor, Tensor]:
    return task.examples("train").__getitems__(list(range(8)))


def weights(engine: Engine) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in engine.model.named_parameters()}


def method_of(engine: Engine, index: int) -> tuple[Any, Context]:
    return engine.prepared.method(index), engine.prepared.context(index)


# --- settings that change for a phase ---------------------------------------------------------------------------------


def test_smooth_changes_the_loss_after_the_dense_phase_and_nothing_else(
    tiny: Tiny, task: Classification, batch: tuple[Tensor, Tensor]
):
    engine = engine_of("smooth", tiny(), task)
    engine.model.eval()  # without dropout
    logits = task.outputs(engine.model, batch)
    for index, smoothing in enumerate((0.0, 0.1, 0.1)):
        method, run = method_of(engine, index)
        expected = F.cross_entropy(logits, batch[1], label_smoothing=smoothing)
        torch.testing.assert_close(method.loss(run, engine.model, batch), expected)
    masked = ARMS["dsd-smooth"].make(setting_of(tiny()))
    assert [bool(p.changes) for p in masked.phases] == [False, True, True]
    assert [p.phase for p in masked.phases] == list(setting_of(tiny()).dsd.phases)


def test_decay_is_five_times_the_weight_decay_after_the_dense_phase_and_the_momentum_stays(
    tiny: Tiny, task: Classification
):
    seen: list[tuple[int, float]] = []
    recipe = tiny(training={"optimizer": {"weight_decay": 0.01}})
    engine = engine_of("decay", recipe, task)
    engine.optimizer.register_step_pre_hook(
        lambda own, *_: seen.append((engine.phase_index, own.param_groups[0]["weight_decay"]))
    )
    engine.train()
    before = next(iter(engine.optimizer.state.values()))["momentum_buffer"]
    engine.train()
    assert next(iter(engine.optimizer.state.values()))["momentum_buffer"] is before
    assert set(seen) == {(0, 0.01), (1, 0.05)}
    assert "0.0005 after the dense phase, 0 in it" in ARMS["decay"].make(setting_of(tiny())).note


def test_a_setting_that_changes_to_zero_for_a_phase_is_zero_there_and_the_recipes_own_after_it(
    tiny: Tiny, task: Classification
):
    first, second, third = plan(tiny(training={"optimizer": {"weight_decay": 0.01}}), 11)
    for own, changed in ((0.01, 0.0), (0.0, 0.01)):
        recipe = tiny(training={"optimizer": {"weight_decay": own}})
        changes = {"training": {"optimizer": {"weight_decay": changed, "momentum": 0.0}}}
        engine = Engine(task, recipe, [first, replace(second, changes=changes), third])
        seen: list[tuple[float, float]] = []
        for index in range(3):
            engine.prepared.settle(index)
            seen += [(group["weight_decay"], group["momentum"]) for group in engine.optimizer.param_groups]
        assert seen == [(own, 0.9), (changed, 0.0), (own, 0.9)]


@pytest.mark.parametrize(
    ("arm", "of_rest"),
    [
        ("smooth", ["training.label_smoothing"]),
        ("augment", ["data.augment"]),
        ("gce", ["gce"]),
        ("mixup", ["mixup"]),
        ("decay", []),
        ("lawa", []),
        ("sam", []),
    ],
)
def test_an_epoch_says_what_makes_its_training_loss_another_one(arm: str, of_rest: list[str], tiny: Tiny):
    first, *_, last = ARMS[arm].make(setting_of(tiny())).phases
    assert (first.loss_with, last.loss_with) == ([], of_rest)


def test_augment_changes_training_images_after_the_dense_phase_and_no_others(tiny: Tiny, task: Classification):
    engine = engine_of("augment", tiny(), task)
    changed = engine.prepared.tasks[1]
    assert engine.prepared.tasks[0] is task
    assert changed.examples("test") is task.examples("test")
    plain, other = (one.examples("train") for one in (task, changed))
    seen: list[Tensor] = []
    for seed in (1, 1, 2):
        other.begin_epoch(seed)
        seen.append(other.__getitems__(range(16))[0])
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], plain.__getitems__(range(16))[0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": {"batch_size": 4}}, r"training.batch_size cannot change for one phase"),
        ({"data": {"flipp": True}}, r"data.flipp .* did you mean 'data.flip'"),
        ({"training": {"optimizer": {"name": "adamm"}}}, r"must be one of sgd, adam, .* did you mean 'adam"),
    ],
)
def test_a_change_that_no_phase_can_have_is_refused_by_name(
    changes: dict[str, Any], says: str, tiny: Tiny, task: Classification
):
    first, *rest = plan(tiny(), 11)
    with pytest.raises(RecipeError, match=says):
        Engine(task, tiny(), [first, *(replace(phase, changes=changes) for phase in rest)])


# --- techniques -------------------------------------------------------------------------------------------------------


def test_mixup_is_the_loss_of_mixed_inputs_with_both_labels(batch: tuple[Tensor, Tensor], task: Classification):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(batch[0][0].numel(), 4))
    method, run = make_method("mixup", {"alpha": 1.0}, 3), Context(model, task=task, seed=3)
    inputs: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    loss = method.loss(run, model, batch).detach()
    handle.remove()
    assert len(inputs) == 1  # one pass
    first = inputs[0].flatten(1)
    images = batch[0].flatten(1)
    # One share and one partner fit each mixed image: l x_i + (1 - l) x_j.
    shares = torch.linspace(0, 1, 2001)[:, None, None, None]
    mixtures = shares * images[None, :, None] + (1 - shares) * images[None, None, :]
    distances = (mixtures - first[None, :, None]).square().sum(-1)
    share = distances.min(2).values.sum(1).argmin()
    partner = distances[share].argmin(1)
    found = float(shares[share])
    expected = found * F.cross_entropy(model(inputs[0]), batch[1])
    expected = expected + (1 - found) * F.cross_entropy(model(inputs[0]), batch[1][partner])
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-2, atol=1e-2)
    assert torch.equal(method.loss(run, model, batch).detach(), loss)  # of the same batch
    run.batch_number = 1
    assert not torch.equal(method.loss(run, model, batch).detach(), loss)


@pytest.mark.parametrize("q", [0.3, 1.0])
def test_the_robust_loss_is_one_minus_p_to_the_q_over_q(q: float, batch: tuple[Tensor, Tensor], task: Classification):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(batch[0][0].numel(), 4))
    loss = make_method("gce", {"q": q}, 0).loss(Context(model, task=task), model, batch)
    right = model(batch[0]).softmax(-1)[torch.arange(8), batch[1]]
    torch.testing.assert_close(loss, ((1 - right**q) / q).mean())


def test_lawa_ends_with_the_mean_of_its_latest_checkpoints(tiny: Tiny, task: Classification):
    engine = engine_of("lawa", tiny(), task)
    engine.train()
    engine.train()
    seen: list[dict[str, Tensor]] = []
    engine.optimizer.register_step_post_hook(lambda *_: seen.append(weights(engine)))
    engine.train()
    assert engine.plan[2].options == {"every": 1}  # an eighth of 11 steps
    for name, value in weights(engine).items():
        expected = torch.stack([checkpoint[name] for checkpoint in seen[-6:]]).double().mean(0)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_forget_draws_the_later_layers_anew_and_keeps_the_first(tiny: Tiny, task: Classification):
    engine = engine_of("forget", tiny(), task)
    engine.train()
    before = weights(engine)
    method, run = method_of(engine, 1)
    method.begin(run)
    same = {name for name, value in weights(engine).items() if torch.equal(value, before[name])}
    assert same == {"fc1.weight", "fc1.bias"}
    named = dict(engine.model.named_parameters())
    assert {name for name, value in named.items() if value in engine.optimizer.state} == same
    with pytest.raises(ScheduleError, match="a network of 1 prunable layers has no later ones"):
        make_method("forget", {}, 0).begin(Context(nn.Linear(2, 2), prunable=dict(nn.Linear(2, 2).named_parameters())))


def test_shrink_and_perturb_is_a_part_of_the_old_and_a_part_of_a_new_network(tiny: Tiny, task: Classification):
    engine = engine_of("shrink-perturb", tiny(), task)
    before = weights(engine)
    method, run = method_of(engine, 1)
    new = dict(run.built().named_parameters())
    method.begin(run)
    for name, value in weights(engine).items():
        torch.testing.assert_close(value, 0.4 * before[name] + 0.1 * new[name])


def test_a_born_again_network_is_new_and_its_teacher_is_the_trained_one(tiny: Tiny, task: Classification):
    engine = engine_of("self-distill", tiny(), task)
    engine.train()
    before = weights(engine)
    method, run = method_of(engine, 1)
    method.begin(run)
    assert all(not torch.equal(value, before[name]) for name, value in weights(engine).items())
    (teacher,) = method.state_dict()["teachers"]
    assert all(torch.equal(teacher[name], value) for name, value in before.items())
    assert not engine.optimizer.state
    assert engine.plan[1].steps == 22


def test_early_dropout_falls_to_nothing_in_the_dense_phase_and_stays_off(tiny: Tiny, task: Classification):
    engine = engine_of("early-dropout", tiny(), task)
    rates: list[float] = []
    layer = next(module for module in engine.model.modules() if isinstance(module, nn.Dropout))
    engine.optimizer.register_step_pre_hook(lambda *_: rates.append(round(layer.p, 6)))
    engine.train()
    engine.train()
    assert rates == [*(round(0.2 * (11 - step) / 11, 6) for step in range(11)), *(0.0 for _ in range(11))]
    assert layer.p == 0.2


def test_stochastic_depth_drops_branches_of_random_examples_and_keeps_the_mean():
    torch.manual_seed(0)
    recipe_model = nn.Sequential(_Block(), _Block())
    x = torch.randn(4000, 1, 1, 1)
    run = Context(recipe_model, task=_Sums())
    make_method("depth", {"rate": 0.4}, 0).check(recipe_model, _Sums())
    out = make_method("depth", {"rate": 0.4}, 0).loss(run, recipe_model, x)
    # Each block adds 1: the first is dropped from a fifth of the examples, the second from two fifths.
    added = (out - x).flatten()
    values = {0.0: 0.2 * 0.4, 1.25: 0.8 * 0.4, 1 / 0.6: 0.2 * 0.6, 1.25 + 1 / 0.6: 0.8 * 0.6}
    for value, part in values.items():
        assert float((added - value).abs().lt(1e-3).float().mean()) == pytest.approx(part, abs=0.03)
    assert not any(module._forward_hooks for module in recipe_model.modules())
    with pytest.raises(ScheduleError, match="needs a network of residual blocks"):
        make_method("depth", {}, 0).check(nn.Linear(2, 2), _Sums())


class _Block(nn.Module):
    """A residual block whose branch is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.bn2 = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn2(torch.ones_like(x))


_Block.__name__ = "BasicBlock"


class _Sums:
    name = "sums"

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch)

    def outputs(self, model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch)


# --- flows that branch and join ---------------------------------------------------------------------------------------


def test_a_soup_is_the_mean_of_branches_that_begin_from_the_dense_phase(some_arms: Any):
    store = some_arms.grid.store
    cells = {cell.label: cell for cell in some_arms.grid.cells if cell.seed == 0}
    soup, masked = cells["soup"], cells["dsd-soup"]
    assert soup.keys[0] == cells["dsd"].keys[0]
    ends = [store.state(soup.keys[index])["model"] for index in (2, 4, 6)]
    for name, value in store.state(soup.keys[-1])["model"].items():
        torch.testing.assert_close(value, torch.stack([end[name] for end in ends]).mean(0))
        assert not torch.equal(ends[0][name], ends[1][name])
    assert sum(planned.steps for planned in soup.flow.phases) == 33
    masks = [store.state(masked.keys[index])["masks"]["fc1.weight"]["bits"] for index in (1, 3, 5)]
    assert len({tuple(bits.tolist()) for bits in masks}) == 3
    # A branch begins from the dense phase, not from the branch before it: its masked weights are the dense phase's.
    dense = store.state(soup.keys[0])["model"]
    assert not torch.equal(dense["fc1.weight"], ends[0]["fc1.weight"])
    assert len({*soup.keys, *masked.keys}) == 15
    twin = get_arms(["restart-dsd-soup"])[0].make(setting_of(some_arms.grid.comparison.recipe))
    control = phase_keys(twin.recipe, some_arms.grid.task.fingerprint, twin.phases)
    assert control == phase_keys(soup.flow.recipe, some_arms.grid.task.fingerprint, soup.flow.phases)


def test_a_branch_goes_on_from_its_phase_and_not_from_the_one_before_it(tiny: Tiny, task: Classification):
    first, second, third = plan(tiny(), 11)
    engine = Engine(task, tiny(), [first, second, replace(third, after=0)])
    engine.train()
    dense = weights(engine)
    engine.train()
    starts: list[dict[str, Tensor]] = []
    engine.optimizer.register_step_pre_hook(lambda *_: starts.append(weights(engine)))
    engine.train()
    assert all(torch.equal(starts[0][name], value) for name, value in dense.items())
    with pytest.raises(ScheduleError, match="begins from, or joins, a phase that is not before it"):
        Engine(task, tiny(), [first, replace(second, after=1), third])


def test_an_ensemble_is_the_mean_probability_of_the_dense_networks(some_arms: Any):
    cell = next(cell for cell in some_arms.grid.cells if (cell.label, cell.seed) == ("ensemble", 1))
    dense = [c for c in some_arms.grid.cells if c.label == "baseline"]
    assert cell.flow.phases[1].joins == (dense[1].keys[0], dense[0].keys[0])  # this seed, and the next
    store, task = some_arms.grid.store, some_arms.grid.task
    engine = Engine(task, cell.flow.recipe, cell.flow.phases)
    engine.restore(store.state(cell.keys[-1]))
    engine.model.eval()
    images, _ = task.examples("test").__getitems__(list(range(10)))
    alone: list[Tensor] = []
    for one in dense:
        model = task.build_model().eval()
        model.load_state_dict(store.state(one.keys[0])["model"])
        alone.append(model(images).softmax(-1))
    torch.testing.assert_close(engine.model(images).exp(), torch.stack(alone).mean(0))
    assert "2 networks: 2 times the cost at inference" in cell.flow.note
    rows = some_arms.result["rows"]
    assert {row["arm"] for row in rows if row.get("bound")} == {"ensemble", "batchnorm"}  # other networks at the end
    few = [row for row in rows if row["arm"] in ("baseline", "dsd", "restart", "ensemble")]
    best = [{**row, "seeds": [_perfect(seed) for seed in row["seeds"]]} if row.get("bound") else row for row in few]
    decision = decide_rows(best, some_arms.result["metric"])
    assert decision.deciding == ("restart",)  # not the one that costs twice as much
    assert not decision.conclusions["ensemble"].gain
    with pytest.raises(RecipeError, match="at least two seeds"):
        ARMS["ensemble"].make(setting_of(cell.flow.recipe, seeds=(1,)))


def _perfect(seed: dict[str, Any]) -> dict[str, Any]:
    return {**seed, "test": {"error": 0.0}, "validation": {"error": 0.0}}


# --- other networks and optimizers ------------------------------------------------------------------------------------


def test_batch_normalisation_is_switched(tiny: Tiny, task: Classification):
    plain = tiny()
    on = ARMS["batchnorm"].make(setting_of(plain)).recipe
    assert (plain.model.normalises, on.model.batch_norm) == (False, True)
    network = Classification(on.data, on.model).build_model()
    kinds = [type(module).__name__ for module in network.children()]
    assert kinds == ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    residual = tiny(model={"name": "resnet20", "widths": [4, 4, 4], "dropout": None})
    off = ARMS["batchnorm"].make(setting_of(residual)).recipe
    network = Classification(off.data, off.model).build_model()
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert network(torch.zeros(2, *task.shape)).shape == (2, 4)


def test_muon_has_the_hidden_matrices_and_adam_the_rest(tiny: Tiny):
    recipe = tiny(model={"widths": [8, 6]})
    engine = engine_of("muon", recipe, Classification(recipe.data, recipe.model))
    names = {id(value): name for name, value in engine.model.named_parameters()}
    groups = [{names[id(p)] for p in group["params"]} for group in engine.optimizer.param_groups]
    assert [group["use_muon"] for group in engine.optimizer.param_groups] == [True, False]
    assert groups[0] == {"fc1.weight", "fc2.weight"}
    assert groups[1] == {"fc1.bias", "fc2.bias", "fc3.weight", "fc3.bias"}
    rates: list[list[float]] = []
    engine.optimizer.register_step_pre_hook(lambda own, *_: rates.append([g["lr"] for g in own.param_groups]))
    engine.train()
    assert rates[0] == [pytest.approx(0.02), pytest.approx(3e-4)]


def test_a_schedule_free_network_is_evaluated_and_kept_at_the_average_and_trained_at_the_other(
    tiny: Tiny, task: Classification
):
    recipe = tiny(training={"optimizer": {"name": "schedule-free", "momentum": 0.9}})
    engine = Engine(task, recipe)
    seen: list[dict[str, Tensor]] = []
    own = task.outcome

    def look(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        seen.append({name: value.detach().clone() for name, value in model.named_parameters()})
        return own(model, batch)

    task_seen = replace_outcome(task, look)
    engine = Engine(task_seen, recipe)
    stepped: list[dict[str, Tensor]] = []
    engine.optimizer.register_step_post_hook(lambda *_: stepped.append(weights(engine)))
    engine.train()
    end = weights(engine)
    assert all(torch.equal(seen[-1][name], value) for name, value in end.items())
    assert not torch.equal(stepped[-1]["fc1.weight"], end["fc1.weight"])
    for name, value in engine.model.named_parameters():
        z = engine.optimizer.state[value]["z"]
        torch.testing.assert_close(stepped[-1][name], end[name].lerp(z, 1 - 0.9), rtol=1e-4, atol=1e-6)
    engine.train()  # a sparse phase: the average is as sparse as what is trained
    assert int((engine.model.get_parameter("fc1.weight") == 0).sum()) >= round(0.3 * 512)
    with pytest.raises(RecipeError, match="needs keep last, not best"):
        tiny(training={"keep": "best", "optimizer": {"name": "schedule-free"}})


def replace_outcome(task: Classification, outcome: Any) -> Classification:
    other = task.varied(_Settings(task))
    other.outcome = outcome
    return other


class _Settings:
    def __init__(self, task: Classification) -> None:
        self.data, self.model, self.training = task._data, task._model, self
        self.label_smoothing = 0.0


def test_an_optimizer_of_ones_own_is_taken_by_a_recipe_and_its_code_is_in_the_keys(tiny: Tiny, task: Classification):
    made: list[Any] = []

    @optimizer("own-for-a-test", settings=("momentum",))
    def own(parameters: Any, settings: Any) -> torch.optim.Optimizer:
        made.append(settings.options)
        return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum)

    try:
        recipe = tiny(training={"optimizer": {"name": "own-for-a-test", "options": {"power": 2}}})
        Engine(task, recipe).train()
        assert {"power": 2} in made
        before = phase_keys(recipe, "data", plan(recipe, 11))
        assert before != phase_keys(tiny(training={"optimizer": {"name": "own-for-a-test"}}), "data", plan(recipe, 11))
    finally:
        del OPTIMIZERS["own-for-a-test"]
    with pytest.raises(RecipeError, match="there is an optimizer 'sgd' already"):
        optimizer("sgd")(own)


def test_a_technique_that_needs_targets_is_refused_for_a_task_without(tiny: Tiny):
    with pytest.raises(ScheduleError, match="'mixup' needs the inputs of a batch, and the task 'sums' does not say"):
        make_method("mixup", {}, 0).check(nn.Linear(2, 2), _Sums())
    joined = PlannedPhase(plan(tiny(), 11)[0].phase, joins=(0, "k"), after=0, changes={"data": {"flip": True}})
    assert PlannedPhase.from_dict(joined.to_dict()) == joined


@pytest.mark.parametrize("name", ["dropout", "batchnorm"])
def test_what_a_network_of_anothers_task_does_not_have_cannot_be_switched(name: str):
    recipe = SimpleNamespace(task="own", model=SimpleNamespace())
    with pytest.raises(RecipeError, match="the networks of the task 'own' have no "):
        get_arms([name])[0].make(cast("Any", SimpleNamespace(recipe=recipe)))
