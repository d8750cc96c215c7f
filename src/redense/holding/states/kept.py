"""Tensors that an optimizer keeps for a parameter: in ``.state``, in attributes of its own, or in its groups.

PyTorch's own optimizers keep all of it in ``.state[parameter]``. Others have a list with an item for each parameter
(``self.velocities``, ``group["buffers"]``), or a dict by a parameter or its ``id``. An item of a list is taken for the
parameter at its position if all items fit the parameters at theirs, and if no other way to read the list gives other
tensors.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from redense.masks.sharding import local

_log = logging.getLogger(__name__)

Path = tuple[Any, ...]
"""Keys and indices that lead to a tensor in what an optimizer keeps for one parameter."""

_TORCHS = ("state", "param_groups", "defaults")  # attributes of every optimizer
_told = WeakKeyDictionary[Optimizer, set[str]]()  # the places that a warning has named


@dataclass(frozen=True)
class _Seat:
    """A parameter's place among those that a list may have an item for."""

    groups: list[list[Tensor]]
    group: int
    index: int

    @property
    def flat(self) -> list[Tensor]:
        return [parameter for group in self.groups for parameter in group]

    @property
    def number(self) -> int:
        return sum(map(len, self.groups[: self.group])) + self.index

    @property
    def parameter(self) -> Tensor:
        return self.groups[self.group][self.index]


class Kept:
    """The tensors that one optimizer keeps, by parameter."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._places: dict[int, tuple[int, int]] = {}
        self._known_to_fit: dict[tuple[int, int, int, bool], bool] = {}
        self._strays: list[tuple[str, torch.Size]] | None = None

    def of(self, parameter: Tensor) -> list[tuple[Path, Tensor]]:
        """Return the tensors that belong to a parameter; a path begins with a dot outside of ``.state[parameter]``.

        The parameter itself, its gradient and views of them are nothing that is kept.
        """
        own = {_address(each) for each in (parameter, parameter.grad) if each is not None}
        return [(path, tensor) for path, tensor in tensors_in(self._of(parameter)) if _address(tensor) not in own]

    def _of(self, parameter: Tensor) -> dict[Any, Any]:
        state = cast("dict[Any, Any]", self._optimizer.state)
        entry = _entry(state, parameter)
        kept = dict(cast("Mapping[Any, Any]", entry)) if isinstance(entry, Mapping) else {"state": entry}
        place = self._place(parameter)
        if place is None:
            return kept
        group = self._optimizer.param_groups[place[0]]
        alone = _Seat([group["params"]], 0, place[1])
        every: _Seat | None = None
        for name, value in _elsewhere(self._optimizer):
            every = every or _Seat([each["params"] for each in self._optimizer.param_groups], *place)
            kept[name] = self._part(value, every)
        for name, value in _in_group(group):
            kept[name] = self._part(value, alone)
        return kept

    def warn_of_strays(self, name: str, parameter: Tensor) -> None:
        """Log what may belong to a parameter, where nothing tells whose it is."""
        if self._strays is None:
            self._strays = list(self._find_strays())
        for place, shape in self._strays:
            told = _told.setdefault(self._optimizer, set())
            if shape == parameter.shape and parameter.dim() > 1 and place not in told:
                told.add(place)
                _log.warning(
                    "%s keeps a tensor of the shape of '%s' in its %s, and nothing tells whose that is: it is left, "
                    "and released weights may not begin as new ones. Keep it in optimizer.state[parameter], or in a "
                    "list with an item for each parameter",
                    type(self._optimizer).__name__,
                    name,
                    place.lstrip("."),
                )

    def _find_strays(self) -> Iterator[tuple[str, torch.Size]]:
        groups = self._optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        own = {_address(tensor) for each in parameters for _, tensor in self.of(each)}
        own |= {_address(each) for p in parameters for each in (p, p.grad) if each is not None}
        for name, value in (*_elsewhere(self._optimizer), *(one for group in groups for one in _in_group(group))):
            for _, tensor in tensors_in(value):
                if tensor.is_floating_point() and _address(tensor) not in own:
                    yield name, tensor.shape

    def _place(self, parameter: Tensor) -> tuple[int, int] | None:
        """Return the index of a parameter's group and its own in the group, which may change; None if it is in none."""
        groups = self._optimizer.param_groups
        group, index = self._places.get(id(parameter), (len(groups), 0))
        if not (group < len(groups) and index < len(own := groups[group]["params"]) and own[index] is parameter):
            self._known_to_fit.clear()
            self._places = {id(p): (g, i) for g, group in enumerate(groups) for i, p in enumerate(group["params"])}
        return self._places.get(id(parameter))

    def _part(self, value: Any, seat: _Seat) -> Any:
        """Return what of a nested value belongs to a parameter, or None."""
        if isinstance(value, Tensor):
            return value if len(seat.flat) == 1 else None
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value)
            entry = _entry(items, seat.parameter)
            return self._parts(items.items(), seat) if entry is None else entry
        if not isinstance(value, (list, tuple, deque)):
            return None
        readings: list[Any] = []
        of_groups = cast("Sequence[Any]", value)
        if self._fit(of_groups, seat, nested=True):
            readings.append(of_groups[seat.group][seat.index])
        if self._fit(of_groups, seat, nested=False):
            readings.append(of_groups[seat.number])
        parts = self._parts(((i, each) for i, each in enumerate(of_groups) if not isinstance(each, Tensor)), seat)
        readings += [parts] if parts else []
        found = [{id(tensor) for _, tensor in tensors_in(reading)} for reading in readings]
        return readings[0] if found and all(one == found[0] for one in found) else None

    def _parts(self, items: Any, seat: _Seat) -> dict[Any, Any] | None:
        parts = {key: part for key, each in items if (part := self._part(each, seat)) is not None}
        return parts or None

    def _fit(self, items: Sequence[Any], seat: _Seat, *, nested: bool) -> bool:
        """Whether a list has an item for each parameter, or for each group a list of such, and all of them fit."""
        key = (id(items), len(items), len(seat.groups), nested)
        if key not in self._known_to_fit:  # all items are looked at: once, and not again for each parameter
            groups = seat.groups if nested else [seat.flat]
            lists = list(items) if nested else [items]
            self._known_to_fit[key] = len(lists) == len(groups) and all(
                isinstance(own, (list, tuple, deque))
                and len(own) == len(group)
                and all(_fits(item, parameter) for item, parameter in zip(own, group, strict=True))
                for own, group in zip(lists, groups, strict=True)
            )
        return self._known_to_fit[key]


def tensors_in(state: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Give every tensor of a nested state with its path."""
    if isinstance(state, Tensor):
        yield path, state
    elif isinstance(state, Mapping):
        for key, value in cast("Mapping[Any, Any]", state).items():
            yield from tensors_in(value, (*path, key))
    elif isinstance(state, (list, tuple, deque)):
        for index, value in enumerate(cast("Sequence[Any]", state)):
            yield from tensors_in(value, (*path, index))


def _address(tensor: Tensor) -> int:
    """Return what views of one tensor have in common; of what has no storage, its identity."""
    part = local(tensor)
    plain = type(part) in (Tensor, nn.Parameter) and part.layout == torch.strided
    return part.data_ptr() if plain else id(tensor)


def _entry(of_each: Mapping[Any, Any], parameter: Tensor) -> Any:
    """Return what a dict has under a parameter or its ``id``, or None."""
    try:  # `get`, because the state of a fresh optimizer is a defaultdict that would grow by being read
        found = of_each.get(parameter)
    except RuntimeError:  # the id is a key, its hash is the parameter's, and whether they are equal is a tensor
        found = None
    if found is not None:
        return found
    return next((value for key, value in of_each.items() if isinstance(key, int) and key == id(parameter)), None)


def _elsewhere(optimizer: Optimizer) -> Iterator[tuple[str, Any]]:
    """Give what an optimizer keeps outside of ``.state[parameter]`` and its groups, if there are tensors in it."""
    for key, value in cast("dict[Any, Any]", optimizer.state).items():
        if isinstance(key, str) and _has_tensors(value):  # TRAC keeps the weights that it began with by parameter there
            yield f".state.{key}", value
    for key, value in vars(optimizer).items():
        if key not in _TORCHS and _has_tensors(value):
            yield f".{key}", value


def _in_group(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((f".param_groups.{key}", v) for key, v in group.items() if key != "params" and _has_tensors(v))


def _has_tensors(value: Any) -> bool:
    return any(tensor.dim() for _, tensor in tensors_in(value))


def _fits(item: Any, parameter: Tensor) -> bool:
    """Whether what a list has at a parameter's position may be the parameter's: nothing in it has another shape."""
    shapes = (parameter.shape, local(parameter).shape)
    return all(tensor.shape in shapes or tensor.dim() < parameter.dim() for _, tensor in tensors_in(item))
