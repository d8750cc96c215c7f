"""A trained network to be used: of a run, an export, the zoo or the hub, with all that it needs beside its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.errors import MissingExtraError, RecipeError, StateError
from redense.files.opening import at_home
from redense.lab.recipe.recipe import Recipe, read_run_recipe
from redense.optional.extras import refuse_folder
from redense.tasks.registry import task_named

if TYPE_CHECKING:
    from redense.tasks.captioning.captioner import Captioner
    from redense.tasks.classification.classifier import Classifier
    from redense.tasks.speech.recogniser import Recogniser

HUB = re.compile(r"hub:(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")
"""A model's name on the Hugging Face Hub."""


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
        MissingExtraError: a package is needed that is not installed.

    >>> import redense
    >>> model = redense.load("quickstart")
    >>> model.classes[0], sum(value.numel() for value in model.network.parameters())
    ('T-shirt/top', 29066)
    """
    folder = find_trained(path)
    return open_trained(folder, read_run_recipe(folder))  # which checks all of the folder


def find_trained(path: str | Path) -> Path:
    """Return the folder of a trained network that a user names.

    Raises:
        RecipeError: nothing is called so.
        DataError: the hub does not have it.
        MissingExtraError: it is on the hub, and huggingface_hub is not installed.
    """
    folder = at_home(path)
    if folder.exists():
        return folder
    name = str(path)
    if on_hub := HUB.fullmatch(name):
        return _downloaded(on_hub["repository"])
    from redense.lab.zoo import default_zoo, find

    try:
        return find(default_zoo(), name).folder
    except StateError as error:
        raise RecipeError(f"{name} is no run folder, no export, and no network of the zoo ({error})") from None


def open_trained(folder: Path, recipe: Recipe) -> Any:
    """Return the trained network of a run or export, as its task opens it.

    Raises:
        RecipeError: the task does not say how its networks are used.
        StateError: the run is not finished, or a file of it is missing or damaged.
    """
    task = task_named(recipe.task)
    if not task.has("opens"):
        raise RecipeError(f"{folder} is a run of {recipe.task}, which redense.load does not know")
    return task.load("opens")(folder, recipe.data, recipe.model)


def _downloaded(repository: str) -> Path:
    from redense.errors import DataError

    try:
        import huggingface_hub

        refuse_folder(huggingface_hub)
    except ImportError:
        raise MissingExtraError("models of the hub need huggingface_hub: pip install 'redense[hub]'") from None
    try:
        return Path(huggingface_hub.snapshot_download(repository))
    except Exception as error:  # noqa: BLE001  # the Hub's own, and those of whichever HTTP library it uses
        raise DataError(f"hub:{repository} cannot be got ({' '.join(str(error).split())[:200]})") from None
