import pytest
from hypothesis import given
from hypothesis import strategies as st

from redense.errors import DataError
from redense.tasks.speech.transcripts.alphabet import Alphabet


@given(st.lists(st.text(min_size=1), min_size=1))
def test_text_comes_back_from_its_indices(texts: list[str]):
    alphabet = Alphabet.of(texts)
    assert [alphabet.decode(alphabet.encode(text)) for text in texts] == texts
    assert all(0 < index < alphabet.size for text in texts for index in alphabet.encode(text))


def test_the_order_of_the_texts_does_not_change_the_alphabet():
    assert Alphabet.of(["ba", "c"]) == Alphabet.of(["c", "ab"])


def test_blanks_and_paddings_decode_to_nothing():
    assert Alphabet(("a", "b")).decode([1, 0, 2, -1, -1]) == "ab"


def test_an_unknown_character_is_named_with_its_text():
    with pytest.raises(DataError, match=r"no 'x' \(in 'abx'\)"):
        Alphabet(("a", "b")).encode("abx")


@pytest.mark.parametrize("symbols", [(), ("a", "a"), ("ab",), ("",)])
def test_symbols_that_are_no_alphabet_are_refused(symbols: tuple[str, ...]):
    with pytest.raises(DataError, match="alphabet"):
        Alphabet(symbols)


def test_letters_whose_accents_are_apart_are_told_how_to_be_written():
    with pytest.raises(DataError, match="got 'a' twice; letters and their accents are apart in it, write it as 'aáb'"):
        Alphabet(tuple("aa\u0301b"))
    with pytest.raises(DataError, match=r"got 'a' twice$"):
        Alphabet(tuple("aab"))
