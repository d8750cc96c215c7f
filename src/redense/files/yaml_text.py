"""YAML from whomever: plain data, without aliases, tags and keys that are given twice.

What a plain word means follows the core schema of YAML 1.2: `true` and `false` are the only truth values, so that `no`
is Norwegian; `0100` is a hundred and `1:30` is text; nothing is a date.
"""

from __future__ import annotations

import copy
import functools
import re
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from redense.errors import RecipeError

MAX_BYTES = 1 << 18
"""A recipe is a page of text."""

_MAX_NODES = 20_000  # names and values; PyYAML takes a second for so many
_MAX_DIGITS = 400  # of a number: a long one takes minutes, and Python refuses it at 4,300

_CORE = (  # https://yaml.org/spec/1.2.2/#103-core-schema
    ("null", r"null|Null|NULL|~|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


def parse_yaml(text: str, label: str) -> Any:
    """Return plain data from YAML, safely.

    Raises:
        RecipeError: not valid YAML, or it uses aliases, tags or duplicate keys.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{label}: {len(text):,} characters are too many for a recipe")
    try:
        return copy.deepcopy(_parsed(text))  # the caller's own
    except RecursionError:
        raise RecipeError(f"{label}: not valid YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise RecipeError(f"{label}: not valid YAML{where}: {' '.join(str(problem).split())}") from None


@functools.lru_cache(maxsize=64)  # a page that is served reads the recipes of its runs every second
def _parsed(text: str) -> Any:
    return yaml.load(text, _Loader)  # a SafeLoader


def dump_yaml(data: Any, *, ascii_only: bool = True) -> str:
    """Return plain data as YAML that every reader of YAML 1.1 and 1.2 reads as the same data, its order kept."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii_only)


def parse_value(text: str, label: str) -> Any:
    """Return plain data from one value of a command line; there is no comment in it, which only the shell could mean.

    >>> parse_value("0.5", "--x"), parse_value("[1, 2]", "--x"), parse_value("run #3", "--x")
    (0.5, [1, 2], 'run #3')

    Raises:
        RecipeError: not valid YAML.
    """
    value = parse_yaml(text, label)
    *_, last, _ = [*yaml.scan(text, Loader=yaml.SafeLoader)] if text.strip() else [None, None]
    rest = text[last.end_mark.index :] if last else text
    return text if rest.lstrip().startswith("#") else value


class _Loader(yaml.SafeLoader):
    """A safe loader without aliases and tags, and with an error for a key that is given twice."""

    nodes = 0
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own, of 1.1, are not taken over

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            raise ComposerError(None, None, f"more than {_MAX_NODES:,} names and values", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise ComposerError(None, None, "aliases are not allowed here", event.start_mark)
        if getattr(event, "tag", None) is not None:  # PyYAML's own constructors fail in odd ways on a wrong one
            raise ComposerError(None, None, "tags are not allowed here", event.start_mark)
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if node.tag.endswith((":int", ":float")) and len(node.value) > _MAX_DIGITS:
            raise ConstructorError(None, None, f"a number of {len(node.value):,} characters", node.start_mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise ConstructorError(None, None, f"'{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        """Return a whole number: to the base of ten, also with zeros before it."""
        text: str = self.construct_scalar(node)
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


class _Dumper(yaml.SafeDumper):
    """A dumper that puts a text into quotes where a reader of either version would take it for something else."""


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _name, _pattern, _first in _CORE:
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)
