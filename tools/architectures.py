"""What of every architecture is pruned: build each of timm, torchvision and transformers, and judge its parameters.

    python tools/architectures.py --out found.json [--library timm] [--one-per-family] [--trace]
    python tools/architectures.py --write found.json ...

Nothing is downloaded and nothing takes memory: models are built on the meta device, transformers' from the default
configuration of each type. With ``--trace`` the forward is followed too, and what it multiplies with is compared with
the rule; the follower here knows nothing of the rule. ``--write`` puts what was found into `results/architectures.json`
and the tables into `docs/explanation/what-is-pruned.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib.metadata
import json
import logging
import os
import re
import signal
import statistics
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import redense.optional.torchvision
from redense.errors import LeftDenseWarning
from redense.parameters import first_layers, judge, summary_of, warn_of_overlooked

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "results" / "architectures.json", ROOT / "docs" / "explanation" / "what-is-pruned.md"
BEGIN, END = "<!-- begin: written by tools/architectures.py -->", "<!-- end -->"
LIBRARIES = ("torchvision", "timm", "transformers")
PATIENCE = 60  # seconds for one model: a default configuration may have tens of thousands of modules
MULTIPLIES = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "convolution", "_grouped_mm")
_NO_BASE = (
    "Names of transformers are types of configurations. 196 of them have no entry in its `AutoModel` and are not",
    "looked at by themselves: 147 configure a part of another model (a text or an image encoder), 49 have only a",
    "model for a task (`depth_anything`, `superpoint`), are backbones, or are put together of two models (`rag`,",
    "`encoder-decoder`). Of the 37 that are not built the defaults lack a value that the model asks for, a",
    "package is missing, or building takes more than 60 s; `results/architectures.json` has the reason of each.",
)
LOOKS_UP = ("embedding", "index", "index_select", "gather", "_embedding_bag")


@dataclass
class Architecture:
    """What is pruned of one architecture.

    Args:
        library: that it is from.
        name: there; in transformers the type of the configuration.
        family: the module that defines it.
        weights: of the whole model.
        prunable: of them.
        left: weights that stay dense, by reason, the most first.
        first: the weights that read the input, as shapes tell.
        warned: whether the user is told that matrices stay dense.
        traced: of a followed forward, what the rule says otherwise: ``missed`` multiplies and stays dense, ``extra``
            is pruned and does not multiply, ``first`` is what reads the input if it is not what shapes tell. None if
            the model was not, or could not be followed.
    """

    library: str
    name: str
    family: str
    weights: int
    prunable: int
    left: dict[str, int]
    first: list[str]
    warned: bool
    traced: dict[str, list[str]] | None = None
    failed: str = field(default="", compare=False)


class _Follower(TorchDispatchMode):
    """Follows which parameters are multiplied with what is computed from the input, and which with the input itself."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        super().__init__()
        self.multiplies, self.looked_up, self.reads, self.seen = set[int](), set[int](), set[int](), set[int]()
        self._weights = {self._key(p): frozenset([id(p)]) for p in model.parameters()}
        self._raw = {self._key(t) for t in _tensors(inputs)}
        self._active = set(self._raw)
        self._alive: list[Any] = []

    @staticmethod
    def _key(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operands = list(_tensors((args, kwargs or {})))
        active = [t for t in operands if self._key(t) in self._active]
        held = [t for t in operands if self._key(t) in self._weights and self._key(t) not in self._active]
        used = frozenset[int]().union(*(self._weights[self._key(t)] for t in held))
        name = func._schema.name.partition("::")[2]
        raw = bool(active) and all(self._key(t) in self._raw for t in active)
        if active and used:
            self.seen |= used
            if name in MULTIPLIES:
                matrices = frozenset[int]().union(*(self._weights[self._key(t)] for t in held if t.dim() > 1))
                self.multiplies |= matrices
                if any(self._key(t) in self._raw for t in active):
                    self.reads |= matrices
                raw = False
            elif name in LOOKS_UP:
                self.looked_up |= used
                raw = False
        for tensor in _tensors(out):
            key = self._key(tensor)
            self._alive.append(tensor)  # on the meta device it holds nothing but its address
            if active:
                self._active.add(key)
                if raw:
                    self._raw.add(key)
            elif used:
                self._weights.setdefault(key, used)
        return out


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def look(library: str, name: str, family: str, model: nn.Module, inputs: Any) -> Architecture:
    """Return what the rule says of a model on the meta device; with ``inputs`` follow its forward too."""
    verdicts = judge(model, None, ())
    summary = summary_of(verdicts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_overlooked(verdicts)
    found = Architecture(
        library,
        name,
        family,
        summary.weights,
        summary.prunable_weights,
        summary.left_dense,
        list(first_layers(model)),
        any(issubclass(w.category, LeftDenseWarning) for w in caught),
    )
    if inputs is None:
        return found
    try:
        with _Follower(model, inputs) as follower, torch.no_grad():
            model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    except _SlowError:
        raise
    except Exception as error:  # noqa: BLE001  # a model that does not run on meta tensors is judged all the same
        found.failed = told(error)
        return found
    rows = [(v, id(v.parameter), sum(size > 1 for size in v.parameter.shape) > 1) for v in verdicts]
    found.traced = {
        "missed": [
            f"{v.name} ({v.reason})"
            for v, key, matrix in rows
            if matrix
            and key in follower.multiplies - follower.looked_up
            and not v.prunable
            and v.name not in found.first
        ],
        "extra": [v.name for v, key, _ in rows if v.prunable and key in follower.seen - follower.multiplies],
        "first": sorted(v.name for v, key, matrix in rows if key in follower.reads and matrix),
    }
    if found.traced["first"] == sorted(found.first):
        del found.traced["first"]
    return found


# --- the libraries ----------------------------------------------------------------------------------------------------


def _timm() -> Iterator[tuple[str, str, Any]]:
    import timm
    from timm.models import _registry

    def build(name: str) -> tuple[nn.Module, Any]:
        model = timm.create_model(name)
        size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size") or (3, 224, 224)
        return model, (torch.empty(1, *size),)

    for name in timm.list_models():
        yield name, _registry._model_entrypoints[name].__module__.rpartition(".")[2], build


def _torchvision() -> Iterator[tuple[str, str, Any]]:
    from torchvision import models

    def build(name: str) -> tuple[nn.Module, Any]:
        builder = models.get_model_builder(name)
        backbone = {"weights_backbone": None} if name in (*_of("detection"), *_of("segmentation")) else {}
        model = builder(weights=None, **backbone)
        if "video" in builder.__module__:
            return model, (torch.empty(1, 3, 16, 224, 224),)
        if "optical_flow" in builder.__module__:
            return model, (torch.empty(1, 3, 128, 128), torch.empty(1, 3, 128, 128))
        size = 299 if "inception" in name else 224
        return model, None if "detection" in builder.__module__ else (torch.empty(1, 3, size, size),)

    def _of(part: str) -> list[str]:
        return models.list_models(module=getattr(models, part))

    widths: Any = (
        models.regnet.BlockParams.from_init_params.__func__
    )  # computes them with tensors, whose values it needs

    def on_cpu(cls: Any, *args: Any, **options: Any) -> Any:
        with torch.device("cpu"):
            return widths(cls, *args, **options)

    models.regnet.BlockParams.from_init_params = classmethod(on_cpu)  # type: ignore[method-assign]
    for name in models.list_models():
        yield name, models.get_model_builder(name).__module__.rpartition(".")[2], build


def _transformers() -> Iterator[tuple[str, str, Any]]:
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import (
        CONFIG_MAPPING_NAMES,  # pyright: ignore[reportPrivateImportUsage]
    )

    def build(name: str) -> tuple[nn.Module, Any] | None:
        config = AutoConfig.for_model(name)
        tables = (modeling_auto.MODEL_MAPPING, modeling_auto.MODEL_FOR_PRETRAINING_MAPPING)
        found = next((table[type(config)] for table in tables if type(config) in table), None)
        if found is None:
            return None
        made: Any = found[0] if isinstance(found, tuple) else found
        model = made._from_config(config) if hasattr(made, "_from_config") else made(config)
        return model, _inputs_of(model, config)

    for name in sorted(CONFIG_MAPPING_NAMES):
        yield name, name, build


def _inputs_of(model: Any, config: Any) -> dict[str, Any]:
    main = getattr(model, "main_input_name", "input_ids")
    if main == "pixel_values":
        size = getattr(config, "image_size", None) or 224
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        return {main: torch.empty(1, getattr(config, "num_channels", None) or 3, height, width)}
    if main == "input_values":
        return {main: torch.empty(1, 16000)}
    if main == "input_features":
        return {main: torch.empty(1, getattr(config, "num_mel_bins", 80), 3000)}
    return {"input_ids": torch.ones(1, 8, dtype=torch.long)}


LISTS = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}


class _SlowError(Exception):
    pass


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _SlowError(f"takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def architectures(
    library: str, *, trace: bool = False, one_per_family: bool = False, only: str = "*"
) -> Iterator[Architecture | tuple[str, str]]:
    """Give every architecture of a library, or its name and why it could not be built.

    Args:
        library: one of `LIBRARIES`.
        trace: follow the forward too.
        one_per_family: only the first of those that one module defines.
        only: a shell pattern of names.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    redense.optional.torchvision.make_importable()
    families = Counter[str]()
    for name, family, build in LISTS[library]():
        if not fnmatch.fnmatchcase(name, only):
            continue
        families[family] += 1
        if one_per_family and families[family] > 1:
            continue
        try:
            with _limited(PATIENCE), warnings.catch_warnings(), torch.device("meta"):
                warnings.simplefilter("ignore")
                built = build(name)
                found = None
                if built is not None:
                    model, inputs = built
                    found = look(library, name, family, model.eval(), inputs if trace else None)
        except Exception as error:  # noqa: BLE001  # one that needs a package or a setting is named
            yield name, told(error)
            continue
        if found is not None:
            yield found


# --- writing ----------------------------------------------------------------------------------------------------------


def told(error: Exception) -> str:
    """Return in a line what went wrong; of a path the last part alone, as the rest is of the machine it ran on."""
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {re.sub(r'(?:/[^/ ]+)+/', '', first)[:160]}"


def store(found: list[Architecture], failed: list[list[str]], path: Path, listed: dict[str, int] | None = None) -> None:
    """Write what was found, an architecture a line; ``listed`` has the number of names of each library."""
    versions = {library: importlib.metadata.version(library) for library in ("torch", *LIBRARIES)}
    plain = [{**asdict(one), "left": dict(list(one.left.items())[:3])} for one in found]
    lines = [json.dumps({key: value for key, value in one.items() if value not in (None, "")}) for one in plain]
    head = {"versions": versions, "listed": listed or {}, "failed": failed}
    begin = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in head.items())
    path.write_text(f'{{{begin},\n"found": [\n' + ",\n".join(lines) + "\n]}\n")


def tables(found: list[Architecture], failed: list[list[str]], versions: dict[str, str], listed: dict[str, int]) -> str:
    """Return the tables of the page in Markdown."""
    lines = [
        "## The architectures of three libraries",
        "",
        "Built on the meta device by `tools/architectures.py`; `results/architectures.json` has each one. A slow test",
        "builds all names and, where a model runs there, follows what its forward multiplies with; *seen* are those",
        "that are stored.",
        "",
        "| library | names | seen | not built | median share | at least 90 % | 50 to 90 % | under 50 % | it warns |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for library in LIBRARIES:
        mine = [one for one in found if one.library == library]
        shares = [one.prunable / max(1, one.weights) for one in mine]
        counts = (sum(s >= 0.9 for s in shares), sum(0.5 <= s < 0.9 for s in shares), sum(s < 0.5 for s in shares))
        cells = [f"{library} {versions[library]}", f"{listed[library]:,}", f"{len(mine):,}"]
        cells += [sum(other == library for other, *_ in failed), f"{statistics.median(shares):.1%}", *counts]
        cells += [sum(one.warned for one in mine)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        *_NO_BASE,
    ]
    lines += ["", "Those of which less than half is pruned, or where it warns, by what stays dense most:", ""]
    lines += ["| what stays dense | architectures, with the share that is pruned |", "|---|---|"]
    groups: dict[str, list[Architecture]] = {}
    for one in found:
        if one.warned or one.prunable < 0.5 * one.weights:
            groups.setdefault(next(iter(one.left)), []).append(one)
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        named = ", ".join(f"{one.name} {one.prunable / max(1, one.weights):.0%}" for one in group)
        lines.append(f"| {reason} | {named} |")
    return "\n".join(lines)


def write(sources: list[Path]) -> None:
    """Put what several runs found into the results and the page."""
    found: dict[tuple[str, str], Architecture] = {}
    failed: list[list[str]] = []
    for source in sources:
        data = json.loads(source.read_text())
        failed += data["failed"]
        for item in data["found"]:
            one = Architecture(**item)
            key = (one.library, one.name)
            found[key] = one if one.traced is not None else replace(one, traced=getattr(found.get(key), "traced", None))
    failed = [
        entry for index, entry in enumerate(failed) if tuple(entry[:2]) not in found and entry not in failed[:index]
    ]
    every = [one for library in LIBRARIES for one in found.values() if one.library == library]
    redense.optional.torchvision.make_importable()
    listed = {library: sum(1 for _ in LISTS[library]()) for library in LIBRARIES}
    store(every, failed, RESULTS, listed)
    versions = {library: importlib.metadata.version(library) for library in LIBRARIES}
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(every, failed, versions, listed)}\n{END}{after}")


def main() -> None:
    """Look at the architectures, or write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=LIBRARIES, action="append")
    parser.add_argument("--one-per-family", action="store_true")
    parser.add_argument("--only", default="*")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write", type=Path, nargs="+")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.write:
        write(options.write)
        return
    found: list[Architecture] = []
    failed: list[list[str]] = []
    for library in options.library or LIBRARIES:
        asked = {"trace": options.trace, "one_per_family": options.one_per_family, "only": options.only}
        for one in architectures(library, **asked):
            if isinstance(one, Architecture):
                found.append(one)
            else:
                failed.append([library, *one])
            if options.out and (len(found) + len(failed)) % 50 == 0:
                store(found, failed, options.out)
    if options.out:
        store(found, failed, options.out)


if __name__ == "__main__":
    main()
