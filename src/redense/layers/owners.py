"""Every parameter of a model once, and what it is in each layer that uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from redense.errors import ParameterError

from .kinds import Kind, kind_of
from .names import Modules, clean_name, places_of
from .stems import stems_by_shape
from .tracing import stems_by_trace

_READS_INPUT = re.compile(r"weight_ih(_l0(_reverse)?)?$")  # of a recurrent layer


@dataclass(frozen=True)
class Owner:
    """A parameter, and what it is in every place where it is used."""

    parameter: nn.Parameter
    modules: list[nn.Module]
    kinds: list[Kind]


def owners_of(modules: Modules) -> dict[str, Owner]:
    """Return each parameter once, under its first name.

    Raises:
        ParameterError: two parameters have the same name without the parts that wrappers put into it.
    """
    names: dict[int, str] = {}
    owners: dict[str, Owner] = {}
    for name, path, attribute, module, before, parameter in places_of(modules):
        if id(parameter) not in names:
            if name in owners:
                raise ParameterError(
                    f"two parameters of the model are '{name}' where the names of wrappers are left out, one of "
                    f"them '{path}.{attribute}': call that module otherwise"
                )
            names[id(parameter)] = name
            owners[name] = Owner(parameter, [], [])
        owner = owners[names[id(parameter)]]
        above, _, last = path.rpartition(".")
        # At layer.parametrizations.weight
        layer = before[above.rpartition(".")[0]] if isinstance(module, ParametrizationList) else None
        owner.modules.append(module if layer is None else layer)
        owner.kinds.append(kind_of(module, attribute, parameter, layer, last))
    return owners


def other_names(modules: Modules, owners: Mapping[str, Owner]) -> dict[str, str]:
    """Return the names that the state dict has for parameters that are listed under another -> that other one."""
    first = {id(owner.parameter): name for name, owner in owners.items()}
    every = modules[0][1].named_parameters(remove_duplicate=False)
    return {
        clean_name(name): first[id(p)] for name, p in every if first.get(id(p), name) not in (name, clean_name(name))
    }


def _may_read(name: str, kind: Kind) -> bool:
    """Whether a parameter that a kernel of the input was given is what multiplies it: of recurrent layers not all."""
    return kind.prunable and (not kind.reason.startswith("recurrent") or _READS_INPUT.search(name) is not None)


def first_layers_of(modules: Modules, owners: Mapping[str, Owner], inputs: Any) -> dict[str, str]:
    """Return the weights that read the input, name -> why: as a traced forward shows, or shapes without ``inputs``."""
    if inputs is None:
        stems = stems_by_shape(modules)
        return {
            name: stems[module]
            for name, owner in owners.items()
            for module, kind in zip(owner.modules, owner.kinds, strict=True)
            if module in stems and kind.prunable
        }
    names = {id(owner.parameter): name for name, owner in owners.items()}
    reading = stems_by_trace(modules[0][1], inputs, names)
    return {
        name: "reads the input, as a traced forward shows"
        for name, owner in owners.items()
        if name in reading and any(_may_read(name, kind) for kind in owner.kinds)
    }
