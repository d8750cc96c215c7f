"""The first line of a docstring is an imperative or a noun phrase with the noun of the field."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import redense

SOURCE = Path(redense.__file__).parent
BARE = re.compile(r"(What|How|Which|Where|Why|From)\b")


def test_no_docstring_opens_with_a_bare_question_word():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}
    assert len(trees) > 300
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [(path, node) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, kinds)]
    wrong = [
        f"{path.relative_to(SOURCE)}: {getattr(node, 'name', 'module')}"
        for path, node in found
        if BARE.match(ast.get_docstring(node) or "")
    ]
    assert wrong == []
