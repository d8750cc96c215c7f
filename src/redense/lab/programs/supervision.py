"""The process beside a command: it ends the command's whole group at its time limit, and when redense goes away.

``python -I supervise.py REPORT LIMIT GRACE COMMAND``: the standard input is held open by redense, so that its end says
that redense has gone, killed perhaps. How the command ended is written to the descriptor REPORT. It imports the
standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

_LOOK = 0.02  # seconds between two looks at the command


def main(arguments: list[str]) -> int:
    """Run a command and say how it ended."""
    report, limit, grace, command = int(arguments[0]), float(arguments[1]), float(arguments[2]), arguments[3]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _no_answer)  # which the command does not inherit, as it would SIG_IGN
    gone = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(gone,), daemon=True).start()
    began = time.monotonic()
    child = subprocess.Popen(
        command,
        shell=True,  # the user wrote the command, for a shell
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    late = False
    while child.poll() is None and not gone.is_set():
        if limit and time.monotonic() - began > limit:
            late = True
            break
        gone.wait(_LOOK)
    if child.poll() is None:
        _send(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    _send(child.pid, signal.SIGKILL)  # and what the command has left running
    code = child.wait()
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {"code": code, "late": late, "gone": gone.is_set(), "processor": spent.ru_utime + spent.ru_stime}
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(told).encode())
    return 0


def _wait_for_the_end(gone: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    gone.set()


def _no_answer(number: int, frame: object) -> None:
    pass


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
