"""Small pictures for a report, written without an image library."""

from __future__ import annotations

import struct
import zlib

import torch.nn.functional as F
from torch import Tensor

SIDE = 96  # pixels, of a thumbnail's longer side


def thumbnail(image: Tensor) -> bytes:
    """Return an image, uint8 (1 or 3, h, w), as a PNG file whose longer side is at most 96 pixels."""
    height, width = image.shape[1:]
    scale = SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True, align_corners=False)
        image = small[0].round().clamp(0, 255).byte()
    return png(image)


def png(image: Tensor) -> bytes:
    """Return an image, uint8 (1 or 3, h, w), as a PNG file."""
    channels, height, width = image.shape
    rows = image.permute(1, 2, 0).reshape(height, -1).cpu().numpy()
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows), 9)  # 0: the row is not filtered
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = b"".join(_chunk(*chunk) for chunk in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
