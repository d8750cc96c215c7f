"""A plain PyTorch loop. About 40 s of one core; 14 % test error.

python examples/plain_loop.py
"""

import torch
from common import DENSE, REDENSE, SPARSE, Net, loader, test_error

import redense  # redense


def main() -> None:
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)  # redense
    redense.DSD(model, optimizer, schedule)  # redense
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)  # redense
    for x, y in loader():
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()  # redense
        optimizer.zero_grad()
    # --8<-- [end:loop]
    print(f"test error {test_error(model):.2%}")


if __name__ == "__main__":
    main()
