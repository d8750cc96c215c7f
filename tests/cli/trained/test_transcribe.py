"""transcribe and decode: a run of recognition end to end, without its data; every mistake is one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from redense.errors import DataError
from redense.files.checksums import read_sums, write_sums
from redense.lab.recipe.recipe import build_recipe
from redense.lab.runs import decoding
from redense.lab.runs.export import export_run
from redense.lab.runs.run import new_run, train_run
from redense.tasks.speech.config import SpeechModel
from redense.tasks.speech.data.tones import write_tones
from redense.tasks.speech.network.models import build
from redense.tasks.speech.task import Speech
from redense.tasks.speech.transcripts.alphabet import Alphabet
from redense.tasks.speech.transcripts.beam import Lexicon
from redense.tasks.speech.transcripts.language import train
from redense.tasks.speech.transcripts.scoring import error_counts

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("flashlight.lib.text")

Run = Callable[..., tuple[int, str, str]]


DATA = {"source": "tones"}
MODEL = {"name": "deepspeech", "hidden": 48, "context": 5, "stride": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves of a network that has learned nothing, without its data."""
    folder = tmp_path_factory.mktemp("untrained")
    phases = {"dense": {"epochs": 1}, "sparse": {"epochs": 1, "sparsity": 0.3}, "redense": {"epochs": 1}}
    recipe = build_recipe({"name": "untrained", "task": "speech", "data": DATA, "model": MODEL, **phases})
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    symbols = list(" abde")
    (folder / "artifacts").mkdir()
    (folder / "artifacts/alphabet.json").write_text(json.dumps(symbols))
    torch.manual_seed(0)
    save_file(
        build(SpeechModel.model_validate(MODEL), 161, len(symbols) + 1).state_dict(), folder / "model.safetensors"
    )
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal(16_000) / 9, 16_000)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run on made-up words in tones: some seconds of training, so it hears most letters."""
    folder = tmp_path_factory.mktemp("heard")
    write_tones(folder / "tones", 120)
    lines = (folder / "tones" / "manifest.jsonl").read_text().splitlines(keepends=True)
    (folder / "tones" / "manifest.jsonl").rename(folder / "all.jsonl")
    for name, part in {
        "train": lines[:90],
        "dev": lines[90:100],
        "test_92": lines[100:110],
        "test_93": lines[110:],
    }.items():
        (folder / "tones" / f"{name}.jsonl").write_text("".join(part))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDENSE_CACHE", str(folder / "cache"))
        recipe = build_recipe(
            {
                "name": "heard",
                "task": "speech",
                "data": {"source": str(folder / "tones")},
                "model": MODEL,
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
def clips(trained: Path) -> list[tuple[Path, str]]:
    lines = (trained.parent / "all.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    return [(trained.parent / "tones" / item["audio_filepath"], item["text"]) for item in items]


@pytest.fixture
def decoded(trained: Path, redense: Run) -> Path:
    if not (trained / "decoding").exists():
        code, _, err = redense("decode", trained, "--order", 2, "--beam", 30)
        assert (code, err) == (0, "")
    return trained


def test_the_name_of_a_file_makes_no_line_of_its_own(run: Path, clip: Path, redense: Run):
    clip.rename(clip.with_name("a.wav: hello\nzz.wav"))
    code, out, _ = redense("transcribe", run, clip.parent)
    assert code == 0
    assert len(out.splitlines()) == 1
    assert r"a.wav: hello\u000azz.wav:" in out


@pytest.mark.slow
def test_one_file_is_a_line_of_text(trained, clips, redense):
    code, out, err = redense("transcribe", trained, clips[0][0])
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert error_counts([out], [clips[0][1]], "characters").errors < len(clips[0][1]) / 2


@pytest.mark.slow
def test_several_files_are_named_and_most_letters_are_heard(trained, clips, redense):
    code, out, err = redense("transcribe", trained, *(path for path, _ in clips[:30]))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(path) for path, _ in clips[:30]]
    heard = [line.partition(": ")[2] for line in lines]
    rate = error_counts(heard, [text for _, text in clips[:30]], "characters").rate
    assert rate is not None
    assert rate < 40


@pytest.mark.slow
def test_json_has_the_time_of_every_word(trained, clips, redense):
    path = clips[1][0]
    code, out, _ = redense("transcribe", trained, path, "--json")
    line = json.loads(out)
    assert (code, line["file"], line["decoding"]) == (0, str(path), "greedy")
    assert line["text"] == " ".join(word["word"] for word in line["words"])
    assert line["words"]
    length = soundfile.info(str(path)).duration
    assert line["seconds"] == pytest.approx(length, abs=1e-3)
    for word in line["words"]:
        assert 0 <= word["start"] < word["end"] <= length + 0.02


@pytest.mark.slow
def test_transcribing_needs_no_training_data(trained, clips, redense, tmp_path):
    alone = tmp_path / "elsewhere"
    alone.mkdir()
    (alone / "artifacts").mkdir()
    for name in ("recipe.yaml", "artifacts/alphabet.json", "model.safetensors"):
        (alone / name).write_bytes((trained / name).read_bytes())
    recipe = (alone / "recipe.yaml").read_text()
    (alone / "recipe.yaml").write_text(recipe.replace(str(trained.parent / "tones"), "/nowhere"))
    there, here = (redense("transcribe", folder, clips[2][0])[:2] for folder in (trained, alone))
    assert there == here == (0, there[1])


@pytest.mark.slow
def test_a_long_recording_is_heard_in_pieces_as_in_one(trained, clips, redense, tmp_path):
    samples = np.concatenate([soundfile.read(path)[0] for path, _ in clips[:40]] * 2)
    soundfile.write(tmp_path / "long.wav", samples, 16_000)
    whole = redense("transcribe", trained, "long.wav", "--piece", 1000)[1]
    pieces = redense("transcribe", trained, "long.wav", "--piece", 10)[1]
    assert len(whole.split()) > 60
    rate = error_counts([pieces], [whole], "characters").rate
    assert rate is not None
    # Each piece has a normalisation of its own, which a network that has hardly learned notices now and then.
    assert rate < 20


@pytest.mark.slow
def test_a_language_model_is_tuned_measured_and_used(trained, clips, redense, decoded):
    assert list(read_sums(decoded / "decoding")) == ["decoding.json", "language.arpa"]
    kept = json.loads((decoded / "decoding" / "decoding.json").read_text())
    assert kept["model"] == "language.arpa"
    assert kept["search"]["width"] == 30
    assert len(kept["validation"]) == 20
    best = min(row["wer"] for row in kept["validation"])
    chosen = [row["wer"] for row in kept["validation"] if row["lm_weight"] == kept["search"]["lm_weight"]]
    assert best in chosen
    assert kept["test"]["beam"]["wer"] < kept["test"]["greedy"]["wer"]
    assert kept["change"]["points"] == pytest.approx(kept["test"]["beam"]["wer"] - kept["test"]["greedy"]["wer"])
    paths = [path for path, _ in clips[100:]]
    greedy, beam = (redense("transcribe", trained, *paths, *more)[1] for more in ([], ["--beam"]))
    said = [text for _, text in clips[100:]]
    rates = [
        error_counts([line.partition(": ")[2] for line in out.splitlines()], said).rate or 0 for out in (greedy, beam)
    ]
    assert rates[1] < rates[0]


@pytest.mark.slow
def test_decode_says_what_it_found(trained, redense):
    code, out, err = redense("decode", trained, "--order", 2, "--beam", 20)
    assert (code, err) == (0, "")
    assert "language model: 2-grams of" in out
    assert "  greedy" in out
    assert "of the test words are not among the" in out
    assert out.count("92 wer") == out.count("93 wer") == 2
    assert "--beam" in out.splitlines()[-1]
    code, out, _ = redense("decode", trained, "--order", 2, "--beam", 20, "--json")
    assert json.loads(out)["search"]["width"] == 20


@pytest.mark.slow
def test_a_model_and_a_lexicon_can_be_given(trained, clips, redense, tmp_path, decoded):
    arpa = decoded / "decoding" / "language.arpa"
    path, text = clips[0]
    with_arpa = redense("transcribe", trained, path, "--beam", "--lm", arpa)
    assert with_arpa[0] == 0
    (tmp_path / "words.txt").write_text("\n".join(sorted(set(text.split()))) + "\n")
    code, out, _ = redense("transcribe", trained, path, "--beam", 50, "--lexicon", tmp_path / "words.txt")
    assert code == 0
    assert set(out.split()) <= set(text.split())


def test_kenlm_says_nothing_on_the_terminal(tmp_path, capfd):
    train(["a b"], 2).write(tmp_path / "text.arpa")
    Lexicon(Alphabet(tuple(" ab")), model=tmp_path / "text.arpa")
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_the_report_of_a_run_has_its_sets_and_clips(trained, redense):
    code, out, _ = redense("report", trained)
    assert code == 0
    page = Path(out.strip()).read_text(encoding="utf-8")
    assert "WER, 92, %" in page
    assert "D0 (dense)" in page
    assert page.count("<audio") >= 5
    assert "said" in page


def test_the_data_of_a_run_is_not_needed(run, clip, redense):
    code, out, err = redense("transcribe", run, clip, "--json")
    line = json.loads(out)
    assert (code, err) == (0, "")
    assert (line["file"], line["seconds"], line["decoding"]) == (str(clip), 1.0, "greedy")
    assert line["text"] == " ".join(word["word"] for word in line["words"])


def test_text_is_a_line_a_file_named_where_there_are_several(run, clip, redense):
    code, out, _ = redense("transcribe", run, clip)
    assert (code, out.count("\n")) == (0, 1)
    assert redense("transcribe", run, clip, clip)[1].splitlines() == [f"{clip}: {out.strip()}".strip()] * 2


def test_a_beam_without_words_searches_over_letters(run, clip, redense):
    code, out, err = redense("transcribe", run, clip, "--beam", 5, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["decoding"] == "beam"
    assert set(json.loads(out)["text"]) <= set(" abde")


def test_words_of_a_lexicon_that_cannot_be_heard_are_counted(run, clip, redense, tmp_path):
    (tmp_path / "words.txt").write_text("bad\nBed\nzoo\n")
    code, _, err = redense("transcribe", run, clip, "--beam", 5, "--lexicon", tmp_path / "words.txt")
    assert (code, err) == (0, "note: 2 words with letters that the network does not know cannot be heard\n")


def test_a_beam_is_as_wide_as_it_was_tuned_unless_a_width_is_given(run, clip, redense, monkeypatch):
    asked: list[int | None] = []
    monkeypatch.setattr(decoding, "kept_decoder", lambda folder, alphabet, width: asked.append(width))
    for given in (["--beam"], ["--beam", 7]):
        assert redense("transcribe", run, clip, *given)[0] == 0
    assert asked == [None, 7]


def test_a_search_that_cannot_be_made_leaves_the_one_before(tmp_path):
    alphabet = Alphabet(tuple(" abde"))
    task: Any = Speech.__new__(Speech)
    task.alphabet = alphabet
    task.utterances = lambda split: [SimpleNamespace(text="bad bed")]
    engine: Any = SimpleNamespace(task=task)
    (tmp_path / "decoding").mkdir()
    train(["a bed"], 2).write(tmp_path / "decoding" / "language.arpa")
    search = {"width": 30, "threshold": 50, "lm_weight": 1, "word_score": 0}
    kept = {"model": "language.arpa", "lexicon": None, "search": search}
    (tmp_path / "decoding" / "decoding.json").write_text(json.dumps(kept))
    write_sums(tmp_path / "decoding", [*(tmp_path / "decoding").iterdir()])
    before = {path.name: path.read_bytes() for path in (tmp_path / "decoding").iterdir()}
    with pytest.raises(DataError, match="none of 1 words can be spelled"):
        decoding.decode_run(tmp_path, engine, order=3, lexicon=["zoo"])
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "decoding").iterdir()}
    found = decoding.kept_decoder(tmp_path, alphabet)
    assert found
    assert found.search.width == 30
    assert found.lexicon
    assert found.lexicon.words == ["a", "bed"]


def test_an_export_has_the_search_that_was_tuned_and_its_language_model(run, redense, clip, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    result = {"redense": "1", "seed": 0, "test_examples": 1, "phases": [], "layers": [], "metric": {"name": "wer"}}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "environment.json").write_text("{}")
    (folder / "checkpoints").mkdir()
    (folder / "decoding").mkdir()
    train(["bad bed"], 2).write(tmp_path / "my.arpa")
    search = {"width": 30, "threshold": 50, "lm_weight": 1, "word_score": 9}
    kept = {"model": str(tmp_path / "my.arpa"), "lexicon": ["bad"], "search": search}
    (folder / "decoding/decoding.json").write_text(json.dumps(kept))
    write_sums(folder / "decoding", [folder / "decoding/decoding.json"])
    out = export_run(folder, tmp_path / "out")
    heard = [redense("transcribe", place, clip, "--beam")[:2] for place in (folder, out)]
    assert heard[0] == heard[1]
    assert set(heard[0][1].split()) == {"bad"}
    assert (out / "decoding/my.arpa").read_bytes() == (tmp_path / "my.arpa").read_bytes()
    (tmp_path / "my.arpa").unlink()
    assert redense("transcribe", out, clip, "--beam")[:2] == heard[0]


def test_other_recordings_are_judged_whole_where_they_have_no_test_split(run, redense, tmp_path, monkeypatch):
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    rows: list[str] = []
    for name in ("bad", "bed", "zoo"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(len(rows)).standard_normal(8_000) / 9, 16_000)
        rows.append(json.dumps({"audio_filepath": f"{name}.wav", "text": name}))
    (tmp_path / "all.jsonl").write_text("\n".join(rows))
    found: list[dict[str, Any]] = []
    for name in ("all", "test"):
        (tmp_path / "all.jsonl").replace(tmp_path / f"{name}.jsonl")
        found.append(json.loads(redense("evaluate", run, "--data", tmp_path, "--json")[1]))
    assert [(one["split"], one["examples"]) for one in found] == [("all", 2), ("test", 2)]
    assert found[0]["wer"] == found[1]["wer"]
    assert any("has 'o', which is not in data.alphabet: 1" in note for note in found[0]["notes"])
    err = redense("evaluate", run, "--data", tmp_path, "--split", "validation")[2]
    assert err == f"redense: {tmp_path} has no validation split: give --split all\n"


def test_a_lexicon_that_a_language_model_does_not_know_is_said(run, redense, clip, tmp_path):
    train(["bad bed"], 2).write(tmp_path / "m.arpa")
    (tmp_path / "words.txt").write_text("bad\nabed\n")
    given = ["transcribe", run, clip, "--beam", "--lm", tmp_path / "m.arpa", "--lexicon", tmp_path / "words.txt"]
    assert redense(*given)[2] == f"note: 1 word of {tmp_path}/words.txt not in {tmp_path}/m.arpa\n"
    (tmp_path / "words.txt").write_text("abba\n")
    code, _, err = redense(*given)
    assert code == 2
    assert "has none of the 1 words that can be heard, such as 'abba': is the case right?" in err


# --- mistakes -------------------------------------------------------------------------------------------------------


def test_a_bad_file_is_a_line_and_the_others_are_still_heard(run, clip, redense, tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    bad = ["empty.wav", "text.wav", "silent.wav", "none.wav", "nan.wav", "missing.wav"]
    code, out, err = redense("transcribe", run, *bad, clip)
    assert code == 2
    assert out.startswith(str(clip))
    lines = err.splitlines()
    assert len(lines) == len(bad)
    reasons = ["is empty", "is no sound file", "is silent", "holds no sound", "are no numbers", "is missing"]
    for line, name, reason in zip(lines, bad, reasons, strict=True):
        assert line.startswith(f"redense: {name} ")
        assert reason in line
    code, out, _ = redense("transcribe", run, *bad, clip, "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert [one["file"] for one in told] == [*bad, str(clip)]
    assert [line.partition(f"{one['file']} ")[2] for line, one in zip(lines, told, strict=False)] == [
        one["error"] for one in told[:-1]
    ]
    assert (code, "error" in told[-1]) == (2, False)


@pytest.mark.parametrize(("ending", "said"), [("wav", "ends 4.0 s before its header says"), ("ogg", "is cut off")])
def test_a_file_that_is_not_whole_is_heard_as_far_as_it_goes_with_a_note(run, redense, tmp_path, ending, said):
    path = tmp_path / f"cut.{ending}"
    soundfile.write(path, np.random.default_rng(0).standard_normal(128_000) / 10, 16_000)
    assert redense("transcribe", run, path)[2] == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = redense("transcribe", run, path)
    assert (code, err) == (0, f"note: {path} {said}: what there is was transcribed\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("RUN", "required: FILE"),
        ("nothing x.wav", "nothing is no run folder"),
        ("RUN x.wav --lm y.arpa", "--lm is for a search: give --beam too"),
        ("RUN x.wav --lm-weight 2", "--lm-weight is for a search"),
        ("RUN x.wav --beam --word-score 2", "weights are of a language model"),
        ("RUN x.wav --beam --lexicon words.txt --lm-weight 2", "weights are of a language model"),
        ("RUN x.wav --beam 0", "--beam must be a whole number from 1 to 10,000, got '0'"),
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
        ("--lm a --order 3", "leave one of them out"),
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


def test_a_run_of_another_task_is_refused(redense, recipe_file, tmp_path):
    (tmp_path / "images").mkdir()
    recipe_file.rename(tmp_path / "images" / "recipe.yaml")
    for verb in (["transcribe", "images", "x.wav"], ["decode", "images"]):
        code, _, err = redense(*verb)
        assert (code, err) == (2, "redense: images is a run of classification, and no speech recognition\n")


def test_a_damaged_search_is_said_to_be_damaged(run, redense, clip, tmp_path):
    copy = tmp_path / "copy"
    (copy / "artifacts").mkdir(parents=True)
    for name in ("recipe.yaml", "artifacts/alphabet.json", "model.safetensors"):
        (copy / name).write_bytes((run / name).read_bytes())
    (copy / "decoding").mkdir()
    for content in ("{", "{}", '{"search": {"width": "a"}}'):
        (copy / "decoding" / "decoding.json").write_text(content)
        code, _, err = redense("transcribe", copy, clip, "--beam")
        assert code == 2
        assert "decoding.json" in err
    write_sums(copy / "decoding", [copy / "decoding" / "decoding.json"])
    (copy / "decoding" / "decoding.json").write_text('{"search": {"width": "b"}}')
    code, _, err = redense("transcribe", copy, clip, "--beam")
    assert (code, err.count("\n")) == (2, 1)
    assert "decoding.json is damaged: it does not match its checksum" in err
    (copy / "model.safetensors").unlink()
    assert "has no model.safetensors yet" in redense("transcribe", copy, clip)[2]
