"""The page on recipes has every setting, its default and its meaning, as the types of a recipe have them."""

from __future__ import annotations

import sys
from pathlib import Path

from redense.lab.recipe.recipe import load_recipe

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import settings  # noqa: E402  # pyright: ignore[reportMissingImports]  # tools/ is no package


def test_the_page_has_the_settings_of_today():
    text = settings.PAGE.read_text(encoding="utf-8")
    assert settings.written(text) == text, "run tools/settings.py"


def test_every_setting_of_a_recipe_is_on_the_page_with_its_meaning():
    rows = [line.split(" | ") for line in settings.tables().splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if len(row) != 3 or len(row[2]) < 10] == []
    named = {row[0].strip("| `") for row in rows}
    for name in ("quickstart", "emoji/neuraltalk", "prompts-es/deepspeech", "imagenet/resnet50-v1"):
        assert left_out(load_recipe(name).to_dict(), named) == [], name


def left_out(data: dict[str, object], named: set[str], prefix: str = "") -> list[str]:
    """Return the settings of plain data that are not named; those of a section that is named as a whole may lack."""
    found = list[str]()
    for name, value in data.items():
        own = f"{prefix}{name}"
        inside = isinstance(value, dict) and any(one.startswith(f"{own}.") for one in named)
        found += left_out(value, named, f"{own}.") if inside else [] if own in named else [own]  # pyright: ignore[reportArgumentType]
    return found
