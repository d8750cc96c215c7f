"""LoRA with peft: DSD on the adapter, while the network under it stays as it is. About 40 s.

pip install peft && python examples/methods/with_peft.py
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model  # pyright: ignore[reportMissingImports]  # not of make check

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import DENSE, REDENSE, SPARSE, STEPS, Net, loader, test_error

import redense


def main() -> None:
    torch.manual_seed(0)
    base = Net()
    train(base, torch.optim.SGD(base.parameters(), lr=0.05, momentum=0.9), DENSE)
    # --8<-- [start:adapter]
    model = get_peft_model(base, LoraConfig(r=8, target_modules=["6", "10", "12"]))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)
    redense.DSD(model, optimizer, schedule)
    print(redense.summary(model))
    # --8<-- [end:adapter]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.lr_factor)
    train(Turned(model), optimizer, STEPS, scheduler.step)
    merged = model.merge_and_unload()  # a plain Net again
    print(f"on upside-down images: test error {test_error(Turned(merged)):.2%}")


class Turned(torch.nn.Module):
    """Shows a network the images upside down."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.flip(2))


def train(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int, after: Callable[[], object] = lambda: None
) -> None:
    """Train as any loop would."""
    for x, y in loader(steps):
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        after()


if __name__ == "__main__":
    main()
