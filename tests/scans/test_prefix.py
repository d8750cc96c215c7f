"""What is computed before a pruned weight is reused: the same bits as plainly, or not at all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import redense
from redense import masks
from redense.scans.prefix import Prefix


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(4))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in (0, 2):
            out = F.relu(self.norms[i](self.blocks[i](x)), inplace=True)
            out = self.norms[i + 1](self.blocks[i + 1](out))
            out += x
            x = F.relu_(out)
        return self.fc(x.mean((2, 3)))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.branches = nn.ModuleList(
            [nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(6, 4, 5, padding=2)]
        )
        self.out = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([F.relu(branch(x)) for branch in self.branches], dim=1)
        return F.adaptive_avg_pool2d(self.out(x), 1).flatten(1)


class Twice(nn.Module):
    """One layer is called twice, and a value is kept on the module between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.kept = [x]
        x = torch.relu(self.shared(x))
        x = torch.relu(self.shared(x))
        self.kept[0].mul_(2)
        return self.last(x) + self.kept.pop()


class Listener(nn.Module):
    """A recurrent network that reads a number from a tensor to choose its way."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU] = nn.LSTM) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.rnn = kind(6, 7, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.mean().item() > 0:
            x = -x
        return self.fc(self.rnn(x)[0]).flatten(1)


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.a(x))
        x += 1
        return self.b(self.drop(x)) + x


def transformer() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), 2), nn.Flatten())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "sequential": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(True), nn.Linear(8, 8), nn.Linear(8, 3)), (6,)),
    "residual": (Residual, (3, 8, 8)),
    "inception": (Inception, (3, 8, 8)),
    "twice": (Twice, (6,)),
    "lstm": (Listener, (5, 6)),
    "gru": (lambda: Listener(nn.GRU), (5, 6)),
    "dropout": (Dropped, (6,)),
    "transformer": (transformer, (5, 6)),
}


def batches(shape: tuple[int, ...], sizes: tuple[int, ...] = (4, 4, 3)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, *shape, generator=generator) for size in sizes]


def evaluation(model: nn.Module, data: list[Tensor], seen: list[Tensor] | None = None) -> Callable[[], float]:
    def evaluate() -> float:
        model.eval()
        outputs = [model(batch) for batch in data]
        if seen is not None:
            seen.extend(output.detach().clone() for output in outputs)
        return float(sum(output.double().square().sum() for output in outputs))

    return evaluate


def made(kind: str) -> tuple[nn.Module, list[Tensor], dict[str, nn.Parameter]]:
    torch.manual_seed(0)
    make, shape = MODELS[kind]
    model = make().eval()
    return model, batches(shape), redense.prunable(model)


def pruned(parameters: dict[str, nn.Parameter], order: list[str]) -> Iterator[str]:
    """Prune one parameter after the other, twice each; the next one begins when this one is whole again."""
    for name in order:
        for sparsity in (0.3, 0.8):
            before = parameters[name].detach().clone()
            masks.apply_(masks.select(before, sparsity, absolute=True), parameters[name])
            yield name
            with torch.no_grad():
                parameters[name].copy_(before)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(pytest.param(kind, torch.no_grad, marks=[pytest.mark.slow] if kind == "gru" else []) for kind in MODELS),
        ("residual", torch.inference_mode),
        pytest.param("lstm", torch.inference_mode, marks=pytest.mark.slow),
    ],
)
def test_outputs_have_the_bits_of_a_plain_evaluation(kind: str, mode: Any):
    model, data, parameters = made(kind)
    with mode():
        prefix = Prefix(model, parameters, cache_bytes=1 << 30)
        evaluate = evaluation(model, data)
        prefix.trace(evaluate, evaluate())
        assert prefix.reason == ""
        for name in pruned(parameters, prefix.order()):
            plain, reused = list[Tensor](), list[Tensor]()
            expected = evaluation(model, data, plain)()
            assert prefix.evaluate(evaluation(model, data, reused), name) == expected
            assert all(torch.equal(a, b) for a, b in zip(plain, reused, strict=True)), name
        assert prefix.reason == ""
        assert prefix.skipped > 0 or kind == "transformer"  # its fast path is one kernel a layer


def test_layers_are_ordered_by_their_first_use_not_by_their_name():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.unused, self.first = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x))

    model = Backwards()
    with torch.no_grad():
        prefix = Prefix(model, redense.prunable(model), cache_bytes=1 << 20)
        evaluate = evaluation(model, batches((4,)))
        prefix.trace(evaluate, evaluate())
    assert prefix.order() == ["first.weight", "last.weight", "unused.weight"]


def test_only_kernels_after_the_first_use_are_run():
    model, data, parameters = made("residual")
    runs: list[str] = []

    class Count(TorchDispatchMode):  # outside of redense's own mode
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            runs.append(str(func))
            return func(*args, **(kwargs or {}))

    with torch.no_grad():
        prefix = Prefix(model, parameters, cache_bytes=1 << 30)
        evaluate = evaluation(model, data)
        prefix.trace(evaluate, evaluate())
        last = prefix.order()[-1]
        assert last == "fc.weight"
        for _ in range(2):
            runs.clear()
            with Count():
                prefix.evaluate(evaluate, last)
    assert not any("convolution" in name or "batch_norm" in name for name in runs)
    assert any("addmm" in name or "linear" in name for name in runs)


@pytest.mark.parametrize("room", [0.4, *(pytest.param(room, marks=pytest.mark.slow) for room in (0.1, 0.7))])
def test_the_cache_stays_within_its_bytes_and_the_bits_are_the_same(room: float):
    model, data, parameters = made("residual")
    with torch.no_grad():
        evaluate = evaluation(model, data)
        free = Prefix(model, parameters, cache_bytes=1 << 30)
        free.trace(evaluate, evaluate())
        most = 0
        for name in pruned(parameters, free.order()):
            free.evaluate(evaluate, name)
            most = max(most, free.cached_bytes)
        prefix = Prefix(model, parameters, cache_bytes=int(room * most))
        prefix.trace(evaluate, evaluate())
        for name in pruned(parameters, prefix.order()):
            assert prefix.evaluate(evaluate, name) == evaluate()
            assert prefix.cached_bytes <= room * most
    assert prefix.reason == ""
    assert prefix.skipped < free.skipped


def test_an_early_value_that_is_read_after_the_forward_is_there():
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.features = torch.zeros(0)

        def forward(self, x: Tensor) -> Tensor:
            self.features = torch.relu(self.first(x))
            return self.third(torch.tanh(self.second(self.features)))

    model, data = Keeping(), batches((6,))
    parameters = redense.prunable(model)

    def evaluate() -> float:
        return float(sum(model(batch).double().sum() + 7 * model.features.double().sum() for batch in data))

    prefix = traced(model, evaluate)
    with torch.no_grad():
        for name in pruned(parameters, prefix.order()):
            assert prefix.evaluate(evaluate, name) == evaluate()
    assert prefix.reason == ""
    assert prefix.skipped > 0


def test_parameters_may_come_in_any_order():
    model, data, parameters = made("residual")
    evaluate = evaluation(model, data)
    prefix = traced(model, evaluate)
    with torch.no_grad():
        for name in pruned(parameters, [*prefix.order()[::-1], *prefix.order()]):
            assert prefix.evaluate(evaluate, name) == evaluate()
    assert prefix.reason == ""


def test_nothing_of_it_is_left_on_the_model():
    model, data, parameters = made("residual")
    before = set(vars(model))
    functions = {name: getattr(Tensor, name) for name in ("numpy", "tolist", "__dlpack__")}
    with torch.no_grad():
        evaluate = evaluation(model, data)
        prefix = Prefix(model, parameters, cache_bytes=1 << 30)
        prefix.trace(evaluate, evaluate())
        prefix.evaluate(evaluate, prefix.order()[-1])
        with pytest.raises(RuntimeError, match="boom"):
            prefix.evaluate(lambda: boom(model, data), prefix.order()[-1])
    assert set(vars(model)) == before
    assert {name: getattr(Tensor, name) for name in functions} == functions
    assert "numpy" not in vars(Tensor)
    copy.deepcopy(model)


def boom(model: nn.Module, data: list[Tensor]) -> float:
    model(data[0])
    raise RuntimeError("boom")


# --- what ends reuse ------------------------------------------------------------------------------------------------


def traced(model: nn.Module, evaluate: Callable[[], float]) -> Prefix:
    prefix = Prefix(model, redense.prunable(model), cache_bytes=1 << 30)
    with torch.no_grad():
        prefix.trace(evaluate, evaluate())
    return prefix


def test_other_batches_end_reuse_and_the_value_is_the_plain_one():
    model, data, parameters = made("residual")
    prefix = traced(model, evaluation(model, data))
    other = [batch.clone() for batch in data]
    other[1][0, 0, 0, 0] += 1e-3
    with torch.no_grad():
        for name in pruned(parameters, prefix.order()[-1:]):
            assert prefix.evaluate(evaluation(model, other), name) == evaluation(model, other)()
    assert "other batches" in prefix.reason


def test_a_shuffled_evaluation_ends_reuse():
    model, data, _ = made("residual")
    generator = torch.Generator().manual_seed(0)

    def evaluate() -> float:
        order = torch.randperm(len(data), generator=generator).tolist()
        return float(sum((i + 1) * model(data[j]).double().sum() for i, j in enumerate(order)))

    prefix = traced(model, evaluate)
    assert "two evaluations of the unpruned model differ" in prefix.reason


def test_batch_norm_that_learns_ends_reuse():
    model, data, _ = made("residual")

    def evaluate() -> float:
        model.train()
        return float(model(data[0]).double().sum())

    assert "training mode" in traced(model, evaluate).reason


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_dropout_that_drops_ends_reuse(mode: Any):
    model, data, _ = made("dropout")

    def evaluate() -> float:
        model.train()
        torch.manual_seed(0)
        with mode():
            return float(model(data[0]).double().sum())

    assert "draws random numbers" in traced(model, evaluate).reason


class Peeking(nn.Module):
    def __init__(self, peek: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.first, self.second, self.peek = nn.Linear(6, 6), nn.Linear(6, 6), peek

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.peek(x)
        return self.second(x)


@pytest.mark.parametrize("peek", [lambda x: x.numpy().sum(), lambda x: x.tolist()], ids=["numpy", "tolist"])
def test_reading_values_past_the_kernels_ends_reuse(peek: Callable[[Tensor], object]):
    model = Peeking(peek)
    assert "numpy or tolist" in traced(model, evaluation(model, batches((6,)))).reason


def test_a_batch_of_inference_mode_that_is_changed_in_place_ends_reuse():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6))

    def evaluate() -> float:
        with torch.inference_mode():
            return float(model(torch.arange(6.0)[None] - 3).double().sum())

    assert "a batch that changes" in traced(model, evaluate).reason


def test_another_way_through_the_model_ends_reuse():
    model, data, parameters = made("sequential")
    prefix = traced(model, evaluation(model, data))
    model.add_module("1", nn.Tanh())
    with torch.no_grad():
        for name in pruned(parameters, prefix.order()[-1:]):
            assert prefix.evaluate(evaluation(model, data), name) == evaluation(model, data)()
    assert "takes another way" in prefix.reason


def test_an_evaluation_that_writes_to_the_model_ends_reuse():
    model, data, parameters = made("sequential")
    prefix = traced(model, evaluation(model, data))

    def evaluate() -> float:
        parameters["0.weight"].add_(0.5)
        return evaluation(model, data)()

    with torch.no_grad():
        prefix.evaluate(evaluate, "2.weight")
    assert "changes the model's parameters" in prefix.reason


def test_an_evaluation_that_copies_the_model_ends_reuse():
    model, data, parameters = made("sequential")
    prefix = traced(model, evaluation(model, data))

    def evaluate() -> float:
        return evaluation(copy.deepcopy(model), data)()

    with torch.no_grad():
        for name in pruned(parameters, prefix.order()[-1:]):
            assert prefix.evaluate(evaluate, name) == evaluate()
    assert "copies the model" in prefix.reason


def test_a_reason_that_the_evaluation_swallows_is_noticed():
    model, data, parameters = made("sequential")
    prefix = traced(model, evaluation(model, data))
    other = [batch + 1 for batch in data]

    def evaluate() -> float:
        try:
            return evaluation(model, other)()
        except BaseException:  # noqa: BLE001  # whatever ends it is no loss
            return -1.0

    with torch.no_grad():
        for name in pruned(parameters, prefix.order()[-1:]):
            assert prefix.evaluate(evaluate, name) == evaluate() != -1.0


def test_gradients_in_the_evaluation_end_reuse():
    model, data, _ = made("sequential")

    def evaluate() -> float:
        with torch.enable_grad():
            return float(model(data[0]).detach().double().sum())

    assert "gradients" in traced(model, evaluate).reason


def test_a_weight_that_is_hidden_from_the_forward_is_never_replayed():
    """The cast of a weight that autocast keeps from call to call is seen as what comes from outside, and compared."""
    model, data, parameters = made("sequential")

    def evaluate() -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return float(sum(model(batch).double().square().sum() for batch in data))

    prefix = traced(model, evaluate)
    with torch.no_grad():
        for name in pruned(parameters, prefix.order()):
            assert prefix.evaluate(evaluate, name) == evaluate()


def test_scripted_and_compiled_models_are_evaluated_plainly():
    model = torch.compile(nn.Sequential(nn.Linear(6, 6)), backend="eager")
    assert "compiled" in Prefix(model, {}, cache_bytes=1).reason  # pyright: ignore[reportArgumentType]


def test_a_model_whose_forward_is_not_called_is_evaluated_plainly():
    model, data, _ = made("sequential")
    assert "does not call" in traced(model, lambda: float(model.get_submodule("0")(data[0]).sum())).reason
