"""The guard around a quick test: it speaks to loopback alone, reads nothing of the user's home, starts no stranger.

Every disk has half its room free, whatever the machine's has: where there is little, pictures are not kept.

Python imports a module of this name at its start. The ``conftest.py`` of the repository puts this folder onto
``PYTHONPATH``, and the guard is therefore also in force in the processes that tests start. A breach raises where it
happens, and is written into a file, because the code under test may handle the error. ``conftest.py`` reads the file
and fails the test. Code in C (gloo, pyarrow) and programs that are not Python raise no audit events: the list of the
programs that a test may start is short for this reason.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

RULES = "REDENSE_TEST_RULES"
"""JSON: ``closed`` and ``open`` folders (the deepest one that holds a path decides), and ``programs`` by name."""
BREACHES = "REDENSE_TEST_BREACHES"
"""The file that a breach is written into, a line each."""
FREE = "REDENSE_TEST_FREE"
"""Set while a slow test runs: it may fetch data, hence use the network and the tools that fetch."""

_LOOPBACK = {"", "localhost", "::1", "0.0.0.0", "::"}


class Breach(OSError):
    """A test left its clone, its temporary folders or the machine."""


def _is_loopback(host: object) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    return text in _LOOPBACK or text.startswith(("127.", "::ffff:127."))


def _address(connection: Any, address: Any) -> str | None:
    import socket

    if connection.family not in (socket.AF_INET, socket.AF_INET6) or address is None or _is_loopback(address[0]):
        return None
    return f"spoke to {address[0]} port {address[1]}"


def _name(host: object, *_: object) -> str | None:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    is_number = text.replace(".", "").isdigit() or ":" in text  # nobody is asked
    return None if is_number or _is_loopback(text) or text == os.uname().nodename else f"asked who {text} is"


def _file(rules: dict[str, list[str]]) -> Callable[..., str | None]:
    closed = tuple(folder.rstrip("/") + "/" for folder in rules["closed"])
    everything = [
        *((folder, True) for folder in closed),
        *((f"{folder.rstrip('/')}/", False) for folder in rules["open"]),
    ]

    def check(path: Any, *_: object) -> str | None:
        if isinstance(path, int) or path is None:
            return None
        text = os.fsdecode(os.fspath(path))
        if not text.startswith("/") or "/../" in text:
            text = os.path.abspath(text)  # noqa: PTH100  # links are not followed, and pathlib is not imported yet
        if not f"{text}/".startswith(closed):
            return None
        holding = [(len(folder), is_closed) for folder, is_closed in everything if f"{text}/".startswith(folder)]
        return f"opened {text}" if max(holding)[1] else None

    return check


def _program(rules: dict[str, list[str]]) -> Callable[..., str | None]:
    known = set(rules["programs"])
    inside = tuple(f"{folder.rstrip('/')}/" for folder in rules["open"])

    def check(program: Any, _: object = None, *more: Any) -> str | None:
        import shutil

        name = os.fsdecode(os.fspath(program))
        environment = more[-1] if more and isinstance(more[-1], dict) else os.environ
        found = shutil.which(name, path=environment.get("PATH")) or name
        known_one = name.rpartition("/")[2] in known or found.startswith(inside)
        if known_one or not os.access(found, os.X_OK):
            return None
        return f"started {found}"

    return check


def _half_full(folder: Any) -> Any:
    import shutil

    os.stat(folder)  # noqa: PTH116  # the error of one that is not there
    return shutil._ntuple_diskusage(10**12, 10**12 // 2, 10**12 // 2)  # pyright: ignore[reportAttributeAccessIssue]


def install() -> bool:
    """Watch this process from now on; a hook cannot be taken back. Return whether there are rules to watch by."""
    if RULES not in os.environ:
        return False
    import shutil

    shutil.disk_usage = _half_full
    rules = json.loads(os.environ[RULES])
    file, program = _file(rules), _program(rules)
    abroad: dict[str, Callable[..., str | None]] = {
        "socket.connect": _address,
        "socket.sendto": _address,
        "socket.sendmsg": _address,
        "socket.getaddrinfo": _name,
        "socket.gethostbyname": _name,
        "subprocess.Popen": program,
        "os.posix_spawn": program,
        "os.exec": program,
    }
    files = {"open": file, "os.listdir": file, "os.scandir": file, "os.mkdir": file, "os.remove": file}
    watched = abroad | files

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in watched or (said := watched[event](*arguments)) is None:
            return
        if event in abroad and os.environ.get(FREE):
            return
        if to := os.environ.get(BREACHES):
            descriptor = os.open(to, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{said}\n".encode())
            os.close(descriptor)
        raise Breach(f"a quick test {said}: see tests/processes")

    sys.addaudithook(hook)
    return True


install()
