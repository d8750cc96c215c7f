"""Images as small PNG files, without an imaging library: the report needs a few, and Pillow is an extra."""

from __future__ import annotations

import struct
import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST = 96  # pixels of the longer side


def png(image: Tensor) -> bytes:
    r"""Return an image as PNG, made smaller where it is large. ``image: (1 or 3, height, width)`` uint8.

    >>> png(torch.zeros(1, 28, 28, dtype=torch.uint8))[:4]
    b'\x89PNG'
    """
    longer = max(image.shape[1:])
    if longer > _LARGEST:
        size = [max(1, round(side * _LARGEST / longer)) for side in image.shape[1:]]
        image = F.interpolate(image.unsqueeze(0).float(), size, mode="area")[0].round().to(torch.uint8)
    channels, height, width = image.shape
    rows = image.permute(1, 2, 0).reshape(height, width * channels).contiguous().numpy()
    data = b"".join(b"\0" + row.tobytes() for row in rows)  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
