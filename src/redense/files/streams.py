"""Standard streams whose reader has gone, as with ``| head -1``."""

from __future__ import annotations

import io
import os
from typing import IO, Any


def hush(stream: IO[Any]) -> None:
    """Send what is still written to a stream nowhere: its reader has gone, and Python would complain again at exit."""
    try:
        descriptor = stream.fileno()
    except (io.UnsupportedOperation, OSError, ValueError):  # one that is no file: it fails by itself
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
