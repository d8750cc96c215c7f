"""Verbs of trained recognisers: transcribe, decode."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.cli.terminal.printing import answer, complain, say, say_json, say_line
from redense.cli.verbs import Verbs
from redense.errors import DataError, RedenseError, command
from redense.files.json_text import read_json
from redense.files.opening import read_text
from redense.files.visible import counted

from .files import files_of, recipe_for

if TYPE_CHECKING:
    from redense.tasks.speech.audio import Samples
    from redense.tasks.speech.transcripts.alphabet import Alphabet
    from redense.tasks.speech.transcripts.beam import BeamDecoder

_WIDEST = 10_000  # of `redense.tasks.speech.transcripts.beam`, which needs torch


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    transcribe = verbs.add(
        "transcribe",
        "write down what is said in sound files, with the model of a run",
        _transcribe,
        epilog="Decoding is greedy, unless --beam is given: then the search that `redense decode RUN` has tuned is "
        "used, or the one that --lm and --lexicon describe, or a search over letters.",
    )
    transcribe.add_argument("run", help="a run of speech recognition, its export, a name of the zoo, or hub:OWNER/NAME")
    transcribe.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="sound files (WAV, FLAC, OGG, MP3, ...), or folders of them"
    )
    transcribe.add_argument("--json", action="store_true", help="a JSON object a file, with the time of every word")
    transcribe.add_argument(
        "--beam", metavar="WIDTH", nargs="?", const=True, help="beam search (default: as wide as it was tuned, or 100)"
    )
    transcribe.add_argument("--piece", metavar="SECONDS", default="20", help="of a long file at once (default: 20)")
    _add_language(transcribe)
    transcribe.add_argument("--lm-weight", metavar="W", help="of the language model in log10 (default: 2)")
    transcribe.add_argument("--word-score", metavar="S", help="added for every word (default: 0)")

    decode = verbs.add(
        "decode",
        "tune beam search with a language model on the validation split, and measure it on the test split",
        _decode,
        epilog="The language model is trained on the training transcripts, and on --text, unless --lm is given. "
        "What was tuned is kept in the run folder for `redense transcribe RUN FILE --beam`.",
    )
    decode.add_argument("run", type=Path, help="a run folder of speech recognition")
    decode.add_argument("--order", metavar="N", help="of the language model's n-grams (default: 3)")
    decode.add_argument("--text", type=Path, metavar="FILE", help="more sentences to train it on, one a line")
    _add_language(decode)
    decode.add_argument("--beam", metavar="WIDTH", default="100", help="of the search (default: 100)")
    decode.add_argument("--json", action="store_true", help="print JSON")


def _add_language(parser: Any) -> None:
    parser.add_argument("--lm", type=Path, metavar="FILE", help="a language model: ARPA, or KenLM's binary")
    parser.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="the words that can be heard, one a line (default: the ARPA's)"
    )


# --- transcribe -----------------------------------------------------------------------------------------------------


def _transcribe(options: argparse.Namespace) -> int:
    searches = options.beam is not None
    width = _whole("--beam", options.beam, _WIDEST) if searches and options.beam is not True else None
    piece = _real("--piece", options.piece)
    weights = {"lm_weight": options.lm_weight, "word_score": options.word_score}
    given = {name: _real(f"--{name.replace('_', '-')}", text) for name, text in weights.items() if text is not None}
    language = [flag for flag in ("lm", "lexicon") if getattr(options, flag)]
    if not searches and (given or language):
        first = language[0] if language else next(iter(given)).replace("_", "-")
        raise RedenseError(f"--{first} is for a search: give --beam too")
    if options.lm is None and ((given and not options.lexicon) or "lm_weight" in given):
        raise RedenseError("weights are of a language model: give --lm FILE, or tune with `redense decode RUN`")

    from redense.lab.runs.trained import find_trained, open_trained

    folder = find_trained(options.run)
    recipe = recipe_for("transcribe", folder, options.run)

    from redense.tasks.speech.audio import SUFFIXES, WHOLE, lacking
    from redense.tasks.speech.recogniser import BeamStream
    from redense.tasks.speech.streaming import Pieces, read_blocks

    pieces = Pieces(seconds=piece)
    recogniser = open_trained(folder, recipe)
    beam = _beam(options, folder, recogniser.alphabet, width, given) if searches else None
    failed = 0
    several = len(options.files) > 1 or options.files[0].is_dir()
    for path, fault in files_of(options.files, SUFFIXES, "sound files"):
        stream = BeamStream(beam, recogniser.hop / recogniser.rate) if beam else None
        sound = _Counted(read_blocks(path, recogniser.rate))
        words = recogniser.transcribe(sound, stream, pieces)
        try:
            if fault:
                raise DataError(fault)
            if options.json:
                heard = [{"word": word.text, "start": word.start, "end": word.end} for word in words]
                text = " ".join(str(word["word"]) for word in heard)
                line = {
                    "file": str(path),
                    "seconds": round(sound.samples / recogniser.rate, 3),
                    "decoding": "beam" if beam else "greedy",
                    "text": text,
                    "words": heard,
                }
                say_json(line, flush=True)
            else:
                _print_words(f"{path}: " if several else "", (word.text for word in words))
            if (missing := lacking(path, sound.samples / recogniser.rate)) > WHOLE:
                how = f"ends {missing:.1f} s before its header says" if math.isfinite(missing) else "is cut off"
                complain(f"{path} {how}: what there is was transcribed", before="note: ")
        except RedenseError as error:
            said = str(error).removeprefix(f"{path} ")
            complain(f"{path} {said}")
            if options.json:
                say_json({"file": str(path), "error": said}, flush=True)
            failed += 1
    return 2 if failed else 0


class _Counted:
    """Blocks of samples, counted as they go by."""

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self._blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[Samples]:
        for block in self._blocks:
            self.samples += len(block)
            yield block


def _print_words(name: str, words: Iterator[str]) -> None:
    """Print a line word by word: a long recording takes a while."""
    begun = False
    try:
        for word in words:
            say_line(f" {word}" if begun else f"{name}{word}", end="", flush=True)
            begun = True
    except RedenseError:
        if begun:
            say()
        raise
    say_line("" if begun else name.rstrip())


def _beam(
    options: argparse.Namespace, folder: Path, alphabet: Alphabet, width: int | None, given: dict[str, float]
) -> BeamDecoder:
    from redense.tasks.speech.transcripts.beam import BeamDecoder, Lexicon, Search

    usual = Search() if width is None else Search(width=width)
    if not (options.lm or options.lexicon):
        from redense.lab.runs.decoding import kept_decoder

        return kept_decoder(folder, alphabet, width) or BeamDecoder(alphabet, None, usual)
    words = _lines(options.lexicon) if options.lexicon else None
    lexicon = Lexicon(alphabet, words, options.lm)
    if lexicon.unspellable:
        said = counted(lexicon.unspellable, "word")
        complain(f"{said} with letters that the network does not know cannot be heard", before="note: ")
    if lexicon.unweighed:
        complain(f"{counted(lexicon.unweighed, 'word')} of {options.lexicon} not in {options.lm}", before="note: ")
    return BeamDecoder(alphabet, lexicon, replace(usual, **given))


# --- decode ---------------------------------------------------------------------------------------------------------


def _decode(options: argparse.Namespace) -> int:
    width, order = _whole("--beam", options.beam, _WIDEST), _whole("--order", options.order or "3", 999)
    if options.lm and options.text:
        raise RedenseError("--text trains a language model and --lm gives one: give one of them")
    if options.lm and options.order:
        raise RedenseError("--order is of a language model that is trained, and --lm gives one: leave one of them out")
    recipe_for("transcribe", options.run, options.run)

    from redense.tasks.speech.transcripts.language import ORDERS, read_words

    # All that may be mistaken comes before the data is loaded.
    if order not in ORDERS:
        raise RedenseError(f"--order must be {ORDERS[0]} to {ORDERS[-1]}, got {order}")
    lexicon = _lines(options.lexicon) if options.lexicon else None
    text = _lines(options.text) if options.text else None
    if options.lm and lexicon is None:
        read_words(options.lm)

    from redense.lab.runs.decoding import FOLDER, decode_run
    from redense.lab.runs.run import load_model
    from redense.tasks.speech.transcripts.beam import Search

    engine = load_model(options.run)
    found = decode_run(
        options.run,
        engine,
        order=order,
        model=options.lm,
        lexicon=lexicon,
        text=text,
        search=Search(width=width),
        say=lambda line: complain(line, before="") if options.json else say(line, flush=True),
    )
    path = options.run / FOLDER / "decoding.json"
    if options.json:
        return answer(read_json(path))
    search = found.tuned.search
    say(f"weights: {search.lm_weight:g} for the language model, {search.word_score:g} a word\n")
    beam = f"beam {search.width}, language model"
    rows = [("test", found.greedy, found.beam), *((name, *pair) for name, pair in found.sets.items())]
    for name, *scores in rows:
        for how, one in zip(("greedy", beam), scores, strict=True):
            rate = "-" if one.rate is None else f"{one.rate:.2f} %"
            span = f"  95 % interval {one.interval[0]:.2f} to {one.interval[1]:.2f}" if one.interval else ""
            say(f"  {how:<26}{name} wer {rate}{span}")
    say(f"\n{found.unknown:.1f} % of the test words are not among the {found.words:,} that the search knows.")
    say(f"kept in {path}; use it with: {command('redense', 'transcribe', options.run)} FILE --beam")
    return 0


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_text(path).removeprefix("\ufeff").splitlines()]
    except OSError as error:
        raise RedenseError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise RedenseError(f"{path} is no text in UTF-8") from None
    return [line for line in lines if line]


def _whole(flag: str, text: str, most: int) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise RedenseError(f"{flag} must be a whole number from 1 to {most:,}, got '{text[:40]}'")
    return int(text)


def _real(flag: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RedenseError(f"{flag} must be a number, got '{text[:40]}'")
    return number
