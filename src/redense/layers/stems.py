"""The layers that read the input: they are left dense, because an image's few channels make them very sensitive.

The paper leaves its networks' first convolution dense (Han et al. 2017, section 3). Where an example input is given,
the forward is traced and the layers that multiply it are the ones. Where none is, shapes tell: images and sounds have
one to four channels, and what reads features has a number of channels that no other layer gives.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import nn

from .classes import is_a
from .kinds import CONVOLUTIONS, TRANSPOSED
from .names import Modules

_FEW = 4  # channels of an image or a sound: grey or mono, with alpha, RGB or YUV, RGB with depth or alpha
_SIDE = 4  # pixels of the smallest patch
_PATCH = re.compile(r"patch|^embeds$")
_PATCH_EMBEDDING = re.compile(r"embed|proj|patchify|conv|(^|_)patch(es)?$")
_EMBEDDING = frozenset(("embed", "embedding", "stem", "to_embedding"))
_NO_PATCH_EMBEDDING = re.compile(r"unembed|merg|expand|pred|unpatch")


def stems_by_shape(modules: Modules) -> dict[nn.Module, str]:
    """Return the layers that read the input as their shapes tell: module -> why.

    - convolutions of one to four channels into more, except those that a layer of their block gives their channels, as
      in squeeze and excitation, and those of four that any layer gives where others read fewer;
    - where a model has none for signals of that dimension: the first convolution whose channels no other layer gives;
    - where it has none at all: the first layer, if it is a convolution;
    - linear layers that embed patches, known by their names.
    """
    convolutions = {path: cast("Any", m) for path, m in modules if is_a(m, CONVOLUTIONS)}
    fed = _fed_by_a_sibling(modules)
    few = [m for m in convolutions.values() if _widens(m) and m.in_channels <= _FEW]
    few = [m for m in few if m not in fed] or few
    given = _widths(modules)
    few = [m for m in few if m.in_channels < _FEW or not given[_FEW]] or few  # four may be inside, three never are
    found = {cast("nn.Module", m): f"reads the input: {_channels(m.in_channels)}" for m in few}
    maps = {m.out_features for _, m in modules if is_a(m, nn.Linear)}  # which a decoder folds into channels
    done = {_kind(m) for m in few}
    for m in convolutions.values():
        if _kind(m) in done or m.groups != 1 or m.in_channels <= _FEW:
            continue
        others = given[m.in_channels] - (m.out_channels == m.in_channels)
        if others or (is_a(m, TRANSPOSED) and any(width % m.in_channels == 0 for width in maps)):
            continue
        found[m] = f"reads the input: {_channels(m.in_channels)}, which no other layer gives"
        done.add(_kind(m))
    found.update(_patch_embeddings(modules, found, given))
    if not found:
        first = next((m for _, m in modules if is_a(m, (*CONVOLUTIONS, nn.Linear, nn.Embedding, nn.RNNBase))), None)
        if first is not None and is_a(first, CONVOLUTIONS) and not is_a(first, TRANSPOSED) and first.groups == 1:
            found[first] = "reads the input: the first layer"
    return found


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count > 1 else ''}"


def _kind(module: nn.Module) -> tuple[bool, int]:
    return is_a(module, TRANSPOSED), len(cast("Any", module).kernel_size)


def _widens(module: Any) -> bool:
    return not is_a(module, TRANSPOSED) and module.out_channels > module.in_channels


def _out(module: nn.Module) -> int | None:
    if is_a(module, CONVOLUTIONS):
        return None if module.groups == module.in_channels > 1 else module.out_channels  # depthwise: it passes on
    return module.out_features if is_a(module, nn.Linear) else None


def _fed_by_a_sibling(modules: Modules) -> set[nn.Module]:
    """Return the convolutions whose channels are what a layer before them in the same block gives."""
    alone = Counter(path.rpartition(".")[0] for path, module in modules if _out(module) is not None)
    given, fed = dict[str, set[int]](), set[nn.Module]()
    for path, module in modules:
        width = _out(module)
        if width is None:
            continue
        block = path.rpartition(".")[0]
        if alone[block] == 1:  # a convolution with its normalisation and activation
            block = block.rpartition(".")[0]
        before = given.setdefault(block, set())
        if is_a(module, CONVOLUTIONS) and module.in_channels in before:
            fed.add(module)
        before.add(width)
    return fed


def _widths(modules: Modules) -> Counter[int]:
    """Count what the layers give: output channels and features, sizes of embeddings and of recurrent layers."""
    widths = Counter[int]()
    for _, module in modules:
        width = _out(module)
        if width is not None:
            widths[width] += 1
        elif is_a(module, (nn.Embedding, nn.EmbeddingBag)):
            widths[module.embedding_dim] += 1
        elif is_a(module, nn.RNNBase):
            size = module.proj_size or module.hidden_size
            widths[size * (2 if module.bidirectional else 1)] += 1
        elif is_a(module, nn.LayerNorm):  # what is normalised was given by a layer, or by a parameter
            widths[module.normalized_shape[-1]] += 1
    return widths


def _patch_embeddings(
    modules: Modules, found: Mapping[nn.Module, str], given: Counter[int]
) -> Iterator[tuple[nn.Module, str]]:
    """Give the linear layers that embed patches: the first one in a module called after that, if no convolution is."""
    paths = {id(module): path for path, module in modules}
    taken = [paths[id(module)] for module in found]
    for path, module in modules:
        if not is_a(module, nn.Linear):
            continue
        parts = path.lower().split(".")
        at = next((i for i, part in enumerate(parts) if _PATCH.search(part)), None)
        if at is None:
            # Under a more general name, only what is as wide as a square patch of an image and is fed by no layer.
            if parts[-1] in _EMBEDDING and _is_patch(module.in_features) and not given[module.in_features]:
                yield module, "reads the input: embeds patches, by its name and width"
            continue
        name, place = ".".join(parts[at:]), ".".join(path.split(".")[: at + 1])
        if not _PATCH_EMBEDDING.search(name) or _NO_PATCH_EMBEDDING.search(name):
            continue
        if any(other == place or other.startswith(f"{place}.") for other in taken):
            continue
        taken.append(path)
        yield module, "reads the input: embeds patches, by its name"


def _is_patch(width: int) -> bool:
    sides = [math.isqrt(width // channels) for channels in (1, 3, _FEW) if width % channels == 0]
    return any(side >= _SIDE and width in (side**2, 3 * side**2, _FEW * side**2) for side in sides)
