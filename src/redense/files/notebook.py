"""HTML of a result for a notebook: a table and sentences, in the notebook's own colours, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .markup import h
from .visible import visible

_BOX = "max-height:32em;overflow:auto"
_CELL = "text-align:{side};padding:.15em .6em;white-space:nowrap{tint}"
_TINT = ";background:rgba(214,80,40,{alpha:.2f})"


def html_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    said: Iterable[str] = (),
    left: Iterable[int] = (0,),
    tints: Sequence[Sequence[float]] | None = None,
) -> str:
    """Return a table as ``_repr_html_`` returns it; it scrolls where it is long or wide.

    Everything is text and nothing in it is obeyed, whoever wrote it.

    Args:
        head: names of the columns.
        rows: as many cells each.
        caption: a line above it.
        said: a paragraph each, below it.
        left: the columns of words; the others hold numbers, and stand to the right.
        tints: how strongly each cell is tinted, from 0 to 1.

    >>> html_table(["name", "weights"], [["<fc>", "8"]], said=["8 weights"])
    '<div>...&lt;fc&gt;</td>...8</td>...<p>8 weights</p></div>'
    """
    sides = ["left" if index in set(left) else "right" for index in range(len(head))]
    top = h("tr", [h("th", visible(cell), style=_style(side)) for cell, side in zip(head, sides, strict=True)])
    body = [
        h(
            "tr",
            [
                h("td", visible(cell), style=_style(side, tints[line][column] if tints else 0.0))
                for column, (cell, side) in enumerate(zip(row, sides, strict=True))
            ],
        )
        for line, row in enumerate(rows)
    ]
    shown = h("table", h("thead", top), h("tbody", body), style="color:inherit")
    above = h("p", visible(caption)) if caption else None
    return str(h("div", above, h("div", shown, style=_BOX), [h("p", visible(text)) for text in said]))


def _style(side: str, tint: float = 0.0) -> str:
    return _CELL.format(side=side, tint=_TINT.format(alpha=0.4 * min(tint, 1.0)) if tint > 0 else "")
