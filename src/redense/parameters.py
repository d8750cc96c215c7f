"""The prunable parameters of a model: the rule that covers each, and how sparse it is now."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parameter import UninitializedParameter

from .errors import LeftDenseWarning, ParameterError
from .files.notebook import html_table
from .files.visible import aligned, visible_line
from .layers.kinds import Kind, is_matrix
from .layers.names import Modules, all_matching, matching, patterns_of, refuse_tied, unwrap, walk
from .layers.owners import Owner, first_layers_of, other_names, owners_of
from .masks import check_storage
from .masks.sharding import is_sharded, local, refuse_flattened, sparsity_of

_HEAD = ("name", "shape", "weights", "pruned", "sparsity", "why")
FROZEN = "frozen"  # the reason of what would be pruned else
_MUCH = 0.01  # of a model's weights: if more is left dense for want of a rule, that is said


@dataclass(frozen=True)
class Row:
    """One parameter of a `Summary`: why it is pruned or not, and how sparse it, or this rank's shard of it, is."""

    name: str
    shape: tuple[int, ...]
    weights: int
    prunable: bool
    reason: str
    sparsity: float
    shard: bool = False


@dataclass(frozen=True)
class Summary:
    """A model's parameters and what is pruned of them; print it."""

    rows: tuple[Row, ...]

    @property
    def weights(self) -> int:
        """Number of weights of the whole model, tied ones once."""
        return sum(row.weights for row in self.rows)

    @property
    def prunable_weights(self) -> int:
        """Number of weights that pruning chooses from."""
        return sum(row.weights for row in self.rows if row.prunable)

    @property
    def left_dense(self) -> dict[str, int]:
        """Number of weights that stay dense, by reason, the most first."""
        totals = Counter[str]()
        for row in self.rows:
            if not row.prunable:
                totals[row.reason] += row.weights
        return dict(totals.most_common())

    def __str__(self) -> str:
        return "\n".join([*aligned([_HEAD, *self._cells], left=6), *map(visible_line, self._said)])

    def _repr_html_(self) -> str:
        return html_table(_HEAD, self._cells, said=self._said, left=(0, 1, 3, 5))

    @property
    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.name,
                " x ".join(map(str, row.shape)) or "scalar",
                f"{row.weights:,}",
                "yes" if row.prunable else "no",
                f"{row.sparsity:.2%}" if row.prunable else "-",
                row.reason,
            )
            for row in self.rows
        ]

    @property
    def _said(self) -> list[str]:
        lines = [
            f"left dense: {weights:,} ({weights / max(1, self.weights):.1%}), {reason}"
            for reason, weights in self.left_dense.items()
        ]
        share = self.prunable_weights / self.weights if self.weights else 0.0
        if any(row.shard and row.prunable for row in self.rows):
            lines.append("the sparsity of a sharded weight is that of this rank's shard")
        lines.append(f"{self.prunable_weights:,} of {self.weights:,} weights can be pruned ({share:.1%})")
        return lines


def summary(
    model: nn.Module,
    *,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    inputs: Any = None,
) -> Summary:
    """Show which parameters pruning would choose from, why, and how sparse each is now.

    Args:
        model: any module, wrapped (DDP, ``torch.compile``) or not.
        include: as in `prunable`.
        exclude: as in `prunable`.
        inputs: as in `prunable`.

    Raises:
        ParameterError: as `prunable` does, but for storage.

    >>> print(summary(nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))))
    name      shape  weights  pruned  sparsity  why
    0.weight  2 x 4  8        yes     0.00%     linear
    0.bias    2      2        no      -         a bias
    1.weight  2      2        no      -         a normalisation
    1.bias    2      2        no      -         a normalisation
    left dense: 4 (28.6%), a normalisation
    left dense: 2 (14.3%), a bias
    8 of 14 weights can be pruned (57.1%)
    """
    return summary_of(judge(model, include, exclude, first_layers(model, inputs)))


def prunable(
    model: nn.Module,
    *,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    inputs: Any = None,
) -> dict[str, nn.Parameter]:
    """Return the parameters that pruning chooses from: name in the state dict -> parameter.

    The rule: the matrices of convolution, linear, recurrent and attention layers and of experts, and what a layer of
    another class calls a weight, a projection or a kernel; never biases, normalisations, embeddings, tokens or
    positions; not the layers that read the input, an image's few channels, and are very sensitive (Han et al. 2017,
    section 3). Tied weights are listed once, under their first name; one that an embedding shares is an embedding.
    Frozen parameters (``requires_grad=False``) are left alone, also by an exact name: what would be removed of them
    would never grow back. `summary` gives the reason for each.

    Args:
        model: any module; prefixes of DDP, ``torch.compile``, FSDP and Fabric are stripped from the names.
        include: names of parameters, names of modules (all parameters below) or shell patterns, tried in this order.
            A module or a pattern selects among what the rule finds; where the rule finds none of its matches, it takes
            the matrices that no rule covers. An exact name is taken whatever the rule says, for example the first
            convolution, unless it is frozen; one on which no mask would hold is an error.
        exclude: likewise, what to leave out; a tied weight also under its other names.
        inputs: an example of what the model is called with (a tensor, a tuple of arguments, or a mapping of keyword
            arguments). The layers that read the input are then found by tracing one forward pass in eval mode, linear
            and recurrent ones too; else by their shapes, which cannot always tell.

    Raises:
        ParameterError: a pattern or name matches no parameter, or selects none that can be pruned; a mask would not
            hold on a parameter that is named; a chosen one has no storage; or the model does not run on the inputs.

    >>> list(prunable(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))))
    ['1.weight']
    """
    return chosen_of(judge(model, include, exclude, first_layers(model, inputs)))


def first_layers(model: nn.Module, inputs: Any = None) -> dict[str, str]:
    """Return the weights that read the input, which `prunable` leaves out: name -> why.

    Args:
        model: any module.
        inputs: as in `prunable`.

    >>> first_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)))
    {'0.weight': 'reads the input: 3 channels'}
    """
    modules = walk(unwrap(model))
    return first_layers_of(modules, owners_of(modules), inputs)


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every parameter of a model once, under its name without the parts that wrappers put into it."""
    return {name: owner.parameter for name, owner in owners_of(walk(unwrap(model))).items()}


# --- the verdict on each parameter ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Whether a parameter is pruned, and why; ``kind`` is what it is in its layer."""

    name: str
    parameter: nn.Parameter
    prunable: bool
    reason: str
    kind: Kind
    overlooked: bool
    """It looks like a matrix, and stays dense though nobody asked for it."""
    frozen: bool
    """It would be pruned, were it not frozen."""


def judge(
    model: nn.Module,
    include: str | Sequence[str] | None,
    exclude: str | Sequence[str] | None,
    first: Mapping[str, str] | None = None,
    *,
    strict: bool = True,
    modules: Modules | None = None,
    trained: Collection[int] = (),
) -> list[Verdict]:
    """Return the verdict on every parameter, in the model's order.

    Args:
        model: as in `prunable`.
        include: as in `prunable`.
        exclude: as in `prunable`.
        first: the weights that read the input, name -> why; None: as their shapes tell.
        strict: refuse a pattern that matches parameters and selects none of them.
        modules: of the model without wrappers, where somebody has walked it already.
        trained: ids of parameters that are not frozen, though they may seem so: a loop with several optimizers freezes
            one network while another is trained.

    Raises:
        ParameterError: as `prunable` does, but for storage.
    """
    modules = walk(unwrap(model)) if modules is None else modules
    refuse_flattened(modules)
    owners = owners_of(modules)
    names = list(owners)
    first = first_layers_of(modules, owners, None) if first is None else first
    wanted, unwanted = None if include is None else patterns_of("include", include), patterns_of("exclude", exclude)
    tied = other_names(modules, owners) if wanted or unwanted else {}
    excluded = set[str]().union(*(all_matching("exclude", pattern, names, tied) for pattern in unwanted))
    ruled = {name: _rule(name, owner, first, trained, excluded=name in excluded) for name, owner in owners.items()}
    included, asked = set(names), set[str]()  # among which the rule chooses; what is taken whatever it says
    if wanted is not None:
        included = set[str]()
        for pattern in wanted:
            found = all_matching("include", pattern, names, tied)
            if found == {pattern}:
                asked.add(pattern)
                continue
            included |= found
            if not any(ruled[name][0] or ruled[name][1] == FROZEN for name in found):
                unknown = {name for name in found if ruled[name][2].unknown}
                if strict and not unknown:
                    others = {tied[name] for name in matching(pattern, tied)}
                    if matrices := {name for name in others if is_matrix(owners[name].parameter)}:
                        refuse_tied("include", pattern, matrices)
                    can = [n for n in found - excluded if owners[n].parameter.is_floating_point()]
                    can = [name for name in can if not ruled[name][2].refused]
                    can.sort(key=lambda name: (not is_matrix(owners[name].parameter), name))
                    raise _selects_nothing(pattern, {name: ruled[name][1] for name in found}, can)
                asked |= unknown
    verdicts: list[Verdict] = []
    for name, owner in owners.items():
        chosen, reason, kind = ruled[name]
        if isinstance(owner.parameter, UninitializedParameter):
            continue  # excluded, and without a shape that could be told
        if name in asked:
            chosen, reason = _by_name(name, owner.parameter, kind, trained)
        elif chosen and name not in included:
            chosen, reason = False, "not included"
        if chosen and name in excluded:
            chosen, reason = False, "excluded"
        parameter, free = owner.parameter, name in included | asked and name not in excluded
        is_dense = parameter.is_complex() or (parameter.is_floating_point() and (kind.unknown or kind.refused))
        overlooked = is_dense and not chosen and parameter.requires_grad and free and is_matrix(parameter)
        verdicts.append(Verdict(name, parameter, chosen, reason, kind, overlooked, reason == FROZEN and free))
    return verdicts


def chosen_of(verdicts: Iterable[Verdict]) -> dict[str, nn.Parameter]:
    """Return the parameters that are pruned: name -> parameter.

    Raises:
        ParameterError: one of them has no storage.
    """
    chosen = {verdict.name: verdict.parameter for verdict in verdicts if verdict.prunable}
    for name, parameter in chosen.items():
        check_storage(name, parameter)
    return chosen


def summary_of(verdicts: Iterable[Verdict]) -> Summary:
    """Return what `summary` shows."""
    rows = list[Row]()
    for verdict in verdicts:
        parameter = verdict.parameter
        # Nothing is sent, so that one rank alone may print it.
        sparsity = 0.0 if parameter.is_meta else sparsity_of(local(parameter))
        zeros = verdict.prunable and sparsity == 1 and not is_sharded(parameter)
        reason = f"{verdict.reason}, all zeros: not yet" if zeros else verdict.reason
        shape, shard = tuple(parameter.shape), is_sharded(parameter)
        rows.append(Row(verdict.name, shape, parameter.numel(), verdict.prunable, reason, sparsity, shard))
    return Summary(tuple(rows))


def warn_of_overlooked(verdicts: Sequence[Verdict]) -> None:
    """Warn, with `LeftDenseWarning`, if more than 1 % of a model is matrices that stay dense for want of a rule."""
    left = [verdict for verdict in verdicts if verdict.overlooked]
    weights = sum(verdict.parameter.numel() for verdict in left)
    total = sum(verdict.parameter.numel() for verdict in verdicts)
    if weights <= _MUCH * total:
        return
    left.sort(key=lambda verdict: -verdict.parameter.numel())
    shown = ", ".join(f"'{verdict.name}' ({verdict.reason})" for verdict in left[:3])
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    never = " (complex ones cannot)" if any(verdict.parameter.is_complex() for verdict in left) else ""
    warn_outside(
        f"{weights:,} of {total:,} weights ({weights / total:.1%}) stay dense though they look like matrices: "
        f"{shown}{more}. Include those that can be pruned{never}, exclude those that shall stay dense; "
        "print(redense.summary(model)) has all reasons"
    )


def warn_outside(text: str) -> None:
    """Warn, with `LeftDenseWarning`, of the line outside redense and PyTorch's optimizers that led here."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(("redense.", "torch.")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, LeftDenseWarning, stacklevel=level)


def _rule(
    name: str, owner: Owner, first: Mapping[str, str], trained: Collection[int], *, excluded: bool
) -> tuple[bool, str, Kind]:
    parameter, kinds = owner.parameter, owner.kinds
    if isinstance(parameter, UninitializedParameter):
        if excluded:
            return False, "excluded", kinds[0]
        raise ParameterError(
            f"'{name}' is not initialised yet: run one batch through the lazy module first, or exclude it"
        )
    # Tied weights have several kinds: the most careful one decides.
    kind = next((kind for kind in kinds if not kind.prunable), kinds[0])
    if not kind.prunable:
        return False, kind.reason, kind
    if not parameter.is_floating_point():
        return False, f"not floating-point ({parameter.dtype})", kind
    if not parameter.requires_grad and id(parameter) not in trained:
        return False, FROZEN, kind
    return (False, first[name], kind) if name in first else (True, kind.reason, kind)


def _by_name(name: str, parameter: nn.Parameter, kind: Kind, trained: Collection[int]) -> tuple[bool, str]:
    if not parameter.is_floating_point():
        raise ParameterError(f"'{name}' must have a floating-point dtype to be pruned, got {parameter.dtype}")
    if kind.refused:
        raise ParameterError(f"'{name}' cannot be pruned, because a mask on it would not hold: {kind.reason}")
    if not parameter.requires_grad and id(parameter) not in trained:  # what is removed of it would stay removed
        return False, FROZEN
    return True, "included by name"


def _selects_nothing(pattern: str, reasons: Mapping[str, str], can: Sequence[str]) -> ParameterError:
    count = len(reasons)
    why = ", ".join(dict.fromkeys(reasons[name] for name in sorted(reasons)))
    cure = f"give exact names, for example '{can[0]}'" if can else "leave it out"
    return ParameterError(
        f"include '{pattern}' matches {count} parameter{'s' if count > 1 else ''} and selects none ({why}): {cure}"
    )
