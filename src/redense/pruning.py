"""Choosing the masks of a phase: criterion, scope and sparsity together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from .criteria import Criterion, criterion_name, get_criterion, magnitude, random, saliency
from .errors import ParameterError, RedenseError, ScheduleError, ScoreError, SparsityError, nearest
from .layers.kinds import Kind
from .layers.names import matching, refuse_tied
from .masks import check_groups
from .masks import sharded as distributed
from .masks.blocks import INT_OF_SIZE
from .masks.sharding import cut, is_sharded, largest_over, local, sparsities_of, wrap
from .phase import Phase, Sparsity, covers
from .schedules.numeric import as_int
from .surgery import Surgery

_log = logging.getLogger(__name__)


def choose(
    phase: Phase,
    parameters: Mapping[str, nn.Parameter],
    previous: Mapping[str, Tensor],
    seed: Callable[[str], int],
    inputs: Mapping[str, int | None] | None = None,
    *,
    effective: Mapping[str, Callable[[], Tensor]] | None = None,
    together: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, Tensor]:
    """Return the masks of a phase: parameter name -> bool, True = kept. What ``previous`` masks prune goes first.

    The mask of a sharded parameter is sharded alike; all ranks must choose together. ``inputs`` has the dimension along
    which the groups of an N:M pattern run, 1 where it says nothing. ``effective`` gives the weight that a layer
    computes from a parameter and uses, whose magnitudes count then (of a sharded parameter, its own).

    Raises:
        ScoreError: a score is NaN, infinite or no real number, or a gradient is missing.
        ParameterError: a shape does not fit, or a previous mask is not boolean.
    """
    absolute = get_criterion(phase.criterion) is magnitude and not previous
    with together():
        scores = _scores(phase, parameters, previous, seed, absolute, effective or {})
        plain = {name: values for name, values in scores.items() if not is_sharded(values)}
        chosen: dict[str, Tensor] = {}
        if phase.pattern:
            chosen = _select_patterns(plain, phase.pattern, inputs)
        elif phase.scope == "layer":
            shares = per_parameter(phase.sparsity, list(scores))
            plain = {name: values for name, values in plain.items() if name in shares}
            chosen = distributed.select_each(plain, shares, absolute=absolute)
        elif len(plain) == len(scores):
            chosen = distributed.select_global(plain, cast("float", phase.sparsity), absolute=absolute)
    if len(plain) == len(scores):
        return chosen
    # Of what is sharded all ranks choose together, and tell each other what is wrong with the scores of one.
    if phase.pattern:
        sharded = {name: values for name, values in scores.items() if is_sharded(values)}
        chosen |= _select_patterns(sharded, phase.pattern, inputs)
    elif phase.scope == "global":
        chosen = distributed.select_global(scores, cast("float", phase.sparsity), absolute=absolute)
    else:
        shares = per_parameter(phase.sparsity, list(scores))
        sharded = {name: values for name, values in scores.items() if is_sharded(values) and name in shares}
        chosen |= distributed.select_each(sharded, shares, absolute=absolute)
    return {name: chosen[name] for name in scores if name in chosen}


def _scores(
    phase: Phase,
    parameters: Mapping[str, nn.Parameter],
    previous: Mapping[str, Tensor],
    seed: Callable[[str], int],
    absolute: bool,
    effective: Mapping[str, Callable[[], Tensor]],
) -> dict[str, Tensor]:
    """Return the scores of each parameter, or its values if their magnitudes are the scores."""
    criterion = get_criterion(phase.criterion)
    scores: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        given = [each for each in (parameter, parameter.grad) if each is not None]
        written = _versions(given)
        before = [] if is_ours(criterion) else [_bits(each).clone() for each in given]
        try:
            if criterion is magnitude and name in effective and not is_sharded(parameter):
                values = effective[name]() if absolute else effective[name]().abs()
            else:
                values = parameter.detach() if absolute else criterion(parameter, seed(name))
        except RedenseError as error:
            raise type(error)(f"'{name}': {error}") from None
        now = (_bits(each) for each in given)
        if _versions(given) != written or not all(map(torch.equal, before, now)):
            raise ScoreError(
                f"criterion '{criterion_name(phase.criterion)}' has changed '{name}' or its gradient in place: it must "
                "give new tensors (abs(), not abs_()). Load the weights again"
            )
        values = _as_real(values, criterion_name(phase.criterion), name)
        if values.shape != parameter.shape:
            raise ParameterError(
                f"criterion '{criterion_name(phase.criterion)}' gave scores of shape {tuple(values.shape)} "
                f"for '{name}' of shape {tuple(parameter.shape)}"
            )
        values = cut(values.detach(), parameter)  # a criterion may have scored the whole of a sharded parameter
        if name in previous:
            _check_mask(previous[name], name)
            if previous[name].shape != parameter.shape:
                raise ParameterError(
                    f"the mask given for '{name}' has shape {tuple(previous[name].shape)}, "
                    f"the parameter {tuple(parameter.shape)}"
                )
            lowest = torch.finfo(values.dtype).min
            kept = local(cut(previous[name], parameter)).to(local(values).device)
            values = wrap(local(values).masked_fill(~kept, lowest), values)
        scores[name] = values.abs() if absolute and phase.pattern else values
    return scores


def is_ours(criterion: str | Criterion) -> bool:
    """Whether a criterion is one of redense's own, which score with no more than a weight and its gradient."""
    return get_criterion(criterion) in (magnitude, random, saliency)


def _versions(tensors: Iterable[Tensor]) -> list[int]:
    """Return how often each of some tensors was written; of inference mode's nothing is counted."""
    return [0 if local(each).is_inference() else local(each)._version for each in tensors]


def _bits(tensor: Tensor) -> Tensor:
    """Return the values of a tensor as integers, in which NaN equals itself: no version counts a write to ``.data``."""
    own = local(tensor.detach())
    own = own._values() if own.is_sparse else own
    own = torch.view_as_real(own.resolve_conj()) if own.is_complex() else own
    return own.view(INT_OF_SIZE[own.dtype.itemsize])


def _as_real(scores: object, criterion: str, name: str) -> Tensor:
    """Return scores in a dtype that can be compared and filled: ranks and other whole numbers as floats."""
    if not isinstance(scores, Tensor):
        got = repr(scores) if isinstance(scores, (int, float, str)) else type(scores).__name__
        raise ScoreError(f"criterion '{criterion}' must give a tensor of scores for '{name}', got {got}")
    scores = scores if scores.layout == torch.strided else scores.to_dense()
    if scores.is_floating_point():
        return scores if scores.dtype.itemsize > 1 else scores.to(torch.float32)
    if scores.is_complex() or scores.is_quantized:
        raise ScoreError(f"criterion '{criterion}' must give real scores for '{name}', got {scores.dtype}")
    exact = scores.detach().to(torch.float64)
    if scores.dtype.itemsize == 8 and bool((local(exact).abs() >= 2**53).any()):
        raise ScoreError(
            f"criterion '{criterion}' gave '{name}' whole scores of 2**53 or more: give floating-point ones"
        )
    return exact


def _check_mask(mask: object, name: str) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = f"one of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ParameterError(f"the mask given for '{name}' must be a tensor of booleans, True = kept; got {got}")


def _select_patterns(
    scores: Mapping[str, Tensor], pattern: tuple[int, int], inputs: Mapping[str, int | None] | None
) -> dict[str, Tensor]:
    along = {name: _inputs_of(name, inputs) for name in scores}
    masks = distributed.select_patterns({n: v.movedim(along[n], 1) for n, v in scores.items()}, pattern)
    return {name: mask.movedim(1, along[name]) for name, mask in masks.items()}


def check_masks(
    phase: Phase,
    parameters: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    previous: Mapping[str, Tensor],
    kinds: Mapping[str, Kind],
) -> None:
    """Refuse masks that leave nothing where something must be left; log that a phase removes nothing at all.

    Args:
        phase: the phase that prunes.
        parameters: by name, sharded or not; all ranks must ask together.
        masks: what was chosen of them.
        previous: masks that decided a part of it.
        kinds: of the parameters.

    Raises:
        SparsityError: nothing of a parameter is left, or of a row that is divided by its length.
        ScoreError: a parameter of which something would go is all zeros, or its saliencies are.
    """
    shares = sparsities_of(masks)
    check_zeros(phase, parameters, shares, previous)
    for name, share in shares.items():
        check_left(phase, name, masks[name].numel(), 1 - share)
        check_rows(phase, name, masks[name], kinds[name].rows)
    asked = phase.sparsity.values() if isinstance(phase.sparsity, Mapping) else [phase.sparsity]
    if shares and not any(shares.values()) and (phase.pattern or any(asked)):
        largest = max(shares, key=lambda name: masks[name].numel())
        why = f"its sparsity rounds to none of the {masks[largest].numel():,} of '{largest}', the largest; 30 % is 0.3"
        _log.warning(
            "phase '%s' removes no weight: %s",
            phase.name,
            f"its pattern {phase.pattern[0]}:{phase.pattern[1]} keeps all" if phase.pattern else why,
        )


def check_left(phase: Phase, name: str, size: int, left: float) -> None:
    """Refuse to leave nothing of a parameter; ``left`` is a number or a share of its ``size`` weights.

    Raises:
        SparsityError: it is 0.
    """
    if size and not left:
        raise SparsityError(
            f"phase '{phase.name}' would prune all {size:,} weights of '{name}', so that nothing passes it: "
            "lower the sparsity, or exclude it"
        )


def check_zeros(
    phase: Phase, parameters: Mapping[str, Tensor], shares: Mapping[str, float], previous: Mapping[str, Tensor]
) -> None:
    """Refuse a mask where every score is zero, of weights or of gradients that are: the order in memory would decide.

    Args:
        phase: the phase that prunes.
        parameters: by name, sharded or not; all ranks must ask together.
        shares: the part of each that would go.
        previous: masks that decided a part of it.

    Raises:
        ScoreError: a parameter of which something would go is all zeros, or its saliencies are.
    """
    criterion = get_criterion(phase.criterion)
    if criterion not in (magnitude, saliency):
        return
    asked = [name for name, share in shares.items() if share and name not in previous]
    scores = {name: parameters[name] if criterion is magnitude else saliency(parameters[name]) for name in asked}
    sharded = sparsities_of({name: values for name, values in scores.items() if is_sharded(values)})
    for name in asked:
        values = scores[name].detach()
        # A first look at the weights of one output is nearly always enough.
        first = values[:1] if values.dim() else values
        if sharded[name] < 1 if name in sharded else bool(first.any()) or bool(values.any()):
            continue
        of, cure = "", "train it before (begin with a dense phase)"
        if criterion is saliency and name not in sharded and bool(parameters[name].any()):
            of, cure = "saliency of ", "let backward() give gradients before, and no zero_grad() clear them"
        raise ScoreError(
            f"{of}'{name}' is all zeros: nothing tells which of its {values.numel():,} weights phase '{phase.name}' is "
            f"to prune; {cure}, exclude it, or take criterion='random'"
        )


def check_rows(phase: Phase, name: str, mask: Tensor, rows: int | None) -> None:
    """Refuse to leave nothing of a row whose weights are divided by the row's length.

    Args:
        phase: the phase that prunes.
        name: of the parameter.
        mask: any shape, sharded or not; all ranks must ask together.
        rows: the dimension whose every slice must keep a weight; None: none must.

    Raises:
        SparsityError: a slice keeps none.
    """
    if rows is None:
        return
    whole = mask.full_tensor() if is_sharded(mask) else mask  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    left = cast("Tensor", whole).movedim(rows, 0).flatten(1).any(1)
    if not bool(left.all()):
        raise SparsityError(
            f"phase '{phase.name}' would prune all weights of output {int((~left).nonzero()[0])} of '{name}', which "
            "weight_norm divides by their length, 0: lower the sparsity, or exclude it"
        )


def check_phase(phase: Phase, parameters: Mapping[str, Tensor], kinds: Mapping[str, Kind]) -> None:
    """Refuse what can be known of a sparse phase before it begins: a weight of which nothing stays, or without groups.

    Raises:
        SparsityError: a sparsity of each layer would leave nothing of a parameter.
        ParameterError: a mapping names no prunable parameter, an N:M pattern does not fit a shape, or surgery would
            revise the mask of a weight that is computed.
    """
    computed = next((name for name in parameters if phase.surgery and kinds[name].effective), None)
    if computed is not None:
        raise ParameterError(
            f"surgery revises a mask by the sizes of weights, and the weight of '{computed}' is one that weight_norm "
            "computes from it: exclude it, or take a sparse phase without surgery"
        )
    if phase.pattern:
        m = phase.pattern[1]
        for name, parameter in parameters.items():
            along = _inputs_of(name, {name: kinds[name].inputs})
            check_groups(name, parameter.shape, m, along)
            if kinds[name].run % m:
                raise ParameterError(
                    f"'{name}' has {kinds[name].run} inputs for each output, which are not groups of {m}: exclude it"
                )
    elif phase.scope == "layer":
        for name, sparsity in per_parameter(phase.sparsity, list(parameters)).items():
            size = parameters[name].numel()
            check_left(phase, name, size, size - round(sparsity * size))


def _inputs_of(name: str, inputs: Mapping[str, int | None] | None) -> int:
    along = 1 if inputs is None else inputs[name]
    if along is None:
        raise ParameterError(
            f"it is not known along which dimension '{name}' has its inputs, along which the groups of an N:M pattern "
            "run: exclude it, or give a sparsity"
        )
    return along


def check_seed(seed: object) -> int:
    """Return a seed as an ``int``.

    Raises:
        ScheduleError: it is no whole number.
    """
    number = as_int(seed)
    if number is None:
        raise ScheduleError(f"seed must be a whole number, got {seed!r}")
    return number


def per_parameter(
    sparsity: Sparsity | None, names: list[str], tied: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Return each parameter's sparsity: an exact name before a pattern, an earlier pattern before a later one.

    Args:
        sparsity: of a phase.
        names: of the parameters that can be pruned.
        tied: other names that parameters have in the state dict -> the one name that stands for all.

    Raises:
        ParameterError: a pattern matches nothing, or an earlier and wider one decides all that it matches.
    """
    if not isinstance(sparsity, Mapping):
        return dict.fromkeys(names, sparsity or 0.0)
    found = {pattern: matching(pattern, names) for pattern in sparsity}
    for index, (pattern, own) in enumerate(found.items()):
        if not own and (others := {(tied or {})[name] for name in matching(pattern, tied or {})}):
            refuse_tied("sparsity", pattern, others)
        if not own:
            raise ParameterError(f"sparsity names '{pattern}', which is no prunable parameter{nearest(pattern, names)}")
        before = {each: found[each] for each in list(found)[:index]}
        wider = next((w for w, all_ in before.items() if own < all_ or (own == all_ and covers(w, pattern))), None)
        if wider is not None and pattern not in names and sparsity[wider] != sparsity[pattern]:
            raise ParameterError(
                f"sparsity names '{pattern}' after '{wider}', which matches all of that and decides it: put it before"
            )
    chosen: dict[str, float] = {}
    for name in names:
        pattern = name if name in sparsity else next((p for p, own in found.items() if name in own), None)
        if pattern is not None:
            chosen[name] = sparsity[pattern]
    return chosen


def derive_seed(*parts: object) -> int:
    """Return a seed that depends on the parts alone, in [0, 2**56): no order of calls and no machine changes it.

    >>> derive_seed(0, 1, "fc.weight")
    29995171111048272
    """
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:7], "big")


def threshold_of(surgery: Surgery, name: str, weight: Tensor, mask: Tensor) -> float:
    """Return the threshold that a surgery has for a weight; all ranks of a sharded one must ask together.

    Raises:
        ParameterError: it is sharded, and its mean would have to be known.
    """
    if not is_sharded(weight):
        return surgery.threshold(weight, mask)
    if surgery.c is not None:
        raise ParameterError(
            f"surgery with c={surgery.c} needs the mean of '{name}', which is sharded and has another one in its last "
            "digit: leave c out, and the threshold is the phase's sparsity"
        )
    own = torch.tensor([surgery.threshold(local(weight), local(mask))], dtype=torch.float64, device="cpu")
    return float(largest_over(cast("Any", weight).device_mesh)(own))
