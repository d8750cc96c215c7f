"""The environment of a result: versions, hardware, commit."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from redense._version import __version__
from redense.plugins import plugins_of

from .ranks.launch import launch_id

_PACKAGES = ("torch", "numpy", "accelerate", "safetensors", "pydantic")


def environment(*, of_programs: bool = False, threads: int | None = None) -> dict[str, Any]:
    """Return versions, hardware and, inside a git checkout, the commit, as plain data.

    Args:
        of_programs: that other programs train. The threads of PyTorch in this process say nothing of them, and it is
            not imported, which takes longer than all else that a comparison of programs does.
        threads: of PyTorch in each job that trains; None: those of this process.
    """
    return {
        "redense": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        **({} if of_programs else arithmetic()),
        **({} if threads is None else {"threads": threads}),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "launch": launch_id(),
        "commit": commit(),
        "command": _command(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def usable_cores() -> int:
    """Return how many cores this process may use: on a machine shared by a scheduler, fewer than there are.

    What the affinity of the process, the quota of its cgroup and `LOKY_MAX_CPU_COUNT` leave, as joblib counts them.
    """
    try:
        from joblib import cpu_count
    except ImportError:  # `redense doctor` says so
        return os.cpu_count() or 1
    return cpu_count()


def needed_plugins(used: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return what `environment.json` says of the plugins that a folder needs; nothing where it needs none."""
    plugins = plugins_of(used)
    return {"plugins": plugins} if plugins else {}


def arithmetic() -> dict[str, Any]:
    """Return what a result depends on to the last bit, beside its recipe and data."""
    import torch

    from .ranks.ranks import world

    return {
        "torch": _version("torch"),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "ranks": world(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say what has changed of what a result depends on to the last bit."""
    keys = ("torch", "processor", "threads", "vector_instructions", "accelerators")
    return [f"{key} was {then.get(key)}, is {now.get(key)}" for key in keys if then.get(key) != now.get(key)]


def device_name() -> str:
    """Return what networks are trained on here: ``cpu``, or the accelerator's name."""
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on"):
        return "cpu"
    return torch.cuda.get_device_name() if found.type == "cuda" else found.type


def note_on_ranks(then: int, now: int) -> str:
    """Say what it means that a training goes on over another number of ranks."""
    return (
        f"ranks were {then}, are {now}: the result may differ in its last digits, and in more where there is dropout "
        "(each rank draws its own) or batch normalisation (each rank has its own batch)"
    )


def _command() -> str:
    program = Path(sys.argv[0])
    own = program.name == "__main__.py" and program.parent.name == "cli"  # python -m redense.cli
    return f"{'python -m redense.cli' if own else shlex.quote(program.name)} {shlex.join(sys.argv[1:])}".rstrip()


@functools.cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str | None:
    """Return what git calls the commit of the working directory, with ``-dirty`` where files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
