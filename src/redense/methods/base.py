"""A technique around the training of one phase: what it may change, and when the engine asks it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from redense.errors import ScheduleError, StateError, nearest
from redense.holding.randomness import random_kept
from redense.phase import Phase
from redense.plugins import Registry
from redense.pruning import derive_seed


class Problem(Protocol):
    """The task that is trained, as far as a technique may ask it."""

    name: str

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the task's own loss of a batch, a scalar."""
        ...

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits of a batch, (rows, classes)."""
        ...


class Context:
    """The phase in training, as a technique sees it. The engine makes one for each phase and keeps it up to date.

    Args:
        model: what is trained.
        phase: steps, learning rate and sparsity of the phase.
        task: gives loss, outputs, inputs and targets of a batch.
        optimizer: the one that trains the phase; none for a technique that is tried by hand.
        prunable: parameters that pruning chooses from, by name.
        seed: of everything random in the technique.
        build: makes the network with new weights.
        stored: gives the weights of a stored phase by its key.
        batches: gives the training batches of one epoch, for statistics of batch normalisation.
        steps_per_epoch: optimizer steps of one epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        phase: Phase | None = None,
        task: Problem | None = None,
        *,
        optimizer: Optimizer | None = None,
        prunable: Mapping[str, nn.Parameter] | None = None,
        seed: int = 0,
        build: Callable[[], nn.Module] | None = None,
        stored: Callable[[str], dict[str, Tensor]] | None = None,
        batches: Callable[[], Iterable[Any]] = tuple,
        steps_per_epoch: int = 1,
    ) -> None:
        self.model, self.phase, self.optimizer, self.seed = model, phase, optimizer, seed
        self.prunable: Mapping[str, nn.Parameter] = prunable or {}
        self.masks: Mapping[str, Tensor] = {}
        """Of the phase, True = kept; empty in a dense phase, and before a sparse one has chosen them."""
        self.step = 0
        """Optimizer steps of the phase that are done."""
        self.batch_number = 0
        """Batches of the phase that are done; several make a step where gradients are accumulated."""
        self.batches, self.steps_per_epoch = batches, steps_per_epoch
        self._task, self._build, self._stored = task, build, stored

    @property
    def steps(self) -> int:
        """Optimizer steps of the phase."""
        return self.phase.steps if self.phase else 0

    @property
    def progress(self) -> float:
        """The part of the phase that is done, in [0, 1)."""
        return self.step / self.steps if self.steps else 0.0

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the task's own loss of a batch."""
        return self._asked("loss")(model, batch)

    def outputs(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits of a batch, (rows, classes)."""
        return self._asked("outputs")(model, batch)

    def inputs(self, batch: Any) -> Tensor:
        """Return what the network sees of a batch, (examples, ...)."""
        return self._asked("inputs")(batch)

    def targets(self, batch: Any) -> Tensor:
        """Return the right class of every row of `outputs`, int64 (rows,)."""
        return self._asked("targets")(batch)

    def replaced(self, batch: Any, inputs: Tensor, targets: Tensor | None = None) -> Any:
        """Return a batch with other inputs, and other targets if they are given."""
        return self._asked("replaced")(batch, inputs, targets)

    def built(self, *what: object) -> nn.Module:
        """Return the network with new weights, drawn by the technique's seed and ``what``; nothing else is drawn from.

        Raises:
            StateError: it is not known how the network is built.
        """
        if self._build is None:
            raise StateError("a new network needs to know how one is built: train this phase with the engine")
        with random_kept(derive_seed(self.seed, *what) if what else self.seed):
            return self._build()

    def stored(self, key: str) -> dict[str, Tensor]:
        """Return the weights that another arm's phase ended with.

        Raises:
            StateError: there is no store here.
        """
        if self._stored is None:
            raise StateError(
                f"phase {key} is not in a store here: this technique needs other arms, use `redense compare`"
            )
        return self._stored(key)

    def generator(self, *what: object) -> torch.Generator:
        """Return random numbers of the technique's own on the CPU: the same for this batch whenever it is trained."""
        return torch.Generator().manual_seed(derive_seed(self.seed, self.batch_number, *what))

    def _asked(self, what: str) -> Callable[..., Any]:
        found = getattr(self._task, what, None)
        if found is None:
            name = getattr(self._task, "name", "none")
            raise StateError(f"the task '{name}' does not say what the {what} of a batch are")
        return found


class Method:
    """Changes nothing; a technique overrides what it changes.

    The engine calls, for one phase: `begin` before its first step and before anything is pruned, `pruned` right after
    the masks of the phase are chosen; then for every step `loss` (once a batch) and `step`, then `after_step`; and
    `finish` when the phase is over and its masks are released. A phase that is interrupted goes on with a new object
    that was given `load_state_dict` instead of `begin`. Each is given the `Context` of the phase, ``run``.

    Args:
        options: the settings of the phase, plain data; an unknown one is an error.
        seed: of everything random in it.

    Raises:
        RedenseError: an option is unknown, or has a value that it cannot have.
    """

    name = ""
    defaults: Mapping[str, Any] = {}
    needs: tuple[str, ...] = ()
    """What of the task it cannot do without, beside loss and outputs: ``inputs``, ``targets``, ``replaced``."""
    keeps_gradients = False
    """Whether the gradients of removed weights take part in the steps of a sparse phase."""
    kept_attributes: tuple[str, ...] = ()
    """Attributes that an interrupted phase needs to go on: tensors and plain data, in mappings and lists."""
    libraries: tuple[str, ...] = ()
    """Packages that it computes with: phases that another version of them has trained are not taken from the store."""

    def __init__(self, options: Mapping[str, Any], seed: int) -> None:
        for key in options:
            if key not in self.defaults:
                raise ScheduleError(f"unknown option '{key}' of method '{self.name}'{nearest(key, self.defaults)}")
        self.options: dict[str, Any] = {**self.defaults, **options}
        self.seed = seed
        self.check_options()

    def check_options(self) -> None:
        """Refuse an option's value, if it is one that cannot be; called when the object is made.

        Raises:
            RedenseError: it is.
        """

    @property
    def gradient_evaluations(self) -> float:
        """Gradients of a batch that one optimizer step takes, on average."""
        return 1

    def check(self, model: nn.Module, task: Problem) -> None:
        """Refuse, before anything is trained, a network or a task that the technique cannot work with.

        Raises:
            ScheduleError: it cannot.
        """
        for what in self.needs:
            if not hasattr(task, what):
                raise ScheduleError(
                    f"the technique '{self.name}' needs the {what} of a batch, and the task '{task.name}' does not say "
                    "what they are"
                )

    def begin(self, run: Context) -> None:
        """Prepare, with the weights that the phase before left; may change their values in place."""

    def pruned(self, run: Context) -> None:
        """Look at the masks that were just chosen, ``run.masks``; may change the weights that are kept, in place."""

    def loss(self, run: Context, model: nn.Module, batch: Any) -> Tensor:
        """Return the training loss of a batch; ``model`` is what has to be called, ``run.model`` with what wraps it."""
        return run.loss(model, batch)

    def step(self, run: Context, optimizer: Optimizer, again: Callable[[], object]) -> None:
        """Make the optimizer step; ``again()`` clears the gradients and computes them anew at the current weights."""
        optimizer.step()

    def after_step(self, run: Context) -> None:
        """Look at the weights after the optimizer step that brought the phase to ``run.step`` steps."""

    def finish(self, run: Context) -> None:
        """Leave the weights that the phase ends with; ``run.masks`` are those that it held."""

    def join(self, run: Context, ends: Sequence[Mapping[str, Tensor]]) -> None:
        """Leave the weights of a phase that joins others, and is not trained: made of those that they ended with.

        Raises:
            ScheduleError: the technique trains a phase, and joins none.
        """
        raise ScheduleError(f"the technique '{self.name}' joins no phases: it trains one")

    def reshape(self, run: Context, model: nn.Module, made: Any = None) -> tuple[nn.Module, Any]:
        """Return the model that the phase trains, in another structure, and plain data that says what was made.

        Given that data again as ``made``, it makes the same structure from a freshly built model. ``None`` in its place
        says that the structure is unchanged.
        """
        return model, None

    def state_dict(self) -> dict[str, Any]:
        """Return what an interrupted phase needs to go on, tensors and plain data: the `kept_attributes`."""
        return {name: getattr(self, name) for name in self.kept_attributes}

    def checked_state(self) -> dict[str, Any]:
        """Return the `state_dict`, of which a checkpoint must be able to hold everything.

        Raises:
            ScheduleError: it cannot.
        """
        state = self.state_dict()
        for name, value in state.items():
            if odd := _odd_part(value):
                raise ScheduleError(
                    f"technique '{self.name}' keeps a {odd} in '{name}', which no checkpoint can hold: keep it as "
                    "tensors, numbers, texts, and lists and mappings of them"
                )
        return state

    def load_state_dict(self, state: Mapping[str, Any], run: Context) -> None:
        """Go on where `state_dict` was taken, with its tensors where the model is."""
        for name in self.kept_attributes:
            setattr(self, name, _moved(state[name], next(run.model.parameters()).device))


def _odd_part(tree: Any) -> str:
    """Return the type of what is neither tensor nor plain data; nothing where all is."""
    if isinstance(tree, dict):
        keys = (type(key).__name__ for key in tree if not isinstance(key, (str, int, float, type(None))))
        return next(keys, "") or next(filter(None, map(_odd_part, tree.values())), "")
    if isinstance(tree, (list, tuple)):
        return next(filter(None, map(_odd_part, tree)), "")
    return "" if isinstance(tree, (Tensor, str, int, float, type(None))) else type(tree).__name__


def _moved(tree: Any, device: torch.device) -> Any:
    if isinstance(tree, Mapping):
        return {key: _moved(value, device) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value, device) for value in tree]
    return tree.to(device) if isinstance(tree, Tensor) else tree


_HOOKS = (
    "check_options",
    "check",
    "begin",
    "pruned",
    "loss",
    "step",
    "after_step",
    "finish",
    "join",
    "reshape",
    "load_state_dict",
)


def _check(name: str, cls: type[Method]) -> None:
    if not isinstance(cls, type) or not issubclass(cls, Method):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ScheduleError(f"the technique '{name}' must be a class below redense.methods.base.Method, got {cls!r}")
    for hook in _HOOKS:
        own, expected = (list(inspect.signature(getattr(kind, hook)).parameters) for kind in (cls, Method))
        if own[: len(expected)] != expected:
            raise ScheduleError(
                f"{hook} of the technique '{name}' takes ({', '.join(own)}); it is called with a context, as "
                f"({', '.join(expected)}): what was given one by one is in `run` now"
            )


TECHNIQUES: Registry[type[Method]] = Registry("technique", ScheduleError, check=_check, home=__package__)

_M = TypeVar("_M", bound=type[Method])


def technique(name: str) -> Callable[[_M], _M]:
    """Register a technique, so that a phase can name it.

    Raises:
        ScheduleError: the name is taken, or no phase could give it; or it has a method with other arguments.
    """

    def register(cls: _M) -> _M:
        cls.name = name
        TECHNIQUES.register(name, cls)
        return cls

    return register


def get_technique(name: str) -> type[Method]:
    """Return the technique of a name.

    Raises:
        ScheduleError: there is none.
    """
    return TECHNIQUES.get_named(name)


def make_method(name: str | None, options: Mapping[str, Any], seed: int) -> Method:
    """Return the technique called ``name`` for one phase, or one that changes nothing.

    Raises:
        RedenseError: no technique has this name, or an option is unknown or cannot be.
    """
    return (Method if name is None else get_technique(name))(options, seed)
