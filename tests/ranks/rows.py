"""What people do in a loop besides training: the rows of `tests/integrations/test_rows.py`, in every loop.

A row is an optimizer, or something done around its steps. A loop trains a small network through dense, sparse, dense,
and must hold every removed weight at exactly 0 after each step of the sparse phase, and end with the weights of the
plain loop: to the bit, or closely on shards, where sums are taken in another order.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import redense
from redense import Schedule
from redense.holding.optimizers import unwrap_optimizer
from redense.masks.sharding import is_sharded, local, whole

RANK, WORLD = int(sys.argv[1]), int(sys.argv[2])
SCHEDULE = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.5)
STEPS = SCHEDULE.total_steps


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Linear(16, 4, bias=False))


def batch(number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(6, 8, generator=generator), torch.randn(6, 4, generator=generator)


def loss_of(model: Any, number: int) -> Tensor:
    x, y = batch(number)
    return (model(x) - y).square().mean()


# --- rows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What is done in a loop: the optimizer, and what comes around its steps."""

    make: Callable[[Any], Any] = lambda p: torch.optim.AdamW(p, lr=0.02)
    clip: float = 0.0
    two_calls: bool = False
    average: bool = False
    fill: bool = False  # torch's own checkpoint functions look at the optimizer before its first step
    scaled: bool = False  # by a GradScaler, which finds an infinity in one entry, on shards of one rank's
    add: bool = False  # a parameter is given to the optimizer in the sparse phase
    steps: int = STEPS
    close: float = 1e-4  # on shards


def of_library(name: str, **options: Any) -> Callable[[Any], Any]:
    def make(parameters: Any) -> Any:
        import pytorch_optimizer

        return getattr(pytorch_optimizer, name)(parameters, **options)

    return make


def around(name: str) -> Callable[[Any], Any]:
    def make(parameters: Any) -> Any:
        outer = of_library(name)(torch.optim.SGD(parameters, lr=0.05, momentum=0.9))
        if hasattr(outer, "train"):  # a schedule-free one has two modes
            outer.train()
        return outer

    return make


ROWS = {
    "lookahead": Row(around("Lookahead")),
    "trac": Row(around("TRAC")),
    "schedule-free": Row(around("ScheduleFreeWrapper")),
    "sam, two calls": Row(of_library("SAM", base_optimizer=torch.optim.SGD, lr=0.05, momentum=0.9), two_calls=True),
    "adafactor": Row(lambda p: torch.optim.Adafactor(p, lr=0.02)),
    "muon": Row(lambda p: torch.optim.Muon(p, lr=0.02), close=5e-3),  # it computes in bfloat16
    "lamb": Row(of_library("Lamb")),
    "prodigy": Row(of_library("Prodigy")),
    "came": Row(of_library("CAME", lr=0.01)),
    "soap": Row(of_library("SOAP", lr=0.01)),
    "clipping": Row(lambda p: torch.optim.SGD(p, lr=0.5), clip=0.1),
    "an average": Row(average=True),
    "a checkpoint is no step": Row(lambda p: torch.optim.SGD(p, lr=0.1), fill=True),
    "an added parameter": Row(add=True),
    "an early end": Row(steps=4),
    "an infinity": Row(scaled=True, steps=STEPS + 1),
}


@dataclass
class Seen:
    """What a loop shows: wrong zeros, and the weights at its end."""

    row: Row
    problems: list[str] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    average: AveragedModel | None = None
    added: nn.Parameter | None = None

    def watch(self, model: nn.Module, optimizer: Any, dsd: Callable[[], redense.DSD | None]) -> None:
        """Look after every step, after redense's own hook."""
        if self.row.average:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=False)

        def look(*_: Any) -> None:
            controller = dsd()
            masks = controller.masks if controller else {}
            if controller and bool(masks) != (2 <= controller.step < 5):
                self.problems.append(f"at step {controller.step} there are {len(masks)} masks")
            for name, mask in masks.items():
                if whole(model.get_parameter(name).detach())[~whole(mask)].any():
                    self.problems.append(f"a removed weight of {name} is not 0")
            if controller and self.average:
                self.average.update_parameters(model)
                controller.mask_copy(self.average)
                for name, mask in masks.items():
                    if whole(self.average.module.get_parameter(name).detach())[~whole(mask)].any():
                        self.problems.append("the average is not masked")
            if controller and controller.step == 3 and self.row.add and self.added is None:
                self.added = nn.Parameter(torch.ones(5))
                unwrap_optimizer(optimizer).add_param_group({"params": [self.added]})

        unwrap_optimizer(optimizer).register_step_post_hook(look)

    def end(self, model: nn.Module) -> Seen:
        self.weights = [whole(p.detach()).clone() for p in model.parameters()]
        return self


# --- loops ----------------------------------------------------------------------------------------------------------


def by_hand(
    row: Row,
    *,
    before: Callable[[nn.Module], nn.Module] = lambda model: model,
    prepare: Callable[..., Any] = lambda model, optimizer: (model, optimizer),
    backward: Callable[[Tensor], Any] = Tensor.backward,
    clip: Callable[..., Any] = nn.utils.clip_grad_norm_,
    closure: bool = False,
    redensed: bool = True,
) -> Seen:
    seen = Seen(row)
    model = before(make_model())
    model, optimizer = prepare(model, row.make(model.parameters()))
    inner = getattr(model, "module", model)
    dsd = redense.DSD(model, optimizer, SCHEDULE) if redensed else None
    seen.watch(inner, optimizer, lambda: dsd)
    if row.fill:
        fill(inner, unwrap_optimizer(optimizer))

    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=row.scaled)
    for number in range(row.steps):

        def evaluate(number: int = number) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, number)
            backward(scaler.scale(loss))
            if row.scaled and number == 3:
                poison(next(iter(model.parameters())))
            if row.clip:
                clip(model.parameters(), row.clip)
            return loss

        with torch.enable_grad():
            if row.two_calls:
                evaluate()
                optimizer.first_step(zero_grad=True)
                evaluate()
                optimizer.second_step(zero_grad=True)
            elif closure:
                optimizer.step(evaluate)
            else:
                evaluate()
                scaler.step(optimizer)
                scaler.update()
    if dsd is None:
        return seen.end(inner)
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger("redense").addHandler(handler)
    dsd.close()
    logging.getLogger("redense").removeHandler(handler)
    if ("training ended after 4 of 7 steps" in said.getvalue()) != (row.steps == 4):
        seen.problems.append(f"an early end is not said: {said.getvalue()!r}")
    return seen.end(inner)


def poison(parameter: nn.Parameter) -> None:
    """Put an infinity into a gradient; into that of one rank if it is sharded."""
    assert parameter.grad is not None
    if not is_sharded(parameter) or RANK == 0:
        local(parameter.grad)[0, 0] = torch.inf


def fill(model: nn.Module, optimizer: Optimizer) -> None:
    from torch.distributed.checkpoint.state_dict import get_state_dict

    get_state_dict(model, optimizer)


def closure(row: Row) -> Seen:
    return by_hand(row, closure=True)


def fabric(row: Row) -> Seen:
    from lightning_fabric import Fabric

    own = Fabric(accelerator="cpu", devices=1)
    return by_hand(row, prepare=own.setup, backward=own.backward)


def accelerate(row: Row) -> Seen:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    own = Accelerator(cpu=True)
    return by_hand(row, prepare=own.prepare, backward=own.backward, clip=own.clip_grad_norm_)


def ddp(row: Row) -> Seen:
    return by_hand(row, before=nn.parallel.DistributedDataParallel)


def fsdp2(row: Row, *, redensed: bool = True) -> Seen:
    from torch.distributed.fsdp import fully_shard

    def shard(model: Any) -> nn.Module:
        for layer in (model[0], model[2], model):
            fully_shard(layer)
        return model

    return by_hand(row, before=shard, redensed=redensed)


def lightning(row: Row) -> Seen:
    from redense.integrations.lightning import DSDCallback  # isort: skip
    import pytorch_lightning as pl

    seen, callback = Seen(row), DSDCallback(SCHEDULE, log=False)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_model()

        def training_step(self, _: Tensor, number: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return loss_of(self.net, number)

        def configure_optimizers(self) -> Any:
            return row.make(self.net.parameters())

    class Watch(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            def of_net() -> Any:
                return callback.dsd and _Named(callback.dsd)

            seen.watch(pl_module.net, trainer.optimizers[0], of_net)  # pyright: ignore[reportArgumentType]
            if row.fill:
                fill(pl_module.net, unwrap_optimizer(trainer.optimizers[0]))  # pyright: ignore[reportArgumentType]

    module = Module()
    trainer = pl.Trainer(
        max_steps=row.steps,
        gradient_clip_val=row.clip or None,
        callbacks=[callback, Watch()],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data: Any = torch.zeros(STEPS)
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=1))
    return seen.end(module.net)


class _Named:
    """A DSD of a LightningModule, seen from its net: names without the attribute."""

    def __init__(self, dsd: redense.DSD) -> None:
        self._dsd, self.step = dsd, dsd.step
        self.masks = {name.removeprefix("net."): mask for name, mask in dsd.masks.items()}

    def mask_copy(self, average: AveragedModel) -> None:
        wrapper = nn.Module()
        wrapper.net = average.module
        self._dsd.mask_copy(wrapper)


def transformers(row: Row) -> Seen:
    from redense.integrations.transformers import DSDTrainerCallback  # isort: skip
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class WithLoss(nn.Sequential):
        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
            return {"loss": (super().forward(x[0]) - y[0]).square().mean()}

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.watch(kwargs["model"], kwargs["optimizer"], lambda: callback.dsd)
            if row.fill:
                fill(kwargs["model"], unwrap_optimizer(kwargs["optimizer"]))

    class InOrder(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
            return SequentialSampler(train_dataset or self.train_dataset)  # pyright: ignore[reportArgumentType]

    seen, callback = Seen(row), DSDTrainerCallback(SCHEDULE)
    model = WithLoss(*make_model().children())
    optimizer = row.make(model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=row.steps,
            per_device_train_batch_size=1,
            max_grad_norm=row.clip,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        InOrder(
            model,
            arguments,
            train_dataset=[dict(zip("xy", batch(n), strict=True)) for n in range(STEPS)],  # pyright: ignore[reportArgumentType]
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
            callbacks=[callback, Watch()],
        ).train()
    return seen.end(model)


CANNOT = {
    ("sam, two calls", "closure"): "two calls have no closure",
    ("sam, two calls", "accelerate"): "Accelerate's wrapper has no first_step",
    ("sam, two calls", "lightning"): "Lightning calls step, once",
    ("sam, two calls", "transformers"): "the Trainer calls step, once",
    (
        "an added parameter",
        "transformers",
    ): "torch's schedulers, of which the Trainer has one, break without redense too",
}
CANNOT |= {
    (
        "an infinity",
        loop,
    ): "a GradScaler takes no closure, and these have one of their own: test_lightning, test_accelerate"
    for loop in ("closure", "fabric", "accelerate", "lightning", "transformers")
}
LOOPS = {loop.__name__: loop for loop in (closure, fabric, accelerate, lightning, transformers, ddp, fsdp2)}


# --- the table ------------------------------------------------------------------------------------------------------


def check(loop: str, row: Row, expected: Seen) -> str:
    if loop == "fsdp2":
        try:
            fsdp2(row, redensed=False)
        except Exception:  # noqa: BLE001  # many optimizers and AveragedModel do not know DTensors
            return "not without redense either"
    seen = LOOPS[loop](row)
    close = row.close if loop == "fsdp2" else 0.0
    problems = [*dict.fromkeys(seen.problems)]
    for a, b in zip(seen.weights, expected.weights, strict=True):
        if not torch.allclose(a, b, rtol=close, atol=close):
            problems.append(f"weights differ from the plain loop's by {float((a - b).abs().max()):.2g}")
    return "; ".join(problems)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if WORLD > 1:
        dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=RANK, world_size=WORLD)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    results: dict[str, dict[str, str]] = {}
    for name, row in ROWS.items():
        results[name] = {}
        try:
            expected = by_hand(row)
            results[name]["plain"] = "; ".join(dict.fromkeys(expected.problems))
        except Exception:  # noqa: BLE001  # the test shows it
            results[name]["plain"] = traceback.format_exc()
            continue
        for loop in sys.argv[5:]:
            if (name, loop) in CANNOT:
                results[name][loop] = ""
                continue
            try:
                results[name][loop] = check(loop, row, expected)
            except Exception:  # noqa: BLE001  # the test shows it
                results[name][loop] = traceback.format_exc()
    Path(sys.argv[4]).write_text(json.dumps(results))
    if WORLD > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
