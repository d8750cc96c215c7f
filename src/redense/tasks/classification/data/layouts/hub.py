"""Hugging Face data sets, on the hub or in a folder: in memory if all images are of one size, else row by row."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redense.errors import DataError, MissingExtraError, nearest
from redense.files.opening import at_home, read_bytes
from redense.files.visible import counted
from redense.optional.extras import refuse_folder
from redense.tasks.classification.data.assemble import Part
from redense.tasks.classification.data.checking import Looks, faint_note
from redense.tasks.classification.data.pixels import decode, is_faint
from redense.tasks.classification.data.sets import MAX_BYTES, ImageSet, first_line
from redense.tasks.folders import visible
from redense.tasks.split_names import by_split, split_of
from redense.tasks.tables import SPLITS, split_in
from redense.tasks.task import Split

from .class_names import named_alike, names_in, verify_parquet
from .tables import LABELS, in_order, is_unlabelled

# What Hugging Face's own loaders write or read, and a plain folder of class folders does not have.
_TEXT = ("string", "large_string")
_NUMBERS = 100_000  # a class for every number up to the largest label, also where a set has fewer images
_DARK = 16  # shades of 256: a picture with no more is asked whether it was faint
_MARKS = ("*.parquet", "*/*.parquet", "*/*/*.parquet", "dataset_dict.json")
_SAVED = ("state.json", "dataset_info.json")  # of one split that was saved to disk


class Rows:
    """The encoded images of a table, by row; ``lengths`` int64 (n,) are their sizes in bytes.

    ``version`` tells the table from others in the same place.
    """

    def __init__(self, table: Any, column: str, part: str, datasets: Any) -> None:
        self.part, self._column = part, column
        self.version = _version(table)
        self._table = table.cast_column(column, datasets.Image(decode=False)).select_columns([column])
        self.lengths = _lengths(self._table.with_format("arrow"), column)

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        """Return the split and the number of a row."""
        return f"{self.part}: image {index}"

    def read(self, index: int) -> bytes:
        """Return the bytes of a row's image; none if it has none."""
        return _content(self._table[index][self._column])


def _version(table: Any) -> str:
    """Return what tells a table from others in the same place.

    Its own fingerprint is that of how it was made: one made anew of the same paths has the same, whatever lies there
    now. The dates of its files tell the two apart.
    """
    files = [Path(file["filename"]) for file in getattr(table, "cache_files", ())]
    dates = (f"{status.st_mtime_ns} {status.st_ctime_ns}" for status in (path.stat() for path in files))
    return " ".join([str(getattr(table, "_fingerprint", "")), *dates])


@dataclass(frozen=True)
class Columns:
    """The columns of image and class."""

    image: str
    label: str


def is_hub_folder(folder: Path) -> bool:
    """Whether a folder has what only Hugging Face's layouts have: parquet files, or a set saved to disk."""
    return _is_saved_split(folder) or any(visible(folder.glob(mark), folder) for mark in _MARKS)


def _is_saved_split(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _SAVED)


def _is_saved(folder: Path) -> bool:
    return _is_saved_split(folder) or (folder / "dataset_dict.json").is_file()


def read_in_memory(source: str, label: str | None) -> tuple[dict[str, ImageSet], list[str]]:
    """Return the parts of a set whose images are all of one size, and notes on what is left out.

    The parts are ``train``, and ``validation`` and ``test`` if any. A split whose labels are all hidden is none.

    Raises:
        DataError: it cannot be loaded, or its rows cannot be used; the message names the row.
        MissingExtraError: ``datasets`` is not installed.
    """
    datasets, tables, beside = load_tables(source, streaming=not source.startswith("hub:"))
    columns = _columns(tables["train"].features or {}, source, label, datasets)
    _verify_names(source, columns)
    encoded = datasets.Image(decode=False)  # `datasets` would open any format that Pillow knows
    tables = {part: table.cast_column(columns.image, encoded) for part, table in tables.items()}
    tables = _divided(tables, columns, source)
    decoded = {part: _decode(table, columns, f"{source} ({part})") for part, table in tables.items()}
    raw = {part: labels for part, (_, labels, _) in decoded.items()}
    numbers, classes, notes = _numbered(source, columns, tables, raw)
    faint = [f"{part}: image {index}" for part in numbers for index in decoded[part][2]]
    notes += faint_note(source, faint, sum(map(len, numbers.values())))
    channels = max(decoded[part][0].shape[1] for part in numbers)
    return {
        part: ImageSet(decoded[part][0].expand(-1, channels, -1, -1).contiguous(), torch.from_numpy(own), classes)
        for part, own in numbers.items()
    }, [*beside, *notes]


def read_by_row(source: str, label: str | None, look: Looks) -> tuple[dict[str, Part], list[str]]:
    """Return the parts of a set of any size, decoded when asked for, and notes on what is left out.

    Raises:
        DataError: it cannot be loaded, or its labels cannot be used.
        MissingExtraError: ``datasets`` is not installed.
    """
    datasets, tables, beside = load_tables(source, streaming=False)
    columns = _columns(tables["train"].features or {}, source, label, datasets)
    _verify_names(source, columns)
    tables = _divided(tables, columns, source)
    raw = {part: table.with_format(None)[columns.label][:] for part, table in tables.items()}
    numbers, classes, notes = _numbered(source, columns, tables, raw)
    parts: dict[str, Part] = {}
    for part, own in numbers.items():
        rows = Rows(tables[part], columns.image, part, datasets)
        parts[part] = Part(rows, own, classes, look(rows, f"{source} {part} {rows.version}"))
    return parts, [*beside, *notes]


def load_tables(source: str, *, streaming: bool, alone: bool = False) -> tuple[Any, dict[str, Any], list[str]]:
    """Return the library, the tables of the splits, under our names, and notes on those that are not used.

    With ``alone`` a set of one split, whatever it is called, has that as ``train``.

    Raises:
        DataError: it cannot be loaded, or has no split to train on.
        MissingExtraError: ``datasets`` is not installed.
    """
    try:
        import datasets
        import PIL

        refuse_folder(datasets, PIL)
    except ImportError as error:
        raise MissingExtraError(
            f"{source} is a Hugging Face data set, which needs another package: pip install 'redense[hub]'"
        ) from error
    local = not source.startswith("hub:")
    name, _, config = source.removeprefix("hub:").partition(":") if not local else (source, "", "")
    path = str(at_home(name).absolute()) if local else name
    try:
        # A local folder is read where it lies; only what is downloaded, or read row by row, goes through a cache.
        if local and _is_saved_split(Path(path)):
            tables: Any = {"train": datasets.load_from_disk(path)}
        elif local and _is_saved(Path(path)):
            tables = datasets.load_from_disk(path)
        elif config:
            tables = datasets.load_dataset(path, config, streaming=streaming)
        else:
            tables = datasets.load_dataset(path, streaming=streaming)
    except Exception as error:  # `datasets` raises what its many back ends raise
        hint = "its files" if local else "the name and the network"
        raise DataError(f"{source}: cannot be loaded ({first_line(error)}); check {hint}") from error
    found = by_split(((str(name), table) for name, table in tables.items()), source)
    parts: dict[str, Any] = {part: table for part, (_, table) in found.items()}
    if alone and len(tables) == 1:
        return datasets, {"train": next(iter(tables.values()))}, []
    if "train" not in parts:
        raise DataError(
            f"{source}: no split 'train' (it has {', '.join(map(repr, tables))}); expected 'train', and if there are "
            "any, 'validation' and 'test'"
        )
    used = {name for name, _ in found.values()}
    return datasets, parts, [_unused(source, str(name), table) for name, table in tables.items() if name not in used]


def _unused(source: str, name: str, table: Any) -> str:
    rows = getattr(table, "num_rows", None)  # what is streamed does not know
    count = "its rows" if rows is None else counted(rows, "row")
    return f"{source}: the split {name!r} is called neither train nor validation nor test: {count} not used"


def split_columns(features: Mapping[str, Any], taken: Collection[str]) -> list[str]:
    """Return the columns of text beside those that are ``taken`` that may divide the rows into splits."""
    kinds = {name: str(getattr(feature, "dtype", "")) for name, feature in features.items() if name not in taken}
    return [name for name, kind in kinds.items() if name.strip().lower() in SPLITS and kind in _TEXT]


def row_splits(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    part: str | None = None,
    known: Callable[[str], Split | None] = split_of,
) -> list[Split] | None:
    """Return the split that a column of each row names; None where no row does.

    Args:
        rows: their columns that may say it, see `split_columns`.
        source: of the set, for messages.
        part: the split of their file, where the set has files of several.
        known: gives the split of a name.

    Raises:
        DataError: a row names none where others do, or another one than that of its file.
    """
    splits: list[Split | None] = [split_in(row, Path(source), index, known) for index, row in enumerate(rows, start=1)]
    found: list[Split] = [split for split in splits if split]
    if found and len(found) < len(splits):
        raise DataError(f"{source}: row {splits.index(None) + 1} names no split, where others do")
    if part and (other := next((split for split in found if split != part), None)):
        raise DataError(f"{source}: the files of {part} have rows whose column {next(iter(rows[0]))!r} says {other}")
    return found or None


def _columns(features: Mapping[str, Any], source: str, chosen: str | None, datasets: Any) -> Columns:
    """Find the image column and the label column by their types: a ClassLabel, or else the only one that could be."""

    def only(kind: str, names: list[str], hint: str = "") -> str:
        if len(names) != 1:
            have = ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
            found = f"the columns {', '.join(map(repr, names))} could all be it{hint}" if names else "there is none"
            raise DataError(f"{source}: expected one {kind} column, but {found} (columns: {have or 'unknown'})")
        return names[0]

    image = only("image", image_columns(features, datasets))
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if not labels:
        kinds = {name: str(getattr(feature, "dtype", "")) for name, feature in features.items() if name != image}
        numbers = [name for name, kind in kinds.items() if "int" in kind]
        words = [name for name, kind in kinds.items() if kind in ("bool", *_TEXT) and name.lower() not in SPLITS]
        fractions = [name for name, kind in kinds.items() if "float" in kind and name.lower() in LABELS]
        if fractions and not numbers and not words and chosen is None:
            raise DataError(
                f"{source}: the column {fractions[0]!r} has numbers with a fraction ({kinds[fractions[0]]}), expected "
                "whole numbers or words: write the classes as whole numbers, as `astype(int)` makes them"
            )
        usual = [name for name in (*numbers, *words) if name.lower() in LABELS]
        labels = usual if len(usual) == 1 else numbers or words
    if chosen is not None:
        if chosen not in features:
            raise DataError(f"{source}: data.label is {chosen!r}, which is no column{nearest(chosen, features)}")
        labels = [chosen]
    label = only("label", labels, ": choose one with data.label")
    return Columns(image, label)


def image_columns(features: Mapping[str, Any], datasets: Any) -> list[str]:
    """Return the columns of images, or where none is one those of bytes, or of bytes with a path, as pandas writes."""
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    inner = {name: feature.get("bytes") if isinstance(feature, dict) else feature for name, feature in features.items()}
    return images or [name for name, own in inner.items() if getattr(own, "dtype", "") in ("binary", "large_binary")]


def _verify_names(source: str, columns: Columns) -> None:
    if not source.startswith("hub:") and not _is_saved(place := at_home(source)):
        verify_parquet(place, columns.label, source)


def _divided(tables: dict[str, Any], columns: Columns, source: str) -> dict[str, Any]:
    """Return a table for each split that a column of text names; the tables themselves where none does.

    Raises:
        DataError: a row names no split where others do, or another split than that of its file, or none trains.
    """
    named = split_columns(tables["train"].features or {}, [columns.label])
    if not named:
        return tables
    parts: dict[str, Any] = {}
    for part, table in tables.items():
        rows: list[dict[str, Any]] = list(table.select_columns(named))
        splits = row_splits(rows, source, part if len(tables) > 1 else None)
        if splits is None or len(tables) > 1:
            parts[part] = table
            continue
        for split in sorted({str(split) for split in splits}):
            said = [row for row, own in zip(rows, splits, strict=True) if own == split]
            values = {tuple(row[name] for name in named) for row in said}
            parts[split] = table.filter(lambda *row, values=values: tuple(row) in values, input_columns=named)
    if "train" not in parts:
        raise DataError(f"{source}: no row of its column {named[0]!r} says train")
    return parts


def _numbered(
    source: str, columns: Columns, tables: Mapping[str, Any], raw: Mapping[str, list[Any]]
) -> tuple[dict[str, np.ndarray], tuple[str, ...], list[str]]:
    """Return the labels of each part as numbers of classes, the classes' names, and notes on parts that are left out.

    Raises:
        DataError: a label is none.
    """
    hidden = {part for part, labels in raw.items() if part != "train" and labels and all(map(is_unlabelled, labels))}
    notes = [
        f"{source}: the labels of the {len(raw[part]):,} {part} images are hidden: they are not used"
        for part in sorted(hidden)
    ]
    own = {part: names_in(table.features, columns.label) for part, table in tables.items()}
    named = named_alike(own, {part: labels for part, labels in raw.items() if part not in hidden})
    used, names = named.labels, named.names
    for part in named.apart:
        notes.append(f"{source}: {part} numbers the classes apart from train: its labels are taken by their names")
    kinds = int if names else int | str
    for part, labels in used.items():
        for index, label in enumerate(labels):
            if is_unlabelled(label) or not isinstance(label, kinds):
                raise DataError(
                    f"{source} ({part}): image {index} has label {label!r}, expected a number from 0, or a word"
                )
    if all(type(label) is int for labels in used.values() for label in labels):
        top = max((label for labels in used.values() for label in labels), default=0)
        if names and top >= len(names):
            raise DataError(f"{source}: label {top} has no name, expected labels below {len(names)}")
        if names or top < max(_NUMBERS, sum(map(len, used.values()))):
            classes = names or tuple(str(index) for index in range(top + 1))
            return {part: np.array(labels, np.int64) for part, labels in used.items()}, classes, notes
    classes = tuple(in_order({str(label) for labels in used.values() for label in labels}))
    number = {name: index for index, name in enumerate(classes)}
    found = {part: np.array([number[str(label)] for label in labels], np.int64) for part, labels in used.items()}
    return found, classes, notes


def _lengths(table: Any, column: str) -> np.ndarray:
    import pyarrow.compute as pc

    lengths: list[np.ndarray] = []
    for start in range(0, len(table), 1000):  # the images themselves stay on the disk
        cells = table[start : start + 1000][column].combine_chunks()
        count = pc.binary_length(pc.struct_field(cells, "bytes"))  # pyright: ignore[reportAttributeAccessIssue]
        lengths.append(np.asarray(count.fill_null(0), np.int64))
    return np.concatenate(lengths) if lengths else np.empty(0, np.int64)


def _decode(rows: Iterable[dict[str, Any]], columns: Columns, where: str) -> tuple[Tensor, list[Any], list[int]]:
    """Decode every row: uint8 (n, 1 or 3, h, w), grey only if all are grey, its labels as they are there, the faint."""
    arrays: list[np.ndarray] = []
    labels: list[Any] = []
    faint: list[int] = []
    stream = iter(rows)
    for index in itertools.count():
        try:
            row = next(stream)
            content = _content(row[columns.image])
            array = _pixels(content)
        except StopIteration:
            break
        except Exception as error:  # Pillow raises a dozen kinds for a broken image
            raise DataError(f"{where}: image {index} cannot be decoded ({first_line(error)})") from error
        if arrays and array.shape[:2] != arrays[0].shape[:2]:
            raise DataError(
                f"{where}: image {index} is {array.shape[0]} x {array.shape[1]} pixels but the first is "
                f"{arrays[0].shape[0]} x {arrays[0].shape[1]}; set data.size to bring them to one size"
            )
        if array.size * (index + 1) > MAX_BYTES:
            raise DataError(
                f"{where}: more than {MAX_BYTES:,} bytes of pixels, too many for the memory; "
                f"set data.size, for example to {array.shape[0]}, and they are read one by one"
            )
        arrays.append(array)
        labels.append(row[columns.label])
        if array.max() < _DARK and is_faint(content):
            faint.append(index)
    if not arrays:
        raise DataError(f"{where}: there are no images, expected at least one")
    channels = max(array.shape[2] for array in arrays)
    images = np.empty((len(arrays), channels, *arrays[0].shape[:2]), np.uint8)
    for index, array in enumerate(arrays):
        images[index] = array.transpose(2, 0, 1)  # a grey image is repeated over the colours
    return torch.from_numpy(images), labels, faint


def _content(cell: dict[str, Any] | None) -> bytes:
    """Return the bytes of a cell's image; none if it has none."""
    if cell and cell.get("bytes") is not None:
        return cell["bytes"]
    return read_bytes(cell["path"]) if cell and cell.get("path") else b""


def _pixels(content: bytes) -> np.ndarray:
    """Return (h, w, 1) of a grey image, or (h, w, 3)."""
    if not content:
        raise ValueError("it is empty")
    pixels = np.asarray(decode(content, grey=None))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
