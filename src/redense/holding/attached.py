"""The common part of `sparse` and `DSD`: the model, its optimizers and their hooks, the masks chosen and held."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from redense.errors import OptimizerError, StateError
from redense.layers.names import names_of, patterns_of, unwrap, walk
from redense.parameters import named
from redense.phase import Phase
from redense.pruning import check_masks, check_phase, check_seed, choose, derive_seed, is_ours

from .candidates import Candidates
from .copies import mask_copy_
from .ending import forget_reminders, written_since
from .masked import Masked
from .optimizers import (
    Calls,
    call_behind,
    fills_state,
    held,
    hooks_of,
    inner_optimizers,
    make_hookable,
    not_frozen,
    optimizers_of,
    refuse_capture,
    remove,
    stays_last,
    untraced,
    unwrap_optimizer,
    versions_without_gradients,
    was_skipped,
)
from .owners import Owners
from .registry import attached
from .replicas import Replicas
from .saving import masked_from

_log = logging.getLogger(__name__)


class Controller:
    """The optimizers, their hooks and the parameters of a `DSD` or a block of `sparse`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        include: str | Sequence[str] | None,
        exclude: str | Sequence[str],
        seed: int,
        inputs: Any,
        replicas: Any,
    ) -> None:
        self._model = unwrap(model)
        self._replicas = Replicas(model, replicas)
        self._agreed = False  # on what is in force, with the ranks that train copies of the model
        self._optimizers = optimizers_of(optimizer)
        self._include = None if include is None else patterns_of("include", include)
        self._exclude = patterns_of("exclude", exclude)
        self._seed = check_seed(seed)
        self._candidates = Candidates(self._model, self._optimizers, self._include, self._exclude, inputs)
        self._masked: Masked | None = None
        self._owners = Owners(self._model, {})  # of what is to be pruned
        self._trains_nothing = False  # the step that is being made
        self._idle: list[int] | None = None  # what was written before a step that began without a gradient
        self._learning: dict[int, set[int]] = {}  # of each of several optimizers, what was not frozen at its last step
        self._handles: list[RemovableHandle] = []
        self._calls = Calls()
        self._seen = 0  # real steps
        # Optimizers of other weights, which were looked at already, and how many parameters they had then.
        self._foreign = weakref.WeakKeyDictionary[Optimizer, int]()

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks in force: parameter name -> bool tensor, True = kept; empty in a dense phase."""
        return dict(self._masked.masks) if self._masked else {}

    def _unseen(self) -> str:
        passes = self._masked.backward_passes if self._masked else 0
        return (
            f"no step of {self._kinds} was seen, but {passes} backward passes: nothing was counted as training. If the "
            "loop did train, give redense the optimizer whose step() it calls"
        )

    @property
    def _kinds(self) -> str:
        return " and ".join(type(optimizer).__name__ for optimizer in self._optimizers)

    def mask_gradients(self) -> None:
        """Set the gradients of removed weights to zero now.

        Gradients that come from ``backward`` are masked already, and so is what an ``optimizer.step`` begins with. This
        is for gradients that are written in another way (``torch.autograd.grad``) and are looked at before the step:
        call it before ``clip_grad_norm_``.
        """
        if self._masked:
            self._masked.mask_gradients()

    def keep_gradients(self) -> None:
        """Let the gradients of removed weights take part in the steps of the phase in force.

        That is what a loop does that multiplies the weights by the mask and no more. It is for ablations: momenta are
        built up, and the gradients count in a norm that is clipped. No state keeps it: call it after a resume, too.
        """
        if self._masked:
            self._masked.keep_gradients()

    def mask_copy(self, copy: nn.Module) -> None:
        """Set to zero in a copy of the model what the masks in force remove: in an average of its weights, say.

        An average (EMA, SWA) that goes on through a sparse phase holds what the removed weights were for long. Masked
        after each of its updates it is as sparse as the model, and grows back with it:

            average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
            ...
            optimizer.step()
            average.update_parameters(model)
            dsd.mask_copy(average)

        Args:
            copy: a module with the model's parameters, wrapped or not (``AveragedModel``).

        Raises:
            ParameterError: it has no parameter of a name, or one of another shape.
        """
        self._finish_broken()
        mask_copy_(copy, self.masks, self._masked.first_names if self._masked else {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied or pickled: the copy's hooks would be on no optimizer, and it would hold no mask."""
        raise StateError(
            f"a {type(self).__name__} belongs to its model and optimizer and cannot be copied or pickled: keep its "
            "state_dict(), and make a new one with state=... for the copies of model and optimizer"
        )

    @property
    def _over(self) -> bool:
        """Whether nothing is left to do, though a hook may still be there."""
        return False

    def _enter(self, phase: Phase, index: int, previous: Mapping[str, Tensor]) -> None:
        self._owners.refuse_replaced(self._optimizers)
        self._candidates.trained = set[int]().union(*self._learning.values())
        self._replicas.find()
        self._replicas.agree(**self._in_force(), phase={"index": index, **phase.to_dict()})
        with self._replicas.together():
            parameters = self._candidates(phase.sparsity)
            phase = self._candidates.of_now(phase, parameters, begins=True)
            check_phase(phase, parameters, self._candidates.kinds)
        if not is_ours(phase.criterion):
            self._replicas.add_up_inputs(parameters)
        kinds = self._candidates.kinds
        inputs = {name: kinds[name].inputs for name in parameters}
        masks = choose(
            phase,
            parameters,
            previous,
            lambda name: derive_seed(self._seed, index, name),
            inputs,
            effective={name: weight for name in parameters if (weight := kinds[name].effective) is not None},
            together=self._replicas.together,
        )
        self._replicas.agree_on_masks(masks)
        check_masks(phase, parameters, masks, previous, kinds)
        still = {name: mask for name, mask in previous.items() if name in self._candidates.frozen}
        if still:  # what is frozen between two sparse phases stays as sparse as it is
            every = named(self._model)
            parameters |= {name: every[name] for name in still}
            masks |= still
        masked = Masked(phase, parameters, masks, self._optimizers, derive_seed(self._seed, index, "surgery"))
        masked.begin()
        self._put(masked)

    def _leave(self, *, goes_on: bool = True, closes: bool = False) -> dict[str, Tensor]:
        """Release the masks and return what they were; a layer that has changed does not keep one from closing."""
        try:
            self._follow(thoroughly=True)
        except OptimizerError as error:
            if not closes:
                raise
            if error.__context__ is None:  # else an error is on its way, perhaps this very one
                _log.warning("%s", error)
        masks = self.masks
        if self._masked:
            self._candidates.tell_of_frozen(masks if goes_on else {}, self._learning)
            self._masked.release()
            self._masked = None
        return masks

    def _close(self, *, release: bool = True, goes_on: bool = True, raises: bool = False) -> None:
        """Let go of the masks, and release them unless what they remove was written since the last step."""
        try:
            self._finish_broken()
            if release and not written_since(self._masked):
                self._leave(goes_on=goes_on, closes=True)
        except OptimizerError as error:  # a weight has another shape, say: there is nothing to release
            if raises:
                raise
            _log.warning("weights and states of the phase are left as they are: %s", error)
        self._put(None)

    def _finish_broken(self) -> None:
        """Mask what a step has moved that an exception has ended, and name it as it is called now: others will look."""
        if self._masked and self._calls.idle:
            self._masked.finish_broken()
            with contextlib.suppress(OptimizerError):  # the next step says it
                self._name_anew(thoroughly=True)

    def _put(self, masked: Masked | None) -> None:
        """Put other masks in the place of those in force, which are not released."""
        if self._masked:
            self._masked.end()
        self._masked = masked
        if masked:
            self._owners = Owners(self._model, masked.parameters)

    def _attach(self) -> None:
        for optimizer in self._optimizers:
            make_hookable(optimizer)
            forget_reminders(optimizer)
        self._refuse_others()
        attached.add(self)
        before, after = untraced(self, self._before_step), untraced(self, self._after_step)
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(before))
            self._handles.append(optimizer.register_step_post_hook(after))

    def _refuse_others(self) -> None:
        """Refuse weights that another object controls, through the same optimizer or one of its own."""
        if kind := attached.answer(self._rivalry):
            raise StateError(
                f"{kind} already controls this model and optimizer: leave its block or call its close() first"
            )

    def _rivalry(self, other: Controller) -> str:
        """Return what another object is that controls the same weights and goes on doing so; empty for no such one."""
        stands = other._handles and not other._over and self._shares_weights(other) and not self._takes_over(other)
        return type(other).__name__ if stands else ""

    def _shares_weights(self, other: Controller) -> bool:
        both = self._held & other._held
        for model in (self._model, other._model) if both else ():  # to look is to walk through all modules
            both &= set(names_of(walk(model)))
        return bool(both)

    @property
    def _held(self) -> set[int]:
        return set[int]().union(*map(held, self._optimizers))

    def _takes_over(self, other: Controller) -> bool:
        """Whether this object goes on in the place of another, which lets go of the weights as they are."""
        return False

    def _detach(self) -> None:
        self._put(None)
        remove(self._handles)
        attached.discard(self)

    def _own(self, optimizer: Optimizer) -> Optimizer:
        """Return the optimizer that redense was given: a wrapper that shares its hooks (Fabric's) may be called."""
        return optimizer if any(optimizer is own for own in self._optimizers) else unwrap_optimizer(optimizer)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        refuse_capture()
        optimizer = self._own(optimizer)
        if not self._calls.begin(optimizer):
            return None
        self._trains_nothing = fills_state(optimizer)
        if self._trains_nothing:  # weights may have been loaded, and the masks that belong to them not yet
            return None
        self._idle = self._versions(optimizer)
        if len(self._optimizers) > 1:  # one network may be frozen while it is the other's turn
            self._learning[id(optimizer)] = not_frozen(optimizer)
        if self._calls.begins_turn(optimizer):
            self._follow()
        if not self._agreed and not self._over:  # the first step since it was made or loaded, which all ranks make
            self._agreed = True
            if self._replicas.find():
                self._replicas.agree(**self._in_force())
                self._replicas.agree_on_masks(self.masks)
        self._replicas.refuse_join()
        if not self._masked:
            return None
        call_behind(optimizer, self._handles, self._mask_once_more)
        return self._masked.before_step(optimizer, args, kwargs, idle=self._idle is not None)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        optimizer = self._own(optimizer)
        if self._calls.end(optimizer):
            self._stay_last(optimizer)
            self._stepped(optimizer)

    def _stay_last(self, optimizer: Optimizer) -> None:
        """See that gradients are masked once more behind the hooks that others have put before a step since."""
        if not stays_last(optimizer, {handle.id for handle in self._handles}):
            again = untraced(self, self._mask_once_more)
            self._handles.append(optimizer.register_step_pre_hook(again))

    def _mask_once_more(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.mask_gradients()

    def _stepped(self, optimizer: Optimizer) -> None:
        """Do what is due after a step."""
        self._hold(optimizer)

    def against(self, optimizer: Optimizer) -> str:
        """Return what is wrong with the step of an optimizer that redense was not given and that has the same weights.

        Of any other it is empty.
        """
        if self._over:
            return ""
        own = {id(o) for o in self._optimizers}
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        if id(optimizer) in own or self._calls.running or self._foreign.get(optimizer) == count:
            return ""  # nearly every step ends here
        if own & set(map(id, inner_optimizers(optimizer))):  # what an outer one writes is seen later
            return ""
        both = held(optimizer) & self._held
        # Without any in common no model is walked through, which another thread may be changing.
        every = names_of(walk(self._model)) if both else {}
        shared = next((name for each, name in every.items() if each in both), None)
        if shared is None:
            self._foreign[optimizer] = count
            if not any(isinstance(getattr(hook, "controller", None), Controller) for hook in hooks_of(optimizer)):
                self._candidates.warn_of_unheld(optimizer)
            return ""
        return (
            f"a step of an optimizer ({type(optimizer).__name__}) that redense was not given has trained "
            f"'{shared}', which the {self._kinds} that it was given holds too: no mask is held and no "
            "step counted there. Give redense the optimizer whose step() the loop calls, or all of them; for a new "
            "optimizer make a new DSD with state=dsd.state_dict()"
        )

    def _hold(self, optimizer: Optimizer) -> bool:
        """Hold the masks after a step; return whether it was a real one."""
        if self._trains_nothing:
            return False
        idle = self._idle is not None and self._versions(optimizer) == self._idle
        if idle and not self._masked and not self._over:  # no step would count any more
            self._owners.refuse_replaced(self._optimizers)
        skipped = was_skipped(optimizer) or (idle and not (self._masked and self._masked.trains(optimizer)))
        if self._masked and self._masked.after_step(optimizer, skipped=skipped):
            self._replicas.agree_on_masks(self.masks)
        self._seen += not skipped
        return not skipped

    def _versions(self, optimizer: Optimizer) -> list[int] | None:
        # What is masked redense itself writes for a closure.
        return versions_without_gradients(optimizer, self._masked.parameters.values() if self._masked else ())

    def _follow(self, *, thoroughly: bool = False) -> None:
        """Find the masked parameters again if the model was sharded in the middle of a phase."""
        if self._masked and self._masked.lost():
            now = named(self._model)
            mine = self._held
            if all(name in now and id(now[name]) in mine for name in self._masked.masks):
                self._masked.follow(now)
                self._owners = Owners(self._model, self._masked.parameters)
        self._name_anew(thoroughly=thoroughly)

    def _name_anew(self, *, thoroughly: bool) -> None:
        """Refuse layers on which the masks in force hold no more, and call those that were moved by their new names."""
        if self._masked:
            self._owners.refuse_replaced(self._optimizers, in_force=True)
            self._candidates.name_anew(self._masked, moved=self._owners.moved() or thoroughly)

    def _in_force(self) -> dict[str, Any]:
        """Return what all ranks that train copies of the model must share, besides the masks."""
        return self._settings()

    def _settings(self) -> dict[str, Any]:
        """Settings that decide over later masks besides schedule and weights."""
        include = None if self._include is None else list(self._include)
        return {"seed": self._seed, "include": include, "exclude": list(self._exclude)}

    def _masked_from(self, state: Mapping[str, Any], phase: Phase, index: int) -> Masked | None:
        """Return the masks of a saved state, which are in force only after `_resume`."""
        if not phase.is_sparse:
            return None
        seed = derive_seed(self._seed, index, "surgery")
        parameters, every = self._candidates(phase.sparsity), named(self._model)
        return masked_from(state, phase, parameters, every, self._optimizers, seed)

    def _resume(self, masked: Masked | None) -> None:
        """Put saved masks in force, without selecting any."""
        self._put(masked)
        self._agreed = False
        if masked:
            masked.begin(resumed=True)
