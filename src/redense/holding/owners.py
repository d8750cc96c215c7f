"""The places of a model where its parameters lie, to notice one that was replaced while its optimizer was not told."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim import Optimizer

from redense.errors import OptimizerError
from redense.layers.kinds import kind_of
from redense.layers.names import Modules, walk
from redense.masks.sharding import is_sharded

from .optimizers import held

Place = tuple[list[str], str, nn.Parameter]
"""The path of a module, an attribute of it, and the parameter that lies there."""


class Owners:
    """The modules and attributes that hold some parameters of a model.

    Args:
        model: the module.
        parameters: of it, by name. Sharded ones are passed over: FSDP2 itself puts others in their places for a while.
        modules: of the model, where somebody has walked them just now.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, nn.Parameter], modules: Modules | None = None
    ) -> None:
        self._names = {id(parameter): name for name, parameter in parameters.items() if not is_sharded(parameter)}
        self._model = model
        self._ways: dict[str, int] = {}  # layers that compute a weight: how many parametrizations do it
        self._places: dict[str, list[Place]] = {}
        self._lie: list[int] = []  # ids of what lies in the places, as it was looked at last
        self._moved = False
        self._besides: dict[str, set[str]] = {}  # the names of all parameters of a module that holds one
        self._layers: dict[str, tuple[weakref.ref[nn.Module], set[str]]] = {}  # that hold them, and what is their own
        if self._names:
            self._note(walk(model) if modules is None else modules)
            self._lie = _ids([[parameter for _, _, parameter in places] for places in self._places.values()])

    def _note(self, modules: Modules, *, later: bool = False) -> None:
        """Note the places of the parameters; of those that are found later the layers are judged at each look."""
        known = {(*path, attribute) for places in self._places.values() for path, attribute, _ in places}
        for path, module in modules:
            for attribute, parameter in module._parameters.items():
                if parameter is None or id(parameter) not in self._names:
                    continue
                place = (path.split(".") if path else [], attribute, parameter)
                if (*place[0], attribute) in known:
                    continue
                if isinstance(module, ParametrizationList):
                    self._ways[path] = 0 if later else len(module)
                self._besides[path] = _names_in(module)
                self._places.setdefault(self._names[id(parameter)], []).append(place)
                layer = _layer(place[0])
                if (of := self._module(layer)) is not None:
                    self._layers.setdefault(".".join(layer), (weakref.ref(of), set(_own(of))))

    def refuse_replaced(self, optimizers: Iterable[Optimizer], *, in_force: bool = False) -> None:
        """Refuse a model in which another parameter lies in all places of one, or of all, and no optimizer trains it.

        A layer that computes its weight from others now has others in these places, and so has a new layer inside of
        another one.

        Args:
            optimizers: those that redense was given.
            in_force: whether a mask is: then no place may have another, or a weight that is computed without zeros.

        Raises:
            OptimizerError: there is one; it is named. Or the optimizers hold none at all.
        """
        lie = self._look() if in_force else self._lying()
        for (name, places), now in zip(self._places.items(), lie, strict=True):
            moved = [place for new, place in zip(now, places, strict=True) if new is not place[2]]
            taken = [new for new in now if new is not None and new.requires_grad] if len(moved) == len(places) else []
            if taken and not {id(new) for new in taken} <= _all_held(optimizers):
                raise _replaced(name)
            changed = [*moved, *(place for place in places if self._computes_otherwise(place[0]))]
            if in_force and any(self._not_held(*place) for place in changed):
                raise OptimizerError(
                    f"the layer of '{name}' has another parameter now, or computes its weight from others (a new "
                    "layer, a weight that is tied no more, weight_norm, quantisation): the mask in force does not hold "
                    "it. Change layers in a dense phase, or make a new DSD after close(release=False) of this one"
                )
        if not in_force and self._places and _all_held(optimizers).isdisjoint(map(id, self._model.parameters())):
            raise OptimizerError(
                "the optimizer holds no parameter of the model any more, so that nothing is trained (the layers have "
                "become others): make the optimizer and then redense's object after the change"
            )
        for (name, places), now in zip(self._places.items(), lie, strict=True) if not in_force else ():
            if all(new is None for new in now) and self._untold(places, optimizers):
                raise _replaced(name)

    def moved(self) -> bool:
        """Whether something else lay in the places under a mask than when this was asked last, or made."""
        moved, self._moved = self._moved, False
        return moved

    def _look(self) -> list[list[nn.Parameter | None]]:
        """Note the other places in which the parameters lie where one has moved since the last look; what lies now."""
        if (ids := _ids(lie := self._lying())) != self._lie:
            self._moved = True
            self._note(walk(self._model), later=True)
            lie = self._lying()
            ids = _ids(lie)
        self._lie = ids
        return lie

    def _lying(self) -> list[list[nn.Parameter | None]]:
        """Return what lies in the places of each parameter now."""
        return [[self._at(path, attribute) for path, attribute, _ in places] for places in self._places.values()]

    def _untold(self, places: Sequence[Place], optimizers: Iterable[Optimizer]) -> bool:
        """Whether layers train others in the place of a parameter that is gone, and no optimizer holds them."""
        if any(own is places[0][2] for own in self._model.parameters()):
            return False
        told = _all_held(optimizers)
        for path, _, _ in places:
            layer = _layer(path)
            module, (before, names) = self._module(layer), self._layers[".".join(layer)]
            if module is None:
                continue
            if module is before():
                gained = [p for name, p in _own(module).items() if p.requires_grad and name not in names]
                if any(id(p) not in told for p in gained):
                    return True
            # Of another module a part may be left as it is on purpose.
            elif (others := [p for p in module.parameters() if p.requires_grad]) and told.isdisjoint(map(id, others)):
                return True
        return False

    def _computes_otherwise(self, path: list[str]) -> bool:
        """Whether a layer computes a weight by more parametrizations than before, or by fewer."""
        ways = self._ways.get(".".join(path))
        module = self._module(path) if ways is not None else None
        return isinstance(module, ParametrizationList) and len(module) != ways

    def _at(self, path: list[str], attribute: str) -> nn.Parameter | None:
        """Return what lies in a place now; None where there is no such place any more."""
        module = self._module(path)
        return dict(module._parameters.items()).get(attribute) if module is not None else None

    def _not_held(self, path: list[str], attribute: str, parameter: nn.Parameter) -> bool:
        """Whether a layer has another weight in a place of a parameter, or computes one in which zeros are lost."""
        besides = self._besides[".".join(path)]
        if (layer := _layer(path)) != path:
            path, attribute = layer, path[-1]
        module = self._module(path)
        if module is None:
            return False
        if all(own is not parameter for own in module.parameters()):
            # A layer that is gone needs no mask; one that has gained a parameter by another name has put it in the
            # place of the one that is gone (remove_weight_norm: `weight` in that of `weight_g` and `weight_v`), and so
            # has another layer (a Sequential with a new one).
            another = module is not self._layers[".".join(path)][0]()
            gained = not _names_in(module) <= besides or (another and any(p.requires_grad for p in module.parameters()))
            moved = any(own is parameter for own in self._model.parameters())  # elsewhere its mask holds as before
            return _has(module, attribute) or (gained and not moved)
        if not _has(module, attribute):
            return False
        ways = getattr(module, "parametrizations", None)
        if not isinstance(ways, nn.ModuleDict) or attribute not in ways:
            return False
        return kind_of(ways[attribute], "original", parameter, module, attribute).refused

    def _module(self, path: list[str]) -> nn.Module | None:
        module: nn.Module | None = self._model
        for part in path:  # TorchScript's dictionaries have no get
            module = dict(module._modules.items()).get(part) if module is not None else None
        return module


def refuse_shape(name: str, parameter: Tensor, mask: Tensor) -> None:
    """Refuse a parameter that has another shape than its mask.

    Raises:
        OptimizerError: it has.
    """
    if parameter.shape != mask.shape:  # else a mask of one row would be taken for one of all rows
        raise OptimizerError(
            f"'{name}' has shape {tuple(parameter.shape)} now and had {tuple(mask.shape)} when the phase began: "
            "its mask does not fit. Change layers in a dense phase, or make a new DSD after close(release=False) of "
            "this one"
        )


def _replaced(name: str) -> OptimizerError:
    return OptimizerError(
        f"'{name}' of the model is another parameter than before (by load_state_dict(assign=True), a new layer, "
        "weight_norm or a conversion), and no optimizer holds it: it is neither trained nor masked. Make the optimizer "
        "and then redense's object after the change, or load values into the parameter"
    )


def _layer(path: list[str]) -> list[str]:
    """Return the path of the layer that a module belongs to which holds what a weight is computed from."""
    return path[:-2] if path[-2:-1] == ["parametrizations"] else path


def _own(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return a layer's own parameters, and those that it computes them from."""
    own = {name: parameter for name, parameter in module._parameters.items() if parameter is not None}
    ways = dict(module._modules.items()).get("parametrizations")
    return own if ways is None else own | {f"parametrizations.{name}": p for name, p in ways.named_parameters()}


def _has(module: nn.Module, attribute: str) -> bool:
    """Whether a module has something by a name, without computing it: spectral_norm takes a step at each look."""
    known = (module._parameters, module._buffers, module._modules)
    return any(attribute in each for each in known) or inspect.getattr_static(module, attribute, None) is not None


def _ids(lie: list[list[nn.Parameter | None]]) -> list[int]:
    return [id(parameter) for at in lie for parameter in at]


def _names_in(module: nn.Module) -> set[str]:
    return {name for name, parameter in module._parameters.items() if parameter is not None}


def _all_held(optimizers: Iterable[Optimizer]) -> set[int]:
    return set[int]().union(*map(held, optimizers))
