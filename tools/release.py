"""Make a release: write its version down, and look at what was built.

    python tools/release.py prepare 0.2.0    version, citation and changelog
    python tools/release.py check dist       whether the wheel in dist/ is what git has

`docs/project/releasing.md` has the whole list.
"""

from __future__ import annotations

import argparse
import datetime
import email
import re
import subprocess
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNRELEASED = "## [Unreleased]\n"


def prepare(version: str, root: Path = ROOT, today: datetime.date | None = None) -> None:
    """Write a version into the package, the citation and the changelog.

    Raises:
        SystemExit: it is no version, is not above the present one, or nothing is under *Unreleased*.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"a version is MAJOR.MINOR.PATCH, three numbers, got {version}")
    package, citation, changelog = root / "src/redense/_version.py", root / "CITATION.cff", root / "CHANGELOG.md"
    present = version_of(package)
    text = changelog.read_text(encoding="utf-8")
    released = f"## [{present}]" in text
    if numbers(version) < numbers(present) or (released and version == present):
        raise SystemExit(f"{version} is not above {present}, the present version")
    before, head, rest = text.partition(UNRELEASED)
    if not head or not rest.partition("\n## [")[0].strip():
        raise SystemExit(f"{changelog.name} has nothing under Unreleased: there is nothing to release")
    day = today or datetime.datetime.now(datetime.UTC).date()
    changelog.write_text(f"{before}{UNRELEASED}\n## [{version}] - {day.isoformat()}\n{rest}", encoding="utf-8")
    replace(package, r'__version__ = "[^"]+"', f'__version__ = "{version}"')
    replace(citation, r"(?m)^version: .+$", f"version: {version}")


def check(folder: Path, root: Path = ROOT) -> str:
    """Return a line about the one wheel in a folder, whose files must be those that git knows.

    Raises:
        SystemExit: there is no wheel or there are several, or one is not what the checkout is.
    """
    wheels = sorted(folder.glob("redense-*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"{folder} has {len(wheels)} wheels of redense, expected one: empty it and build again")
    version = version_of(root / "src/redense/_version.py")
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
        about = f"redense-{version}.dist-info"
        if f"{about}/METADATA" not in names:
            raise SystemExit(f"{wheels[0].name} is not of version {version}, which the source has")
        metadata = email.message_from_bytes(wheel.read(f"{about}/METADATA"))
        entry_points = wheel.read(f"{about}/entry_points.txt").decode()
    listed = subprocess.run(["git", "ls-files", "src/redense"], cwd=root, capture_output=True, text=True, check=True)
    ours = {line.removeprefix("src/") for line in listed.stdout.splitlines()}
    packed = {name for name in names if name.startswith("redense/") and not name.endswith("/")}
    faults = [f"lacks {name}" for name in sorted(ours - packed)]
    faults += [f"has {name}, which git does not know" for name in sorted(packed - ours)]
    if not any(name.endswith("LICENSE") and name.startswith(about) for name in names):
        faults.append("lacks the licence")
    if metadata["Description-Content-Type"] != "text/markdown" or "# redense" not in metadata.as_string():
        faults.append("lacks the README")
    if "redense = redense.cli:main" not in entry_points:
        faults.append("lacks the command redense")
    if faults:
        raise SystemExit("\n".join(f"{wheels[0].name} {fault}" for fault in faults))
    size = wheels[0].stat().st_size / 1e6
    return f"{wheels[0].name}: {len(packed)} files of the package, as git has them, {size:.1f} MB"


def version_of(package: Path) -> str:
    """Return ``__version__``, read as text."""
    return re.findall(r'__version__ = "([^"]+)"', package.read_text(encoding="utf-8"))[0]


def numbers(version: str) -> tuple[int, ...]:
    """Return a version for comparing."""
    return tuple(map(int, version.split(".")))


def replace(path: Path, pattern: str, by: str) -> None:
    """Replace the one place of a file that matches.

    Raises:
        SystemExit: there is none, or there are several.
    """
    text, count = re.subn(pattern, by, path.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{path.name} has {count} places like {pattern}, expected one")
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Prepare a release, or look at one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare").add_argument("version")
    verbs.add_parser("check").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.verb == "prepare":
        prepare(options.version)
        print(f"{options.version} is written down: read CHANGELOG.md, then make dist")
    else:
        print(check(options.folder))


if __name__ == "__main__":
    main()
