"""Replicas: ranks that train copies of one model hold the same masks, or all of them say that they do not.

DDP keeps the weights of its ranks alike, and so does a device mesh along the dimensions over which a weight is
replicated. Nothing keeps alike what each rank chooses by itself. Ranks therefore compare digests, of a few bytes, where
masks are chosen, revised or loaded, and an error of one rank is raised by all of them.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from redense import errors
from redense.errors import RedenseError, StateError
from redense.layers.inputs import add_up_inputs
from redense.layers.names import clean_name, unwrap
from redense.masks.blocks import blocks
from redense.masks.sharding import Ranks, is_sharded, local, ranks_of, ranks_of_groups, reshard
from redense.phase import ordered

_log = logging.getLogger(__name__)
_KINDS = sorted(n for n, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RedenseError))
_TEXT = 400  # bytes of an error that the other ranks are told
_FINE = torch.iinfo(torch.int64).min  # what a rank without an error says


@dataclass(frozen=True)
class _Circle:
    """Ranks that hold the same of some parameters.

    Args:
        ranks: reductions over them.
        names: of the parameters whose masks must agree.
        of: what error messages call them.
    """

    ranks: Ranks
    names: tuple[str, ...]
    of: str


class Replicas:
    """The ranks that train copies of a model, as far as this rank can see them.

    Args:
        model: the model as it was given; a wrapper tells the group.
        group: a process group, where no wrapper tells; False for ranks that are to differ.

    Raises:
        StateError: the group is none.
    """

    def __init__(self, model: nn.Module, group: Any = None) -> None:
        if group is not None and group is not False and not _is_group(group):
            raise StateError(
                "replicas must be the process group whose ranks train copies of the model, or False, got "
                f"{group!r}: for all ranks give torch.distributed.group.WORLD"
            )
        self._model, self._given, self._group = unwrap(model), model, group
        self._wrappers: list[Any] = []
        self._circles: list[_Circle] = []
        self._told = False

    def find(self) -> bool:
        """Look for the ranks that train copies of the model; return whether there are any."""
        self._circles = []
        dist = _distributed()
        if self._group is False or dist is None or dist.get_world_size() == 1:
            return False
        reshard(self._model.modules())
        named = {clean_name(name): p for name, p in self._model.named_parameters()}
        if self._group is not None:
            self._circles = [_of_group(self._group, named, list(named), "the given process group")]
            return True
        self._wrappers = [self._given] if _is_wrapper(self._given) else _wrappers_around(named)
        groups: dict[Any, list[str]] = {}
        for wrapper in self._wrappers:
            ids = {id(p) for n, p in wrapper.module.named_parameters() if n not in wrapper.parameters_to_ignore}
            groups.setdefault(wrapper.process_group, []).extend(n for n, p in named.items() if id(p) in ids)
        self._circles = [_of_group(g, named, names, "DistributedDataParallel") for g, names in groups.items()]
        self._circles += _of_meshes(named, {name for names in groups.values() for name in names})
        if not self._circles and not self._told:
            self._told = True
            _log.warning(
                "%d ranks, and no DistributedDataParallel or device mesh around this model: their masks are not "
                "compared. If the ranks train copies of it, pass replicas=their process group; if not, replicas=False",
                dist.get_world_size(),
            )
        return bool(self._circles)

    def refuse_join(self) -> None:
        """Refuse ranks that make different numbers of steps.

        Raises:
            StateError: DDP's ``Join`` lets them.
        """
        for wrapper in self._wrappers:
            join = getattr(wrapper, "_join_config", None)
            if join is not None and join.enable and not join.throw_on_early_termination:
                raise StateError(
                    "torch's Join lets a rank stop before the others, so that their steps and phases part: give every "
                    "rank the same number of batches, or Join(..., throw_on_early_termination=True)"
                )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise on every rank what is raised on one, so that none waits for the others."""
        error: Exception | None = None
        try:
            yield
        except Exception as raised:  # noqa: BLE001  # raised again as soon as the others know
            error = raised
        for _ in self._circles:  # as often as there are circles, so that word goes from one to the next
            for circle in self._circles:
                error = _heard(circle, error)
        if error:
            raise error

    def agree(self, **settings: object) -> None:
        """Compare what decides over masks.

        Raises:
            StateError: on every rank, if it differs between any of them.
        """
        words = {name: _digest(json.dumps(ordered(value), sort_keys=True).encode()) for name, value in settings.items()}
        for circle in self._circles:
            for name in _differing(circle, words):
                value = _short(settings[name]) if name in settings else "not the same things"
                raise StateError(
                    f"the ranks of {circle.of} differ in their {name}, which is {value} on {_me()}: give all of them "
                    "the same, and load the same state on all of them"
                )

    def agree_on_masks(self, masks: Mapping[str, Tensor]) -> None:
        """Compare masks.

        Raises:
            StateError: on every rank, if they differ between any of them.
        """
        for circle in self._circles:
            words = {name: _digest_of(masks[name]) for name in circle.names if name in masks}
            for name in _differing(circle, words):
                of = f"have different masks for '{name}'" if name in words else f"have masks of different {name}"
                raise StateError(
                    f"the ranks of {circle.of} {of}: their weights, or their scores, differ. Make redense's object "
                    "after the model is wrapped, seed all ranks alike, average weights that ranks train apart before "
                    "a phase begins, and let no criterion score with what one rank alone has seen"
                )

    def add_up_inputs(self, parameters: Mapping[str, Tensor]) -> None:
        """Add up what each rank has measured of the inputs of some parameters' layers, so that all score alike.

        All ranks must ask for it together, after `find`.
        """
        dist = _distributed()
        if dist is None or dist.get_world_size() == 1:
            return
        meshes: dict[Any, list[Tensor]] = {}
        for parameter in filter(is_sharded, parameters.values()):
            meshes.setdefault(cast("Any", parameter).device_mesh, []).append(parameter)
        for mesh, sharded in meshes.items():  # whatever `replicas` says: together they choose one mask
            add_up_inputs(sharded, ranks_of(mesh))
        for circle in self._circles:
            add_up_inputs([parameters[name] for name in circle.names if name in parameters], circle.ranks)


def _distributed() -> Any:
    """Return ``torch.distributed`` if this process is one of a group."""
    dist = cast("Any", sys.modules.get("torch.distributed"))
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def _is_group(group: object) -> bool:
    return any(cls.__name__ == "ProcessGroup" for cls in type(group).__mro__)


def _is_wrapper(module: object) -> bool:
    return any(cls.__name__ == "DistributedDataParallel" for cls in type(module).__mro__)


def _wrappers_around(named: Mapping[str, Tensor]) -> list[Any]:
    """Return the DDP wrappers of these parameters, which know the model, though the model does not know them."""
    module = cast("Any", sys.modules.get("torch.nn.parallel.distributed"))
    kinds = [module.DistributedDataParallel] if module else []
    for kind in kinds:
        kinds += kind.__subclasses__()
    ids = {id(parameter) for parameter in named.values()}
    return [
        wrapper
        for kind in kinds
        for wrapper in gc.get_referrers(kind)  # an object refers to its class
        if type(wrapper) is kind and "_modules" in vars(wrapper) and ids & {id(p) for p in wrapper.parameters()}
    ]


def _of_group(group: Any, named: Mapping[str, Tensor], names: list[str], of: str) -> _Circle:
    device = local(next(iter(named.values()))).device  # gradients go through the group, so it can send from there
    return _Circle(ranks_of_groups([group], device), tuple(names), of)


def _of_meshes(named: Mapping[str, Tensor], known: set[str]) -> Iterator[_Circle]:
    """Give the circles of device meshes: what a mesh replicates is compared, and errors and settings over all of it."""
    meshes: dict[Any, dict[tuple[int, ...], list[str]]] = {}
    for name, parameter in named.items():
        if is_sharded(parameter):
            placements = cast("Any", parameter).placements
            alike = tuple(axis for axis, placement in enumerate(placements) if placement.is_replicate())
            meshes.setdefault(cast("Any", parameter).device_mesh, {}).setdefault(alike, []).append(name)
    if not meshes:
        return
    widest = max(meshes, key=lambda mesh: mesh.size())
    plain = [name for name, parameter in named.items() if not is_sharded(parameter) and name not in known]
    for mesh, by_axes in meshes.items():
        every = tuple(range(mesh.ndim))
        of = f"the device mesh {tuple(mesh.shape)}"
        names = by_axes.pop(every, []) + (plain if mesh is widest else [])
        yield _Circle(ranks_of(mesh), tuple(names), of)
        for alike, own in by_axes.items():
            if any(mesh.size(axis) > 1 for axis in alike):
                yield _Circle(ranks_of(mesh, alike), tuple(own), of)


# --- what is sent ---------------------------------------------------------------------------------------------------


def _differing(circle: _Circle, words: Mapping[str, int]) -> list[str]:
    """Return the names whose words are not the same on all ranks, or "names"; every rank returns the same."""
    names = _digest("/".join(words).encode())
    if not any(_unlike(circle, [names, _digest(json.dumps(list(words.values())).encode())])):
        return []  # two words, whatever they stand for
    if any(_unlike(circle, [names])):
        return ["names"]
    return [name for name, unlike in zip(words, _unlike(circle, list(words.values())), strict=True) if unlike]


def _unlike(circle: _Circle, words: list[int]) -> list[bool]:
    own = torch.tensor(words, dtype=torch.int64, device="cpu")
    highest, lowest = circle.ranks.largest(torch.cat([own, -own])).chunk(2)
    return (highest != -lowest).tolist()


def _heard(circle: _Circle, error: Exception | None) -> Exception | None:
    """Return this rank's error, or that of the first rank of the circle that has one."""
    first = int(circle.ranks.largest(torch.tensor([-_rank() if error else _FINE], device="cpu")))
    if first == _FINE:
        return None
    message = torch.zeros(1 + _TEXT, dtype=torch.int64, device="cpu")
    if error and first == -_rank():
        known = isinstance(error, RedenseError)
        name = type(error).__name__ if known and type(error).__name__ in _KINDS else "StateError"
        text = (str(error) if known else f"{type(error).__name__}: {error}").encode()[:_TEXT]
        message[0] = _KINDS.index(name)
        message[1 : 1 + len(text)] = torch.frombuffer(bytearray(text or b" "), dtype=torch.uint8)[: len(text)]
    kind, *text = circle.ranks.largest(message).tolist()
    if error:
        return error
    said = bytes(text).rstrip(b"\0").decode(errors="replace")
    return getattr(errors, _KINDS[kind])(f"rank {-first}: {said}")


def _rank() -> int:
    return int(cast("Any", sys.modules["torch.distributed"]).get_rank())


def _me() -> str:
    return f"rank {_rank()}"


def _digest_of(mask: Tensor) -> int:
    digest = hashlib.sha256()
    for block in blocks(local(mask).detach().reshape(-1)):
        digest.update(block.cpu().numpy().tobytes())
    return _positive(digest.digest())


def _digest(content: bytes) -> int:
    return _positive(hashlib.sha256(content).digest())


def _positive(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big") >> 1


def _short(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else f"{text[:77]}..."
