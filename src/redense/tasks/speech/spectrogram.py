"""The log spectrogram that networks of section 3.3 of the paper see: 161 bins a frame at 16 kHz."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .config import SpecAugment, SpectrogramSettings

_FLOOR = 1e-5  # of the clip's mean power: what lies 50 dB below it is noise
_INEXACT = 1e-6  # of a sample: resampling rounds their number up, and n samples as seconds are not exactly n
_LEAST_DEVIATION = 0.1  # of a bin's log power: one that never changes (8 kHz telephones leave half of them empty) is 0


def spectrogram(samples: Tensor, settings: SpectrogramSettings) -> Tensor:
    """Return frames (t, bins) of samples (n,): the log power under a Hann window, normalised over the clip.

    A frame lies wholly inside the clip; one shorter than a window is filled up with silence. The level of a clip does
    not change it.

    >>> settings = SpectrogramSettings()
    >>> spectrogram(torch.randn(16_000), settings).shape
    torch.Size([99, 161])
    """
    window = settings.samples
    if len(samples) < window:
        samples = torch.nn.functional.pad(samples, (0, window - len(samples)))
    power = torch.stft(
        samples,
        n_fft=window,
        hop_length=settings.step,
        window=torch.hann_window(window, device=samples.device),
        center=False,
        return_complex=True,
    )
    power = power.abs().square().T
    log = (power / power.mean().clamp_min(torch.finfo(power.dtype).tiny) + _FLOOR).log()
    over = (0,) if settings.normalize == "bins" else (0, 1)
    centred = log - log.mean(over, keepdim=True)
    deviation = centred.square().mean(over, keepdim=True).sqrt()
    return centred / deviation.clamp_min(_LEAST_DEVIATION)


def frames_in(seconds: float, settings: SpectrogramSettings) -> int:
    """Return the frames that `spectrogram` makes of a clip of that length, brought to the rate of the settings.

    >>> frames_in(1.0, SpectrogramSettings()), frames_in(44_098 / 44_100, SpectrogramSettings())
    (99, 99)
    """
    return _frames(math.ceil(seconds * settings.rate - _INEXACT), settings)


def frames_once_in(seconds: float, settings: SpectrogramSettings) -> int:
    """Return what an older redense took for `frames_in`, which was one less of some clips of another rate."""
    return _frames(round(seconds * settings.rate), settings)


def _frames(samples: int, settings: SpectrogramSettings) -> int:
    return max(0, samples - settings.samples) // settings.step + 1


def augmented(frames: Tensor, settings: SpecAugment, generator: torch.Generator) -> Tensor:
    """Return frames (t, bins) with random bands of time and of frequency set to the mean, 0."""
    frames = frames.clone()
    length, bins = frames.shape
    for _ in range(settings.times):
        start, width = _band(length, min(settings.width, max(1, length // 5)), generator)
        frames[start : start + width] = 0
    for _ in range(settings.frequencies):
        start, width = _band(bins, min(settings.height, bins), generator)
        frames[:, start : start + width] = 0
    return frames


def with_noise(samples: Tensor, decibels: float, generator: torch.Generator) -> Tensor:
    """Return samples (n,) under white noise, from ``decibels`` below their power to 40 dB less, at random."""
    below = decibels + 40 * float(torch.rand((), generator=generator))
    deviation = samples.square().mean().sqrt() * 10 ** (-below / 20)
    return samples + deviation * torch.randn(samples.shape, generator=generator)


def _band(total: int, widest: int, generator: torch.Generator) -> tuple[int, int]:
    width = int(torch.randint(widest + 1, (), generator=generator))
    return int(torch.randint(total - width + 1, (), generator=generator)), width
