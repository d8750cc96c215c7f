"""Files from whomever: whatever is in them, they are read, or refused in one line; nothing runs, nothing hangs.

What is known to be nasty is in tables; hypothesis damages and makes up the rest. How a report shows hostile texts is
tested with each page, in ``tests/report``, and how a checkpoint's damage is found in
``tests/lab/training/test_checkpoint.py``.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from redense.errors import CheckpointError, DataError, RecipeError, RedenseError, StateError
from redense.files.yaml_text import parse_yaml
from redense.lab.checkpoint import load_tree, save_tree
from redense.lab.recipe.recipe import Recipe, build_recipe
from redense.lab.store import PhaseStore
from redense.lab.training.pretrained import load_start_
from redense.report.kit.loading import load_json
from redense.tasks.captioning.data.coco import read_coco
from redense.tasks.captioning.data.flickr import read_flickr
from redense.tasks.captioning.data.karpathy import read_karpathy
from redense.tasks.speech.audio import look, read
from redense.tasks.speech.data.layouts import read_folder
from redense.tasks.speech.data.manifests import read_manifest, read_tables
from redense.tasks.speech.transcripts.text import LANGUAGES, Normaliser

HUGE = "9" * 5_000  # an integer that Python refuses to read
DEEP = "[" * 100_000


def refused(read: Callable[[], object], kind: type[RedenseError] = RedenseError) -> str:
    """Return the message; it is one line that a terminal may show."""
    with pytest.raises(kind) as caught:
        read()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def read_or_refused(read: Callable[[], object]) -> None:
    with contextlib.suppress(RedenseError):
        read()


# --- recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *(f"a: {HUGE}", "a: 0x" + "f" * 1_000),  # numbers
        *('a: "\\UFFFFFFFF"', "a: \0", "a: \x1b[31m"),
        *("a: &x [1]\nb: *x", "a: !!python/object/apply:os.system [x]", "!!python/name:os.system"),
        *("a:\n" * 3, "a: 1\n---\nb: 2", "%YAML 9.9\n---\na: 1", "? [a]\n: b", "{? {a: b} : c}"),
        *("[" * 3_000, "- " * 10_000, "? " * 10_000, "{a: " * 10_000, "x" * (1 << 20) + "y", "a: |9\n  x"),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_yaml_that_is_a_trap_is_refused(text: str):
    refused(lambda: parse_yaml(text, "recipe"), RecipeError)


@pytest.mark.parametrize(
    "text",
    [
        *("1" + ":1" * 50_000, "1:" * 300 + "1.5", "2001-99-99", "2001-01-01 00:00:00 +99:99", "="),
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_only_yaml_of_old_takes_for_numbers_and_dates_is_text(text: str):
    assert parse_yaml(f"a: {text}", "recipe") == {"a": text}
    assert parse_yaml("<<: 3", "recipe") == {"<<": 3}


PIECES = st.sampled_from(
    [
        *("dense", "sparse", "epochs", "sparsity", "data", "model", "name", "source", "training", "cycles", "start"),
        *(
            ": ",
            ":\n  ",
            "\n",
            "\n- ",
            "- ",
            "  ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "&a ",
            "*a",
            "!!int ",
            "!x ",
            "|",
            ">",
            "? ",
        ),
        *(
            "1",
            "0.3",
            "1e9",
            "-1",
            ".inf",
            ".nan",
            "0x1f",
            "1:30",
            "2001-01-01",
            "yes",
            "null",
            "~",
            "<<: ",
            "=",
            "'",
            '"',
        ),
        *(
            "\\x",
            "\\u0000",
            "\t",
            "#",
            "%YAML 1.1\n",
            "---\n",
            "...\n",
            "é",
            "\u2028",
            "\ufeff",
            "\x85",
            "../x",
            "1" * 500,
        ),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_text_is_a_recipe_or_refused(text: str):
    def make() -> Recipe:
        data = parse_yaml(text, "recipe")
        if not isinstance(data, dict):
            raise RecipeError("no mapping")
        return build_recipe(data)

    read_or_refused(make)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800\x1b"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
SETTINGS = ("name", "task", "seed", "data", "model", "training", "prune", "dense", "sparse", "redense", "cycles")


@given(st.dictionaries(st.sampled_from(SETTINGS), PLAIN))
def test_any_settings_are_a_recipe_that_can_be_written_or_refused(settings: dict[str, Any]):
    whole = {"dense": {"epochs": 1}, "sparse": {"epochs": 1}, "redense": {"epochs": 1}} | settings
    read_or_refused(lambda: build_recipe(whole).to_yaml().encode())


@pytest.mark.parametrize("verb", ["run", "compare", "sensitivity"])
@pytest.mark.parametrize("name", ["../../x", "quickstart/../../x", "/etc/passwd", "\x1b[2J", "\0", "x" * 5_000, ".."])
def test_a_name_that_leads_elsewhere_is_no_recipe(
    redense: Callable[..., tuple[int, str, str]], tmp_path: Path, verb: str, name: str
):
    code, out, err = redense(verb, name)
    assert (code, out) == (2, "")
    assert err.startswith("redense: ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert "root:" not in err
    assert not list(tmp_path.iterdir())


# --- checkpoints and weights ----------------------------------------------------------------------------------------


def safetensors(header: object, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def entry(**changes: Any) -> dict[str, Any]:
    told = {"format": 1, "tree": "null", "digest": ""} | changes
    return {"__metadata__": {"redense": json.dumps(told)}}


ABSURD = {
    "a header of 2^64 bytes": safetensors(tensor(), length=2**64 - 1),
    "a header of 2^40 bytes": safetensors(tensor(), length=2**40),
    "a shape of 2^62": safetensors(tensor(shape=[2**62])),
    "a shape that overflows": safetensors(tensor(shape=[2**40, 2**40])),
    "a negative shape": safetensors(tensor(shape=[-2])),
    "offsets of 2^63": safetensors(tensor(data_offsets=[2**63, 2**63 + 8])),
    "offsets the wrong way": safetensors(tensor(data_offsets=[8, 0])),
    "a dtype of its own": safetensors(tensor(dtype="PICKLE")),
    "no tensor": safetensors({"w": None}),
    "a deep header": safetensors(DEEP.encode()),
    "a huge number": safetensors(f'{{"w": {HUGE}}}'.encode()),
    "no JSON": safetensors(b"\xff\xfe{}"),
    "nothing": b"",
    "eight bytes": b"\0" * 8,
}
FORGED = {
    "a tree that is a number": safetensors(entry(tree=5), b""),
    "a tree that is a list": safetensors(entry(tree=["x"]), b""),
    "a digest of another kind": safetensors(entry(digest={"a": 1}), b""),
    "a deep entry": safetensors({"__metadata__": {"redense": DEEP}}, b""),
    "an entry that is a number": safetensors({"__metadata__": {"redense": "7"}}, b""),
    "a huge format": safetensors({"__metadata__": {"redense": f'{{"format": {HUGE}}}'}}, b""),
}


@pytest.mark.parametrize("content", (ABSURD | FORGED).values(), ids=(ABSURD | FORGED).keys())
def test_a_checkpoint_that_promises_the_absurd_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    refused(lambda: load_tree(path), CheckpointError)
    refused(lambda: load_start_(nn.Linear(2, 2), str(path), None))
    store = PhaseStore(tmp_path / "store")
    store.put_text("0" * 32, "test.safetensors", "")
    (store.folder("0" * 32) / "test.safetensors").write_bytes(content)
    if content in ABSURD.values():
        assert "is damaged" in refused(lambda: store.outcome("0" * 32, "test"), CheckpointError)


@pytest.mark.parametrize("told", [None, 3, [], {"model": 3}, {"model": [1]}, {"model": {"weight": "x"}}, {"model": {}}])
def test_a_checkpoint_without_weights_is_no_start(tmp_path: Path, told: Any):
    save_tree(tmp_path / "a.safetensors", told)
    refused(lambda: load_start_(nn.Linear(2, 2), str(tmp_path / "a.safetensors"), None), StateError)


def test_weights_of_a_kind_that_cannot_be_copied_are_no_start(tmp_path: Path):
    def start(weight: object, name: object = "weight") -> Callable[[], None]:
        torch.save({name: weight, "bias": torch.zeros(2)}, tmp_path / "a.pt")
        return lambda: load_start_(nn.Linear(2, 2), str(tmp_path / "a.pt"), None)

    start(torch.ones(2, 2))()
    assert "no state dict" in refused(start(torch.ones(2, 2), 3))
    assert "no state dict" in refused(start([1.0]))
    assert "cannot be copied" in refused(start(torch.empty(2, 2, device="meta")))


@given(st.data())
def test_damaged_weights_are_loaded_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    damaged = bytearray(save({"weight": torch.ones(2, 2), "bias": torch.zeros(2)}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place : place + 1] = data.draw(st.binary(max_size=4))
    path.write_bytes(damaged)
    read_or_refused(lambda: load_start_(nn.Linear(2, 2), str(path), None))


def test_damaged_records_of_a_phase_are_named(tmp_path: Path):
    store = PhaseStore(tmp_path)
    for text in ("{", DEEP, f'{{"step": {HUGE}}}'):
        store.put_text("0" * 32, "metrics.jsonl", text)
        assert "metrics.jsonl is damaged" in refused(lambda: store.records("0" * 32), CheckpointError)


# --- lists of recordings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        *(
            "{",
            "3",
            "null",
            '"x"',
            "[]",
            DEEP,
            f'{{"a": {HUGE}}}',
            "{}",
            '{"text": "a"}',
            '{"audio_filepath": "a.wav"}',
        ),
        *('{"audio_filepath": "a\\u0000.wav", "text": "a"}', '{"audio_filepath": "a\\ud800.wav", "text": "a"}'),
        *('{"audio_filepath": "\\u001b[2J", "text": "a"}', '{"audio_filepath": "a\\n", "text": "a"}'),
        *(f'{{"audio_filepath": "a", "text": "a", "offset": {x}}}' for x in ("NaN", "-1", "Infinity", "1e99", '"1"')),
    ],
    ids=lambda line: repr(line[:50]),
)
def test_a_line_of_a_manifest_that_is_a_trap_is_refused(tmp_path: Path, line: str):
    (tmp_path / "train.jsonl").write_text(line)
    refused(lambda: read_manifest(tmp_path / "train.jsonl"), DataError)


def test_names_that_no_file_can_have_are_faults_of_their_clips(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text('{"audio_filepath": "~nobody-is-called-so/a.wav", "text": "a"}')
    (clip,) = read_manifest(tmp_path / "train.jsonl")
    assert str(look(clip.path).fault).startswith("cannot be read")
    for name in ("a\0.wav", "a\ud800.wav"):
        assert "no name of a file" in str(look(tmp_path / name).fault)
        refused(lambda name=name: read(tmp_path / name, 16_000), DataError)


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from(["path", "file_name", "\t", ",", "\n", '"', "\0", "a.mp3"])).map("".join).map(str.encode)
)
def test_any_bytes_are_tables_of_clips_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    folder = tmp_path_factory.getbasetemp() / "tables"
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for name in ("metadata.csv", "train.tsv", "train.jsonl"):
        (folder / name).write_bytes(content)
    read_or_refused(lambda: read_folder(folder))
    read_or_refused(lambda: read_tables(folder))
    read_or_refused(lambda: read_manifest(folder / "train.jsonl"))


@pytest.mark.parametrize("path", ["../../x.mp3", "/etc/passwd", "a\x1b[2J.mp3"])
def test_a_table_of_common_voice_names_only_its_clips(tmp_path: Path, path: str):
    (tmp_path / "clips").mkdir()
    (tmp_path / "train.tsv").write_text(f"path\tsentence\n{path}\thola\n")
    assert "is not in the folder clips" in refused(lambda: read_folder(tmp_path), DataError)


@pytest.mark.parametrize("line", [b"../../x hello", b"alone", b"a\0b hello", b"\xff\xfe hello", b" hello"])
def test_a_transcript_of_librispeech_names_only_its_clips(tmp_path: Path, line: bytes):
    chapter = tmp_path / "train-clean-100" / "1" / "2"
    chapter.mkdir(parents=True)
    (chapter / "1-2.trans.txt").write_bytes(line)
    refused(lambda: read_folder(tmp_path), DataError)


@given(st.text(max_size=40), st.sampled_from([None, *LANGUAGES]), st.sampled_from(["keep", "fold"]))
def test_no_transcript_keeps_a_character_that_is_no_letter(text: str, language: str | None, accents: Any):
    kept, fault = Normaliser(language, accents, digits="keep")(text + "\x1b[31m\x00\u202e\x7f")
    assert fault or all(c.isalnum() or c in " '" or c.isprintable() for c in kept)
    kept, fault = Normaliser(language, accents)("hola\x1b\x00\u202e\u200b\x07\r\nmundo")
    assert fault or kept.isprintable()


def wav(
    rate: int = 8_000, channels: int = 1, bits: int = 16, data: bytes = b"\1\2" * 400, said: int | None = None
) -> bytes:
    kind = struct.pack(
        "<HHIIHH", 1, channels, rate, rate * channels * bits // 8 % 2**32, channels * bits // 8 % 65536, bits
    )
    length = len(data) if said is None else said
    chunks = b"fmt " + struct.pack("<I", 16) + kind + b"data" + struct.pack("<I", length) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize(
    "content",
    [
        *(wav(said=2**32 - 1), wav(said=0), wav(rate=0), wav(rate=2**32 - 1), wav(channels=0), wav(channels=65_535)),
        *(
            wav(bits=0),
            wav(bits=65_535),
            wav(bits=3),
            wav(data=b"\1"),
            wav()[:30],
            b"RIFF\xff\xff\xff\xffWAVE",
            wav(data=b""),
            (b"OggS\0\2" + bytes(20) + b"\1\7\1vorbis") * 2000,
            b"fLaC\0\0\0\x22" + b"\xff\xf8" * 5000,
        ),
    ],
    ids=range(15),
)
def test_a_sound_whose_header_lies_is_what_it_is_or_has_a_fault(tmp_path: Path, content: bytes):
    (tmp_path / "a.wav").write_bytes(content)
    found = look(tmp_path / "a.wav")
    assert found.fault or 0 < found.seconds < 1
    read_or_refused(lambda: read(tmp_path / "a.wav", 16_000))


# --- lists of captioned images --------------------------------------------------------------------------------------


def karpathy(**changes: Any) -> dict[str, Any]:
    image = {"filename": "a.png", "split": "train", "sentences": [{"raw": "a dog"}]} | changes
    return {"images": [image]}


@pytest.mark.parametrize(
    "told",
    [
        *(3, [], {}, {"images": 3}, {"images": [3]}, {"images": []}, karpathy(filename="../a.png")),
        *(karpathy(filename="/etc/passwd"), karpathy(filename="a\0.png"), karpathy(filename="a\ud800.png")),
        *(karpathy(filename="\x1b[2J"), karpathy(filename=3), karpathy(filename=""), karpathy(split=["train"])),
        *(karpathy(sentences=3), karpathy(sentences=[{"raw": 3}]), karpathy(sentences=[{"raw": "a", "tokens": [3]}])),
        *(DEEP, f'{{"images": {HUGE}}}', "\0"),
    ],
    ids=lambda told: repr(told)[:60],
)
def test_a_list_of_captions_that_is_a_trap_is_refused(tmp_path: Path, told: Any):
    path = tmp_path / "dataset.json"
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    refused(lambda: read_karpathy(path, None, "captions"), DataError)


@pytest.mark.parametrize("number", ["Infinity", "NaN", HUGE, '"x"', "[]", "1e999"])
def test_a_number_of_an_image_that_is_none_is_refused(tmp_path: Path, number: str):
    path = tmp_path / "captions_val2017.json"
    path.write_text(f'{{"images": [{{"id": {number}, "file_name": "a"}}], "annotations": []}}')
    refused(lambda: read_coco({"2017": {"val": path}}, tmp_path, None, "captions"), DataError)


@given(PLAIN, st.binary(max_size=60))
def test_any_list_of_captions_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, told: Any, content: bytes):
    folder = tmp_path_factory.getbasetemp() / "captions"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / "dataset.json"
    for text in (json.dumps({"images": told}), json.dumps({"images": [told], "annotations": [told]})):
        path.write_text(text)
        read_or_refused(lambda: read_karpathy(path, None, "captions"))
        read_or_refused(lambda: read_coco({"2017": {"val": path}}, folder, None, "captions"))
    for name in ("Flickr8k.token.txt", "results.csv", "captions.txt"):
        (folder / name).write_bytes(content)
        read_or_refused(lambda name=name: read_flickr(folder / name, folder, None, "captions"))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 10_000), (50_000, 50_000), (2**31 - 1, 2**31 - 1), (0, 0)])
def test_an_image_bomb_is_named_by_redense_data_check(
    redense: Callable[..., tuple[int, str, str]], tmp_path: Path, size: tuple[int, int]
):
    for split in ("train", "validation", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "set" / split / label
            folder.mkdir(parents=True)
            (folder / "bomb.png").write_bytes(bomb(*size))
    code, out, err = redense("data", "check", str(tmp_path / "set"), "--full")
    assert code in (1, 2)
    assert "bomb.png" in out + err
    assert "Traceback" not in out + err


# --- reports --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_any_bytes_in_a_report_s_folder_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "result.json"
    path.write_bytes(content)
    read_or_refused(lambda: load_json(path))
