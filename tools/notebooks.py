"""Notebooks of the documentation: execute them, and show them in the site (mkdocs calls the functions ``on_*``).

    python tools/notebooks.py        execute docs/notebooks/*.py and write *.ipynb beside them

A notebook is written as a script with ``# %%`` before each cell, and executed here, in one process and without Jupyter,
the last expression of a cell shown as Jupyter shows it. What it was executed from and with is kept in its metadata.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "notebooks"
_CELL = re.compile(r"(?m)^# %%(?: \[(\w+)\])?\n")


def cells_of(script: str) -> list[tuple[str, str]]:
    r"""Return the cells of a script: what each is, ``code`` or ``markdown``, and its text.

    >>> cells_of("# %% [markdown]\n# # Title\n\n# %%\n1 + 1\n")
    [('markdown', '# Title'), ('code', '1 + 1')]
    """
    _, *parts = _CELL.split(script)
    found = list[tuple[str, str]]()
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        plain = re.sub(r"(?m)^# ?", "", text) if kind == "markdown" else text
        found.append((kind or "code", plain.strip()))
    return found


def digest_of(cells: Sequence[tuple[str, str]]) -> str:
    """Return what the code cells of a notebook are told by."""
    code = [text for kind, text in cells if kind == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]


def execute(script: str, name: str) -> dict[str, Any]:
    """Return a script as an executed notebook, in the format 4.5 of nbformat.

    An error of a cell is raised: a notebook of ours has none.
    """
    cells = cells_of(script)
    given: dict[str, Any] = {"__name__": "__main__"}
    done = list[dict[str, Any]]()
    for index, (kind, text) in enumerate(cells):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"{name}-{index}", "metadata": {}, "source": _lines(text)}
        if kind == "code":
            number = sum(one["cell_type"] == "code" for one in done) + 1
            cell |= {"execution_count": number, "outputs": _run(text, given, number)}
        done.append(cell)
    language = {"name": "python", "version": platform.python_version()}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": language, "redense": {"executed": digest_of(cells), **made_on()}}
    return {"cells": done, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def made_on() -> dict[str, str]:
    """Return what the digits of an output depend on."""
    from redense.lab.environment import arithmetic

    found = arithmetic()
    return {"torch": str(found["torch"]).partition("+")[0], "processor": str(found["processor"])}


def _run(text: str, given: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Execute a cell; return what it printed, and what its last expression is."""
    tree = ast.parse(text)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, outputs = io.StringIO(), list[dict[str, Any]]()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), given)  # our own documentation
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), given) if last else None  # type: ignore[union-attr]
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data = {"text/html": _lines(value._repr_html_()), "text/plain": _lines(str(value))}
        shown = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
        outputs.append(shown)
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


# --- in the site ------------------------------------------------------------------------------------------------------


def page(notebook: Mapping[str, Any]) -> str:
    """Return a notebook as Markdown: code, and what came of it."""
    parts = list[str]()
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "text/html" in data:
                parts.append(f'<div class="notebook-output">{"".join(data["text/html"])}</div>')
            else:
                parts.append(f"```text\n{''.join(data.get('text/plain', output.get('text', ()))).rstrip()}\n```")
    about = notebook["metadata"]["redense"]
    made = f"PyTorch {about['torch']} on {about['processor']}, one thread"
    parts.append(f"Executed with {made}. Elsewhere the digits differ.")
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put a page for each notebook beside it."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        text = page(json.loads(path.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files


def main() -> None:
    """Execute every notebook."""
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    for path in sorted(FOLDER.glob("*.py")):
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            made = execute(path.read_text(encoding="utf-8"), path.stem)
        path.with_suffix(".ipynb").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.with_suffix('.ipynb').relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
