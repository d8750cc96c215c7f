"""Models and loops that are unusual: zeros are held and weights grow back, or one line says what cannot be held."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import redense
from redense import Phase, Schedule, Surgery
from redense.errors import OptimizerError, RedenseError, StateError
from redense.methods import jump_

INPUTS = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
SCHEDULE = Schedule.dsd(dense=2, sparse=3, redense=3, sparsity=0.5)
Made = tuple[nn.Module, torch.optim.Optimizer, Callable[[], object]]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def adam(model: nn.Module, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01, **more)


def usual(model: nn.Module, call: Callable[[nn.Module], Tensor] = lambda model: model(INPUTS), **more: Any) -> Made:
    optimizer = adam(model, **more)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        call(model).square().mean().backward()
        optimizer.step()

    return model, optimizer, step


def functional(model: nn.Module) -> Tensor:
    return torch.func.functional_call(model, dict(model.named_parameters()), (INPUTS,))


def written_gradients() -> Made:
    model = net()
    optimizer = adam(model)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, parameters, (INPUTS,)).square().mean()

    def step() -> None:
        found = torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})
        for name, parameter in model.named_parameters():
            parameter.grad = found[name]
        optimizer.step()

    return model, optimizer, step


def tied() -> Any:
    model = net()
    again = nn.Linear(8, 16)
    again.weight = model[0].weight  # pyright: ignore[reportAttributeAccessIssue]
    model.add_module("again", again)
    return model


def of_strides() -> nn.Module:
    model: Any = net()
    model[0].weight = nn.Parameter(torch.randn(8, 16).t())
    model[2].weight = nn.Parameter(torch.randn(8, 32)[::2, ::2])  # not all of its memory is its own
    return model


def scalar_and_empty() -> Any:
    model: Any = net()
    model.scale, model.none = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.zeros(0, 3))
    return model


def one_memory() -> nn.Module:
    model = net()
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    start = 0
    for module in (model[0], model[2]):
        for name, p in list(module.named_parameters()):
            setattr(module, name, nn.Parameter(flat[start : start + p.numel()].view_as(p)))
            start += p.numel()
    return model


def parallel() -> Made:
    wrapped = nn.DataParallel(net())
    return usual(wrapped)


@pytest.mark.parametrize(
    "made",
    [
        parallel,
        lambda: usual(net(), functional),
        written_gradients,
        lambda: usual(tied(), lambda m: m[2](m[0](INPUTS) + m.again(INPUTS))),  # pyright: ignore[reportIndexIssue, reportCallIssue]
        lambda: usual(of_strides()),
        lambda: usual(scalar_and_empty(), lambda m: m[2](m[0](INPUTS)) * m.scale),  # pyright: ignore[reportIndexIssue, reportCallIssue]
        lambda: usual(one_memory()),
        lambda: usual(torch.fx.symbolic_trace(net())),
        lambda: usual(net(), fused=True),
        lambda: usual(net().share_memory()),
    ],
    ids=[
        "DataParallel",
        "functional_call",
        "func.grad",
        "tied",
        "strides",
        "scalar",
        "one memory",
        "fx",
        "fused",
        "shared",
    ],
)
def test_zeros_are_held_and_weights_grow_back(made: Callable[[], Made]):
    model, optimizer, step = made()
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    inner: Any = model.module if isinstance(model, nn.DataParallel) else model
    removed: dict[str, Tensor] = {}
    for _ in range(SCHEDULE.total_steps):
        step()
        for name, mask in dsd.masks.items():
            removed[name] = ~mask
            assert not inner.get_parameter(name)[~mask].any(), name
    assert len(removed) == 2
    assert dsd.phase is None
    for name, places in removed.items():
        assert inner.get_parameter(name)[places].all(), name


def test_a_copy_of_a_model_made_in_a_block_is_a_model_of_its_own():
    model, optimizer, step = usual(net())
    with redense.sparse(model, optimizer, 0.5) as block:
        step()
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert all(not other.get_parameter(name)[~mask].any() for name, mask in block.masks.items())
            usual(other)[2]()
            assert all(other.get_parameter(name)[~mask].any() for name, mask in block.masks.items())
        step()
        assert all(not model.get_parameter(name)[~mask].any() for name, mask in block.masks.items())


def assigned(model: nn.Module) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)


def new_layer(model: Any) -> None:
    model[2] = nn.Linear(16, 4)


def inside_another(model: Any) -> None:
    model[2] = nn.Sequential(nn.Linear(16, 4))


def of_a_length(model: Any) -> None:
    nn.utils.parametrizations.weight_norm(model[2])


def of_a_length_as_before(model: Any) -> None:
    nn.utils.weight_norm(model[2])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("replace", "at"),
    [
        (assigned, 1),  # in the dense phase
        (assigned, 3),  # and in the sparse one
        (new_layer, 1),
        (new_layer, 3),
        (inside_another, 1),
        (of_a_length, 1),
        (of_a_length_as_before, 1),
    ],
)
def test_a_parameter_that_was_replaced_without_the_optimizer_is_refused_by_name(
    replace: Callable[[Any], None], at: int
):
    model, optimizer, step = usual(net())
    redense.DSD(model, optimizer, SCHEDULE)
    for _ in range(at):
        step()
    replace(model)
    with pytest.raises(RedenseError, match=r"'\d.weight' of the model is another parameter than before") as told:
        [step() for _ in range(3)]
    assert "\n" not in str(told.value)


def other_layers(model: Any) -> None:
    model[0], model[2] = nn.Sequential(nn.Linear(8, 16)), nn.Sequential(nn.Linear(16, 4))


@pytest.mark.parametrize(
    ("replace", "says"),
    [
        (assigned, r"'0.weight' of the model is another parameter than before"),
        (other_layers, "the optimizer holds no parameter of the model any more"),
    ],
)
def test_a_model_whose_parameters_were_all_replaced_is_refused_though_no_step_counts_any_more(
    replace: Callable[[nn.Module], None], says: str
):
    model, optimizer, step = usual(net())
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    step()
    optimizer.zero_grad()
    optimizer.step()  # of a loop that found no gradient
    replace(model)
    with pytest.raises(RedenseError, match=says):
        step()
    assert dsd.step == 1


def test_a_layer_that_is_replaced_and_frozen_is_left_alone():
    model, optimizer, step = usual(net())
    redense.DSD(model, optimizer, SCHEDULE)
    step()
    new_layer(model)
    model.get_submodule("2").requires_grad_(False)
    for _ in range(3):
        step()
    assert not model.get_parameter("0.weight").all()


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return net()


def in_coordinates() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    model[0].weight = nn.Parameter(torch.eye(4).to_sparse())
    assert "75.00%" in str(redense.summary(model))
    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (on_meta, "'0.weight' is on the meta device and has no values: load the model before pruning it"),
        (
            in_coordinates,
            r"'0.weight' is kept as torch.sparse_coo, .* give the layer the dense weight, weight.to_dense",
        ),
        (lambda: nn.Sequential(nn.LazyLinear(4)), "'0.weight' is not initialised yet: run one batch through the lazy"),
        (lambda: nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), "the model has no prunable parameter"),
    ],
)
@pytest.mark.filterwarnings("ignore::redense.errors.LeftDenseWarning")  # of complex weights, which stay dense
def test_what_has_no_weights_to_prune_is_refused_in_one_line(model: Callable[[], nn.Module], why: str):
    own = model()
    with pytest.raises(RedenseError, match=why) as told:
        redense.DSD(own, adam(own), SCHEDULE)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("rows", [1, 4])  # the mask of one row could be taken for one of all rows
def test_a_layer_that_grows_under_a_mask_is_refused_by_name(rows: int, in_place: bool):
    model = net()
    model[2] = nn.Linear(16, rows)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = Schedule((redense.Phase.sparse(2, 0.5), redense.Phase.dense(2)))
    dsd = redense.DSD(model, optimizer, schedule)
    if in_place:
        model.get_parameter("2.weight").data, model.get_parameter("2.bias").data = torch.ones(6, 16), torch.ones(6)
    else:
        model[2] = nn.Linear(16, 6)
        optimizer.param_groups[0]["params"][2:] = list(model[2].parameters())
    says = rf"'2\.weight' has shape \(6, 16\) now and had \({rows}, 16\) when the phase"
    with pytest.raises(OptimizerError, match=says):  # noqa: PT012  # in backward, where redense masks the gradient, or after
        model(INPUTS).square().mean().backward()
        optimizer.step()
    dsd.close(release=False)
    new = redense.DSD(model, optimizer, schedule)
    assert new.masks["2.weight"].shape == (6, 16)
    new.close()


def test_a_default_device_changes_nothing():
    sparse = Phase.sparse(2, 0.5, criterion="random", surgery=Surgery(power=0.5))
    schedule = Schedule((sparse, Phase.dense(1), Phase.sparse(2, 0.3, scope="global"), Phase.dense(1)))

    def trained(device: str) -> Tensor:
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with torch.device(device):  # where PyTorch makes tensors of which nothing else is said
            dsd = redense.DSD(model, optimizer, schedule)
            for _ in range(schedule.total_steps):
                dsd.load_state_dict(dsd.state_dict())
                optimizer.zero_grad()
                model(INPUTS).square().mean().backward()
                optimizer.step()
            jump_(redense.prunable(model), sparsity=0.5)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(trained("meta"), trained("cpu"))


@pytest.mark.parametrize("group", [True, 0, "world", [0, 1]])
def test_what_is_no_process_group_is_refused_as_replicas(group: Any):
    model = net()
    with pytest.raises(StateError, match=r"replicas must be the process group .*, or False, got"):
        redense.DSD(model, adam(model), SCHEDULE, replicas=group)
