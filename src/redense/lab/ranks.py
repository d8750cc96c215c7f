"""The ranks of a job: processes that torchrun or `accelerate launch` started, which train one network together.

Rank 0 is the main one: it alone writes and shows, and what it reads it tells the others. What ranks say to each other
goes over gloo and the CPU, so that it waits for no GPU; gradients go the way that Accelerate has chosen (nccl, gloo).
One process is a job of one rank, to which all of this is nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import RedenseError, StateError
from .checkpoint import pack_tree, unpack_tree

T = TypeVar("T")

_PATIENCE = timedelta(hours=24)  # rank 0 may read much data before it speaks; one that dies is noticed at once
_OTHER_WAYS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")


class LostRankError(RedenseError, RuntimeError):
    """Another rank of the job is gone."""


@dataclass(frozen=True)
class Ranks:
    """One rank's place among all of them, and what they do together.

    Every method must be called by all ranks, at the same point; a failure in it is raised on all of them.
    """

    rank: int = 0
    world: int = 1
    group: Any = None
    """Of `torch.distributed`, over gloo."""

    @property
    def many(self) -> bool:
        """Whether there is more than one."""
        return self.world > 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    # --- words ------------------------------------------------------------------------------------------------------

    def main(self, do: Callable[[], T]) -> T:
        """Return on every rank what ``do`` gives on rank 0, where alone it is called: tensors and plain data."""
        if not self.many:
            return do()
        value, problem = _tried(do) if self.is_main else (None, None)
        said = self._from_main([value, problem])
        if said[1]:
            raise _error(*said[1])
        return cast("T", value if self.is_main else said[0])

    def in_turn(self, do: Callable[[], T]) -> T:
        """Return what ``do`` gives here; one rank of each machine calls it before the others.

        What the first one downloads or writes to a cache lies there for the others.
        """
        if not self.many:
            return do()
        value, problem = None, None
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        for turn in (True, False):
            if first is turn:
                value, problem = _tried(do)
            for rank, found in enumerate(self.gather(problem)):
                if found:
                    raise _error(found[0], f"rank {rank}: {found[1]}" if rank else found[1])
        return cast("T", value)

    @contextlib.contextmanager
    def held(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[None]:
        """Enter a context on rank 0 alone; the others wait until it is entered."""
        with contextlib.ExitStack() as stack:
            self.main(lambda: bool(stack.enter_context(make())) and None)
            yield

    def gather(self, tree: T) -> list[T]:
        """Return what every rank has given, in their order: tensors and plain data."""
        if not self.many:
            return [tree]
        own = _bytes(pack_tree(tree))
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(own)]), group=self.group)
        longest = max(int(size) for size in sizes)
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(parts, torch.cat([own, own.new_zeros(longest - len(own))]), group=self.group)
        return [unpack_tree(part[: int(size)].numpy().tobytes()) for part, size in zip(parts, sizes, strict=True)]

    def mean(self, value: float) -> float:
        """Return the mean of the ranks' values."""
        if not self.many:
            return value
        values = [torch.zeros(1, dtype=torch.float64) for _ in range(self.world)]
        dist.all_gather(values, torch.tensor([value], dtype=torch.float64), group=self.group)
        return sum(float(other) for other in values) / self.world

    def asked(self, stop: bool, due: bool) -> tuple[bool, bool]:
        """Return whether any rank was asked to stop, and whether rank 0 finds that a snapshot is due."""
        if not self.many:
            return stop, due
        flags = torch.tensor([stop, due and self.is_main], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.group)
        return bool(flags[0]), bool(flags[1])

    def agree(self, what: str, digest: str) -> None:
        """Raise unless all ranks have the same.

        Raises:
            StateError: one differs from rank 0.
        """
        found = self.gather(digest)
        for rank, other in enumerate(found):
            if other != found[0]:
                raise StateError(f"{what} of rank {rank} differ from those of rank 0: give every rank the same")

    def _from_main(self, tree: list[Any]) -> list[Any]:
        own = _bytes(pack_tree(tree)) if self.is_main else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor([len(own)])
        dist.broadcast(size, 0, group=self.group)
        if not self.is_main:
            own = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(own, 0, group=self.group)
        return tree if self.is_main else unpack_tree(own.numpy().tobytes())

    # --- the network ------------------------------------------------------------------------------------------------

    def parallel(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the mean over the ranks: DDP. On one rank it is the module itself."""
        return nn.parallel.DistributedDataParallel(module) if self.many else module

    def share_buffers_(self, module: nn.Module) -> None:
        """Give every rank the buffers of rank 0 (batch statistics), as DDP does before each of its forward passes."""
        if self.many:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def agree_on_weights(self, module: nn.Module, masks: dict[str, Tensor]) -> None:
        """Raise unless weights and masks are the same bits on every rank.

        Raises:
            StateError: they are not.
        """
        if not self.many:
            return
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (*module.parameters(), *masks.values()):
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self.agree("weights or masks", digest.hexdigest())


def _tried(do: Callable[[], T]) -> tuple[T | None, list[str] | None]:
    try:
        return do(), None
    except RedenseError as error:
        return None, [type(error).__name__, str(error)]


def _error(kind: str, text: str) -> RedenseError:
    """Return an error of another rank, of the same class."""
    found: list[type[RedenseError]] = [RedenseError]
    for cls in found:
        found += cls.__subclasses__()
    return next((cls for cls in found if cls.__name__ == kind), RedenseError)(text)


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


# --- the job at hand ------------------------------------------------------------------------------------------------

ALONE = Ranks()
_joined: Ranks | None = None


def join() -> Ranks:
    """Return the ranks of this job: of torchrun's or `accelerate launch`'s environment, or this process alone.

    Raises:
        StateError: the launcher wants the network sharded, which the engine does not do.
    """
    global _joined  # noqa: PLW0603  # a process is of one job, as its process group is
    if _joined is not None:
        return _joined
    for variable, name in _OTHER_WAYS.items():
        if os.environ.get(variable, "").lower() == "true":
            raise StateError(
                f"accelerate's configuration asks for {name}; redense trains a whole copy of the network on every "
                "rank: start it with torchrun, or see docs/integrations.md for a loop of your own"
            )
    if not launched() and not dist.is_initialized():
        return ALONE
    from accelerate.state import PartialState

    state = PartialState(timeout=_PATIENCE)
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    _joined = Ranks(state.process_index, state.num_processes, group)
    return _joined


def current() -> Ranks:
    """Return the ranks that this process has joined.

    Raises:
        StateError: it is one of several and has joined none: what it does is the work of one process.
    """
    if _joined is None and launched():
        raise StateError(
            "`redense run` and `redense compare` work over ranks, this does not: start it without torchrun"
        )
    return _joined or ALONE


def launched() -> bool:
    """Whether a launcher has started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def leave() -> None:
    """End a job that is done."""
    global _joined  # noqa: PLW0603
    if _joined is not None and dist.is_initialized():
        dist.destroy_process_group()
    _joined = None


def speaks_first() -> bool:
    """Whether no other rank has said yet why the job ends; only one should."""
    if _joined is None or not _joined.many:
        return True
    try:
        store = dist.distributed_c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]  # there is no public way
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"redense/ended/{attempt}", 1) == 1
    except RuntimeError:  # it is gone with rank 0: better twice than never
        return True


@contextlib.contextmanager
def noticing_lost_ranks() -> Iterator[None]:
    """Turn what torch says when another rank is gone into a `LostRankError`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        many = _joined is not None and _joined.many
        if isinstance(error, RedenseError) or not many or not any(word in text for word in _LOST):
            raise
        raise LostRankError(
            "another rank was killed or has failed, so this job ends; go on with --resume, what is saved is kept"
        ) from error


def launch_id() -> str | None:
    """Return what the restarts of one torchrun have in common; None without torchrun."""
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is None:
        return None
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1 and run != "none":
        return run  # several machines: all that they share
    logs = Path(os.environ.get("TORCHELASTIC_ERROR_FILE") or "none/attempt/rank/file")
    return f"{run}/{os.getppid()}/{logs.parent.parent.parent.name}"


def restarted() -> bool:
    """Whether torchrun has started this job again after a rank had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
