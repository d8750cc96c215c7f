"""The network of a run as graphs of ONNX or of torch.export, and how far they are from the network on real examples."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from redense.errors import RedenseError
from redense.files.writing import write_bytes
from redense.optional.extras import refuse_folder
from redense.tasks.graphs import ExportsGraphs, Graph, Inputs

from .formats import ENDINGS, VALIDATION, WITHOUT_GUARDS, Compared, ExportError

BOUND = 1e-4
"""The largest difference to the network that is taken for rounding, as a part of its largest output, or of 1."""

Answer = Callable[[Inputs], Sequence[Tensor]]


def write_graphs(
    task: Any,
    model: torch.nn.Module,
    out: Path,
    form: str,
    tell: Callable[[Compared], None] = lambda compared: None,
    *,
    of: str = VALIDATION,
) -> list[Compared]:
    """Write the graphs of a trained network into a folder, and compare each with the network.

    Args:
        task: of the network, with its data; or a `Standalone`.
        model: trained.
        out: the folder.
        form: ``onnx`` or ``torch-export``.
        tell: called with each comparison.
        of: what the inputs are.

    Raises:
        ExportError: the network cannot be exported, or a graph gives other numbers than the network.
    """
    if not isinstance(task, ExportsGraphs):
        raise ExportError(f"a task of '{task.name}' has no graphs: give it a method, see redense.tasks.graphs")
    write = _WRITERS[form]
    plain = copy.deepcopy(model).cpu().eval()
    found: list[Compared] = []
    for graph in task.graphs(plain):
        path = out / f"{graph.name}{ENDINGS[form]}"
        with _in_quiet():
            try:
                program = torch.export.export(
                    graph.module, graph.calls[0], dynamic_shapes=_dynamic(graph), strict=False
                )
                answer, by = write(program, graph, path)
            except RedenseError:
                raise
            except Exception as error:  # torch.export raises dozens of kinds
                reason = " ".join(str(error).split())[:300]
                raise ExportError(f"this network cannot be written as {form}: {reason}") from error
        found.append(_compare(graph, path, answer, by, of))
        tell(found[-1])
    return found


def _dynamic(graph: Graph) -> list[dict[int, Any]]:
    sizes: dict[str, Any] = {}
    for axes in graph.inputs.values():
        for name in axes.values():
            sizes.setdefault(name, torch.export.Dim.DYNAMIC)
    return [{axis: sizes[name] for axis, name in axes.items()} for axes in graph.inputs.values()]


# --- formats --------------------------------------------------------------------------------------------------------


def _write_program(program: Any, graph: Graph, path: Path) -> tuple[Answer | None, str]:
    data = io.BytesIO()
    torch.export.save(program, data)
    write_bytes(path, data.getvalue())
    loaded: Any = torch.export.load(path)
    module, by = loaded.module(), "torch.export"
    try:
        for inputs in graph.calls:
            module(*inputs)
    except AssertionError:  # a guard of a reshape that holds for batches of one as well, as the comparison shows
        module, by = loaded.module(check_guards=False), WITHOUT_GUARDS
    return lambda inputs: _tuple(module(*inputs)), by


def _write_onnx(program: Any, graph: Graph, path: Path) -> tuple[Answer | None, str]:
    made = torch.onnx.export(
        program,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
        dynamic_shapes=[dict(axes) for axes in graph.inputs.values()],
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    if made is None:
        raise ExportError("this network cannot be written as onnx: the exporter gave nothing")
    made.save(str(path))
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        refuse_folder(onnxruntime)
    except ImportError:
        return None, "onnxruntime"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answer(inputs: Inputs) -> list[Tensor]:
        given = {name: tensor.numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)}
        return [torch.as_tensor(array) for array in session.run(None, given)]

    return answer, f"onnxruntime {onnxruntime.__version__}"


_WRITERS: Mapping[str, Callable[[Any, Graph, Path], tuple[Answer | None, str]]] = {
    "onnx": _write_onnx,
    "torch-export": _write_program,
}


# --- comparing ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _compare(graph: Graph, path: Path, answer: Answer | None, by: str, of: str) -> Compared:
    largest, scale = 0.0, 1.0
    for inputs in graph.calls if answer else ():
        expected, found = _tuple(graph.network(*inputs)), answer(inputs) if answer else ()
        for name, own, other in zip(graph.outputs, expected, found, strict=True):
            if own.shape != other.shape or not torch.isfinite(other.double()).all():
                raise ExportError(
                    f"{path.name}: '{name}' is {tuple(other.shape)} of the graph and {tuple(own.shape)} of the "
                    "network, or not finite"
                )
            apart = float((own.double() - other.double()).abs().max())
            if not own.is_floating_point() and apart:
                raise ExportError(
                    f"{path.name}: '{name}' of the graph are other whole numbers than those of the network"
                )
            if own.is_floating_point():
                largest, scale = max(largest, apart), max(scale, float(own.abs().max()))
    bound = BOUND * scale
    if largest > bound:
        path.unlink()
        raise ExportError(
            f"{path.name} was not written: it gives other numbers than the network, by up to {largest:.3g}, where "
            f"{bound:.1e} would be rounding"
        )
    difference = largest if answer else None
    calls = len(graph.calls)
    return Compared(path.name, graph.about, tuple(graph.inputs), graph.outputs, difference, bound, calls, by, of)


def _tuple(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


@contextlib.contextmanager
def _in_quiet() -> Iterator[None]:
    """Keep what exporters say of their own insides from the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
