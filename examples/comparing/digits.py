"""A plain loop on scikit-learn's digits: does DSD help a small network? 20 s to a minute of one core.

python examples/comparing/digits.py
"""

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import redense

QUICK = "--quick" in sys.argv  # only shows that it runs
DENSE, SPARSE, REDENSE = (6, 3, 3) if QUICK else (600, 300, 300)


# --8<-- [start:train]
def train(schedule: redense.Schedule, seed: int) -> dict[str, float]:
    """Train with a seed, and return the validation and the test error in %."""
    images, labels = (torch.as_tensor(np.asarray(part)) for part in load_digits(return_X_y=True))
    images, labels = images.float() / 16, labels.long()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
    redense.DSD(model, optimizer, schedule)
    for _ in range(schedule.total_steps):
        batch = torch.randint(0, 900, (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        scheduler.step()
    wrong = 100 * (model(images).argmax(1) != labels).float()
    return {"validation_error": wrong[900:1200].mean().item(), "test_error": wrong[1200:].mean().item()}


# --8<-- [end:train]


def main() -> None:
    # --8<-- [start:compare]
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)
    result = redense.compare(train, schedule, arms=("dsd", "restart", "llr", "longer"), seeds=2 if QUICK else 5)
    print(result)
    # --8<-- [end:compare]


if __name__ == "__main__":
    main()
