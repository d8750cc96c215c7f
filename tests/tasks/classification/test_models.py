"""The small networks of our own recipes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redense.tasks.classification.config import ImageModel
from redense.tasks.classification.models import build


def as_it_is_drawn(shape: tuple[int, int, int], widths: tuple[int, ...], classes: int) -> nn.Sequential:
    """Convolution, ReLU, pooling: the order that everybody draws."""
    layers: list[nn.Module] = []
    channels = shape[0]
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    side = shape[1] >> len(widths)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels * side * side, classes))


def trained(model: nn.Module, precision: torch.dtype) -> list[Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        torch.manual_seed(step)
        images = torch.rand(8, 1, 12, 12, generator=generator)
        images[:, :, :5] = 0  # ties within the windows that are pooled
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = F.cross_entropy(model(images), torch.randint(4, (8,), generator=generator))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_cnn_pools_before_it_rectifies_and_learns_the_same_to_the_bit(
    layout: torch.memory_format, precision: torch.dtype
):
    ours = build(ImageModel(name="cnn", widths=(4, 8), dropout=0.5), (1, 12, 12), 4)
    drawn = as_it_is_drawn((1, 12, 12), (4, 8), 4)
    drawn.load_state_dict(dict(zip(drawn.state_dict(), ours.state_dict().values(), strict=True)))
    models = [model.to(memory_format=layout) for model in (ours, drawn)]  # pyright: ignore[reportCallIssue]
    for one, other in zip(*(trained(model, precision) for model in models), strict=True):
        assert torch.equal(one, other)
