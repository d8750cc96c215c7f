"""A check of this machine for ``redense doctor``: versions, hardware, expected failures, to paste into an issue."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from redense.optional.extras import refuse_folder
from redense.optional.torchvision import make_importable
from redense.tasks import catalog

from .environment import environment, usable_cores
from .store import default_store

_FREE = 2 * 2**30  # bytes: a checkpoint of a large network, and one beside it
_SHARED = 64 * 2**20  # bytes of /dev/shm below which workers of a loader die

# What a package of an extra is imported as, where that is another name.
_MODULES = {
    "pillow": "PIL",
    "flashlight-text": "flashlight.lib.text",
    "pytorch-lightning": "pytorch_lightning",
    "pytorch_optimizer": "pytorch_optimizer",
}
_FOR_USERS = (
    "hub",
    "vision",
    "timm",
    "captioning",
    "speech",
    "lightning",
    "transformers",
    "methods",
    "ray",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        group: versions, hardware, extras, places or data.
        what: its name.
        state: ``ok``; ``missing`` (something optional is not there); ``problem`` (something will fail).
        said: what was found.
        cure: what to do about it.
    """

    group: str
    what: str
    state: Literal["ok", "missing", "problem"]
    said: str
    cure: str = ""


_Found = tuple[str, Literal["ok", "missing", "problem"], str, str]  # a `Finding` without its group


def examine() -> list[Finding]:
    """Return all that was found, in order; nothing is downloaded, and nothing is left behind."""
    return [Finding(group, *found) for group, look in _GROUPS.items() for found in look()]


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    """Return plain data."""
    return {"environment": environment(), "findings": [asdict(finding) for finding in findings]}


def _versions() -> Iterator[_Found]:
    here = environment()
    for name in ("redense", "python", "torch", "numpy", "accelerate", "safetensors"):
        yield name, "ok", str(here[name]), ""
    if here["commit"]:
        yield "commit", "ok", here["commit"], ""
    yield from _outdated()


def _outdated() -> Iterator[_Found]:
    """Compare what is installed with what redense asks for, where redense itself is installed."""
    try:
        required = metadata.requires("redense") or []
    except metadata.PackageNotFoundError:
        return
    for line in required:
        match = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)( *; *extra *== *['\"]lab['\"])?$", line)
        if match and (found := _version(match[1])) and _numbers(found) < _numbers(match[2]):
            name, least = match[1], match[2]
            yield name, "problem", f"{found}, older than {least}", f"pip install -U '{name}>={least}'"


def _hardware() -> Iterator[_Found]:
    here = environment()
    yield "processor", "ok", f"{here['processor']}, {here['cores']} cores", ""
    threads, cores, there = torch.get_num_threads(), usable_cores(), os.cpu_count() or 1
    fewer = f" that this process may use of {there}" if cores < there else ""
    yield "threads", "ok", f"{threads} of {cores}{fewer}; OMP_NUM_THREADS sets them", ""
    vector = here["vector_instructions"]
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    said = "in hardware" if fast else "by emulation: slow on this processor"
    yield "bf16", "ok", f"{said} ({vector})", ""
    for name in here["accelerators"]:
        yield "accelerator", "ok", name, ""
    if not here["accelerators"]:
        built = torch.version.cuda or torch.version.hip
        said = "none that this torch can use" if built else "none; this torch is built for CPUs"
        yield "accelerator", "ok", said, ""
    shared = Path("/dev/shm")  # where a loader's workers hand over batches
    if shared.is_dir() and shutil.disk_usage(shared).total < _SHARED:
        size = shutil.disk_usage(shared).total // 2**20
        said = f"{size} MB: workers that prepare batches will die"
        yield "/dev/shm", "problem", said, "docker run --shm-size 1g, or --data.workers 0"


def _extras() -> Iterator[_Found]:
    make_importable()
    for extra, packages in _packages_of_extras().items():
        missing = [name for name in packages if _version(name) is None]
        broken = () if missing else ((name, error) for name in packages if (error := _import_error(name)))
        if missing:
            yield extra, "missing", f"without {', '.join(missing)}", f"pip install 'redense[{extra}]'"
        elif found := next(iter(broken), None):
            name, error = found
            said = f"{name} is installed and cannot be imported: {error}"
            yield extra, "problem", said, f"reinstall {name}"
        else:
            yield extra, "ok", ", ".join(f"{name} {_version(name)}" for name in packages), ""


def _packages_of_extras() -> dict[str, list[str]]:
    """Return the packages of every extra, from what is installed, or from the checkout that redense runs in."""
    try:
        lines = metadata.requires("redense") or []
        found = [(line, match[1]) for line in lines if (match := re.search(r"extra\s*==\s*['\"](\w+)['\"]", line))]
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[3] / "pyproject.toml"
        if not project.is_file():
            return {}
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        found = [(line, extra) for extra, lines in table.items() for line in lines]
    extras: dict[str, list[str]] = {name: [] for name in _FOR_USERS}
    for line, extra in found:
        name = re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]
        if extra in extras and name != "redense":
            extras[extra].append(name)
    return {extra: names for extra, names in extras.items() if names}


def _import_error(name: str) -> str:
    import importlib

    try:
        refuse_folder(importlib.import_module(_MODULES.get(name, name)))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what a user would meet
        return " ".join(str(error).split())[:160] or type(error).__name__
    return ""


def _places() -> Iterator[_Found]:
    cache, store = catalog.cache_dir(), default_store()
    yield _writable("runs", Path("runs"), "start in a folder that you may write to, or give --out")
    if store is not None:
        yield _writable("store", store, "set REDENSE_STORE to another folder, or --store")
    yield _writable("cache", cache, "set REDENSE_CACHE to another folder")


def _writable(what: str, folder: Path, cure: str) -> _Found:
    """Look whether files can be made in a folder, or in the nearest one above it that is there."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".redense-doctor-") as file:
            file.write(b"x")
    except OSError as error:
        return what, "problem", f"{folder}: cannot be written ({error.strerror})", cure
    free = shutil.disk_usage(there).free
    said = f"{folder}, {free / 2**30:.1f} GB free"
    if free < _FREE:
        return what, "problem", said, f"free some space, or {cure}"
    return what, "ok", said, ""


def _tools() -> Iterator[_Found]:
    needs = {"apt-get": "Debian's data sets", "npm": "emoji (else straight from npm's registry)", "git": "the commit"}
    for tool, use in needs.items():
        path = shutil.which(tool)
        yield tool, "ok" if path else "missing", f"{path or 'not there'}; used for {use}", ""


def _data() -> Iterator[_Found]:
    for source in catalog.SOURCES.values():
        status, cure = catalog.status(source), f"redense data get {source.name}"
        if status == "ready":
            yield source.name, "ok", str(catalog.locate(source)), ""
        elif status == "broken":
            yield source.name, "problem", "incomplete", cure
        else:
            yield source.name, "missing", "not on this machine", f"{cure} ({source.megabytes:g} MB)"


_GROUPS = {
    "versions": _versions,
    "hardware": _hardware,
    "extras": _extras,
    "places": _places,
    "tools": _tools,
    "data": _data,
}


def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
