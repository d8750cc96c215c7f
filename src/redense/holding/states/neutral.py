"""Neutral states: what an optimizer's state of a weight is when the weight is new.

It is zero for momenta. It is not for step sizes (Rprop), accumulators with a start (Adagrad) and estimates that are
divided by (VSGD). There is no list of them here: an optimizer of the same class and options is made for a small
tensor of zeros, and its state is read. Nor is there a list of the states that belong to a weight: small trainings tell.
An entry belongs to a weight if it depends on no other weight's gradient, or if it is a velocity: it changes sign with
the gradients, and moves with them when they are put in another order. What does neither is kept in another basis (the
second moment of SOAP) or measures what the others do, and is left alone.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from redense.errors import OptimizerError
from redense.holding.gradients import mask_gradient_
from redense.holding.optimizers import inner_optimizers
from redense.holding.randomness import random_kept, seed_all
from redense.holding.watching import flat
from redense.masks.sharding import local

from .kept import Kept, Path

_log = logging.getLogger(__name__)

_SIDES = (3, 5, 2, 4, 2, 3)  # of the small tensor: different, so that its shape tells whose a state is


@dataclass(frozen=True)
class State:
    """A state with an entry for each weight, this rank's part; ``neutral`` is the entry of a new weight."""

    key: str
    tensor: Tensor
    neutral: float

    @torch.no_grad()
    def fill_(self, mask: Tensor) -> None:
        """Make the entries neutral where the mask is False."""
        if self.tensor.is_sparse:  # the momentum of sparse gradients
            mask_gradient_(self.tensor, mask)
        else:
            self.tensor.masked_fill_(~mask, self.neutral)

    def moved(self, mask: Tensor, places: Tensor | None) -> Tensor:
        """Return, flat, what is not zero if an entry is not neutral under the mask: anywhere, or in some places."""
        tensor = self.tensor
        if tensor.is_sparse:
            return (tensor._values().ne(0) & ~mask[tuple(tensor._indices())]).any().view(1)
        if places is None or tensor.stride() != mask.stride():
            return (tensor.ne(self.neutral) & ~mask).any().view(1)
        return flat(tensor).index_select(0, places).ne(self.neutral)


@dataclass(frozen=True)
class Fresh:
    """A state of a small new tensor, and whether an entry of it belongs to one weight."""

    new: Tensor
    own: bool
    neutral: float = field(init=False)
    """The entry that all weights have in it; 0 where they differ, which are then drawn or estimated."""

    def __post_init__(self) -> None:
        """Read the entry once: on a GPU to read is to wait."""
        first = float(self.new.flatten()[0]) if self.new.numel() else 0.0
        object.__setattr__(self, "neutral", first if bool((self.new == first).all()) else 0.0)


_tried: dict[Any, Mapping[Path, Fresh] | None] = {}
_REMEMBERED = 256
_TRIED_STEPS = 4


class Neutrals:
    """The states of weights with their neutral values, which are learned once a phase."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, torch.dtype], Mapping[Path, Fresh] | None] = {}
        self._kept: dict[int, Kept] = {}

    def forget(self) -> None:
        """Learn the values anew: a step size starts at the learning rate, which changes."""
        self._known.clear()
        self._kept.clear()

    def states(self, optimizer: Optimizer, name: str, parameter: nn.Parameter) -> Iterator[State]:
        """Give every floating-point state that has an entry a weight, also of the optimizers inside.

        Raises:
            OptimizerError: a state is quantised.
        """
        given = set[int]()  # a wrapper may share its state, or its groups, with the optimizer inside
        for each in (*inner_optimizers(optimizer), optimizer):
            yield from self._states(each, name, parameter, given)

    def _states(self, optimizer: Optimizer, name: str, parameter: nn.Parameter, given: set[int]) -> Iterator[State]:
        kept = self._kept.setdefault(id(optimizer), Kept(optimizer))
        kept.warn_of_strays(name, parameter)
        found = [(path, tensor) for path, tensor in kept.of(parameter) if id(tensor) not in given]
        if not found:
            return
        given |= {id(tensor) for _, tensor in found}
        shapes = (parameter.shape, local(parameter).shape)  # of a sharded parameter some keep plain local states
        for path, tensor in found:
            numel = tensor.numel()
            if not tensor.dim() or (tensor.shape not in shapes and tensor.shape != (local(parameter).numel(),)):
                continue
            fresh = self._fresh(optimizer, parameter)
            known = None if fresh is None else fresh.get(path)
            if known is not None and (not known.own or known.new.numel() != _small(parameter.dim()).numel()):
                continue  # of another basis than the weights (SOAP), or a square layer's matrix over its rows
            if tensor.shape not in shapes and (known is None or parameter.dim() == 1 or numel != tensor.shape[0]):
                continue  # flat, and not known to be one entry a weight
            if tensor.is_floating_point():
                part, neutral = local(tensor), 0.0 if known is None else known.neutral
                yield State(str(path[0]), part.view(local(parameter).shape) if part.dim() == 1 else part, neutral)
            elif tensor.dtype in (torch.uint8, torch.int8):
                raise OptimizerError(
                    f"{type(optimizer).__name__} keeps a quantised state '{path[0]}' for '{name}', in which 0 is not "
                    "zero: use the optimizer's 32-bit form for the prunable parameters"
                )

    def _fresh(self, optimizer: Optimizer, parameter: nn.Parameter) -> Mapping[Path, Fresh] | None:
        if inner_optimizers(optimizer):
            return None  # of a wrapper: copies of weights and of momenta, which are zero for a new weight
        index = next(i for i, g in enumerate(optimizer.param_groups) if any(p is parameter for p in g["params"]))
        key = (id(optimizer), index, parameter.dim(), parameter.dtype)
        if key not in self._known:
            self._known[key] = fresh_state(optimizer, optimizer.param_groups[index], parameter)
        return self._known[key]


def fresh_state(optimizer: Optimizer, group: Mapping[str, Any], like: Tensor) -> Mapping[Path, Fresh] | None:
    """Return what an optimizer of the same class and options keeps for a new tensor of zeros, by path.

    Small trainings tell which entries belong to a weight. Returns None if no such optimizer can be made, which is
    logged.
    """
    kind, device = type(optimizer), local(like).device
    options = _options(optimizer, group)
    exact = [f"{name} {_exact(value)}" for name, value in options.items()]
    key = (kind, "\n".join(exact), like.dim(), like.dtype, device)
    if key in _tried:
        return _tried[key]
    if len(_tried) >= _REMEMBERED:  # of a learning rate that changes at each phase, for instance
        _tried.clear()
    zeros = _small(like.dim()).to(dtype=like.dtype, device=device)
    others = torch.linspace(-1, 1, zeros.numel(), device="cpu").view(zeros.shape).to(zeros)
    others.view(-1)[0] = 0
    with random_kept(), warnings.catch_warnings():  # in this order: filters are for one thread at a time, too
        warnings.simplefilter("ignore")
        try:  # in both the first weight's own gradient is zero; in the second the others' are not
            alone, among = (_Trial(kind, options, gradient) for gradient in (zeros, others))
        except Exception as reason:  # noqa: BLE001  # whatever a constructor that we do not know does not like
            _log.warning(
                "the states that %s gives a new weight are not known (%s): zero is taken for them",
                kind.__name__,
                " ".join(str(reason).split())[:120] or type(reason).__name__,
            )
            _tried[key] = None
            return None
        alone.train()
        among.train()
        own = {path for path, entries in alone.entries.items() if among.entries.get(path) == entries}
        if len(own) < len(alone.entries):
            own |= among.velocities(kind, options)
    _tried[key] = {path: Fresh(tensor, own=path in own) for path, tensor in alone.first.items()}
    return _tried[key]


class _Trial:
    """A short training of a tensor of zeros by a new optimizer, with one gradient; one entry stays zero."""

    def __init__(self, kind: type[Optimizer], options: Mapping[str, Any], gradient: Tensor, fixed: int = 0) -> None:
        self.weight = nn.Parameter(torch.zeros_like(gradient))
        self.gradient = gradient
        self.fixed = fixed  # the entry
        self.optimizer = cast("Any", kind)([self.weight], **copy.deepcopy(dict(options)))
        self.first: dict[Path, Tensor] = {}  # every state as it was when it was new
        self.entries: dict[Path, list[str]] = {}  # its first entry after each step
        self.last: dict[Path, Tensor] = {}

    def velocities(self, kind: type[Optimizer], options: Mapping[str, Any]) -> set[Path]:
        """Return the states that change sign with the gradients and are reversed when these are."""
        turned, reverse = -self.gradient, self.gradient.flatten().flip(0).view(self.gradient.shape)
        trials = (_Trial(kind, options, turned), _Trial(kind, options, reverse, self.weight.numel() - 1))
        for trial in trials:
            trial.train()
        against, reversed_ = (trial.last for trial in trials)
        return {
            path
            for path, state in self.last.items()
            if state.numel() == self.weight.numel()
            and state.is_floating_point()
            and bool(state.count_nonzero())
            and _alike(against.get(path), -state)
            and _alike(reversed_.get(path), state.flatten().flip(0))
        }

    def train(self) -> None:
        seed_all(0)  # some optimizers draw torch's, Python's or NumPy's random numbers
        try:
            self.weight.grad = self.gradient.clone()
            if not Kept(self.optimizer).of(self.weight):
                _begin(self.optimizer)
            self._look()
            for _ in range(_TRIED_STEPS):
                self.weight.grad = self.gradient.clone()
                _step(self.optimizer)
                self.weight.detach().view(-1)[self.fixed] = 0
                self._look()
        except Exception as reason:  # noqa: BLE001  # one that wants a closure or a Hessian: what it has by then counts
            _log.debug("%s did not step on its own: %s", type(self.optimizer).__name__, reason)

    def _look(self) -> None:
        for path, tensor in Kept(self.optimizer).of(self.weight):
            self.first.setdefault(path, tensor.detach().clone())
            entry = repr(float(tensor.flatten()[0])) if tensor.numel() == self.weight.numel() else ""
            self.entries.setdefault(path, []).append(entry)
            self.last[path] = tensor.detach().clone()


def _alike(a: Tensor | None, b: Tensor) -> bool:
    """Whether two tensors hold the same but for what rounding leaves."""
    if a is None or a.numel() != b.numel():
        return False
    loose = max(1e-4, 16 * torch.finfo(b.dtype).eps)
    return torch.allclose(a.flatten(), b.flatten(), rtol=loose, atol=loose * float(b.abs().max()), equal_nan=True)


def _begin(fresh: Any) -> None:
    """Let a new optimizer make its states without a step, if it can."""
    begin = getattr(fresh, "init_group", None)  # of pytorch_optimizer's
    if callable(begin):
        for group in fresh.param_groups:
            begin(group)


def _step(fresh: Any) -> None:
    """Step without the hooks that others have put around every optimizer's step."""
    step = cast("Any", type(fresh)).step
    (step.__wrapped__ if getattr(step, "hooked", False) else step)(fresh)


def _options(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the constructor that an optimizer and one of its groups still show."""
    accepted = list(inspect.signature(type(optimizer).__init__).parameters.values())[2:]
    shown = {**vars(optimizer), **optimizer.defaults, **group}
    return {
        each.name: copy.deepcopy(shown[each.name])
        for each in accepted
        if each.name in shown and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }


def _exact(value: Any) -> str:
    """Return the text of an option; PyTorch rounds that of a tensor."""
    return repr(cast("Any", value).tolist() if isinstance(value, Tensor) else value)


def _small(dimensions: int) -> Tensor:
    return torch.zeros(*(_SIDES[i % len(_SIDES)] for i in range(dimensions)), device="cpu")
