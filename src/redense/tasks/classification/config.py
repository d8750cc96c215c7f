"""What a recipe can say about the data and the network of image classification. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ImageData(BaseModel):
    """Where the images come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = Field(
        default=None,
        description="a folder, a name from `redense data list`, hub:OWNER/NAME, or nothing for the shipped sample",
    )
    validation: float = Field(default=0.1, gt=0, lt=1, description="part of the training images kept for validation")
    flip: bool = Field(default=False, description="mirror half of the training images")
    crop: int = Field(
        default=0, ge=0, le=16, description="pad training images by so many pixels and crop them back at random"
    )
    workers: int = Field(
        default=0, ge=0, le=64, description="processes that prepare batches; 0 is fastest for images in memory"
    )


class ImageModel(BaseModel):
    """Which network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        default="cnn",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$",
        description="cnn (3x3 convolutions, each pooled by 2), mlp, resnet20 and its kin for small images, vgg-small, "
        "squeezenet-small; any classification model of torchvision; timm/NAME",
    )
    widths: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        description="channels of convolutions or stages, or units of layers; torchvision's models have their own",
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="rate of every dropout layer; nothing: the network's own"
    )
    transform_input: bool = Field(
        default=False, description="googlenet and inception_v3 with torchvision's weights, which expect it"
    )
