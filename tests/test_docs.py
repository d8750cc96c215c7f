"""What the documentation shows works: every command is one that the command line takes, every block of Python runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import redense
from redense import cli
from redense.criteria import CRITERIA
from redense.lab.recipe.recipe import build_recipe, load_recipe, recipe_names
from redense.tasks.registry import tasks

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "src/redense/recipes").rglob("*.yaml"))
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*(\.\.\.)?")
"""A name that a reader replaces: RECIPE, PATH, FOLDER."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    language, start, lines = "", 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"\s*```(.*)$", line)
        if fence and not start:
            language, start, lines = fence[1].strip(), number, []
        elif fence:
            found.append(Block(str(page.relative_to(ROOT)), start, language, "\n".join(lines)))
            start = 0
        elif start:
            lines.append(line)
    assert not start, f"{page.name}: the block that begins in line {start} does not end"
    return found


def commands() -> list[tuple[str, str]]:
    """Return where and what: lines of blocks, commands inside of `marks`, and those that recipes begin with."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        own = [
            (str(block), line.strip().removeprefix("$ "))
            for block in blocks(page)
            for line in block.text.replace("\\\n", " ").splitlines()
        ]
        text = page.read_text(encoding="utf-8")
        prose = re.sub(r"(?ms)^\s*```.*?^\s*```", "", text)
        own += [(page.name, match) for match in re.findall(r"`(redense [^`\n]+)`", prose)]
        found += [(place, line) for place, line in own if re.match(r"redense \S", line)]
    for path in RECIPES:
        for line in path.read_text(encoding="utf-8").splitlines():
            found += [(path.name, match) for match in re.findall(r"`(redense [^`]+)`", line) if line.startswith("#")]
            if match := re.match(r"# (redense run [^,]+)", line):
                found.append((path.name, match[1]))
    return sorted(set(found))


COMMANDS = commands()
BLOCKS = [block for page in PAGES for block in blocks(page)]
SNIPPET = re.compile(r'--8<-- "([^":]+)(?::(\w+))?"')
# What is a part of a file is tested where the file is: test_examples, test_plugins.
PYTHON = [block for block in BLOCKS if block.language == "python" and not SNIPPET.search(block.text)]
YAML = [block for block in BLOCKS if block.language == "yaml" and not SNIPPET.search(block.text)]


def test_the_pages_are_found():
    assert len(COMMANDS) > 40
    assert len(PYTHON) >= 7
    assert len(YAML) >= 3


def test_every_block_says_what_it_is_and_is_tested_as_that():
    known = {"", "bash", "console", "diff", "python", "text", "toml", "yaml"}
    assert {str(block) for block in BLOCKS if block.language not in known} == set()


@pytest.mark.parametrize("block", [block for block in BLOCKS if SNIPPET.search(block.text)], ids=str)
def test_every_part_of_a_file_is_there(block: Block):
    for file, section in SNIPPET.findall(block.text):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not section or (f"[start:{section}]" in text and f"[end:{section}]" in text)
        assert file.startswith("examples/")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "bash"], ids=str)
def test_every_script_is_one_that_bash_can_read(block: Block):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def test_pictures_are_small_and_all_of_them_are_shown():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 150_000, path.name
        assert f"images/{path.name}" in text, path.name


def test_the_first_page_shows_the_output_of_the_readme():
    first, readme = (path.read_text(encoding="utf-8") for path in (ROOT / "docs/index.md", ROOT / "README.md"))
    shown = first.partition("```text\n")[2].partition("```")[0]
    assert shown.startswith("phase    sparsity")
    assert shown in readme


def test_the_reference_has_every_public_name():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    index = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8")
    for name in redense.__all__:
        assert f"`redense.{name}`][redense." in index, name
        assert name == "RedenseError" or f"::: redense.{name}\n" in pages, name


def test_the_drawing_of_the_architecture_is_that_of_the_imports(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import make_architecture_image as tool  # pyright: ignore[reportMissingImports]

    uses = tool.uses()
    assert len(uses) > 8
    monkeypatch.setattr(tool, "uses", lambda: uses)
    assert tool.OUT.read_text(encoding="utf-8") == tool.drawing(), "run tools/make_architecture_image.py"
    monkeypatch.setattr(tool, "uses", lambda: [("core", "lab")])
    with pytest.raises(SystemExit, match="core imports lab: imports point one way"):
        tool.drawing()


@pytest.mark.usefixtures("one_parser")
@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[f"{place} {command}" for place, command in COMMANDS])
def test_every_command_is_one_that_the_command_line_takes(place: str, command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CRITERIA, "lamp", CRITERIA["magnitude"])  # of examples/plugins
    words = shlex.split(command.partition("  #")[0].replace("[", "").replace("]", ""))[1:]
    end = next((index for index, word in enumerate(words) if word in (">", "|", "&&")), len(words))
    words = words[:end]
    if len(words) == 1 or "..." in words:  # a verb is spoken of, not typed
        assert words[0] in {*cli.build()[1].functions, "--help", "--version"}
        return
    options, _ = cli.parse([_filled(word, words[max(0, index - 1)]) for index, word in enumerate(words)])
    recipe = getattr(options, "recipe", None)
    if recipe is not None and not PLACEHOLDER.fullmatch(recipe):
        is_run = recipe.startswith("runs/") and options.verb == "sensitivity"
        assert is_run or recipe in recipe_names() or recipe.endswith((".yaml", ".yml")), f"no recipe is called {recipe}"
    if options.settings:
        load_recipe(recipe if recipe in recipe_names() else "quickstart", options.settings)


def test_every_option_of_every_verb_is_on_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    options = {name for parser in cli.build()[1].parsers.values() for a in parser._actions for name in a.option_strings}
    assert [name for name in sorted(options - {"-h"}) if not re.search(rf"{name}(?![\w-])", pages)] == []


def _filled(word: str, before: str) -> str:
    """Return a word with a number where a reader would put one."""
    return "1" if word == "N" or (before in ("--seeds", "--jobs") and PLACEHOLDER.fullmatch(word)) else word


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_every_block_of_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("redense.lab.events._listeners", [])  # one that a block adds hears no other test
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    given: dict[str, Any] = {"redense": redense, "torch": torch, "model": model, "optimizer": optimizer, "train": train}
    exec(compile(block.text, str(block), "exec"), given)  # our own documentation
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("block", YAML, ids=str)
def test_every_block_of_yaml_is_a_part_of_a_recipe(block: Block):
    given = yaml.safe_load(block.text)
    assert isinstance(given, dict)
    base = yaml.safe_load((ROOT / "src/redense/recipes/quickstart.yaml").read_text(encoding="utf-8"))
    task = given.get("task", "classification")
    base = base if task == "classification" else {key: base[key] for key in ("dense", "sparse", "redense")}
    build_recipe({**base, **given, "task": task}, str(block))
    assert task in tasks()


def test_every_test_that_the_page_of_promises_names_exists():
    page = (ROOT / "docs/explanation/what-is-guarded.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/.]+)`", page)
    assert len(set(named)) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
    rows = [line for line in page.partition("## The table of damage")[0].splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert [row for row in promises if not re.search(r"`(tests/|redense\.)", row.split(" | ")[1])] == []


def test_every_file_that_a_sentence_names_is_there():
    named = re.compile(
        r"\b(?:docs|tests|tools|benchmarks|results|src|examples)/[\w./-]*\.(?:md|py|json|csv|yaml|toml|ipynb|svg|png|js|css)\b"
    )
    texts = [*PAGES, ROOT / "results/PROTOCOL.md"]
    for folder in ("src", "tools", "benchmarks"):
        texts += sorted((ROOT / folder).rglob("*.py"))
    places = {
        (path.relative_to(ROOT), name)
        for path in texts
        for name in named.findall(path.read_text(encoding="utf-8"))
        if not re.search(r"[A-Z]{3,}", name.removesuffix("PROTOCOL.md"))  # a name that a reader replaces
    }
    assert len(places) > 100
    assert [(path, name) for path, name in sorted(places) if not (ROOT / name).exists()] == []
