"""Tiny pictures, recordings and tables, as people have them in folders."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import struct
import wave
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_numbers = itertools.count()


def png(height: int = 8, width: int = 8, mode: str = "RGB") -> bytes:
    """Return a picture that no other is like."""
    random = np.random.default_rng(next(_numbers))
    stream = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)).convert(mode).save(stream, "png")
    return stream.getvalue()


def write(path: Path, content: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pictures(folder: Path, names: Iterable[object], ending: str = ".png", **size: Any) -> None:
    for name in names:
        write(folder / f"{name}{ending}", png(**size))


def classes(folder: Path, count: int = 10, names: Sequence[str] = ("cat", "dog"), **size: Any) -> None:
    """Write class folders with ``count`` pictures each."""
    for name in names:
        pictures(folder / name, range(count), **size)


def wav(path: Path, seconds: float = 0.3, level: float = 3000) -> Path:
    random = np.random.default_rng(next(_numbers))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 4000, 0, "NONE", ""))
        file.writeframes(random.normal(0, level, int(seconds * 4000)).astype("<i2").tobytes())
    return path


def rows(path: Path, lines: Iterable[Sequence[object]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(lines)
    return path


def json_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> Path:
    return write(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def idx(array: np.ndarray, *, packed: bool = False) -> bytes:
    content = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    return gzip.compress(content) if packed else content


def arrays(count: int = 24, kinds: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(next(_numbers))
    return random.integers(0, 255, (count, 8, 8), dtype=np.uint8), (np.arange(count) % kinds).astype(np.uint8)


def parquet(folder: Path, labels: dict[str, list[Any]], column: str = "label", kind: str = "int64") -> None:
    """Write a Hugging Face set: split -> labels, a picture each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {"image": {"_type": "Image"}, column: {"dtype": kind, "_type": "Value"}}
    for split, values in labels.items():
        cells = [{"bytes": png(), "path": None} for _ in values]
        image = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        table = pa.table({"image": image, column: pa.array(values)})
        said = json.dumps({"info": {"features": features}})
        path = write(folder / "data" / f"{split}-00000-of-00001.parquet")
        pq.write_table(table.replace_schema_metadata({"huggingface": said}), path)


def captions(count: int, first: int = 0) -> list[dict[str, object]]:
    """Return lines of a table: pictures with a sentence each, whose words are frequent."""
    return [{"file_name": f"{n}.png", "text": f"a red dog runs {n % 2}"} for n in range(first, first + count)]
