"""Training the quickstart's network: `redense run`'s engine, the same as a bare loop, and a loop as beginners write it.

    python benchmarks/train_quickstart.py [--check] [--images 1920] [--device cpu] [--rounds 7]

All train the CNN of the quickstart for three phases of one epoch and evaluate it on 1,000 images after each:

- redense: the engine as `redense run` sets it up, D -> S -> D, with its log, its curves and its checkpoints;
- redense, bf16: the same with ``--training.precision bf16``;
- bare loop: the same recipe without any of redense: batches sliced from a tensor, channels last, a dense model, no log;
- naive loop: ``DataLoader`` over PIL images with torchvision's transforms, contiguous, fp32.

Each has a process of its own, for they differ in what the C library does with freed memory, and they take turns. What
is timed is the processor time of the training: other programs on the machine disturb it least. With ``--device cuda``
(skipped where there is none) it is the clock. The bars: redense has at least 0.97 of the bare loop's examples a second,
and is twice as fast as the naive loop.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import Bar, Contestant, Took, add_device, device_of, finish, measure, parser, ratio, table
from torch import Tensor, nn

AT_MOST_BARE = 1 / 0.97
AT_MOST_NAIVE = 0.5
BATCH, EVALUATED = 64, 500
RATES = (0.02, 0.02, 0.002)  # of the quickstart's three phases

Run = Callable[[], object]


def splits(images: int, validation: float) -> Any:
    """Return the quickstart's splits, with so many training images and that share of all held out."""
    from redense.tasks.classification.config import ImageData
    from redense.tasks.classification.data.loading import load_images

    return load_images(ImageData(limit=images, validation=validation))


def network(*, as_drawn: bool) -> nn.Sequential:
    """Return the quickstart's network; ``as_drawn`` rectifies before it pools."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
        pair = [nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *(pair if as_drawn else reversed(pair))]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(576, 10))


def train(model: nn.Module, batches: Callable[[], Any], held_out: Callable[[], Any], steps: int) -> None:
    """Three phases of SGD with cosine decay, and an evaluation after each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATES[0], momentum=0.9, weight_decay=5e-4)
    for rate in RATES:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = rate
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        model.train()
        for images, labels in batches():
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        model.eval()
        wrong, total = 0, torch.zeros((), device=next(model.parameters()).device)
        with torch.no_grad():
            for images, labels in held_out():
                logits = model(images)
                total += F.cross_entropy(logits, labels, reduction="sum")
                wrong += int((logits.argmax(1) != labels).sum())


@contextmanager
def bare(images: int, validation: float, device: str) -> Iterator[Run]:
    """The recipe's training and nothing else."""
    data = splits(images, validation)
    pixels, labels = data.train.images.to(device).float().div(255), data.train.labels.to(device)
    mean, std = pixels.mean(), pixels.std()
    held_out = (data.validation.images.to(device).float().div(255) - mean) / std
    answers = data.validation.labels.to(device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for where in torch.randperm(images, device=device).split(BATCH)[: images // BATCH]:
            yield (pixels[where] - mean) / std, labels[where]

    def evaluation() -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(held_out.split(EVALUATED), answers.split(EVALUATED), strict=True)

    def run() -> None:
        model = network(as_drawn=False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        train(model.to(device), batches, evaluation, images // BATCH)

    yield run


@contextmanager
def naive(images: int, validation: float, device: str) -> Iterator[Run]:
    """A loop as tutorials write it: a dataset of PIL images, transformed one by one, collated by DataLoader."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from redense.tasks.classification.vision import torchvision

    torchvision()
    from torchvision import transforms

    data = splits(images, validation)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))])

    class Pictures(Dataset[Any]):
        def __init__(self, part: Any) -> None:
            self.pixels, self.labels = part.images.squeeze(1).byte().numpy(), part.labels.tolist()

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> Any:
            return transform(Image.fromarray(self.pixels[index])), self.labels[index]

    batches = DataLoader(Pictures(data.train), batch_size=BATCH, shuffle=True, drop_last=True)
    held_out = DataLoader(Pictures(data.validation), batch_size=EVALUATED)

    def moved(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        for pictures, labels in loader:
            yield pictures.to(device), labels.to(device)

    model = functools.partial(network, as_drawn=True)
    yield lambda: train(model().to(device), lambda: moved(batches), lambda: moved(held_out), images // BATCH)


@contextmanager
def by_redense(images: int, validation: float, device: str, precision: str = "fp32") -> Iterator[Run]:
    """The engine with what `redense run` gives it: a recorder, and checkpoints in a run folder."""
    if device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"  # it would take a GPU where there is one
    from redense.lab.checkpoint import save_tree
    from redense.lab.events import tell
    from redense.lab.ranks.memory import keep_freed_memory
    from redense.lab.recipe.recipe import load_recipe
    from redense.lab.runs.log import Recorder
    from redense.lab.tasks import make_task
    from redense.lab.training.engine import Engine

    short = [f"--{phase}.epochs=1" for phase in ("dense", "sparse", "redense")]
    data = [f"--data.limit={images}", f"--data.validation={validation}"]
    recipe = load_recipe("quickstart", [*data, f"--training.precision={precision}", *short])
    task = make_task(recipe)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name, Recorder(Path(name)) as recorder:
        recorder.begin(0)

        def emit(event: dict[str, Any]) -> None:
            recorder({"step": 0, **event})
            tell({"step": 0, **event}, folder=name)

        def run() -> None:
            engine = Engine(
                task,
                recipe,
                emit=emit,
                save=lambda snapshot: save_tree(Path(name) / "last.safetensors", snapshot),
            )
            for _ in engine.plan:
                engine.train()

        yield run


CONTESTANTS = {
    "redense": by_redense,
    "redense, bf16": functools.partial(by_redense, precision="bf16"),
    "bare loop": bare,
    "naive loop": naive,
}


def took(run: Run) -> tuple[float, float]:
    """Return the processor time and the time on the clock of one run, in s."""
    began, on_clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - began, time.perf_counter() - on_clock


def serve(name: str, images: int, validation: float, device: str, threads: int, pipe: Connection) -> None:
    """Run a contestant whenever the pipe asks for it, in a process of its own."""
    torch.set_num_threads(threads)
    with CONTESTANTS[name](images, validation, device) as run:
        while pipe.recv():
            pipe.send(took(run))


def start(name: str, given: argparse.Namespace, blocks: ExitStack) -> Callable[[], tuple[float, float]]:
    """Return what runs a contestant once and says how long it took."""
    if given.same_process:
        made = CONTESTANTS[name](given.images, given.validation, given.device)
        return functools.partial(took, blocks.enter_context(made))
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    told = (name, given.images, given.validation, given.device, torch.get_num_threads(), other)
    process = context.Process(target=serve, args=told, daemon=True)
    process.start()
    other.close()
    blocks.callback(process.join)
    blocks.callback(pipe.send, False)

    def run() -> tuple[float, float]:
        pipe.send(True)
        return pipe.recv()

    return run


def main(arguments: list[str] | None = None) -> int:
    """Train with each in turn, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=7)
    options.add_argument("--images", type=int, default=1920, help="training images (default: 1920)")
    options.add_argument("--validation", type=float, default=0.1, help="share of 10,000 images to evaluate on (0.1)")
    options.add_argument("--same-process", action="store_true", help="all in this process (for a quick look)")
    add_device(options)
    given = options.parse_args(arguments)
    device = device_of(given)
    if device is None:
        return 0
    timed = "the clock" if device.type == "cuda" else "processor time"

    on_clock: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with ExitStack() as blocks:
        runs = {name: start(name, given, blocks) for name in CONTESTANTS}

        def once(name: str) -> Took:
            cpu, wall = runs[name]()
            on_clock[name].append(wall)
            return Took(wall if device.type == "cuda" else cpu)

        seconds = measure({name: Contestant(functools.partial(once, name)) for name in runs}, given.rounds)

    trained = 3 * (given.images // BATCH) * BATCH
    notes = {name: f"{trained / sorted(times)[len(times) // 2]:.0f} examples/s" for name, times in seconds.items()}
    title = f"Three epochs of {trained // 3:,} images, {timed}"
    table(title, seconds, ("bare loop", "naive loop"), notes)
    wall = {name: times[1:] for name, times in on_clock.items()}
    pairs = [(name, to) for name in ("redense", "redense, bf16") for to in ("bare loop", "naive loop")]
    ratios = [ratio(seconds, *pair) for pair in [*pairs, ("bare loop", "naive loop")]]
    for of, to in pairs:
        print(f"on the clock, {of} / {to}: {ratio(wall, of, to)}")
    return finish(
        "train_quickstart",
        given,
        settings={
            "images": given.images,
            "evaluated": given.validation,
            "batch": BATCH,
            "phases": 3,
            "timed": timed,
        },
        seconds={"train": seconds, "on the clock": wall},
        ratios=ratios,
        bars=[Bar(ratios[0], at_most=AT_MOST_BARE), Bar(ratios[1], at_most=AT_MOST_NAIVE)],
    )


if __name__ == "__main__":
    sys.exit(main())
