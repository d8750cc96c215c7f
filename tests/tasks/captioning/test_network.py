"""NeuralTalk's mathematics against its formulas, its count of weights, and what of it is pruned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import redense
from redense.tasks.captioning.config import CaptionModel
from redense.tasks.captioning.network import NeuralTalk, OneBiasLSTM
from redense.tasks.captioning.task import Captioning

SMALL = CaptionModel(width=6, hidden=5, dropout=0.0)


def test_the_papers_count_of_weights():
    network = NeuralTalk(4096, 2538, CaptionModel())
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_798_314


def test_everything_is_pruned_but_the_word_embedding_and_biases():
    network = NeuralTalk(7, 11, SMALL)
    chosen = redense.prunable(network, exclude=Captioning.exclude)
    assert list(chosen) == ["image.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "decoder.weight"]


@pytest.mark.parametrize("tanh", [True, False], ids=["tanh", "as NeuralTalk"])
def test_the_lstm_is_that_of_the_formulas(tanh: bool):
    torch.manual_seed(0)
    lstm = OneBiasLSTM(3, 4, tanh=tanh)
    x = torch.randn(2, 5, 3)
    h = c = torch.zeros(2, 4)
    expected = []
    for t in range(5):
        i, f, g, o = (x[:, t] @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * (c.tanh() if tanh else c)
        expected.append(h)
    outputs, (last, cell) = lstm(x)
    torch.testing.assert_close(outputs, torch.stack(expected, 1))
    torch.testing.assert_close((last, cell), (h, c))


@pytest.mark.parametrize("tanh", [True, False], ids=["tanh", "as NeuralTalk"])
def test_going_on_from_a_state_is_going_through_all_at_once(tanh: bool):
    torch.manual_seed(0)
    lstm = OneBiasLSTM(3, 4, tanh=tanh)
    x = torch.randn(2, 6, 3)
    whole, state = lstm(x)
    first, middle = lstm(x[:, :2])
    second, end = lstm(x[:, 2:], middle)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end, state)


def test_with_tanh_it_is_pytorchs_lstm_whose_second_bias_is_zero():
    torch.manual_seed(0)
    mine, theirs = OneBiasLSTM(3, 4), nn.LSTM(3, 4, batch_first=True)
    theirs.load_state_dict({**mine.state_dict(), "bias_hh_l0": torch.zeros(16)})
    x = torch.randn(2, 5, 3)
    torch.testing.assert_close(mine(x)[0], theirs(x)[0])


@pytest.mark.parametrize("tanh", [True, False], ids=["tanh", "as NeuralTalk"])
def test_gradients_are_those_of_finite_differences(tanh: bool):
    torch.manual_seed(0)
    lstm = OneBiasLSTM(2, 3, tanh=tanh).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: lstm(x)[0], (x,))


def test_the_image_is_the_first_input_and_what_follows_it_is_not_used():
    torch.manual_seed(0)
    network = NeuralTalk(7, 11, SMALL).eval()
    features, words = torch.randn(2, 7), torch.tensor([[0, 3, 4], [0, 9, 1]])
    logits = network(features, words)
    assert logits.shape == (2, 3, 11)
    inputs = torch.cat([network.image(features)[:, None], network.words(words)], 1)
    torch.testing.assert_close(logits, network.decoder(network.lstm(inputs)[0][:, 1:]))


def test_writing_word_by_word_is_reading_all_at_once():
    torch.manual_seed(0)
    network = NeuralTalk(7, 11, SMALL).eval()
    features, words = torch.randn(2, 7), torch.tensor([[0, 3, 4], [0, 9, 1]])
    whole = network(features, words)
    state = network.look(features)
    for place in range(3):
        logits, state = network.next_words(words[:, place], state)
        torch.testing.assert_close(logits, whole[:, place])


def test_padding_changes_nothing_before_it():
    torch.manual_seed(0)
    network = NeuralTalk(7, 11, SMALL).eval()
    features = torch.randn(1, 7)
    short, long = network(features, torch.tensor([[0, 3]])), network(features, torch.tensor([[0, 3, 0, 0]]))
    torch.testing.assert_close(long[:, :2], short)


def test_weights_start_as_neuraltalks():
    torch.manual_seed(0)
    network = NeuralTalk(50, 40, CaptionModel(width=30, hidden=30), [-0.5] * 40)
    for name in ("image.weight", "words.weight", "lstm.weight_ih_l0", "lstm.bias_ih_l0", "decoder.weight"):
        values = network.get_parameter(name)
        assert 0.09 < values.abs().max() <= 0.1, name
        assert abs(values.mean()) < 0.02, name
    assert not network.image.bias.any()
    assert (network.decoder.bias == -0.5).all()


def test_dropout_is_on_both_ends_while_training():
    torch.manual_seed(0)
    network = NeuralTalk(7, 11, CaptionModel(width=6, hidden=5, dropout=0.9))
    zeros = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal zeros
        zeros += 1
        assert (output == 0).float().mean() > 0.5

    network.dropout.register_forward_hook(count)
    network(torch.randn(20, 7), torch.zeros(20, 3, dtype=torch.long))
    assert zeros == 2
