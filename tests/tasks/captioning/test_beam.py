"""Beam search against trying every sentence, and against one image and one beginning at a time."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from redense.tasks.captioning.beam import write
from redense.tasks.captioning.config import CaptionModel
from redense.tasks.captioning.network import NeuralTalk, State


@pytest.fixture
def network() -> NeuralTalk:
    torch.manual_seed(1)
    network = NeuralTalk(4, 5, CaptionModel(width=8, hidden=8, dropout=0.0)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(12)  # a network that is sure of something
    return network


@torch.no_grad()
def probability(network: NeuralTalk, features: Tensor, sentence: tuple[int, ...]) -> float:
    words = torch.tensor([[0, *sentence]])[:, : len(sentence)]
    logits = network(features[None], words).log_softmax(-1)[0]
    return float(logits[torch.arange(len(sentence)), torch.tensor(sentence)].sum())


def test_a_wide_beam_finds_the_most_likely_of_all_sentences(network: NeuralTalk):
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    said, scores = write(network, features, beam=200, longest=3)
    ended = [(*words, 0) for n in range(3) for words in itertools.product(range(1, 5), repeat=n)]
    cut = list(itertools.product(range(1, 5), repeat=3))
    for row, own in enumerate(features):
        best = max([*ended, *cut], key=lambda sentence: probability(network, own, sentence))
        assert said[row].tolist() == [*best, *([0] * (3 - len(best)))]
        assert float(scores[row]) == pytest.approx(probability(network, own, best), abs=1e-4)


@pytest.mark.parametrize("beam", [1, 2, 7])
def test_a_batch_is_its_images_one_by_one(network: NeuralTalk, beam: int):
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    said, scores = write(network, features, beam=beam, longest=6)
    for row, own in enumerate(features):
        alone, score = write(network, own[None], beam=beam, longest=6)
        assert said[row].tolist() == alone[0].tolist()
        torch.testing.assert_close(scores[row], score[0])


@torch.no_grad()
def reference(network: NeuralTalk, features: Tensor, beam: int, longest: int) -> list[int]:
    """NeuralTalk's own loop (imagernn/lstm_generator.py, predict), one image and one beginning at a time."""
    state: State = network.look(features[None])
    beams: list[tuple[float, list[int], State]] = [(0.0, [], state)]
    for _ in range(longest):
        candidates: list[tuple[float, list[int], State]] = []
        for score, words, state in beams:
            last = words[-1] if words else 0
            if words and last == 0:
                candidates.append((score, words, state))
                continue
            logits, after = network.next_words(torch.tensor([last]), state)
            chances = logits[0].log_softmax(-1)
            for word in chances.argsort(descending=True)[:beam].tolist():
                candidates.append((score + float(chances[word]), [*words, word], after))
        beams = sorted(candidates, key=lambda one: -one[0])[:beam]
    return beams[0][1]


@pytest.mark.parametrize("beam", [2, 4])
def test_it_writes_what_neuraltalks_own_loop_writes(network: NeuralTalk, beam: int):
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(2))
    said, _ = write(network, features, beam=beam, longest=6)
    for row, own in enumerate(features):
        expected = reference(network, own, beam, 6)
        assert said[row].tolist()[: len(expected)] == expected


@torch.no_grad()
def test_a_beam_of_one_takes_the_likeliest_word_each_time(network: NeuralTalk):
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    said, _ = write(network, features, beam=1, longest=6)
    for row, own in enumerate(features):
        words, state, last = [], network.look(own[None]), 0
        while len(words) < 6:
            logits, state = network.next_words(torch.tensor([last]), state)
            last = int(logits.argmax())
            words.append(last)
            if last == 0:
                break
        assert said[row].tolist() == [*words, *([0] * (6 - len(words)))]


def test_sentences_that_ended_stay_as_they_are(network: NeuralTalk):
    with torch.no_grad():
        network.decoder.bias[0] += 100.0
    said, scores = write(network, torch.randn(3, 4), beam=3, longest=5)
    assert not said.any()
    assert said.shape == (3, 5)
    assert scores.abs().max() < 1e-3
