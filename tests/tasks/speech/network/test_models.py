from typing import Any

import pytest
import torch
from torch import nn

from redense import prunable
from redense.tasks.speech.config import SpeechModel
from redense.tasks.speech.network.models import EXCLUDE, build
from redense.tasks.speech.network.modules import GATES, ClippedLinear, GatedLSTM, Packing

BINS, SIZE = 21, 6
SMALL: dict[str, SpeechModel] = {
    "deepspeech": SpeechModel(name="deepspeech", hidden=12, context=5, stride=2),
    "deepspeech stride 1": SpeechModel(name="deepspeech", hidden=12, context=3),
    "deepspeech2": SpeechModel(name="deepspeech2", hidden=12, layers=2, channels=3),
    "deepspeech2 stride 3": SpeechModel(name="deepspeech2", hidden=12, layers=1, channels=2, stride=3),
    "blstm": SpeechModel(name="blstm", hidden=8, context=3, stride=2),
}
small = pytest.mark.parametrize("settings", SMALL.values(), ids=SMALL.keys())


@pytest.fixture(scope="module")
def papers() -> dict[str, Any]:
    """Both networks at the paper's sizes."""
    networks = (SpeechModel(), SpeechModel(name="deepspeech2", hidden=1760))
    return {settings.name: build(settings, 161, 29) for settings in networks}


def made(settings: SpeechModel) -> Any:
    torch.manual_seed(0)
    return build(settings, BINS, SIZE)


def clips(*lengths: int, bins: int = BINS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, bins, generator=generator) for length in lengths]


def together(parts: list[torch.Tensor], extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    padded = nn.utils.rnn.pad_sequence(parts, batch_first=True)
    return nn.functional.pad(padded, (0, 0, 0, extra)), torch.tensor([len(part) for part in parts])


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_deep_speech_has_the_papers_parameters_layer_by_layer(papers: dict[str, Any]):
    model = papers["deepspeech"]
    layers = (model.first, model.second, model.third, model.recurrent, model.fourth, model.output)
    assert [parameters(layer) for layer in layers] == [1_814_528, 1_049_600, 1_049_600, 3_146_752, 1_049_600, 29_725]
    assert parameters(model) == 8_139_805


def test_deep_speech_2_has_the_papers_parameters_layer_by_layer(papers: dict[str, Any]):
    model = papers["deepspeech2"]
    assert [layer.bins for layer in model.convolutions] == [81, 41]
    assert [parameters(layer) for layer in model.convolutions] == [19_616, 239_168]
    assert [parameters(layer) for layer in model.recurrent] == [8_507_840] + [9_296_320] * 6
    assert parameters(model.fourth) == 3_101_120
    assert parameters(model.output) == 29 * 1761  # the paper's 95,054 is no whole number of symbols
    assert parameters(model) == 67_645_664 + 29 * 1761


def test_what_is_pruned_is_the_papers_share_of_the_networks(papers: dict[str, Any]):
    for name, share in (("deepspeech", "77.3%"), ("deepspeech2", "99.5%")):
        chosen = prunable(papers[name], exclude=EXCLUDE[name])
        assert f"{sum(p.numel() for p in chosen.values()) / parameters(papers[name]):.1%}" == share


@small
def test_recurrent_and_connected_layers_are_pruned_and_no_others(settings: SpeechModel):
    model = made(settings)
    chosen = set(prunable(model, exclude=EXCLUDE[settings.name]))
    left = {name for name, p in model.named_parameters() if p.dim() > 1} - chosen
    first = {"deepspeech": "first", "deepspeech2": "convolutions"}.get(settings.name, "output")
    assert {name.partition(".")[0] for name in left} == {first, "output"}
    assert all(p.dim() > 1 for name, p in model.named_parameters() if name in chosen)


@small
def test_a_clip_gives_the_same_alone_and_in_a_batch(settings: SpeechModel):
    model, parts = made(settings).eval(), clips(31, 7, 18, 1)
    with torch.no_grad():
        for module in model.modules():  # statistics that would show it
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]  # it is tracked
        logits, lengths = model(*together(parts, extra=9))
        for index, part in enumerate(parts):
            alone, length = model(*together([part]))
            assert length.item() == lengths[index].item() == len(alone)
            torch.testing.assert_close(logits[: len(alone), index], alone[:, 0], rtol=1e-4, atol=1e-5)


@small
def test_padding_changes_nothing_in_training(settings: SpeechModel):
    def after_a_step(extra: int) -> dict[str, torch.Tensor]:
        model = made(settings).train()
        logits, _ = model(*together(clips(20, 13), extra))
        logits[: (13 + 2) // 3].square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return {**gradients, **dict(model.named_buffers())}

    plain, padded = after_a_step(0), after_a_step(17)
    assert len(plain) >= 8
    for name, value in plain.items():
        torch.testing.assert_close(value, padded[name], rtol=1e-4, atol=1e-5, msg=name)


@small
def test_frames_behind_the_end_of_a_clip_have_no_gradient(settings: SpeechModel):
    frames, lengths = together(clips(20, 9))
    frames.requires_grad_()
    logits, kept = made(settings)(frames, lengths)
    torch.stack([logits[: kept[index], index].square().sum() for index in range(2)]).sum().backward()
    # A convolution's window reaches over the end, where it sees zeros whose gradient says nothing.
    window = 16 if settings.name == "deepspeech2" else settings.context // 2
    assert frames.grad is not None
    assert frames.grad[1, :9].abs().sum(1).gt(0).any()
    assert not frames.grad[1, 9 + window :].any()


def test_rows_come_back_from_their_padded_form():
    packing = Packing(torch.tensor([3, 1]))
    rows = torch.arange(8.0).view(4, 2)
    padded = packing.pad(rows, fill=-1.0)
    assert padded.shape == (3, 2, 2)
    assert padded[1:, 1].eq(-1).all()
    assert packing.pack(padded).equal(rows)


def test_normalisation_has_the_mean_and_deviation_of_the_frames_that_clips_have():
    layer = ClippedLinear(2, 2, norm=True).train()
    rows = torch.randn(50, 2)
    layer(rows)
    assert layer.norm is not None
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * layer.linear(rows).mean(0))


def test_the_gated_lstm_is_torchs_lstm():
    torch.manual_seed(0)
    ours, plain = GatedLSTM(5, 4, layers=2), nn.LSTM(5, 4, num_layers=2, bidirectional=True)
    with torch.no_grad():
        for index, layer in enumerate(ours.layers):
            for direction, suffix in (("forwards", ""), ("backwards", "_reverse")):
                gates: Any = [layer[direction][gate] for gate in GATES]  # pyright: ignore[reportIndexIssue]  # a ModuleDict
                for part, name in (("inputs", "ih"), ("hidden", "hh")):
                    for kind in ("weight", "bias"):
                        whole = torch.cat([getattr(getattr(gate, part), kind) for gate in gates])
                        getattr(plain, f"{kind}_{name}_l{index}{suffix}").copy_(whole)
    parts = clips(6, 9, 2, bins=5)
    packing = Packing(torch.tensor([6, 9, 2]))
    out = ours(torch.cat([part[t : t + 1] for t in range(9) for part in parts if t < len(part)]), packing)
    expected, _ = plain(nn.utils.rnn.pack_sequence(parts, enforce_sorted=False))
    padded, _ = nn.utils.rnn.pad_packed_sequence(expected)
    torch.testing.assert_close(packing.pad(out), padded)


def test_sizes_that_make_no_network_are_refused():
    with pytest.raises(ValueError, match="odd"):
        SpeechModel(context=4)
    with pytest.raises(ValueError, match="one recurrent layer"):
        SpeechModel(layers=2)
