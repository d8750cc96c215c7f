"""The settings of a recipe by name: set from the command line, checked, and named in errors of one line."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from redense.errors import LONGEST, RecipeError, nearest
from redense.files.yaml_text import parse_value

_SHOWN = 80  # characters of a wrong value that an error repeats


class Json(str):
    """A word of the command line whose value is JSON also where the setting is a text: None, or a list, from Python."""

    __slots__ = ()


def set_value(data: dict[str, Any], kind: type[BaseModel], key: str, value: Any) -> None:
    """Set what ``--key value`` says in plain data of a section class; ``a.b`` is ``b`` in the section ``a``.

    Raises:
        RecipeError: there is no such setting; it names the nearest.
    """
    known = list(setting_names(kind))
    parts = key.split(".")
    if key not in known and not any(key.startswith(f"{name}.") and is_mapping(kind, name) for name in known):
        raise RecipeError(f"unknown setting --{printable(key)}{_nearest_setting(key, known)}")
    target = data
    for index, part in enumerate(parts[:-1]):
        below = target.get(part)
        if below is None or not isinstance(below, dict):
            below = target[part] = {}
        if is_mapping(kind, ".".join(parts[: index + 1])):  # parameter names have dots of their own
            below[".".join(parts[index + 1 :])] = value
            return
        target = below
    target[parts[-1]] = value


def setting_names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Give the names of all settings of a section class, sections too."""
    for name, field in kind.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None and not _is_list(field.annotation):
            yield from setting_names(inner, f"{prefix}{name}.")
        yield f"{prefix}{name}"


def _annotation(kind: type[BaseModel], name: str) -> Any:
    """Return the type of a setting; None where there is none of that name."""
    annotation: Any = kind
    for part in name.split("."):
        owner = _model_in(annotation)
        if owner is None or part not in owner.model_fields:
            return None
        annotation = owner.model_fields[part].annotation
    return annotation


def is_mapping(kind: type[BaseModel], name: str) -> bool:
    """Whether a setting may be a mapping, such as one from parameter names to sparsities."""
    return any(typing.get_origin(option) is dict for option in _options(_annotation(kind, name)))


def value_of(kind: type[BaseModel], key: str, text: str) -> Any:
    """Return what a value of the command line says: of a setting that is a text the text, else what it is as YAML.

    >>> from .recipe import Recipe
    >>> [value_of(Recipe, *pair) for pair in (("name", "008"), ("seed", "008"), ("start", "null"))]
    ['008', 8, None]

    Raises:
        RecipeError: it is no YAML.
    """
    if isinstance(text, Json):
        return parse_value(text, f"--{printable(key)}")
    kinds = _options(_annotation(kind, key))
    if text in ("null", "~") and types.NoneType in kinds:
        return None
    words = [option for option in kinds if option is not types.NoneType]
    return text if words and all(map(_is_text, words)) else parse_value(text, f"--{printable(key)}")


def _is_text(kind: Any) -> bool:
    literal = typing.get_origin(kind) is typing.Literal
    return kind is str or (literal and all(isinstance(word, str) for word in typing.get_args(kind)))


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _kinds(annotation: Any) -> set[Any]:
    """Return the types of what a setting, a list or a pair may hold; a mapping is none of these."""
    if typing.get_origin(annotation) is dict:
        return set()
    if typing.get_origin(annotation) is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    inner = typing.get_args(annotation)
    return set().union(*map(_kinds, inner)) if inner else {annotation}


def _underscored(value: Any) -> str | None:
    """Return a text with an underscore among values, which pydantic would take for a number, as Python does."""
    return next(
        (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str) and "_" in item),
        None,
    )


def _is_list(annotation: Any) -> bool:
    return any(typing.get_origin(option) is list for option in _options(annotation))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section class in ``X``, ``X | None`` or ``list[X]``."""
    for option in _options(annotation):
        for candidate in (option, *typing.get_args(option)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                return candidate
    return None


def check_keys(
    data: Mapping[str, Any], kind: type[BaseModel], label: str, prefix: str = "", root: type[BaseModel] | None = None
) -> None:
    """Raise on the first name in plain data that is no setting of a section class, or that has a yes for a number.

    Raises:
        RecipeError: one line that begins with ``label`` and names the nearest setting.
    """
    root = root or kind
    for key, value in data.items():
        if not isinstance(key, str):
            raise RecipeError(f"{label}: a setting's name must be text, got {shown(key)}")
        if key not in kind.model_fields:
            known = [*(f"{prefix}{name}" for name in kind.model_fields), *setting_names(root)]
            hint = _nearest_setting(f"{prefix}{key}", known) or _known(kind)
            raise RecipeError(f"{label}: unknown setting '{prefix}{printable(key)}'{hint}")
        annotation = kind.model_fields[key].annotation
        if isinstance(value, bool) and bool not in _options(annotation):
            raise RecipeError(f"{label}: {prefix}{key} is no yes-or-no setting, got {str(value).lower()}")
        if (text := _underscored(value)) and _kinds(annotation) <= {int, float, types.NoneType, ...}:
            raise RecipeError(
                f"{label}: {prefix}{key} is {shown(text)}, which is text in YAML 1.2: write it without '_'"
            )
        inner = _model_in(annotation)
        if inner is None:
            continue
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, Mapping):
                path = f"{prefix}{key}.{index}." if isinstance(value, list) else f"{prefix}{key}."
                check_keys(item, inner, label, path, root)


def _known(kind: type[BaseModel]) -> str:
    return f" (known here: {', '.join(kind.model_fields)})"


def _nearest_setting(key: str, known: list[str]) -> str:
    """Name the nearest setting, first among those whose last part is alike: `--sparsity` means `--sparse.sparsity`."""
    if len(key) > LONGEST:
        return ""
    by_last = {name: name.rpartition(".")[2] for name in known}
    section, _, last = key.rpartition(".")
    alike = [n for n, end in by_last.items() if end == last or difflib.SequenceMatcher(None, end, last).ratio() > 0.8]
    alike = [n for n in alike if n.rpartition(".")[0] == section] or alike
    if not alike:
        return nearest(key, known)
    return nearest(max(alike, key=lambda n: difflib.SequenceMatcher(None, n, key).ratio()), alike)


def one_line(error: ValidationError) -> str:
    """Return what pydantic found wrong in one line: the setting, what is expected, what was given."""
    errors = error.errors(include_url=False)
    place = _place(errors[0])
    # Of a setting that may be of several types, the error that went deepest is of the type that was meant.
    first = max((e for e in errors if _place(e)[: len(place)] == place), key=lambda e: len(_place(e)))
    others = {_place(e) for e in errors if _place(e)[: len(place)] != place}
    more = f" (and {len(others)} more)" if others else ""
    where = ".".join(printable(str(part)) for part in _place(first))
    if first["type"] == "missing":
        return f"'{where}' is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    repeated = "" if isinstance(given, (Mapping, BaseModel)) else f", got {shown(given)}"
    return f"{where}: {message[0].lower()}{message[1:]}{repeated}{more}" if where else f"{message}{more}"


def _place(error: Any) -> tuple[int | str, ...]:
    # pydantic puts the tried member of a union into the location: `sparse.sparsity.constrained-float`
    return tuple(p for p in error["loc"] if p not in ("float", "constrained-float") and not str(p).startswith("dict["))


def shown(value: object) -> str:
    """Return a wrong value as an error repeats it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def printable(text: str) -> str:
    """Return a wrong name as an error repeats it: in one line, cut where it is long."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
