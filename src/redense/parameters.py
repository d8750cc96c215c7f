"""Which parameters are pruned, by what rule, and how sparse they are now."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn
from torch.nn.parameter import UninitializedParameter

from .errors import ParameterError, nearest
from .masks import check_storage
from .sharding import refuse_flattened, refuse_fsdp1, sparsity_of

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
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

# What wrappers put in front of, or into, the names of the module they wrap.
_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
}
_WRAPPER_PARTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class Row:
    """One parameter of a `Summary`: ``reason`` says why it is pruned or not."""

    name: str
    shape: tuple[int, ...]
    weights: int
    prunable: bool
    reason: str
    sparsity: float


@dataclass(frozen=True)
class Summary:
    """A model's parameters and what is pruned of them; print it."""

    rows: tuple[Row, ...]

    @property
    def weights(self) -> int:
        """Number of weights of the whole model, tied ones once."""
        return sum(row.weights for row in self.rows)

    @property
    def prunable_weights(self) -> int:
        """Number of weights that pruning chooses from."""
        return sum(row.weights for row in self.rows if row.prunable)

    def __str__(self) -> str:
        head = ("name", "shape", "weights", "pruned", "sparsity", "why")
        body = [
            (
                row.name,
                " x ".join(map(str, row.shape)) or "scalar",
                f"{row.weights:,}",
                "yes" if row.prunable else "no",
                f"{row.sparsity:.2%}" if row.prunable else "-",
                row.reason,
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(5)]
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[5]]) for line in [head, *body]
        ]
        share = self.prunable_weights / self.weights if self.weights else 0.0
        lines.append(f"{self.prunable_weights:,} of {self.weights:,} weights can be pruned ({share:.1%})")
        return "\n".join(line.rstrip() for line in lines)


def summary(
    model: nn.Module, *, include: str | Sequence[str] | None = None, exclude: str | Sequence[str] = ()
) -> Summary:
    """Show which parameters pruning would choose from, why, and how sparse each is now.

    Args:
        model: any module, wrapped (DDP, ``torch.compile``) or not.
        include: as in `prunable`.
        exclude: as in `prunable`.

    Raises:
        ParameterError: a pattern matches no parameter.

    >>> print(summary(nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))))
    name      shape  weights  pruned  sparsity  why
    0.weight  2 x 4  8        yes     0.00%     linear
    0.bias    2      2        no      -         a bias
    1.weight  2      2        no      -         a normalisation
    1.bias    2      2        no      -         a normalisation
    8 of 14 weights can be pruned (57.1%)
    """
    verdicts = _verdicts(model, include, exclude)
    rows = tuple(
        Row(
            name,
            tuple(parameter.shape),
            parameter.numel(),
            chosen,
            reason,
            0.0 if parameter.is_meta else sparsity_of(parameter),
        )
        for name, parameter, chosen, reason in verdicts
    )
    return Summary(rows)


def prunable(
    model: nn.Module, *, include: str | Sequence[str] | None = None, exclude: str | Sequence[str] = ()
) -> dict[str, nn.Parameter]:
    """Return the parameters that pruning chooses from: name in the state dict -> parameter.

    The rule: weights of convolution, linear, recurrent and attention layers; never biases, normalisations or
    embeddings; not the first convolution, which reads the image and is very sensitive (Han et al. 2017, section 3).
    Tied weights are listed once, under their first name; one that an embedding shares is an embedding. Frozen
    parameters (``requires_grad=False``) are left alone.

    Args:
        model: any module; prefixes of DDP and ``torch.compile`` are stripped from the names.
        include: names or shell patterns. A pattern selects among what the rule finds; an exact name is taken
            whatever the rule says, for example the first convolution or a matrix of a layer of your own.
        exclude: names or shell patterns to leave out.

    Raises:
        ParameterError: a pattern or name matches no parameter, or a chosen one has no storage.

    >>> list(prunable(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))))
    ['1.weight']
    """
    chosen = {name: parameter for name, parameter, yes, _ in _verdicts(model, include, exclude) if yes}
    for name, parameter in chosen.items():
        check_storage(name, parameter)
    return chosen


def first_convolution(model: nn.Module) -> str | None:
    """Return the name of the first convolution's weight, which `prunable` leaves out; None if there is none.

    >>> first_convolution(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)))
    '0.weight'
    """
    module = _first_convolution(unwrap(model))
    return next((name for name, (_, places) in _owners(unwrap(model)).items() if (module, "weight") in places), None)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the user's own module under DDP, DataParallel, FSDP and ``torch.compile`` wrappers."""
    inner: object = model
    while isinstance(inner, nn.Module):
        model = inner
        refuse_fsdp1(model)
        inner = getattr(model, _WRAPPERS.get(type(model).__name__, ""), None)
    return model


def _verdicts(
    model: nn.Module, include: str | Sequence[str] | None, exclude: str | Sequence[str]
) -> Iterator[tuple[str, nn.Parameter, bool, str]]:
    model = unwrap(model)
    refuse_flattened(model)
    owners = _owners(model)
    names = list(owners)
    wanted = None if include is None else _patterns(include)
    unwanted = _patterns(exclude)
    included, excluded = _all_matching("include", wanted or (), names), _all_matching("exclude", unwanted, names)
    first = _first_convolution(model)
    for name, (parameter, places) in owners.items():
        if isinstance(parameter, UninitializedParameter):
            raise ParameterError(f"'{name}' is not initialised yet: run one batch through the lazy module first")
        chosen, reason = _rule(parameter, places, first)
        if wanted is not None:
            if name in wanted:
                chosen, reason = _by_name(name, parameter)
            elif chosen and name not in included:
                chosen, reason = False, "not included"
        if chosen and name in excluded:
            chosen, reason = False, "excluded"
        yield name, parameter, chosen, reason


def _first_convolution(model: nn.Module) -> nn.Module | None:
    return next((m for m in model.modules() if isinstance(m, _CONVOLUTIONS)), None)


def _owners(model: nn.Module) -> dict[str, tuple[nn.Parameter, list[tuple[nn.Module, str]]]]:
    """Each parameter once, under its first name, with every (module, attribute) that uses it."""
    names: dict[int, str] = {}
    owners: dict[str, tuple[nn.Parameter, list[tuple[nn.Module, str]]]] = {}
    for path, module in cast("Iterable[tuple[str, nn.Module]]", model.named_modules()):
        for attribute, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in names:
                name = clean_name(f"{path}.{attribute}" if path else attribute)
                names[id(parameter)] = name
                owners[name] = (parameter, [])
            owners[names[id(parameter)]][1].append((module, attribute))
    return owners


def clean_name(name: str) -> str:
    """Return a parameter's name without the parts that compile, FSDP and checkpoint wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPER_PARTS)


def _rule(
    parameter: nn.Parameter, places: list[tuple[nn.Module, str]], first_convolution: nn.Module | None
) -> tuple[bool, str]:
    kinds = [_kind(module, attribute) for module, attribute in places]
    # Tied weights have several kinds: the most careful one decides.
    refused = next((reason for chosen, reason in kinds if not chosen), None)
    if refused:
        return False, refused
    if not parameter.is_floating_point():
        return False, f"not floating-point ({parameter.dtype})"
    if not parameter.requires_grad:
        return False, "frozen"
    if any(module is first_convolution for module, _ in places):
        return False, "the first convolution"
    return True, kinds[0][1]


def _kind(module: nn.Module, attribute: str) -> tuple[bool, str]:
    if isinstance(module, _EMBEDDINGS):
        return False, "an embedding"
    if isinstance(module, _NORMS) or type(module).__name__.endswith("Norm"):
        return False, "a normalisation"
    if "bias" in attribute:
        return False, "a bias"
    if isinstance(module, _RECURRENT) and attribute.startswith("weight"):
        return True, "recurrent"
    if isinstance(module, _CONVOLUTIONS) and attribute == "weight":
        return True, "convolution"
    if isinstance(module, (nn.Linear, nn.Bilinear)) and attribute == "weight":
        return True, "linear"
    if isinstance(module, nn.MultiheadAttention) and attribute in _ATTENTION_WEIGHTS:
        return True, "attention"
    if (
        any(cls.__name__ == "Conv1D" for cls in type(module).__mro__) and attribute == "weight"
    ):  # GPT-2's linear layer in transformers
        return True, "linear"
    return False, f"of a {type(module).__name__}, which no rule covers: include it by name"


def _by_name(name: str, parameter: nn.Parameter) -> tuple[bool, str]:
    if not parameter.is_floating_point():
        raise ParameterError(f"'{name}' must have a floating-point dtype to be pruned, got {parameter.dtype}")
    return True, "included by name"


def _patterns(patterns: str | Sequence[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def matching(pattern: str, names: Collection[str]) -> set[str]:
    """Return the names that a shell pattern stands for; one that is itself a name stands for no other.

    >>> sorted(matching("a[01]", ["a0", "a1", "b"])), sorted(matching("a[01]", ["a0", "a1", "a[01]"]))
    (['a0', 'a1'], ['a[01]'])
    """
    return {pattern} if pattern in names else {name for name in names if fnmatch.fnmatchcase(name, pattern)}


def _all_matching(what: str, patterns: Iterable[str], names: list[str]) -> set[str]:
    every = set[str]()
    for pattern in patterns:
        found = matching(pattern, names)
        if not found:
            raise ParameterError(f"{what} '{pattern}' matches no parameter of the model{nearest(pattern, names)}")
        every |= found
    return every
