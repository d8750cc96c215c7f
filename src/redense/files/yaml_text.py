"""YAML from whomever: plain data, without aliases, tags and keys that are given twice."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from ..errors import RecipeError

MAX_BYTES = 1 << 18
"""A recipe is a page of text."""

_MAX_NODES = 20_000  # names and values; PyYAML takes a second for so many
_MAX_DIGITS = 400  # of a number; 1:1:1:... is a number to the base of 60, and long ones take minutes


def parse_yaml(text: str, label: str) -> Any:
    """Return plain data from YAML, safely.

    Raises:
        RecipeError: not valid YAML, or it uses aliases, tags or duplicate keys.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{label}: {len(text):,} characters are too many for a recipe")
    try:
        return yaml.load(text, _Loader)  # _Loader is a SafeLoader
    except RecursionError:
        raise RecipeError(f"{label}: not valid YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise RecipeError(f"{label}: not valid YAML{where}: {' '.join(str(problem).split())}") from None


class _Loader(yaml.SafeLoader):
    """A safe loader without aliases and tags, and with an error for a key that is given twice."""

    nodes = 0

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
