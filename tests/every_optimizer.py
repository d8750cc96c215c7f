"""Every optimizer of torch's own test database and of pytorch_optimizer in a dense-sparse-dense training."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

import redense
from redense import Schedule
from redense.errors import RedenseError
from redense.holding.states.neutral import Neutrals

SCHEDULE = Schedule.dsd(dense=3, sparse=6, redense=5, sparsity=0.5)
DEVICE = torch.device("cpu")  # tests/test_cuda.py asks the same of a GPU


def batches() -> list[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(1)
    return [tuple(torch.randn(8, n, generator=drawn).to(DEVICE) for n in (6, 4)) for _ in range(14)]  # pyright: ignore[reportReturnType]


Look = Callable[[int, Any, nn.Module, Optimizer], None]


@dataclass(frozen=True)
class Entry:
    """An optimizer: how it is made, and what its loop is like."""

    name: str
    make: Callable[[nn.Module], Any]
    graph: bool = False  # backward must keep the graph
    closure_only: bool = False
    before: bool = False  # the gradients must be there before step(closure)
    sparse: bool = False  # it takes sparse gradients alone


# --- all of them ----------------------------------------------------------------------------------------------------


def of_torch() -> Iterator[Entry]:
    """Give every configuration of torch's database, and its foreach and fused forms; of Muon the matrices alone."""
    from torch.testing._internal.common_optimizers import optim_db

    for info in optim_db:
        kind: Any = info.optim_cls
        for given in info.optim_inputs_func(device=str(DEVICE)):
            forms: list[dict[str, Any]] = [{}]
            forms += [{"foreach": True}] if "foreach" in info.supported_impls else []
            forms += [{"fused": True}] if DEVICE.type in info.supports_fused_on else []
            for form in forms:
                options = {**given.kwargs, **form}
                shown = ",".join(f"{key}={value}" for key, value in options.items())
                part = matrices if kind.__name__ == "Muon" else everything
                make = _maker(kind, part, options)
                sparse = kind is torch.optim.SparseAdam
                yield Entry(f"torch.{kind.__name__}({shown})", make, False, info.step_requires_closure, sparse=sparse)


# What the constructors of pytorch_optimizer must be given.
_OPTIONS: dict[str, dict[str, Any]] = {
    "ranger21": {"num_iterations": 14},
    "bsam": {"num_data": 8, "foreach": False},  # its foreach form does not train on its own
    "alig": {"max_lr": 0.1},
}
_WRAPPERS = ("Lookahead", "TRAC", "ScheduleFreeWrapper", "OrthoGrad")  # classes that no name stands for
_SAMS = ("SAM", "WSAM", "LookSAM", "FriendlySAM")  # nor for these
_MUONS = ("adago", "adamuon", "distributedmuon", "muon", "muonclip", "normuon")
_OF_MODELS = ("adalomo", "adammini", "lomo")
_WITH_CLOSURE = ("alig", "bsam", "lbfgs")


def of_pytorch_optimizer() -> Iterator[Entry]:
    """Give every name of pytorch_optimizer, and its wrappers of others."""
    import pytorch_optimizer

    for name in pytorch_optimizer.get_supported_optimizers():
        kind: Any = pytorch_optimizer.load_optimizer(name)
        options = _OPTIONS.get(name, {})
        if name in _MUONS:
            make = _maker(kind, by_use, options)
        elif name in _OF_MODELS:
            make = _maker(kind, lambda model: model, options)
        else:
            make = _maker(kind, matrices if name == "spectralsphere" else everything, options)
        yield Entry(name, make, name in ("adahessian", "sophiah"), name in _WITH_CLOSURE, name == "bsam")
    for name in _WRAPPERS:
        yield Entry(name, _around(getattr(pytorch_optimizer, name)))
    for name in _SAMS:
        options = {"base_optimizer": torch.optim.SGD, "lr": 0.05, "momentum": 0.9}
        kind = getattr(pytorch_optimizer, name)
        make = _with_model(kind, options) if name == "WSAM" else _maker(kind, everything, options)
        yield Entry(name, make, closure_only=True)


def _around(kind: Any) -> Callable[[nn.Module], Any]:
    def make(model: nn.Module) -> Any:
        outer = kind(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
        if hasattr(outer, "train"):  # a schedule-free one has two modes
            outer.train()
        return outer

    return make


def _maker(kind: Any, part: Callable[[nn.Module], Any], options: dict[str, Any]) -> Callable[[nn.Module], Any]:
    return lambda model: kind(part(model), **copy.deepcopy(options))


def _with_model(kind: Any, options: dict[str, Any]) -> Callable[[nn.Module], Any]:
    return lambda model: kind(model, model.parameters(), **options)


def everything(model: nn.Module) -> Any:
    return model.parameters()


def matrices(model: nn.Module) -> Any:
    return [p for p in model.parameters() if p.dim() == 2]


def by_use(model: nn.Module) -> Any:
    rest = [p for p in model.parameters() if p.dim() != 2]
    return [{"params": matrices(model), "use_muon": True}, {"params": rest, "use_muon": False}]


# --- training -------------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 4))
    return made.to(DEVICE)


def train(
    entry: Entry,
    *,
    redensed: bool = True,
    closure: bool = False,
    fabric: bool = False,
    resume: tuple[int, ...] = (),
    steps: int = 14,
    look: Look | None = None,
) -> list[Tensor]:
    """Train the schedule, killed and resumed at the given steps, and return the weights."""
    model, optimizer, backward = _made(entry, fabric)
    dsd = redense.DSD(model, optimizer, SCHEDULE) if redensed else None
    for number, (x, y) in enumerate(batches()[:steps]):
        if number in resume:
            saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), dsd.state_dict() if dsd else {}))
            model, optimizer, backward = _made(entry, fabric)
            dsd = redense.DSD(model, optimizer, SCHEDULE) if dsd else None
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
            if dsd:
                dsd.load_state_dict(saved[2])
        step(
            entry,
            model,
            optimizer,
            lambda x=x, y=y, model=model: (model(x) - y).square().mean(),
            closure,
            number,
            backward,
        )
        if look:
            look(number, dsd, model, optimizer)
    return [p.detach().clone() for p in model.parameters()]


def _made(entry: Entry, fabric: bool) -> tuple[nn.Module, Any, Callable[..., Any]]:
    model = network()
    optimizer = entry.make(model)
    if not fabric:
        return model, optimizer, Tensor.backward
    from lightning_fabric import Fabric

    own = Fabric(accelerator=_accelerator(), devices=1)
    return (*own.setup(model, optimizer), own.backward)


def step(
    entry: Entry,
    model: nn.Module,
    optimizer: Any,
    loss_of: Callable[[], Tensor],
    closure: bool,
    number: int,
    backward: Callable[..., Any] = Tensor.backward,
) -> None:
    @torch.enable_grad()
    def evaluate() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        backward(loss, **({"create_graph": True} if entry.graph else {}))
        for parameter in model.parameters() if entry.sparse else ():
            parameter.grad = None if parameter.grad is None else parameter.grad.to_sparse()
        return loss

    torch.manual_seed(100 + number)
    np.random.seed(100 + number)  # noqa: NPY002  # which kron draws from
    if entry.before:
        evaluate()
    if closure or entry.closure_only:
        optimizer.step(evaluate)
    else:
        evaluate()
        optimizer.step()
    if entry.graph:
        model.zero_grad()


def train_by_lightning(entry: Entry, *, redensed: bool = True) -> list[Tensor]:
    """Train the schedule in Lightning's Trainer, which hands every optimizer a closure."""
    import pytorch_lightning as pl

    from redense.integrations.lightning import DSDCallback

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any, index: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            torch.manual_seed(100 + index)
            np.random.seed(100 + index)  # noqa: NPY002  # what an optimizer of others may draw from
            return (self.net(batch[0]) - batch[1]).square().mean()

        def configure_optimizers(self) -> Any:
            return entry.make(self.net)

    module = Module()
    trainer = pl.Trainer(
        max_steps=14,
        callbacks=[DSDCallback(SCHEDULE, log=False)] if redensed else [],
        logger=False,
        accelerator=_accelerator(),
        devices=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data: Any = batches()
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))
    return [p.detach().clone() for p in module.net.parameters()]


# --- what holds -----------------------------------------------------------------------------------------------------


def examine(entry: Entry) -> str:
    """Return what does not hold of an optimizer; what it does not do without redense either is not looked at."""
    with warnings.catch_warnings(), _one_rank():
        warnings.simplefilter("ignore")
        try:
            model = network()
            redense.DSD(model, entry.make(model), SCHEDULE).close()
            plain = train(entry, redensed=False)
        except RedenseError:
            return "refused"
        except ImportError:  # of a package that is not among ours
            return "not run"
        problems: set[str] = set()
        masks: dict[str, Tensor] = {}

        def look(number: int, dsd: Any, model: nn.Module, optimizer: Optimizer) -> None:
            masks.update({name: mask.clone() for name, mask in dsd.masks.items()})
            if 2 <= number < 9:
                for name, mask in masks.items():
                    if (model.get_parameter(name)[~mask] != 0).any():
                        problems.add("a removed weight is not zero")

        try:
            own = train(entry, look=look)
        except RedenseError:
            return "refused"
        if not all(w.isfinite().all() for w in own) and all(w.isfinite().all() for w in plain):
            problems.add("a weight is not finite")
        others: dict[str, Callable[[bool], list[Tensor]]] = {
            "a closure": lambda on: train(entry, redensed=on, closure=True),
            "Fabric": lambda on: train(entry, redensed=on, fabric=True),
            "Lightning": lambda on: train_by_lightning(entry, redensed=on),
            "a resume": lambda on: train(entry, redensed=on, resume=(5, 11)),
        }
        for name, other in others.items():
            try:
                comparable = same(plain, other(False))
            except Exception:  # noqa: BLE001  # it cannot do that by itself
                comparable = False
            if comparable and not same(own, other(True)):
                problems.add(f"{name} gives other weights")
        problems |= released(entry)
    return "; ".join(sorted(problems))


def released(entry: Entry) -> set[str]:
    """Return what is wrong with the states of released weights, and with a step that has no gradient."""
    ended: dict[str, Any] = {}
    masks: dict[str, Tensor] = {}
    problems: set[str] = set()

    def look(number: int, dsd: Any, model: nn.Module, optimizer: Optimizer) -> None:
        masks.update({name: mask.clone() for name, mask in dsd.masks.items()})
        ended.update(model=model, optimizer=optimizer)

    train(entry, steps=9, look=look)
    model, optimizer = ended["model"], ended["optimizer"]
    for name, mask in masks.items():
        for state in Neutrals().states(optimizer, name, model.get_parameter(name)):
            if (state.tensor[~mask] != state.neutral).any():
                problems.add(f"{state.key} is not neutral")
    x, y = batches()[9]
    step(entry, model, optimizer, lambda: (model(x) - y).square().mean() * 0.0, False, 9)
    if any((model.get_parameter(name)[~mask] != 0).any() for name, mask in masks.items()):
        problems.add("a step without a gradient moves released weights")
    return problems


def _accelerator() -> str:
    return "cpu" if DEVICE.type == "cpu" else "gpu"


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a, b, strict=True))


@contextmanager
def _one_rank() -> Iterator[None]:
    """Let the optimizers that send something have somebody to send it to."""
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(f"{folder}/ranks", 1)  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()
