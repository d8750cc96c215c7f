"""The launch of this process: alone, or by torchrun or `accelerate launch` as one rank of several. No torch here.

`Ranks` is what one rank alone does: nothing, in most cases. `redense.lab.ranks.ranks` has the same for several.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from redense.errors import StateError
from redense.files.visible import visible_line

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
_BORN = os.getpid(), os.getppid()  # the command line imports this module first, seconds before torch


class Ranks:
    """One rank's place among all of the job, and what they do together; here it is the only one.

    All ranks have to call a method at the same point, and what fails in it is raised on all of them.
    """

    rank = 0
    world = 1

    @property
    def many(self) -> bool:
        """Whether there is more than one."""
        return self.world > 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes and shows."""
        return self.rank == 0

    def main(self, do: Callable[[], T]) -> T:
        """Return on every rank what ``do`` gives on rank 0, where alone it is called: tensors and plain data."""
        return do()

    def in_turn(self, do: Callable[[], T]) -> T:
        """Return what ``do`` gives here; one rank of each machine calls it before the others.

        What the first one downloads or writes to a cache lies there for the others.
        """
        return do()

    @contextlib.contextmanager
    def held(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[None]:
        """Enter a context on rank 0 alone; the others wait until it is entered."""
        with make():
            yield

    def gather(self, tree: T) -> list[T]:
        """Return what every rank has given, in their order: tensors and plain data."""
        return [tree]

    def mean(self, value: float) -> float:
        """Return the mean of the ranks' values."""
        return value

    def asked(self, stop: bool, due: bool) -> tuple[bool, bool]:
        """Return whether any rank was asked to stop, and whether rank 0 finds that a snapshot is due."""
        return stop, due

    def agree(self, what: str, digest: str) -> None:
        """Raise unless all ranks have the same.

        Raises:
            StateError: one differs from rank 0.
        """

    def parallel(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over the ranks; the module itself where there is one."""
        return module

    def share_buffers_(self, module: nn.Module) -> None:
        """Give every rank the buffers of rank 0 (batch statistics), as DDP does before each of its forward passes."""

    def agree_on_weights(self, module: nn.Module, masks: Mapping[str, Tensor]) -> None:
        """Raise unless weights and masks are the same bits on every rank.

        Raises:
            StateError: they are not.
        """


ALONE = Ranks()


def first_parent() -> int:
    """Return the process that had started this one when this module was imported: it may have gone since."""
    process, parent = _BORN
    return parent if process == os.getpid() else os.getppid()


def launched() -> bool:
    """Whether a launcher has started this process as one of several.

    Raises:
        StateError: the number of them is none.
    """
    return "RANK" in os.environ and _number("WORLD_SIZE", 1) > 1


def refuse_ranks(cure: str = "") -> None:
    """Raise in one of several processes: what is to be done is the work of one.

    Raises:
        StateError: it is one of several.
    """
    if launched():
        raise StateError(
            "only `redense run` and `redense compare` of a recipe work over ranks, this is for one process: start it "
            f"without torchrun{cure}"
        )


def check_launch() -> None:
    """Raise unless the environment of one of several processes says which one it is.

    Raises:
        StateError: it does not.
    """
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if rank >= world:
        raise StateError(f"RANK is {rank}, and WORLD_SIZE {world}: ranks are counted from 0")
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"):
        _number(name, 0)


def _number(name: str, default: int) -> int:
    """Return a number that a launcher has put into the environment."""
    text = os.environ.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()):
        raise StateError(
            f"the variable {name} of the environment is no number: '{visible_line(text)[:40]}'; a launcher such as "
            "torchrun sets it; for one process unset RANK"
        )
    return int(text)


def is_first() -> bool:
    """Whether this process is rank 0, or alone.

    Raises:
        StateError: nobody can tell.
    """
    return not launched() or _number("RANK", 0) == 0


def launch_id() -> str | None:
    """Return what the restarts of one torchrun have in common; None without torchrun."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is None:
        return None
    if _number("GROUP_WORLD_SIZE", 1) > 1 and run != "none":
        return run  # several machines: all that they share
    logs = Path(os.environ.get("TORCHELASTIC_ERROR_FILE") or "none/attempt/rank/file")
    return f"{run}/{os.getppid()}/{logs.parent.parent.parent.name}"


def restarted() -> bool:
    """Whether torchrun has started this job again after a rank had died."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0) > 0
