"""The parameters that a phase may prune: those that the rule or a name chooses, and that an optimizer holds."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from redense.errors import OptimizerError, ParameterError, nearest
from redense.layers.kinds import Kind
from redense.layers.names import Modules, all_matching, matching, names_of, walk
from redense.layers.owners import other_names, owners_of
from redense.masks.sharding import local
from redense.parameters import (
    Row,
    Summary,
    Verdict,
    chosen_of,
    first_layers,
    judge,
    named,
    summary_of,
    warn_of_overlooked,
    warn_outside,
)
from redense.phase import Phase, Sparsity
from redense.pruning import per_parameter

from .masked import Masked
from .optimizers import held

_log = logging.getLogger(__name__)


class Candidates:
    """The parameters of a model that may be pruned; called with the sparsity of a phase, it returns the phase's own.

    Args:
        model: the plain module.
        optimizers: that train it.
        include: see `redense.prunable`.
        exclude: see `redense.prunable`.
        inputs: see `redense.prunable`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        include: tuple[str, ...] | None,
        exclude: tuple[str, ...],
        inputs: Any,
    ) -> None:
        self._model, self._optimizers = model, optimizers
        self._include, self._exclude = include, exclude
        # A forward is traced once; shapes are looked at anew, because layers may be added in training.
        first = {} if inputs is None else first_layers(model, inputs)
        every = named(model) if first else {}
        # By the very parameter, too: its layer may be called otherwise later.
        self._first = None if inputs is None else [(name, every[name], why) for name, why in first.items()]
        self.kinds: dict[str, Kind] = {}
        """Every parameter's, as it was when candidates were last asked for."""
        self.modules: Modules = ()
        """Those of the model, as they were then."""
        self.frozen: set[str] = set()
        """Names of what would have been a candidate, were it not frozen, when they were last asked for."""
        self.trained: set[int] = set()
        """Ids of parameters that count as not frozen though another optimizer's turn has frozen them now."""
        self._patterns = dict[str, None]()  # names and patterns of all mappings that were asked for
        self._looks_once, self._looked = False, list[Verdict]()  # while one call asks often, and nothing changes
        self._told_of: set[str | int] = set()  # names and ids of what was said to stay dense

    @contextlib.contextmanager
    def looking_once(self) -> Generator[None]:
        """Judge the parameters once for all that is asked inside."""
        self._looks_once = True
        try:
            yield
        finally:
            self._looks_once, self._looked = False, []

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on every parameter; those of `looking_once` are looked for once."""
        if not self._looked:
            found = self._judge(self._include)
            if not self._looks_once:
                return found
            self._looked = found
        return self._looked

    def refuse_unknown(self, names: Iterable[str]) -> None:
        """Refuse masks of parameters that the model has not.

        Raises:
            ParameterError: there is one.
        """
        known = [verdict.name for verdict in self.verdicts()] if (asked := list(names)) else []
        for name in asked:
            if name not in known:
                raise ParameterError(f"masks has '{name}', which is no parameter of the model{nearest(name, known)}")

    def _judge(self, include: str | Sequence[str] | None, *, strict: bool = True) -> list[Verdict]:
        self.modules = walk(self._model)
        first = None
        if self._first is not None:
            now = names_of(self.modules)
            first = {now.get(id(parameter), name): why for name, parameter, why in self._first}
        return judge(
            self._model, include, self._exclude, first, strict=strict, modules=self.modules, trained=self.trained
        )

    def _judge_mapped(self, mapped: Sequence[str], spoken: Collection[str]) -> list[Verdict]:
        """Return the verdicts where a mapping speaks of some parameters: it selects as ``include`` does, or among that.

        Args:
            mapped: the names and patterns of the mapping; an exact name is taken whatever ``include`` says.
            spoken: the names of the parameters that they stand for.
        """
        if self._include is None:
            return self._judge(mapped, strict=False)
        exact = [name for name in mapped if name in self.kinds]
        verdicts = self._judge([*self._include, *exact]) if exact else self.verdicts()
        left = {"prunable": False, "reason": "not named by the schedule", "overlooked": False, "frozen": False}
        return [verdict if verdict.name in spoken else replace(verdict, **left) for verdict in verdicts]

    def __call__(self, sparsity: Sparsity | None) -> dict[str, nn.Parameter]:
        """Return the parameters that a phase prunes: name -> parameter.

        Raises:
            ParameterError: a name matches no parameter, or nothing can be pruned.
            OptimizerError: no optimizer holds a parameter that was named, or any of them.
        """
        mapped: list[str] = list(sparsity) if isinstance(sparsity, Mapping) else []
        verdicts = self.verdicts()
        self.kinds = {verdict.name: verdict.kind for verdict in verdicts}
        chosen = chosen_of(verdicts)
        tied = dict[str, str]()
        if mapped:
            tied = other_names(self.modules, owners_of(self.modules))
            spoken = (all_matching("sparsity", pattern, list(self.kinds), tied) for pattern in mapped)
            verdicts = self._judge_mapped(mapped, set[str]().union(*spoken))
            tied = {other: name for other, name in tied.items() if name in chosen}
            chosen = chosen_of(verdicts)
        self.frozen = {verdict.name for verdict in verdicts if verdict.frozen}
        if mapped:
            per_parameter(sparsity, [*chosen, *self.frozen], tied)  # refuses a name that is left out
            self._patterns.update(dict.fromkeys(mapped))
        if self._is_new(verdict for verdict in verdicts if verdict.overlooked):
            warn_of_overlooked(verdicts)
        updated = {i for optimizer in self._optimizers for i in held(optimizer)}
        exact = {*mapped, *(self._include or ())}
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
        self._warn_of_strays([verdict for verdict in verdicts if verdict.prunable and verdict.name not in candidates])
        return candidates

    def _is_new(self, verdicts: Iterable[Verdict]) -> bool:
        """Whether nobody was told yet that any of some parameters stays dense; now they are."""
        dense = {verdict.name: id(verdict.parameter) for verdict in verdicts}
        new = any(name not in self._told_of and own not in self._told_of for name, own in dense.items())
        self._told_of.update(dense, dense.values())
        return new

    def _warn_of_strays(self, unheld: Sequence[Verdict]) -> None:
        """Warn of what no optimizer holds, where one holds others of its shape that the model has not.

        So it is where a layer became another, or computes its weight from others (weight_norm), after the optimizer was
        made. An optimizer may hold a part of a model on purpose; then it holds nothing else.
        """
        own = set(names_of(walk(self._model))) if unheld else set[int]()
        groups = [group for each in self._optimizers for group in each.param_groups] if unheld else []
        strays = {tuple(p.shape) for group in groups for p in group["params"] if id(p) not in own}
        lost = [verdict for verdict in unheld if tuple(verdict.parameter.shape) in strays]
        if lost and self._is_new(lost):
            warn_outside(
                f"{sum(verdict.parameter.numel() for verdict in lost):,} weights "
                f"({', '.join(verdict.name for verdict in lost[:3])}{' and more' if len(lost) > 3 else ''}) can be "
                "pruned, and no optimizer holds them: it holds others of the same shape, which are not in the model "
                "(its layers have changed since the optimizer was made?). Make the optimizer after the change, or "
                "exclude these weights"
            )

    def name_anew(self, masked: Masked, *, moved: bool) -> None:
        """Call what is masked by the names that it has now, where layers were moved, wrapped or called otherwise.

        Raises:
            OptimizerError: a name or a pattern that was given matches nothing any more, so that no saved state could be
                loaded.
        """
        if moved and masked.rename(names_of(walk(self._model))):
            masked.unnamed = self._lost()
        if masked.unnamed:
            raise OptimizerError(masked.unnamed)

    def _lost(self) -> str:
        """Return what is wrong where a name or a pattern that was given matches nothing; empty if each does."""
        modules = walk(self._model)
        owners = owners_of(modules)
        names, tied = list(owners), other_names(modules, owners)
        for what, patterns in (
            ("include", self._include or ()),
            ("exclude", self._exclude),
            ("sparsity", self._patterns),
        ):
            for pattern in patterns:
                try:
                    all_matching(what, pattern, names, tied)
                except ParameterError as error:
                    return (
                        f"{error}. Its layer was moved or wrapped under the mask, and a state that is saved now could "
                        "not be loaded: give a module or a pattern that matches before and after, or change it back"
                    )
        return ""

    def of_now(self, phase: Phase, parameters: Collection[str], *, begins: bool = False) -> Phase:
        """Return a phase without what its mapping says of nothing but parameters that were frozen when last asked.

        Args:
            phase: whose sparsity was asked for last.
            parameters: the names that were returned.
            begins: warn of those that are called by their names: they stay dense.
        """
        sparsity = phase.sparsity
        named = sorted(self.frozen & {*(sparsity if isinstance(sparsity, Mapping) else ()), *(self._include or ())})
        if begins and named:
            warn_outside(
                f"'{named[0]}'{f' and {len(named) - 1} more' if len(named) > 1 else ''} is frozen when phase "
                f"'{phase.name}' begins, and stays dense: unfreeze it before, or leave its name out"
            )
        if not isinstance(sparsity, Mapping):
            return phase
        kept = {p: s for p, s in sparsity.items() if matching(p, parameters) or not matching(p, self.frozen)}
        return replace(phase, sparsity=kept or sparsity)

    def tell_of_frozen(self, masks: Mapping[str, Tensor], learning: Mapping[int, set[int]]) -> None:
        """Log a warning of what nothing trains as it is released: its removed weights stay zero until something does.

        Args:
            masks: that are released.
            learning: of each of several optimizers, what was not frozen at its last step.
        """
        if not masks:
            return
        idle, mine = self._without_a_rate(), set[int]().union(*map(held, self._optimizers))
        released = {name: p for name, p in named(self._model).items() if name in masks}
        still = {n: p for n, p in released.items() if not p.requires_grad or id(p) in idle or id(p) not in mine}
        trained = set[int]().union(*learning.values()) - idle if still else ()
        names = [n for n, p in still.items() if id(p) not in trained and not bool(local(masks[n]).all())]
        if names:
            first = still[names[0]]
            if id(first) not in mine:
                why = "held by no optimizer"
            else:
                why = "frozen, by a learning rate of 0," if id(first) in idle else "frozen"
            _log.warning(
                "'%s'%s %s now that the mask is released: what was removed stays zero until it is trained again",
                names[0],
                f" and {len(names) - 1} more are" if len(names) > 1 else " is",
                why,
            )

    def _without_a_rate(self) -> set[int]:
        """Return the ids of parameters whose group has a learning rate of 0 where another group has one above."""
        every = (group for optimizer in self._optimizers for group in optimizer.param_groups)
        groups = [group for group in every if group.get("lr") is not None]  # None: Adafactor finds its own
        still = [group for group in groups if not group["lr"]]
        return {id(p) for group in still for p in group["params"]} if len(still) < len(groups) else set()

    def warn_of_unheld(self, optimizer: Optimizer) -> None:
        """Warn if an optimizer that redense was not given trains weights that would be pruned, and so stay dense."""
        others = held(optimizer)
        if others.isdisjoint(names_of(walk(self._model))):
            return
        unheld = {name: p for name, p in chosen_of(self.verdicts()).items() if id(p) in others}
        if unheld:
            warn_outside(
                f"{sum(p.numel() for p in unheld.values()):,} weights ({', '.join(list(unheld)[:3])}"
                f"{' and more' if len(unheld) > 3 else ''}) can be pruned and stay dense: "
                f"{type(optimizer).__name__} trains them, which redense was not given. Give it all optimizers as a "
                "list, or exclude these weights"
            )

    def summary(self, sparsities: Iterable[Sparsity | None]) -> Summary:
        """Return what is pruned in any of several phases, why, and how sparse each parameter is now."""
        chosen = set[str]()
        for sparsity in sparsities:
            with contextlib.suppress(ParameterError, OptimizerError):  # all of it may be frozen now
                chosen |= set(self(sparsity))
        rows = (
            row if row.prunable == (row.name in chosen) else _overruled(row, row.name in chosen)
            for row in summary_of(self.verdicts()).rows
        )
        return Summary(tuple(rows))


def _overruled(row: Row, chosen: bool) -> Row:
    reason = "named by the schedule" if chosen else "not named by the schedule, or no optimizer holds it"
    return replace(row, prunable=chosen, reason=reason)
