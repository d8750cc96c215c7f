"""Two alternatives to a mask, as pieces: DropConnect (Wan et al. 2013) and low rank (Denton et al. 2014). About 25 s.

python examples/methods/others.py
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))
from common import DENSE, SPARSE, Net, loader, test_error

from redense.methods import drop_connect, factorise_


def main() -> None:
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step, (x, y) in enumerate(loader(DENSE + SPARSE)):
        if step == DENSE:
            print("ranks", factorise_(model, energy=0.9))  # in place of pruning: new parameters, a new optimizer
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        answers = drop_connect(model, rate=0.2)(x) if step < DENSE else model(x)
        nn.functional.cross_entropy(answers, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    # --8<-- [end:loop]
    print(f"test error {test_error(model):.2%}")


if __name__ == "__main__":
    main()
