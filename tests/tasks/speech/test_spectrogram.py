import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redense.tasks.speech.audio import resample
from redense.tasks.speech.config import SpecAugment, SpectrogramSettings
from redense.tasks.speech.spectrogram import augmented, frames_in, frames_once_in, spectrogram, with_noise

DEFAULT = SpectrogramSettings()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4_000))
def test_there_is_a_frame_for_every_hop_that_lies_inside(samples: int):
    frames = spectrogram(torch.randn(samples, generator=torch.Generator().manual_seed(samples)), DEFAULT)
    assert frames.shape == (max(0, samples - 320) // 160 + 1, 161)
    assert len(frames) == frames_in(samples / 16_000, DEFAULT)
    assert frames.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000]), st.integers(1, 9_000))
@example(44_100, 44_098)
def test_the_frames_of_a_clip_of_another_rate_are_counted_as_they_are_made(rate: int, samples: int):
    made = spectrogram(torch.from_numpy(resample(np.zeros(samples, np.float32), rate, DEFAULT.rate)), DEFAULT)
    assert frames_in(samples / rate, DEFAULT) == len(made)


@given(st.integers(1, 2**31), st.sampled_from([4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000]))
def test_the_frames_of_a_clip_of_the_same_rate_are_those_of_its_samples(samples: int, rate: int):
    own = SpectrogramSettings(rate=rate)
    count = max(0, samples - own.samples) // own.step + 1
    assert frames_in(samples / rate, own) == frames_once_in(samples / rate, own) == count


def test_a_tone_is_loudest_in_its_bin():
    seconds = torch.arange(16_000) / 16_000
    early, late = torch.sin(2 * torch.pi * 1_000 * seconds), torch.sin(2 * torch.pi * 3_000 * seconds)
    frames = spectrogram(torch.cat([early, late]), SpectrogramSettings(normalize="clip"))
    assert frames[40].argmax() == 1_000 / 50
    assert frames[-40].argmax() == 3_000 / 50


@pytest.mark.parametrize("normalize", ["bins", "clip"])
def test_frames_have_mean_0_and_deviation_1_whatever_the_level(normalize: str):
    samples = torch.randn(8_000, generator=torch.Generator().manual_seed(0))
    own = SpectrogramSettings.model_validate({"normalize": normalize})
    frames = spectrogram(samples, own)
    over = (0,) if normalize == "bins" else (0, 1)
    torch.testing.assert_close(frames.mean(over), torch.zeros_like(frames.mean(over)), atol=1e-5, rtol=0)
    torch.testing.assert_close(frames.std(over, correction=0), torch.ones_like(frames.mean(over)), atol=1e-4, rtol=0)
    torch.testing.assert_close(spectrogram(0.01 * samples, own), frames, atol=1e-3, rtol=0)


def test_bins_that_never_change_are_0():
    telephone = torch.nn.functional.interpolate(torch.randn(1, 1, 4_000), scale_factor=2, mode="linear")[0, 0]
    spectrum = torch.fft.rfft(telephone)
    spectrum[2_000:] = 0
    frames = spectrogram(torch.fft.irfft(spectrum), DEFAULT)
    assert frames[5:-5, 120:].abs().max() < 0.5


def test_bands_are_0_and_no_wider_than_asked():
    frames = torch.ones(100, 161)
    own = SpecAugment(times=1, width=10, frequencies=1, height=5)
    for seed in range(20):
        out = augmented(frames, own, torch.Generator().manual_seed(seed))
        gone = out == 0
        assert gone.all(1).sum() <= 10
        assert gone.all(0).sum() <= 5
        assert out[~gone].eq(1).all()
    assert frames.eq(1).all()  # not in place


def test_a_band_takes_no_more_than_a_fifth_of_a_clip():
    own = SpecAugment(times=1, width=1000)
    gone = [
        augmented(torch.ones(20, 3), own, torch.Generator().manual_seed(seed)).eq(0).all(1).sum() for seed in range(50)
    ]
    assert max(gone) == 4


def test_noise_is_between_its_decibels():
    samples = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    for seed in range(10):
        noise = with_noise(samples, 10.0, torch.Generator().manual_seed(seed)) - samples
        below = 10 * torch.log10(samples.square().mean() / noise.square().mean())
        assert 9.8 < below < 50.2
