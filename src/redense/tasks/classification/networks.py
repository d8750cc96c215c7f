"""The networks of torchvision and timm by name, for images of any number of channels and any number of classes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from redense.errors import DataError, MissingExtraError, RecipeError, nearest
from redense.optional.extras import refuse_folder
from redense.optional.torchvision import make_importable
from redense.tasks.graphs import Graph

from .config import ImageModel
from .vision import torchvision

TRANSFORM_INPUT = ("googlenet", "inception_v3")
"""The models whose pretrained weights of torchvision expect the input scaled otherwise."""

# What the loss of an auxiliary head counts: Szegedy et al. 2015, section 5, and torchvision's reference training.
_AUXILIARY = {"GoogLeNetOutputs": 0.3, "InceptionOutputs": 0.4}


def build(config: ImageModel, shape: tuple[int, int, int], classes: int, *, known: Sequence[str] = ()) -> nn.Module:
    """Return torchvision's network of a name, or timm's of ``timm/NAME``, freshly initialised.

    The first convolution is made for the images' channels. GoogLeNet and Inception have their auxiliary heads.

    Args:
        config: names the network.
        shape: channels, height, width of an image.
        classes: how many.
        known: further names, for the message about an unknown one.

    Raises:
        RecipeError: no network is called so, it has no dropout layer to set, or cannot take images of this size.
        MissingExtraError: the library is not installed.
    """
    library = _timm if config.name.startswith("timm/") else _torchvision
    make = partial(library, config, shape[0], classes, known)
    network = make()
    if config.dropout is not None:
        _set_dropout(network, config)
    _refuse_unfit(make, config, shape)
    return network


def split_heads(outputs: Any) -> tuple[Tensor, list[Tensor], float]:
    """Return the logits, those of the auxiliary heads, and what their losses count, of a network in training."""
    if isinstance(outputs, Tensor):
        return outputs, [], 0.0
    logits, *others = outputs
    return logits, [head for head in others if head is not None], _AUXILIARY.get(type(outputs).__name__, 0.3)


def pretrained(config: ImageModel, weights: str) -> dict[str, Tensor]:
    """Return the pretrained weights of a network: ``torchvision:IMAGENET1K_V1``, or ``timm:pretrained``.

    Raises:
        RecipeError: there are no such weights for the network.
        DataError: they cannot be downloaded.
    """
    library, _, name = weights.partition(":")
    if library == "timm":
        return _timm_weights(config, name)
    models = torchvision().models
    if config.name not in models.list_models(module=models):
        raise RecipeError(f"start {weights}: torchvision has no weights of '{config.name}'")
    known = {member.name: member for member in models.get_model_weights(config.name)}
    if name == "DEFAULT":
        name = models.get_model_weights(config.name).DEFAULT.name
    if name not in known:
        raise RecipeError(f"start {weights}: {config.name} has {', '.join(known)}{nearest(name, known)}")
    if config.name in TRANSFORM_INPUT and not config.transform_input:
        raise RecipeError(f"start {weights}: these weights of {config.name} need model.transform_input: true")
    try:
        return dict(known[name].get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"start {weights}: cannot download {known[name].url} ({' '.join(str(error).split())[:200]}); "
            "download it yourself and give the file as start"
        ) from error


def scale_of(network: str, weights: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and the deviation, of pixels from 0 to 1, that a library's weights saw pictures normalised by.

    Args:
        network: as ``model.name`` names it.
        weights: ``torchvision:NAME`` or ``timm:TAG``; of anything else a network of timm has its usual ones, and what
            torchvision's saw is not known: None.

    Raises:
        MissingExtraError: the library is not installed.
    """
    library, _, tag = weights.partition(":")
    name = network.removeprefix("timm/")
    if name != network:
        usual = library != "timm" or tag in ("", "pretrained")
        try:
            known: Any = _import_timm().get_pretrained_cfg(name if usual else f"{name}.{tag}")
        except RuntimeError:  # there is no such tag, which who loads the weights says
            return None
    elif library == "torchvision" and network in (models := torchvision().models).list_models(module=models):
        member = models.get_model_weights(network).__members__.get(tag)
        known = member and member.transforms()
    else:
        known = None
    return None if known is None else (tuple(known.mean), tuple(known.std))


def replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels, freshly initialised, all else alike, in place."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
            new = nn.Conv2d(channels, module.out_channels, *settings, bias=module.bias is not None)  # pyright: ignore[reportArgumentType]  # sizes are tuples
            if not module.weight.is_meta:
                std = float(module.weight.detach().std())
                nn.init.normal_(new.weight, std=std * (module.in_channels / channels) ** 0.5)
                if new.bias is not None and module.bias is not None:
                    new.bias.data.copy_(module.bias.data)
            network.set_submodule(name, new)
            return


def _torchvision(config: ImageModel, channels: int, classes: int, known: Sequence[str]) -> nn.Module:
    models = torchvision().models
    names = models.list_models(module=models)
    if config.name not in names:
        raise RecipeError(
            f"model.name: no network is called '{config.name}'{nearest(config.name, [*known, *names])} "
            f"(own: {', '.join(known)}; torchvision's classification models; timm/NAME)"
        )
    settings: dict[str, Any] = {}
    if config.name in TRANSFORM_INPUT:
        settings = {"aux_logits": True, "init_weights": True, "transform_input": config.transform_input}
    network = models.get_model(config.name, weights=None, num_classes=classes, **settings)
    if channels != 3:
        if config.transform_input:
            raise RecipeError(f"model.transform_input needs images of 3 channels, got {channels}")
        replace_first_convolution(network, channels)
    return network


def _timm(config: ImageModel, channels: int, classes: int, known: Sequence[str]) -> nn.Module:
    timm, name = _import_timm(), config.name.removeprefix("timm/")
    if not timm.is_model(name):
        raise RecipeError(f"model.name: timm has no model '{name}'{nearest(name, timm.list_models())}")
    return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)


def _timm_weights(config: ImageModel, tag: str) -> dict[str, Tensor]:
    name = config.name.removeprefix("timm/")
    if name == config.name:
        raise RecipeError(f"start timm:{tag} is for a network timm/NAME, not {config.name}")
    full = name if tag in ("", "pretrained") else f"{name}.{tag}"
    try:
        return _import_timm().create_model(full, pretrained=True).state_dict()
    except Exception as error:  # timm raises what the hub's client raises
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"start timm:{tag}: cannot get the weights of {full} ({reason})") from error


def _import_timm() -> Any:
    make_importable()
    try:
        import timm

        refuse_folder(timm)
    except ImportError as error:
        raise MissingExtraError("timm/NAME needs timm: pip install 'redense[timm]'") from error
    return timm


def _set_dropout(network: nn.Module, config: ImageModel) -> None:
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    if not layers:
        raise RecipeError(f"model.dropout: {config.name} has no dropout layer")
    for layer in layers:
        layer.p = float(config.dropout or 0.0)


def _refuse_unfit(make: Callable[[], nn.Module], config: ImageModel, shape: tuple[int, int, int]) -> None:
    """Run one image through the network's shapes alone: an image that is too small is found before training."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sketch = make().eval()
        try:
            sketch(torch.empty(2, *shape))
        except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
            raise RecipeError(
                f"{config.name} cannot take images of {' x '.join(map(str, shape))} (channels, height, width): set "
                f"data.size to what it was made for, often 224 ({' '.join(str(error).split())[:160]})"
            ) from None


def graphs(network: nn.Module, images: Tensor, classes: int) -> list[Graph]:
    """Return the network as a graph.

    Args:
        network: in evaluation mode.
        images: to compare on, (b, c, h, w).
        classes: how many.
    """
    c, h, w = images.shape[1:]
    about = f"normalised images (batch, {c}, {h}, {w}) to logits (batch, {classes})"
    logits = OnlyLogits(network)
    return [Graph("model", logits, logits, {"images": {0: "batch"}}, ("logits",), [(images,), (images[:1],)], about)]


class OnlyLogits(nn.Module):
    """A network without what it gives beside its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, c, h, w) to logits (b, classes)."""
        return split_heads(self.network(images))[0]
