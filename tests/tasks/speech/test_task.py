from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from redense.errors import DataError
from redense.lab.recipe.recipe import load_recipe
from redense.lab.tasks import facts_of, make_task, sketch_task
from redense.lab.training.batches import Batches
from redense.tasks.speech import store
from redense.tasks.speech.audio import resample
from redense.tasks.speech.config import SpecAugment, SpeechData, SpeechModel
from redense.tasks.speech.data import tones
from redense.tasks.speech.data.clips import Clip, Utterance
from redense.tasks.speech.data.loading import Corpus
from redense.tasks.speech.examples import SpeechBatch
from redense.tasks.speech.spectrogram import spectrogram
from redense.tasks.speech.task import Speech, ctc_losses, needed_frames
from redense.tasks.speech.transcripts.alphabet import Alphabet
from redense.tasks.speech.transcripts.decoding import greedy

DATA = SpeechData(source="tones")
MODEL = SpeechModel(hidden=8, context=3, stride=2)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for all tests here: the tones are made once, and few of them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("REDENSE_CACHE", str(folder))
        patch.setattr(tones, "_SENTENCES", 60)
        yield folder


def task(data: dict[str, Any] | None = None, model: SpeechModel = MODEL) -> Speech:
    return Speech(DATA.model_copy(update=data or {}), model)


def paths(*symbols: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(symbols), 4).float().mul(9).log_softmax(2).transpose(0, 1)


def test_greedy_reading_collapses_the_best_path_within_each_clip():
    read = greedy(paths([0, 1, 1, 0, 1, 2], [3, 3, 2, 2, 2, 1]), torch.tensor([6, 4]))
    assert read.symbols.tolist() == [[1, 1, 2], [3, 2, -1]]


def test_the_loss_is_minus_the_logarithm_of_the_transcripts_probability():
    log_probs = torch.tensor([[0.6, 0.4], [0.5, 0.5]]).log().unsqueeze(1)
    # 'a' of two frames: a-, -a, aa
    expected = -torch.tensor(0.4 * 0.5 + 0.6 * 0.5 + 0.4 * 0.5).log()
    torch.testing.assert_close(ctc_losses(log_probs, torch.tensor([2]), torch.tensor([[1]])), expected.view(1))


def test_a_clip_that_is_too_short_for_its_transcript_has_no_loss_and_no_gradient():
    logits = torch.zeros(2, 1, 3, requires_grad=True)
    loss = ctc_losses(logits.log_softmax(2), torch.tensor([2]), torch.tensor([[1, 1]]))
    loss.sum().backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    assert needed_frames([1, 1]) == 3


def test_outcomes_of_batches_of_any_size_are_joined_in_order():
    ours, model = task(), task().build_model().eval()
    examples = ours.examples("validation")

    def outcome(size: int) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            parts = [ours.outcome(model, examples.__getitems__(i)) for i in Batches(len(examples), size)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    one, many = outcome(1), outcome(5)
    assert one["hypothesis"].equal(many["hypothesis"])
    assert one["reference"].equal(many["reference"])
    torch.testing.assert_close(one["loss"], many["loss"], rtol=1e-4, atol=1e-4)
    assert ours.texts(one["reference"]) == [utterance.text for utterance in ours.utterances("validation")]
    assert one["hypothesis"].dtype == torch.int16


def test_word_and_character_errors_are_of_all_clips_together():
    ours = task()
    said = ours.alphabet.encode("ab de"), ours.alphabet.encode("ab")
    heard = ours.alphabet.encode("ab d"), ours.alphabet.encode("ab")
    pad = [
        torch.nn.utils.rnn.pad_sequence([torch.tensor(x) for x in xs], batch_first=True, padding_value=-1)
        for xs in (said, heard)
    ]
    outcome = {
        "reference": pad[0],
        "hypothesis": pad[1],
        "loss": torch.tensor([1.0, 3.0]),
        "part": torch.tensor([0, 1]),
    }
    assert ours.metrics(outcome) == pytest.approx({"loss": 2.0, "wer": 100 / 3, "cer": 100 / 7})
    ours.parts = ("92", "93")
    assert ours.metrics(outcome)["wer 92"] == pytest.approx(50)
    assert ours.metrics(outcome)["wer 93"] == 0


def test_logits_of_padding_are_no_outputs():
    ours = task()
    batch = ours.examples("train").__getitems__([0, 1, 2])
    rows = ours.outputs(ours.build_model(), batch)
    assert rows.shape == (int(((batch.lengths + 1) // 2).sum()), ours.alphabet.size)


def test_live_frames_that_an_older_redense_counted_otherwise_make_another_fingerprint():
    def live(seconds: float) -> Speech:
        said = Utterance(Clip(Path("a.wav"), "a", "ab"), "ab", seconds)
        corpus = Corpus(
            {"train": [said], "validation": [said], "test": [said]}, Alphabet(("a", "b")), (), "data", ("o",)
        )
        return Speech(DATA.model_copy(update={"features": "live"}), MODEL, corpus)

    plain, resampled = live(1.0), live(44_098 / 44_100)
    assert resampled.examples("train").lengths == plain.examples("train").lengths == [99]
    assert (plain.fingerprint, plain.known_as) == ("data", ("o",))
    assert (resampled.fingerprint, resampled.known_as) == ("data/frames as made", ("data", "o"))


def test_stored_and_live_frames_are_the_same_up_to_half_precision():
    stored, live = task().examples("train"), task({"features": "live"}).examples("train")
    assert list(stored.lengths) == list(live.lengths)
    a, b = stored.__getitems__([3, 7]), live.__getitems__([3, 7])
    torch.testing.assert_close(a.frames, b.frames, atol=5e-3, rtol=1e-3)
    assert a.symbols.equal(b.symbols)
    assert list(stored.lengths)[3] == a.lengths[0]


def test_spectrograms_are_made_once_and_damaged_ones_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "_CLIPS", 16)
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path))
    before = task().examples("train").__getitems__([20]).frames
    shards = sorted((tmp_path / "spectrograms").glob("*.safetensors"))
    assert len(shards) >= 5
    first = {path: path.stat().st_mtime_ns for path in shards}
    data = bytearray(shards[0].read_bytes())
    data[len(data) // 2] ^= 1  # of a number
    shards[0].write_bytes(data)
    shards[1].unlink()  # as if it had been interrupted
    shards[2].with_suffix(".sha256").unlink()  # of an older redense
    assert task().examples("train").__getitems__([20]).frames.equal(before)
    again = {path: path.stat().st_mtime_ns for path in shards}
    assert {path for path in first if again[path] != first[path]} == set(shards[:3])


def test_augmentation_is_of_the_epoch_and_the_clip_and_of_training_alone():
    ours = task({"augment": SpecAugment(times=1, frequencies=1), "features": "live", "noise": 20.0})
    train = ours.examples("train")

    def frames(seed: int, indices: list[int]) -> torch.Tensor:
        train.begin_epoch(seed)
        return train.__getitems__(indices).frames[-1, :20]

    assert frames(1, [5]).equal(frames(1, [2, 5]))
    assert not frames(1, [5]).equal(frames(2, [5]))
    validation = ours.examples("validation")
    plain = validation.__getitems__([0]).frames
    validation.begin_epoch(2)
    assert validation.__getitems__([0]).frames.equal(plain)


def test_a_file_of_ones_own_becomes_the_frames_of_the_network():
    ours = task()
    samples = torch.from_numpy(resample(torch.randn(8_000).numpy(), 8_000, 16_000))
    frames = spectrogram(samples, DATA.spectrogram)
    both = torch.nn.utils.rnn.pad_sequence([frames, frames[:50]], batch_first=True)
    batch = SpeechBatch(both, torch.tensor([len(frames), 50]), torch.full((2, 1), -1), torch.zeros(2).long())
    log_probs, lengths = ours.log_probs(ours.build_model(), batch)
    assert log_probs.shape == (50, 2, ours.alphabet.size)
    assert lengths.tolist() == [50, 25]
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(50, 2))


def test_a_sketch_has_the_shape_of_the_real_task():
    recipe = load_recipe("tones/deepspeech", ["--model.hidden", "8"])
    facts = facts_of(recipe)
    sketch, real = sketch_task(recipe, facts, 4), make_task(recipe)
    batch: SpeechBatch = sketch.examples("train").__getitems__([0, 1])
    assert batch.frames.shape == (2, facts.details["frames"], 161)
    assert torch.isfinite(sketch.loss(sketch.build_model(), batch))
    shapes = [{n: p.shape for n, p in t.build_model().named_parameters()} for t in (sketch, real)]
    assert shapes[0] == shapes[1]
    with torch.no_grad():
        outcome = sketch.outcome(sketch.build_model(), batch)
    assert set(sketch.metrics(outcome)) == {"loss", "wer", "cer"}


def test_a_plan_of_the_papers_recipe_needs_no_data():
    facts = facts_of(load_recipe("wsj/deepspeech"))
    assert not facts.looked_at
    assert facts.train == 37_416
    assert "28 symbols" in facts.text


def test_other_counts_than_the_recipe_expects_are_noted():
    data = SpeechData.model_validate({"expected": {"train": 999, "seconds": 1, "symbols": 3}})
    assert any("the recipe expects 999" in note for note in Speech(data, MODEL).notes)


def test_weights_of_a_library_are_refused():
    with pytest.raises(DataError, match="no library has weights of deepspeech"):
        task().pretrained("torchvision:X")


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="needs features: live"):
        SpeechData(noise=10.0)
    with pytest.raises(ValueError, match="nothing to train on"):
        SpeechData(validation=0.5, test=0.5)
    assert SpeechData.model_validate({"source": ["a", "b"]}).sources == ("a", "b")
