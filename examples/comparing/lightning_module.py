"""A Lightning module on Fashion-MNIST: DSD beside its controls. About 10 minutes of one core.

python examples/comparing/lightning_module.py
"""

import sys
import tempfile
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

import redense
from redense.integrations.lightning import DSDCallback

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import DENSE, QUICK, REDENSE, SPARSE, Net, dataset, loader


class Module(pl.LightningModule):
    def __init__(self, schedule: redense.Schedule) -> None:
        super().__init__()
        self.net, self.schedule = Net(), schedule

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule.lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


# --8<-- [start:train]
def train(schedule: redense.Schedule, seed: int) -> dict[str, float]:
    """Train with a seed, and return the validation and the test error in %."""
    pl.seed_everything(seed, verbose=False)
    module = Module(schedule)
    trainer = pl.Trainer(
        max_steps=schedule.total_steps,
        callbacks=[DSDCallback(schedule)],
        default_root_dir=tempfile.mkdtemp(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(schedule.total_steps))
    half = 100 if QUICK else 5000
    images, labels = (tensor[: 2 * half] for tensor in dataset("t10k").tensors)
    with torch.no_grad():
        wrong = 100 * (module.net.eval()(images).argmax(1) != labels).float()
    return {"validation_error": wrong[:half].mean().item(), "test_error": wrong[half:].mean().item()}


# --8<-- [end:train]


def main() -> None:
    warnings.filterwarnings("ignore", ".*num_workers.*")  # these images are in memory
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)
    arms = ("dsd", "restart") if QUICK else ("dsd", "restart", "llr", "longer")
    print(redense.compare(train, schedule, arms=arms, seeds=2 if QUICK else 5))


if __name__ == "__main__":
    main()
