"""The verbs of the command line as Python functions of the same names and arguments: ``from redense import verbs``.

A function does what its verb does and returns what ``--json`` prints, as plain data; where a verb prints no JSON, its
text. Progress goes to the error output. What the command line refuses with exit code 2 is raised as a `RedenseError`.
Settings of a recipe are a mapping: ``settings={"sparse.sparsity": 0.5, "dense": {"epochs": 20}}``.

>>> from redense import verbs
>>> verbs.judge("no.csv")
Traceback (most recent call last):
...
redense.errors.DataError: there is no file 'no.csv'
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from redense.plugins import load_plugins

from .spelling import spelled, spelled_settings

Place = str | PathLike[str]
Places = Place | Sequence[Place]
Settings = Mapping[str, Any] | None
Names = str | Sequence[str] | None

SHOWN_ONLY = {"json", "csv", "yaml", "markdown", "latex", "quiet", "print_config"}
"""Options that say how a result is printed: a function returns it instead."""


def run(
    recipe: Place | None = None,
    *,
    settings: Settings = None,
    out: Place | None = None,
    resume: Place | None = None,
    store: Place | None = None,
    no_store: bool = False,
) -> Any:
    """Train a recipe, and return its result with ``folder`` and ``report``."""
    return _do("run", **vars())


def evaluate(run: Place, *, data: Place | None = None, split: str | None = None) -> Any:
    """Evaluate the final model of a run, and return its figures."""
    return _do("evaluate", **vars())


def export(
    run: Place,
    out: Place,
    *,
    format: str = "safetensors",  # noqa: A002  # the option's own name
    data: Place | None = None,
    private: bool = False,
) -> Any:
    """Write the model of a run with its card, and graphs of it; return the files, and how far graphs are from it."""
    return _do("export", **vars())


def compare(
    recipe: Place | None = None,
    *,
    settings: Settings = None,
    arms: Names = None,
    seeds: int | str | Sequence[int] | None = None,
    sweep: str | Mapping[str, Sequence[Any]] | None = None,
    looks: int | None = None,
    margin: float | None = None,
    diagnose: bool = False,
    jobs: int | None = None,
    backend: str = "loky",
    cpus_per_job: float | None = None,
    gpus_per_job: float | None = None,
    store: Place | None = None,
    out: Place | None = None,
    resume: Place | None = None,
    command: Mapping[str, str] | None = None,
    control: Names = None,
    baseline: str | None = None,
    metric: str | None = None,
    lower_is_better: bool | None = None,
    higher_is_better: bool | None = None,
    metric_regex: str | None = None,
    timeout: float | None = None,
    schedule: Place | None = None,
    submit: str | None = None,
    retry_failed: bool = False,
    changed_code: bool = False,
    dry_run: bool = False,
) -> Any:
    """Compare arms of a recipe, or commands, over several seeds, and return the results with ``folder``."""
    given = dict(vars())
    sides = [None if side is None else bool(side) for side in (lower_is_better, higher_is_better)]
    if False in sides and True not in sides and None in sides:  # not lower is higher, as everywhere in Python
        given |= {"lower_is_better": sides[1] is False, "higher_is_better": sides[0] is False}
    return _do("compare", **given)


def arms() -> Any:
    """Return what can be compared: its name, what it is, where it comes from."""
    return _do("arms")


def store(action: str = "show", *, store: Place | None = None) -> Any:
    """Return how much the phase store holds, or clear it."""
    return _do("store", **vars())


def search(
    recipe: Place,
    *,
    out: Place,
    settings: Settings = None,
    candidates: Names = "dsd",
    sweep: str | Mapping[str, Sequence[Any]] | None = None,
    runs: int = 60,
    confirm: int = 10,
    jobs: int = 1,
    backend: str = "loky",
    retry_failed: bool = False,
) -> Any:
    """Search for the best of many settings, confirm it against the strongest control, and return what was found."""
    return _do("search", **vars())


def tune(
    recipe: Place,
    *,
    out: Place,
    settings: Settings = None,
    sparsities: Sequence[float] | str = "0.2,0.4,0.6,0.8",
    runs: int = 60,
    confirm: int = 10,
    jobs: int = 1,
    backend: str = "loky",
    retry_failed: bool = False,
) -> Any:
    """Choose the sparsity on validation figures, confirm it beside the strongest control, and return what was found."""
    return _do("tune", **vars())


def judge(
    table: Places | None = None,
    *,
    metric: str | None = None,
    lower_is_better: bool | None = None,
    baseline: str | None = None,
    control: Names = None,
    margin: float | None = None,
    looks: int | None = None,
    changed_code: bool = False,
    plan: bool = False,
    sd: float | None = None,
    effect: float | None = None,
    arms: int | None = None,
    power: float | None = None,
    out: Place | None = None,
) -> Any:
    """Judge a table of results, or plan how many seeds a difference takes; return the verdicts or the plan."""
    return _do("judge", **vars())


def report(
    path: Place,
    *,
    open: bool = False,  # noqa: A002  # the option's own name
    figures: Place | None = None,
    serve: bool = False,
    port: int | None = None,
) -> Any:
    """Write the page of a run, a comparison or a scan, and return what was written where, as text."""
    return _do("report", **vars())


def sensitivity(
    recipe: Place | None = None,
    *,
    settings: Settings = None,
    checkpoint: Place | None = None,
    out: Place | None = None,
    store: Place | None = None,
    overall: float | None = None,
    max_drop: float | None = None,
    sparsities: Sequence[float] | None = None,
    follow: str = "loss",
    plain: bool = False,
) -> Any:
    """Measure what pruning each layer alone costs, share a sparsity out, and return both with ``folder``."""
    return _do("sensitivity", **vars())


def predict(run: Place, images: Places, *, top: int = 5) -> Any:
    """Return the likeliest classes of pictures, by the classifier of a run: a list, or those of one file."""
    return _each(_do("predict", **vars()), images)


def caption(
    run: Place,
    images: Places,
    *,
    beam: int | None = None,
    all: bool = False,  # noqa: A002  # the option's own name
    cnn: Place | None = None,
) -> Any:
    """Return captions of pictures, by the captioner of a run: a list, or that of one file."""
    return _each(_do("caption", **vars()), images)


def transcribe(
    run: Place,
    files: Places,
    *,
    beam: int | bool | None = None,
    piece: float = 20,
    lm: Place | None = None,
    lexicon: Place | None = None,
    lm_weight: float | None = None,
    word_score: float | None = None,
) -> Any:
    """Return what is said in sound files, by the recogniser of a run: a list, or that of one file."""
    return _each(_do("transcribe", **vars()), files)


def decode(
    run: Place,
    *,
    order: int | None = None,
    text: Place | None = None,
    lm: Place | None = None,
    lexicon: Place | None = None,
    beam: int = 100,
) -> Any:
    """Tune the search with a language model, measure it on the test split, and return its figures."""
    return _do("decode", **vars())


def recipes(
    action: str = "list",
    name: Place | None = None,
    to: Place | None = None,
    *,
    settings: Settings = None,
    dry_run: bool = False,
) -> Any:
    """Return the shipped recipes, or the plan of one, or copy one."""
    return _do("recipes", **vars())


def data(
    action: str = "list",
    name: Place | None = None,
    *,
    settings: Settings = None,
    full: bool = False,
    label: str | None = None,
    task: str | None = None,
    clear: str | None = None,
) -> Any:
    """Return the data sets, or what a check of one has found, or get one, or its caches."""
    return _do("data", **vars())


def zoo(action: str = "list", name: str | None = None, *, zoo: Place | None = None) -> Any:
    """Return the trained networks that come with redense, or evaluate one."""
    return _do("zoo", **vars())


def doctor() -> Any:
    """Return what is on this machine."""
    return _do("doctor")


# --- how ------------------------------------------------------------------------------------------------------------


def _do(verb: str, /, settings: Settings = None, **given: Any) -> Any:
    from . import build, parse
    from .terminal.printing import taken

    parser = build()[1].parsers[verb]
    words = [verb, *spelled(parser, given), *spelled_settings(parser, verb, settings)]
    options, verbs = parse(words)
    load_plugins()
    printed = io.StringIO()
    from redense.lab.pairs.defaults import held, usual

    take = taken if "--json" in parser._option_string_actions else contextlib.redirect_stdout  # tables are printed
    with held(usual()), take(printed) if not given.get("serve") else contextlib.nullcontext():
        code = verbs.functions[verb](options)
    if code >= 128:
        raise KeyboardInterrupt
    return _read(printed.getvalue())


def _each(found: Any, given: Places) -> Any:
    """Return what was found of each file: a list, but for one file that was given by itself."""
    alone = isinstance(given, (str, PathLike)) and not Path(given).is_dir()
    return found if alone or isinstance(found, list) else [found]


def _read(text: str) -> Any:
    """Return the data that was printed: one JSON value, one a line, or else the text."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError):
        return [json.loads(line) for line in text.splitlines()]
    return text.rstrip("\n")
