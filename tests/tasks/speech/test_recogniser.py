from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from redense.errors import DataError, StateError
from redense.tasks.speech.config import SpectrogramSettings, SpeechData, SpeechModel
from redense.tasks.speech.network.models import build
from redense.tasks.speech.recogniser import BeamStream, GreedyStream, Recogniser
from redense.tasks.speech.streaming import Pieces, log_probs_of
from redense.tasks.speech.transcripts.alphabet import Alphabet
from redense.tasks.speech.transcripts.beam import BeamDecoder, Lexicon
from redense.tasks.speech.transcripts.decoding import characters, greedy, words_of

ALPHABET = Alphabet(tuple(" ab"))
RATE = 4000
TONES = {"a": 600.0, "b": 1400.0}


class Ear(torch.nn.Module):
    """Hears a tone of 600 Hz as a, of 1400 Hz as b, and low rumble as a space; looks at one frame alone."""

    def forward(self, frames, lengths):
        bins = frames.shape[2]
        at = {name: round(pitch / (RATE / 2) * (bins - 1)) for name, pitch in TONES.items()}
        rumble = frames[:, :, round(200 / (RATE / 2) * (bins - 1))]
        a, b = frames[:, :, at["a"]], frames[:, :, at["b"]]
        return 40 * torch.stack([torch.full_like(a, 0.5), rumble, a, b], 2).transpose(0, 1), lengths


def recogniser():
    return Recogniser(Ear(), ALPHABET, SpectrogramSettings(rate=RATE, normalize="clip"))


def sound(text, letter=0.1, gap=0.1):
    parts = []
    for character in text:
        time = np.arange(round(letter * RATE)) / RATE
        parts.append(np.sin(2 * np.pi * TONES.get(character, 200.0) * time))
        parts.append(np.zeros(round(gap * RATE)))
    return np.concatenate(parts).astype(np.float32)


def said(words):
    return " ".join(word.text for word in words)


def test_words_come_with_their_times():
    words = list(recogniser().transcribe([sound("ab ba")]))
    assert said(words) == "ab ba"
    for word, (start, end) in zip(words, [(0.0, 0.3), (0.6, 0.9)], strict=True):
        assert word.start == pytest.approx(start, abs=0.021)  # a window of 20 ms
        assert word.end == pytest.approx(end, abs=0.021)


@pytest.mark.parametrize("pieces", [Pieces(1, 0.1), Pieces(0.55, 0.5), Pieces(20, 1)], ids=str)
def test_a_long_recording_is_heard_as_in_one_piece(pieces):
    text = " ".join(["ab", "bba", "a", "baab", "b"] * 12)
    samples = sound(text)
    blocks = (samples[start : start + 777] for start in range(0, len(samples), 777))
    words = list(recogniser().transcribe(blocks, pieces=pieces))
    assert said(words) == text
    assert [word.start for word in words] == sorted(word.start for word in words)
    last = (len(samples) - 0.1 * RATE) / RATE
    assert words[-1].end == pytest.approx(last, abs=0.021)


def test_a_beam_hears_a_long_recording_too():
    text = " ".join(["ab", "bba", "a", "baab", "b"] * 12)
    ear = recogniser()
    lexicon = Lexicon(ALPHABET, ["ab", "bba", "a", "baab", "b"])
    stream = BeamStream(BeamDecoder(ALPHABET, lexicon), ear.hop / ear.rate)
    # Pauses of .5 s between words: stretches end there.
    pause = np.zeros(RATE // 2, np.float32)
    parts = [part for word in text.split() for part in (sound(f"{word} "), pause)]
    words = list(ear.transcribe(parts, stream, Pieces(5, 0.5)))
    assert said(words) == text
    greedy_words = list(ear.transcribe(parts, pieces=Pieces(5, 0.5)))
    for word, other in zip(words, greedy_words, strict=True):
        assert (word.start, word.end) == pytest.approx((other.start, other.end), abs=0.03)


@given(path=st.lists(st.integers(0, 3), max_size=30), cuts=st.lists(st.integers(0, 8), max_size=6))
def test_frames_are_read_greedily_the_same_however_they_are_cut(path, cuts):
    frames = torch.nn.functional.one_hot(torch.tensor(path, dtype=torch.int64), 4).float()
    stream, words, start = GreedyStream(ALPHABET), [], 0
    for size in [*cuts, len(path)]:
        words += stream.feed(frames[start : start + size])
        start += size
    words += stream.finish()
    if path:
        found = greedy(frames.unsqueeze(1), torch.tensor([len(path)]))
        assert words == words_of(characters(found, 0, ALPHABET))
    else:
        assert words == []


class Searched:
    """Counts the stretches that a beam is given."""

    def __init__(self):
        self.alphabet, self.lengths = ALPHABET, []

    def words(self, log_probs):
        self.lengths.append(len(log_probs))
        return []


@given(path=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400)), max_size=30), size=st.integers(1, 3000))
def test_stretches_of_a_beam_are_neither_long_nor_lost(path, size):
    symbols = [symbol for symbol, count in path for _ in range(count)]
    frames = torch.nn.functional.one_hot(torch.tensor(symbols, dtype=torch.int64), 4).float()
    search = Searched()
    stream = BeamStream(search, 0.01)  # pyright: ignore[reportArgumentType]
    for start in range(0, len(frames), size):
        stream.feed(frames[start : start + size])
    stream.finish()
    assert sum(search.lengths) == len(frames)
    assert all(400 <= length <= 3400 for length in search.lengths[:-1])


def test_stretches_end_in_pauses():
    def frames(*parts):
        symbols = [symbol for symbol, count in parts for _ in range(count)]
        return torch.nn.functional.one_hot(torch.tensor(symbols), 4).float()

    search = Searched()
    stream = BeamStream(search, 0.01)  # pyright: ignore[reportArgumentType]
    stream.feed(frames((2, 500), (0, 60), (3, 700), (1, 20), (2, 200), (0, 100), (2, 50)))
    stream.finish()
    assert search.lengths == [530, 30 + 700 + 20 + 200 + 50, 50 + 50]
    search.lengths.clear()
    stream = BeamStream(search, 0.01)  # pyright: ignore[reportArgumentType]
    stream.feed(frames((2, 1000), (0, 10), (2, 1000), (0, 20), (2, 2000)))  # no long pause in 30 s
    assert search.lengths == [2020]


def test_weights_are_loaded_into_the_network_of_a_recipe(tmp_path):
    data, model = SpeechData(), SpeechModel(hidden=8, context=3, stride=2)
    network = build(model, data.spectrogram.bins, ALPHABET.size)
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    loaded = Recogniser.load(data, model, ALPHABET, path)
    assert loaded.hop == 320
    samples = torch.randn(16_000)
    assert loaded.log_probs(samples).shape == (50, 4)
    assert loaded.log_probs(samples).exp().sum(1).tolist() == pytest.approx([1] * 50, abs=1e-5)
    with pytest.raises(StateError, match="of another model"):
        Recogniser.load(data, model, Alphabet(tuple(" abc")), path)
    with pytest.raises(StateError, match="is missing"):
        Recogniser.load(data, model, ALPHABET, tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["deepspeech", "deepspeech2", "blstm"])
def test_real_networks_keep_to_their_hop_from_piece_to_piece(name):
    data, model = SpeechData(), SpeechModel(name=name, hidden=8, context=3, stride=2, channels=2, layers=1)
    network = build(model, data.spectrogram.bins, ALPHABET.size).eval()
    ear = Recogniser(network, ALPHABET, data.spectrogram, model.frames_to_one)
    samples = np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    frames = torch.cat(list(log_probs_of([samples], ear.log_probs, ear.rate, ear.hop, Pieces(3, 1))))
    assert len(frames) == len(ear.log_probs(torch.from_numpy(samples))) == 500


def test_silence_has_no_words():
    with pytest.raises(DataError, match="is silent"):
        list(recogniser().transcribe([np.zeros(8000, np.float32)]))
