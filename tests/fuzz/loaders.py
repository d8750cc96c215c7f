"""Every loader that reads files of others, as a function of one file, with the bounds that it promises.

A loader returns, or raises a `RedenseError` whose message is one line. It never costs more than `seconds_of` and
`bytes_of` its file's size.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from redense.errors import RecipeError, RedenseError
from redense.files.checksums import check_folder
from redense.files.yaml_text import parse_yaml
from redense.lab.checkpoint import load_tree
from redense.lab.comparison.comparison import read_comparison as read_plan
from redense.lab.folder import read_json
from redense.lab.judging.reading.tables import read_table
from redense.lab.recipe.recipe import build_recipe
from redense.lab.training.pretrained import load_start_
from redense.report.comparisons.reading import read_comparison
from redense.report.runs.reading import read_run
from redense.tasks.captioning.data.coco import read_coco
from redense.tasks.captioning.data.flickr import read_flickr
from redense.tasks.captioning.data.karpathy import read_karpathy
from redense.tasks.captioning.data.table import read_caption_tables
from redense.tasks.captioning.tokens import vocabulary_from_json
from redense.tasks.classification.data.layouts.cifar import find_cifar, read_cifar
from redense.tasks.classification.data.layouts.idx import read_idx
from redense.tasks.classification.data.layouts.npz import read_npz
from redense.tasks.classification.data.pixels import decode, look
from redense.tasks.speech.audio import look as sound_of
from redense.tasks.speech.data.manifests import read_manifest, read_tables
from redense.tasks.speech.streaming import read_blocks
from redense.tasks.speech.transcripts.language import read_words
from redense.tasks.tables import read_rows

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Loader:
    """One way to read a file.

    Args:
        read: reads the file that it is given.
        name: of the file, where its name matters.
        megabytes: what it may take, whatever the size of the file.
        times: how many times the file's size it may take more.
    """

    read: Callable[[Path], object]
    name: str = "file"
    megabytes: int = 64
    times: int = 200

    def bytes_of(self, size: int) -> int:
        """Return the memory that reading so many bytes may take."""
        return self.megabytes * MEGABYTE + self.times * size

    def seconds_of(self, size: int) -> float:
        """Return the processor time that reading so many bytes may take; generous, for a slow processor."""
        return 4.0 + 40.0 * size / MEGABYTE


class PictureLoader(Loader):
    """One that may take what the pixels take that a file of its size may have."""

    def bytes_of(self, size: int) -> int:
        """Return the memory of pixels in RGB and in the file's own mode, and once more for a white ground."""
        return super().bytes_of(size) + 28 * _pixels_of(size)

    def seconds_of(self, size: int) -> float:
        """Return the processor time of looking at them and of decoding them."""
        return super().seconds_of(size) + 3e-7 * _pixels_of(size)


def _pixels_of(size: int) -> int:
    return min(89_478_485, (1 << 22) + 2048 * size)


def picture(path: Path) -> None:
    """What `redense data check --full` finds without a fault can be trained with, and captioned."""
    content = path.read_bytes()
    seen = look(io.BytesIO(content), len(content), full=True)
    assert "\n" not in seen.fault
    if not seen.fault:
        assert decode(content).size == (seen.width, seen.height)


def sound(path: Path) -> None:
    """As `redense data check` looks at a clip of at most 20 s, and as `redense transcribe` reads one of any length."""
    seen = sound_of(path, longest=20.0)
    assert "\n" not in (seen.fault or "")
    for _ in read_blocks(path, 16_000):
        pass


def weights(path: Path) -> None:
    load_start_(nn.Linear(2, 2), str(path), None)


def recipe(path: Path) -> None:
    plain = parse_yaml(path.read_bytes().decode("utf-8", "replace"), "recipe")
    if not isinstance(plain, dict):
        raise RecipeError("no mapping")
    build_recipe(plain).to_yaml()


def cifar(path: Path) -> None:
    for other in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        (path.parent / other).write_bytes(path.read_bytes())
    found = find_cifar(path.parent)
    assert found
    read_cifar(*found, None)


def vocabulary(path: Path) -> None:
    try:  # its caller names the file
        vocabulary_from_json(path.read_text("utf-8"))
    except (KeyError, TypeError, ValueError) as error:
        raise RedenseError("damaged") from error


def sums(path: Path) -> None:
    (path.parent / "recipe.yaml").touch()
    check_folder(path.parent)


def flickr(path: Path) -> None:
    (path.parent / "Images").mkdir(exist_ok=True)
    read_flickr(path, path.parent, None, "captions")


def run(path: Path) -> None:
    (path.parent / "recipe.yaml").write_text("name: a\ndense: {epochs: 1}\n")
    read_run(path.parent)


def archive(path: Path) -> None:
    import shutil
    import tarfile
    import zlib

    folder = path.parent / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    try:  # its caller names the package
        unpack(path, folder, ("",))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise RedenseError("damaged") from error


def unpack(path: Path, folder: Path, inside: tuple[str, ...]) -> None:
    from redense.tasks.fetching.npm import unpack as unpack_tarball

    unpack_tarball(path, folder, inside)


def parquet(path: Path) -> None:
    from redense.tasks.classification.data.layouts.hub import read_in_memory

    read_in_memory(str(path.parent), None)


PICTURES = ("jpeg", "png", "webp", "bmp", "gif", "tiff", "ppm")
SOUNDS = ("wav", "flac", "ogg", "mp3", "aiff", "au", "nist")

LOADERS: dict[str, Loader] = {
    **{f"picture-{kind}": PictureLoader(picture, f"a.{kind}") for kind in PICTURES},
    **{f"sound-{kind}": Loader(sound, f"a.{kind}", megabytes=192, times=2000) for kind in SOUNDS},
    "idx": Loader(lambda path: read_idx(path, 3)),
    "idx-gz": Loader(lambda path: read_idx(path, 3), megabytes=192),
    "npz": Loader(read_npz, "a.npz", megabytes=600, times=1000),
    "cifar": Loader(cifar, "data_batch_1.bin"),
    "safetensors": Loader(weights, "a.safetensors"),
    "torch": Loader(weights, "a.pt"),
    "checkpoint": Loader(load_tree, "last.safetensors"),
    "recipe": Loader(recipe, "a.yaml", megabytes=128),
    "manifest-jsonl": Loader(read_manifest, "train.jsonl"),
    "manifest-csv": Loader(lambda path: read_tables(path.parent), "metadata.csv"),
    "manifest-tsv": Loader(lambda path: read_tables(path.parent), "metadata.tsv"),
    "rows-csv": Loader(read_rows, "labels.csv"),
    "captions-karpathy": Loader(lambda path: read_karpathy(path, None, "captions"), "dataset.json"),
    "captions-coco": Loader(
        lambda path: read_coco({"2017": {"val": path}}, path.parent, None, "captions"), "captions_val2017.json"
    ),
    "captions-tokens": Loader(flickr, "Flickr8k.token.txt"),
    "captions-bars": Loader(flickr, "results.csv"),
    "captions-commas": Loader(flickr, "captions.txt"),
    "captions-table": Loader(lambda path: read_caption_tables([path], path.parent, None, "captions"), "captions.jsonl"),
    "vocabulary": Loader(vocabulary, "vocabulary.json"),
    "json": Loader(read_json, "alphabet.json"),
    "arpa": Loader(read_words, "a.arpa"),
    "judge-csv": Loader(read_table, "a.csv"),
    "judge-json": Loader(read_table, "a.json"),
    "comparison": Loader(lambda path: read_plan(path.parent), "comparison.json"),
    "compare": Loader(lambda path: read_comparison(path.parent), "compare.json"),
    "result": Loader(run, "result.json"),
    "metrics": Loader(run, "metrics.jsonl"),
    "sums": Loader(sums, "SHA256SUMS"),
    "tar-gz": Loader(archive, "a.tgz", megabytes=192),
    "parquet": Loader(parquet, "train.parquet", megabytes=512),
}
