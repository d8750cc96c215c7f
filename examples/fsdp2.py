"""Sharded weights (FSDP2) in bfloat16, under torchrun, and a distributed checkpoint.

torchrun --standalone --nproc_per_node 2 examples/fsdp2.py
"""

import tempfile

import torch
import torch.distributed as dist
from common import DENSE, REDENSE, SPARSE, Net, loader, test_error
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

import redense  # redense


def main() -> None:
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model = Net()
    fully_shard(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)  # redense
    dsd = redense.DSD(model, optimizer, schedule)  # redense
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)  # redense
    for x, y in loader():
        loss = torch.nn.functional.cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()
        scheduler.step()  # redense
        optimizer.zero_grad()
    # --8<-- [end:loop]
    # --8<-- [start:save]
    of_model, of_optimizer = get_state_dict(model, optimizer)
    state = {"model": of_model, "optimizer": of_optimizer}
    state |= {"dsd": dsd.sharded_state_dict(), "scheduler": scheduler.state_dict()}  # redense
    folder = [tempfile.mkdtemp()]
    dist.broadcast_object_list(folder)
    dcp.save(state, checkpoint_id=folder[0])  # pyright: ignore[reportPrivateImportUsage]
    # --8<-- [end:save]
    # --8<-- [start:load]
    dcp.load(state, checkpoint_id=folder[0])  # pyright: ignore[reportPrivateImportUsage]
    dsd.load_state_dict(state["dsd"])  # redense
    # --8<-- [end:load]
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    if dist.get_rank() == 0:
        plain = Net()
        plain.load_state_dict(whole)
        print(f"test error {test_error(plain):.2%}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
