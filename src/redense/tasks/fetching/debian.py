"""Debian packages, through ``apt-get download`` and ``dpkg -x``: neither needs root."""

from __future__ import annotations

import shutil
from pathlib import Path

from redense.errors import DataError

from .packages import OTHER_WAYS, Debian, OnProgress, bytes_below, run_tool


def fetch(package: Debian, scratch: Path, say: OnProgress) -> Path:
    """Download and unpack a package below ``scratch``, and return the folder that holds its data.

    Raises:
        DataError: there is no network, or the package cannot be had or unpacked.
    """
    archive = _download(package, scratch, say)
    say(f"unpacking {package.name}", 0.0)
    unpacked = scratch / "unpacked"
    done, words = run_tool(["dpkg", "-x", str(archive), str(unpacked)], scratch)
    if not done:
        raise DataError(f"cannot unpack {package}: {words}; try again")
    return unpacked / package.inside


def missing_tools() -> list[str]:
    """Return the names of the programs that are needed and not installed."""
    return [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]


def _download(package: Debian, scratch: Path, say: OnProgress) -> Path:
    folder, lists = scratch / "package", scratch / "lists"
    folder.mkdir()
    apt = ["apt-get", "-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30"]
    # Root's downloads run as the user _apt, who cannot write here; without root the option has no effect.
    apt += ["-o", "APT::Sandbox::User=root"]
    # apt's own caches describe the system's lists, and must not be rewritten from ours.
    apt += ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]

    def attempt(options: list[str]) -> tuple[Path | None, str]:
        for left in folder.iterdir():
            left.unlink() if left.is_file() else shutil.rmtree(left)

        def watch() -> None:
            say(f"downloading {package.name}", min(1.0, bytes_below(folder) / (package.megabytes * 1e6)))

        done, words = run_tool([*apt, *options, "download", package.name], folder, watch)
        packages = sorted(folder.glob("*.deb"))
        return (packages[0] if done and len(packages) == 1 else None), words

    archive, words = attempt([])
    if archive is None:
        # No package lists (a bare container), or old ones that name a version that is gone: take our own.
        (lists / "partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={lists}"]
        say("updating the package lists", 0.0)
        # Its exit status says nothing: one dead third-party source fails it. The second attempt decides.
        _, update_words = run_tool([*apt, *private, "update"], folder)
        archive, words = attempt(private)
        words = f"{words}; {update_words}"
    if archive is None:
        raise DataError(f"cannot download {package}: {words}; check the network and apt's sources, or {OTHER_WAYS}")
    return archive
