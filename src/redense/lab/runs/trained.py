"""A trained network to be used: of a run, an export, the zoo or the hub, with all that it needs beside its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from redense.errors import MissingExtraError, RecipeError, StateError, resuming
from redense.lab.folder import read_json
from redense.lab.recipe.recipe import Recipe, read_run_recipe

if TYPE_CHECKING:
    from redense.tasks.captioning.captioner import Captioner
    from redense.tasks.classification.classifier import Classifier
    from redense.tasks.speech.recogniser import Recogniser
    from redense.tasks.speech.transcripts.alphabet import Alphabet

_HUB = re.compile(r"hub:[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load(path: str | Path) -> Classifier | Captioner | Recogniser:
    """Return a trained network, ready to be used: ``network`` is the plain one, ``predict`` takes a file.

    A classifier's ``predict`` gives classes with their probabilities, a captioner's a sentence, a recogniser's the
    words of a recording. The network is in evaluation mode, on an accelerator where there is one.

    Args:
        path: a run folder, an exported model, the name of a network of the zoo (`redense zoo`), or ``hub:OWNER/NAME``.

    Raises:
        RecipeError: it is no run, export or network of the zoo.
        StateError: the run is not finished, or a file is missing or damaged.
        DataError: the hub does not have it.

    >>> import redense
    >>> model = redense.load("quickstart")
    >>> model.classes[0], sum(value.numel() for value in model.network.parameters())
    ('T-shirt/top', 29066)
    """
    folder = find_trained(path)
    recipe = read_run_recipe(folder)  # which checks all of the folder
    if recipe.task == "classification":
        return load_classifier(folder, recipe)
    if recipe.task == "captioning":
        from redense.tasks.captioning.captioner import open_captioner

        data: Any = recipe.data
        model: Any = recipe.model
        return open_captioner(folder, data, model)
    if recipe.task == "speech":
        return load_recogniser(folder, recipe)
    raise RecipeError(f"{path} is a run of {recipe.task}, which redense.load does not know")


def find_trained(path: str | Path) -> Path:
    """Return the folder of a trained network that a user names.

    Raises:
        RecipeError: nothing is called so.
        DataError: the hub does not have it.
        MissingExtraError: it is on the hub, and huggingface_hub is not installed.
    """
    folder = Path(path).expanduser()
    if folder.exists():
        return folder
    name = str(path)
    if _HUB.fullmatch(name):
        return _downloaded(name.removeprefix("hub:"))
    from redense.lab.zoo import default_zoo, find

    try:
        return find(default_zoo(), name).folder
    except StateError as error:
        raise RecipeError(f"{name} is no run folder, no export, and no network of the zoo ({error})") from None


def load_classifier(folder: Path, recipe: Recipe) -> Classifier:
    """Return the classifier of a run or export."""
    from redense.tasks.classification.classifier import open_classifier

    if recipe.task != "classification":
        raise RecipeError(f"{folder} is a run of {recipe.task}, expected one of classification")
    data: Any = recipe.data
    model: Any = recipe.model
    return open_classifier(folder, data, model)


def load_recogniser(folder: Path, recipe: Recipe) -> Recogniser:
    """Return the recogniser of a run or export.

    Raises:
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    from redense.tasks.speech.recogniser import Recogniser

    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise StateError(f"{folder} has no model.safetensors yet: finish it with: {resuming(folder)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data: Any = recipe.data
    model: Any = recipe.model
    return Recogniser.load(data, model, alphabet_of(folder, recipe), weights, device)


def alphabet_of(folder: Path, recipe: Recipe) -> Alphabet:
    """Return the symbols of a run: of its recipe, as kept with its result, or of its training data."""
    from redense.lab.tasks import make_task
    from redense.tasks.speech.task import Speech
    from redense.tasks.speech.transcripts.alphabet import Alphabet

    data: Any = recipe.data
    if data.alphabet:
        return Alphabet(tuple(data.alphabet))
    path = folder / "artifacts" / "alphabet.json"
    symbols: Any = read_json(path) if path.is_file() else None
    if isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols):
        return Alphabet(tuple(symbols))
    task = make_task(recipe)
    if not isinstance(task, Speech):
        raise StateError(f"{folder} is a run of {task.name}, and no speech recognition")
    return task.alphabet


def _downloaded(repository: str) -> Path:
    from redense.errors import DataError

    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtraError("models of the hub need huggingface_hub: pip install 'redense[hub]'") from None
    try:
        return Path(huggingface_hub.snapshot_download(repository))
    except Exception as error:  # noqa: BLE001  # the Hub's own, and those of whichever HTTP library it uses
        raise DataError(f"hub:{repository} cannot be got ({' '.join(str(error).split())[:200]})") from None
