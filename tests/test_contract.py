"""One table of models by optimizers: rules 1 to 4 of the design hold for each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import redense
from redense import Schedule
from redense.holding.states.neutral import Neutrals, State

SPARSITY = 0.4
DEVICE = torch.device("cpu")  # tests/test_cuda.py asks the same of a GPU


# --- models ---------------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.recurrent = cell(5, 6, num_layers=2, batch_first=True, bidirectional=True)  # pyright: ignore[reportCallIssue]
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.recurrent(x)[0].mean(1))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.one = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out((x + self.two(self.one(x))).relu().mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = x.split([4, 3, 5], dim=-1)
        return self.out(self.attention(query, key, value)[0].mean(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 6)
        self.decode = nn.Linear(6, 6)
        self.decode.weight = self.encode.weight
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.decode(self.encode(x).relu()))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def transformer() -> nn.Module:
    block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    return nn.Sequential(block, nn.Flatten(), nn.Linear(24, 3))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], torch.dtype]] = {
    "mlp": (mlp, (4, 6), torch.float32),
    "mlp-bf16": (mlp, (4, 6), torch.bfloat16),
    "mlp-fp64": (mlp, (4, 6), torch.float64),
    "lstm": (lambda: Recurrent(nn.LSTM), (3, 4, 5), torch.float32),
    "gru": (lambda: Recurrent(nn.GRU), (3, 4, 5), torch.float32),
    "resnet": (ResNet, (3, 2, 5, 5), torch.float32),
    "resnet-channels-last": (
        lambda: ResNet().to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        (3, 2, 5, 5),
        torch.float32,
    ),
    "transformer": (transformer, (2, 3, 8), torch.float32),
    "attention": (Attention, (2, 4, 12), torch.float32),
    "tied": (Tied, (4, 6), torch.float32),
}

# --- optimizers -----------------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd-nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "sgd-foreach": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, foreach=True),
    "sgd-fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, fused=True),
    "adam-amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, initial_accumulator_value=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.05, t0=1),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
    "lbfgs-wolfe": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3, line_search_fn="strong_wolfe"),
}


QUICK = ("sgd-nesterov", "adamw-fused", "adafactor")  # on the models: flat, fused and factored states
ALIKE = ("gru", "mlp-fp64", "resnet")  # another of the models is of their kind


def pairs(*models: str, whole: tuple[str, ...] = ("mlp",)) -> list[Any]:
    """Every optimizer on every model, LBFGS (slow, and blind to the kind of model) on a few.

    Quick are all optimizers on the models of ``whole``, and those of `QUICK` on the others that are not `ALIKE`.
    """
    few = ("mlp", "mlp-fp64", "tied")
    every = [(m, o) for m in models for o in OPTIMIZERS if m in few or not o.startswith("lbfgs")]
    # PyTorch 2.13's fused SGD with momentum leaves most bfloat16 weights on CPU as they are, without redense too.
    return [
        pytest.param(m, o, marks=[] if m in whole or (o in QUICK and m not in ALIKE) else [pytest.mark.slow])
        for m, o in every
        if (m, o) != ("mlp-bf16", "sgd-fused")
    ]


WITHOUT_VELOCITY = ("sgd", "adadelta", "adagrad", "rprop", "adafactor", "lbfgs", "lbfgs-wolfe")


class Training:
    """A model, its optimizer and a loss, all fixed by their names."""

    def __init__(self, model: str, optimizer: str) -> None:
        torch.manual_seed(0)
        make, shape, dtype = MODELS[model]
        self.model = make().to(DEVICE, dtype)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.x = torch.randn(8, *shape).to(DEVICE, dtype)
        self.y = torch.randint(3, (8, shape[0])).to(DEVICE)

    def step(self, number: int) -> None:
        def loss_of() -> float:
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(self.x[number % 8]).float(), self.y[number % 8])
            loss.backward()
            return loss.item()

        self._step(loss_of)

    def coast(self) -> None:
        """A step whose gradients are all zero."""

        def loss_of() -> float:
            for parameter in self.model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            return 0.0

        self._step(loss_of)

    def _step(self, loss_of: Callable[[], float]) -> None:
        if isinstance(self.optimizer, torch.optim.LBFGS):
            self.optimizer.step(loss_of)
        else:
            loss_of()
            self.optimizer.step()

    def states_of(self, parameter: nn.Parameter) -> list[State]:
        return list(Neutrals().states(self.optimizer, "", parameter))


def hooks_of(model: nn.Module, optimizer: Optimizer) -> list[Any]:
    """Whatever hooks there are on either, by where they are."""
    found = [(type(m).__name__, k, v) for m in model.modules() for k, v in vars(m).items() if k.endswith("hooks") and v]
    return found + [(type(optimizer).__name__, k, v) for k, v in vars(optimizer).items() if k.endswith("hooks") and v]


def shape_of(model: nn.Module) -> list[Any]:
    """What rule 4 says must not change: keys in order, dtypes, strides, identity, attributes."""
    state = model.state_dict(keep_vars=True)
    tensors = [(k, v.dtype, tuple(v.shape), v.stride(), id(v), v.requires_grad) for k, v in state.items()]
    return [tensors, [list(vars(m)) for m in model.modules()], [name for name, _ in model.named_buffers()]]


@pytest.mark.parametrize(("model", "optimizer"), pairs(*MODELS, whole=("mlp", "mlp-bf16")))
def test_dense_sparse_dense_is_exact_held_from_zero_and_invisible(model: str, optimizer: str):
    training = Training(model, optimizer)
    shape = shape_of(training.model)
    weights = redense.prunable(training.model)
    dsd = redense.DSD(training.model, training.optimizer, Schedule.dsd(dense=3, sparse=4, redense=3, sparsity=SPARSITY))
    for number in range(3):
        assert dsd.masks == {}
        training.step(number)
    masks = dsd.masks
    assert list(masks) == list(weights)
    for number in range(3, 7):
        for name, weight in weights.items():
            pruned = ~masks[name]
            assert int(pruned.sum()) == round(SPARSITY * weight.numel()), name
            assert int((weight[pruned] == 0).sum()) == int(pruned.sum()), f"{name} before step {number}"
            assert weight.isfinite().all(), name
            for state in training.states_of(weight):
                assert state.neutral == 0 or optimizer in ("rprop", "adagrad", "adamax"), "elsewhere it is zero"
                assert (state.tensor[pruned] == state.neutral).all(), f"a state of {name} before step {number}"
        training.step(number)
        assert shape_of(training.model) == shape
    assert dsd.masks == {}

    before = {name: weight.detach().clone() for name, weight in weights.items()}
    training.coast()
    for name, weight in weights.items():
        assert (weight[~masks[name]] == 0).all(), f"{name} moved without a gradient"
    if optimizer not in WITHOUT_VELOCITY:
        moved = [name for name, weight in weights.items() if not torch.equal(weight, before[name])]
        assert moved or model == "mlp-bf16", "no velocity anywhere: the step above proves nothing"

    for number in range(2):
        training.step(number)
    for name, weight in weights.items():
        assert (weight[~masks[name]] != 0).any(), f"{name} did not grow back"
    assert dsd.phase is None
    assert shape_of(training.model) == shape
    assert hooks_of(training.model, training.optimizer) == []


@pytest.mark.parametrize(("model", "optimizer"), pairs("mlp", "resnet-channels-last", "lstm"))
def test_a_schedule_and_the_block_give_the_same_bits(model: str, optimizer: str):
    first, second = Training(model, optimizer), Training(model, optimizer)
    schedule = Schedule.dsd(dense=3, sparse=4, redense=3, sparsity=SPARSITY)
    redense.DSD(first.model, first.optimizer, schedule)
    scheduler = torch.optim.lr_scheduler.LambdaLR(first.optimizer, schedule.lr_factor)
    for number in range(10):
        first.step(number)
        scheduler.step()

    for number in range(3):
        second.step(number)
    with redense.sparse(second.model, second.optimizer, sparsity=SPARSITY):
        for number in range(3, 7):
            second.step(number)
    redense.scale_lr(second.optimizer, 0.1)
    for number in range(7, 10):
        second.step(number)

    for (name, a), b in zip(first.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert hooks_of(second.model, second.optimizer) == []


def test_a_schedule_without_sparsity_is_the_training_without_redense():
    first, second = Training("resnet", "sgd-nesterov"), Training("resnet", "sgd-nesterov")
    redense.DSD(first.model, first.optimizer, Schedule.restart(dense=3, sparse=4, redense=3))
    for number in range(10):
        first.step(number)
        second.step(number)
    for a, b in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_under_a_mask_can_be_copied_averaged_saved_and_loaded(model: str):
    training = Training(model, "adamw")
    average = torch.optim.swa_utils.AveragedModel(training.model)
    with redense.sparse(training.model, training.optimizer, SPARSITY) as block:
        for number in range(3):
            training.step(number)
            average.update_parameters(training.model)
        twin = copy.deepcopy(training.model)
        names = set(training.model.state_dict())
        assert {name.removeprefix("module.") for name in average.state_dict()} - {"n_averaged"} == names
        for name, mask in block.masks.items():
            assert (twin.get_parameter(name)[~mask] == 0).all()
            assert twin.get_parameter(name) is not training.model.get_parameter(name)
            assert (average.module.get_parameter(name)[~mask] == 0).all()
        frozen = {name: value.clone() for name, value in twin.state_dict().items()}
        training.step(3)
        for name, value in twin.state_dict().items():
            assert torch.equal(value, frozen[name]), "the copy is still trained"
        fresh = MODELS[model][0]().to(MODELS[model][2])
        fresh.load_state_dict(training.model.state_dict(), strict=True)
        assert hooks_of(twin, copy.deepcopy(training.optimizer)) == []


def test_a_copy_of_model_and_optimizer_is_trained_as_they_are_by_a_dsd_with_their_state():
    training = Training("mlp", "adamw")
    schedule = Schedule.dsd(dense=1, sparse=3, redense=2, sparsity=SPARSITY)
    dsd = redense.DSD(training.model, training.optimizer, schedule)
    training.step(0)
    training.step(1)
    twin = Training("mlp", "adamw")
    twin.model, twin.optimizer = copy.deepcopy((training.model, training.optimizer))
    redense.DSD(twin.model, twin.optimizer, schedule).load_state_dict(dsd.state_dict())
    for number in range(2, 6):
        training.step(number)
        twin.step(number)
    for one, other in zip(training.model.parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_tied_weights_stay_tied_and_are_pruned_once():
    training = Training("tied", "sgd-nesterov")
    assert isinstance(training.model, Tied)
    with redense.sparse(training.model, training.optimizer, SPARSITY) as block:
        training.step(0)
        assert list(block.masks) == ["encode.weight", "out.weight"]
        assert training.model.decode.weight is training.model.encode.weight
        assert int((training.model.decode.weight == 0).sum()) == round(SPARSITY * 36)


@pytest.mark.parametrize("arm", ["dsd", "restart", "llr", "random", "early", "scratch", "prune", "surgery", "acdc"])
@pytest.mark.parametrize("optimizer", ["sgd-nesterov", "adamw"])
def test_every_arm_runs_in_the_same_steps_and_holds_the_masks_of_its_phases(arm: str, optimizer: str):
    training = Training("mlp", optimizer)
    own = {"prune": {"rounds": 2}, "acdc": {"cycles": 2}}.get(arm, {})
    schedule = getattr(Schedule, arm)(dense=4, sparse=4, redense=3, sparsity=0.5, **own)
    ended: list[str] = []
    dsd = redense.DSD(
        training.model,
        training.optimizer,
        schedule,
        on_phase_end=lambda d: ended.append(d.phase.name if d.phase else "over"),
    )
    weights = redense.prunable(training.model)
    total = sum(weight.numel() for weight in weights.values())
    previous: dict[str, Tensor] = {}
    for number in range(11):
        phase = schedule.phase_at(number)
        assert dsd.phase == phase
        assert dsd.step == number
        assert bool(dsd.masks) == phase.is_sparse
        for name, mask in dsd.masks.items():
            assert (weights[name][~mask] == 0).all()
            if not phase.surgery and phase.scope == "layer":
                assert int((~mask).sum()) == round(phase.sparsity * mask.numel())
            if name in previous and not phase.surgery:
                assert not (mask & ~previous[name]).any(), "what was pruned came back between two sparse phases"
        if phase.scope == "global":
            assert sum(int((~mask).sum()) for mask in dsd.masks.values()) == round(0.5 * total)
        previous = {name: mask.clone() for name, mask in dsd.masks.items()}
        training.step(number)
    assert ended == [phase.name for phase in schedule.phases]
    assert dsd.phase is None
    assert (redense.summary(training.model).rows[0].sparsity > 0) == (arm in ("scratch", "prune", "surgery"))
    dsd.close()
    assert hooks_of(training.model, training.optimizer) == []


def test_a_compiled_model_sees_the_masks_and_keeps_its_names():
    torch._dynamo.reset()
    training = Training("mlp", "sgd-nesterov")
    plain, compiled = training.model, torch.compile(training.model, backend="aot_eager")
    training.model = compiled  # pyright: ignore[reportAttributeAccessIssue]
    twin = Training("mlp", "sgd-nesterov")
    schedule = Schedule.dsd(dense=2, sparse=2, redense=2, sparsity=SPARSITY)
    dsd = redense.DSD(compiled, training.optimizer, schedule)  # pyright: ignore[reportArgumentType]
    other = redense.DSD(twin.model, twin.optimizer, schedule)
    for number in range(6):
        training.step(number)
        twin.step(number)
        assert list(dsd.masks) == list(other.masks)
        assert [name for name, _ in plain.named_parameters()] == [name for name, _ in twin.model.named_parameters()]
        for a, b in zip(plain.parameters(), twin.model.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()
