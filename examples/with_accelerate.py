"""A loop with Accelerate, in one process or several. About 40 s of one core; 14 % test error.

accelerate launch --cpu --num_processes 1 examples/with_accelerate.py
"""

import torch
from accelerate import Accelerator
from common import DENSE, REDENSE, SPARSE, STEPS, Net, loader, test_error

import redense  # redense


def main() -> None:
    torch.manual_seed(0)
    # --8<-- [start:loop]
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    model, optimizer = accelerator.prepare(model, optimizer)
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)  # redense
    dsd = redense.DSD(model, optimizer, schedule)  # redense
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, schedule.lr_factor)  # redense
    accelerator.register_for_checkpointing(dsd, scheduler)  # redense
    for x, y in loader(2 * STEPS, batch_size=32):
        with accelerator.accumulate(model):
            loss = torch.nn.functional.cross_entropy(model(x.to(accelerator.device)), y.to(accelerator.device))
            accelerator.backward(loss)
            optimizer.step()
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:  # redense
                scheduler.step()  # redense
            optimizer.zero_grad()
    # --8<-- [end:loop]
    if accelerator.is_main_process:
        print(f"test error {test_error(accelerator.unwrap_model(model).cpu()):.2%}")


if __name__ == "__main__":
    main()
