"""Data parallel, under torchrun: the plain loop, with twice the images a step.

torchrun --standalone --nproc_per_node 2 examples/ddp.py
"""

import torch
import torch.distributed as dist
from common import DENSE, REDENSE, SPARSE, Net, loader, test_error
from torch.nn.parallel import DistributedDataParallel

import redense  # redense


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model = DistributedDataParallel(Net())
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
    if dist.get_rank() == 0:
        print(f"test error {test_error(model.module):.2%}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
