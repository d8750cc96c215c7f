from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from redense.errors import DataError
from redense.tasks.speech.transcripts.alphabet import Alphabet
from redense.tasks.speech.transcripts.beam import BeamDecoder, Lexicon, Search, tune
from redense.tasks.speech.transcripts.decoding import greedy
from redense.tasks.speech.transcripts.language import END, START, train

pytest.importorskip("flashlight.lib.text")

ALPHABET = Alphabet(tuple(" ab"))
WIDE = Search(width=5000, threshold=1e6, lm_weight=1.7, word_score=0.4)


def random_frames(seed, time=6, size=4, sharpness=1.5):
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(time, size, generator=generator)).log_softmax(1)


def chances(frames):
    """Log probability of every labelling, summed over all of its paths."""
    time, size = frames.shape
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(size), repeat=time):
        value = sum(float(frames[t, s]) for t, s in enumerate(path))
        key = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)
        sums[key] = float(torch.logaddexp(torch.tensor(sums.get(key, -math.inf)), torch.tensor(value)))
    return sums


@pytest.mark.parametrize("seed", range(4))
def test_without_words_it_finds_the_likeliest_labelling_over_all_paths(seed):
    frames = random_frames(seed, time=5)
    sums = chances(frames)
    best = max(sums, key=lambda key: sums[key])
    assert BeamDecoder(ALPHABET, search=WIDE).text(frames) == " ".join(ALPHABET.decode(best).split())


def test_it_finds_what_the_best_path_misses():
    # The textbook case: blank is likeliest in each frame, but "a" sums over three paths.
    frames = torch.tensor([[0.6, 0.0, 0.4, 0.0], [0.6, 0.0, 0.4, 0.0]]).clamp(min=1e-9).log()
    assert greedy(frames.unsqueeze(1), torch.tensor([2])).texts(ALPHABET) == [""]
    assert BeamDecoder(ALPHABET).text(frames) == "a"


@pytest.mark.parametrize(
    ("seed", "word_score"),
    [
        pytest.param(seed, score, marks=[] if seed == which else [pytest.mark.slow])
        for which, score in enumerate((-5.0, 0.4, 5.0))
        for seed in range(4)
    ],
)
def test_with_words_and_model_it_maximises_the_stated_sum(tmp_path, seed, word_score):
    search = replace(WIDE, word_score=word_score)
    model = train(["ab ba ab", "a ab", "ba ba a", "ab"], 3)
    model.write(tmp_path / "text.arpa")
    frames = random_frames(seed)
    acoustic: dict[tuple[str, ...], float] = {}
    for labels, value in chances(frames).items():
        sentence = tuple(ALPHABET.decode(labels).split())  # "ab", " ab" and "ab " are one sentence
        if all(word in model.words for word in sentence):
            before = torch.tensor(acoustic.get(sentence, -math.inf))
            acoustic[sentence] = float(torch.logaddexp(before, torch.tensor(value)))

    def total(sentence):
        history, likely = [START], 0.0
        for word in (*sentence, END):
            likely += model.log10(word, history)
            history.append(word)
        return acoustic[sentence] + search.lm_weight * likely + search.word_score * len(sentence)

    found = tuple(BeamDecoder(ALPHABET, Lexicon(ALPHABET, model=tmp_path / "text.arpa"), search).text(frames).split())
    assert total(found) == pytest.approx(max(map(total, acoustic)))


def spoken(text, confusion=None, certainty=4.0):
    """Frames that spell a text, a blank between symbols; ``confusion``: place -> the letter that is as likely."""
    frames = []
    for place, character in enumerate(text):
        row = torch.zeros(ALPHABET.size)
        row[ALPHABET.encode(character)[0]] = certainty
        if confusion and place in confusion:
            row[ALPHABET.encode(confusion[place])[0]] = certainty + 0.1
        blank = torch.zeros(ALPHABET.size)
        blank[0] = certainty
        frames += [row, blank]
    return torch.stack(frames).log_softmax(1)


def test_a_language_model_decides_between_words_that_sound_alike(tmp_path):
    train(["ab ba", "ab ba", "aa bb"], 2).write(tmp_path / "text.arpa")
    frames = spoken("ab ba", {4: "b"})  # "ab bb" is a little likelier by ear
    lexicon = Lexicon(ALPHABET, model=tmp_path / "text.arpa")
    assert BeamDecoder(ALPHABET, lexicon, Search(lm_weight=0)).text(frames) == "ab bb"
    assert BeamDecoder(ALPHABET, lexicon, Search(lm_weight=3)).text(frames) == "ab ba"


def test_only_words_of_the_lexicon_are_heard():
    lexicon = Lexicon(ALPHABET, ["aa", "bb"])
    assert BeamDecoder(ALPHABET, lexicon).text(spoken("ab bb")).split()[1] == "bb"
    assert set(BeamDecoder(ALPHABET, lexicon).text(spoken("ab bb")).split()) <= {"aa", "bb"}


def test_the_last_word_needs_no_blank_after_it_and_words_have_their_frames():
    decoder = BeamDecoder(ALPHABET, Lexicon(ALPHABET, ["ab", "ba"]))
    words = decoder.words(spoken("ab ba"))
    assert [(word.text, word.start, word.end) for word in words] == [("ab", 0, 3), ("ba", 6, 9)]
    assert BeamDecoder(ALPHABET).words(spoken("ab ba")) == words


@pytest.mark.parametrize("lexicon", [None, ["ab"]], ids=["letters", "words"])
def test_silence_and_no_frames_are_no_words(lexicon):
    decoder = BeamDecoder(ALPHABET, Lexicon(ALPHABET, lexicon) if lexicon else None)
    blank = torch.tensor([[8.0, 0, 0, 0]] * 5).log_softmax(1)
    assert decoder.text(blank) == ""
    assert decoder.text(blank[:0]) == ""


def test_a_batch_is_decoded_without_its_padding():
    decoder = BeamDecoder(ALPHABET, Lexicon(ALPHABET, ["ab", "ba", "a"]))
    one, other = spoken("ab"), spoken("ba a")
    batch = torch.nn.utils.rnn.pad_sequence([torch.cat([one, spoken("a")]), other])
    assert decoder.texts(batch, torch.tensor([len(one), len(other)])) == ["ab", "ba a"]


def test_numbers_that_are_none_do_not_stop_it():
    frames = spoken("ab")
    frames[1] = math.nan
    frames[0, 1] = -math.inf
    assert BeamDecoder(ALPHABET, Lexicon(ALPHABET, ["ab"])).text(frames) == "ab"


def test_words_that_cannot_be_spelled_are_counted(tmp_path):
    lexicon = Lexicon(ALPHABET, ["ab", "abc", "ab", "", "Ab"])
    assert (lexicon.words, lexicon.unspellable) == (["ab"], 3)
    with pytest.raises(DataError, match=r"none of 1 words can be spelled with the 3 symbols.*'AB': is the case right"):
        Lexicon(ALPHABET, ["AB"])
    with pytest.raises(DataError, match="needs ' ' in the alphabet"):
        Lexicon(Alphabet(("a",)), ["a"])
    with pytest.raises(DataError, match="needs words"):
        Lexicon(ALPHABET)


@pytest.mark.parametrize(
    "content", [b"", b"\\data\\\nngram 1=1\n", b"nonsense\n"], ids=["empty", "cut off", "nonsense"]
)
def test_a_broken_model_is_one_line(tmp_path, content):
    path = tmp_path / "broken.arpa"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"KenLM cannot read .*broken\.arpa: \S") as error:
        Lexicon(ALPHABET, ["a"], path)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="there is no language model"):
        Lexicon(ALPHABET, ["a"], tmp_path / "none")


@pytest.mark.parametrize(
    "given", [{"width": 0}, {"threshold": 0.0}, {"lm_weight": math.nan}, {"word_score": math.inf}], ids=str
)
def test_a_search_that_means_nothing_is_refused(given):
    with pytest.raises(DataError, match="got"):
        Search(**given)


def test_another_alphabet_is_refused():
    with pytest.raises(DataError, match="got 7 outputs a frame, the alphabet has 4"):
        BeamDecoder(ALPHABET).text(torch.zeros(3, 7))


def test_tuning_finds_weights_that_help_and_prefers_small_ones(tmp_path):
    train(["ab ba", "ab ba", "aa bb"], 2).write(tmp_path / "text.arpa")
    lexicon = Lexicon(ALPHABET, model=tmp_path / "text.arpa")
    utterances = [spoken("ab ba", {4: "b"}), spoken("ab ba", {0: "b"})]
    tuned = tune(lexicon, utterances, ["ab ba"] * 2, lm_weights=(0.0, 1.0, 3.0, 6.0), word_scores=(0.0, 1.0))
    assert len(tuned.rates) == 8
    assert tuned.rates[0.0, 0.0] > 0
    best = (tuned.search.lm_weight, tuned.search.word_score)
    assert tuned.rates[best] == min(tuned.rates.values()) == 0
    assert best[0] == min(weight for (weight, _), rate in tuned.rates.items() if rate == 0)
    with pytest.raises(DataError, match="has no word"):
        tune(lexicon, utterances, ["", " "])
