import gzip
import json
from pathlib import Path

import pytest

from redense.tasks.fetching.recordings import MANIFEST, arrange, asterisk, fillets, tux, tux_and_asterisk


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def stamps(root: Path) -> Path:
    write(root / "animals/fox_desc_es.ogg", "fox")
    write(root / "animals/fox_desc_fr.ogg", "renard")
    write(root / "animals/fox.txt", "A fox.\nes.utf8=Un zorro.\nfr.utf8=Un renard.\n")
    write(root / "animals/owl_desc_es.ogg", "no text beside it")
    return root


def prompts(root: Path) -> tuple[Path, Path]:
    words, sounds = root / "words", root / "sounds"
    words.mkdir(parents=True)
    with gzip.open(words / "core-sounds-es.txt.gz", "wt", encoding="utf-8") as file:
        file.write("; comment: not one\n\nhello: Hola: mundo\ndigits/1: uno\nlost: sin archivo\n../../secret: fuera\n")
    write(sounds / "es_MX_f_Allison/hello.wav", "hello")
    write(sounds / "es_MX_f_Allison/digits/1.wav", "one")
    write(root / "secret.wav", "outside")
    return words, sounds


def entries(ready: Path) -> list[dict[str, str]]:
    found = [json.loads(line) for line in (ready / MANIFEST).read_text(encoding="utf-8").splitlines()]
    assert all((ready / entry["audio_filepath"]).is_file() for entry in found)
    return found


def test_stamps_with_a_sound_and_a_sentence_of_the_language_are_taken(tmp_path: Path):
    ready = tmp_path / "ready"
    ready.mkdir()
    arrange(tux, "es", [stamps(tmp_path / "stamps")], ready)
    assert entries(ready) == [
        {"audio_filepath": "tux/animals/fox_desc_es.ogg", "text": "Un zorro.", "speaker": "tux-es"}
    ]
    assert (ready / "tux/animals/fox_desc_es.ogg").read_text() == "fox"


def test_prompts_are_joined_with_their_sentences_and_nothing_outside_of_the_folder(tmp_path: Path):
    ready = tmp_path / "ready"
    ready.mkdir()
    arrange(asterisk, "es", prompts(tmp_path), ready)
    assert [(entry["audio_filepath"], entry["text"]) for entry in entries(ready)] == [
        ("asterisk/digits/1.wav", "uno"),
        ("asterisk/hello.wav", "Hola: mundo"),
    ]


def test_dialogues_take_the_sentence_that_follows_their_name(tmp_path: Path):
    scripts, sounds, ready = tmp_path / "scripts", tmp_path / "sounds", tmp_path / "ready"
    ready.mkdir()
    write(
        scripts / "script/ship/dialogs_nl.lua",
        'dialogId("a-m-1", "font", "One \\"two\\".")\ndialogStr("Een \\"twee\\".")\n'
        'dialogId("a-v-2", "font", "x")\ndialogStr("Drie.")\ndialogId("silent", "font", "x")\ndialogStr("Stil.")\n',
    )
    write(sounds / "sound/ship/nl/a-m-1.ogg", "1")
    write(sounds / "sound/ship/nl/a-v-2.ogg", "2")
    arrange(fillets, "nl", [scripts, sounds], ready)
    assert [(entry["text"], entry["speaker"]) for entry in entries(ready)] == [
        ('Een "twee".', "small fish"),
        ("Drie.", "big fish"),
    ]


def test_two_sources_are_joined_in_one_list(tmp_path: Path):
    ready = tmp_path / "ready"
    ready.mkdir()
    arrange(tux_and_asterisk, "es", [stamps(tmp_path / "stamps"), *prompts(tmp_path / "prompts")], ready)
    assert [entry["speaker"] for entry in entries(ready)] == ["tux-es", "es_MX_f_Allison", "es_MX_f_Allison"]


def test_packages_without_recordings_are_told_from_the_right_ones(tmp_path: Path):
    ready = tmp_path / "ready"
    ready.mkdir()
    with pytest.raises(FileNotFoundError, match="no recording"):
        arrange(tux, "es", [tmp_path], ready)
    with pytest.raises(FileNotFoundError, match="no folder es_"):
        arrange(asterisk, "es", [tmp_path, tmp_path], ready)
