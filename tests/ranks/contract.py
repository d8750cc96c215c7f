"""The contract of every loop: what `tests/integrations/test_contract.py` holds redense to in each of them.

Every loop trains one model with one optimizer on one stream of batches, two batches a step, and must

- hold the zeros of a phase after every real step of it,
- change phases at the exact step, though gradients are accumulated,
- end with the same bits when it is killed in every phase and resumed, again and again,
- end with the bits of the plain loop,
- leave a model that loads strictly into the plain module.
"""

from __future__ import annotations

import contextlib
import json
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

import redense
from redense import Schedule
from redense.holding.optimizers import unwrap_optimizer
from redense.masks.sharding import whole

RANK, WORLD = int(sys.argv[1]), int(sys.argv[2])
SCHEDULE = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.4)
STEPS, MICRO = SCHEDULE.total_steps, 2
INSIDE, BETWEEN = [(0, 1), (1, 3), (3, 6), (6, 7)], [(0, 2), (2, 5), (5, 7)]  # killed inside phases, and between them
CHAINS = (INSIDE, BETWEEN) if WORLD > 2 else ([(0, 1), (1, 2), (2, 4), (4, 6), (6, 7)],)  # inside, and between two


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 13), nn.Tanh(), nn.Linear(13, 4))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.02)


def make_scheduler(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, SCHEDULE.lr_factor)


def batch(number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(6, 8, generator=generator), torch.randn(6, 4, generator=generator)


def loss_of(output: Tensor, y: Tensor) -> Tensor:
    return (output - y).square().mean()


@dataclass
class Trace:
    """What was seen after every real step of the optimizer."""

    seen: list[tuple[int, str, list[int]]] = field(default_factory=list)

    def watch(self, model: nn.Module, optimizer: Any, dsd: Callable[[], redense.DSD | None]) -> None:
        """Look after redense's own hook, which was there before."""

        def look(*_: Any) -> None:
            controller = dsd()
            phase = controller.phase if controller else None
            weights = [whole(p.detach()) for p in redense.prunable(model).values()]
            self.seen.append(
                (
                    controller.step if controller else -1,
                    phase.name if phase else "",
                    [int((w == 0).sum()) for w in weights],
                )
            )

        unwrap_optimizer(optimizer).register_step_post_hook(look)

    def check(self, first: int, last: int) -> None:
        assert [step for step, _, _ in self.seen] == list(range(first + 1, last + 1)), self.seen
        for step, name, zeros in self.seen:
            phase = SCHEDULE.phase_at(step)
            assert name == (phase.name if phase else ""), (step, name)
            if phase and phase.is_sparse:
                assert zeros == [round(0.4 * 104), round(0.4 * 52)], (step, zeros)
            elif step > 5:  # a step after the release
                assert zeros == [0, 0], (step, zeros)


@dataclass
class Outcome:
    trace: Trace
    weights: dict[str, Tensor]
    exported: dict[str, Tensor]


Loop = Callable[[int, int, Path, Path], Outcome]
"""First step, last step, checkpoint to resume from (where the first step is not 0), checkpoint to write."""


# --- the loops ------------------------------------------------------------------------------------------------------


def plain(
    first: int, last: int, load: Path, save: Path, wrap: Callable[[nn.Module], nn.Module] = lambda m: m
) -> Outcome:
    torch.manual_seed(first)
    model = wrap(make_model())
    optimizer = make_optimizer(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    scheduler = make_scheduler(optimizer)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "dsd": dsd}
    if first:
        state = torch.load(load, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
    trace = Trace()
    trace.watch(getattr(model, "module", model), optimizer, lambda: dsd)
    for step in range(first, last):
        for micro in range(MICRO):
            x, y = batch(step * MICRO + micro)
            (loss_of(model(x), y) / MICRO).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    state = {name: part.state_dict() for name, part in parts.items()}
    if RANK == 0:
        torch.save(state, save)
    if WORLD > 1:
        dist.barrier()
    inner = getattr(model, "module", model)
    return Outcome(trace, inner.state_dict(), inner.state_dict())


def ddp(first: int, last: int, load: Path, save: Path) -> Outcome:
    return plain(first, last, load, save, nn.parallel.DistributedDataParallel)


def shard(model: nn.Module) -> None:
    from torch.distributed.fsdp import fully_shard

    for layer in (model[0], model[2], model):  # pyright: ignore[reportIndexIssue]
        fully_shard(layer)


def fsdp2(first: int, last: int, load: Path, save: Path) -> Outcome:
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_model_state_dict,
        get_state_dict,
        set_state_dict,
    )

    torch.manual_seed(first)
    model = make_model()
    shard(model)
    optimizer = make_optimizer(model)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    scheduler = make_scheduler(optimizer)

    def states() -> dict[str, Any]:
        of_model, of_optimizer = get_state_dict(model, optimizer)
        return {
            "model": of_model,
            "optimizer": of_optimizer,
            "scheduler": scheduler.state_dict(),
            "dsd": dsd.sharded_state_dict(),
        }

    if first:
        state = states()
        dcp.load(state, checkpoint_id=load)  # pyright: ignore[reportPrivateImportUsage]
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        dsd.load_state_dict(state["dsd"])
    trace = Trace()
    trace.watch(model, optimizer, lambda: dsd)
    for step in range(first, last):
        for micro in range(MICRO):
            x, y = batch(step * MICRO + micro)
            (loss_of(model(x), y) / MICRO).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    dcp.save(states(), checkpoint_id=save)  # pyright: ignore[reportPrivateImportUsage]
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    weights = {name: whole(p.detach()) for name, p in model.named_parameters()}
    exported: list[Any] = [full if RANK == 0 else {}]
    dist.broadcast_object_list(exported)  # rank 0 alone has the full state
    return Outcome(trace, weights, exported[0])


def accelerate(first: int, last: int, load: Path, save: Path, sharded: bool = False) -> Outcome:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    torch.manual_seed(first)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()  # the Trainer's loader, at its end, is in it until that is collected: no accumulation
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=MICRO)
    if sharded:  # Accelerate offers FSDP2 on accelerators only; its code for it runs on CPU too, which is enough here
        for state in (PartialState(), accelerator.state):
            state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="no_wrap", state_dict_type="FULL_STATE_DICT"
        )
    model = make_model()
    model, optimizer = accelerator.prepare(model, make_optimizer(model))
    scheduler = make_scheduler(optimizer.optimizer)
    dsd = redense.DSD(model, optimizer, SCHEDULE)
    accelerator.register_for_checkpointing(scheduler, dsd)
    if first:
        accelerator.load_state(str(load))
    trace = Trace()
    trace.watch(accelerator.unwrap_model(model), optimizer, lambda: dsd)
    for number in range(first * MICRO, last * MICRO):
        with accelerator.accumulate(model):
            x, y = batch(number)
            accelerator.backward(loss_of(model(x), y))
            optimizer.step()
            if accelerator.sync_gradients:
                scheduler.step()
            optimizer.zero_grad()
    accelerator.save_state(str(save))
    weights = {name: whole(p.detach()) for name, p in accelerator.unwrap_model(model).named_parameters()}
    exported: list[Any] = [accelerator.get_state_dict(model)]  # under FSDP2, only rank 0's is full
    if sharded:
        dist.broadcast_object_list(exported)
    accelerator.free_memory()
    return Outcome(trace, weights, exported[0])


def accelerate_fsdp2(first: int, last: int, load: Path, save: Path) -> Outcome:
    return accelerate(first, last, load, save, sharded=True)


def lightning(first: int, last: int, load: Path, save: Path) -> Outcome:
    from redense.integrations.lightning import DSDCallback  # isort: skip
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_model()

        def training_step(self, _: Tensor, number: int) -> Tensor:
            x, y = batch(self.trainer.global_step * MICRO + number)
            return loss_of(self.net(x), y)

        def configure_optimizers(self) -> Any:
            optimizer = make_optimizer(self.net)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": make_scheduler(optimizer), "interval": "step"},
            }

    class Watch(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trace.watch(pl_module.net, trainer.optimizers[0], lambda: callback.dsd)  # pyright: ignore[reportArgumentType]

    trace, callback = Trace(), DSDCallback(SCHEDULE)
    torch.manual_seed(first)
    module = Module()
    trainer = pl.Trainer(
        max_epochs=last,  # of one step each: Lightning itself resumes exactly from the end of an epoch only
        accumulate_grad_batches=MICRO,
        callbacks=[callback, Watch(), ModelCheckpoint(save.parent, "{step}", save_top_k=-1)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(torch.zeros(MICRO), batch_size=1)  # pyright: ignore[reportArgumentType]
    written = save.parent / f"step={first}.ckpt"
    trainer.fit(module, loader, ckpt_path=written if first else None, weights_only=True)
    saved = torch.load(save.parent / f"step={last}.ckpt", weights_only=True)["state_dict"]
    return Outcome(trace, module.net.state_dict(), {name.removeprefix("net."): v for name, v in saved.items()})


def transformers(first: int, last: int, load: Path, save: Path) -> Outcome:
    from redense.integrations.transformers import DSDTrainerCallback  # isort: skip
    from safetensors.torch import load_file
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class WithLoss(nn.Sequential):
        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
            return {"loss": loss_of(super().forward(x[0]), y[0])}

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            trace.watch(kwargs["model"], kwargs["optimizer"], lambda: callback.dsd)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == last  # killed there; the data is that of all steps

    class InOrder(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
            return SequentialSampler(train_dataset or self.train_dataset)  # pyright: ignore[reportArgumentType]

    trace, callback = Trace(), DSDTrainerCallback(SCHEDULE)
    torch.manual_seed(first)
    model = WithLoss(*make_model().children())
    optimizer = make_optimizer(model)
    folder = save.parent / "output"
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        gradient_accumulation_steps=MICRO,
        per_device_train_batch_size=1,
        max_grad_norm=0.0,
        save_steps=1,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = InOrder(
        model,
        arguments,
        train_dataset=[dict(zip("xy", batch(n), strict=True)) for n in range(STEPS * MICRO)],  # pyright: ignore[reportArgumentType]
        optimizers=(optimizer, make_scheduler(optimizer)),
        callbacks=[callback, Watch()],
    )
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{first}") if first else None)
    trainer.save_model(str(save))
    return Outcome(trace, model.state_dict(), load_file(save / "model.safetensors"))


LOOPS: dict[str, Loop] = {
    loop.__name__: loop
    for loop in (
        (plain, lightning, transformers, accelerate) if WORLD == 1 else (ddp, fsdp2, accelerate, accelerate_fsdp2)
    )
}


# --- the contract ---------------------------------------------------------------------------------------------------


def same(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(weight, expected[name]) for name, weight in weights.items())


def assert_same(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(weights) == list(expected)
    for name, weight in weights.items():
        assert torch.equal(weight, expected[name]), name


def by_hand(*, sparse: bool = True, sharded: bool = False) -> dict[str, Tensor]:
    """The final weights of the loop that everybody knows, without redense's schedule: by hand."""
    torch.manual_seed(0)
    model = make_model()
    if sharded:
        shard(model)
    optimizer = make_optimizer(model)

    def steps(first: int, last: int) -> None:
        for step in range(first, last):
            for micro in range(MICRO):
                x, y = batch(step * MICRO + micro)
                (loss_of(model(x), y) / MICRO).backward()
            optimizer.step()
            optimizer.zero_grad()

    steps(0, 2)
    with redense.sparse(model, optimizer, 0.4) if sparse else contextlib.nullcontext():
        steps(2, 5)
    redense.scale_lr(optimizer, 0.1)
    steps(5, 7)
    return {name: whole(value.detach()).clone() for name, value in model.named_parameters()}


def reference(loop: Loop) -> dict[str, Tensor]:
    """The weights to end with: those of one process, where PyTorch itself trains shards to the same bits.

    Over gloo, FSDP2 of PyTorch 2.8 takes the sum of gradients for their average, without redense too: the loop by hand
    is over shards, too, then.
    """
    if loop in (fsdp2, accelerate_fsdp2) and not same(by_hand(sparse=False), by_hand(sparse=False, sharded=True)):
        return by_hand(sharded=True)
    return by_hand()


def hold_to_contract(loop: Loop, folder: Path) -> dict[str, str]:
    """What is broken, clause by clause; an empty string where nothing is."""
    found: dict[str, str] = {}

    def clause(name: str, check: Callable[[], None]) -> None:
        try:
            check()
            found[name] = ""
        except Exception:  # noqa: BLE001  # the test shows it
            found[name] = traceback.format_exc()

    (folder / "whole").mkdir(parents=True, exist_ok=True)  # by whichever rank is first
    straight = loop(0, STEPS, Path(), folder / "whole" / "end")

    def resumed() -> None:
        for number, chain in enumerate(CHAINS):
            (folder / f"chain{number}").mkdir(exist_ok=True)
            load, outcome = Path(), straight
            for first, last in chain:
                save = folder / f"chain{number}" / f"at-{last}"
                outcome = loop(first, last, load, save)
                outcome.trace.check(first, last)
                load = save
            assert_same(outcome.weights, straight.weights)

    def loads() -> None:
        module = make_model()
        module.load_state_dict(straight.exported, strict=True)
        assert_same(dict(module.state_dict()), straight.weights)

    clause(
        "zeros are held, and phases change at the exact step under accumulation", lambda: straight.trace.check(0, STEPS)
    )
    clause("the final weights are those of the loop by hand", lambda: assert_same(straight.weights, reference(loop)))
    clause("killed in every phase and resumed, it ends with the same bits", resumed)
    clause("what it leaves loads strictly into the plain module", loads)
    return found


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of Lightning about workers and step counts, of transformers about its arguments
    if WORLD > 1:
        torchrun = {
            "RANK": RANK,
            "LOCAL_RANK": RANK,
            "WORLD_SIZE": WORLD,
            "LOCAL_WORLD_SIZE": WORLD,
            "MASTER_PORT": 29500,
        }
        os.environ |= {"MASTER_ADDR": "localhost"} | {name: str(value) for name, value in torchrun.items()}
        dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=RANK, world_size=WORLD)
    folder = Path(sys.argv[5]) if len(sys.argv) > 5 else Path(tempfile.mkdtemp())
    wanted = sys.argv[6:] or list(LOOPS)
    results = {}
    for name in wanted:
        try:
            results[name] = hold_to_contract(LOOPS[name], folder / name)
        except Exception:  # noqa: BLE001  # the test shows it
            results[name] = {"it runs": traceback.format_exc()}
    Path(sys.argv[4]).write_text(json.dumps(results))
    if WORLD > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
