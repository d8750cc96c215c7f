"""One damage a file, one verb: what comes of it, as a table for docs/explanation/what-is-guarded.md.

    python tests/crash/damage.py            # prints the table

Every file of a run, an export, a store and a comparison is changed by one bit, cut in half, and deleted, one at a time.
Then each verb that opens such a folder is called. What it gives must be what the whole folder gives, or it is refused
in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from redense import cli
from redense.files.checksums import NAME as SUMS
from redense.report.server.serving import Server

HOW = ("flip", "truncate", "delete")
SAME, HEALED, REFUSED = "same", "healed", "refused"
_CLOCK = ("seconds", "resumed")

Verb = Callable[[Path], Any]
"""Does something with a folder and returns all that a user gets from it; raises `Refused`."""


class Refused(Exception):
    """The command line ended with 2 and one line."""


class Broken(Exception):
    """It ended otherwise: the table must have none."""


# --- what is damaged ------------------------------------------------------------------------------------------------


def make(root: Path, tasks: tuple[str, ...] = ("classification", "captioning", "speech")) -> None:
    """Train a classifier, a captioner and a recogniser of a blink each, and a comparison; export them."""
    random = np.random.default_rng(0)
    images = []
    for split, count in (("train", 14), ("val", 4), ("test", 4)):
        for place, name in enumerate(("red", "green", "blue")):
            for number in range(count):
                path = root / "set" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 60, (8, 8, 3))
                pixels[..., place] += 150
                Image.fromarray(pixels.astype("uint8")).save(path)
                sentences = [{"raw": f"a {name} square"}, {"raw": f"one {name} thing here"}]
                images.append({"filename": f"{split}/{name}/{number}.png", "split": split, "sentences": sentences})
    (root / "set" / "dataset.json").write_text(json.dumps({"images": images}))
    rows: dict[str, list[str]] = {}
    for split, count in () if "speech" not in tasks else (("train", 16), ("validation", 4), ("test", 4)):
        for number in range(count):
            text, clock = ("aba", "bab", "ab ba", "bba")[number % 4], np.arange(2400) / 16000
            tones = [np.sin(2 * np.pi * {"a": 400, "b": 1200, " ": 50}[letter] * clock) for letter in text]
            (root / "clips").mkdir(exist_ok=True)
            import soundfile

            soundfile.write(root / "clips" / f"{split}{number}.wav", np.concatenate(tones) * 0.3, 16000)
            rows.setdefault(split, []).append(json.dumps({"audio_filepath": f"{split}{number}.wav", "text": text}))
    for split, lines in rows.items():
        (root / "clips" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    sgd = {"optimizer": {"name": "sgd", "lr": 0.05}, "batch_size": 12}
    adam = {"optimizer": {"name": "adam", "lr": 0.02}, "batch_size": 6}
    features = {"network": "mlp", "weights": str(root / "classifier"), "size": 8}
    talk = {"source": str(root / "set"), "features": features, "threshold": 1}
    pictures = {"source": str(root / "set"), "size": 8}
    recipes: dict[str, tuple[Any, Any, Any]] = {
        "classification": (pictures, {"name": "mlp", "widths": [8]}, sgd),
        "captioning": (talk, {"name": "neuraltalk", "width": 8, "hidden": 8, "beam": 2, "longest": 5}, adam),
        "speech": ({"source": str(root / "clips")}, {"name": "deepspeech", "hidden": 16}, adam),
    }
    folders = {"classification": "classifier", "captioning": "talker", "speech": "listener"}
    for task in tasks:
        data, model, training = recipes[task]
        phases = {"dense": {"epochs": 2}, "sparse": {"epochs": 1, "sparsity": 0.3}, "redense": {"epochs": 1}}
        recipe = {"name": task, "task": task, "data": data, "model": model, "training": training, **phases}
        (root / f"{task}.yaml").write_text(yaml.safe_dump(recipe))
        call("run", root / f"{task}.yaml", "--out", root / folders[task], "--no-store", "--quiet")
        call("export", root / folders[task], root / f"{folders[task]}-export")
    if len(tasks) > 1:
        arms = ["--arms", "dsd,restart", "--seeds", "1", "--jobs", "1"]
        call("compare", root / "classification.yaml", *arms, "--store", root / "store", "--out", root / "compared")


def damage(path: Path, how: str) -> None:
    """Change one bit in the middle of a file, cut it in half, or delete it.

    Of a list of checksums the bit is that of a decimal digit, which stays one: a letter may become no digit of a
    checksum, and which of them is in the middle depends on the machine.
    """
    data = path.read_bytes()
    path.unlink()  # another name may stand for the same bytes
    if how == "flip":
        middle = len(data) // 2
        if path.name == SUMS:
            line = data.rfind(b"\n", 0, middle) + 1
            middle = next(place for place in range(line, len(data)) if data[place] in b"0123456789")
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "truncate":
        path.write_bytes(data[: len(data) // 2])


# --- verbs ----------------------------------------------------------------------------------------------------------


def content(path: Path) -> Any:
    """What a file holds, without what the clock says: of a list of checksums the names; None where there is no file."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    with contextlib.suppress(ValueError, LookupError):
        lines = data.decode("utf-8").splitlines(keepends=True)
        if path.name == "metrics.jsonl":
            return [timeless(json.loads(line)) for line in lines]
        if path.name == "grid.json":  # it names the store, of which this is a copy
            return json.loads(data)["cells"]
        if path.name == "metrics.sums":  # the last is the one that counts
            return json.loads(lines[-1])["step"]
        if path.name == "SHA256SUMS":
            return {line.partition("  ")[2] for line in lines}
    return data


def call(*words: object) -> str:
    """Run the command line in this process; return what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    said = [line for line in err.getvalue().splitlines() if line.startswith("redense: ")]
    if code == 2 and len(said) == 1:
        raise Refused(said[0])
    if code:
        raise Broken(f"{words[0]}: exit code {code}: {err.getvalue()[-300:]}")
    return out.getvalue()


def timeless(value: Any) -> Any:
    """Plain data without what the clock says."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in _CLOCK}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def placeless(text: str, folder: Path) -> str:
    """Return text without where the copy of the folders lies, which is another every time."""
    return text.replace(str(folder.parent), "...")


def _evaluate(folder: Path) -> Any:
    return json.loads(call("evaluate", folder, "--json"))["loss"]


def _export(folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as there:
        call("export", folder, Path(there) / "out")
        return {
            p.name: p.read_bytes() for p in (Path(there) / "out").rglob("*") if p.is_file() and p.name != "SHA256SUMS"
        }


def _report(folder: Path) -> Any:
    call("report", folder)
    return placeless((folder / "report.html").read_text(encoding="utf-8"), folder)


def _serve(folder: Path) -> Any:
    server = Server(folder.parent, 0)
    try:
        page = server.page(folder.name)
        text = page.text if page else ""
        row = server.listing().text
    finally:
        server.server_close()
    if "This page cannot be made" in text or not page:
        raise Refused("shown as damaged")
    return placeless(text, folder), "damaged" in row


def _resume(folder: Path) -> Any:
    call("run", "--resume", folder, "--no-store", "--quiet")
    return (folder / "model.safetensors").read_bytes(), timeless(json.loads((folder / "result.json").read_text()))


def _compare(folder: Path) -> Any:
    """Begin a new comparison on the store beside the folder."""
    store = folder.parent / "store"
    with tempfile.TemporaryDirectory() as there:
        arms = ["--arms", "dsd,restart", "--seeds", "1", "--jobs", "1"]
        call("compare", folder.parent / "classification.yaml", *arms, "--store", store, "--out", Path(there) / "new")
        return (Path(there) / "new" / "compare.json").read_bytes()


def _again(folder: Path) -> Any:
    call("compare", "--resume", folder, "--store", folder.parent / "store", "--jobs", "1")
    return (folder / "compare.json").read_bytes()


def _caption(folder: Path) -> Any:
    picture = folder.parent / "set" / "test" / "red" / "0.png"
    return placeless(call("caption", folder, picture, "--all"), folder)


def _transcribe(folder: Path) -> Any:
    return placeless(call("transcribe", folder, folder.parent / "clips" / "test0.wav", "--json"), folder)


# Folder -> the verbs that open it. What is damaged is every file in it.
TABLE: dict[str, dict[str, Verb]] = {
    "classifier": {"evaluate": _evaluate, "export": _export, "report": _report, "serve": _serve, "resume": _resume},
    "classifier-export": {"evaluate": _evaluate},
    "talker": {"caption": _caption, "resume": _resume},
    "talker-export": {"caption": _caption},
    "listener": {"transcribe": _transcribe},
    "listener-export": {"transcribe": _transcribe},
    "compared": {"report": _report, "serve": _serve, "compare --resume": _again},
    "store": {"compare": _compare},
}
TITLES = {
    "classifier": "a finished run",
    "classifier-export": "an export",
    "talker": "a finished run of captioning",
    "talker-export": "an export of captioning",
    "listener": "a finished run of speech",
    "listener-export": "an export of speech",
    "compared": "a comparison",
    "store": "the phase store",
}
_SKIPPED = ("tensorboard", ".lock", "report.html")  # nothing is read from them


def files_of(folder: Path, kind: str) -> dict[str, Path]:
    """Return what stands in the table -> one file of that kind."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part in name for part in _SKIPPED):
            found.setdefault(path.name if kind == "store" else name, path)
    return dict(sorted(found.items()))  # by name: where a phase lies depends on its key


def outcome(root: Path, kind: str, name: str, how: str, verb: Verb, whole: Any) -> str:
    """Damage a file of a copy, call a verb, and say what came of it."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        for other in root.iterdir():
            if other.name == kind or (kind in ("store", "compared") and other.name in ("store", "compared")):
                shutil.copytree(other, place / other.name)
            else:
                (place / other.name).symlink_to(other)
        path = files_of(place / kind, kind)[name]
        before = content(path)
        damage(path, how)
        damaged = path.read_bytes() if path.is_file() else None
        try:
            given = verb(place / ("compared" if kind == "store" else kind))
        except Refused:
            return REFUSED
        if given != whole:
            raise Broken(
                f"{kind}/{name}, {how}: another result of {getattr(verb, '__name__', verb)}, and nothing was said"
            )
        if (path.read_bytes() if path.is_file() else None) == damaged:
            return SAME
        after = content(path)
        vouches = isinstance(after, set) and after <= before  # for what was made again; a warning names the rest
        if after != before and not vouches:
            raise Broken(f"{kind}/{name}, {how}: it is neither as it was nor as it was damaged")
        return HEALED


def rows(root: Path, only: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Give folder, file, and verb -> what came of the three kinds of damage."""
    for kind, verbs in TABLE.items():
        if kind not in only:
            continue
        wholes: dict[str, Any] = {}
        for verb, do in verbs.items():
            with tempfile.TemporaryDirectory() as temporary:
                for other in root.iterdir():
                    shutil.copytree(other, Path(temporary) / other.name) if other.is_dir() else shutil.copy(
                        other, temporary
                    )
                wholes[verb] = do(Path(temporary) / ("compared" if kind == "store" else kind))
        for name in files_of(root / kind, kind):
            cells = {
                verb: tuple(outcome(root, kind, name, how, do, wholes[verb]) for how in HOW)
                for verb, do in verbs.items()
            }
            yield (
                kind,
                name,
                {verb: found[0] if len(set(found)) == 1 else " / ".join(found) for verb, found in cells.items()},
            )


def table(root: Path, only: tuple[str, ...] = tuple(TABLE)) -> str:
    """Return the table in Markdown, of all folders or of some."""
    lines: list[str] = []
    before = ""
    for kind, name, cells in rows(root, only):
        if kind != before:
            lines += [
                "",
                f"| {TITLES[kind]} | {' | '.join(f'`{verb}`' for verb in cells)} |",
                "|---" * (1 + len(cells)) + "|",
            ]
            before = kind
        lines.append(f"| `{name}` | {' | '.join(cells.values())} |")
    return "\n".join(lines).strip() + "\n"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="where the folders are made, or were made before (default: anew)")
    parser.add_argument("--only", default=",".join(TABLE), help="of: %(default)s")
    options = parser.parse_args()
    os.environ |= {"REDENSE_STORE": "none", "COLUMNS": "200"}
    with tempfile.TemporaryDirectory() as temporary:
        root = options.root or Path(temporary).resolve() / "whole"
        os.environ["REDENSE_CACHE"] = str(root.parent / "cache")
        if not root.exists():
            make(root)
        sys.stdout.write(table(root, tuple(options.only.split(","))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
