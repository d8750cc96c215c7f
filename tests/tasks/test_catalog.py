"""The cache and the fetching, against a fake apt-get and dpkg (and once, slowly, against the real ones)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import pytest

from redense.errors import DataError
from redense.tasks import catalog
from redense.tasks.catalog import Source
from redense.tasks.classification.config import ImageData
from redense.tasks.classification.data.loading import divide_images
from redense.tasks.classification.data.reading import read_images
from redense.tasks.fetching.files import File
from redense.tasks.fetching.packages import Debian

CONTENTS = {"train.gz": b"train" * 200, "test.gz": b"test" * 100}

# Behaves like apt-get as far as `get` can see; $FAKE/mode says in which world it runs.
APT_GET = """\
import json, os, pathlib, sys, time
fake = pathlib.Path(os.environ["FAKE"])
with (fake / "calls").open("a") as log:
    log.write(json.dumps({"args": sys.argv[1:], "pid": os.getpid()}) + "\\n")
mode = (fake / "mode").read_text()
lists = [arg.split("=", 1)[1] for arg in sys.argv if arg.startswith("Dir::State::Lists=")]
if sys.argv[-1] == "update":
    if mode == "offline":
        sys.exit("W: Failed to fetch the index  Could not connect to mirror")
    (pathlib.Path(lists[0]) / "fresh").touch()
    sys.exit(100 if mode == "a dead third-party source" else 0)
fresh = lists and os.listdir(lists[0]) != ["partial"]
if mode in ("stale", "offline", "a dead third-party source") and not fresh:
    print("E: Unable to locate package " + sys.argv[-1], file=sys.stderr)
    sys.exit(100)
package = (fake / "package.deb").read_bytes()
with open("fake-package_1.0_all.deb", "wb") as file:
    file.write(package[: len(package) // 2])
    file.flush()
    if mode == "slow":
        time.sleep(60)
    file.write(package[len(package) // 2 :])
"""
DPKG = """\
import sys, tarfile
assert sys.argv[1] == "-x"
try:
    tarfile.open(sys.argv[2]).extractall(sys.argv[3], filter="data")
except tarfile.TarError:
    print("dpkg-deb: error: not a Debian format archive", file=sys.stderr)
    sys.exit(2)
"""


class Call(TypedDict):
    args: list[str]
    pid: int


class FakeDebian:
    """A machine whose apt-get and dpkg are ours, with an empty cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        for name, text in {"apt-get": APT_GET, "dpkg": DPKG}.items():
            (self.bin / name).write_text(f"#!{sys.executable} -I\n{text}")
            (self.bin / name).chmod(0o755)
        self.mode("online")
        self.package(CONTENTS)

    def mode(self, mode: str) -> None:
        (self.root / "mode").write_text(mode)

    def package(self, contents: dict[str, bytes]) -> None:
        inside = self.root / "package" / "usr/share/datasets/tiny"
        inside.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            (inside / name).write_bytes(data)
        with tarfile.open(self.root / "package.deb", "w") as archive:
            archive.add(self.root / "package/usr", "usr")

    def calls(self) -> list[Call]:
        log = self.root / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "SYSTEM_ROOT", tmp_path / "system")
    return tmp_path / "cache"


@pytest.fixture
def debian(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDebian:
    root = tmp_path / "debian"
    root.mkdir()
    fake = FakeDebian(root)
    monkeypatch.setenv("FAKE", str(root))
    monkeypatch.setenv("PATH", str(fake.bin))
    return fake


@pytest.fixture
def tiny() -> Source:
    files = tuple(File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENTS.items())
    return Source("tiny", "two small files", "none", (Debian("fake-package", "usr/share/datasets/tiny", 0.01),), files)


def visible(cache: Path) -> list[str]:
    """What a user finds in the cache, without the lock files."""
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_every_source_of_the_catalogue_is_complete():
    for name, source in catalog.SOURCES.items():
        assert name == source.name == catalog.find(name).name
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]+", name)
        assert bool(source.files) != bool(source.arrange and source.sums)
        assert source.licence
        assert source.packages
        for package in source.packages:
            assert package.megabytes > 0
            if isinstance(package, Debian):
                assert not package.inside.startswith("/")
            else:
                assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
        for file in (*source.files, *((source.sums,) if source.sums else ())):
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size > 0


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(DataError, match=r"'fashion-mnits'.*did you mean 'fashion-mnist'"):
        catalog.find("fashion-mnits")
    with pytest.raises(DataError, match="there is no file or folder"):
        catalog.find("pictures/of-mine")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"REDENSE_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/redense"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/someone/.cache/redense"),
        ({"REDENSE_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/someone/.cache/redense"),
        ({"REDENSE_CACHE": "~/mine"}, "/home/someone/mine"),
    ],
)
def test_the_cache_lies_where_the_environment_says(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("REDENSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert catalog.cache_dir() == Path(expected)


def test_a_user_without_a_home_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch):
    for name in ("REDENSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", str)  # as Python answers a user whom the system does not know
    with pytest.raises(DataError, match="another folder in REDENSE_CACHE"):
        catalog.cache_dir()


def test_a_fetched_source_is_whole_and_nothing_else_is_left(debian: FakeDebian, cache: Path, tiny: Source):
    assert catalog.status(tiny) == "absent"
    heard: list[tuple[str, float]] = []
    folder = catalog.get(tiny, lambda what, done: heard.append((what, done)))
    assert folder == cache / "tiny" == catalog.locate(tiny) == catalog.check(tiny)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
    assert visible(cache) == ["tiny"]
    assert catalog.status(tiny) == "ready"
    assert [call["args"][-2:] for call in debian.calls()] == [["download", "fake-package"]]
    assert [what.split()[0] for what, _ in heard][-1] == "checking"
    assert ("downloading fake-package", 1.0) in heard
    assert all(0.0 <= done <= 1.0 for _, done in heard)


def test_what_is_there_is_not_fetched_again(debian: FakeDebian, tiny: Source):
    assert catalog.get(tiny) == catalog.get(tiny)
    assert len(debian.calls()) == 1


@pytest.mark.parametrize("mode", ["stale", "a dead third-party source"])
def test_missing_or_stale_package_lists_are_replaced_by_private_ones(
    mode: str, debian: FakeDebian, cache: Path, tiny: Source
):
    debian.mode(mode)
    catalog.get(tiny)
    first, update, second = (" ".join(call["args"]) for call in debian.calls())
    assert "Dir::State::Lists" not in first
    private = re.search(r"Dir::State::Lists=(\S+)", update)
    assert private is not None
    assert Path(private[1]).is_relative_to(cache)
    assert private[0] in second
    assert not Path(private[1]).exists()
    assert visible(cache) == ["tiny"]


def test_without_a_network_the_error_has_the_words_of_apt_and_the_other_ways(
    debian: FakeDebian, cache: Path, tiny: Source
):
    debian.mode("offline")
    with pytest.raises(DataError, match=r"Unable to locate package.*Could not connect.*--data PATH.*hub:") as caught:
        catalog.get(tiny)
    assert "\n" not in str(caught.value)
    assert visible(cache) == []
    assert catalog.status(tiny) == "absent"


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        ({"test.gz": CONTENTS["test.gz"][:-1]}, "test.gz has 399 bytes, expected 400"),
        ({"test.gz": b"T" + CONTENTS["test.gz"][1:]}, "test.gz has sha256"),
    ],
)
def test_a_package_with_other_bytes_is_refused_and_leaves_nothing(
    contents: dict[str, bytes], complaint: str, debian: FakeDebian, cache: Path, tiny: Source
):
    debian.package(contents)
    with pytest.raises(DataError, match=complaint):
        catalog.get(tiny)
    assert visible(cache) == []


def test_a_package_that_lacks_a_file_or_cannot_be_unpacked_is_refused(debian: FakeDebian, cache: Path, tiny: Source):
    with pytest.raises(DataError, match=r"third\.gz is missing"):
        catalog.get(replace(tiny, files=(*tiny.files, File("third.gz", 1, "0" * 64))))
    (debian.root / "package.deb").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"cannot unpack.*not a Debian format archive"):
        catalog.get(tiny)
    assert visible(cache) == []


def test_an_interrupted_download_is_stopped_and_leaves_nothing(debian: FakeDebian, cache: Path, tiny: Source):
    debian.mode("slow")
    size = (debian.root / "package.deb").stat().st_size
    tiny = replace(tiny, packages=(replace(tiny.packages[0], megabytes=size / 1e6),))

    def interrupt(what: str, done: float) -> None:
        if what.startswith("downloading") and done > 0:
            assert done == pytest.approx(0.5, abs=0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.get(tiny, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(debian.calls()[0]["pid"], 0)
    assert visible(cache) == []
    assert catalog.status(tiny) == "absent"
    debian.mode("online")
    catalog.get(tiny)
    assert catalog.status(tiny) == "ready"


def test_what_a_killed_fetch_left_is_swept_away_by_the_next(debian: FakeDebian, cache: Path, tiny: Source):
    (cache / ".tiny-abc/package").mkdir(parents=True)
    (cache / ".other-abc").mkdir()
    catalog.get(tiny)
    assert visible(cache) == [".other-abc", "tiny"]


@pytest.mark.parametrize(
    ("damage", "status", "complaint"),
    [
        (lambda path: path.unlink(), "broken", "train.gz is missing"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-5]),
            "broken",
            "train.gz has 995 bytes, expected 1,000",
        ),
        (lambda path: path.write_bytes(b"T" + path.read_bytes()[1:]), "ready", "train.gz has sha256"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_a_damaged_source_is_named_by_check_and_repaired_by_get(
    damage: Callable[[Path], object],
    status: str,
    complaint: str,
    debian: FakeDebian,
    cache: Path,
    tiny: Source,
):
    damage(catalog.get(tiny) / "train.gz")
    assert catalog.status(tiny) == status
    with pytest.raises(DataError, match=f"{complaint}.*redense data get tiny"):
        catalog.check(tiny)
    catalog.get(tiny)
    assert catalog.check(tiny) == cache / "tiny"
    assert visible(cache) == ["tiny"]


def test_a_repair_that_fails_leaves_what_was_there(debian: FakeDebian, cache: Path, tiny: Source):
    (catalog.get(tiny) / "train.gz").unlink()
    debian.mode("offline")
    with pytest.raises(DataError):
        catalog.get(tiny)
    assert [path.name for path in (cache / "tiny").iterdir()] == ["test.gz"]


def test_check_of_an_absent_source_says_how_to_get_it(cache: Path, tiny: Source):
    with pytest.raises(DataError, match="redense data get tiny"):
        catalog.check(tiny)


@pytest.mark.parametrize("missing", ["apt-get", "dpkg"])
def test_a_system_without_the_package_tools_is_told_the_other_ways(
    missing: str, debian: FakeDebian, cache: Path, tiny: Source
):
    (debian.bin / missing).unlink()
    with pytest.raises(DataError, match=f"no {missing}.*--data PATH.*--data hub:OWNER/NAME"):
        catalog.get(tiny)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_named(debian: FakeDebian, cache: Path, tiny: Source):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=f"{re.escape(str(cache))}.*REDENSE_CACHE"):
        catalog.get(tiny)


def test_an_installed_package_is_used_where_it_lies(cache: Path, tiny: Source, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    folder = catalog.SYSTEM_ROOT / "usr/share/datasets/tiny"
    folder.mkdir(parents=True)
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)
    assert catalog.status(tiny) == "ready"
    assert catalog.get(tiny) == catalog.check(tiny) == folder
    assert not cache.exists()


def test_parallel_calls_fetch_once(debian: FakeDebian, cache: Path, tiny: Source):
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(catalog.get(tiny))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [cache / "tiny"] * 3
    assert len(debian.calls()) == 1


def test_the_catalogue_needs_no_torch():
    code = "import sys, redense.tasks.catalog; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian system")
def test_fashion_mnist_is_really_fetched_from_debian(cache: Path):
    source = catalog.find("fashion-mnist")
    folder = catalog.get(source)
    assert folder == cache / "fashion-mnist" == catalog.check(source)
    assert visible(cache) == ["fashion-mnist"]


def test_a_folder_that_is_called_like_a_set_is_said_not_to_be_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("emoji", "sample", "pictures"):
        assert catalog.namesake(name, "sample") == []
        (tmp_path / name).mkdir()
    (said,) = catalog.namesake("emoji")
    assert said.endswith("and not the folder emoji/ here: for the folder give ./emoji")
    assert catalog.namesake("pictures") == catalog.namesake("./emoji") == catalog.namesake(None, "sample") == []
    config = ImageData(source="sample")
    assert any("the folder sample/ here" in note for note in divide_images(config, read_images(config)).notes)


def test_a_set_all_of_whose_bytes_are_checked_keeps_the_fingerprint_of_its_names():
    assert catalog.in_turn("emoji", "content", "names") == ("names", "content")
    assert catalog.in_turn("my folder", "content", "names") == ("content", "names")
    assert catalog.in_turn(None, "pixels", "pixels") == ("pixels",)
