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
from redense.cli.terminal.printing import complain, prepare, say
from redense.cli.terminal.screen import SafeColumn, SafeConsole
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
