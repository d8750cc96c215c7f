"""Phases: a stretch of training, dense or under a mask, and how its learning rate falls. No torch here."""

from __future__ import annotations

import fnmatch
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from .errors import ScheduleError, SparsityError, nearest
from .schedules.named_criteria import CRITERIA, Criterion, check_criterion, criterion_name
from .schedules.numeric import as_float, as_int, check_pattern, check_sparsity, plain
from .surgery import Surgery

Sparsity = float | Mapping[str, float]
"""The fraction removed, in [0, 1): one for every prunable parameter, or one per parameter name or shell pattern."""

_DECAYS = ("constant", "cosine", "linear", "step", "polynomial")


@dataclass(frozen=True)
class Decay:
    """The decay of the learning rate inside a phase, from the phase's initial rate.

    With x in [0, 1) the part of the phase that is done:

    - ``constant``: 1
    - ``cosine``: floor + (1 - floor) (1 + cos(pi x)) / 2
    - ``linear``: floor + (1 - floor) (1 - x)
    - ``polynomial``: floor + (1 - floor) (1 - x) ** power   (GoogLeNet: power 0.5)
    - ``step``: factor ** floor(x / every): with every = 1/3 and factor = 0.1 a tenth after each third (ResNet: / 10
      every 30 of 90 epochs)

    ``until`` cuts a curve short: with 0.5 the phase ends where the curve has got to half-way, at the rate it has there.

    Raises:
        ScheduleError: there is no such kind, or a number is out of its range.
    """

    kind: Literal["constant", "cosine", "linear", "step", "polynomial"] = "constant"
    floor: float = 0.0
    power: float = 1.0
    every: float = 1 / 3
    factor: float = 0.1
    until: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in _DECAYS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ScheduleError(
                f"decay must be one of {', '.join(_DECAYS)}, got '{self.kind}'{nearest(str(self.kind), _DECAYS)}"
            )
        object.__setattr__(self, "kind", str.__str__(self.kind))  # as a checkpoint holds it, see `Phase`
        for name, low, high in (
            ("floor", 0, 1),
            ("every", 0, 1),
            ("factor", 0, 1),
            ("until", 0, 1),
            ("power", 0, math.inf),
        ):
            object.__setattr__(self, name, plain(getattr(self, name)))
            value = as_float(getattr(self, name))
            above = name in ("every", "until")
            if value is None or not (low <= value <= high) or (above and value == 0):
                within = f"{'(' if above else '['}{low}, {high}]"
                raise ScheduleError(f"{name} of the decay must be in {within}, got {getattr(self, name)!r}")

    def at(self, x: float) -> float:
        """Return the factor when the part ``x`` of the phase is done."""
        if self.kind == "constant":
            return 1.0
        x *= self.until
        if self.kind == "step":
            return self.factor ** math.floor(x / self.every + 1e-9)
        shape = (1 + math.cos(math.pi * x)) / 2 if self.kind == "cosine" else (1 - x) ** self.power_of_kind
        return self.floor + (1 - self.floor) * shape

    @property
    def power_of_kind(self) -> float:
        """The exponent of the polynomial: 1 for ``linear``."""
        return 1.0 if self.kind == "linear" else self.power


@dataclass(frozen=True)
class Phase:
    """A stretch of training, dense or under a mask. Prefer `dense` and `sparse` to make one.

    Args:
        steps: length in optimizer steps.
        sparsity: fraction removed, or one per parameter name or pattern; ``None`` in a dense phase.
        lr: initial learning rate as a factor of the optimizer's own.
        decay: how the learning rate falls inside the phase; the name of a kind, as ``"cosine"``, stands for
            ``Decay("cosine")``.
        criterion: name of the criterion that scores the weights, or a function ``(parameter, seed) -> scores``.
        scope: ``layer`` prunes each parameter to its sparsity, ``global`` all together by one threshold.
        pattern: (N, M) keeps N of every M consecutive inputs, instead of a sparsity.
        surgery: revise the mask while the phase lasts.
        name: what progress and reports call it.

    Raises:
        ScheduleError: ``steps``, ``lr``, ``scope``, ``name`` or ``surgery`` cannot be what it is, or not beside others.
        SparsityError: a sparsity is not in [0, 1), or the pattern is none.
        ScoreError: there is no such criterion.
    """

    steps: int
    sparsity: Sparsity | None = None
    lr: float = 1.0
    decay: Decay = field(default_factory=Decay)
    criterion: str | Criterion = "magnitude"
    scope: Literal["layer", "global"] = "layer"
    pattern: tuple[int, int] | None = None
    surgery: Surgery | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ScheduleError(f"name of a phase must be a string, got {self.name!r}")
        object.__setattr__(self, "name", str.__str__(self.name))  # as a checkpoint holds it: no NumPy string, no Enum
        label = f"phase '{self.name}'" if self.name else f"a {self.kind} phase"
        steps = as_int(self.steps)
        if steps is None or steps < 1:
            raise ScheduleError(
                f"steps of {label} must be a whole number of at least 1 optimizer step, got {self.steps!r}"
            )
        object.__setattr__(self, "steps", steps)
        lr = as_float(self.lr)
        if lr is None or lr < 0 or not math.isfinite(lr):
            raise ScheduleError(f"lr of {label} must be a factor of at least 0, got {self.lr!r}")
        object.__setattr__(self, "lr", plain(self.lr))
        object.__setattr__(self, "decay", _decay(self.decay, label))
        if self.pattern is not None:
            object.__setattr__(self, "pattern", check_pattern(self.pattern))
            if self.sparsity is not None:
                raise ScheduleError(f"{label} has both a sparsity and the pattern {self.pattern}: give one of them")
        if isinstance(self.sparsity, Mapping):
            if not self.sparsity:
                raise SparsityError(f"{label} maps no parameter to a sparsity")
            for name in self.sparsity:
                if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                    raise SparsityError(f"{label} maps names of parameters to sparsities, got the key {name!r}")
            items = ((str.__str__(name), value) for name, value in self.sparsity.items())
            checked = {name: check_sparsity(value, f"'{name}'") for name, value in items}
            object.__setattr__(self, "sparsity", checked)
        elif self.sparsity is not None:
            object.__setattr__(self, "sparsity", check_sparsity(self.sparsity, label))
        if self.scope not in ("layer", "global"):
            raise ScheduleError(f"scope of {label} must be 'layer' or 'global', got '{self.scope}'")
        object.__setattr__(self, "scope", str.__str__(self.scope))
        if self.scope == "global" and not isinstance(self.sparsity, float):
            raise ScheduleError(
                f"{label} has the scope 'global', which needs one sparsity for all weights, got {self.sparsity}"
            )
        check_criterion(self.criterion)
        name = criterion_name(self.criterion)
        if isinstance(self.criterion, str) or name in CRITERIA:  # a registered function is its name
            object.__setattr__(self, "criterion", str.__str__(name))
        if self.surgery is not None and not isinstance(self.surgery, Surgery):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ScheduleError(f"surgery of {label} must be a Surgery, got {self.surgery!r}")
        if self.surgery and (not self.is_sparse or self.pattern):
            raise ScheduleError(f"surgery revises the mask of a sparse phase with a sparsity, not of {label}")
        if not self.name:
            object.__setattr__(self, "name", self.kind)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Phase):
            return NotImplemented
        one, two = ([getattr(phase, item.name) for item in fields(Phase)] for phase in (self, other))
        return one == two and ordered({"sparsity": self.sparsity}) == ordered({"sparsity": other.sparsity})

    def __hash__(self) -> int:
        sparsity = tuple(sorted(self.sparsity.items())) if isinstance(self.sparsity, Mapping) else self.sparsity
        return hash((self.steps, sparsity, self.lr, self.scope, self.pattern, self.name))

    @classmethod
    def dense(cls, steps: int, *, lr: float = 1.0, decay: Decay | str | None = None, name: str = "dense") -> Phase:
        """Return a dense phase."""
        return cls(steps, lr=lr, decay=_decay(decay, f"phase '{name}'"), name=name)

    @classmethod
    def sparse(
        cls,
        steps: int,
        sparsity: Sparsity | None = None,
        *,
        lr: float = 1.0,
        decay: Decay | str | None = None,
        criterion: str | Criterion = "magnitude",
        scope: Literal["layer", "global"] = "layer",
        pattern: tuple[int, int] | None = None,
        surgery: Surgery | None = None,
        name: str = "sparse",
    ) -> Phase:
        """Return a sparse phase, of a sparsity or of an N:M pattern."""
        if sparsity is None and pattern is None:
            raise SparsityError(f"phase '{name}' needs a sparsity, the fraction removed, or a pattern such as (2, 4)")
        decay = _decay(decay, f"phase '{name}'")
        return cls(steps, sparsity, lr, decay, criterion, scope, pattern, surgery, name)

    @property
    def is_sparse(self) -> bool:
        """Whether a mask holds in this phase."""
        return self.sparsity is not None or self.pattern is not None

    @property
    def kind(self) -> Literal["dense", "sparse"]:
        """``dense`` or ``sparse``."""
        return "sparse" if self.is_sparse else "dense"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data (numbers, strings, lists, dicts) without what has its default; no order of keys matters.

        Sparsities by name are a list of pairs where sorted keys, as YAML writes them, would or might be other ones.
        A criterion that is a function is named ``module:qualified name``; `from_dict` takes it if it is registered
        under that name, because nothing is imported for a saved schedule.
        """
        out: dict[str, Any] = {"steps": self.steps}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("steps", "decay", "surgery") or value == item.default:
                continue
            out[item.name] = (
                list(value)
                if item.name == "pattern"
                else criterion_name(value)
                if item.name == "criterion"
                else _shares(cast("Mapping[str, float]", value))
                if isinstance(value, Mapping)
                else value
            )
        if self.decay != Decay():
            out["decay"] = _changed(self.decay)
        if self.surgery:
            out["surgery"] = _changed(self.surgery)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Phase:
        """Return the phase that `to_dict` gave; sparsities by name may be a mapping, too, whose order then counts.

        Raises:
            ScheduleError: a key is unknown or missing.
        """
        if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ScheduleError(f"a phase is a mapping such as {{'steps': 100, 'sparsity': 0.3}}, got {data!r}")
        values = dict(data)
        refuse_unknown(values, cls, "phase")
        if "steps" not in values:
            raise ScheduleError(f"a phase needs its number of 'steps', got {values}")
        if "decay" in values and not isinstance(values["decay"], str):
            values["decay"] = _rebuild(Decay, values["decay"], "decay")
        if values.get("surgery") is not None:
            values["surgery"] = _rebuild(Surgery, values["surgery"], "surgery")
        if values.get("pattern") is not None:
            values["pattern"] = check_pattern(values["pattern"])
        if "sparsity" in values:
            values["sparsity"] = _mapping_of(values["sparsity"])
        return cls(**values)


def ordered(data: Any) -> Any:
    """Return plain data in which a ``sparsity`` of patterns is a list of pairs where their order may decide.

    An earlier pattern is asked before a later one. ``==`` of two mappings loses that, as does JSON with sorted keys, of
    which the keys of a store are made. Patterns that are in sorted order stay a mapping.

    >>> ordered({"sparsity": {"b.*": 0.5, "*.weight": 0.3}})
    {'sparsity': [['b.*', 0.5], ['*.weight', 0.3]]}
    >>> ordered({"sparsity": {"b": 0.5, "a": 0.3}})
    {'sparsity': {'b': 0.5, 'a': 0.3}}
    """
    if isinstance(data, (list, tuple)):
        return [ordered(each) for each in cast("list[Any]", data)]
    if not isinstance(data, Mapping):
        return data
    given = cast("Mapping[str, Any]", data)
    return {name: _ordered_shares(value) if name == "sparsity" else ordered(value) for name, value in given.items()}


def _ordered_shares(value: Any) -> Any:
    shares = _mapping_of(value)  # which may have been written as pairs
    if not isinstance(shares, Mapping):
        return ordered(shares)
    each = cast("Mapping[str, Any]", shares)
    return _pairs(each) if _order_decides(each, _may_overlap) else ordered(each)


def _shares(shares: Mapping[str, float]) -> Any:
    """Return sparsities by name as data that says the same when its keys are sorted."""
    return _pairs(shares) if _order_decides(shares, _alike) else dict(shares)


def _pairs(shares: Mapping[str, Any]) -> list[list[Any]]:
    return [list(pair) for pair in shares.items()]


def _mapping_of(value: object) -> object:
    """Return a list of pairs, each a name or pattern and its sparsity, as a mapping; anything else as it is."""
    each = cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else ()
    if not each or not all(isinstance(one, (list, tuple)) and len(cast("Any", one)) == 2 for one in each):
        return cast("object", value)
    shares = {name: share for name, share in each if isinstance(name, str)}
    return shares if len(shares) == len(each) else cast("object", value)  # no name twice


def _order_decides(shares: Mapping[str, object], meet: Callable[[str, str], bool]) -> bool:
    """Whether two patterns that ``meet`` have different sparsities, in another order than the sorted one."""
    pairs = itertools.combinations(shares, 2)
    decides = any(shares[one] != shares[other] and meet(one, other) for one, other in pairs)
    return decides and list(shares) != sorted(shares)


def covers(pattern: str, other: str) -> bool:
    """Whether a name of a module or a pattern stands for all that another stands for, as far as their texts tell.

    >>> covers("*", "a.?"), covers("a.?", "a.*"), covers("a", "a.*")
    (True, False, True)
    """
    stood = (other.replace("?", "\0").replace("*", some) for some in ("", "\0\0"))
    return other.startswith(f"{pattern}.") or all(fnmatch.fnmatchcase(one, pattern) for one in stood)


def _may_overlap(one: str, other: str) -> bool:
    """Whether two patterns, of which none stands for all of the other, may stand for the same parameter."""
    return _alike(one, other) and not covers(one, other) and not covers(other, one)


def _alike(one: str, other: str) -> bool:
    """Whether two patterns may stand for the same parameter, one for all of the other included."""
    begin, end = (re.split(r"[*?[]", pattern)[0] for pattern in (one, other))
    return begin.startswith(end) or end.startswith(begin)


def _decay(decay: object, label: str) -> Decay:
    if decay is None:
        return Decay()
    if isinstance(decay, str):
        return Decay(cast("Any", decay))
    if not isinstance(decay, Decay):
        raise ScheduleError(f"decay of {label} must be a Decay or one of {', '.join(_DECAYS)}, got {decay!r}")
    return decay


def _changed(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}


def refuse_unknown(data: Mapping[str, Any], cls: type, what: str) -> None:
    """Refuse a key that is no field of the dataclass; name the nearest."""
    known = [f.name for f in fields(cls)]
    for key in data:
        if key not in known:
            raise ScheduleError(f"unknown key '{key}' in a {what}{nearest(str(key), known)}")


def _rebuild(cls: Any, data: object, what: str) -> Any:
    if not isinstance(data, Mapping):
        raise ScheduleError(f"{what} is a mapping of its settings, got {data!r}")
    settings = cast("Mapping[str, Any]", data)
    refuse_unknown(settings, cls, what)
    return cls(**settings)
