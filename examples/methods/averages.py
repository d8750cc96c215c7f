"""Averages of the weights beside DSD: an EMA that is as sparse as the network, and SWA over the last phase. About 40 s.

python examples/methods/averages.py
"""

import sys
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import DENSE, REDENSE, SPARSE, Net, loader, test_error

import redense


def main() -> None:
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.5)
    dsd = redense.DSD(model, optimizer, schedule)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
    moving = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    mean = AveragedModel(model)  # SWA
    for step, (x, y) in enumerate(loader()):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        moving.update_parameters(model)
        dsd.mask_copy(moving)  # or it keeps what the removed weights were, for hundreds of steps
        if step >= DENSE + SPARSE:
            mean.update_parameters(model)  # of the last phase alone: no mask to mind
        if step == DENSE + SPARSE - 2:
            print(f"under the mask: {zeros(model):.1%} of the network is zero, {zeros(moving.module):.1%} of its EMA")
    # --8<-- [end:loop]
    # A network with batch normalisation needs torch.optim.swa_utils.update_bn(loader, mean) here.
    print(
        f"the network {test_error(model):.2%}, its EMA {test_error(moving):.2%}, SWA: test error {test_error(mean):.2%}"
    )


def zeros(model: torch.nn.Module) -> float:
    """Return the part of the prunable weights that is zero."""
    weights = torch.cat([weight.detach().flatten() for weight in redense.prunable(model).values()])
    return (weights == 0).float().mean().item()


if __name__ == "__main__":
    main()
