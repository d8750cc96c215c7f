"""Scanning a trained ResNet for sensitivity on CPU: redense's scan against the plain grid, at the same allocation.

    python benchmarks/scan_sensitivity.py [--check] [--rounds 3] [--depth 14] [--width 8] [--epochs 5]

The bar: the plain grid (every layer at every sparsity, each time the whole model) takes at least 3 times as long as the
scan for one overall sparsity, and both lead to the same sparsities. "for any target" is the scan that does not know
what it is for. Between them stand the two halves of the saving: "reuse" measures the whole grid but computes the layers
before the pruned one once, "one target" measures few points and computes everything. The network is trained first, on
the Fashion-MNIST sample that redense ships. Points that two scans both measured must have the same bits, or it stops.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from common import Bar, Contestant, finish, measure, parser, ratio, table
from torch import Tensor, nn

import redense
from redense.scans.result import Scan
from redense.tasks.classification.config import ImageData, ImageModel
from redense.tasks.classification.task import Classification

AT_LEAST = 3.0
SAME = 1e-6  # of a sparsity
OVERALL = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BATCH = 250


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut that is padded with zeros, free of weights (He et al. 2016, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride > 1 or self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        out += x
        return F.relu(out, inplace=True)


def resnet(depth: int, width: int, channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Return CIFAR's ResNet: depth 6n + 2, stages of width, 2 width and 4 width channels (He et al. 2016, 4.2)."""
    blocks: list[nn.Module] = []
    inputs = width
    for stage in range(3):
        for index in range((depth - 2) // 6):
            outputs = width * 2**stage
            blocks.append(Block(inputs, outputs, 2 if stage and not index else 1))
            inputs = outputs
    stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
    return nn.Sequential(stem, *blocks, head)


def sample() -> Classification:
    """Return the shipped Fashion-MNIST sample, a fifth of its training images held out for validation."""
    return Classification(ImageData(validation=0.2), ImageModel())


def batches(task: Classification, split: Any, size: int = BATCH, seed: int | None = None) -> Iterator[Any]:
    examples = task.examples(split)
    order = torch.arange(len(examples))
    if seed is not None:
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
    for part in order.split(size):
        yield examples.__getitems__(part.tolist())


def trained(task: Classification, *, depth: int, width: int, epochs: float, seed: int) -> nn.Module:
    """Train with SGD on a cosine; ``epochs`` may be a part of one."""
    torch.manual_seed(seed)
    model = resnet(depth, width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    per_epoch = len(task.examples("train")) // 64
    steps = max(1, round(epochs * per_epoch))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    done = 0
    while done < steps:
        for images, labels in batches(task, "train", 64, seed=1000 * seed + done):
            if done == steps or len(images) < 64:
                break
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            scheduler.step()
            done += 1
    return model.eval()


def evaluation(data: list[Any]) -> Callable[[nn.Module], tuple[float, float]]:
    """Return a function that gives a model's mean loss and its error in % on these batches."""

    def evaluate(model: nn.Module) -> tuple[float, float]:
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(images) for images, _ in data])
        labels = torch.cat([labels for _, labels in data])
        loss = F.cross_entropy(logits.double(), labels)
        return float(loss), 100 * float((logits.argmax(1) != labels).double().mean())

    return evaluate


def check_same(plain: Scan, other: Scan) -> None:
    """Refuse to compare scans that do not agree: in any bit of a value, or in what follows from them."""
    if other.note:
        raise SystemExit(f"the scan {other.note}")
    values = {(curve.name, s): value for curve in plain.curves for s, value in curve.points}
    for curve in other.curves:
        for sparsity, value in curve.points:
            if values[curve.name, sparsity] != value:
                raise SystemExit(f"'{curve.name}' at {sparsity} gave {values[curve.name, sparsity]} and {value}")


def difference(plain: Scan, other: Scan, overall: float) -> float:
    """Return the largest difference of any layer's sparsity at an overall sparsity."""
    a, b = plain.allocate(overall), other.allocate(overall)
    return max(abs(a[name] - b[name]) for name in a)


def main(arguments: list[str] | None = None) -> int:
    """Train, scan in four ways, check, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--depth", type=int, default=14, help="layers of the ResNet, 6n + 2")
    options.add_argument("--width", type=int, default=8, help="channels of its first stage")
    options.add_argument("--epochs", type=float, default=5, help="to train it for")
    options.add_argument("--overall", type=float, default=0.5, help="the sparsity that the scan is for")
    options.add_argument("--examples", type=int, default=1000, help="validation images to scan on")
    given = options.parse_args(arguments)

    task = sample()
    model = trained(task, depth=given.depth, width=given.width, epochs=given.epochs, seed=0)
    size = min(BATCH, given.examples)
    data = [*batches(task, "validation", size)][: given.examples // size]
    evaluate = evaluation(data)
    loss, error = evaluate(model)
    print(f"ResNet-{given.depth}, validation loss {loss:.3f}, error {error:.2f} %")

    scans: dict[str, Scan] = {}

    def contestant(name: str, **how: Any) -> Contestant:
        def run() -> None:
            scans[name] = redense.sensitivity(model, lambda model: evaluate(model)[0], **how)

        return Contestant(run)

    contestants = {
        "plain grid": contestant("plain grid", grid="full", reuse=False),
        "reuse": contestant("reuse", grid="full"),
        "for any target": contestant("for any target"),
        "one target": contestant("one target", overall=given.overall, reuse=False),
        "redense": contestant("redense", overall=given.overall),
    }
    seconds = measure(contestants, given.rounds)
    plain = scans["plain grid"]
    for name in contestants:
        if name != "plain grid":
            check_same(plain, scans[name])
    print(plain)
    print(scans["redense"])
    notes = {name: f"{scan.evaluations} evaluations" for name, scan in scans.items()}
    table(f"Scanning {len(plain.curves)} layers at {len(plain.sparsities)} sparsities", seconds, ["redense"], notes)
    differences = {name: difference(plain, scans[name], given.overall) for name in ("for any target", "redense")}
    for name, found in differences.items():
        print(f"{name}: no layer's sparsity differs from the plain grid's by more than {found:.3g}")
    gain = ratio(seconds, "plain grid", "redense")
    status = finish(
        "scan_sensitivity",
        given,
        settings={
            "depth": given.depth,
            "width": given.width,
            "epochs": given.epochs,
            "examples": sum(len(labels) for _, labels in data),
            "overall": given.overall,
        },
        seconds={"scan": seconds},
        ratios=[ratio(seconds, "plain grid", name) for name in contestants],
        bars=[Bar(gain, at_least=AT_LEAST)],
        facts={
            "loss": loss,
            "error": error,
            "evaluations": {name: scan.evaluations for name, scan in scans.items()},
            "differences": differences,
            "differences_elsewhere": {o: difference(plain, scans["for any target"], o) for o in OVERALL},
            "scan": scans["redense"].to_dict(),
            "plain": plain.to_dict(),
        },
    )
    return int(status or (given.check and differences["redense"] > SAME))


if __name__ == "__main__":
    sys.exit(main())
