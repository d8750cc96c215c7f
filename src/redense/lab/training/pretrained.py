"""Trained weights to start from, in place of the first dense phase: a file, a run folder, or a library's weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from redense.errors import RecipeError, StateError, nearest
from redense.files.checksums import check_folder, remembered_sum
from redense.files.opening import at_home
from redense.lab.checkpoint import is_tree, load_tree
from redense.lab.recipe.recipe import Recipe
from redense.lab.recipe.sections import TuneRecipe
from redense.layers.names import clean_name
from redense.tasks import catalog
from redense.tasks.classification.normalisation import IMAGENET
from redense.tasks.classification.renaming import to_timm
from redense.tasks.weights import read_weights, verify_finite, verify_kinds

_LIBRARY = re.compile(r"(torchvision|timm):.*")
_LEVELS = 0.5  # of 255: so far apart two means are one
_NESTED = ("state_dict", "model", "model_state_dict")  # where training scripts keep the weights in a checkpoint


def start_digest(start: str) -> str:
    """Return what tells the weights of a recipe's ``start`` from others: sha256 of the file; a library's name as it is.

    Raises:
        StateError: there is no such file.
    """
    if _LIBRARY.fullmatch(start):
        return start
    if known := _fetched_by_name(start):
        return known.files[0].sha256  # which is that of the file, if it is there
    return remembered_sum(_file(start))


def start_used(recipe: Recipe) -> dict[str, str]:
    """Return the digest of the weights that a recipe starts from, by what they are; nothing where it starts anew.

    Raises:
        StateError: there is no such file.
    """
    return {f"start ({recipe.start})": start_digest(recipe.start)} if recipe.start else {}


def to_be_fetched(start: str | None) -> str:
    """Return a sentence where a recipe's ``start`` is weights that have a name and are not on this machine yet."""
    source = _fetched_by_name(start or "")
    if source is None or catalog.locate(source):
        return ""
    return f"start {start} is not on this machine yet; get it with: redense data get {start}"


def heads_of(task: Any) -> frozenset[str]:
    """Return the names of the weights and buffers of a task's network whose shape is that of its classes."""
    names: Callable[[], frozenset[str]] | None = getattr(task, "heads", None)
    return names() if names else frozenset()


def tuned(recipe: Recipe, task: Any) -> tuple[Recipe, list[str]]:
    """Return the recipe that trains the first dense phase where its start is of other classes, and notes on the start.

    A network whose last layer is new stands for no trained one: without this, pruning would begin with its first
    guesses.

    Raises:
        StateError: the weights to start from cannot be read.
    """
    start, heads = recipe.start, heads_of(task)
    if not start:
        return recipe, []
    notes = _scale_notes(start, task)
    how = "trains from these weights" if recipe.tune else "is not trained: these weights stand in its place"
    said = [f"start {start}: the first dense phase {how}", *notes]
    if not heads:
        return recipe, said
    with torch.device("meta"):
        every = {name: value.shape for name, value in task.build_model().state_dict().items()}
    weights = _weights_of(start, getattr(task, "pretrained", None), every)
    own = {name: shape for name, shape in every.items() if name in heads}
    new = [name for name, shape in own.items() if name in weights and weights[name].shape != shape]
    if not new:
        return recipe, said
    before, after = weights[new[0]].shape[0], own[new[0]][0]
    layers = " and ".join(dict.fromkeys(name.rpartition(".")[0] for name in new))
    note = (
        f"start {start} is of {before:,} classes, here are {after:,}: the last layer ({layers}) is made anew, "
        "and the first dense phase trains from these weights"
    )
    return (recipe if recipe.tune else recipe.model_copy(update={"tune": TuneRecipe()})), [note, *notes]


def _scale_notes(start: str, task: Any) -> list[str]:
    """Say that the network learned on pictures that were normalised otherwise: it sees other numbers here."""
    known = task.start_scale(start) if hasattr(task, "start_scale") else None
    own = getattr(task, "scale", None)
    if known is None or own is None or all(map(_alike, known, own)):
        return []
    usual = {"imagenet": IMAGENET, "half": ((0.5,) * 3, (0.5,) * 3)}
    ways = [f": give --data.normalize {name}" for name, way in usual.items() if _said(known) == _said(way, 1)]
    return [
        f"start {start} learned on pictures normalised by {_said(known)}, here they are by {_said(own)}"
        f"{''.join(ways) or ', so that its layers see other numbers'}"
    ]


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() < _LEVELS)


def _said(scale: Iterable[Any], top: float = 255) -> str:
    """Return mean and deviation of pixels from 0 to 1, as people write them."""
    mean, std = (" ".join(f"{float(value) / top:.3f}" for value in torch.as_tensor(part).flatten()) for part in scale)
    return f"mean {mean} and deviation {std}"


def load_start_(
    model: nn.Module,
    start: str,
    pretrained: Callable[[str], Mapping[str, Tensor]] | None,
    heads: Collection[str] = (),
    may_be_new: Collection[str] = (),
) -> None:
    """Load the weights of a recipe's ``start`` into a model, in place; every name and shape must fit.

    Args:
        model: freshly built.
        start: a ``.safetensors`` file of weights, a checkpoint of a run, a file of ``torch.save``, a run folder,
            weights that `redense data get` fetches by name, ``torchvision:NAME`` or ``timm:TAG``.
        pretrained: gives the weights of a library, for tasks that have some.
        heads: names of the weights whose shape is that of the classes.
        may_be_new: those of them that stay as they are where the shape is another.

    Raises:
        RecipeError: the weights are of another network.
        StateError: the file cannot be read, holds more than weights, or numbers that are not finite or no weights.
    """
    own = model.state_dict()
    found = _weights_of(start, pretrained, own)
    missing = [name for name in own if name not in found]
    unknown = [name for name in found if name not in own]
    other = [name for name in own if name in found and found[name].shape != own[name].shape]
    wrong = [name for name in other if name not in may_be_new]
    if missing or unknown or wrong:
        hint = ""
        if not missing and not unknown and set(wrong) <= set(heads):
            hint = "; give --tune.backbone_lr 1: then the last layer is made anew, and the dense phase trains from them"
        raise RecipeError(
            f"start {start} is of another network: {_differences(own, found, missing, unknown, wrong)}{hint}"
        )
    verify_kinds(found, own, f"start {start}")
    try:
        model.load_state_dict({name: own[name] if name in other else found[name] for name in own})
    except (RuntimeError, NotImplementedError) as error:  # sparse tensors, or some without values
        reason = " ".join(str(error).split())[:160]
        raise StateError(f"start {start} holds weights that cannot be copied ({reason}): save them as dense") from None
    verify_finite(model.state_dict(), f"start {start}")


def _weights_of(
    start: str, pretrained: Callable[[str], Mapping[str, Tensor]] | None, own: Collection[str]
) -> dict[str, Tensor]:
    if _LIBRARY.fullmatch(start):
        if pretrained is None:
            raise RecipeError(f"start {start}: this task has no pretrained networks; give a file or a run folder")
        weights = pretrained(start)
    else:
        weights = _read(_file(start))
    names: dict[str, str] = {}
    for name, tensor in weights.items():
        other = weights[first := names.setdefault(_plain(name), name)]
        if first != name and not (other.dtype == tensor.dtype and torch.equal(other, tensor)):
            raise RecipeError(f"start {start} holds '{first}' and '{name}', which are one here: keep one of them")
    return to_timm({plain: weights[name] for plain, name in names.items()}, own)


def _fetched_by_name(start: str) -> catalog.Source | None:
    """Return the weights that `redense data get` fetches under a name, where no file here is called so."""
    source = catalog.SOURCES.get(start)
    return source if source and source.weights and not Path(start).exists() else None


def _file(start: str) -> Path:
    path = at_home(start)
    if known := _fetched_by_name(start):
        return catalog.check(known) / known.files[0].name
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.is_file():
            raise StateError(f"start {start} is no finished run: it has no model.safetensors")
        check_folder(path.parent)
    if not path.is_file():
        raise StateError(f"start {start}: no such file (a file, a run folder, or torchvision:IMAGENET1K_V1)")
    return path


def _read(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError

    if path.suffix == ".safetensors":
        try:
            if is_tree(path):  # a phase's checkpoint of a run
                return _weights(load_tree(path)["model"], path)
            return read_weights(path)
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise StateError(f"start {path} is damaged or no safetensors file ({error})") from None
    try:
        loaded: Any = read_weights(path)
    except Exception as error:  # torch.load raises a dozen kinds for a file that is none
        reason = " ".join(str(error).split())[:160]
        raise StateError(
            f"start {path} cannot be read as weights alone ({reason}): save it again with "
            "torch.save(model.state_dict(), ...) or as safetensors"
        ) from error
    for name in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(cast("Mapping[str, Any]", loaded).get(name), Mapping):
            loaded = loaded[name]
            break
    return _weights(loaded, path)


def _weights(loaded: Any, path: Path) -> Mapping[str, Tensor]:
    named = isinstance(loaded, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in cast("Mapping[Any, Any]", loaded).items()
    )
    if not named or not loaded:
        raise StateError(f"start {path} holds no state dict: expected names and tensors")
    return cast("Mapping[str, Tensor]", loaded)


def _plain(name: str) -> str:
    return clean_name(name).removeprefix("module.")


def _differences(
    own: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    missing: list[str],
    unknown: list[str],
    wrong: list[str],
) -> str:
    parts: list[str] = []
    if missing:
        parts.append(f"it has no '{missing[0]}'{nearest(missing[0], unknown)}{_more(missing)}")
    if unknown:
        parts.append(f"the network has no '{unknown[0]}'{_more(unknown)}")
    if wrong:
        name = wrong[0]
        parts.append(f"'{name}' is {tuple(found[name].shape)}, expected {tuple(own[name].shape)}{_more(wrong)}")
    return "; ".join(parts)


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
