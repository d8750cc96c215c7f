"""The ranks of a job: processes that torchrun or `accelerate launch` started, which train one network together.

Rank 0 is the main one: it alone writes and shows, and what it reads it tells the others. What ranks say to each other
goes over gloo and the CPU, so that it waits for no GPU; gradients go the way that Accelerate has chosen (nccl, gloo).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous
from typing_extensions import override

from redense.errors import RedenseError, StateError
from redense.lab.checkpoint import pack_tree, unpack_tree

from .launch import ALONE, Ranks, check_launch, first_parent, is_first, launched, refuse_ranks
from .processes import leave_with

T = TypeVar("T")

_PATIENCE = timedelta(hours=24)  # rank 0 may read much data before it speaks; one that dies is noticed at once
_LOOK = 0.1  # seconds between two looks at whether the others have come
_GRACE = 10.0  # seconds in which ranks save when their launcher was killed
_OTHER_WAYS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")


class _SameBuckets(nn.Module):
    """A network whose gradients DDP sums in the same order in every step.

    After a first step DDP lays them out anew, and gloo adds the numbers of three and more ranks up in an order that
    depends on the place: a resumed job would end with other last digits than one that nobody stopped. DDP keeps its
    first layout where it has to look for unused parameters. It warns where there is none, so there is one.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        like = next(module.parameters())
        self.unused = nn.Parameter(torch.zeros(1, dtype=like.dtype, device=like.device))

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class LostRankError(RedenseError, RuntimeError):
    """Another rank of the job is gone."""


class ManyRanks(Ranks):
    """One rank's place among several.

    Args:
        rank: of this process, from 0.
        world: how many there are.
        group: of `torch.distributed`, over gloo.
        store: in which they have found each other.
    """

    def __init__(self, rank: int, world: int, group: Any, store: Any) -> None:
        self.rank, self.world, self._group, self._store = rank, world, group, store

    def speaks_first(self) -> bool:
        """Whether no other rank has said yet why the job ends; not all have to ask."""
        try:
            return self._store.add("ended", 1) == 1
        except RuntimeError:  # it is gone with rank 0: better twice than never
            return True

    # --- words ------------------------------------------------------------------------------------------------------

    @override
    def main(self, do: Callable[[], T]) -> T:
        value, problem = _tried(do) if self.is_main else (None, None)
        said = self._from_main([None if problem else value, problem])
        if said[1]:
            raise _error(*said[1])
        return cast("T", said[0])

    @override
    def in_turn(self, do: Callable[[], T]) -> T:
        value, problem = None, None
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        for turn in (True, False):
            if first is turn:
                value, problem = _tried(do)
            for rank, found in enumerate(self.gather(problem)):
                if found:
                    raise _error(found[0], f"rank {rank}: {found[1]}" if rank else found[1])
        return cast("T", value)

    @override
    @contextlib.contextmanager
    def held(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:

            def enter() -> None:
                stack.enter_context(make())

            self.main(enter)
            yield

    @override
    def gather(self, tree: T) -> list[T]:
        own = _bytes(pack_tree(tree))
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(own)]), group=self._group)
        longest = max(int(size) for size in sizes)
        parts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(parts, torch.cat([own, own.new_zeros(longest - len(own))]), group=self._group)
        return [unpack_tree(part[: int(size)].numpy().tobytes()) for part, size in zip(parts, sizes, strict=True)]

    @override
    def mean(self, value: float) -> float:
        return sum(self.gather(value)) / self.world

    @override
    def asked(self, stop: bool, due: bool) -> tuple[bool, bool]:
        flags = torch.tensor([stop, due and self.is_main], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._group)
        return bool(flags[0]), bool(flags[1])

    @override
    def agree(self, what: str, digest: str) -> None:
        found = self.gather(digest)
        for rank, other in enumerate(found):
            if other != found[0]:
                raise StateError(f"{what} of rank {rank} differ from those of rank 0: give every rank the same")

    def _from_main(self, tree: list[Any]) -> list[Any]:
        own = _bytes(pack_tree(tree)) if self.is_main else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor([len(own)])
        dist.broadcast(size, 0, group=self._group)
        if not self.is_main:
            own = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(own, 0, group=self._group)
        return tree if self.is_main else unpack_tree(own.numpy().tobytes())

    # --- the network ------------------------------------------------------------------------------------------------

    @override
    def parallel(self, module: nn.Module) -> nn.Module:
        return nn.parallel.DistributedDataParallel(_SameBuckets(module), find_unused_parameters=True)

    @override
    def share_buffers_(self, module: nn.Module) -> None:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)

    @override
    def agree_on_weights(self, module: nn.Module, masks: Mapping[str, Tensor]) -> None:
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (*module.parameters(), *masks.values()):
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self.agree("the weights or masks", digest.hexdigest())


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

_joined: Ranks | None = None


def join() -> Ranks:
    """Return the ranks of this job: of torchrun's or `accelerate launch`'s environment, or this process alone.

    Raises:
        StateError: the launcher wants the network sharded, which the engine does not do; the ranks do not find each
            other, or the environment does not say which one this is.
    """
    global _joined  # noqa: PLW0603  # a process is of one job, as its process group is
    if _joined is not None:
        return _joined
    for variable, name in _OTHER_WAYS.items():
        if os.environ.get(variable, "").lower() == "true":
            raise StateError(
                f"accelerate's configuration asks for {name}; redense trains a whole copy of the network on every "
                "rank: start it with torchrun, or see docs/how-to/distributed.md for a loop of your own"
            )
    if not launched():
        return ALONE
    check_launch()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun waits for its ranks; without it nobody would end them
        parent = first_parent()
        if os.name == "posix" and os.getppid() != parent:
            raise StateError("torchrun has gone while this rank began: nothing was trained, start the job again")
        leave_with(parent, grace=_GRACE)
    from accelerate.state import PartialState

    found = torch.accelerator.current_accelerator(check_available=True)
    on_cpu = found is None or found.type == "mps" or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    try:
        store, rank, ranks = _met()
        PartialState(cpu=on_cpu, timeout=_PATIENCE, store=store, rank=rank, world_size=ranks)
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise StateError(
            f"the {os.environ['WORLD_SIZE']} ranks do not find each other: {' '.join(str(error).split())[:200]}"
        ) from error
    _joined = ManyRanks(rank, ranks, group, store)
    return _joined


def _met() -> tuple[Any, int, int]:
    """Return a store in which all ranks of this job have found each other, the rank of this one and their number.

    PyTorch waits in C++, where no signal is answered: another thread does that, and this one looks again and again.

    Raises:
        RuntimeError, ValueError: they do not find each other.
    """
    met: list[Any] = []

    def meet() -> None:
        try:
            met.append(next(rendezvous("env://")))
        except (RuntimeError, ValueError) as error:
            met.append(error)

    meeting = threading.Thread(target=meet, daemon=True)
    meeting.start()
    while meeting.is_alive():
        meeting.join(_LOOK)
    if isinstance(met[0], Exception):
        raise met[0]
    store, rank, ranks = met[0]
    # Restarts of one torchrun may share its store, in which the addresses of ranks that are gone still lie.
    store = PrefixStore(f"redense/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    present, until = store.add("present", 1), time.monotonic() + _PATIENCE.total_seconds()
    while present < ranks:
        if time.monotonic() > until:
            raise RuntimeError(f"{present} have come in {_PATIENCE}")
        time.sleep(_LOOK)
        present = store.add("present", 0)
    return store, rank, ranks


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """Let one rank work as if it was alone, while the others wait for what it says next."""
    global _joined  # noqa: PLW0603  # what `current` gives to code that knows nothing of ranks
    before, _joined = _joined, ALONE
    try:
        yield
    finally:
        _joined = before


def current() -> Ranks:
    """Return the ranks that this process has joined.

    Raises:
        StateError: it is one of several and has joined none: what it does is the work of one process.
    """
    if _joined is None:
        refuse_ranks()
    return _joined or ALONE


def world() -> int:
    """Return the number of ranks that this process has joined; 1 for a process alone."""
    return (_joined or ALONE).world


def leave() -> None:
    """End a job that is done."""
    global _joined  # noqa: PLW0603  # the process group ends with it, and another job may follow in this process
    if _joined is not None and dist.is_initialized():
        dist.destroy_process_group()
    _joined = None


def speaks_first() -> bool:
    """Whether no other rank has said yet why the job ends; only one should."""
    # Before they have joined, all fail alike.
    return _joined.speaks_first() if isinstance(_joined, ManyRanks) else is_first()


@contextlib.contextmanager
def noticing_lost_ranks() -> Iterator[None]:
    """Turn what torch says when another rank is gone into a `LostRankError`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if isinstance(error, RedenseError) or _joined is None or not any(word in text for word in _LOST):
            raise
        raise LostRankError(
            "another rank was killed or has failed, so this one ends too; what is saved is kept: go on with --resume"
        ) from error
