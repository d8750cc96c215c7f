"""The lint of style sheets and scripts: ours have no fault, and each kind of fault is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def assets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("assets", ROOT / "tools" / "assets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("sheet", "fault"),
    [
        (".a { color: red; }\n", ""),
        (".a { color: var(--own); }\n:root { --own: #123456; }\n", ""),
        (".b { color: red; }\n", "nothing is called .b"),
        ("#b { color: red; }\n", "nothing is called #b"),
        (".a { color: var(--gone); }\n", "no sheet defines --gone"),
        (".a { color red; }\n", "no declaration: 'color red'"),
        (".a { color: red; \n", "braces do not pair"),
        (".a { background: url(x.png); }\n", "url( loads a file"),
        ('@import "x.css";\n', "@import loads a sheet"),
        (".a { color: red !important; }\n", "!important wins always"),
        (".a { color: red; }", "one line end"),
        (".a { color: red; } \n", "spaces at its end"),
    ],
)
def test_a_fault_of_a_style_sheet_is_named(sheet: str, fault: str, assets):
    found = list(assets.faults({"x.css": sheet}, {}, 'h("p", class_="a")'))
    assert bool(found) == bool(fault)
    assert fault in "".join(found)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("const a = 1;", ""),
        ('const said = "eval( and innerHTML are text here"; // and var a == b too', ""),
        ("let a = (1;", "SyntaxError"),
        ("var a = 1;", "var is let or const"),
        ("const a = document.body; a.innerHTML = 1;", "innerHTML takes text for markup"),
        ("const a = eval(1);", "eval( runs text"),
        ("if (1 == 2) { }", "is === or !=="),
        ('fetch("/x");', "fetch( asks somebody"),
        ('const a = "https://x";', "names an address"),
    ],
)
def test_a_fault_of_a_script_is_named(script: str, fault: str, assets):
    found = list(assets.faults({}, {"x.js": f'"use strict";\n{script}\n'}, ""))
    assert bool(found) == bool(fault), found
    assert fault in "".join(found)
    if "fetch" in fault:  # a served page may ask where it comes from
        assert not list(assets.faults({}, {"live.js": f'"use strict";\n{script}\n'}, ""))
