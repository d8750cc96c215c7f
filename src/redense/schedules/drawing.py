"""A drawing of a schedule: a block a phase, as low as it is sparse, and the learning rate above them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from redense.files.markup import Element, h
from redense.phase import Phase

_WIDTH, _HEIGHT, _EDGE = 640.0, 150.0, 8.0
_FOOT, _BLOCK = 132.0, 34.0  # y of the lower edge of the blocks, and the height of a dense one
_TOP, _RATE = 18.0, 70.0  # y of the highest learning rate, and the height of its axis
_POINTS = 48  # of the curve in one phase
_LETTER = 5.8  # the width of a letter


def draw(phases: Sequence[Phase], rate: Callable[[int], float]) -> Element:
    """Return a drawing as SVG, in the colours of the page around it.

    Args:
        phases: in order.
        rate: the learning rate of a step, as a factor of the optimizer's own; drawn on a logarithmic axis where
            phases begin with rates that differ by ten or more.
    """
    total = sum(phase.steps for phase in phases)
    scale = (_WIDTH - 2 * _EDGE) / total
    start, curve, drawn, first = 0, list[tuple[float, float]](), list[Element](), list[float]()
    for phase in phases:
        for step in sorted({start + round(part * (phase.steps - 1) / _POINTS) for part in range(_POINTS + 1)}):
            curve.append((_EDGE + (step + 0.5) * scale, rate(step)))
        drawn.append(_block(phase, _EDGE + start * scale, phase.steps * scale))
        first.append(rate(start))
        start += phase.steps
    words = ", then ".join(f"{phase.name} for {phase.steps:,} steps ({_about(phase)})" for phase in phases)
    rates = ", ".join(f"{value:.4g}" for value in first) if len(first) < 7 else f"{max(first):.4g} to {min(first):.4g}"
    return h(
        "svg",
        h("title", f"A schedule of {total:,} steps: {words}"),
        drawn,
        h("polyline", points=_points(curve, first), fill="none", stroke="currentColor", stroke_width="1.8"),
        _text(_EDGE, 10, f"learning rate × {rates} at the start of the phases"),
        _text(_EDGE, _HEIGHT - 4, f"{total:,} steps; as high as what is kept of the weights"),
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        width=f"{_WIDTH:g}",
        style="max-width:100%;height:auto;font:11px sans-serif",
        role="img",
    )


def _about(phase: Phase) -> str:
    """Describe in a word or two what is removed."""
    if phase.pattern is not None:
        return f"{phase.pattern[0]} of {phase.pattern[1]} kept"
    if isinstance(phase.sparsity, Mapping):
        return "a sparsity a layer"
    return "all weights" if phase.sparsity is None else f"{100 * phase.sparsity:.4g} % removed"


def _kept(phase: Phase) -> float:
    """The fraction of the weights that is kept; of sparsities by layer, their plain mean."""
    if phase.pattern is not None:
        return phase.pattern[0] / phase.pattern[1]
    if isinstance(phase.sparsity, Mapping):
        return 1 - sum(phase.sparsity.values()) / len(phase.sparsity)
    return 1 - (phase.sparsity or 0.0)


def _block(phase: Phase, x: float, width: float) -> Element:
    high = max(_BLOCK * _kept(phase), 2.0)
    about = f"{phase.name}: {_about(phase)}"
    words = next((text for text in (about, phase.name) if _LETTER * len(text) < width - 8), "")
    return h(
        "g",
        h("title", f"{about}, {phase.steps:,} steps"),
        _rect(x, width, _BLOCK, fill="none", stroke="currentColor", stroke_opacity="0.35"),
        _rect(x, width, high, fill="#d97730" if phase.is_sparse else "#4878a8", fill_opacity="0.45"),
        _text(x + 4, _FOOT - 5, words) if words else None,
    )


def _rect(x: float, width: float, height: float, **more: str) -> Element:
    size = {"width": f"{width:.1f}", "height": f"{height:.1f}"}
    return h("rect", x=f"{x:.1f}", y=f"{_FOOT - height:.1f}", **size, **more)


def _points(curve: Sequence[tuple[float, float]], first: Sequence[float]) -> str:
    """The curve of the rate; what is below the logarithmic axis is drawn at its foot."""
    started = [value for value in first if value > 0]
    high = max(*(value for _, value in curve), *started, 1e-30)
    logarithmic = bool(started) and high / min(started) >= 10
    low = min(started, default=high) / 10

    def y(value: float) -> float:
        if not logarithmic:
            return _TOP + _RATE * (1 - value / high)
        part = math.log(max(value, low) / low) / math.log(high / low)
        return _TOP + _RATE * (1 - part)

    return " ".join(f"{x:.1f},{y(value):.1f}" for x, value in curve)


def _text(x: float, y: float, text: str) -> Element:
    return h("text", text, x=f"{x:.1f}", y=f"{y:.1f}", fill="currentColor")
