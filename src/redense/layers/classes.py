"""The class of a layer as it was written, also where TorchScript has put another one around it."""

from __future__ import annotations

import re
import sys
from typing import Any, TypeGuard, TypeVar, cast

import torch
from torch import nn
from torch.fx import GraphModule

M = TypeVar("M", bound=nn.Module)

_MANGLED = re.compile(r"___torch_mangle_\d+\.")


def class_of(module: nn.Module) -> type[nn.Module] | None:
    """Return the class that a layer was written in; None where it is lost.

    TorchScript has its name, and after ``torch.jit.script`` the sizes of the layer. A trace (``torch.jit.trace``) has
    lost these, and an export (``torch.export``) or a graph (``torch.fx``) has nothing but the parameters.

    >>> class_of(nn.Linear(2, 2)) is nn.Linear, class_of(nn.Module())
    (True, None)
    """
    if isinstance(module, torch.jit.ScriptModule):
        script = cast("Any", module)._c._type().qualified_name()
        path, _, name = _MANGLED.sub("", script.removeprefix("__torch__.")).rpartition(".")
        found = getattr(sys.modules.get(path or "__main__"), name, None)
        if isinstance(found, type) and issubclass(found, nn.Module):
            sizes = cast("list[str]", getattr(found, "__constants__", []))
            return found if all(hasattr(module, size) for size in sizes) else None
        return None
    return None if type(module) is nn.Module or isinstance(module, GraphModule) else type(module)


def is_a(module: nn.Module, classes: type[M] | tuple[type[M], ...]) -> TypeGuard[M]:
    """Whether a layer was written in one of some classes, or in one that is derived from them."""
    found = class_of(module)
    return found is not None and issubclass(found, classes)
