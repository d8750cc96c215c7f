"""Text of any script comes through whole: what is part of a word stays, in recordings and in captions alike."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redense.tasks.captioning.tokens import tokenize
from redense.tasks.speech.transcripts.text import Normaliser, fold

# Two words of each script, with vowel signs, tone marks, stacked and joined letters where it has them.
SCRIPTS = {
    "Arabic": "السَّلامُ عليكم",
    "Armenian": "բարեւ աշխարհ",
    "Bengali": "বাংলা ভাষা",
    "Burmese": "မြန်မာ ဘာသာ",
    "Cherokee": "ꮳꮃꭹ ꭶꮼꮒꭿꮝꮧ",
    "Devanagari": "नमस्ते क्षत्रिय",
    "Ethiopic": "ሰላም ዓለም",
    "Georgian": "გამარჯობა მსოფლიო",
    "Gujarati": "નમસ્તે દુનિયા",
    "Hangul": "안녕 세상",
    "Han": "你好 世界",
    "Hebrew": "שָׁלוֹם עולם",
    "Hawaiian": "hawai\u02bbi \u02bbōlelo",
    "Kana": "がぎぐ パピプ",
    "Kannada": "ನಮಸ್ಕಾರ ಪ್ರಪಂಚ",
    "Khmer": "ភាសា ខ្មែរ",
    "Lao": "ສະບາຍດີ ໂລກ",
    "Malayalam": "മലയാളം ഭാഷ",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ",
    "Persian": "می\u200cخواهم بروم",  # noqa: RUF001  # so it is written
    "Polytonic Greek": "ἄνθρωπος ᾠδή",
    "Adlam": "𞤢𞤣𞤤𞤢𞤥 𞤨𞤵𞤤𞤢𞤪",
    "Javanese": "ꦱꦼꦭꦩꦠ꧀ ꦥꦒꦶ",
    "Meetei": "ꯃꯤꯇꯩ ꯂꯣꯟ",
    "N'Ko": "ߒߞߏ ߞߊ߲",
    "Sinhala": "ශ්\u200dරී ලංකා",
    "Tamil": "தமிழ் மொழி",
    "Telugu": "తెలుగు భాష",
    "Thai": "ภาษา ที่นี่",
    "Tibetan": "བོད སྐད",
    "Vietnamese": "tiếng việt",
    "Yoruba": "ọ̀rọ̀ ẹ̀dá",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_every_script_come_through_whole(script: str):
    text = unicodedata.normalize("NFC", SCRIPTS[script])
    assert tokenize(text) == tuple(text.split())
    assert Normaliser(None, case="keep")(text) == (text, None)


@pytest.mark.parametrize("script", SCRIPTS)
@settings(max_examples=10)
@given(data=st.data())
def test_what_is_no_part_of_a_word_leaves_every_script_as_it_is(script: str, data: st.DataObject):
    words = unicodedata.normalize("NFC", SCRIPTS[script]).split()
    signs = st.text(st.sampled_from(" \t.,;:!?()\u2014\u2026\u3002\u060c\u0964\u00ad\u2060\ufeff\u200e😀"), max_size=3)
    around = [data.draw(signs) for _ in range(3)]
    text = f"{around[0]}{words[0]}{around[1]} {words[1]}{around[2]}"
    # Composed or not, it is the same text.
    text = data.draw(st.sampled_from([text, unicodedata.normalize("NFD", text)]))
    assert Normaliser(None, case="keep")(text) == (" ".join(words), None)
    assert tokenize(text) == tuple(words)


@settings(max_examples=50)
@given(st.text())
def test_only_what_is_no_letter_mark_or_number_is_taken_away(text: str):
    def letters(some: str) -> str:
        composed = unicodedata.normalize("NFC", some.lower().replace("i\u0307", "i"))
        return "".join(c for c in composed if unicodedata.category(c)[0] in "LN")

    kept = "".join(tokenize(text))
    assert unicodedata.normalize("NFD", letters(kept)) == unicodedata.normalize("NFD", letters(text))
    assert tokenize(kept) == ((kept,) if kept else ())


@pytest.mark.parametrize("between", ["\u00ad", "\u2060", "\ufeff", "\u200b", "\u200e", "\u061c"])
def test_what_has_no_shape_parts_no_word_and_is_counted(between: str):
    text = f"co{between}operate"
    normaliser = Normaliser(None)
    assert normaliser(text) == ("cooperate", None)
    assert normaliser.changed == {"without invisible characters": 1, "without punctuation": 1}
    assert tokenize(text) == ("cooperate",)


def test_a_space_of_no_width_parts_words_where_nobody_writes_spaces():
    assert tokenize("กา\u200bขา") == ("กา", "ขา")
    assert tokenize("ភាសា\u200bខ្មែរ") == ("ភាសា", "ខ្មែរ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("paral·lel", "paral·lel"),  # Catalan
        ("צה״ל", "צה״ל"),  # Hebrew writes an abbreviation so
        ("ինչո՞ւ", "ինչու"),  # the Armenian question mark stands inside the word
        ("ሰላም፡ለዓለም", "ሰላም ለዓለም"),  # the Ethiopic space is a sign
        ("བོད་སྐད", "བོད སྐད"),  # as the Tibetan one
        ("1\ufe0f\u20e3 ❤\ufe0f 👩\u200d👧", "1"),  # how signs are drawn is no mark of a word
    ],
)
def test_signs_inside_words_are_what_their_script_makes_of_them(text: str, expected: str):
    assert tokenize(text) == tuple(expected.split())
    assert Normaliser(None, digits="keep")(text)[0] == expected


def test_folding_takes_accents_and_no_vowel_signs():
    text = unicodedata.normalize("NFC", "नमस्ते がぎ ก่อน שָׁלוֹם")
    assert fold(text) == text
    assert fold("Ἀθῆναι ёй") == "Αθηναι еи"


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("ro", "Ştefan, Ţara", "Ștefan Țara"),
        ("fr", "Œuvre ŒUVRE sœur", "Oeuvre OEUVRE soeur"),
        ("nl", "Ĳs ĲSLAND", "Ijs IJSLAND"),
        ("de", "STRAẞE", "STRAẞE"),
    ],
)
def test_capital_letters_are_letters_of_their_language_where_case_is_kept(language: str, text: str, expected: str):
    assert Normaliser(language, case="keep")(text) == (expected, None)


@pytest.mark.parametrize("divider", "\u0f0b\u1361\u16eb\U0001039f\U000103d0\U0001091f")
def test_what_parts_words_in_a_script_without_spaces_parts_them(divider: str):
    assert tokenize(f"a{divider}b") == ("a", "b")
    assert Normaliser(None)(f"a{divider}b") == ("a b", None)
