"""The page for those who change redense names files and parts that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
