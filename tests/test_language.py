"""The first line of a docstring is an imperative or a noun phrase with the noun of the field."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import redense

SOURCE = Path(redense.__file__).parent
BARE = re.compile(r"(What|How|Which|Where|Whether|Why|From)\b")


def test_no_module_opens_with_a_bare_question_word():
    modules = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCE.rglob("*.py")}
    assert len(modules) > 300
    wrong = [str(path.relative_to(SOURCE)) for path, text in modules.items() if text is None or BARE.match(text)]
    assert wrong == []
