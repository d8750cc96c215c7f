"""What others wrote reaches a terminal as text: no markup, no command, nothing hidden; and no encoding stops a verb."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from redense.cli.terminal import printing
from redense.cli.terminal.printing import answer, complain, prepare, say, say_json
from redense.cli.terminal.progress import RunProgress
from redense.cli.terminal.screen import SafeColumn, SafeConsole, plain_table
from redense.files.visible import visible, visible_line
from redense.lab.recipe.recipe import Recipe

Run = Callable[..., tuple[int, str, str]]

NASTY = "\x1b]0;title\a\x1b[2Jx \u202eabc[/b] [bold]y[/] :smile:\r\x9b31m\udcff a\u200bb\u00ad"
SHOWN = r"\u001b]0;title\u0007\u001b[2Jx \u202eabc[/b] [bold]y[/] :smile:\u000d\u009b31m\udcff a\u200bb\u00ad"


def test_what_is_nasty_is_written_out_and_markup_is_text():
    assert visible(NASTY) == SHOWN
    out = io.StringIO()
    console = SafeConsole(file=out, width=400)
    console.print(NASTY)
    console.print_titled(NASTY, "a\nb")
    assert out.getvalue().splitlines() == [SHOWN, rf"{SHOWN}: a\u000ab"]
    task = type("Task", (), {"description": NASTY})()
    assert SafeColumn("{task.description}").render(task).plain == SHOWN


@given(text=st.text())
def test_no_text_holds_a_command_and_plain_text_stays(text: str):
    shown = visible_line(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert visible_line(shown) == shown
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == text


def test_say_writes_out_and_complain_is_one_line(capsys: pytest.CaptureFixture[str]):
    say("red\x1b[31m", 3, sep="-")
    complain("a\nredense: all is well")
    captured = capsys.readouterr()
    assert captured.out == "red\\u001b[31m-3\n"
    assert captured.err == "redense: a\\u000aredense: all is well\n"


def test_the_log_has_a_line_a_message_unless_it_shows_an_error():
    def shown(name: str, **more: Any) -> str:
        record = logging.makeLogRecord({"name": name, "msg": "%s is damaged", "args": ("a\nb",), **more})
        return printing._Line().format(record)

    assert shown("redense.lab") == r"a\u000ab is damaged"
    assert shown("somebody.else") == "a\nb is damaged"
    error = (ValueError, ValueError("no"), None)
    assert shown("redense.lab", exc_info=error).endswith("\nValueError: no")


def test_a_terminal_of_ascii_is_shown_other_letters_in_another_way(monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    prepare()
    say("caf\u00e9")
    SafeConsole(file=sys.stdout, width=80).print("\u00fc")
    sys.stdout.flush()
    assert raw.getvalue() == b"caf\\xe9\n\\xfc\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_json_is_json_in_every_encoding_of_the_output(monkeypatch: pytest.MonkeyPatch, encoding: str):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    prepare()
    said = {"image": "caf\u00e9 \U0001f600 \u0142.png", "loss": float("nan"), "all": [1.0, -float("inf")]}
    say_json(said)
    answer(said)
    sys.stdout.flush()
    wanted = {"image": said["image"], "loss": None, "all": [1.0, None]}
    assert [json.loads(line) for line in raw.getvalue().splitlines()] == [wanted, wanted]
    assert ("caf\u00e9".encode() in raw.getvalue()) == (encoding == "utf-8")


def test_closed_streams_are_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    prepare()
    say("nobody hears it")
    complain("nor this")
    SafeConsole().print("nor that")
    for stream in (sys.stdout, sys.stderr):
        stream.close()


def test_a_table_loses_nothing_in_a_narrow_terminal_and_has_room_in_a_file(monkeypatch: pytest.MonkeyPatch):
    table = plain_table("phase", "sparsity", "lr", last="why")
    table.add_row("redense-10", "12.345 %", "0.0123456", "included")
    narrow, wide = io.StringIO(), io.StringIO()
    SafeConsole(file=narrow, width=20).print(table)
    assert "\u2026" not in narrow.getvalue()
    assert sorted("".join(narrow.getvalue().split())) == sorted("phasesparsitylrwhyredense-1012.345%0.0123456included")
    monkeypatch.delenv("COLUMNS", raising=False)
    SafeConsole(file=wide).print("word " * 30)
    monkeypatch.setenv("COLUMNS", "0")
    SafeConsole(file=wide).print("word " * 30)
    assert len(wide.getvalue().splitlines()) == 2


def test_a_dumb_terminal_is_told_every_epoch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    phase = {"name": "dense", "sparsity": None, "steps": 10, "epochs": 2, "lr": 0.1}
    with RunProgress(SafeConsole(file=out, force_terminal=True, width=80)) as shown:
        shown({"kind": "plan", "phases": [phase], "metric": {"name": "error", "unit": "%"}})
        shown({"kind": "phase", "phase_index": 0, "step": 0, "start": 0, "steps": 10})
        figures = {"validation": {"error": 5.0}, "train_loss": 1.0, "seconds": 1.0}
        shown({"kind": "epoch", "phase_index": 0, "epoch": 1, "step": 5, **figures})
        assert "epoch 1/2  loss 1.000  validation error 5.00 %" in out.getvalue()


@pytest.mark.parametrize("about", [NASTY.encode(errors="ignore").decode(), "[/1] [bold]x"])
def test_a_strangers_recipe_is_shown_as_it_is(about: str, redense: Run, tiny: Callable[..., Recipe], tmp_path: Path):
    plain = tiny().model_dump(mode="json") | {"about": about}
    (tmp_path / "a.yaml").write_text(json.dumps(plain))
    for words in (("recipes", "show", "a.yaml"), ("run", "a.yaml", "--out", f"x{len(about)}[/b]", "--no-store")):
        code, out, _ = redense(*words)
        assert code == 0
        assert visible_line(about) in out
        assert not set(out) & set("\x1b\x07\x9b\u202e\r")
    assert f"x{len(about)}[/b]/report.html" in out


def test_the_name_of_a_class_is_no_command(redense: Run, tmp_path: Path):
    for name in ("red", "\x1b[31mgreen\x1b[2J"):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(tmp_path / "set" / "train" / name / f"{number}.png")
    code, out, _ = redense("data", "check", tmp_path / "set")
    assert code == 0
    assert "\x1b" not in out
    assert r"\u001b[31mgreen" in out


def test_a_folder_whose_name_is_no_utf8_is_refused(redense: Run, recipe_file: Path):
    code, _, err = redense("run", recipe_file, "--out", os.fsdecode(b"a\xff\xfeb"), "--no-store")
    assert code == 2
    assert r"a\udcff\udcfeb: its name is no UTF-8" in err


def _console(**given: Any) -> SafeConsole:
    return SafeConsole(**given)


def test_a_reader_that_goes_leaves_the_console_working(tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file:
        console = _console(file=file)
        for _ in range(3):
            console.print("x")
        file.flush()
