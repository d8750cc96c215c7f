"""The arguments of a Python function as the command line of its verb."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from numbers import Integral
from os import PathLike
from typing import Any

from redense.errors import RedenseError


def spelled(parser: argparse.ArgumentParser, given: Mapping[str, Any]) -> list[str]:
    """Return the command line of arguments: positional ones first, JSON wherever there is a choice."""
    first: list[str] = []
    words: list[str] = []
    for action in parser._actions:
        value = True if action.dest == "json" else given.get(action.dest)
        if value is None:
            continue
        if action.nargs == 0 and _switch(action, value) is not action.const:
            continue
        if not action.option_strings:
            first += _places(action, value)
        elif action.nargs == 0 or (action.nargs == "?" and value is True):
            words.append(action.option_strings[0])
        elif isinstance(action, argparse._AppendAction):
            several = [f"{key}={one}" for key, one in value.items()] if isinstance(value, Mapping) else _listed(value)
            words += [f"{action.option_strings[0]}={one}" for one in several]
        elif value is not False:
            words.append(f"{action.option_strings[0]}={_text(value)}")
    return [*first, *words]


def spelled_settings(parser: argparse.ArgumentParser, verb: str, settings: object) -> list[str]:
    """Return the words of a recipe's settings, ``--sparse.sparsity=0.5``.

    Raises:
        RedenseError: they are no mapping, or one is an option of the verb, which has an argument of its own.
    """
    from redense.lab.recipe.recipe import Recipe

    if not isinstance(settings, Mapping):
        if settings is None:
            return []
        raise RedenseError(f"settings is a mapping, such as {{'sparse.sparsity': 0.5}}, got {settings!r}")
    for key in settings:
        if f"--{key}" in parser._option_string_actions and key not in Recipe.model_fields:
            raise RedenseError(f"'{key}' is no setting of a recipe: give it to verbs.{verb} as an argument of its own")
    return _overrides(settings)


def _places(action: argparse.Action, value: Any) -> list[str]:
    """Return the words of a positional argument, which is a path or a name, or several where the verb takes them.

    Raises:
        RedenseError: it is anything else, such as a table in memory, whose columns would pass for names of files.
    """
    several = action.nargs in ("*", "+")
    listed = list(value) if several and isinstance(value, list | tuple | Set | Iterator) else [value]
    for one in listed:
        if not isinstance(one, (str, PathLike)):
            own = "; a table that is in memory is judged by redense.judge" if action.dest == "table" else ""
            what = "a path, or a list of paths" if several else "a path or a name"
            raise RedenseError(f"{action.dest} is {what}, got {type(one).__name__}{own}")
    return [str(one) for one in listed]


def _switch(action: argparse.Action, value: Any) -> bool:
    """Return what a switch is set to: a truth value, Python's or NumPy's.

    Raises:
        RedenseError: it is none, which passed for a switch that was not given.
    """
    if type(value).__name__ not in ("bool", "bool_"):
        raise RedenseError(f"{action.dest} is True or False, got {value!r}")
    return bool(value)


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, (str, PathLike)) else list(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # a sweep
        several = ((key, [values] if isinstance(values, str) else values) for key, values in value.items())
        return " ".join(f"{key}={','.join(map(_json, values))}" for key, values in several)
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(_text, value)) + ("," if len(value) == 1 and isinstance(value[0], Integral) else "")
    return str(value)


def _overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    from redense.lab.recipe.recipe import Recipe
    from redense.lab.recipe.settings import Json, is_mapping

    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and (value or not is_mapping(Recipe, f"{prefix}{key}")):
            words += _overrides(value, f"{prefix}{key}.")
        else:
            word = f"--{prefix}{key}={_json(value)}"
            words.append(Json(word) if value is None or isinstance(value, list | tuple) else word)
    return words


def _json(value: Any) -> str:
    """Return a value as the command line reads it: a text as it is, any other as JSON without blanks, NumPy's too."""
    if isinstance(value, (str, PathLike)):
        return str(value)
    return json.dumps(
        value, separators=(",", ":"), default=lambda own: own.tolist() if hasattr(own, "tolist") else str(own)
    )
