"""The user's code in a process of its own, which imports it anew: what a script has set in it is carried there.

What cannot be carried (a criterion that was made again with another sign, a tensor that was put in a module) is found
by the checksums of what is registered: that process has other ones, and is refused before it trains.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from redense.errors import PluginError
from redense.files.code.values import values_in
from redense.files.module_values import Value, put
from redense.plugins import code_of_plugins, makers_of, modules_of, names_of, refuse_edited

from .keys import held_by

_NOT_THERE = ("arm", "logger")  # the affair of the process that asks
_LAYOUT = "data layout"  # named by none: each is asked whether the data is its; a fingerprint tells the rest
_taken: set[str] = set()


@dataclass(frozen=True)
class Carried:
    """The user's code of a process that has others train.

    Args:
        used: what is trained with that a plugin may have brought, kind -> names.
        plugins: a checksum of the code of each module.
        values: of these modules, as they are there.
        code: a checksum of each thing, with the values that it reads.
        call: for which this was found. A process takes it once: what it trains may count in its modules.
    """

    used: Mapping[str, tuple[str, ...]]
    plugins: Mapping[str, str]
    values: tuple[Value, ...]
    code: Mapping[str, str]
    call: str = field(default_factory=lambda: uuid.uuid4().hex)

    def take(self) -> None:
        """Make this process train by the same code.

        Raises:
            PluginError: it cannot: a plugin was edited meanwhile, or the script that runs has changed what was
                registered in a way that no other process can have.
        """
        if self.call in _taken:
            return
        refuse_edited(self.plugins)
        put(self.values)
        here = held_by(makers_of({kind: list(names) for kind, names in self.used.items()}))
        for what, code in self.code.items():
            if here.get(what) != code:
                raise PluginError(
                    f"the {what.partition(' (')[0]} is other code in a process of its own, which imports it anew: give "
                    "jobs=1, or register and set it as it is in the module that is imported"
                )
        _taken.add(self.call)


def carried(used: Mapping[str, list[str]]) -> Carried | None:
    """Return what other processes need of the user's code; None where nothing is the user's.

    Args:
        used: what is trained with that a plugin may have brought, as `redense.lab.recipe.recipe.names_in` says it.
    """
    modules = modules_of({**used, _LAYOUT: names_of(_LAYOUT)})
    plugins = code_of_plugins(name for name in modules if name != "__main__")
    asked = {kind: tuple(names) for kind, names in used.items() if kind not in _NOT_THERE}
    makers = makers_of({kind: list(names) for kind, names in asked.items()})
    if not plugins and not makers:
        return None
    return Carried(asked, plugins, tuple(values_in(*makers.values())), held_by(makers))
