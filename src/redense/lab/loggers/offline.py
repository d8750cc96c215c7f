"""The records that W&B has written of a run while it was offline.

A file ``run-ID.wandb`` is a log of LevelDB: seven bytes, then blocks of 32 KiB with records of W&B's protocol buffers.
A kill may leave the last record cut off; `wandb sync` reads up to there, and so does this.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redense.files.opening import read_bytes

Point = tuple[str, int]
"""A number in a tracker: its name and step."""

_HEAD, _BLOCK, _WHOLE, _LAST = 7, 32768, 1, 4


def offline_points(folder: Path, identity: str) -> set[Point]:
    """Return the points that the files of a run have.

    Args:
        folder: that has a folder ``offline-run-...`` of each start of the run.
        identity: the id of the run.
    """
    from wandb.proto import wandb_internal_pb2 as proto  # pyright: ignore[reportMissingImports]

    found = set[Point]()
    for path in folder.glob(f"offline-run-*-{identity}/run-{identity}.wandb"):
        for data in offline_records(read_bytes(path)):
            record: Any = proto.Record()  # pyright: ignore[reportAttributeAccessIssue]  # made when it is imported
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                step: int = record.history.step.num
                found |= {("/".join(item.nested_key) or item.key, step) for item in record.history.item}
    return found


def offline_records(data: bytes) -> Iterator[bytes]:
    """Give the whole records of a W&B file, up to the first that is cut off or damaged."""
    at, record = _HEAD, b""
    while at + _HEAD <= len(data):
        if (left := _BLOCK - at % _BLOCK) < _HEAD:
            at += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + _HEAD])
        part = data[at + _HEAD : at + _HEAD + length]
        if len(part) < length or zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return
        at, record = at + _HEAD + length, record + part
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""
