"""A target of atheris, a fuzzer that is led by coverage: ``python target.py recipe -runs=10000 -seed=1``.

Anything but a result or a RedenseError is a crash; libFuzzer itself finds hangs (-timeout) and floods (-rss_limit_mb).
`tests/test_fuzz.py` runs every target for a little while; run one for hours to look harder.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # noqa: F401  # before the instrumentation: torch itself is not what is looked at

atheris: Any = importlib.import_module("atheris")  # so that types are checked without it, too

with atheris.instrument_imports(include=["redense", "yaml"]):
    from redense.errors import RedenseError
    from redense.files.yaml_text import parse_yaml
    from redense.lab.checkpoint import load_tree
    from redense.lab.recipe.recipe import build_recipe
    from redense.tasks.captioning.data.coco import read_coco
    from redense.tasks.captioning.data.flickr import read_flickr
    from redense.tasks.captioning.data.karpathy import read_karpathy
    from redense.tasks.classification.data.layouts.idx import read_idx
    from redense.tasks.speech.data.manifests import read_manifest, read_tables

SCRATCH = Path(tempfile.mkdtemp())


def recipe(data: bytes) -> None:
    plain = parse_yaml(data.decode("utf-8", "replace"), "recipe")
    if isinstance(plain, dict):
        build_recipe(plain).to_yaml()


def checkpoint(data: bytes) -> None:
    (SCRATCH / "a").write_bytes(data)
    load_tree(SCRATCH / "a")


def manifest(data: bytes) -> None:
    for name, read in (("train.jsonl", read_manifest), ("metadata.csv", lambda path: read_tables(path.parent))):
        (SCRATCH / name).write_bytes(data)
        with contextlib.suppress(RedenseError):
            read(SCRATCH / name)


def captions(data: bytes) -> None:
    path = SCRATCH / "dataset.json"
    path.write_bytes(data)
    (SCRATCH / "images").mkdir(exist_ok=True)
    with contextlib.suppress(RedenseError):
        read_karpathy(path, None, "captions")
    with contextlib.suppress(RedenseError):
        read_coco({"2017": {"val": path}}, SCRATCH, None, "captions")
    for name in ("Flickr8k.token.txt", "results.csv", "captions.txt"):
        (SCRATCH / name).write_bytes(data)
        with contextlib.suppress(RedenseError):
            read_flickr(SCRATCH / name, SCRATCH, None, "captions")


def idx(data: bytes) -> None:
    (SCRATCH / "idx").write_bytes(data)
    read_idx(SCRATCH / "idx", 3)


TARGETS: dict[str, Callable[[bytes], None]] = {f.__name__: f for f in (recipe, checkpoint, manifest, captions, idx)}


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        with contextlib.suppress(RedenseError):
            target(data)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
