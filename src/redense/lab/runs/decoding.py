"""Decoding with a language model: trained, tuned on validation, measured once on the test split.

It lies in the run folder, below ``decoding/``, where `redense transcribe --beam` finds it:

    language.arpa     the n-gram model of the training transcripts, unless one was given
    decoding.json     where the model is, the words, the weights, and the error rates with and without
    SHA256SUMS        of both
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from redense.errors import DataError, StateError, command
from redense.files.checksums import NAME as SUMS
from redense.files.checksums import check_sums, write_sums
from redense.files.writing import write_text
from redense.lab.folder import read_json
from redense.lab.training.engine import Engine
from redense.tasks.speech.task import Speech
from redense.tasks.speech.transcripts.alphabet import Alphabet
from redense.tasks.speech.transcripts.beam import BeamDecoder, Lexicon, Search, Tuned, tune
from redense.tasks.speech.transcripts.decoding import greedy
from redense.tasks.speech.transcripts.language import LanguageModel, train
from redense.tasks.speech.transcripts.scoring import Change, Score, by_group, change, score, utterance_counts
from redense.tasks.task import Split

from .formats import SEARCH as FOLDER


@dataclass(frozen=True)
class Decoded:
    """The result of a search with a language model, beside the greedy reading of the same network.

    Args:
        perplexity: of the model on the validation transcripts.
        unknown: part of the test words that the lexicon lacks, in %: they cannot be heard right.
        tuned: the weights, and the validation rates of all that were tried.
        greedy: word error of the test split without the search, and with it in ``beam``.
        change: from one to the other.
        sets: the same two of every test set, where there are several.
    """

    model: str
    words: int
    perplexity: float | None
    unknown: float
    tuned: Tuned
    greedy: Score
    beam: Score
    change: Change | None
    sets: dict[str, tuple[Score, Score]]


def decode_run(
    folder: Path,
    engine: Engine,
    *,
    order: int = 3,
    model: Path | None = None,
    lexicon: Sequence[str] | None = None,
    text: Sequence[str] | None = None,
    search: Search | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Decoded:
    """Tune a search on the validation split, measure it on the test split, and keep it in the run folder.

    Args:
        folder: of the run.
        engine: with its final model.
        order: of the model that is trained.
        model: an ARPA file or KenLM binary to use instead.
        lexicon: the words that can be heard; else those of the model.
        text: sentences to train on besides the training transcripts.
        search: width and threshold.
        say: is told what goes on.

    Raises:
        DataError: the model cannot be read or trained, or the run is none of speech recognition.
        MissingExtraError: flashlight-text or jiwer is not installed.
    """
    task = engine.task
    if not isinstance(task, Speech):
        raise DataError(f"{folder} is a run of {task.name}: a language model helps speech recognition alone")
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    path, trained = model, None
    with tempfile.TemporaryDirectory() as aside:  # what was kept before is whole until this is
        if path is None:
            said = [utterance.text for utterance in task.utterances("train")]
            trained = train([*said, *(text or ())], order)
            path = Path(aside) / "language.arpa"
            trained.write(path)
            count = len(said) + len(text or ())
            say(f"language model: {order}-grams of {count:,} sentences, {len(trained.words):,} words")
        known = Lexicon(task.alphabet, lexicon, path)
    if known.unspellable:
        say(f"{known.unspellable:,} words have letters that the network does not know, and are left out")
    if known.unweighed:
        say(f"{known.unweighed:,} words are not in the language model: each is as likely as any unknown one")
    validation, references = _heard(engine, task, "validation")
    perplexity = trained.perplexity(references) if trained else None
    say(f"tuning on {len(validation):,} validation clips")
    tuned = tune(known, validation, references, search)
    frames, references = _heard(engine, task, "test")
    say(f"searching through {len(frames):,} test clips")
    decoder = BeamDecoder(task.alphabet, known, tuned.search)
    before = utterance_counts([_greedy(one, task.alphabet) for one in frames], references)
    after = utterance_counts([decoder.text(one) for one in frames], references)
    spoken = [word for reference in references for word in reference.split()]
    groups = by_group([utterance.clip.part for utterance in task.utterances("test")]) if task.parts else {}
    missing = len(spoken) - sum(map(set(known.words).__contains__, spoken))
    decoded = Decoded(
        model=path.name if trained else str(path.resolve()),
        words=len(known.words),
        perplexity=perplexity,
        unknown=100 * missing / max(1, len(spoken)),
        tuned=tuned,
        greedy=score(before),
        beam=score(after),
        change=change(before, after),
        sets={name: (score(before[places]), score(after[places])) for name, places in groups.items()},
    )
    _keep(place, decoded, trained, lexicon)
    return decoded


def _keep(place: Path, decoded: Decoded, trained: LanguageModel | None, lexicon: Sequence[str] | None) -> None:
    """Write a search in place of the one before; a kill in between leaves none, and never parts of two."""
    found, model = place / "decoding.json", place / "language.arpa"
    for path in (found, place / SUMS):
        path.unlink(missing_ok=True)
    if trained:
        trained.write(model)
    write_text(found, json.dumps(_plain(decoded, lexicon), indent=2) + "\n")
    write_sums(place, [found, *([model] if trained else [])])


def kept_decoder(folder: Path, alphabet: Alphabet, width: int | None = None) -> BeamDecoder | None:
    """Return the search that `decode_run` has kept in a run folder; None where there is none.

    Raises:
        StateError: it is damaged.
        CheckpointError: it, or its language model, does not match its checksum.
        DataError: its language model is gone.
    """
    path = folder / FOLDER / "decoding.json"
    if not path.is_file():
        return None
    check_sums(path.parent)
    data = read_json(path)
    try:
        weights = {name: float(data["search"][name]) for name in ("threshold", "lm_weight", "word_score")}
        search = Search(width=width or int(data["search"]["width"]), **weights)
        words = None if data["lexicon"] is None else [str(word) for word in data["lexicon"]]
        model = folder / FOLDER / str(data["model"])  # an absolute path stays one
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"{path} is damaged ({error!r}): make it again with: {command('redense', 'decode', folder)}"
        ) from None
    return BeamDecoder(alphabet, Lexicon(alphabet, words, model), search)


def _heard(engine: Engine, task: Speech, split: Split) -> tuple[list[Tensor], list[str]]:
    """Return the frames of the clips of a split on CPU, (t, symbols) each, and what was said."""
    examples = task.examples(split)
    engine.model.eval()
    device, size = engine.network.device, task.evaluation_batch
    frames: list[Tensor] = []
    with torch.inference_mode(), engine.network.accelerator.autocast():
        for start in range(0, len(examples), size):
            batch = examples.__getitems__(range(start, min(start + size, len(examples))))
            log_probs, lengths = task.log_probs(engine.model, type(batch)(*(part.to(device) for part in batch)))
            frames += [log_probs[:length, row].cpu() for row, length in enumerate(lengths.tolist())]
    return frames, [utterance.text for utterance in task.utterances(split)]


def _greedy(frames: Tensor, alphabet: Alphabet) -> str:
    return greedy(frames.unsqueeze(1), torch.tensor([len(frames)])).texts(alphabet)[0]


def _plain(decoded: Decoded, lexicon: Sequence[str] | None) -> dict[str, Any]:
    search = decoded.tuned.search
    perplexity = decoded.perplexity
    return {
        "model": decoded.model,
        "lexicon": None if lexicon is None else list(lexicon),
        "words": decoded.words,
        "perplexity": perplexity if perplexity is not None and math.isfinite(perplexity) else None,
        "unknown": decoded.unknown,
        "search": dict(vars(search)),
        "validation": [
            {"lm_weight": weight, "word_score": bonus, "wer": rate}
            for (weight, bonus), rate in decoded.tuned.rates.items()
        ],
        "test": {name: _score(found) for name, found in (("greedy", decoded.greedy), ("beam", decoded.beam))},
        "sets": {name: {"greedy": _score(one), "beam": _score(other)} for name, (one, other) in decoded.sets.items()},
        "change": dict(vars(decoded.change)) if decoded.change else None,
    }


def _score(found: Score) -> dict[str, Any]:
    return {"wer": found.rate, "interval": found.interval, "utterances": found.utterances, **vars(found.counts)}
