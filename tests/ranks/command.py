"""The command line in one rank of a job, saving after every step, in which something happens to a rank at a step.

Arguments: what happens (``nothing``, ``kill``, ``fail``, ``term``), to which rank, at which step of the run; then those
of the command line. It happens at the job's first start only.
"""

from __future__ import annotations

import os
import signal
import sys

from redense import cli
from redense.errors import DataError
from redense.lab.comparison import grid
from redense.lab.runs import run
from redense.lab.training.engine import Engine

WHAT, RANK, STEP = sys.argv[1], sys.argv[2], int(sys.argv[3])
asked = Engine._asked  # pyright: ignore[reportPrivateUsage]


def happen(self: Engine) -> tuple[bool, bool]:
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if self.step == STEP and os.environ.get("RANK", "0") == RANK and first:
        if WHAT == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if WHAT == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if WHAT == "fail":
            raise DataError("image 7 cannot be decoded")
    return asked(self)


Engine._asked = happen  # pyright: ignore[reportPrivateUsage]
for function in (run.train_run, grid.Grid.__init__):
    assert function.__kwdefaults__ is not None
    function.__kwdefaults__["save_seconds"] = 0.0

if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[4:]))
