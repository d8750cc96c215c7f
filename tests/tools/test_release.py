"""A release is written down in every place, and a wheel that is not what git has is refused."""

from __future__ import annotations

import datetime
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import redense

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import release  # noqa: E402  # pyright: ignore[reportMissingImports]  # tools/ is no package

DAY = datetime.date(2027, 1, 2)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "redense"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "_version.py").write_text('"""x"""\n__version__ = "0.1.0"\n')
    (package / "masks").mkdir()
    (package / "masks" / "selection.py").write_text("")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 0.1.0\nlicense: Apache-2.0\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    return tmp_path


def test_a_release_is_written_into_package_citation_and_changelog(checkout: Path):
    release.prepare("0.1.0", checkout, DAY)  # the first one: the version is there, and nothing is released yet
    release_twice = "0.1.0 is not above 0.1.0, the present version"
    with pytest.raises(SystemExit, match=release_twice):
        release.prepare("0.1.0", checkout, DAY)
    text = (checkout / "CHANGELOG.md").read_text()
    (checkout / "CHANGELOG.md").write_text(text.replace("[Unreleased]\n", "[Unreleased]\n\n- New.\n"))
    release.prepare("0.2.0", checkout, DAY)
    assert '__version__ = "0.2.0"' in (checkout / "src/redense/_version.py").read_text()
    assert (checkout / "CITATION.cff").read_text().splitlines()[:2] == ["cff-version: 1.2.0", "version: 0.2.0"]
    assert (checkout / "CHANGELOG.md").read_text() == (
        "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-02\n\n- New.\n\n"
        "## [0.1.0] - 2027-01-02\n\n### Added\n\n- A thing.\n"
    )


@pytest.mark.parametrize(
    ("version", "said"),
    [("0.0.9", "0.0.9 is not above 0.1.0"), ("1.0", "three numbers, got 1.0"), ("0.2.0", "nothing under Unreleased")],
)
def test_what_is_no_release_changes_nothing(checkout: Path, version: str, said: str):
    if version == "0.2.0":
        (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n- Old.\n")
    before = {path: path.read_bytes() for path in checkout.rglob("*.*") if path.is_file()}
    with pytest.raises(SystemExit, match=said):
        release.prepare(version, checkout, DAY)
    assert {path: path.read_bytes() for path in checkout.rglob("*.*") if path.is_file()} == before


def wheel(folder: Path, version: str = "0.1.0", **changed: str | None) -> Path:
    about = f"redense-{version}.dist-info"
    files = {
        "redense/__init__.py": "",
        "redense/_version.py": "",
        "redense/masks/selection.py": "",
        f"{about}/METADATA": "Name: redense\nDescription-Content-Type: text/markdown\n\n# redense\n",
        f"{about}/entry_points.txt": "[console_scripts]\nredense = redense.cli:main\n",
        f"{about}/licenses/LICENSE": "",
        **changed,
    }
    folder.mkdir()
    with zipfile.ZipFile(folder / f"redense-{version}-py3-none-any.whl", "w") as file:
        for name, text in files.items():
            if text is not None:
                file.writestr(name, text)
    return folder


def test_a_wheel_is_what_git_has(checkout: Path):
    assert release.check(wheel(checkout / "dist"), checkout).startswith("redense-0.1.0-py3-none-any.whl: 3 files")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"redense/masks/selection.py": None}, "lacks redense/masks/selection.py"),
        ({"redense/notes.txt": ""}, "has redense/notes.txt, which git does not know"),
        ({"redense-0.1.0.dist-info/licenses/LICENSE": None}, "lacks the licence"),
        ({"redense-0.1.0.dist-info/METADATA": "Name: redense\n\nx"}, "lacks the README"),
        ({"redense-0.1.0.dist-info/entry_points.txt": ""}, "lacks the command redense"),
        ({"version": "0.0.9"}, "is not of version 0.1.0"),
    ],
)
def test_a_wheel_that_is_not_what_git_has_is_refused(checkout: Path, changed: dict[str, str | None], said: str):
    with pytest.raises(SystemExit, match=said):
        release.check(wheel(checkout / "dist", **changed), checkout)  # pyright: ignore[reportArgumentType]


def test_two_wheels_are_refused(checkout: Path):
    folder = wheel(checkout / "dist")
    (folder / "redense-0.0.9-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(SystemExit, match="has 2 wheels of redense, expected one"):
        release.check(folder, checkout)


def test_the_version_is_found_where_it_is():
    assert release.version_of(ROOT / "src/redense/_version.py") == redense.__version__
