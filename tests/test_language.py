"""The first line of a docstring is an imperative or a noun phrase with the noun of the field."""

from __future__ import annotations

import re
from pathlib import Path

import redense

SOURCE = Path(redense.__file__).parent
# At the start of a module, or after the line of a class or function; attributes may be described freely.
OPENING = re.compile(r'(?:\A|:\n) *r?"""((?:What|How|Which|Where|Why|From)\b[^\n]*)')


def test_no_docstring_opens_with_a_bare_question_word():
    texts = {path.relative_to(SOURCE): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    assert len(texts) > 300
    assert OPENING.search('class A:\n    """What it is."""')
    assert [f"{path}: {opening}" for path, text in texts.items() for opening in OPENING.findall(text)] == []
