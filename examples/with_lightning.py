"""A Lightning Trainer, with accumulation, a logger and checkpoints. About 50 s of one core; 14 % test error.

python examples/with_lightning.py
"""

import tempfile
import warnings

from redense.integrations.lightning import DSDCallback  # redense

# isort: split
import pytorch_lightning as pl
import torch
from common import DENSE, REDENSE, SPARSE, STEPS, Net, loader, test_error
from torch import Tensor

import redense  # redense


# --8<-- [start:module]
class Module(pl.LightningModule):
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)  # redense

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        schedulers = []
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule.lr_factor)  # redense
        schedulers.append({"scheduler": scheduler, "interval": "step"})  # redense
        return [optimizer], schedulers


# --8<-- [end:module]


def main() -> None:
    warnings.filterwarnings("ignore", ".*num_workers.*")  # these images are in memory
    torch.manual_seed(0)
    # --8<-- [start:fit]
    module = Module()
    callbacks: list[pl.Callback] = []
    callbacks.append(DSDCallback(module.schedule))  # redense
    folder = tempfile.mkdtemp()
    trainer = pl.Trainer(max_steps=STEPS, accumulate_grad_batches=2, callbacks=callbacks, default_root_dir=folder)
    trainer.fit(module, loader(2 * STEPS, batch_size=32))
    # --8<-- [end:fit]
    print(f"test error {test_error(module.net):.2%}")


if __name__ == "__main__":
    main()
