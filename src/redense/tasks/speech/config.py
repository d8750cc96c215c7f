"""The settings of a recipe for the recordings and the network of speech recognition. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class ExpectedSpeech(BaseModel):
    """The known facts of a set, so that a plan can be made where it is not at hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(gt=0, description="training clips")
    seconds: float = Field(gt=0, description="length of a clip, on average")
    symbols: int = Field(ge=1, description="of the alphabet, without the blank")


class SpectrogramSettings(BaseModel):
    """The network's input: the logarithm of the power in frequency bins, frame by frame."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: int = Field(default=16_000, ge=4_000, le=48_000, description="samples a second; others are brought to it")
    window: float = Field(default=20.0, ge=5, le=100, description="milliseconds of a frame; 20 give 161 bins at 16 kHz")
    hop: float = Field(default=10.0, ge=2, le=100, description="milliseconds from a frame to the next")
    normalize: Literal["bins", "clip"] = Field(
        default="bins", description="mean 0 and deviation 1 over each clip: every bin for itself, or all together"
    )

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return round(self.rate * self.window / 1000)

    @property
    def step(self) -> int:
        """Samples from a frame to the next."""
        return round(self.rate * self.hop / 1000)

    @property
    def bins(self) -> int:
        """Frequencies of a frame."""
        return self.samples // 2 + 1


class SpecAugment(BaseModel):
    """Bands of time and of frequency that training frames lose, at random (Park et al. 2019, without the warp)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    times: int = Field(default=0, ge=0, le=20, description="bands of time")
    width: int = Field(default=20, ge=1, le=1000, description="frames of one, at most; and a fifth of the clip at most")
    frequencies: int = Field(default=0, ge=0, le=10, description="bands of frequency")
    height: int = Field(default=20, ge=1, le=500, description="bins of one, at most")


class SpeechData(BaseModel):
    """The source of the recordings, and the processing of recordings and transcripts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | tuple[str, ...] | None = Field(
        default=None,
        description="a folder, a manifest (.jsonl), a name from `redense data list`, or several of these; nothing or "
        "tones: a small set of words in tones, which redense makes itself",
    )
    language: str | None = Field(
        default=None, pattern=r"^[a-z]{2,3}$", description="whose letters are kept, e.g. es; nothing: every letter"
    )
    alphabet: str | None = Field(
        default=None, min_length=1, description="the symbols in order; nothing: those of the training transcripts"
    )
    accents: Literal["keep", "fold"] = Field(default="keep", description="fold: á -> a, also where it changes the word")
    case: Literal["lower", "keep"] = Field(default="lower", description="small letters alone, or as they are written")
    digits: Literal["drop", "keep"] = Field(
        default="drop", description="clips whose transcript has digits, which say nothing of how they are read"
    )
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="part of the sentences, where a set has no such split"
    )
    test: float = Field(default=0.1, gt=0, lt=1, description="part of the sentences, where a set has no such split")
    min_seconds: float = Field(default=0.1, ge=0, description="shorter clips are left out")
    max_seconds: float = Field(default=16.0, gt=0, le=600, description="longer clips are left out")
    limit: int | None = Field(default=None, ge=1, description="only so many training clips, for a trial")
    broken: Literal["refuse", "skip"] = Field(
        default="skip", description="clips that cannot be read or hold no sound: leave them out and name them, or stop"
    )
    spectrogram: SpectrogramSettings = SpectrogramSettings()
    features: Literal["stored", "live"] = Field(
        default="stored", description="spectrograms: made once and kept in the cache, or anew from the files each time"
    )
    augment: SpecAugment = SpecAugment()
    noise: float | None = Field(
        default=None,
        ge=-10,
        le=80,
        description="white noise over training clips, so many decibels below them at the loudest; needs features live",
    )
    expected: ExpectedSpeech | None = Field(
        default=None, description="what the set is, for a plan without it: {train: 37416, seconds: 7.8, symbols: 28}"
    )
    workers: int = Field(default=0, ge=0, le=64, description="processes that prepare batches, and spectrograms once")

    @field_validator("source", mode="before")
    @classmethod
    def _lists_are_several(cls, source: object) -> object:
        return tuple(source) if isinstance(source, list) else source

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources, one or several."""
        return (self.source or "tones",) if not isinstance(self.source, tuple) else self.source

    def without_effect(self) -> tuple[str, ...]:
        """Return a sentence for each setting that another one makes meaningless."""
        augment = self.augment
        bands = (("width", "times", augment.times), ("height", "frequencies", augment.frequencies))
        return tuple(
            f"data.augment.{size} is of the bands of data.augment.{count}, and there are none: give that, or remove it"
            for size, count, there in bands
            if not there and getattr(augment, size) != SpecAugment.model_fields[size].default
        )

    @model_validator(mode="after")
    def _fits(self) -> SpeechData:
        if self.source == ():
            raise ValueError("source is an empty list, expected at least one")
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("source names one place twice: every clip of it would count twice")
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave nothing to train on")
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds} must be less than max_seconds {self.max_seconds}")
        if self.noise is not None and self.features != "live":
            raise ValueError("noise changes the samples: it needs features: live")
        return self


class SpeechModel(BaseModel):
    """The network and its size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["deepspeech", "deepspeech2", "blstm"] = Field(
        default="deepspeech",
        description="deepspeech: fully connected, one clipped bidirectional layer; deepspeech2: convolutions, several "
        "of them with batch normalisation; blstm: LSTM layers, whose gates are pruned one by one",
    )
    hidden: int = Field(default=1024, ge=4, le=8192, description="units of every layer")
    layers: int | None = Field(
        default=None, ge=1, le=20, description="recurrent layers; nothing: 1 (deepspeech), 7 (deepspeech2), 2 (blstm)"
    )
    context: Annotated[int, Field(ge=1, le=101)] = Field(
        default=11, description="frames that the first layer sees at once, an odd number; not of deepspeech2"
    )
    stride: int | None = Field(
        default=None, ge=1, le=8, description="frames to one output; nothing: 1, 2 for deepspeech2"
    )
    channels: int = Field(default=32, ge=1, le=512, description="deepspeech2: filters of both convolutions")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="between layers, never inside the recurrence")

    @field_validator("context")
    @classmethod
    def _has_a_middle(cls, context: int) -> int:
        if context % 2 == 0:
            raise ValueError("must be odd: as many frames before as after")
        return context

    @property
    def depth(self) -> int:
        """Recurrent layers."""
        return self.layers or {"deepspeech": 1, "deepspeech2": 7, "blstm": 2}[self.name]

    @property
    def frames_to_one(self) -> int:
        """Frames to one output."""
        return self.stride or (2 if self.name == "deepspeech2" else 1)

    def without_effect(self) -> tuple[str, ...]:
        """Return a sentence for each setting that the network does not have."""
        foreign = ("context",) if self.name == "deepspeech2" else ("channels",)
        changed = (name for name in foreign if getattr(self, name) != SpeechModel.model_fields[name].default)
        return tuple(f"model.{name} is no setting of {self.name}: remove it" for name in changed)

    @model_validator(mode="after")
    def _fits(self) -> SpeechModel:
        if self.name == "deepspeech" and self.depth != 1:
            raise ValueError(
                f"deepspeech has one recurrent layer, got {self.depth}; deepspeech2 and blstm have several"
            )
        return self
