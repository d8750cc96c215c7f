import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense.tasks.speech.transcripts.text import LANGUAGES, Normaliser, fold


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("es", "Cláve  incorrecta. ¡Sí!", "cláve incorrecta sí"),
        ("es", "Händel", "handel"),  # the accent is of another language
        ("en", "Don\u2019t re-enter 'it'.", "don't re enter it"),
        ("nl", "'s Avonds, foto\u2019s", "s avonds foto's"),
        ("es", "d'Artagnan", "dartagnan"),
        ("fr", "L'œuf: été", "l'oeuf été"),
        ("ro", "Maşină", "mașină"),
        ("ru", "Ёлка — это", "ёлка это"),
        ("ru", "сти\u0301ль, чей\u0301 ды\u0301м", "стиль чей дым"),  # stress
        ("en", "Gbe\u0323\u0301nga, x\u030c o\u200dn", "gbenga x on"),
        (None, "сти\u0301ль हिन्दी שָׁלוֹם tiếng Việt й", "сти\u0301ль हिन्दी שָׁלוֹם tiếng việt й"),
        (None, "Ærø ĳs", "ærø ĳs"),
    ],
)
def test_a_transcript_becomes_the_letters_of_its_language(language: str | None, text: str, expected: str):
    assert Normaliser(language)(text) == (expected, None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no words"),
        ("...", "no words"),
        ("[beep]", "brackets"),
        ("2 euros", "digits"),
        ("⅓ de litro", "digits"),
        ("Felipe Ⅵ", "digits"),
        ("a\u20dd", "the letter"),
        ("col·lega", "the letter '·'"),
        ("un €", "the sign €"),
        ("cinco ₹", "the sign ₹"),
        ("【risas】 bueno", "brackets"),
        ("привет", "the letter"),
    ],
)
def test_what_cannot_be_learned_is_named(text: str, fault: str):
    assert fault in str(Normaliser("es")(text)[1])


def test_every_rule_counts_the_transcripts_that_it_changed():
    normaliser = Normaliser("es", accents="fold")
    for text in ("Él", "él", "el"):
        normaliser(text)
    assert normaliser.changed == {"to lower case": 1, "accents folded": 2}


def test_letters_and_digits_can_be_kept_as_they_are():
    assert Normaliser(None, case="keep", digits="keep")("Route 66, Ohm") == ("Route 66 Ohm", None)


@given(st.text(), st.sampled_from(sorted(LANGUAGES)))
def test_a_known_language_has_no_symbol_but_its_letters_space_and_apostrophe(text: str, language: str):
    once, _ = Normaliser(language)(text)
    assert set(once) <= {*LANGUAGES[language].letters, " ", "'"}


@given(st.text(), st.sampled_from([None, *LANGUAGES]), st.sampled_from(["keep", "fold"]))
def test_normalising_twice_changes_nothing_more(text: str, language: str | None, accents: str):
    normaliser = Normaliser(language, accents=accents)  # pyright: ignore[reportArgumentType]  # sampled literals
    once, fault = normaliser(text)
    if fault is None:
        assert normaliser(once) == (once, None)
        assert unicodedata.is_normalized("NFC", once)


def test_folding_keeps_letters_that_have_no_plain_form():
    assert fold("ßøñ") == "ßøn"
