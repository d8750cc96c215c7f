"""The layout of a source of labelled images, and its reader: the same for training and for `redense data check`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from redense.errors import DataError, nearest
from redense.files.opening import at_home
from redense.files.visible import counted
from redense.plugins import Registry
from redense.tasks import catalog
from redense.tasks.classification.config import ImageData
from redense.tasks.faults import Fault
from redense.tasks.folders import TEXTS, endings_said, has_any, subfolders
from redense.tasks.split_names import split_of

from .assemble import Part, assemble
from .checking import Looks, OnChecked, check
from .layouts.cifar import find_cifar, read_cifar
from .layouts.folder import SUFFIXES, beside, find_parts, list_folder, same_inside
from .layouts.hub import is_hub_folder, read_by_row, read_in_memory
from .layouts.idx import IDX_NAMES, SAMPLE, find_idx, read_idx_set
from .layouts.npz import find_npz, read_npz
from .layouts.tables import Images, LabelTable, classes_of, find_label_tables, find_named, has_tables, read_table
from .pixels import require_pillow
from .sets import AnySet, ImageSet

LAYOUTS = (
    f"idx files ({', '.join(IDX_NAMES)}, each plain or .gz, or EMNIST's), CIFAR's binary files, arrays in a .npz, "
    "parquet files, a table of files and classes (labels.csv), or images in folders train/CLASS/ and val/CLASS/ or "
    "test/CLASS/"
)

OWN = ("sample", "debian")
"""Names of sets beside those of the catalog."""

Reader = Callable[[Path, ImageData], "Found | None"]
"""(folder or file, config) -> its content, or None if it is in another layout."""

READERS: Registry[Reader] = Registry("data layout", DataError, pattern=re.compile(r"[^\x00-\x1f]{1,60}"))


def layout(name: str) -> Callable[[Reader], Reader]:
    """Register the reader of a layout. Those of plugins are asked first, each whether a source is in its layout.

    Raises:
        DataError: the name is taken.
    """

    def register(reader: Reader) -> Reader:
        return READERS.register(name, reader)

    return register


@dataclass(frozen=True)
class Found:
    """The content of a source: sets ``in_memory``, or ``parts`` of files; one of the two has something.

    Args:
        layout: what it was taken for.
        in_memory: split, or ``all`` -> its images.
        parts: split, or ``all`` -> its files.
        notes: what is not used, a sentence each.
        has_labels: whether ``data.label`` chooses something there, and is not a mistake.
    """

    layout: str
    in_memory: Mapping[str, ImageSet] = field(default_factory=dict[str, ImageSet])
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])
    notes: tuple[str, ...] = ()
    has_labels: bool = True


def usable_sets(place: str, found: Found, config: ImageData) -> tuple[dict[str, AnySet], list[str]]:
    """Return what can be used of each split that was found, or of ``all``, and notes on the whole.

    Raises:
        DataError: there is something that cannot be used, and ``config.broken`` says to refuse it.
    """
    encoded, left_out = assemble(place, found.parts, config) if found.parts else ({}, [])
    return {**found.in_memory, **encoded}, [*found.notes, *left_out]


def find_images(source: str | None) -> Path | str:
    """Return the folder or file that a source names, or the source itself if it is on the hub.

    Raises:
        DataError: there is no such thing; the message says what could be meant.
    """
    if source is None or source == OWN[0]:
        return SAMPLE
    name = "fashion-mnist" if source == OWN[1] else source
    if name in catalog.SOURCES:
        if catalog.SOURCES[name].weights:
            raise DataError(f"{name} is no data: it holds weights, give --start {name}")
        return catalog.check(catalog.SOURCES[name])
    if source.startswith("hub:"):
        return source
    place = at_home(source)
    added = any(READERS.plugin_of(name) for name in READERS)
    if not place.is_dir() and not find_npz(place) and not (added and place.exists()):
        names = [*OWN, *(name for name, known in catalog.SOURCES.items() if not known.weights)]
        raise DataError(
            f"no data at {source!r}: expected one of {', '.join(names)}, an existing folder, a .npz file, "
            f"or hub:OWNER/NAME{nearest(source, names)}; if it has moved, --data says where it is, or for a run "
            "that is resumed data.source in its recipe.yaml"
        )
    return place


def read_images(
    config: ImageData, *, full: bool = False, by_row: bool = False, on_checked: OnChecked | None = None
) -> Found:
    """Return what a source holds, every file of it looked at; nothing is refused yet that can be left out.

    Args:
        config: names the source, and the column of the classes.
        full: decode every file.
        by_row: read the rows of a table one by one, also where no size is given.
        on_checked: called with how many files were looked at, and how many there are.

    Raises:
        DataError: it is in no known layout, or damaged as a whole.
        MissingExtraError: the layout needs a package that is not installed.
    """
    found, place = find_images(config.source), config.source or "sample"
    look = partial(check, full=full, on_checked=on_checked)
    if isinstance(found, str):
        return _hub(place, config, by_row, look)
    for name in sorted(READERS, key=lambda name: READERS.plugin_of(name) is None):
        if (read := READERS[name](found, config)) is not None:
            return read
    if not found.is_dir():
        raise DataError(f"{found}: no reader of a plugin takes this file; of files redense reads .npz alone")
    if is_hub_folder(found):
        return _hub(place, config, by_row, look)
    if not has_any(found, SUFFIXES):
        raise DataError(f"{found}: neither {LAYOUTS.replace(', or', ', nor')}")
    require_pillow()
    root = found.absolute()
    extra: list[str] = []
    if has_tables(root):
        tables, images, extra = _tables(root, config)
        if tables:
            return _labelled(root, place, tables, images, extra, look)
    return _class_folders(root, place, extra, look)


@layout("idx files")
def _idx(found: Path, config: ImageData) -> Found | None:
    if not (idx := find_idx(found, config.label)):
        return None
    training, test = read_idx_set(idx)
    chosen = config.label is not None and idx.is_called(config.label)
    return Found("idx files", {"train": training, "test": test}, has_labels=chosen)


@layout("arrays")
def _npz(found: Path, config: ImageData) -> Found | None:
    if not (path := find_npz(found)):
        return None
    sets, notes = read_npz(path)
    return Found(f"arrays in {path.name}", sets, notes=tuple(notes), has_labels=False)


@layout("CIFAR's binary files")
def _cifar(found: Path, config: ImageData) -> Found | None:
    if not (cifar := find_cifar(found)):
        return None
    sets, notes = read_cifar(*cifar, config.label)
    return Found("CIFAR's binary files", sets, notes=tuple(notes))


def _hub(place: str, config: ImageData, by_row: bool, look: Looks) -> Found:
    if by_row or config.size is not None:
        parts, notes = read_by_row(place, config.label, look)
        return Found("a Hugging Face set", parts=parts, notes=tuple(notes))
    sets, notes = read_in_memory(place, config.label)
    return Found("a Hugging Face set", sets, notes=tuple(notes))


def _tables(root: Path, config: ImageData) -> tuple[list[LabelTable], Images, list[str]]:
    """Return the tables of classes if they count, the images, and notes.

    Class folders come first, unless a column is asked for, or the table is called ``metadata``.
    """
    images = Images(root)
    sorted_in = _are_class_folders(root)
    try:
        tables, notes = find_label_tables(root, config.label, images)
    except DataError as error:
        if sorted_in and config.label is None:
            return [], images, [f"a table is not used ({error}): the class folders are"]
        raise
    if sorted_in and config.label is None and not any(table.path.stem == "metadata" for table in tables):
        names = " and ".join(table.path.name for table in tables)
        unused = [f"{names} not used: the class folders are (data.label takes a table's column)"] if tables else []
        return [], images, [*notes, *unused]
    return tables, images, notes


def _are_class_folders(root: Path) -> bool:
    names = subfolders(root)
    if any(split_of(name) == "train" and subfolders(root / name) for name in names):
        return True
    full = [name for name in names if not split_of(name) and has_any(root / name, SUFFIXES)]
    return len(full) > 1


def _labelled(root: Path, place: str, tables: list[LabelTable], images: Images, notes: list[str], look: Looks) -> Found:
    known, paths = classes_of(tables), find_named(tables, images)
    parts: dict[str, Part] = {}
    for table in tables:
        files, labels, missing = read_table(table, images, paths, known)
        if table.split in ("validation", "test") and (labels < 0).all():
            hidden = counted(len(files), "image")
            notes.append(f"{table.path.name}: the {hidden} of it have no label: they are not used")
            continue
        faults = [Fault(name, "is missing") for name in missing]
        parts[table.split] = Part(files, labels, tuple(known), look(files, f"{root} {table.split}"), faults)
    if "train" not in parts and "all" not in parts:
        raise DataError(f"{root}: {' and '.join(t.path.name for t in tables)} give no training images their classes")
    if rest := len(images.files) - len(set(paths.values())):
        notes.append(f"{counted(rest, 'image')} in no line of {' and '.join(t.path.name for t in tables)}: not used")
    others = Counter({ending: count for ending, count in images.others.items() if ending not in TEXTS})
    if others:
        notes.append(f"passed over for their endings: {endings_said(others)}")
    shown = " and ".join(dict.fromkeys(f"{table.path.name} (column {table.column!r})" for table in tables))
    return Found(
        f"images with their classes in {shown}", parts=parts, notes=tuple(f"{place}: {note}" for note in notes)
    )


def _class_folders(root: Path, place: str, extra: list[str], look: Looks) -> Found:
    below = find_parts(root)
    notes = [*extra, *beside(root, below), *(same_inside(root) if "all" in below else [])]
    parts: dict[str, Part] = {}
    passed_over = Counter[str]()
    for name, folder in below.items():
        listing = list_folder(folder, root)
        faults = [Fault(str(folder.relative_to(root) / empty), "is an empty class folder") for empty in listing.empty]
        if listing.loose:
            loose = counted(len(listing.loose), "image")
            if name == "all":
                notes.append(f"{loose} in no class folder: not used")
            else:
                faults.append(Fault(loose, f"in {folder.name}/ itself, in no class folder"))
        if odd := [kind for kind in listing.classes if split_of(kind)]:
            notes.append(f"{', '.join(odd)} in {folder.name}/ is a class here, though it is called like a split")
        passed_over += listing.others
        parts[name] = Part(listing.files, listing.labels, listing.classes, look(listing.files, str(folder)), faults)
    if not any(len(part.labels) for part in parts.values()):
        raise DataError(f"{root}: neither {LAYOUTS.replace(', or', ', nor')}")
    if passed_over:
        notes.append(f"passed over for their endings: {endings_said(passed_over)}")
    layout = (
        "class folders" if "all" in parts else f"class folders in {', '.join(f'{f.name}/' for f in below.values())}"
    )
    shown = tuple(f"{place}: {note}" for note in notes)
    return Found(layout, parts=parts, notes=shown, has_labels=False)
