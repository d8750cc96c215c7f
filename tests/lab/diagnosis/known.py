"""Models and losses whose measures are known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = dict[str, Tensor]


class Point(nn.Module):
    """A model that is nothing but its weights."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float32))


def network(seed: int = 0, *, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [
        nn.Linear(6, 8),
        nn.BatchNorm1d(8) if norm else nn.Identity(),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    ]
    model = nn.Sequential(*layers)
    if norm:
        with torch.no_grad():
            model(torch.randn(64, 6) * 2 + 1)  # running statistics that are not those of the start
    return model


def sample(seed: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator)


X, Y = sample()


def cross_entropy(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X), Y)


def error(model: nn.Module) -> float:
    return 100 * float((model(X).argmax(1) != Y).double().mean())


def copy(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def quadratic(hessian: Tensor) -> Callable[[nn.Module], Tensor]:
    """``1/2 w' H w``: its Hessian is H everywhere."""

    def loss(model: Any) -> Tensor:
        return 0.5 * model.w @ hessian @ model.w

    return loss


def rotated(*eigenvalues: float, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues along random axes."""
    generator = torch.Generator().manual_seed(seed)
    n = len(eigenvalues)
    axes = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    return (axes @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ axes.T).float()


# --- line -----------------------------------------------------------------------------------------------------------


def double_well(model: Any) -> Tensor:
    return (model.w.square() - 1).square().sum()


# --- similarity -----------------------------------------------------------------------------------------------------


def hidden(examples: int, units: int, seed: int = 0) -> Tensor:
    return torch.randn(examples, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
