"""The settings of a recipe for the data and the network of caption generation. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ExpectedCaptions(BaseModel):
    """The known facts of a set, so that a plan can be made where it is not at hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: int = Field(gt=0, description="training sentences, each with its image")
    words: int = Field(ge=2, description="words of the vocabulary, with the one that begins and ends a sentence")
    features: int = Field(gt=0, description="numbers that the CNN gives for an image")
    length: int = Field(default=12, gt=0, description="words of a sentence, about")


CNN = "cnn"
"""The folder, or the file without its ending, in which an export has the CNN that it sees pictures with."""


class FeatureSource(BaseModel):
    """The frozen CNN that looks at the images. Its features are computed once, and kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: str = Field(
        default="vgg16",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$",
        description="a classification model of torchvision, or timm/NAME; of a run folder: its own",
    )
    weights: str = Field(
        default="torchvision:DEFAULT",
        min_length=1,
        max_length=4096,
        description="torchvision:IMAGENET1K_V1, timm:TAG, a file, or the folder of a `redense run` of a classifier",
    )
    layer: str = Field(
        default="last",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,199}$",
        description="last: what the last linear layer sees (VGG-16: fc7; ResNet: the pooled layer); or a module's name",
    )
    size: int = Field(default=224, ge=8, le=1024, description="height and width of the CNN's images")
    resize: int | None = Field(default=None, ge=8, le=2048, description="their shorter side before the middle is cut")

    @property
    def is_of_library(self) -> bool:
        """Whether the weights are a library's, which downloads them where they are needed."""
        return self.weights.startswith(("torchvision:", "timm:"))


class CaptionData(BaseModel):
    """The source of images and sentences, and their processing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = Field(
        default=None,
        description="a folder, a name from `redense data list`, or hub:OWNER/NAME",
    )
    images: str | None = Field(
        default=None, description="the folder of the images, where it lies apart from the sentences"
    )
    text: str | None = Field(
        default=None,
        min_length=1,
        description="the column of the sentences of a table or a Hugging Face set, or several with commas between; "
        "nothing: found by its name, or as the only one of text",
    )
    features: FeatureSource = FeatureSource()
    threshold: int = Field(
        default=5, ge=1, description="a word that occurs less often in the training sentences is left out"
    )
    longest: int = Field(default=40, ge=1, le=200, description="words of a training sentence; longer ones are cut")
    validation: float = Field(
        default=0.1,
        gt=0,
        lt=0.5,
        description="part of the images kept for validation, and as many for the test, where the source does not say",
    )
    limit: int | None = Field(default=None, ge=1, description="only so many training images, for a trial")
    broken: Literal["refuse", "skip"] = Field(
        default="refuse", description="images that cannot be read: stop and name them, or leave them out"
    )
    expected: ExpectedCaptions | None = Field(default=None, description="what the set is, for a plan without it")
    workers: int = Field(default=0, ge=0, le=64, description="processes that prepare batches; 0 is fastest here")

    def within(self, folder: Path) -> CaptionData:
        """Return these settings with the CNN that lies in the folder of a trained network, as in an export, if any."""
        for path in (folder / CNN, *sorted(folder.glob(f"{CNN}.*"))):
            if path.is_file() or (path / "recipe.yaml").is_file():
                return self.model_copy(update={"features": self.features.model_copy(update={"weights": str(path)})})
        return self

    @property
    def needs(self) -> str:
        """The sentence of a card on what a network needs beside its own files; empty: nothing."""
        weights = self.features.weights
        if self.features.is_of_library:
            return ""
        return (
            f"It sees pictures with the CNN `{weights}`, which is not in this folder: have that there, seen from "
            "where you are, or say where it is: `redense caption . picture.jpg --cnn RUN`."
        )


class CaptionModel(BaseModel):
    """The network, its regularisation, and its search for a caption."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["neuraltalk"] = Field(default="neuraltalk", description="an LSTM over the features of a CNN")
    width: int = Field(default=512, ge=1, le=16384, description="size of the image and word embeddings")
    hidden: int = Field(default=512, ge=1, le=16384, description="cells of the LSTM")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="at both ends: what the LSTM reads and what it gives")
    tanh: bool = Field(
        default=True,
        description="the LSTM's output is o * tanh(c), the usual; false: o * c, which is NeuralTalk's default",
    )
    beam: int = Field(default=1, ge=1, le=100, description="sentences kept while one is written; 1 is greedy")
    longest: int = Field(default=20, ge=1, le=100, description="words that it writes at most (NeuralTalk's 20)")
