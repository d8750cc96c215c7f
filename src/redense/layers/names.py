"""Names of parameters as the user's own module has them, and what a name, a module or a pattern stands for."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn, cast

from torch import nn

from redense.errors import ParameterError, nearest
from redense.masks.sharding import refuse_fsdp1, reshard

# What wrappers put in front of, or into, the names of the module they wrap.
_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "_FabricModule": "_forward_module",
}
_WRAPPER_PARTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's own module under DDP, DataParallel, FSDP, Fabric and ``torch.compile`` wrappers.

    Raises:
        ParameterError: it is no module.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ParameterError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    inner: object = model
    while isinstance(inner, nn.Module):
        model = inner
        refuse_fsdp1(model)
        inner = getattr(model, _wrapped_attribute(model), None)
    return model


Modules = Sequence[tuple[str, nn.Module]]
"""Every module of a model once, with its name."""


def walk(model: nn.Module) -> Modules:
    """Return every module of a model once, with its name: whoever asks several things of them walks once.

    FSDP2's modules show their shards from then on. An evaluation leaves the weights of the root gathered, in tensors
    for a while: no optimizer holds these, and what is written to them is lost.
    """
    modules = list(cast("Iterable[tuple[str, nn.Module]]", model.named_modules()))
    reshard(module for _, module in modules)
    return modules


class Place(NamedTuple):
    """An attribute of a module in which a parameter lies."""

    name: str
    """Of the parameter there, without the parts of wrappers."""
    path: str
    """Of the module, as the model has it."""
    attribute: str
    module: nn.Module
    before: Mapping[str, nn.Module]
    """The modules up to this one, by path."""
    parameter: nn.Parameter


def places_of(modules: Modules) -> Iterator[Place]:
    """Give every place of every parameter: one that several modules share has several."""
    clean, before = {"": ""}, dict[str, nn.Module]()
    for path, module in modules:
        before[path] = module
        if path:
            above, _, last = path.rpartition(".")
            skipped = last in _WRAPPER_PARTS or last == _wrapped_attribute(before[above])
            clean[path] = clean[above] if skipped else f"{clean[above]}.{last}".lstrip(".")
        for attribute, parameter in module.named_parameters(recurse=False):
            name = f"{clean[path]}.{attribute}" if clean[path] else attribute
            yield Place(name, path, attribute, module, before, parameter)


def names_of(modules: Modules) -> dict[int, str]:
    """Return the name of each parameter by its id: the first one, without the parts of wrappers."""
    names: dict[int, str] = {}
    for place in places_of(modules):
        names.setdefault(id(place.parameter), place.name)
    return names


def clean_name(name: str) -> str:
    """Return a parameter's name without the parts that compile, FSDP and checkpoint wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPER_PARTS)


def matching(pattern: str, names: Collection[str]) -> set[str]:
    """Return the names that a name, a module or a shell pattern stands for.

    What is itself a name stands for no other; else what is the name of a module stands for all that is below it.

    >>> sorted(matching("a[01]", ["a0", "a1", "b"])), sorted(matching("a[01]", ["a0", "a1", "a[01]"]))
    (['a0', 'a1'], ['a[01]'])
    >>> sorted(matching("encoder.1", ["encoder.1.weight", "encoder.1.bias", "encoder.10.weight"]))
    ['encoder.1.bias', 'encoder.1.weight']
    """
    if pattern in names:
        return {pattern}
    below = {name for name in names if name.startswith(f"{pattern}.")}
    return below or {name for name in names if fnmatch.fnmatchcase(name, pattern)}


def patterns_of(what: str, patterns: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return include or exclude as a tuple of names and patterns: plain strings, those of a set in their own order."""
    if patterns is not None and not isinstance(patterns, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ParameterError(f"{what} takes names and shell patterns, got {patterns!r}")
    given = (patterns,) if isinstance(patterns, str) else tuple(() if patterns is None else patterns)
    for pattern in given:
        if not isinstance(pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ParameterError(f"{what} takes names and shell patterns, got {pattern!r}")
    plain = map(str.__str__, given)  # NumPy's strings and members of an Enum are subclasses that no checkpoint holds
    return tuple(sorted(plain) if isinstance(patterns, (set, frozenset)) else plain)


def all_matching(what: str, pattern: str, names: list[str], tied: Mapping[str, str] | None = None) -> set[str]:
    """Return what `matching` does, or refuse a pattern that stands for nothing.

    Args:
        what: ``include`` or ``exclude``; what is excluded under any of its names is excluded.
        pattern: as in `matching`.
        names: of the parameters.
        tied: other names that parameters have in the state dict -> the name that is one of ``names``.
    """
    found, tied = matching(pattern, names), tied or {}
    others = {tied[name] for name in matching(pattern, tied)}
    if what == "exclude":
        found |= others
    if not found and others:
        refuse_tied(what, pattern, others)
    if not found:
        of = _computed_from(pattern, names)
        cure = f": it is computed, give '{of}', which it is computed from" if of else nearest(pattern, names)
        raise ParameterError(f"{what} '{pattern}' matches no parameter of the model{cure}")
    return found


def _computed_from(name: str, names: Collection[str]) -> str:
    """Return the parameters, by a name or a module, that a layer computes a weight from; ``""`` if it does not.

    >>> _computed_from("1.weight", ["1.parametrizations.weight.original0", "1.parametrizations.weight.original1"])
    '1.parametrizations.weight'
    """
    above, dot, last = name.rpartition(".")
    module = f"{above}{dot}parametrizations.{last}"
    if any(other.startswith(f"{module}.") for other in names):
        return module
    return next((own for own in (f"{name}_v", f"{name}_orig") if own in names), "")  # as PyTorch's older hooks name it


def refuse_tied(what: str, pattern: str, others: Collection[str]) -> NoReturn:
    """Refuse a pattern that stands for nothing but what is tied to others, the names of which stand for both."""
    other = min(others, key=lambda name: (name.endswith("bias"), name))  # which is never pruned
    raise ParameterError(f"{what} '{pattern}' is tied to '{other}', which stands for both: give '{other}'")


def _wrapped_attribute(module: nn.Module) -> str:
    return next((_WRAPPERS[cls.__name__] for cls in type(module).__mro__ if cls.__name__ in _WRAPPERS), "")
