"""Tarballs of npm: fetched by npm or from a registry, compared with their checksum, unpacked without harm."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from redense.errors import DataError
from redense.tasks import catalog
from redense.tasks.catalog import Source
from redense.tasks.fetching import npm
from redense.tasks.fetching.files import File, copy_real_files
from redense.tasks.fetching.npm import unpack
from redense.tasks.fetching.packages import Npm

Member = tuple[str, bytes | str]  # a file's bytes, or where a link leads

MEMBERS: list[Member] = [
    ("package/package.json", b"{}"),
    ("package/img/64/a.png", b"a"),
    ("package/img/64/deep/b.png", b"b"),
    ("package/img/640/c.png", b"c"),
]

NPM = """\
import pathlib, shutil, sys
source = pathlib.Path(__file__).parent.parent / "tarball.tgz"
if not source.exists():
    print("npm error code E404\\nnpm error 404 Not Found - GET https://registry/tiny", file=sys.stderr)
    sys.exit(1)
assert sys.argv[1:3] == ["pack", "--ignore-scripts"] and sys.argv[-1] == "@some/tiny@1.2.3"
shutil.copy(source, "some-tiny-1.2.3.tgz")
"""


def tarball(path: Path, members: list[Member]) -> str:
    """Write a tarball and return its sha256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def quiet(what: str, done: float) -> None:
    assert 0 <= done <= 1


@pytest.fixture
def tiny(tmp_path: Path) -> Npm:
    return Npm("@some/tiny", "1.2.3", tarball(tmp_path / "tarball.tgz", MEMBERS), ("img/64/",), 0.001)


@pytest.fixture
def with_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(f"#!{sys.executable} -I\n{NPM}")
    (tmp_path / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def with_registry(tiny: Npm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "registry" / "@some" / "tiny" / "-"
    folder.mkdir(parents=True)
    (folder / "tiny-1.2.3.tgz").write_bytes((tmp_path / "tarball.tgz").read_bytes())
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("npm_config_registry", (tmp_path / "registry").as_uri())


@pytest.mark.parametrize("way", ["with_npm", "with_registry"])
def test_only_the_wanted_files_of_a_package_are_unpacked(
    way: str, tiny: Npm, tmp_path: Path, request: pytest.FixtureRequest
):
    request.getfixturevalue(way)
    (tmp_path / "scratch").mkdir()
    folder = npm.fetch(tiny, tmp_path / "scratch", quiet)
    assert below(folder) == {"img/64/a.png": b"a", "img/64/deep/b.png": b"b"}


@pytest.mark.parametrize("way", ["with_npm", "with_registry"])
def test_another_tarball_is_refused_before_it_is_unpacked(
    way: str, tiny: Npm, tmp_path: Path, request: pytest.FixtureRequest
):
    request.getfixturevalue(way)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(DataError, match=r"@some/tiny@1\.2\.3 is not the one that redense knows.*expected 000000000000"):
        npm.fetch(replace(tiny, sha256="0" * 64), tmp_path / "scratch", quiet)
    assert not (tmp_path / "scratch" / "unpacked").exists()


def test_a_package_that_npm_cannot_get_is_one_line_with_its_words(with_npm: None, tiny: Npm, tmp_path: Path):
    (tmp_path / "tarball.tgz").unlink()
    (tmp_path / "scratch").mkdir()
    with pytest.raises(DataError, match=r"cannot download .*@some/tiny@1\.2\.3: 404 Not Found.*--data PATH") as caught:
        npm.fetch(tiny, tmp_path / "scratch", quiet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("registry", ["file:///nowhere", "no address"])
def test_a_registry_that_does_not_answer_is_named(
    registry: str, tiny: Npm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("npm_config_registry", registry)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(DataError, match=f"cannot download.*from {registry}.*check the network"):
        npm.fetch(tiny, tmp_path / "scratch", quiet)


@pytest.mark.parametrize("name", ["package/../../evil", "/evil", "package/img/64/../../../evil", "../evil"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path):
    tarball(tmp_path / "bad.tgz", [(name, b"evil")])
    with pytest.raises(DataError, match="leads out of its folder"):
        unpack(tmp_path / "bad.tgz", tmp_path / "out", ("img/64/", ""))
    assert not list(tmp_path.rglob("evil"))


def test_links_are_left_out_and_nothing_is_written_through_one(tmp_path: Path):
    members: list[Member] = [("package/img/64", str(tmp_path / "target")), ("package/img/64/a.png", b"a")]
    (tmp_path / "target").mkdir()
    tarball(tmp_path / "links.tgz", members)
    unpack(tmp_path / "links.tgz", tmp_path / "out", ("img/64",))
    assert below(tmp_path / "out") == {"img/64/a.png": b"a"}
    assert not list((tmp_path / "target").iterdir())


@pytest.mark.parametrize("damage", ["cut", "garbage", "a file that is a folder"])
def test_a_known_tarball_that_cannot_be_unpacked_is_one_line(
    damage: str, with_registry: None, tiny: Npm, tmp_path: Path
):
    path = tmp_path / "registry" / "@some" / "tiny" / "-" / "tiny-1.2.3.tgz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-60])
    elif damage == "garbage":
        path.write_bytes(path.read_bytes()[:20] + bytes(200))
    else:
        tarball(path, [("package/img/64/a", b"a"), ("package/img/64/a/b.png", b"b")])
    (tmp_path / "scratch").mkdir()
    known = replace(tiny, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="cannot unpack the npm package @some/tiny"):
        npm.fetch(known, tmp_path / "scratch", quiet)


# A source of many files, told by the list of them


@pytest.fixture
def many(tiny: Npm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Source]:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in ((("img/64/a.png"), b"a"), ("img/64/deep/b.png", b"b"))
    ).encode()
    listed = File("SHA256SUMS", len(sums), hashlib.sha256(sums).hexdigest())
    return lambda: Source("tiny", "two small files", "none", (tiny,), arrange=copy_real_files, sums=listed)


def test_a_source_of_many_files_is_listed_and_checked_whole(many: Callable[[], Source], with_npm: None, tmp_path: Path):
    source = many()
    folder = catalog.get(source)
    assert folder == tmp_path / "cache" / "tiny" == catalog.check(source)
    assert set(below(folder)) == {"SHA256SUMS", "img/64/a.png", "img/64/deep/b.png"}
    assert catalog.status(source) == "ready"


@pytest.mark.parametrize("damage", ["changed", "missing", "list"])
def test_damage_to_one_of_many_files_is_named_and_repaired(
    damage: str, many: Callable[[], Source], with_npm: None, tmp_path: Path
):
    source = many()
    folder = catalog.get(source)
    path = folder / ("SHA256SUMS" if damage == "list" else "img/64/a.png")
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=f"is damaged: {path.relative_to(folder)}.*redense data get tiny"):
        catalog.check(source)
    catalog.get(source)
    assert catalog.check(source) == folder


def test_packages_whose_files_are_not_the_listed_ones_are_refused(
    many: Callable[[], Source], with_npm: None, tmp_path: Path
):
    source = many()
    with pytest.raises(DataError, match=r"@some/tiny@1\.2\.3 is not the one that redense knows: SHA256SUMS has"):
        catalog.get(replace(source, sums=File("SHA256SUMS", 5, "0" * 64)))
    with pytest.raises(DataError, match="is not the one that redense knows: FileNotFoundError"):
        catalog.get(replace(source, arrange=lambda unpacked, ready: (unpacked[0] / "gone").rename(ready / "x")))
    assert not (tmp_path / "cache" / "tiny").exists()
