from __future__ import annotations

import base64
import io
import json
import wave

import numpy as np
import pytest
import torch

from redense.errors import DataError
from redense.tasks.speech import evidence as module
from redense.tasks.speech.evidence import evidence, wav
from redense.tasks.speech.transcripts.alphabet import Alphabet

ALPHABET = Alphabet(tuple(" abcd"))


def rows(*texts):
    listed = [torch.tensor(ALPHABET.encode(text), dtype=torch.int16) for text in texts]
    return torch.nn.utils.rnn.pad_sequence([*listed, torch.zeros(9, dtype=torch.int16)], True, -1)[:-1]


def outcomes(said, *heard):
    return {f"n{i}": {"reference": rows(*said), "hypothesis": rows(*one)} for i, one in enumerate(heard)}


SAID = ["a b", "c d", "a", "b c d", "d"]
BEFORE = ["a c", "c d", "b", "a a a", "d"]
AFTER = ["a b", "c", "b", "b a d", "d"]


def test_clips_are_sorted_into_better_worse_and_same_with_the_greatest_change_first():
    found = evidence(outcomes(SAID, BEFORE, SAID, AFTER), ALPHABET)
    assert [clip["index"] for clip in found["better"]["shown"]] == [3, 0]
    assert (found["better"]["total"], found["better"]["wholly"]) == (2, 1)
    assert [clip["index"] for clip in found["worse"]["shown"]] == [1]
    assert found["worse"]["wholly"] == 1
    assert [clip["index"] for clip in found["same"]["shown"]] == [2, 4]  # what is wrong says more
    assert found["better"]["shown"][0]["errors"] == [3, 1]
    assert found["better"]["shown"][0]["edits"][1] == [["hit", "b", "b"], ["substitution", "c", "a"], ["hit", "d", "d"]]


def test_rates_are_told_of_all_clips_and_of_each_set():
    found = evidence(outcomes(SAID, BEFORE, AFTER), ALPHABET, sets=["x", "x", "y", "y", "y"])
    every, x, y = found["sets"]
    assert (every["name"], x["name"], y["name"]) == (None, "x", "y")
    assert [one["rate"] for one in every["words"]] == pytest.approx([100 * 5 / 9, 100 * 3 / 9], abs=1e-3)
    assert [one["rate"] for one in x["words"]] == [25, 25]
    assert every["changes"][0]["points"] == pytest.approx(-200 / 9, abs=1e-3)
    assert x["changes"][0]["relative"] == 0
    assert x["words"][1]["deletions"] == 1


def test_everything_is_plain_json():
    found = evidence(outcomes([""], ["a"], [""]), ALPHABET, seconds=[0.5], sound=lambda index: (torch.zeros(8), 8000))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["sets"][0]["words"][0]["rate"] is None


def test_networks_without_transcripts_are_missing():
    assert "not kept" in evidence({}, ALPHABET)["missing"]
    assert "not kept" in evidence({"a": {"loss": torch.zeros(2)}}, ALPHABET)["missing"]


def test_sound_has_a_limit_and_the_rest_is_said(monkeypatch):
    monkeypatch.setattr(module, "MOST_SOUND", 3000)
    found = evidence(outcomes(SAID, BEFORE, AFTER), ALPHABET, sound=lambda index: (torch.zeros(600), 16_000))
    clips = [clip for kind in ("better", "worse", "same") for clip in found[kind]["shown"]]
    assert [clip["sound"] is not None for clip in clips] == [True, True, False, False, False]
    assert "would make the page large" in found["no_sound"]


def test_a_recording_that_has_gone_costs_its_sound_alone():
    def sound(index):
        if index == 3:
            raise DataError("x.wav cannot be read")
        return torch.zeros(10), 8000

    found = evidence(outcomes(SAID, BEFORE, AFTER), ALPHABET, sound=sound)
    first, second = found["better"]["shown"]
    assert first["sound"] is None
    assert second["sound"] is not None
    assert found["no_sound"] == "x.wav cannot be read"


@pytest.mark.parametrize(("rate", "expected"), [(8000, 8000), (16_000, 16_000), (44_100, 16_000), (48_000, 16_000)])
def test_clips_are_small_mono_files_of_16_bits(rate, expected):
    time = torch.arange(rate) / rate
    data, given = wav(2 * torch.sin(2 * torch.pi * 440 * time), rate)
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (given, 2, 1) == (expected, 2, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert len(samples) == expected
    assert samples.max() == 32767  # clipped, and never wrapped around
    assert samples.min() == -32767
    assert abs(np.abs(np.fft.rfft(samples)).argmax() - 440) <= 1


def test_samples_that_are_no_numbers_are_silent():
    data, _ = wav(torch.tensor([float("nan"), 0.5]), 8000)
    with wave.open(io.BytesIO(data)) as file:
        assert np.frombuffer(file.readframes(2), "<i2").tolist() == [0, 16384]
    assert base64.b64encode(data)
