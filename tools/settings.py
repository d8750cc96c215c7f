"""Write the settings of a recipe into docs/reference/recipes.md: names, defaults and meanings, from its types.

python tools/settings.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from redense.lab.recipe.recipe import recipe_type
from redense.lab.recipe.sections import DenseRecipe
from redense.tasks.registry import tasks

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "recipes.md"
BEGIN, END = "<!-- begin: written by tools/settings.py -->", "<!-- end -->"
OF_A_TASK = ("data", "model")
SAID_ONCE = {
    "decay": "the curve of this phase alone, with the settings of `training.decay`; nothing: `training.decay`",
    "cycles": "a list of further cycles, each `{sparse: {...}, redense: {...}}` with the settings of these phases",
}
"""Sections whose settings stand elsewhere in the table."""


def settings_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Give the name, the default and the meaning of each setting of a section and of those in it."""
    for name, field in section.model_fields.items():
        if not prefix and name in OF_A_TASK:
            continue
        inner = _section_in(field.annotation)
        if name in SAID_ONCE and (name == "cycles" or issubclass(section, DenseRecipe)):
            yield f"{prefix}{name}", "`[]`" if name == "cycles" else "", SAID_ONCE[name]
        elif inner is None:
            yield f"{prefix}{name}", _default(field), _meaning(field)
        else:
            if field.description:
                yield f"{prefix}{name}", "", field.description
            yield from settings_of(inner, f"{prefix}{name}.")


def tables() -> str:
    """Return the tables of the page in Markdown."""
    parts = ["## Every recipe", "", *_table(settings_of(recipe_type("classification"))), ""]
    for task in tasks().values():
        if not task.is_ours:
            continue
        parts += [f"## `task: {task.name}`", ""]
        own = [row for name in OF_A_TASK for row in settings_of(getattr(task, name), f"{name}.")]
        parts += [*_table(own), ""]
    return "\n".join(parts)


def written(text: str) -> str:
    """Return the text of the page with the tables of now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}"


def _table(rows: Any) -> list[str]:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    return lines + [f"| `{name}` | {default} | {_escaped(meaning)} |" for name, default, meaning in rows]


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("|", r"\|")


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a setting is, perhaps one of several types."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    found = map(_section_in, get_args(annotation) if get_origin(annotation) is not list else ())
    return next((one for one in found if one is not None), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "has to be given"
    value = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"`{text.replace('(', '[').replace(')', ']') if isinstance(value, tuple) else text}`"


def _meaning(field: FieldInfo) -> str:
    choices = [f"`{one}`" for one in _choices(field.annotation)]
    meaning = field.description or ""
    return f"one of {', '.join(choices)}; {meaning}" if len(choices) > 1 else meaning


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [one for inner in get_args(annotation) for one in _choices(inner)]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
