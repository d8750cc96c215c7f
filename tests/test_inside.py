"""The house: its page names files and parts that there are, modules are short, and tests lie where their modules do."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
OF_SEVERAL = {
    "crash": {"crash", "damage", "groups"},
    "holding": {"odd_models", "turns", "zeros"},
    "integrations": {"accelerate", "contract", "peft", "rows"},
    "lab/arms": {"interrupted"},
    "lab/comparison": {"kill_compare"},
    "lab/judging": {"rates"},
    "lab/pairs": {"killed_examples"},
    "lab/recipe": {"anything"},
    "lab/runs": {"before", "faults", "run_store"},
    "report": {"browser"},
    "tasks/captioning": {"emoji"},
    "tasks/data": {"broken_inputs", "labels", "layouts", "tables"},
}
"""Tests of what several modules of a folder do together. At the top of ``tests`` lie those of the whole as well."""
PAGE = (ROOT / "docs" / "project" / "inside.md").read_text(encoding="utf-8")


def test_every_path_on_the_page_is_there():
    paths = re.findall(r"`((?:src|tests|docs|tools)/[\w./-]+)`", PAGE)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_part_on_the_page_is_one_of_make_test():
    parts = set(re.findall(r"PART=([\w/]+)", PAGE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    missing = {part for part in parts if f"TESTS_{part} =" not in makefile and not (ROOT / "tests" / part).is_dir()}
    assert missing == set()


def test_a_test_lies_where_its_module_does_or_is_of_several_modules():
    astray = list[str]()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder, name = path.parent.relative_to(ROOT / "tests"), path.stem.removeprefix("test_")
        source = ROOT / ("" if folder.parts[:1] == ("tools",) else "src/redense") / folder
        one = (source / f"{name}.py").is_file() or (source / name / "__init__.py").is_file() or name == folder.name
        if folder.parts and not one and name not in OF_SEVERAL.get(folder.as_posix(), ()):
            astray.append(path.relative_to(ROOT).as_posix())
    assert astray == []


def test_no_module_has_more_than_400_lines_no_test_more_than_500_and_no_folder_more_than_15_files():
    def longer(folder: str, lines: int) -> list[str]:
        paths = sorted((ROOT / folder).rglob("*.py"))
        return [str(path) for path in paths if path.read_text(encoding="utf-8").count("\n") > lines]

    assert longer("src", 400) == []
    assert longer("tests", 500) == []
    folders = [path.parent for path in (ROOT / "src" / "redense").rglob("*.py")]
    assert {str(folder): folders.count(folder) for folder in folders if folders.count(folder) > 15} == {}
