"""The kind of a parameter in its layer: a matrix that is pruned, or something that stays dense, and the reason.

A matrix multiplies what comes in: the weights of linear, convolution, recurrent and attention layers, of experts, and
what a layer of another library calls a weight, a projection or a kernel. What is added, looked up or scaled with is
none: biases, embeddings, tokens, positions, queries, normalisations, vectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from .classes import class_of, is_a
from .probing import zeros_lost

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_NORMS = (
    nn.modules.batchnorm._NormBase,  # pyright: ignore[reportPrivateUsage]  # base of batch and instance norms
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")

# How layers of other libraries call what they keep; an attribute's words are tried from top to bottom.
_MATRIX = re.compile(r"(^|_)(weight|kernel|proj|projection|matrix)(_|$)|^[wW]\d*$")
_LOOKED_UP = re.compile(
    r"(^|_)(pos|position\w*|rel|relative|token\w*|embed\w*|emb|quer\w*|latents?|probe|prompt\w*|register\w*)(_|\d|$)"
)
_NORM_NAME = re.compile(r"Norm(Act)?(\dd)?$")
_STANDARDISED = re.compile(r"StdConv|ConvWS|WeightStandardi[sz]ed|^WS(Conv|Linear)")
# What peft keeps in a ParameterDict of this name, a matrix of each adapter: the first of an embedding is looked up, as
# the embedding is; the second multiplies what was found there, (outputs, rank). AdaLoRA keeps all of its own so.
_OF_ADAPTERS = {"lora_embedding_A": False, "lora_embedding_B": True, "lora_A": True, "lora_B": True}
NO_RULE = "no rule covers"


@dataclass(frozen=True)
class Kind:
    """The kind of a parameter in one place where it is used.

    Args:
        prunable: whether the rule prunes it.
        reason: why, or why not.
        inputs: the dimension along which the inputs of each output lie; None if that is not known.
        run: how many consecutive inputs belong together there; 0: all of them.
        refused: no mask could be held on it, so that it is not pruned by name either.
        unknown: a matrix by its shape, of which no rule says whether to prune it.
        rows: the dimension whose every slice must keep a weight; None if none must.
        effective: gives the weight of the same shape that the layer computes from it and uses; None: it is used itself.
    """

    prunable: bool
    reason: str
    inputs: int | None = None
    run: int = 0
    refused: bool = False
    unknown: bool = False
    rows: int | None = None
    effective: Callable[[], Tensor] | None = field(default=None, compare=False)


def kind_of(module: nn.Module, attribute: str, parameter: Tensor, parent: nn.Module | None, tensor: str) -> Kind:
    """Return what ``module.attribute`` is.

    Args:
        module: what holds the parameter itself.
        attribute: its name there.
        parameter: any shape.
        parent: under ``torch.nn.utils.parametrize``, the layer whose tensor is computed; else None.
        tensor: name of that tensor, for example ``weight``; of a ParameterDict, its own name.
    """
    if parent is not None:
        return _parametrized(cast("nn.ModuleList", module), attribute, parameter, parent, tensor)
    for suffix, old in (("_g", _norm_hook), ("_v", _norm_hook), ("_orig", _other_hook)):
        base = attribute.removesuffix(suffix)
        how = old(module, base) if base != attribute else None
        if how:
            kind = _computed(_plain(module, base, parameter), how, length=suffix == "_g", dim=_hook_dim(module, base))
            lengths = getattr(module, f"{base}_g", None)
            return _normed(kind, parameter, lengths, _hook_dim(module, base)) if suffix == "_v" else kind
    if isinstance(module, nn.ParameterDict) and tensor in _OF_ADAPTERS and parameter.dim() == 2:
        return Kind(True, "linear", inputs=1) if _OF_ADAPTERS[tensor] else Kind(False, "an embedding")
    return _plain(module, attribute, parameter)


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter has two dimensions at least that are longer than 1."""
    return sum(size > 1 for size in parameter.shape) > 1


def _plain(module: nn.Module, attribute: str, parameter: Tensor) -> Kind:
    if is_a(module, _EMBEDDINGS):
        return Kind(False, "an embedding")
    if is_a(module, _NORMS):
        return Kind(False, "a normalisation")
    if "bias" in attribute:
        return Kind(False, "a bias")
    if is_a(module, (*CONVOLUTIONS, nn.Linear)) and attribute == "weight":
        return _of_layer(module)
    if is_a(module, _RECURRENT) and attribute.startswith("weight"):
        return Kind(True, "recurrent", inputs=1)
    if is_a(module, nn.Bilinear) and attribute == "weight":
        return Kind(True, "linear", inputs=1)
    if is_a(module, nn.MultiheadAttention) and attribute in _ATTENTION_WEIGHTS:
        return Kind(True, "attention", inputs=1)
    if "Conv1D" in _names(module) and attribute == "weight":
        return Kind(True, "linear", inputs=0)  # GPT-2's linear layer in transformers: (in, out)
    return _by_name(module, attribute, parameter)


def _of_layer(module: nn.Module) -> Kind:
    """Judge the weight of a convolution or a linear layer, of PyTorch's class or of one that is derived from it."""
    name, convolution = _names(module)[0], is_a(module, CONVOLUTIONS)
    if convolution and any(_STANDARDISED.search(one) for one in _names(module)):  # also where nothing can be called
        return Kind(False, f"standardised by {name}, which undoes zeros", refused=True)
    if zeros_lost(module):
        return Kind(False, f"a weight is computed from it by {name}, which undoes zeros", refused=True)
    if is_a(module, TRANSPOSED):  # (in, out / groups, ...): an output sees the inputs of its group
        return Kind(True, "convolution", inputs=0, run=module.in_channels // module.groups)
    return Kind(True, "convolution" if convolution else "linear", inputs=1)


def _by_name(module: nn.Module, attribute: str, parameter: Tensor) -> Kind:
    """Judge a parameter of a class that is not PyTorch's by its shape and by what it is called."""
    name = next(iter(_names(module)), "")
    if _NORM_NAME.search(name):
        return Kind(False, "a normalisation")
    whose = f"of a {name}" if name else "of a layer whose class TorchScript or an export has lost"
    unknown = f"{whose}, which {NO_RULE}: include it by name"
    if not is_matrix(parameter):
        return Kind(False, unknown)
    called_so = _MATRIX.search(attribute) is not None
    if ("Embedding" in name and attribute == "weight") or (not called_so and _LOOKED_UP.search(attribute)):
        return Kind(False, "an embedding")
    if not name:
        return Kind(False, unknown, unknown=True)
    if "Expert" in name:
        return Kind(True, "experts", inputs=_inputs_of_experts(module, attribute, parameter))
    if called_so:
        known = parameter.dim() == 2 and name.endswith(("Linear", "Router"))  # (out, in), as torch's own
        return Kind(True, "a weight by its name", inputs=1 if known else None)
    if "Attention" in name and attribute in ("q", "k", "v", "o", "r"):  # XLNet: (inputs, heads, size), o the other way
        return Kind(True, "attention", inputs=None if attribute == "o" else 0)
    return Kind(False, unknown, unknown=True)


def _names(module: nn.Module) -> list[str]:
    """Return the names of a layer's class and of those that it is derived from; none where the class is lost."""
    found = class_of(module)
    return [] if found is None else [cls.__name__ for cls in found.__mro__]


def _inputs_of_experts(module: nn.Module, attribute: str, parameter: Tensor) -> int | None:
    """Return the dimension of the inputs of experts' weights: (experts, out, in), or (experts, in, out)."""
    if parameter.dim() != 3:
        return None
    transposed = getattr(module, "is_transposed", None)
    if isinstance(transposed, bool):
        return 1 if transposed else 2
    if attribute == "weight":  # of transformers' parallel experts, which calls linear with each
        return 2
    up, down = (getattr(module, name, None) for name in ("gate_up_proj", "down_proj"))
    if not isinstance(up, Tensor) or not isinstance(down, Tensor) or up.dim() != 3 or down.dim() != 3:
        return None
    # What goes in is as wide as what comes out; two gates are twice as wide as what is between.
    ways = {2: up.shape[2] == down.shape[1], 1: up.shape[1] == down.shape[2]}
    fits = [dimension for dimension, fit in ways.items() if fit]
    return fits[0] if len(fits) == 1 else None


# --- weights that are computed from others ----------------------------------------------------------------------------


def _parametrized(ways: nn.ModuleList, attribute: str, parameter: Tensor, parent: nn.Module, tensor: str) -> Kind:
    kinds = [type(way).__name__ if type(way).__module__.startswith("torch.nn.utils") else "" for way in ways]
    base = _plain(parent, tensor, parameter)
    if kinds == ["_WeightNorm"]:
        dim = cast("int | None", getattr(ways[0], "dim", 0))
        kind = _computed(base, "weight_norm", length=attribute == "original0", dim=dim)
        return _normed(kind, parameter, getattr(ways, "original0", None), dim)
    if kinds == ["_SpectralNorm"]:
        return _computed(base, "spectral_norm")
    return _computed(base, ", ".join(type(way).__name__ for way in ways), held=False)


def _computed(base: Kind, how: str, *, length: bool = False, held: bool = True, dim: int | None = None) -> Kind:
    """Return the kind of what a weight is computed from; in a direction or a scaled matrix zeros stay zeros."""
    if not base.prunable and not base.unknown:
        return base
    if length:
        return Kind(False, "the length of a weight under weight_norm", refused=True)
    if not held:
        return Kind(False, f"a weight is computed from it by {how}, which undoes zeros", refused=True)
    if base.unknown:
        return base
    rows = dim if how == "weight_norm" and dim is not None and dim >= 0 else None  # else one length for all of it
    return replace(base, reason=f"{base.reason} under {how}", rows=rows)


def _normed(kind: Kind, direction: Tensor, lengths: Tensor | None, dim: int | None) -> Kind:
    """Return the kind of a direction under weight_norm, whose weight is its lengths times itself over its length."""
    if not kind.prunable or lengths is None:
        return kind

    def weight() -> Tensor:
        with torch.no_grad():
            return cast("Any", torch)._weight_norm(direction, lengths, -1 if dim is None else dim)

    return replace(kind, effective=weight)


def _norm_hook(module: nn.Module, base: str) -> str | None:
    return "weight_norm" if _hook(module, base, "WeightNorm") is not None else None


def _hook_dim(module: nn.Module, base: str) -> int | None:
    return getattr(_hook(module, base, "WeightNorm"), "dim", None)


def _other_hook(module: nn.Module, base: str) -> str | None:
    return "spectral_norm" if _hook(module, base, "SpectralNorm") is not None else None


def _hook(module: nn.Module, base: str, kind: str) -> Callable[..., Any] | None:
    """Return the hook with which the older ``torch.nn.utils`` functions compute ``module.base``."""
    hooks = cast("dict[int, Any]", module._forward_pre_hooks)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    for hook in hooks.values():
        if type(hook).__name__ == kind and getattr(hook, "name", None) == base:
            return hook
    return None
