"""Recipes: what to train, on what, and for how long, as typed YAML. No torch here, so that mistakes are found at once.

A recipe is checked before anything heavy is imported. An unknown key names the nearest one; every error is one line.
YAML is read by a safe loader that also refuses aliases (a few of them can stand for gigabytes) and duplicate keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    create_model,
    field_validator,
)

from redense.errors import RecipeError, closest
from redense.files.checksums import check_folder, check_sums
from redense.files.json_text import read_json
from redense.files.opening import read_text
from redense.files.yaml_text import MAX_BYTES, dump_yaml, parse_value, parse_yaml
from redense.lab.headings import about_other_data
from redense.lab.loggers.base import check_names
from redense.plugins import refuse_missing
from redense.tasks.registry import DEFAULT, Registration, register, task_named, tasks

from .effects import drop_settings_of_another, refuse_idle, refuse_sparsity_beside_pattern
from .sections import (
    USED,
    CycleRecipe,
    DenseRecipe,
    OptimizerRecipe,
    PruneRecipe,
    Section,
    SparseRecipe,
    TrainingRecipe,
    TuneRecipe,
)
from .settings import Json, check_keys, one_line, printable, set_value, shown, value_of

GIVEN = ("recipe.yaml", "started.json", "environment.json")
"""Files of a run folder that say what the run is, and on what and where it was started."""

NEEDED = "plugins.json"
"""The file of an export that says by which plugins its network is used."""

WHEREABOUTS = ("source", "workers", "expected", "broken", "cache_gb")
"""Settings of every task's ``data`` that say where it lies and who reads it: they may change, what it is may not."""

_NAMES_OF_NOTHING = ("sample", "tones")  # what a recipe without data.source trains on


class Recipe(Section):
    """A whole recipe; `data` and `model` are the task's own sections."""

    younger: ClassVar[Mapping[str, Any]] = {"log": None, "arm": None}

    name: str = Field(
        default="recipe", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,79}$", description="what folders and pages call it"
    )
    about: str = Field(default="", description="a line on it")
    task: str = Field(default=DEFAULT, description="classification, captioning, speech, or one of your own")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of first weights, order of the data, and augmentation")
    start: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="a trained network in place of the first dense phase: a file (.safetensors, .pt), a run folder, "
        "a name from `redense data list` that is of weights, or torchvision:IMAGENET1K_V1",
    )
    tune: TuneRecipe | None = Field(
        default=None,
        description="train the first dense phase from `start`, its last layer made anew where it is of other classes; "
        "nothing: only where it is",
    )
    arm: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=r"\S",
        description="train it as this arm of `redense compare` would (see `redense arms`): longer; nothing: the phases "
        "below, dense, sparse, dense",
    )
    log: list[Annotated[str, Field(min_length=1, max_length=80)]] | None = Field(
        default=None,
        max_length=20,
        description="where the numbers of a run go: tensorboard, csv, wandb, mlflow, trackio, or a logger of your own; "
        "nothing: tensorboard for a run, nowhere for a comparison",
    )
    data: Any = None
    model: Any = None
    training: TrainingRecipe = TrainingRecipe()
    prune: PruneRecipe = PruneRecipe()
    dense: DenseRecipe
    sparse: SparseRecipe
    redense: DenseRecipe
    cycles: list[CycleRecipe] = Field(
        default=[], max_length=20, description="more sparse and dense phases: iterative DSD"
    )

    @field_validator("log", mode="before")
    @classmethod
    def _log_may_be_words(cls, log: Any) -> Any:
        return [name.strip() for name in log.split(",")] if isinstance(log, str) else log

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain data, every default written out."""
        return {"log": None, "arm": None, **self.model_dump(mode="json")}

    def to_yaml(self) -> str:
        """Return it as YAML."""
        # Escaped beyond ASCII: PyYAML writes the line breaks of Unicode so that it reads them back as spaces.
        return dump_yaml(self.to_dict())


def register_task(name: str, data: type[BaseModel], model: type[BaseModel], *, entry: str) -> None:
    """Add a task of your own, so that a recipe can name it.

    Args:
        name: what ``task`` of the recipe says.
        data: the recipe's section ``data``; every setting has a default.
        model: the recipe's section ``model``, likewise.
        entry: the module that has ``make``, ``facts`` and ``sketch``, see `redense.lab.tasks`; often ``__name__``.

    `redense.tasks.registry.register` takes more: what the command line and the report show of it.
    """
    register(Registration(name=name, data=data, model=model, entry=entry))
    recipe_type.cache_clear()


def entry_of(task: str) -> str:
    """Return the module that makes the tasks of this name."""
    return task_named(task).entry


@cache
def recipe_type(task: str) -> type[Recipe]:
    """Return the recipe class of a task."""
    data, model = tasks()[task].data, tasks()[task].model
    fields: dict[str, Any] = {"data": (data, data()), "model": (model, model())}
    return create_model(f"{task.title()}Recipe", __base__=Recipe, **fields)


# --- reading --------------------------------------------------------------------------------------------------------


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a shipped name or a YAML file, changed by command-line overrides.

    Args:
        source: a name of `recipe_names`, or the path of a YAML file.
        overrides: ``["--sparse.sparsity", "0.5", "--seed=3"]``; a value of a setting that is a text is that text, any
            other is read as YAML. Another ``--model.name`` drops the recipe's other settings of the model, another
            ``--training.optimizer.name`` those that it does not take, another ``--data`` what the recipe says of its
            own data: ``about`` and ``data.expected``.

    Raises:
        RecipeError: no such recipe, or something in it or in the overrides is wrong; one line that names it.
    """
    text, label = _read(source)
    data = _settings_of(text, label)
    _forget_data_of_shipped(data, label)
    overridden(data, overrides, label)
    recipe = build_recipe(data, label)
    refuse_idle(recipe, label)
    check_names(recipe.log or ())  # here alone: a run that was logged can be read where its logger is not
    return recipe


def overridden(data: dict[str, Any], overrides: Sequence[str], label: str = "recipe") -> None:
    """Change the plain data of a recipe as settings of the command line say, in place.

    Raises:
        RecipeError: there is no such setting, or its value cannot be read.
    """
    pairs = list(_pairs(overrides))
    for key, value in pairs:
        if key == "model.name" and isinstance(data.get("model"), dict) and data["model"].get("name") != value:
            data["model"] = {}  # another network: the settings of the one before are not its own
        if key == "training.optimizer.name":
            drop_settings_of_another(data, value)
        if key == "data.source":
            _forget_own_data(data, parse_value(value, "--data") if isinstance(value, Json) else value, label)
    for key, text in pairs:
        task = data.get("task")  # which a pair before this one may have set
        kind = recipe_type(task if isinstance(task, str) and task in tasks() else DEFAULT)
        is_path = key == "data.source" and not isinstance(text, Json)  # which is never read as YAML
        set_value(data, kind, key, text if is_path else value_of(kind, key, text))
    refuse_sparsity_beside_pattern(
        data, [k.removeprefix("sparse.") for k, _ in pairs if k.startswith("sparse.")], label
    )


def _forget_own_data(data: dict[str, Any], source: Any, label: str) -> None:
    """Drop what a recipe says of its own data where it is to be trained on other data."""
    section = data.get("data")
    if _is_own(section.get("source") if isinstance(section, dict) else None, source):
        return
    several = " + ".join(map(str, source)) if isinstance(source, list) else source
    data["about"] = about_other_data(label, several or "data of redense's own")
    if isinstance(section, dict):
        section.pop("expected", None)


def _is_own(own: object, source: object) -> bool:
    """Whether a source is the one that a recipe has, or a name of the data of a recipe that has none."""
    return source == own or (own is None and source in _NAMES_OF_NOTHING)


def _forget_data_of_shipped(data: dict[str, Any], label: str) -> None:
    """Drop what a copy of a shipped recipe says of that one's data, where it names other data."""
    name, section = data.get("name"), data.get("data")
    shipped = _shipped()
    if not isinstance(name, str) or name == label or name not in shipped or not isinstance(section, dict):
        return
    first = parse_yaml(shipped[name].read_text(encoding="utf-8"), name)
    own = first.get("data") or {}
    source = section.get("source")
    if _is_own(own.get("source"), source):
        return
    if data.get("about") == first.get("about"):
        data["about"] = about_other_data(name, source)
    if section.get("expected") == own.get("expected"):
        section.pop("expected", None)


def names_in(recipe: Recipe) -> dict[str, list[str]]:
    """Return what a recipe names that a plugin may have brought: kind -> names, for `redense.plugins.plugins_of`."""
    phases = [recipe.sparse, *(cycle.sparse for cycle in recipe.cycles)]
    return {
        "task": [recipe.task],
        "criterion": [phase.criterion for phase in phases],
        "optimizer": [recipe.training.optimizer.name],
        "network": [str(getattr(recipe.model, "name", ""))],
        "logger": list(recipe.log or ()),
    }


def build_recipe(data: Mapping[str, Any], label: str = "recipe", *, to_train: bool = True) -> Recipe:
    """Return the recipe that plain data describes; errors are one line that begins with ``label``.

    With ``to_train=False`` it says how a network was trained that is to be used: by what may be unknown here.
    """
    task = data.get("task", DEFAULT)
    if not isinstance(task, str) or task not in tasks():
        raise RecipeError(f"{label}: task must be one of {', '.join(tasks())}, got {shown(task)}")
    kind = recipe_type(task)
    check_keys(data, kind, label)
    try:
        return kind.model_validate(data, context=None if to_train else {USED: True})
    except ValidationError as error:
        raise RecipeError(f"{label}: {one_line(error)}") from None


def read_run_recipe(folder: Path, *, whole: bool = True) -> Recipe:
    """Return the recipe that a run folder was made from, or an export, or an entry of the zoo, after a check of it all.

    So every verb opens such a folder. With ``whole=False`` only what a run is given is checked: what it makes out of
    that can be made again.

    Raises:
        CheckpointError: a file in it is damaged.
        RecipeError: it is no run folder, or its recipe is damaged.
        PluginError: it was made with a plugin that is not loaded.
    """
    path = folder / "recipe.yaml"
    if not path.exists():
        raise RecipeError(f"{folder} is no run folder: it has no recipe.yaml")
    if whole:
        check_folder(folder)
    else:
        check_sums(folder, *GIVEN)
    data = _settings_of(_read(path)[0], str(path))
    refuse_unloaded(folder)
    recipe = build_recipe(data, str(path), to_train=(folder / "environment.json").is_file())  # which no export has
    within: Any = getattr(recipe.data, "within", None)
    return recipe.model_copy(update={"data": within(folder)}) if within else recipe


def untrained(recipe: Recipe) -> Recipe:
    """Return the recipe of a network that is used, without what has trained it: that may be gone by now."""
    usual: dict[str, Any] = {
        "start": None,
        "tune": None,
        "cycles": [],
        "sparse": recipe.sparse.model_copy(update={"criterion": "magnitude"}),
        "training": recipe.training.model_copy(update={"optimizer": OptimizerRecipe()}),
    }
    return recipe.model_copy(update=usual)


def _settings_of(text: str, label: str) -> dict[str, Any]:
    data = parse_yaml(text, label)
    if not isinstance(data, dict):
        raise RecipeError(f"{label}: a recipe is a mapping of settings, got {type(data).__name__}")
    return data


def refuse_unloaded(folder: Path) -> None:
    """Raise if a folder was made with a plugin that is not loaded.

    Raises:
        PluginError: it was; the plugin is named.
    """
    for name in ("environment.json", NEEDED):
        if not (folder / name).is_file():
            continue
        try:
            told = read_json(folder / name)
        except (OSError, ValueError, RecursionError):  # which others say: it decides nothing
            continue
        refuse_missing(told.get("plugins") if isinstance(told, dict) else None, str(folder))


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    return sorted(_shipped())


def recipe_text(name: str) -> str:
    """Return the YAML text of a shipped recipe or of a recipe file."""
    return _read(name)[0]


def _shipped() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(folder: Any, prefix: str) -> None:
        for item in folder.iterdir():
            if item.is_dir():
                walk(item, f"{prefix}{item.name}/")
            elif item.name.endswith(".yaml"):
                found[prefix + item.name.removesuffix(".yaml")] = item

    walk(resources.files("redense") / "recipes", "")
    return found


def _read(source: str | Path) -> tuple[str, str]:
    shipped = _shipped()
    if str(source) in shipped:
        return shipped[str(source)].read_text(encoding="utf-8"), str(source)
    path, label = Path(source), printable(str(source))
    try:
        if path.suffix not in (".yaml", ".yml") and not path.exists():
            close = closest(str(source), shipped)
            families = sorted({f"{name.partition('/')[0]}/..." if "/" in name else name for name in shipped})
            hint = f"; did you mean '{close}'?" if close else f" (known: {', '.join(families)}: see redense recipes)"
            raise RecipeError(f"no recipe is called '{label}'{hint}; a file of your own ends in .yaml")
        return read_text(path, MAX_BYTES), str(path)
    except UnicodeDecodeError:
        raise RecipeError(f"{label}: not a text file in UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{label}: {error.strerror or error}") from None


# --- overrides ------------------------------------------------------------------------------------------------------


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = arguments
    while rest:
        item, rest = rest[0], rest[1:]
        if not item.startswith("--") or item == "--":
            raise RecipeError(
                f"unexpected argument '{printable(item)}': settings are given as --key value, e.g. --seed 3"
            )
        key, equals, text = item[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):  # an option or setting of its own
                raise RecipeError(f"--{key} needs a value: it is no option here, but could be a setting of the recipe")
            text, rest = rest[0], rest[1:]
        # --data PATH is short for the one thing that most runs change.
        yield ("data.source" if key == "data" else key), Json(text) if isinstance(item, Json) else text
