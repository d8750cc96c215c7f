"""Sharpness-aware minimisation (Foret et al., ICLR 2021) in a loop with DSD. About 60 s: two gradients a step.

pip install pytorch_optimizer && python examples/methods/sam.py
"""

import sys
from pathlib import Path

import torch
from pytorch_optimizer import SAM

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import DENSE, REDENSE, SPARSE, Net, loader, test_error

import redense


def main() -> None:
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model = Net()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)
    redense.DSD(model, optimizer, schedule)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer.base_optimizer, schedule.lr_factor)
    for x, y in loader():
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.first_step(zero_grad=True)  # climb; a removed weight takes no part in the radius
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.second_step(zero_grad=True)  # return, and step: both are one step of the schedule
        scheduler.step()
    # --8<-- [end:loop]
    print(f"test error {test_error(model):.2%}")


if __name__ == "__main__":
    main()
