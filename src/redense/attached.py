"""What `sparse` and `DSD` share: the model, its optimizers and their hooks, and the masks that are chosen and held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .choosing import check_left, choose, per_parameter, seed_of
from .errors import OptimizerError, ParameterError, StateError, nearest
from .masked import Masked
from .optimizers import held, unwrap_optimizer, was_skipped
from .parameters import clean_name, matching, prunable, unwrap
from .phase import Phase, Sparsity
from .saving import masked_from
from .sharding import reshard, sparsity_of


class Controller:
    """The optimizers, their hooks and the parameters of a `DSD` or a block of `sparse`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        include: str | Sequence[str] | None,
        exclude: str | Sequence[str],
        seed: int,
    ) -> None:
        self._model = unwrap(model)
        self._optimizers = [unwrap_optimizer(o) for o in _list(optimizer)]
        self._include, self._exclude, self._seed = include, exclude, seed
        self._masked: Masked | None = None
        self._handles: list[RemovableHandle] = []
        if not self._optimizers:
            raise OptimizerError("no optimizer was given: pass the one that trains the model")
        if len({id(o) for o in self._optimizers}) < len(self._optimizers):
            raise OptimizerError(
                "the same optimizer was given twice (perhaps once wrapped): its steps would count double"
            )

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks in force: parameter name -> bool tensor, True = kept; empty in a dense phase."""
        return dict(self._masked.masks) if self._masked else {}

    @property
    def _over(self) -> bool:
        """Whether nothing is left to do, though a hook may still be there."""
        return False

    def _names(self) -> list[str]:
        return [clean_name(name) for name, _ in self._model.named_parameters()]

    def _candidates(self, sparsity: Sparsity | None) -> dict[str, nn.Parameter]:
        """The parameters that a phase prunes: those of the rule that an optimizer holds."""
        named: list[str] = list(sparsity) if isinstance(sparsity, Mapping) else []
        reshard(self._model)
        chosen = prunable(self._model, include=self._include, exclude=self._exclude)
        if named:
            known = self._names()
            for pattern in named:
                if not matching(pattern, known):
                    raise ParameterError(
                        f"sparsity names '{pattern}', which matches no parameter of the model{nearest(pattern, known)}"
                    )
            own = prunable(self._model, include=named, exclude=self._exclude)
            chosen = own if self._include is None else {n: p for n, p in own.items() if n in chosen or n in named}
            per_parameter(sparsity, list(chosen))  # refuses a name that is left out
        updated = {i for optimizer in self._optimizers for i in held(optimizer)}
        exact = {*named, *([self._include] if isinstance(self._include, str) else self._include or ())}
        for name, parameter in chosen.items():
            if id(parameter) not in updated and name in exact:
                raise OptimizerError(
                    f"no optimizer holds '{name}', so no mask could be held on it: pass its optimizer too"
                )
            if hasattr(parameter, "_in_backward_optimizers"):
                raise OptimizerError(
                    f"the optimizer of '{name}' steps inside backward, where no step can be counted or masked: "
                    "call optimizer.step() after backward instead"
                )
        candidates = {name: p for name, p in chosen.items() if id(p) in updated}
        if not candidates:
            why = (
                "the optimizers hold none of the prunable parameters"
                if chosen
                else "the model has no prunable parameter"
            )
            raise (OptimizerError if chosen else ParameterError)(f"{why}: see print(redense.summary(model))")
        return candidates

    def _enter(self, phase: Phase, index: int, previous: Mapping[str, Tensor]) -> None:
        parameters = self._candidates(phase.sparsity)
        masks = choose(phase, parameters, previous, lambda name: seed_of(self._seed, index, name))
        for name, mask in masks.items():
            check_left(phase, name, mask.numel(), 1 - sparsity_of(mask))
        self._masked = Masked(phase, parameters, masks, self._optimizers, seed_of(self._seed, index, "surgery"))
        self._masked.begin()

    def _leave(self) -> dict[str, Tensor]:
        """Release the masks and return what they were."""
        self._follow()
        masks = self.masks
        if self._masked:
            self._masked.release()
            self._masked = None
        return masks

    def _attach(self) -> None:
        mine = {id(p) for p in self._model.parameters()}
        for optimizer in self._optimizers:
            for hook in optimizer._optimizer_step_post_hooks.values():  # pyright: ignore[reportPrivateUsage]
                other = getattr(hook, "__self__", None)
                if not isinstance(other, Controller) or other._over:
                    continue
                if mine & {id(p) for p in other._model.parameters()}:
                    raise StateError(
                        f"{type(other).__name__} already controls this model and optimizer: "
                        "leave its block or call its close() first"
                    )
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))
            self._handles.append(optimizer.register_step_post_hook(self._after_step))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        self._follow()
        return self._masked.before_step(optimizer, args, kwargs) if self._masked else None

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._hold(optimizer)

    def _hold(self, optimizer: Optimizer) -> bool:
        """Hold the masks after a step; return whether it was a real one."""
        skipped = was_skipped(optimizer)
        if self._masked:
            self._masked.after_step(optimizer, skipped=skipped)
        return not skipped

    def _follow(self) -> None:
        """Find the masked parameters again if the model was sharded in the middle of a phase."""
        if self._masked and self._masked.lost():
            now = {clean_name(name): p for name, p in self._model.named_parameters()}
            mine = set[int]().union(*(held(optimizer) for optimizer in self._optimizers))
            if all(name in now and id(now[name]) in mine for name in self._masked.masks):
                self._masked.follow(now)

    def _settings(self) -> dict[str, Any]:
        """What decides over later masks besides schedule and weights."""
        include = None if self._include is None else list(_patterns(self._include))
        return {"seed": self._seed, "include": include, "exclude": list(_patterns(self._exclude))}

    def _load(self, state: Mapping[str, Any], phase: Phase, index: int) -> None:
        """Put saved masks in force, without selecting any."""
        masked = None
        if phase.is_sparse:
            parameters = self._candidates(phase.sparsity)
            masked = masked_from(state, phase, parameters, self._optimizers, seed_of(self._seed, index, "surgery"))
        self._masked = masked
        if masked:
            masked.begin(resumed=True)


def _patterns(patterns: str | Sequence[str]) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else patterns


def _list(optimizer: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    return list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]  # pyright: ignore[reportReturnType]
