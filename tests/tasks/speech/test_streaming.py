from __future__ import annotations

import gc
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from redense.errors import DataError, StateError
from redense.tasks.speech.streaming import Pieces, log_probs_of, read_blocks, resampled

RATE, HOP, WINDOW = 1000, 10, 20
SIZE = 3


def short_sighted(samples):
    """A network that sees 5 frames: a window of 20 samples every 10, and an average over neighbours."""
    if len(samples) < WINDOW:
        samples = torch.nn.functional.pad(samples, (0, WINDOW - len(samples)))
    frames = samples.unfold(0, WINDOW, HOP)
    features = torch.stack([frames.mean(1), frames.abs().amax(1), frames[:, 3]], 1)
    around = torch.nn.functional.avg_pool1d(features.T.unsqueeze(0), 5, 1, 2, count_include_pad=False)[0].T
    return (4 * around).log_softmax(1)


def cut(samples, sizes):
    start = 0
    for size in sizes:
        yield samples[start : start + size]
        start += size
    yield samples[start:]


def noise(length, seed=0):
    return np.random.default_rng(seed).standard_normal(length).astype(np.float32) / 3


@given(
    length=st.integers(1, 6000),
    sizes=st.lists(st.integers(0, 900), max_size=8),
    seconds=st.sampled_from([0.05, 0.4, 1]),
)
def test_pieces_are_the_whole_for_a_network_without_long_memory(length, sizes, seconds):
    samples = noise(length)
    blocks = cut(samples, sizes)
    found = torch.cat(list(log_probs_of(blocks, short_sighted, RATE, HOP, Pieces(seconds, context=0.05))))
    torch.testing.assert_close(found, short_sighted(torch.from_numpy(samples)), rtol=0, atol=1e-6)


def test_a_recording_that_fits_into_one_piece_is_computed_whole():
    seen = []

    def network(samples):
        seen.append(len(samples))
        return short_sighted(samples)

    list(log_probs_of(cut(noise(1900), [700, 700]), network, RATE, HOP, Pieces(1.5, 0.5)))
    assert seen == [1900]


def test_no_piece_is_longer_than_it_may_be_however_long_the_recording():
    seen, frames = [], 0

    def network(samples):
        seen.append(len(samples))
        return short_sighted(samples)

    block = noise(1000)
    for found in log_probs_of((block for _ in range(200)), network, RATE, HOP, Pieces(2, 0.5)):
        frames += len(found)
    assert frames == (200_000 - WINDOW) // HOP + 1
    assert max(seen) <= 3000
    assert len(seen) >= 99


@pytest.mark.parametrize("amplitude", [0.0, 0.3], ids=["silence", "noise"])
def test_memory_does_not_grow_with_the_recording(amplitude):
    held = []

    def blocks(count):
        block = (noise(4000) * amplitude).astype(np.float32)
        for place in range(count):
            if place % 30 == 9:
                held.append(sum(one.numel() for one in gc.get_objects() if type(one) is torch.Tensor))
            yield block
        yield noise(100)

    for _ in log_probs_of(blocks(100), short_sighted, RATE, HOP, Pieces(4, 1)):
        pass
    assert max(held) <= held[0] + 8000


def test_frames_too_few_for_the_hop_are_noticed():
    with pytest.raises(StateError, match="its hop is not 10 samples"):
        list(log_probs_of(cut(noise(9000), []), lambda s: short_sighted(s)[::2], RATE, HOP, Pieces(1, 0.1)))


def test_silence_says_nothing_and_keeps_the_time():
    quiet = np.zeros(5000, np.float32)
    samples = np.concatenate([quiet, noise(2000), quiet])
    found = torch.cat(list(log_probs_of(cut(samples, []), short_sighted, RATE, HOP, Pieces(1, 0.1))))
    whole = short_sighted(torch.from_numpy(samples))
    assert len(found) == len(whole)
    assert (found[:400].argmax(1) == 0).all()
    assert (found[-300:].argmax(1) == 0).all()
    torch.testing.assert_close(found[510:690], whole[510:690])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0), "holds no sound"),
        (np.zeros(5000), "is silent"),
        (np.full(10, 5e-5), "is silent"),
        (np.array([0.1, np.nan]), "no numbers"),
        (np.array([0.1, np.inf] * 500), "no numbers"),
        (np.array([0.1, 1e30] * 500), "far beyond full scale"),
    ],
    ids=["nothing", "zeros", "hiss", "nan", "infinite", "huge"],
)
def test_what_cannot_be_transcribed_is_said(samples, message):
    with pytest.raises(DataError, match=message):
        list(log_probs_of([samples.astype(np.float32)], short_sighted, RATE, HOP, Pieces(1, 0.1)))


@pytest.mark.parametrize(
    ("own", "rate"), [(8000, 16000), (44100, 16000), (48000, 16000), (11025, 16000), (16000, 16000)]
)
@pytest.mark.parametrize("length", [0, 1, 500, 200_001])
def test_resampling_in_blocks_is_resampling_the_whole(own, rate, length):
    samples = noise(length)
    found = list(resampled(cut(samples, [300, 0, 70_000]), own, rate))
    shared = math.gcd(own, rate)
    whole = samples if own == rate else resample_poly(samples, rate // shared, own // shared) if length else samples
    np.testing.assert_allclose(np.concatenate([np.empty(0), *found]), whole, atol=1e-5)


@pytest.mark.parametrize(
    "given", [{"seconds": 0}, {"seconds": math.inf}, {"context": -1}, {"context": math.nan}], ids=str
)
def test_pieces_that_cannot_be_are_refused(given):
    with pytest.raises(DataError, match="seconds, got"):
        Pieces(**given)


def test_a_file_is_read_at_the_rate_asked_for_with_its_channels_averaged(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    left, right = noise(90_000), noise(90_000, 1)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    found = np.concatenate(list(read_blocks(tmp_path / "two.wav", 16_000)))
    np.testing.assert_allclose(found, resample_poly((left + right) / 2, 2, 1), atol=1e-5)


def test_files_that_cannot_be_read_are_named_in_one_line(tmp_path):
    pytest.importorskip("soundfile")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound at all")
    (tmp_path / "cut.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
    for name, message in {
        "empty.wav": "is empty",
        "text.wav": "is no sound file that can be read",
        "cut.wav": "is no sound file that can be read",
        "none.wav": "cannot be read .No such file",
        ".": "cannot be read .is a folder, expected a file",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            list(read_blocks(tmp_path / name, 16_000))
        assert str(error.value).startswith(str(tmp_path))
        assert "\n" not in str(error.value)


def test_a_header_that_lies_of_the_length_does_not_matter(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "lies.wav"
    soundfile.write(path, noise(4000), 16_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = (0x7FFFFF00).to_bytes(4, "little")
    path.write_bytes(data)
    assert sum(map(len, read_blocks(path, 16_000))) == 4000
