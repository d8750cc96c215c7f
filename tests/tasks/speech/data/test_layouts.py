import json
from pathlib import Path

import pytest

from redense.errors import DataError
from redense.tasks.speech.data.layouts import read_source
from redense.tasks.speech.data.wsj import plain


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def shown(folder: Path) -> list[tuple[str | None, str, str, str]]:
    clips = read_source(str(folder))
    return [(clip.split, clip.part, clip.path.relative_to(folder).as_posix(), clip.text) for clip in clips]


def test_lists_of_json_lines_are_splits_by_their_names(tmp_path: Path):
    write(tmp_path / "train.jsonl", '{"audio_filepath": "a.wav", "duration": 1.0, "text": "uno"}\n\n')
    write(tmp_path / "dev.jsonl", '{"audio": "b.wav", "sentence": "dos"}\n')
    write(tmp_path / "test_92.jsonl", '{"path": "c.wav", "transcript": "tres"}\n')
    assert shown(tmp_path) == [
        ("validation", "", "b.wav", "dos"),
        ("test", "92", "c.wav", "tres"),
        ("train", "", "a.wav", "uno"),
    ]


def test_an_offset_chooses_a_piece_and_a_duration_alone_does_not(tmp_path: Path):
    lines = [{"audio_filepath": "a.wav", "text": "x", "duration": 2}, {"audio_filepath": "a.wav", "text": "y"}]
    lines[1] |= {"offset": 1.5, "duration": 0.5}
    path = write(tmp_path / "manifest.jsonl", "\n".join(map(json.dumps, lines)))
    whole, piece = read_source(str(path))
    assert (whole.start, whole.length) == (0.0, None)
    assert (piece.start, piece.length, piece.name) == (1.5, 0.5, "a.wav@1.5")


def test_a_table_may_choose_pieces_too(tmp_path: Path):
    rows = ["file_name,text,offset,duration", "a.wav,uno,1.5,0.5", "b.wav,dos,,9"]
    piece, whole = read_source(str(write(tmp_path / "metadata.csv", "\n".join(rows)).parent))
    assert (piece.start, piece.length, whole.start, whole.length) == (1.5, 0.5, 0.0, None)


def test_what_says_nothing_in_an_optional_column_is_as_if_its_key_were_not_there(tmp_path: Path):
    line = {"audio_filepath": "a.wav", "text": "x"}
    ways = [{"offset": n, "duration": 2, "speaker": n, "split": n} for n in (None, "", " ")]
    ways += [{"offset": 1.5, "duration": n} for n in (None, "")] + [{"speaker": 0}]
    (tmp_path / "list").mkdir()
    write(tmp_path / "list/all.jsonl", "\n".join(json.dumps(line | way) for way in ways))
    clips = read_source(str(tmp_path / "list"))
    assert [(clip.start, clip.length) for clip in clips] == [(0.0, None)] * 3 + [(1.5, None)] * 2 + [(0.0, None)]
    assert [clip.speaker for clip in clips] == [""] * 5 + ["0"]
    assert {clip.split for clip in clips} == {None}
    rows = ["file_name,text,offset,duration", "a.wav,uno,nan,2", "b.wav,dos, ,9", "c.wav,tres,1.5,NaN"]
    table = read_source(str(write(tmp_path / "table/metadata.csv", "\n".join(rows)).parent))
    assert [(clip.start, clip.length) for clip in table] == [(0.0, None)] * 2 + [(1.5, None)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("manifest_train.jsonl", "manifest_test.jsonl"),
        ("train.jsonl", "es_test.jsonl"),
        ("train.csv", "es_test.csv"),
        ("metadata_train.csv", "metadata_es_test.csv"),
        ("es_train/a.wav", "es_test/a.wav"),
    ],
)
def test_a_split_inside_a_name_is_asked_for_and_not_divided_anew(first: str, second: str, tmp_path: Path):
    lines = {".jsonl": '{"audio_filepath": "%s.wav", "text": "uno"}', ".wav": ""}
    for name in (first, second):
        line = "%s|uno" if "metadata" in name else lines.get(Path(name).suffix, "file_name,text\n%s.wav,uno")
        path = write(tmp_path / name, line.replace("%s", Path(name).stem))
        if path.suffix == ".wav":
            write(path.with_suffix(".txt"), "uno")
    with pytest.raises(DataError, match=r"is it of the (test|train) split\?"):
        read_source(str(tmp_path))


def test_two_sounds_with_one_transcript_are_refused(tmp_path: Path):
    for name in ("a.wav", "a.flac", "b.wav"):
        write(tmp_path / name)
    write(tmp_path / "a.txt", "uno")
    with pytest.raises(DataError, match=r"a\.flac and a\.wav have one transcript"):
        read_source(str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON lines"),
        ("[1]", "line 1: expected a JSON object, got list"),
        ('{"text": "x"}', "line 1: no path"),
        ('{"audio_filepath": "a.wav"}', "line 1: no transcript"),
        ('{"audio_filepath": "a.wav", "text": "x", "offset": "late"}', "offset must be in seconds, got 'late'"),
        (
            '{"audio_filepath": "a.wav", "text": "x", "offset": 1.0, "duration": 0}',
            "duration must be more than 0 seconds",
        ),
    ],
    ids=["broken", "list", "path", "text", "offset", "duration"],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str):
    write(tmp_path / "manifest.jsonl", line)
    with pytest.raises(DataError, match=message):
        read_source(str(tmp_path))


def test_audio_folders_of_hugging_face_have_one_table_or_one_a_split(tmp_path: Path):
    write(tmp_path / "one/metadata.csv", 'file_name,transcription\ntrain/a.wav,"uno, dos"\ntest/b.wav,tres\n')
    assert shown(tmp_path / "one") == [("train", "", "train/a.wav", "uno, dos"), ("test", "", "test/b.wav", "tres")]
    write(tmp_path / "two/train/metadata.csv", "file_name,text\na.wav,uno\n")
    write(tmp_path / "two/validation/metadata.jsonl", '{"file_name": "b.wav", "text": "dos"}')
    assert shown(tmp_path / "two") == [
        ("train", "", "train/a.wav", "uno"),
        ("validation", "", "validation/b.wav", "dos"),
    ]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("id|text|speaker_name\na|uno|anna\n", ("wavs/a.wav", "uno")),
        ("audio_file|text|speaker_name\nwavs/a.wav|uno|anna\n", ("wavs/a.wav", "uno")),
        ("id|speaker|normalized_text|text\na|anna|uno|1\n", ("wavs/a.wav", "uno")),
        ("text|audio_file\nuno|wavs/a.wav\n", ("wavs/a.wav", "uno")),
        ("a|1|uno\n", ("wavs/a.wav", "uno")),
        ("a|name\n", ("wavs/a.wav", "name")),
    ],
    ids=["a speaker", "coqui", "in words", "the text first", "no head", "a word of heads"],
)
def test_a_head_with_bars_says_which_column_is_the_text(tmp_path: Path, lines: str, found: tuple[str, str]):
    write(tmp_path / "wavs/a.wav")
    write(tmp_path / "metadata.csv", lines)
    assert shown(tmp_path) == [(None, "", *found)]


def test_a_head_with_bars_and_no_text_is_refused(tmp_path: Path):
    write(tmp_path / "metadata.csv", "id|words|speaker\na|uno|anna\n")
    with pytest.raises(DataError, match="line 1: no column of texts, expected one called text"):
        read_source(str(tmp_path))


@pytest.mark.parametrize("below", ["", "LibriSpeech"])
def test_librispeech_has_a_list_in_every_chapter(tmp_path: Path, below: str):
    root = tmp_path / below
    write(root / "train-clean-100/19/198/19-198.trans.txt", "19-198-0000 NORTHANGER ABBEY\n19-198-0001 THIS\n")
    write(root / "dev-other/1/2/1-2.trans.txt", "1-2-0000 YES\n")
    write(root / "test-clean/3/4/3-4.trans.txt", "3-4-0000 NO\n")
    clips = read_source(str(tmp_path))
    assert [(clip.split, clip.part, clip.speaker, clip.text) for clip in clips] == [
        ("validation", "", "1", "YES"),
        ("test", "clean", "3", "NO"),
        ("train", "", "19", "NORTHANGER ABBEY"),
        ("train", "", "19", "THIS"),
    ]
    assert clips[2].path == root / "train-clean-100/19/198/19-198-0000.flac"


def test_common_voice_has_tables_of_clips(tmp_path: Path):
    (tmp_path / "clips").mkdir()
    head = "client_id\tpath\tsentence\tup_votes\n"
    write(tmp_path / "train.tsv", f'{head}anna\ta.mp3\tÉl dijo "hola\t2\n')
    write(tmp_path / "dev.tsv", f"{head}ben\tb\tSí\t2\n")
    write(tmp_path / "test.tsv", f"{head}eva\tc.mp3\tNo\t2\n")
    write(tmp_path / "validated.tsv", f"{head}eva\tall.mp3\tNo\t2\n")
    assert shown(tmp_path) == [
        ("train", "", "clips/a.mp3", 'Él dijo "hola'),
        ("validation", "", "clips/b.mp3", "Sí"),
        ("test", "", "clips/c.mp3", "No"),
    ]


def discs(root: Path) -> Path:
    write(root / "13-34.1/wsj1/doc/indices/si_tr_s.ndx", "; a comment\n13_1_1: wsj1/si_tr_s/46a/46ac0101.wv1\n")
    write(root / "11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx", "11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1\n")
    write(root / "13-34.1/wsj1/doc/indices/h1_p0.ndx", "13_16_1:wsj1/si_dt_20/4k0/4k0c0301.wv1\n")
    write(root / "11-13.1/wsj0/doc/indices/test/nvp/si_et_20.ndx", "11_13_1:wsj0/si_et_20/440/440c0401\n")
    write(root / "13-32.1/wsj1/doc/indices/wsj1/eval/h1_p0.ndx", "13_32_1:wsj1/si_et_h1/4oa/4oac0201.wv1\n")
    lines = "The sale (46ac0101)\n*Two* [cough] words (01ic0201)\nDev (4k0c0301)\nEval one (440c0401)\n"
    write(root / "13-34.1/wsj1/trans/a.dot", lines)
    write(root / "11-13.1/wsj0/b.DOT", "Eval two (4oac0201)\n")
    write(root / "11-1.1/wsj0/si_tr_s/01i/01ic0201.wav")
    return root


def test_the_discs_of_wsj_are_read_by_their_lists(tmp_path: Path):
    assert shown(discs(tmp_path)) == [
        ("train", "", "13-1.1/wsj1/si_tr_s/46a/46ac0101.wv1", "The sale"),
        ("train", "", "11-1.1/wsj0/si_tr_s/01i/01ic0201.wav", "Two words"),  # unpacked beside it
        ("validation", "", "13-16.1/wsj1/si_dt_20/4k0/4k0c0301.wv1", "Dev"),
        ("test", "92", "11-13.1/wsj0/si_et_20/440/440c0401.wv1", "Eval one"),
        ("test", "93", "13-33.1/wsj1/si_et_h1/4oa/4oac0201.wv1", "Eval two"),
    ]


def test_a_missing_list_or_sentence_of_wsj_is_named(tmp_path: Path):
    (discs(tmp_path) / "13-34.1/wsj1/doc/indices/h1_p0.ndx").unlink()
    with pytest.raises(DataError, match=r"lacks 13-34\.1/wsj1/doc/indices/h1_p0\.ndx: it must hold the discs"):
        read_source(str(tmp_path))
    (discs(tmp_path) / "11-13.1/wsj0/b.DOT").unlink()
    with pytest.raises(DataError, match="a sentence for 4oac0201"):
        read_source(str(tmp_path))


def test_marks_of_a_detailed_transcript_are_no_words():
    assert plain("[<door_slam] the [/door_slam>] . ~") == "the"


def test_a_folder_of_no_known_layout_says_what_is_expected(tmp_path: Path):
    with pytest.raises(DataError, match="no transcripts found; expected lists of JSON lines"):
        read_source(str(tmp_path))


def test_a_name_that_is_nothing_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'prompts-es'"):
        read_source("promts-es")


def test_capitals_in_the_ending_of_a_list_hide_no_split(tmp_path: Path):
    write(tmp_path / "json" / "train.jsonl", '{"audio_filepath": "a.wav", "text": "uno"}\n')
    write(tmp_path / "json" / "TEST.JSONL", '{"audio_filepath": "b.wav", "text": "dos"}\n')
    write(tmp_path / "bars" / "metadata_train.csv", "a|uno\n")
    write(tmp_path / "bars" / "Metadata_test.CSV", "b|dos\n")
    write(tmp_path / "voice" / "train.tsv", "path\tsentence\na.mp3\tuno\n")
    write(tmp_path / "voice" / "Test.TSV", "path\tsentence\nb.mp3\tdos\n")
    (tmp_path / "voice" / "clips").mkdir()
    write(tmp_path / "tables" / "train" / "metadata.csv", "file_name,text\na.wav,uno\n")
    write(tmp_path / "tables" / "test" / "Metadata.csv", "file_name,text\nb.wav,dos\n")
    for layout in ("json", "bars", "voice", "tables"):
        assert sorted((split, text) for split, _, _, text in shown(tmp_path / layout)) == [
            ("test", "dos"),
            ("train", "uno"),
        ]
    assert read_source(str(tmp_path / "json" / "TEST.JSONL"))[0].split == "test"


def test_columns_are_known_whatever_their_capitals(tmp_path: Path):
    table = write(tmp_path / "metadata.csv", "File_Name,Offset, Duration,Transcription\na.wav,1.5,0.5,uno\n")
    (clip,) = read_source(str(tmp_path))
    assert (clip.path.name, clip.start, clip.length, clip.text) == ("a.wav", 1.5, 0.5, "uno")
    table.unlink()
    write(tmp_path / "all.jsonl", '{"Audio_Filepath": "a.wav", "OFFSET": 1.5, "Duration": 0.5, "Text": "uno"}\n')
    (clip,) = read_source(str(tmp_path))
    assert (clip.path.name, clip.start, clip.length, clip.text) == ("a.wav", 1.5, 0.5, "uno")
    write(tmp_path / "metadata.csv", "file_name,offset,Offset,text\na.wav,1,2,uno\n")
    with pytest.raises(DataError, match="two columns are called 'offset'"):
        read_source(str(tmp_path))


def test_two_splits_that_are_one_folder_by_a_link_are_refused(tmp_path: Path):
    for name in ("train/a", "test/b"):
        write(tmp_path / f"{name}.wav")
        write(tmp_path / f"{name}.txt", "uno")
    (tmp_path / "dev").symlink_to("test")
    with pytest.raises(DataError, match=r"dev and \S+/test are one folder, by a link"):
        read_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.csv", "file_name,text\nwavs/se\u00f1al.wav,uno\nwavs/Dos.WAV,dos\n"),
        (
            "train.jsonl",
            '{"audio_filepath": "WAVS/se\u00f1al.wav", "text": "uno"}\n{"path": "wavs/Dos.WAV", "text": "dos"}\n',
        ),
        ("metadata.csv", "se\u00f1al|uno\nDos|dos\n"),
    ],
)
def test_a_file_is_found_whose_name_another_system_has_written(tmp_path: Path, name: str, content: str):
    write(tmp_path / name, content)
    for file in ("sen\u0303al.wav", "dos.wav"):
        write(tmp_path / "wavs" / file)
    assert [clip.path for clip in read_source(str(tmp_path))] == [
        tmp_path / "wavs" / "sen\u0303al.wav",
        tmp_path / "wavs" / "dos.wav",
    ]
    write(tmp_path / "wavs" / "DOS.wav")  # now it could be either
    assert read_source(str(tmp_path))[1].path.name.lower() == "dos.wav"
    assert not read_source(str(tmp_path))[1].path.exists()


def test_a_text_is_found_whose_name_another_system_has_written(tmp_path: Path):
    for file in ("sen\u0303al.wav", "A.wav", "a.wav"):
        write(tmp_path / file)
    write(tmp_path / "se\u00f1al.txt", "uno")
    write(tmp_path / "a.txt", "dos")
    texts = {clip.path.name: clip.text for clip in read_source(str(tmp_path))}
    assert texts == {"sen\u0303al.wav": "uno", "a.wav": "dos", "A.wav": ""}
