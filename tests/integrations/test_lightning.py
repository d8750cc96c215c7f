"""The Lightning callback: optimization of every kind, precision, logs, fits in a row."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from redense import Schedule
from redense.errors import OptimizerError, ParameterError

pl = pytest.importorskip("pytorch_lightning")

from pytorch_lightning.callbacks import ModelCheckpoint  # noqa: E402  # after the skip where it is not installed
from pytorch_lightning.loggers import CSVLogger  # noqa: E402  # after the skip where it is not installed
from pytorch_lightning.plugins.precision.amp import MixedPrecision  # noqa: E402  # after the skip where it is not installed

from redense.integrations.lightning import DSDCallback  # noqa: E402  # after the skip where it is not installed

# Lightning's advice about data loaders and about logging, and what its fork of torch's tree code deprecates.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

SCHEDULE = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.5)


class Module(pl.LightningModule):
    """Two nets, so that there is something for two optimizers."""

    def __init__(self, *, manual: bool = False, optimizers: int = 1, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.one, self.two = nn.Linear(8, 4), nn.Linear(8, 4)
        self.count, self.every = optimizers, every
        self.rates: list[float] = []
        self.zeros: list[int] = []
        self.poison = -1  # the batch whose gradient is infinite

    def training_step(self, batch: Tensor, number: int) -> Tensor | None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        loss = (self.one(batch) + self.two(batch)).square().mean()
        if number == self.poison:
            loss = loss * torch.tensor(torch.inf)
        if self.automatic_optimization:
            return loss
        self.manual_backward(loss / self.every)
        if number % self.every == self.every - 1:
            for optimizer in self._every(self.optimizers()):
                optimizer.step()
                optimizer.zero_grad()
            for scheduler in self._every(self.lr_schedulers()):
                scheduler.step()
        return None

    def on_train_batch_end(self, *_: Any) -> None:
        self.zeros.append(int((self.one.weight == 0).sum()))

    def configure_optimizers(self) -> Any:
        nets = [self.one, self.two] if self.count == 2 else [self]
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in nets]
        schedulers = [torch.optim.lr_scheduler.LambdaLR(o, SCHEDULE.lr_factor) for o in optimizers]
        return optimizers, [{"scheduler": s, "interval": "step"} for s in schedulers]

    @staticmethod
    def _every(given: Any) -> list[Any]:
        return given if isinstance(given, list) else [given]


def data(batches: int) -> Any:
    torch.manual_seed(1)
    return torch.utils.data.DataLoader(torch.randn(batches * 4, 8), batch_size=4)  # pyright: ignore[reportArgumentType]


def fit(module: Any, callback: Any, batches: int, *, ckpt_path: Any = None, **more: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        **(quiet | {"logger": False, "enable_checkpointing": False, "max_epochs": 1} | more), callbacks=[callback]
    )
    trainer.fit(module, data(batches), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("manual", [False, True])
def test_phases_change_at_real_steps_under_accumulation(manual: bool):
    torch.manual_seed(0)
    module, callback = Module(manual=manual, every=2), DSDCallback(SCHEDULE)
    fit(module, callback, 14, **({} if manual else {"accumulate_grad_batches": 2}))
    # Pruned by the second step, which the fourth batch makes; released by the fifth, and moved by the sixth.
    assert module.zeros == [0] * 3 + [16] * 8 + [0] * 3
    assert module.rates == pytest.approx([0.1] * 10 + [0.01] * 4)


class Chain(Module):
    """Two layers, of which the first reads the input."""

    def __init__(self) -> None:
        super().__init__()
        self.two = nn.Linear(4, 8)

    def forward(self, batch: Tensor) -> Tensor:
        return self.two(self.one(batch))

    def training_step(self, batch: Tensor, number: int) -> Tensor:
        return self(batch).square().mean()


@pytest.mark.parametrize(("inputs", "removed"), [(None, 16), (torch.zeros(1, 8), 0)])
def test_with_an_example_of_the_inputs_the_layer_that_reads_them_stays_dense(inputs: Any, removed: int):
    torch.manual_seed(0)
    module = Chain()
    fit(module, DSDCallback(SCHEDULE, inputs=inputs), 3)
    assert module.zeros[-1] == removed
    assert int((module.two.weight == 0).sum()) == 16


def test_a_step_of_two_optimizers_is_complete_when_both_have_stepped():
    torch.manual_seed(0)
    module, callback = Module(manual=True, optimizers=2), DSDCallback(SCHEDULE)
    fit(module, callback, 7)
    assert module.zeros == [0] + [16] * 4 + [0] * 2


def test_one_of_several_optimizers_can_be_chosen():
    torch.manual_seed(0)
    module, callback = Module(manual=True, optimizers=2), DSDCallback(SCHEDULE, optimizers=[1])
    fit(module, callback, 3)
    assert module.zeros == [0, 0, 0]
    assert int((module.two.weight == 0).sum()) == 16
    with pytest.raises(OptimizerError, match="optimizers has 2, but configure_optimizers gave 2"):
        fit(Module(manual=True, optimizers=2), DSDCallback(SCHEDULE, optimizers=[2]), 1)


@pytest.mark.parametrize("bad", ["0", ["0"], [True], [0.0], []])
def test_what_is_no_index_of_an_optimizer_is_refused_at_once(bad: Any):
    with pytest.raises(OptimizerError, match="optimizers takes indices of what configure_optimizers returns, got"):
        DSDCallback(SCHEDULE, optimizers=bad)
    taken: list[Any] = [1, iter([1])]
    assert [DSDCallback(SCHEDULE, optimizers=good)._indices for good in taken] == [[1], [1]]


def test_bfloat16_holds_the_zeros():
    module = Module()
    fit(module, DSDCallback(SCHEDULE), 7, precision="bf16-mixed")
    assert module.zeros == [0] + [16] * 4 + [0] * 2
    assert module.one.weight.dtype == torch.float32


@pytest.mark.parametrize("manual", [False, True])
def test_a_step_that_the_16_bit_scaler_skips_is_none(manual: bool):
    module = Module(manual=manual)
    module.poison = 0
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=64.0))
    fit(module, DSDCallback(SCHEDULE), 8, plugins=[plugin])
    assert module.zeros == [0] * 2 + [16] * 4 + [0] * 2


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device for Lightning's own 16-mixed"
)
def test_16_bit_on_a_gpu():
    module = Module()
    fit(module, DSDCallback(SCHEDULE), 7, precision="16-mixed", accelerator="gpu", devices=1)
    assert 16 in module.zeros


def test_phase_and_sparsity_are_logged(tmp_path: Path):
    module = Module()
    fit(module, DSDCallback(SCHEDULE), 7, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    lines = (next(tmp_path.rglob("metrics.csv"))).read_text().splitlines()
    columns = lines[0].split(",")
    seen = [
        (float(row[columns.index("dsd/phase")]), float(row[columns.index("dsd/sparsity")]))
        for row in (line.split(",") for line in lines[1:])
    ]
    assert seen == [(0, 0)] * 2 + [(1, 0.5)] * 3 + [(2, 0)] * 2
    quiet = fit(Module(), DSDCallback(SCHEDULE, log=False), 3)
    assert not quiet.logged_metrics


def test_a_checkpoint_of_a_sparse_phase_loads_into_the_plain_module_and_goes_on(tmp_path: Path):
    torch.manual_seed(0)
    whole = Module()
    fit(whole, DSDCallback(SCHEDULE), 1, max_epochs=7)
    module = Module()
    torch.manual_seed(0)
    module = Module()
    saver = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1)
    trainer = pl.Trainer(
        max_epochs=4,
        callbacks=[DSDCallback(SCHEDULE), saver],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data(1))
    file = tmp_path / "step=3.ckpt"
    saved = torch.load(file, weights_only=True)
    plain = Module()
    plain.load_state_dict(saved["state_dict"], strict=True)
    assert int((plain.one.weight == 0).sum()) == 16
    assert set(saved["callbacks"]["DSDCallback"]["masks"]) == {"one.weight", "two.weight"}
    again = Module()
    fit(again, DSDCallback(SCHEDULE), 1, max_epochs=7, ckpt_path=file)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name


def test_a_callback_starts_anew_in_another_trainer_and_goes_on_in_the_same_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    callback = DSDCallback(SCHEDULE)
    module = Module()
    trainer = fit(module, callback, 1, max_epochs=3)
    assert "training ended after 3 of 7 steps, in phase 'sparse'" in caplog.text
    hooks = [hook for o in trainer.optimizers for hook in o._optimizer_step_post_hooks.values()]
    assert not [hook for hook in hooks if hasattr(hook, "controller")]
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    assert torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"]["DSDCallback"]["steps"] == [3]
    trainer.fit_loop.max_epochs = 7
    trainer.fit(module, data(1))
    assert module.zeros == [0] + [16] * 4 + [0] * 2
    another = Module()
    fit(another, callback, 1, max_epochs=3)
    assert another.zeros == [0] + [16] * 2


class Broken(Module):
    at = 3

    def training_step(self, batch: Tensor, number: int) -> Tensor | None:
        if len(self.zeros) == self.at:
            raise ValueError("a broken batch")
        return super().training_step(batch, number)


def test_a_fit_that_is_broken_off_goes_on_in_the_same_trainer_and_lets_another_one_start():
    callback, module = DSDCallback(SCHEDULE), Broken()
    trainer = fit(Module(), pl.Callback(), 1, max_epochs=0)
    trainer.callbacks.append(callback)
    trainer.fit_loop.max_epochs = 7
    with pytest.raises(ValueError, match="broken"):
        trainer.fit(module, data(1))
    assert callback.state_dict()["steps"] == [3]
    module.at = -1
    trainer.fit(module, data(1))
    assert module.zeros == [0] + [16] * 4 + [0] * 2
    module.at, module.zeros = 3, []
    with pytest.raises(ValueError, match="broken"):
        fit(module, callback, 1, max_epochs=7)
    module.at, module.zeros = -1, []
    fit(module, DSDCallback(SCHEDULE), 1, max_epochs=7)
    assert module.zeros[-2:] == [0, 0]


class RestoresOnTheWay(Module):
    """Trains two steps too many and restores what was before, as a search for a learning rate in mid-training does."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 2 and not hasattr(self, "kept"):
            connector = self.trainer._checkpoint_connector
            self.kept = connector.dump_checkpoint()
            for _ in range(2):
                for optimizer in self.trainer.optimizers:
                    self(torch.ones(1, 8)).sum().backward()
                    optimizer.step()
            connector._loaded_checkpoint = self.kept
            connector.restore_model()
            connector.restore_callbacks()
            connector.restore_optimizers()

    def forward(self, batch: Tensor) -> Tensor:
        return self.one(batch) + self.two(batch)


def test_what_is_restored_in_the_midst_of_a_fit_is_gone_on_with():
    module, callback = RestoresOnTheWay(), DSDCallback(SCHEDULE)
    fit(module, callback, 1, max_epochs=7)
    assert module.zeros == [0] + [16] * 4 + [0] * 2
    assert callback.state_dict()["steps"] == [7]


def test_a_checkpoint_that_was_made_without_redense_says_where_the_schedule_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    trainer = fit(Module(), pl.Callback(), 3)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    module = Module()
    fit(module, DSDCallback(SCHEDULE), 3, max_epochs=2, ckpt_path=tmp_path / "plain.ckpt")
    assert "resumed at step 3 from a checkpoint without redense: it starts here" in caplog.text
    assert module.zeros == [0, 16, 16]


def test_a_module_inside_fsdp1_is_refused(monkeypatch: pytest.MonkeyPatch):
    class FullyShardedDataParallel(nn.Module):
        sharding_strategy = None

    def of_fsdp1(self: Any) -> nn.Module:
        return FullyShardedDataParallel()

    class Wrapped(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            monkeypatch.setattr(type(trainer.strategy), "model", property(of_fsdp1, lambda self, value: None))

    with pytest.raises(ParameterError, match="FSDP1"):
        pl.Trainer(
            max_epochs=1,
            callbacks=[Wrapped(), DSDCallback(SCHEDULE)],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Module(), data(1))


class LoadsItsBest(Module):
    """Takes the weights of the second step again when training ends."""

    def on_train_batch_end(self, *what: Any) -> None:
        super().on_train_batch_end(*what)
        if len(self.zeros) == 1:
            self.best = {name: value.clone() for name, value in self.state_dict().items()}

    def on_train_end(self) -> None:
        self.load_state_dict(self.best)


def test_weights_that_are_loaded_at_the_end_stay_as_they_are(caplog: pytest.LogCaptureFixture):
    module = LoadsItsBest()
    fit(module, DSDCallback(SCHEDULE), 3)
    assert module.zeros == [0, 16, 16]
    assert "all weights are left as they are" in caplog.text.lower()
    assert all(torch.equal(value, module.best[name]) for name, value in module.state_dict().items())


def test_names_that_can_be_read_once_hold_for_every_fit_and_a_used_callback_can_be_copied():
    callback = DSDCallback(SCHEDULE, exclude=(name for name in ["one"]))  # pyright: ignore[reportArgumentType]
    for _ in range(2):
        module = Module()
        fit(module, callback, 3)
        assert module.zeros == [0, 0, 0]
        assert callback.state_dict()["steps"] == [3]
    another = Module()
    fit(another, pickle.loads(pickle.dumps(callback)), 3)
    assert int((another.two.weight == 0).sum()) == 16
