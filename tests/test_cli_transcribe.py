"""transcribe and decode: a run of recognition end to end, without its data; every mistake is one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from redense.lab.recipe import build_recipe
from redense.lab.run import new_run, train_run
from redense.tasks.speech.alphabet import Alphabet
from redense.tasks.speech.beam import Lexicon
from redense.tasks.speech.data.tones import write_tones
from redense.tasks.speech.language import train
from redense.tasks.speech.scoring import error_counts

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("flashlight.lib.text")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run on made-up words in tones: a few seconds of training, so it hears most letters."""
    folder = tmp_path_factory.mktemp("heard")
    write_tones(folder / "tones", 120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDENSE_CACHE", str(folder / "cache"))
        recipe = build_recipe(
            {
                "name": "heard",
                "task": "speech",
                "data": {"source": str(folder / "tones" / "manifest.jsonl")},
                "model": {"name": "deepspeech", "hidden": 48, "context": 5, "stride": 2},
                "training": {"batch_size": 8, "optimizer": {"name": "adamw", "lr": 0.004}, "clip_norm": 20},
                "dense": {"epochs": 12},
                "sparse": {"epochs": 1, "sparsity": 0.3},
                "redense": {"epochs": 1},
            }
        )
        out = new_run(recipe, folder / "run")
        train_run(out)
        yield out


@pytest.fixture
def clips(run: Path) -> list[tuple[Path, str]]:
    lines = (run.parent / "tones" / "manifest.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    return [(run.parent / "tones" / item["audio_filepath"], item["text"]) for item in items]


@pytest.fixture
def decoded(run: Path, redense: Run) -> Path:
    if not (run / "decoding").exists():
        code, _, err = redense("decode", run, "--order", 2, "--beam", 30)
        assert (code, err) == (0, "")
    return run


def test_one_file_is_a_line_of_text(run, clips, redense):
    code, out, err = redense("transcribe", run, clips[0][0])
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert error_counts([out], [clips[0][1]], "characters").errors < len(clips[0][1]) / 2


def test_several_files_are_named_and_most_letters_are_heard(run, clips, redense):
    code, out, err = redense("transcribe", run, *(path for path, _ in clips[:30]))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(path) for path, _ in clips[:30]]
    heard = [line.partition(": ")[2] for line in lines]
    rate = error_counts(heard, [text for _, text in clips[:30]], "characters").rate
    assert rate is not None
    assert rate < 40


def test_json_has_the_time_of_every_word(run, clips, redense):
    path = clips[1][0]
    code, out, _ = redense("transcribe", run, path, "--json")
    line = json.loads(out)
    assert (code, line["file"], line["decoding"]) == (0, str(path), "greedy")
    assert line["text"] == " ".join(word["word"] for word in line["words"])
    assert line["words"]
    length = soundfile.info(str(path)).duration
    for word in line["words"]:
        assert 0 <= word["start"] < word["end"] <= length + 0.02


def test_transcribing_needs_no_training_data(run, clips, redense, tmp_path):
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    for name in ("recipe.yaml", "evidence.json", "model.safetensors"):
        (alone / name).write_bytes((run / name).read_bytes())
    recipe = (alone / "recipe.yaml").read_text()
    (alone / "recipe.yaml").write_text(recipe.replace(str(run.parent / "tones"), "/nowhere"))
    there, here = (redense("transcribe", folder, clips[2][0])[:2] for folder in (run, alone))
    assert there == here == (0, there[1])


def test_a_long_recording_is_heard_in_pieces_as_in_one(run, clips, redense, tmp_path):
    samples = np.concatenate([soundfile.read(path)[0] for path, _ in clips[:40]] * 2)
    soundfile.write(tmp_path / "long.wav", samples, 16_000)
    whole = redense("transcribe", run, "long.wav", "--piece", 1000)[1]
    pieces = redense("transcribe", run, "long.wav", "--piece", 10)[1]
    assert len(whole.split()) > 60
    rate = error_counts([pieces], [whole], "characters").rate
    assert rate is not None
    # Each piece has a normalisation of its own, which a network that has hardly learned notices now and then.
    assert rate < 20


def test_a_language_model_is_tuned_measured_and_used(run, clips, redense, decoded):
    kept = json.loads((decoded / "decoding" / "decoding.json").read_text())
    assert kept["model"] == "language.arpa"
    assert kept["search"]["width"] == 30
    assert len(kept["validation"]) == 20
    best = min(row["wer"] for row in kept["validation"])
    chosen = [row["wer"] for row in kept["validation"] if row["lm_weight"] == kept["search"]["lm_weight"]]
    assert best in chosen
    assert kept["test"]["beam"]["wer"] < kept["test"]["greedy"]["wer"]
    assert kept["change"]["points"] == pytest.approx(kept["test"]["beam"]["wer"] - kept["test"]["greedy"]["wer"])
    paths = [path for path, _ in clips[:20]]
    greedy, beam = (redense("transcribe", run, *paths, *more)[1] for more in ([], ["--beam"]))
    said = [text for _, text in clips[:20]]
    rates = [
        error_counts([line.partition(": ")[2] for line in out.splitlines()], said).rate or 0 for out in (greedy, beam)
    ]
    assert rates[1] < rates[0]


def test_decode_says_what_it_found(run, redense):
    code, out, err = redense("decode", run, "--order", 2, "--beam", 20)
    assert (code, err) == (0, "")
    assert "language model: 2-grams of" in out
    assert "  greedy" in out
    assert "of the test words are not among the" in out
    assert "--beam" in out.splitlines()[-1]
    code, out, _ = redense("decode", run, "--order", 2, "--beam", 20, "--json")
    assert json.loads(out)["search"]["width"] == 20


def test_a_model_and_a_lexicon_can_be_given(run, clips, redense, tmp_path, decoded):
    arpa = decoded / "decoding" / "language.arpa"
    path, text = clips[0]
    with_arpa = redense("transcribe", run, path, "--beam", "--lm", arpa)
    assert with_arpa[0] == 0
    (tmp_path / "words.txt").write_text("\n".join(sorted(set(text.split()))) + "\n")
    code, out, _ = redense("transcribe", run, path, "--beam", 50, "--lexicon", tmp_path / "words.txt")
    assert code == 0
    assert set(out.split()) <= set(text.split())


def test_kenlm_says_nothing_on_the_terminal(tmp_path, capfd):
    train(["a b"], 2).write(tmp_path / "text.arpa")
    Lexicon(Alphabet(tuple(" ab")), model=tmp_path / "text.arpa")
    assert capfd.readouterr().err == ""


# --- mistakes -------------------------------------------------------------------------------------------------------


def test_a_bad_file_is_a_line_and_the_others_are_still_heard(run, clips, redense, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    bad = ["empty.wav", "text.wav", "silent.wav", "none.wav", "nan.wav", "missing.wav"]
    code, out, err = redense("transcribe", run, *bad, clips[0][0])
    assert code == 1
    assert out.startswith(str(clips[0][0]))
    lines = err.splitlines()
    assert len(lines) == len(bad)
    reasons = ["is empty", "is no sound file", "is silent", "holds no sound", "are no numbers", "No such file"]
    for line, name, reason in zip(lines, bad, reasons, strict=True):
        assert line.startswith(f"redense: {name} ")
        assert reason in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("RUN", "required: FILE"),
        ("nothing x.wav", "nothing is no run folder"),
        ("RUN x.wav --lm y.arpa", "--lm is for a search: give --beam too"),
        ("RUN x.wav --lm-weight 2", "--lm-weight is for a search"),
        ("RUN x.wav --beam --word-score 2", "weights are of a language model"),
        ("RUN x.wav --beam 0", "--beam must be a whole number of at least 1, got '0'"),
        ("RUN x.wav --beam wide", "got 'wide'"),
        ("RUN x.wav --piece 0", "longer than 0 seconds, got 0"),
        ("RUN x.wav --piece long", "--piece must be a number, got 'long'"),
        ("RUN x.wav --beam --lm none.arpa", "cannot read the language model none.arpa"),
        ("RUN x.wav --beam --lexicon none.txt", "cannot read none.txt"),
    ],
    ids=str,
)
def test_every_mistake_is_one_line(run, redense, arguments, message):
    code, out, err = redense("transcribe", *(run if part == "RUN" else part for part in arguments.split()))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--order 1", "must be 2 to 6, got 1"),
        ("--order x", "--order must be a whole number"),
        ("--lm a --text b", "give one of them"),
        ("--text none.txt", "cannot read none.txt"),
        ("--lm none.arpa", "cannot read the language model none.arpa"),
    ],
    ids=str,
)
def test_every_mistake_of_decode_is_one_line(run, redense, arguments, message):
    code, _, err = redense("decode", run, *arguments.split())
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_run_of_another_task_is_refused(redense, recipe_file):
    assert redense("run", recipe_file, "--out", "images", "--quiet", "--no-store")[0] == 0
    for verb in (["transcribe", "images", "x.wav"], ["decode", "images"]):
        code, _, err = redense(*verb)
        assert (code, err) == (2, "redense: images is a run of classification, and no speech recognition\n")


def test_a_damaged_search_is_said_to_be_damaged(run, redense, clips, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("recipe.yaml", "evidence.json", "model.safetensors"):
        (copy / name).write_bytes((run / name).read_bytes())
    (copy / "decoding").mkdir()
    for content in ("{", "{}", '{"search": {"width": "a"}}'):
        (copy / "decoding" / "decoding.json").write_text(content)
        code, _, err = redense("transcribe", copy, clips[0][0], "--beam")
        assert code == 2
        assert "decoding.json" in err
    (copy / "model.safetensors").unlink()
    assert "has no model.safetensors yet" in redense("transcribe", copy, clips[0][0])[2]
