"""The dense network teaches the sparse one (Hinton et al. 2015). About 40 s.

python examples/methods/distill.py
"""

import copy
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import DENSE, REDENSE, SPARSE, Net, loader, test_error

import redense
from redense.methods import distillation_loss


def main() -> None:
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model, teacher = Net(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)
    redense.DSD(model, optimizer, schedule)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
    for step, (x, y) in enumerate(loader()):
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        if teacher is not None:
            with torch.no_grad():
                answers = teacher(x)
            loss = distillation_loss(logits, answers, loss, temperature=4.0, mix=0.5)
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step == DENSE - 2:  # the last step of the dense phase prunes: copy before it
            teacher = copy.deepcopy(model).eval()
    # --8<-- [end:loop]
    print(f"test error {test_error(model):.2%}")


if __name__ == "__main__":
    main()
