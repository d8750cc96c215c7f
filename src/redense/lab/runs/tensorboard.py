"""Live curves: scalars in the files that TensorBoard shows, written without TensorBoard.

An event file is a sequence of TFRecords: a length, the bytes of an ``Event``, and a checksum after each of the two. An
``Event`` is a protocol buffer, of which scalars need five fields. To show the curves: ``pip install tensorboard``.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # CRC-32C, Castagnoli's, bits reversed


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (_POLYNOMIAL if value & 1 else 0) for value in table]
    return table


_TABLE = _table()


def masked_checksum(data: bytes) -> int:
    """Return the CRC-32C of ``data``, rotated and shifted as TFRecords have it.

    >>> hex(masked_checksum(b"123456789"))
    '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Board:
    """A file of events for TensorBoard.

    Args:
        folder: of the curves; each start adds a file to it.
        purge_step: TensorBoard forgets what earlier files have from this step on.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        moment = time.time_ns()
        # TensorBoard reads the files in the order of their names, so these have to sort as the times do.
        name = f"events.out.tfevents.{moment // 10**9:010d}.{moment % 10**9:09d}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("xb", buffering=0)
        self._write(_bytes(3, b"brain.Event:2"))
        self._write(_integer(2, purge_step) + _bytes(7, _integer(1, 1)))  # SessionLog: START

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Add a point to the curve of that name.

        Raises:
            OSError: the disk is full.
        """
        point = _bytes(1, name.encode()) + _key(2, 5) + struct.pack("<f", value)
        self._write(_integer(2, step) + _bytes(5, _bytes(1, point)))

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, fields: bytes) -> None:
        event = _key(1, 1) + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        sums = (struct.pack("<I", masked_checksum(part)) for part in (length, event))
        record = length + next(sums) + event + next(sums)
        if self._file.write(record) != len(record):
            raise OSError("the disk is full")


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _integer(field: int, number: int) -> bytes:
    return _key(field, 0) + _varint(number)


def _bytes(field: int, data: bytes) -> bytes:
    return _key(field, 2) + _varint(len(data)) + data
