"""Optimizers: the one under a wrapper, the parameters it holds, its states of a weight, whether a step was skipped."""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from redense.errors import OptimizerError
from redense.masks.sharding import is_sharded, largest_over, local

# Layer-wise GaLore and APOLLO of transformers, LOMO, and torchtune's wrapper: their step() does nothing.
_IN_BACKWARD = ("LayerWiseDummyOptimizer", "Lomo", "AdaLomo", "LOMO", "AdaLOMO", "OptimizerInBackwardWrapper")


# Of Accelerate, Lightning, Fabric and Ray: their step() calls that of the optimizer inside and writes no weight.
_PASS_ON = ("AcceleratedOptimizer", "LightningOptimizer", "_FabricOptimizer", "_WrappedOptimizer")
_PASS_ON_OF = ("accelerate", "lightning", "lightning_fabric", "pytorch_lightning", "ray")


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """Return the outermost optimizer that writes weights: the one under the wrappers of Accelerate, Lightning and Ray.

    A wrapper that is not known to leave the weights alone (Lookahead, schedule-free) is the optimizer.

    Raises:
        OptimizerError: it is no optimizer, or one whose steps cannot be seen.
    """
    _refuse_unsteppable(optimizer)
    while _passes_on(optimizer) and isinstance(optimizer.optimizer, Optimizer):
        optimizer = optimizer.optimizer
        _refuse_unsteppable(optimizer)
    if not isinstance(optimizer, Optimizer):
        inner = getattr(optimizer, "optimizer", None)
        more = ": if it writes no weight itself, give its .optimizer" if isinstance(inner, Optimizer) else ""
        raise OptimizerError(f"an optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}{more}")
    return optimizer


def optimizers_of(optimizer: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    """Return what `unwrap_optimizer` does of one optimizer or of each of several.

    Raises:
        OptimizerError: there is none, one is there twice, or one is none whose steps can be seen.
    """
    given = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    optimizers = [unwrap_optimizer(each) for each in given]
    if not optimizers:
        raise OptimizerError("no optimizer was given: pass the one that trains the model")
    if len({id(each) for each in optimizers}) < len(optimizers):
        raise OptimizerError("the same optimizer was given twice (perhaps once wrapped): its steps would count double")
    return optimizers


def _passes_on(optimizer: Any) -> bool:
    kinds = type(optimizer).__mro__
    return any(kind.__name__ in _PASS_ON and kind.__module__.split(".")[0] in _PASS_ON_OF for kind in kinds)


def inner_optimizers(optimizer: Optimizer) -> list[Optimizer]:
    """Return the optimizers that one wraps, the innermost first: Lookahead's, SAM's, several in a list or a dict."""
    found: dict[int, Optimizer] = {id(optimizer): optimizer}  # one inside may know the one outside
    _collect(optimizer, found)
    return list(found.values())[:0:-1]


def _collect(optimizer: Optimizer, found: dict[int, Optimizer]) -> None:
    values = [v for n, v in vars(optimizer).items() if n not in ("state", "param_groups") and not n.endswith("_hooks")]
    for inner in _optimizers_in(values):  # at every step: what is long, and torch's own, is not looked through
        if id(inner) not in found:
            found[id(inner)] = inner
            _collect(inner, found)


def _optimizers_in(value: Any) -> Iterator[Optimizer]:
    if isinstance(value, Optimizer):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        items = cast("Iterable[Any]", value.values() if isinstance(value, Mapping) else value)
        for each in items:
            yield from _optimizers_in(each)


def make_hookable(optimizer: Optimizer) -> None:
    """Let an optimizer call its hooks around a step, as torch does for every one that is made in the usual way.

    A wrapper that never called ``Optimizer.__init__`` gets what that would have done. Where a step is made of two calls
    (SAM's ``first_step`` and ``second_step``), the last of them is the step.
    """
    for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
        known = getattr(optimizer, name, None)
        if name not in vars(optimizer) or not isinstance(known, OrderedDict):
            if known is None:  # its class is about to look for hooks in every one of its kind
                setattr(type(optimizer), name, OrderedDict[int, Any]())
            setattr(optimizer, name, OrderedDict[int, Any](cast("dict[int, Any]", known or {})))
    optimizer._patch_step_function()  # pyright: ignore[reportPrivateUsage]
    kind = cast("Any", type(optimizer))
    last = next((name for name in ("third_step", "second_step") if callable(getattr(kind, name, None))), None)
    if last and not getattr(getattr(kind, last), "hooked", False):
        hooked = cast("Any", Optimizer.profile_hook_step(getattr(kind, last)))
        hooked.hooked = True
        setattr(kind, last, hooked)


def _refuse_unsteppable(optimizer: Any) -> None:
    kind = cast("type[object]", type(optimizer))
    if kind.__module__.split(".")[0] == "deepspeed" or kind.__name__ == "DeepSpeedOptimizerWrapper":
        raise OptimizerError(
            "DeepSpeed's optimizers update flat partitions of the weights, in which no parameter can be masked: "
            "use FSDP2 (torch.distributed.fsdp.fully_shard) or DDP, which redense supports"
        )
    if kind.__name__ in _IN_BACKWARD:
        raise OptimizerError(
            f"{kind.__name__} updates the weights inside backward, where no step can be counted or masked: "
            "use an optimizer whose step() does it"
        )


def states_of(optimizer: Optimizer) -> list[Any]:
    """Return the very object that has the states of an optimizer, and those of the optimizers inside."""
    return [getattr(each, "state", None) for each in (optimizer, *inner_optimizers(optimizer))]


def held(optimizer: Optimizer) -> set[int]:
    """Return the ids of the parameters that the optimizer updates."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def not_frozen(optimizer: Optimizer) -> set[int]:
    """Return the ids of the parameters that the optimizer updates and that take gradients now."""
    return {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}


_TORCHS = Optimizer.profile_hook_step.__code__.co_filename


class Calls:
    """The calls of ``step`` that are running: a subclass that calls its parent's makes one step of two calls."""

    def __init__(self) -> None:
        self._of: dict[int, list[FrameType | None]] = {}
        self._turn = set[int]()  # the optimizers that have stepped since the last turn began

    def begins_turn(self, optimizer: Optimizer) -> bool:
        """Note a step; return whether it begins another turn of several optimizers, in which each steps once at most.

        What is looked at in all of a model is looked at once a turn: there may be an optimizer for each parameter.
        """
        begins = not self._turn or id(optimizer) in self._turn
        if begins:
            self._turn.clear()
        self._turn.add(id(optimizer))
        return begins

    @property
    def running(self) -> bool:
        """Whether any call has begun that did not end."""
        calls = list(self._of.values())  # at once: another thread may be asking while this one begins
        return any(_runs(frame) for frames in calls for frame in frames)

    @property
    def idle(self) -> bool:
        """Whether no call is running in any thread."""
        running = {id(frame) for top in sys._current_frames().values() for frame in _stack(top)}  # pyright: ignore[reportPrivateUsage]
        return all(id(frame) not in running for frames in list(self._of.values()) for frame in frames)

    def begin(self, optimizer: Optimizer) -> bool:
        """Note a call of ``step``; return whether it is the outermost one."""
        outer = self._of.setdefault(id(optimizer), [])
        outer[:] = [frame for frame in outer if _runs(frame)]  # what an exception has ended is over
        outer.append(_caller())
        return len(outer) == 1

    def end(self, optimizer: Optimizer) -> bool:
        """Note the end of a call; return whether it was the outermost one."""
        outer = self._of.get(id(optimizer), [])
        frame = _caller()
        ending = next((i for i, each in enumerate(outer) if each is frame), max(len(outer) - 1, 0))
        del outer[ending:]  # and those inside, which an exception has ended that the call itself has caught
        return not outer


def _caller() -> FrameType | None:
    """Return torch's frame around the step whose hook is running."""
    here = inspect.currentframe()
    seen = here
    while seen is not None and seen.f_code.co_filename != _TORCHS:
        seen = seen.f_back
    return seen or here


def _runs(frame: FrameType | None) -> bool:
    return any(each is frame for each in _stack(inspect.currentframe()))


def _stack(top: FrameType | None) -> Iterator[FrameType]:
    while top is not None:
        yield top
        top = top.f_back


Hook = Callable[[Optimizer, Any, Any], Any]


def untraced(controller: object, hook: Hook) -> Hook:
    """Return the hook so that a compiled ``optimizer.step`` calls it as it is, and others find its controller."""
    hidden = cast("Any", torch.compiler).disable(hook)
    hidden.controller = controller
    return hidden


class _Both(NamedTuple):
    first: Callable[..., Any]
    then: Callable[..., None]

    def __call__(self, *given: Any) -> Any:
        said = self.first(*given)
        self.then(*given)
        return said


def _hooks_before(optimizer: Optimizer) -> OrderedDict[int, Any]:
    return cast("OrderedDict[int, Any]", optimizer._optimizer_step_pre_hooks)  # pyright: ignore[reportPrivateUsage]


def call_behind(optimizer: Optimizer, mine: Sequence[RemovableHandle], then: Callable[..., None]) -> None:
    """Call something behind the last hook before this step, if another hook came after ours; `stays_last` ends that.

    PyTorch goes through the hooks meanwhile, when one may take the place of another and none can be added.

    Args:
        optimizer: whose hooks they are.
        mine: handles of our hooks, those of other hooks too.
        then: takes what a hook is given.
    """
    hooks = _hooks_before(optimizer)
    last = next(reversed(hooks), None)
    if last is None or isinstance(hooks[last], _Both) or any(handle.id == last for handle in mine):
        return
    if any(handle.id in hooks for handle in mine):
        hooks[last] = _Both(hooks[last], cast("Any", torch.compiler).disable(then))


def stays_last(optimizer: Optimizer, ids: Collection[int]) -> bool:
    """Move the second of some hooks before a step to the end, if others came after; return False if a second is needed.

    Args:
        optimizer: whose hooks they are.
        ids: of their handles, those of other hooks too.
    """
    hooks = _hooks_before(optimizer)
    for key, hook in hooks.items():
        if isinstance(hook, _Both):
            hooks[key] = hook.first
    mine = [key for key in hooks if key in ids]
    if not mine or next(reversed(hooks)) in mine:
        return True
    if len(mine) > 1:
        hooks.move_to_end(mine[-1])
    return len(mine) > 1


def hooks_of(optimizer: Optimizer) -> Iterator[Any]:
    """Give the hooks around the steps of an optimizer, those before a step first."""
    yield from getattr(optimizer, "_optimizer_step_pre_hooks", {}).values()
    yield from getattr(optimizer, "_optimizer_step_post_hooks", {}).values()


def versions_without_gradients(optimizer: Optimizer, but: Collection[Tensor]) -> list[int] | None:
    """Return how often each parameter has been written but for some; None if any has a gradient, and so is trained."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p.grad is not None for p in parameters):
        return None
    left_out = set(map(id, but))
    return [local(p)._version for p in parameters if id(p) not in left_out]


def forget_curvature(optimizer: Optimizer) -> None:
    """Drop what an optimizer knows of the loss with other weights."""
    # LBFGS keeps flat vectors over all parameters: they describe the loss with the other weights.
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()


def was_skipped(optimizer: Optimizer) -> bool:
    """Whether the step that has just been called changed nothing, for a GradScaler had found an infinity."""
    # For fused optimizers GradScaler calls step() also when it found an infinity, and lets the kernel skip.
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.item())


def refuse_capture() -> None:
    """Refuse to be recorded into a CUDA graph, whose replays call no hook: no step would be counted, no phase end.

    Raises:
        OptimizerError: a graph is being captured.
    """
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        raise OptimizerError(
            "a CUDA graph is being captured around what redense does at each step, and no replay would do it: capture "
            'the network alone (torch.cuda.make_graphed_callables, torch.compile(model, mode="reduce-overhead")), and '
            "call backward() and optimizer.step() outside"
        )


def fills_state(optimizer: Optimizer) -> bool:
    """Whether a step is the one by which ``torch.distributed.checkpoint`` fills the state of a fresh optimizer.

    It trains nothing: its rates are 0, and so is every gradient. The first step of a warm-up has the same rate, and
    gradients.
    """
    rates = [group["lr"] for group in optimizer.param_groups if "lr" in group]
    if not rates or any(_moves(rate) for rate in rates):
        return False  # nearly every step ends here: no gradient is read, no device waited for
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    if any(gradient is None or gradient.is_sparse for gradient in gradients):
        return False  # it gives a dense one to every parameter
    meshes = {gradient.device_mesh: None for gradient in gradients if is_sharded(gradient)}
    if meshes and _asked_by_torch():  # by one rank alone, perhaps
        return True
    trains = any(bool(local(gradient).any()) for gradient in gradients)
    for mesh in meshes:  # the gradient of another rank's shards may be all there is
        trains = bool(largest_over(mesh)(torch.tensor([int(trains)], device="cpu")))
    return not trains


def _moves(rate: float | Tensor) -> bool:
    if isinstance(rate, Tensor) and rate.device.type not in ("cpu", torch.get_default_device().type):
        return True  # of a capturable optimizer: torch's 0 is made on the default device
    return bool(rate != 0)


def _asked_by_torch() -> bool:
    frame = sys._getframe()  # pyright: ignore[reportPrivateUsage]
    while frame := frame.f_back:
        if frame.f_code.co_name == "_init_optim_state":
            return True
    return False


def remove(handles: list[RemovableHandle]) -> None:
    """Take hooks away."""
    for handle in handles:
        handle.remove()
    handles.clear()
