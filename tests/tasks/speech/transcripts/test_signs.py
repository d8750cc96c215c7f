"""Signs that are read out leave a gap between sound and letters; punctuation, quotes and pictures leave none."""

from __future__ import annotations

import unicodedata

import pytest

from redense.tasks.speech.transcripts.signs import is_bracket, is_number, is_read_out
from redense.tasks.speech.transcripts.text import Normaliser

READ = (
    "$€£¥¢₹₽₩₺₴₫฿\uff04\uffe6",
    "%‰٪&@#*/\\^_§ªº\uff05\uff06\ufe60\uff03\uff0a",
    "+=~|×÷≈≥≠±√∞\u2212\uff0b\u2044",
    "°℃℉№℡™©®℗㎏㎝㈱ⒶⓏ㍻🄰♀♂♯♭",
)
PLAIN = (
    ".,;:!?¡¿…·•‥†¶※'\"\u2019“”„«»\u2039\u203a-\u2010\u2013—",
    "、。・〜\uff01\uff0c\uff1f\uff5e\uff1d\u223c\u2236।॥؟،؛",
    "♪♫♥★■→⇒😀🎵۞؏༄",
    "()\uff08\uff09「」『』〈〉《》｢｣\ufd3e\ufd3f≪≫",
)


@pytest.mark.parametrize("signs", READ)
def test_what_is_read_out_is_a_sign_in_every_width(signs: str):
    assert [c for c in signs if not is_read_out(c)] == []
    assert all(Normaliser(None)(f"a {c} b") == ("", f"has the sign {c}") for c in signs)


@pytest.mark.parametrize("signs", PLAIN)
def test_punctuation_quotes_and_pictures_are_left_out_and_the_words_learned(signs: str):
    assert [c for c in signs if is_read_out(c) or is_bracket(c) or is_number(c)] == []
    assert all(Normaliser(None)(f"a {c} b") == ("a b", None) for c in signs)


def test_pairs_that_describe_a_sound_are_brackets_and_signs_that_count_are_numbers():
    assert all(map(is_bracket, "[]{}<>【】\u3014\u3015〖〗\uff3b\uff3d\uff5b\uff5d\uff1c\uff1e⟦⟧⟨⟩"))
    assert all(map(is_number, "3٣३²½⅓①Ⅳⅻ\uff13"))
    assert Normaliser(None)("二\u3007二四年") == ("二\u3007二四年", None)


def test_every_currency_is_read_out_and_no_letter_is_a_sign():
    for code in range(0x3000):
        c, kind = chr(code), unicodedata.category(chr(code))
        assert kind != "Sc" or is_read_out(c)
        assert kind[0] != "L" or c in "ªº" or not (is_read_out(c) or is_bracket(c) or is_number(c))
