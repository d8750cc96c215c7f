"""Sensitivity scans: what pruning each parameter alone costs, at rising sparsity, without retraining.

The curves say which layers can lose most of their weights for nothing and which cannot lose any (Han et al. 2015,
figure 6); `Scan.allocate` shares an overall sparsity out accordingly. Curves are taken to rise with sparsity.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from redense import masks
from redense.criteria import Criterion, criterion_name
from redense.errors import CheckpointError, ParameterError, ScoreError, SparsityError, StateError
from redense.files.checksums import sha256
from redense.files.json_text import read_json
from redense.files.opening import at_home
from redense.files.writing import write_text
from redense.layers.names import unwrap
from redense.masks.sharding import is_sharded
from redense.phase import Phase
from redense.pruning import check_seed, choose, derive_seed
from redense.schedules.numeric import as_float, plain

from .parts import Part, key_of, parts_of, with_gates
from .points import knee, undecided
from .prefix import Prefix
from .result import Curve, Scan

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""The default grid."""

_TOLERANCE = 0.005  # of what pruning everything costs: below it a curve counts as flat
_HOPELESS = 0.2  # of the same: above it nothing more is measured
_FORMAT = 1
_SAME = "pruning all layers at once to %g does not change the value: does evaluate measure the model that it is given?"

_log = logging.getLogger(__name__)

Evaluate = Callable[[Any], Any]
"""``evaluate(model) -> number``: puts the model into eval mode and measures it, always on the same data."""


def sensitivity(
    model: nn.Module,
    evaluate: Evaluate,
    sparsities: Sequence[float] = SPARSITIES,
    *,
    overall: float | Sequence[float] | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    criterion: str | Criterion = "magnitude",
    seed: int = 0,
    lower_is_better: bool = True,
    grid: Literal["adaptive", "full"] = "adaptive",
    reuse: bool = True,
    tolerance: float | None = None,
    hopeless: float | None = None,
    gates: bool = False,
    cache_bytes: int = 1 << 30,
    path: str | os.PathLike[str] | None = None,
    inputs: Any = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Scan:
    """Measure what pruning each parameter alone costs, at rising sparsity, without retraining.

    Use validation data, and a smooth value such as the loss rather than the error. Weights, buffers and training modes
    are afterwards what they were, to the bit, also when ``evaluate`` raises or Ctrl-C stops it. ``evaluate`` is called
    with gradients switched off.

    Two things make it several times cheaper than the grid. Bisection finds the last sparsity that costs nothing, and
    from there points are measured up to the first hopeless one, or, with ``overall``, only next to the sparsities that
    are chosen; both take the curves to rise. And the layers before the pruned one are not computed again (see
    `redense.scans.prefix`); their results are the same bits.

    Args:
        model: trained; wrapped or not.
        evaluate: called with ``model``, returns a number.
        sparsities: the grid, in (0, 1).
        overall: measure no more than decides ``allocate(overall)`` for this sparsity, or for each of several; the
            curves then have gaps, and other targets are answered less well. Nothing: measure what any target needs.
        include: as in `redense.prunable`.
        exclude: as in `redense.prunable`.
        criterion: what scores the weights, by name or as a function; masks are those that a sparse phase would make.
        seed: of a random criterion.
        lower_is_better: False for an accuracy.
        grid: ``adaptive``, or ``full`` to measure every point.
        reuse: compute the layers before the pruned one once.
        tolerance: a drop that counts as none; default 0.5 % of what pruning everything to the highest sparsity costs.
        hopeless: a drop beyond which nothing more is measured; default a fifth of that cost.
        gates: also measure each gate of LSTM and GRU matrices, as ``lstm.weight_hh_l0[f]``: to look at, for masks are
            chosen for whole matrices and gates are not allocated.
        cache_bytes: memory for what layers before the pruned one gave; what does not fit is computed again.
        path: JSON file that each measurement is saved to; a scan that was stopped goes on from there. What was measured
            under other masks, of a criterion that takes gradients or was edited, is measured anew.
        inputs: an example of what the model is called with, to leave out what reads it; see `redense.prunable`.
        progress: called with points done, points of the whole grid, and what comes next.

    Raises:
        SparsityError: the grid is empty, or a sparsity is not in (0, 1).
        ParameterError: nothing can be pruned, a pattern matches nothing, or the weights are sharded; or ``evaluate``,
            ``grid`` or another option is none.
        ScoreError: ``evaluate`` returns no number, or the unpruned model's is not finite; there is no such criterion.
        ScheduleError: the seed is no whole number.
        StateError: ``path`` holds the scan of another model, or of another evaluation.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> inputs = torch.randn(8, 4)
    >>> before = model(inputs)
    >>> scan = sensitivity(model, lambda model: float((model(inputs) - before).square().mean()))
    >>> scan.allocate(overall=0.5).overall
    0.5
    """
    levels = tuple(sorted({masks.check_sparsity(s, "the scan's grid") for s in _several(sparsities)} - {0.0}))
    if not levels:
        raise SparsityError("sparsities is empty: give the scan at least one sparsity in (0, 1)")
    targets = [masks.check_sparsity(target, "all weights together") for target in _several(overall)]
    tolerance, hopeless = _drop("tolerance", tolerance), _drop("hopeless", hopeless)
    if grid not in ("adaptive", "full"):
        raise ParameterError(f"grid of a scan must be 'adaptive' or 'full', got {grid!r}")
    for name, value in {"lower_is_better": lower_is_better, "reuse": reuse, "gates": gates}.items():
        if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ParameterError(f"{name} must be True or False, got {value!r}")
    if (room := as_float(cache_bytes)) is None or not room >= 0:
        raise ParameterError(f"cache_bytes must be a number of bytes of at least 0, got {cache_bytes!r}")
    if not callable(evaluate):
        raise ParameterError(f"evaluate must be a function of the model, got {evaluate!r}")
    seed = check_seed(seed)
    whole = parts_of(model, include, exclude, inputs)
    if not whole:
        raise ParameterError("nothing of this model can be pruned: see redense.summary(model)")
    if any(is_sharded(part.tensor) for part in whole.values()):
        raise ParameterError(
            "a scan needs whole weights, and those of this model are sharded: scan it before fully_shard, or a whole "
            "copy; names and so the sparsities of allocate() are the same"
        )

    def pruned(part: Part, sparsity: float) -> Tensor:
        phase = Phase.sparse(1, sparsity, criterion=criterion)
        weight = {part.name: part.weight} if part.weight else {}
        own = {part.name: part.tensor}
        return choose(phase, own, {}, lambda name: derive_seed(seed, 0, name), effective=weight)[part.name]

    log = _Log(
        at_home(path) if path else None, lambda: _fingerprint(model, criterion_name(criterion), seed, lower_is_better)
    )
    meter = _Meter(model, evaluate)
    with _unchanged(model):
        baseline = meter.measure()
        if not math.isfinite(baseline):
            raise ScoreError(f"evaluate gives {baseline} for the unpruned model: expected a finite number")
        log.begin(baseline)
        tensors = {name: part.tensor for name, part in whole.items()}
        prefix = Prefix(model, tensors, cache_bytes=cache_bytes if reuse else 0)
        sign = 1 if lower_is_better else -1
        if tolerance is None or hopeless is None:
            most = {name: pruned(part, levels[-1]) for name, part in whole.items()}

            def without_anything() -> float:
                with _masked({tensors[name]: mask for name, mask in most.items()}):
                    return meter.measure()

            worst = log.recall(key_of("*", criterion, most), levels[-1], without_anything)
            cost = math.nan if worst is None else sign * (worst - baseline)
            if worst == baseline:
                _log.warning(_SAME, levels[-1])
            known = math.isfinite(cost) and cost > 0
            tolerance = tolerance if tolerance is not None else _TOLERANCE * cost if known else 0.0
            hopeless = hopeless if hopeless is not None else _HOPELESS * cost if known else math.inf
        prefix.trace(meter.measure, baseline)
        whole = {name: whole[name] for name in prefix.order()}
        parts = with_gates(model, whole.values()) if gates else list(whole.values())
        values: dict[str, dict[int, float | None]] = {part.name: {} for part in parts}

        def drop_at(part: Part, index: int) -> float:
            seen, sparsity = values[part.name], levels[index]
            if index not in seen:
                mask = pruned(part, sparsity)

                def measured() -> float:
                    done = sum(len(curve) for curve in values.values())
                    progress(done, len(parts) * len(levels), f"{part.name} at {sparsity:g}")
                    with _masked({part.tensor: mask}):
                        return prefix.evaluate(meter.measure, part.parameter)

                seen[index] = log.recall(key_of(part.name, criterion, {part.name: mask}), sparsity, measured)
            value = seen[index]
            return math.inf if value is None else sign * (value - baseline)

        for part in parts:
            if grid == "full":
                for index in range(len(levels)):
                    drop_at(part, index)
            elif part.gate or not targets:
                knee(len(levels), functools.partial(drop_at, part), tolerance, hopeless)
        while targets and grid != "full":
            drops = {name: {index: drop_at(part, index) for index in values[name]} for name, part in whole.items()}
            sizes = {name: tensor.numel() for name, tensor in tensors.items()}
            asked = undecided(drops, sizes, levels, tolerance=tolerance, hopeless=hopeless, overall=targets[0])
            if not asked:
                targets.pop(0)
            for name, part in whole.items():
                for index in asked.get(name, ()):
                    drop_at(part, index)
        progress(len(parts) * len(levels), len(parts) * len(levels), "done")
        prefix.close()
        curves = tuple(_curve(part, values[part.name], levels) for part in parts)
    note = f"nothing was reused: {prefix.reason}" if reuse and prefix.reason else ""
    return Scan(baseline, curves, levels, tolerance, hopeless, lower_is_better, meter.count, note)


def _several(values: Any) -> list[Any]:
    values = plain(values)
    if isinstance(values, Iterable) and not isinstance(values, str):
        return list(cast("Iterable[Any]", values))
    return [] if values is None else [values]


def _drop(name: str, value: float | None) -> float | None:
    number = as_float(value)
    if value is not None and (number is None or not number >= 0):
        raise ParameterError(f"{name} of a scan must be a drop of at least 0, got {value!r}")
    return number


# --- what is pruned -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _masked(chosen: Mapping[nn.Parameter, Tensor]) -> Generator[None]:
    """Set weights to zero for the length of the block, and put back their exact bits."""
    before = {parameter: parameter.detach().clone() for parameter in chosen}
    try:
        for parameter, mask in chosen.items():
            masks.apply_(masks.like(mask, parameter), parameter.detach())
        yield
    finally:
        _put_back(before)
        torch.clear_autocast_cache()


@contextlib.contextmanager
def _unchanged(model: nn.Module) -> Generator[None]:
    """Leave every module in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _put_back(before: Mapping[Any, Tensor]) -> None:
    with torch.no_grad():
        for tensor, values in before.items():
            tensor.detach().copy_(values)


def _curve(part: Part, values: Mapping[int, float | None], levels: Sequence[float]) -> Curve:
    points = tuple((levels[index], values[index]) for index in sorted(values))
    return Curve(part.name, tuple(part.tensor.shape), points, part.magnitudes, part.gate)


# --- measuring ------------------------------------------------------------------------------------------------------


class _Meter:
    """Calls ``evaluate`` and counts; buffers that it changes are put back."""

    def __init__(self, model: nn.Module, evaluate: Evaluate) -> None:
        self._model, self._evaluate = model, evaluate
        self.count = 0

    def measure(self) -> float:
        """Return the value of the model as it is."""
        buffers = {buffer: buffer.detach().clone() for buffer in self._model.buffers()}
        torch.clear_autocast_cache()  # under an autocast around the scan the weights as they were would count
        try:
            with torch.no_grad():
                value = self._evaluate(self._model)
        finally:
            _put_back({buffer: values for buffer, values in buffers.items() if not torch.equal(buffer, values)})
        self.count += 1
        try:
            if isinstance(value, (bool, str)):
                raise TypeError(value)
            return float(value)
        except (TypeError, ValueError, RuntimeError):
            raise ScoreError(
                f"evaluate must return one number, got {type(value).__name__}: return the loss or the error as a float"
            ) from None


# --- resuming -------------------------------------------------------------------------------------------------------


class _Log:
    """Measurements as they come, in a JSON file; one that was written for the same model is gone on with."""

    def __init__(self, path: Path | None, fingerprint: Callable[[], str]) -> None:
        self._path = path
        self._fingerprint = fingerprint() if path else ""
        self._baseline = 0.0
        self._values: dict[tuple[str, float], float | None] = {}

    def begin(self, baseline: float) -> None:
        """Take over what the file holds, if it is of this model and this evaluation."""
        self._baseline = baseline
        if self._path is None:
            return
        if not self._path.exists():
            self._write()
            return
        try:
            data = read_json(self._path)
            if data.get("digest", _digest_of(data["measured"])) != _digest_of(data["measured"]):
                raise ValueError("a number has changed")
            known = data["format"] == _FORMAT
            fingerprint, before = data["fingerprint"], float(data["baseline"])
            self._values = {(str(name), float(s)): value for name, s, value in data["measured"]}
        except (AttributeError, OSError, ValueError, KeyError, TypeError):
            raise StateError(f"{self._path} is no scan that can be gone on with: remove it, or name another") from None
        if not known or fingerprint != self._fingerprint:
            raise StateError(
                f"{self._path} holds the scan of another model or criterion: remove it, or name another file"
            )
        if not math.isclose(baseline, before, rel_tol=1e-6):
            raise StateError(
                f"{self._path} holds a scan whose unpruned model gave {before:g}, now it gives {baseline:g}: "
                "evaluate has changed; remove the file, or name another"
            )

    def recall(self, name: str, sparsity: float, measure: Callable[[], float]) -> float | None:
        """Return what was measured before, or else measure it; None where that is not finite."""
        if (name, sparsity) not in self._values:
            value = measure()
            self._values[name, sparsity] = value if math.isfinite(value) else None
            self._write()
        return self._values[name, sparsity]

    def _write(self) -> None:
        if self._path is None:
            return
        measured = [[name, sparsity, value] for (name, sparsity), value in self._values.items()]
        data = {
            "format": _FORMAT,
            "fingerprint": self._fingerprint,
            "baseline": self._baseline,
            "measured": measured,
            "digest": _digest_of(measured),
        }
        try:
            write_text(self._path, json.dumps(data) + "\n")
        except CheckpointError as error:
            raise StateError(str(error)) from None


def _digest_of(measured: list[Any]) -> str:
    return sha256(json.dumps(measured).encode())


def _fingerprint(model: nn.Module, criterion: str, seed: int, lower_is_better: bool) -> str:
    digest = hashlib.blake2b(f"{criterion} {seed} {lower_is_better}".encode(), digest_size=16)
    for name, tensor in unwrap(model).state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
