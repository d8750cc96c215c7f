"""The repository as a visitor finds it: readable forms for issues, tidy text files, one list of checks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.stem)
def test_a_form_for_issues_is_one_that_github_reads(path: Path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "title", "labels", "body"}
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    names = [part["id"] for part in asked]
    assert len(set(names)) == len(names) > 0
    for part in asked:
        assert part["type"] in ("input", "textarea", "dropdown", "checkboxes")
        assert part["attributes"]["label"]
        assert set(part) <= {"type", "id", "attributes", "validations"}
    assert any(part.get("validations", {}).get("required") for part in asked)


def test_every_text_file_is_as_the_editor_leaves_it():
    wrong = list[str]()
    for path in tracked():
        if "fuzz" in path.parts or path.is_symlink() or not path.exists():
            continue  # what fuzzers start from and found is bytes
        content = path.read_bytes()
        if b"\0" in content or path.suffix in (".gz", ".png", ".safetensors"):
            continue
        name = str(path.relative_to(ROOT))
        if content and not content.endswith(b"\n"):
            wrong.append(f"{name} does not end with a newline")
        if b"\r" in content and path.suffix in (".py", ".md", ".yaml", ".yml", ".toml"):
            wrong.append(f"{name} has other ends of lines")
        if re.search(rb"[ \t]\n", content) and path.suffix in (".py", ".md", ".yaml", ".yml", ".toml"):
            wrong.append(f"{name} has blanks at the end of a line")
    assert wrong == []


def test_a_command_that_a_message_suggests_quotes_the_names_in_it():
    """`redense.errors.command` does; a plain ``{name}`` can have a space."""
    # names of our own, and prose
    known = {"source.name", "start", "options.action", "folder.name", "' and '.join(actions)", "_FORMAT", "needs"}
    plain = re.compile(r"(?:\bredense [a-z]+|[\"`: ]sh)(?: -*[a-z./][a-z./-]*)* \{(?!shlex\.|command\()([^{}]+)\}")
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for match in plain.finditer(path.read_text(encoding="utf-8"))
        if match[1] not in known
    ]
    assert wrong == []


def test_what_is_checked_at_every_commit_is_what_make_checks():
    rule = re.search(r"(?m)^check: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert rule
    checked = set(re.findall(r"\(PY\) ((?:-m )?[\w./]+(?: (?:check|format|scan))?)", rule[1]))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {hook["entry"].partition("python ")[2].partition(" --")[0] for hook in hooks} == checked
    assert {"-m ruff check", "-m pyright", "tools/layers.py"} < checked
