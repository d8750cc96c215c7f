"""The masks in force: what keeps masked weights at zero, and their states neutral, around an optimizer step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from redense import masks as masking
from redense.criteria import WITH_ACTIVATIONS, criterion_name
from redense.errors import SparsityError
from redense.layers.inputs import forget_inputs_of
from redense.masks.sharding import cut, is_sharded, like, local, wrap
from redense.phase import Phase
from redense.pruning import threshold_of

from .gradients import GradientMasks
from .optimizers import forget_curvature, held, states_of
from .owners import refuse_shape
from .states.elementwise import Trust
from .states.masters import Masters
from .states.neutral import Neutrals
from .watching import Loaded, Questions, Watch

_EXACT = 3  # steps of an optimizer in a phase after which all entries of states under the mask are looked at
_EVERY = 8  # steps after which, later in a phase, some places are looked at


class Masked:
    """The masks in force on some parameters, and what is done around an optimizer step to hold them.

    Weights are masked after every step, whatever the optimizer did. Only the optimizers of `leaves_zeros` are spared
    that, where nothing else has written the weight: what they leave at zero by themselves is looked at, some places
    before each step and all of them before every ninth.

    States are not masked: a removed weight is zero, its gradient too, and its states are neutral when the phase begins,
    so that an optimizer that treats each weight by itself leaves them as they are. Which optimizers do is not in a
    list: the states are looked at, all of them after the first steps and some places now and then. Where one has moved,
    the states of that parameter are masked after every step from then on. Elsewhere than on a CPU what a later look
    finds is read before the next step, so that the device is not waited for. A release makes all states neutral in any
    case.
    """

    def __init__(
        self,
        phase: Phase,
        parameters: Mapping[str, nn.Parameter],
        masks: Mapping[str, Tensor],
        optimizers: Sequence[Optimizer],
        seed: int,
    ) -> None:
        self.phase = phase
        self.parameters = dict(parameters)
        self.masks = {name: like(mask, self.parameters[name]) for name, mask in masks.items()}
        self.optimizers = list(optimizers)
        self.seed = seed
        self.steps = [0] * len(self.optimizers)  # real ones of each in this phase: in a GAN one may make several a turn
        self.with_gradients = not phase.surgery  # whether gradients are masked, too; surgery needs them
        self.drifting: set[str] = set()  # the parameters whose states do not stay neutral by themselves
        self.first_names: dict[str, str] = {}  # of parameters that have another name now than when this was made
        self.unnamed = ""  # why a state could not be loaded into the model as it is called now
        self.closure_trains = False  # whether the closure of the last step gave a gradient, or saw written weights
        self._neutrals = Neutrals()
        self._watch, self._loaded, self._masters = Watch(), Loaded(), Masters()
        self._drifts = defaultdict[int, Questions](Questions)  # of each optimizer, whether states have moved
        self._trust = defaultdict[int, Trust](Trust)  # of each optimizer
        self._states: dict[int, list[Any]] = {}  # of each optimizer and those inside, the very object
        self._versions: list[int] | None = None  # of weights as redense has left them, if there was no gradient then
        self._begun = set[int]()  # the optimizers a step of which has begun and was not masked yet
        self._unmasked = set[int]()  # under surgery: the optimizers whose removed weights are in the network now
        self._gradients = GradientMasks(lambda name: self._now(name)[1], self._places)
        # Dynamic network surgery alone keeps the weights under the mask, and needs their gradients.
        self.full: dict[str, Tensor] = {}
        self.thresholds: dict[str, float] = {}
        if phase.surgery:
            self.full = {name: self.parameters[name].detach().clone() for name in self.masks}
            self.thresholds = {n: threshold_of(phase.surgery, n, w, self.masks[n]) for n, w in self.full.items()}

    @property
    def backward_passes(self) -> int:
        """Number of backward passes that gave a masked parameter a gradient, so far."""
        return self._gradients.seen

    def begin(self, *, resumed: bool = False) -> None:
        """Put the masks in force; nothing of a resumed optimizer's state is lost.

        Raises:
            SparsityError: the threshold of a surgery is one that no weight is below.
        """
        c = self.phase.surgery.c if self.phase.surgery and not resumed else None
        for name, threshold in self.thresholds.items() if c is not None else ():
            if threshold <= 0 and self.full[name].numel():
                raise SparsityError(
                    f"surgery with c={c:g} has the threshold {threshold:.3g} for '{name}', which no "
                    f"weight is below: phase '{self.phase.name}' would prune nothing of it. Raise c, or exclude it"
                )
        for optimizer in self.optimizers:  # what cannot be masked is found before anything is
            for name in self._names(optimizer):
                list(self._neutrals.states(optimizer, name, self.parameters[name]))
        if resumed:
            self._loaded.note((name, *self._now(name)) for name in self.masks)
        elif not self.phase.surgery:
            self._masters.note(((name, *self._now(name)) for name in self.masks), self._places)
        for optimizer in self.optimizers:
            self._mask(optimizer, with_state=not self.phase.surgery and not resumed)
            if not resumed:
                forget_curvature(optimizer)
            self._states[id(optimizer)] = states_of(optimizer)
        if not resumed and criterion_name(self.phase.criterion) in WITH_ACTIVATIONS:
            forget_inputs_of(self.parameters.values())  # the next phase is of other weights, and its inputs are others
        if self.with_gradients:
            self._gradients.attach({name: self.parameters[name] for name in self.masks})
            self.mask_gradients()

    def end(self) -> None:
        """Let go of the gradients; the weights and their states are left as they are."""
        self._gradients.detach()

    def release(self) -> None:
        """Leave every masked weight at zero, with the states of a new weight."""
        self.end()
        self._neutrals.forget()
        for optimizer in self.optimizers:
            self._mask(optimizer, with_state=True)
            forget_curvature(optimizer)

    def keep_gradients(self) -> None:
        """Leave the gradients of removed weights as they are from now on: they take part in what the optimizer does."""
        self.with_gradients = False
        self._gradients.detach()

    def mask_gradients(self) -> None:
        """Set the gradients of removed weights to zero where they are not, unless they are to stay."""
        if self.with_gradients:
            self._gradients.mask((name, self.parameters[name]) for name in self.masks)

    @property
    def broken_off(self) -> bool:
        """Whether the last step of an optimizer has not ended, or an exception has ended it."""
        return bool(self._begun)

    def finish_broken(self, optimizer: Optimizer | None = None) -> None:
        """Mask what a step has moved that an exception has ended in its midst, of one optimizer or of all."""
        for each in self.optimizers:
            if id(each) in self._begun and (optimizer is None or each is optimizer):
                self._save(each)
                self._mask(each, with_state=self.with_gradients)
                self._begun.discard(id(each))

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any, *, idle: bool = False) -> Any:
        """Return the arguments that ``optimizer.step`` shall have instead, or None.

        Args:
            optimizer: whose step it is.
            args: that it was called with.
            kwargs: that it was called with.
            idle: whether nothing has a gradient: what is written then says whether it trains.

        Raises:
            OptimizerError: a removed weight has been moved since the last step.
        """
        self.closure_trains = False
        self.finish_broken(optimizer)
        self._look_for_another_state(optimizer)
        parts = {name: self._now(name) for name in self._names(optimizer)}
        weights = {name: (self.masks[name], *part) for name, part in parts.items()}
        trust = self._trust[id(optimizer)]
        whole = trust.begin(optimizer, {name: weight for name, (weight, _) in parts.items()}, self.parameters)
        self._watch.check(id(optimizer), weights, whole=whole)
        self._loaded.warn(weights)
        self._begun.add(id(optimizer))  # not before: what is refused was not written by the optimizer
        self.mask_gradients()
        self._mask_drifting(optimizer, self._drifts[id(optimizer)].answers())
        if trust.restated and self.with_gradients:  # they may be of before the phase
            self._neutrals.forget()
            self._mask(optimizer, with_state=trust.restated)
        self._restore(optimizer)
        self._versions = self._versions_of(optimizer) if idle else None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            return None
        # An optimizer that evaluates the loss itself (LBFGS) must see the masked weights and only their gradients.
        masked = self._masked_closure(optimizer, closure)
        return (
            (args[:1], {**kwargs, "closure": masked}) if "closure" in kwargs else ((args[0], masked, *args[2:]), kwargs)
        )

    def trains(self, optimizer: Optimizer) -> bool:
        """Whether the step that ends now had a gradient from its closure, or has written masked weights without any."""
        written = self._versions is not None and self._versions != self._versions_of(optimizer)
        return written or self.closure_trains

    def after_step(self, optimizer: Optimizer, *, skipped: bool = False) -> bool:
        """Mask what the step has moved; a skipped step does not count. Return whether the masks were revised.

        Raises:
            SparsityError: a revision would leave nothing of a parameter.
        """
        surgery, revised = self.phase.surgery, False
        index = next(i for i, own in enumerate(self.optimizers) if own is optimizer)
        steps = self.steps[index]
        if surgery:
            self._save(optimizer)
            if not skipped and steps < self.phase.steps and surgery.due(steps, self.seed):
                revised = True
                for name in self._names(optimizer):
                    mask = local(self.masks[name])
                    now = surgery.revise(local(self.full[name]), mask, self.thresholds[name])
                    # Of a sharded weight another rank's part may keep some.
                    if now.numel() and not is_sharded(self.masks[name]) and not now.any():
                        raise SparsityError(
                            f"surgery would prune all {now.numel():,} weights of '{name}': all are below its threshold "
                            f"in phase '{self.phase.name}'. Lower c, the sparsity or the weight decay, or exclude it"
                        )
                    self.masks[name] = wrap(now, self.masks[name])  # whoever was given the old one has it still
                self._watch.forget()
            self._mask(optimizer)
        else:
            if self.with_gradients and not skipped and (steps < _EXACT or steps % _EVERY == 0):
                self._look_for_drift(optimizer, exact=steps < _EXACT)
            if not (skipped or steps):
                self._masters.warn(optimizer, self._weights(optimizer))
            trust = self._trust[id(optimizer)]
            # Else states are what the gradients of removed weights make of them.
            drifting = self.drifting if self.with_gradients else set[str]()
            left = trust.zero - self.drifting if self.with_gradients else set[str]()
            self._mask(optimizer, with_state=drifting, but=left)
            trust.end(optimizer, left, self._weights(optimizer), self.parameters)
        self._begun.discard(id(optimizer))
        self.steps[index] += not skipped
        return revised

    def not_zero(self) -> str | None:
        """Return the name of a parameter a removed weight of which is not zero; None if all are."""
        parts = ((name, *self._now(name)) for name in self.masks)
        return next((name for name, weight, mask in parts if bool((weight.ne(0) & ~mask).any())), None)

    def lost(self) -> bool:
        """Whether a masked parameter is no longer what the optimizers update: the model was sharded since."""
        mine = set[int]().union(*(held(optimizer) for optimizer in self.optimizers))
        return any(id(parameter) not in mine for parameter in self.parameters.values())

    def follow(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Go on with other parameters of the same names and shapes; the masks are cut as they are.

        Raises:
            OptimizerError: a shape is another one.
        """
        for name, mask in self.masks.items():
            refuse_shape(name, parameters[name], mask)
        self.parameters = {name: parameters[name] for name in self.parameters}
        self.masks = {name: like(mask, self.parameters[name]) for name, mask in self.masks.items()}
        self.full = {name: cut(full, self.parameters[name]) for name, full in self.full.items()}
        self._neutrals.forget()
        if self.with_gradients:
            self._gradients.attach({name: self.parameters[name] for name in self.masks})

    def rename(self, names: Mapping[int, str]) -> bool:
        """Call what is masked by the names of now, id of a parameter -> name; return whether any has another one."""
        now = {old: names.get(id(parameter), old) for old, parameter in self.parameters.items()}
        if all(old == new for old, new in now.items()) or len(set(now.values())) < len(now):
            return False
        for optimizer in self.optimizers:
            self._mask_drifting(optimizer, self._drifts[id(optimizer)].answers())
        self.first_names = {new: self.first_names.get(old, old) for old, new in now.items()}
        self.drifting = {now[name] for name in self.drifting}
        for of_each in (self.parameters, self.masks, self.full, self.thresholds):
            renamed = {now[name]: value for name, value in of_each.items()}
            of_each.clear()
            cast("dict[str, Any]", of_each).update(renamed)
        for each in (self._loaded, self._masters, *self._trust.values()):
            each.rename(now)
        if self.with_gradients:
            self._gradients.attach({name: self.parameters[name] for name in self.masks})
        return True

    def _masked_closure(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        def masked() -> Any:
            self.closure_trains = self.trains(optimizer)
            self._save(optimizer)
            trust = self._trust[id(optimizer)]
            self._mask(optimizer, but=trust.zero)
            loss = closure()
            # The step may clear gradients itself, so that there is none before it and none after it.
            self.closure_trains |= any(p.grad is not None for group in optimizer.param_groups for p in group["params"])
            trust.narrow(self._weights(optimizer))
            self.mask_gradients()
            self._restore(optimizer)
            if self._versions is not None:
                self._versions = self._versions_of(optimizer)
            return loss

        return masked

    def _look_for_another_state(self, optimizer: Optimizer) -> None:
        """Mask the states if others have been loaded since the last step: they may be of before the phase."""
        now, known = states_of(optimizer), self._states[id(optimizer)]
        if len(now) == len(known) and all(a is b for a, b in zip(now, known, strict=True)):
            return
        self._states[id(optimizer)] = now
        self._neutrals.forget()
        if self.with_gradients:  # else momenta are what the gradients under the mask have made them
            self._mask(optimizer, with_state=True)

    def _look_for_drift(self, optimizer: Optimizer, *, exact: bool) -> None:
        """Note the parameters a state of which a step has moved under the mask."""
        questions = self._drifts[id(optimizer)]
        asked: list[tuple[str, Tensor]] = []
        for name in self._names(optimizer):
            if name in self.drifting:
                continue
            mask = self._now(name)[1]
            places = self._places(name, mask)
            for state in self._neutrals.states(optimizer, name, self.parameters[name]):
                moved = state.moved(mask, None if exact else places)
                if moved.device.type != "cpu":
                    asked.append((name, moved))
                elif bool(moved.any()):
                    self.drifting.add(name)
                    break
        questions.ask(asked)
        if exact:  # three times a phase the device is waited for
            self.drifting.update(questions.answers())

    def _mask_drifting(self, optimizer: Optimizer, names: list[str]) -> None:
        self.drifting.update(names)
        if names:
            self._mask(optimizer, with_state=names)

    def _mask(
        self, optimizer: Optimizer, *, with_state: bool | Collection[str] = False, but: Collection[str] = ()
    ) -> None:
        masking.apply_all_(self._zeroed(optimizer, with_state, but))

    def _zeroed(
        self, optimizer: Optimizer, with_state: bool | Collection[str], but: Collection[str]
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        for name in self._names(optimizer):
            if name in but:
                continue
            weight, mask = self._now(name)
            zeroed = [weight]
            if with_state is True or (with_state and name in with_state):
                for state in self._neutrals.states(optimizer, name, self.parameters[name]):
                    if state.neutral or state.tensor.is_sparse:
                        state.fill_(mask)
                    else:
                        zeroed.append(state.tensor)
            yield mask, zeroed

    def _now(self, name: str) -> tuple[Tensor, Tensor]:
        """Return this rank's part of a weight and of its mask, which follows the weight to its device and layout."""
        parameter = self.parameters[name]
        refuse_shape(name, parameter, self.masks[name])
        weight, mask = local(parameter.detach()), local(self.masks[name])
        if mask.stride() != weight.stride() or mask.device != weight.device:
            self.masks[name] = like(self.masks[name], parameter)
            mask = local(self.masks[name])
        return weight, mask

    def _weights(self, optimizer: Optimizer) -> dict[str, Tensor]:
        return {name: local(self.parameters[name]) for name in self._names(optimizer)}

    def _versions_of(self, optimizer: Optimizer) -> list[int]:
        return [local(self.parameters[name])._version for name in self._names(optimizer)]

    def _places(self, name: str, mask: Tensor) -> Tensor:
        """Return flat indices of some removed weights, given this rank's part of the mask."""
        return self._watch.places(name, self.masks[name], mask)

    def _save(self, optimizer: Optimizer) -> None:
        """Note the weights under the mask; removed ones stay as noted where a broken closure has left them at zero."""
        if self.full:
            with torch.no_grad():  # else each copy would keep the graph of the one before
                for name in self._names(optimizer):
                    weight, full = local(self.parameters[name]), local(self.full[name])
                    if id(optimizer) not in self._unmasked:
                        weight = torch.where(self._now(name)[1], weight, full.to(weight))
                    full.copy_(weight)
        self._unmasked.discard(id(optimizer))

    def _restore(self, optimizer: Optimizer) -> None:
        """Give removed weights the values that they have under the mask; kept ones may be written between two steps."""
        if self.full:
            with torch.no_grad():
                for name in self._names(optimizer):
                    weight, mask = self._now(name)
                    weight.copy_(torch.where(mask, weight, local(self.full[name]).to(weight)))
            self._unmasked.add(id(optimizer))

    def _names(self, optimizer: Optimizer) -> Iterator[str]:
        mine = held(optimizer)
        return (name for name in self.masks if id(self.parameters[name]) in mine)
