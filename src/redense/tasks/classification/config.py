"""The settings of a recipe for the data and the network of image classification. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

WITHOUT_NORM = ("cnn", "mlp", "vgg-small", "squeezenet-small", "alexnet", "squeezenet1_0", "squeezenet1_1")
"""Networks that have no batch normalisation; the plain VGGs of torchvision have none either."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    # Younger than runs and stored phases: where it is not chosen, their keys and checksums are those of before.
    _younger: ClassVar[str] = ""

    @model_serializer(mode="wrap")
    def _unsaid(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if key != self._younger or value is not None}


class ExpectedData(_Settings):
    """The known facts of a set, so that a plan can be made where it is not at hand."""

    train: int = Field(gt=0, description="training images, before the validation split is taken from them")
    classes: int = Field(ge=2, description="of its labels")
    channels: Literal[1, 3] = Field(default=3, description="1: grey images; 3: colours")


class ImageData(_Settings):
    """The source of the images, and their processing."""

    _younger: ClassVar[str] = "channels"
    source: str | None = Field(
        default=None,
        description="a folder, a name from `redense data list`, hub:OWNER/NAME, or nothing for the shipped sample",
    )
    label: str | None = Field(
        default=None, description="the column of the classes, where a table has several; cifar-100: fine or coarse"
    )
    validation: float = Field(default=0.1, gt=0, lt=1, description="part of the training images kept for validation")
    limit: int | None = Field(default=None, ge=1, description="only so many training images, for a trial")
    label_noise: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="part of the training labels that are drawn anew at random, the right one too; for experiments",
    )
    size: int | None = Field(
        default=None, ge=8, le=1024, description="height and width of the network's images; nothing: as they are"
    )
    resize: int | None = Field(
        default=None,
        ge=8,
        le=2048,
        description="their shorter side before the middle is cut out; nothing: 8/7 of size, 256 for 224",
    )
    augment: Literal["none", "scale-aspect", "trivial"] = Field(
        default="none",
        description="scale-aspect: of each training image a random part of 8 to 100 %, 3:4 to 4:3, mirrored or not; "
        "trivial: TrivialAugment, one random operation an image",
    )
    flip: bool = Field(default=False, description="mirror half of the training images")
    crop: int = Field(
        default=0, ge=0, le=16, description="pad training images by so many pixels and crop them back at random"
    )
    channels: Literal[1, 3] | None = Field(
        default=None,
        description="3: grey images as colours too, for a network that was trained on colours; 1: all without colours; "
        "nothing: 1 if all of them are grey",
    )
    normalize: Literal["data", "imagenet", "half"] = Field(
        default="data",
        description="mean and deviation of the training images, or ImageNet's; half: from -1 to 1, as for networks "
        "that come from TensorFlow",
    )
    broken: Literal["refuse", "skip"] = Field(
        default="refuse", description="images that cannot be used: stop and name them, or leave them out"
    )
    cache_gb: float = Field(
        default=20.0,
        ge=0,
        le=1e6,
        description="pictures much larger than the network's are kept decoded, up to so many GB in the cache; 0: none",
    )
    expected: ExpectedData | None = Field(
        default=None, description="what the set is, for a plan without it: {train: 1281167, classes: 1000}"
    )
    workers: int = Field(
        default=0, ge=0, le=64, description="processes that prepare batches; 0 is fastest for images in memory"
    )

    @property
    def shorter_side(self) -> int:
        """Return the shorter side before the middle is cut out, in pixels; 0 without a size."""
        return self.resize or round((self.size or 0) * 8 / 7)

    def without_effect(self) -> tuple[str, ...]:
        """Return a sentence for each setting that another one makes meaningless."""
        if self.augment == "scale-aspect" and self.flip:
            return (
                f"data.flip is for data.augment none and trivial: {self.augment} mirrors half of the images anyway",
            )
        return ()

    @model_validator(mode="after")
    def _fits(self) -> ImageData:
        if self.resize is not None and (self.size is None or self.resize < self.size):
            raise ValueError(f"resize needs a size that is no larger, got resize {self.resize} and size {self.size}")
        if self.augment == "scale-aspect" and self.crop:
            raise ValueError(f"crop {self.crop} is for augment none: {self.augment} crops in its own way")
        return self


class ImageModel(_Settings):
    """The network."""

    _younger: ClassVar[str] = "batch_norm"
    name: str = Field(
        default="cnn",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$",
        description="cnn (3x3 convolutions, each pooled by 2), mlp, resnet20 and its kin for small images, vgg-small, "
        "squeezenet-small, densenet40 and densenet100; any classification model of torchvision; timm/NAME",
    )
    widths: tuple[Annotated[int, Field(gt=0, le=16384)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        description="channels of convolutions or stages, or units of layers; torchvision's models have their own",
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="rate of every dropout layer; nothing: the network's own"
    )
    batch_norm: bool | None = Field(
        default=None,
        description="true: batch normalisation after every layer but the last (cnn and mlp); false: none of it, in any "
        "network; nothing: the network's own",
    )
    transform_input: bool = Field(
        default=False, description="googlenet and inception_v3 with torchvision's weights, which expect it"
    )

    @property
    def normalises(self) -> bool:
        """Whether the network has batch normalisation."""
        plain = self.name in WITHOUT_NORM or (self.name.startswith("vgg") and not self.name.endswith("_bn"))
        return not plain if self.batch_norm is None else self.batch_norm
