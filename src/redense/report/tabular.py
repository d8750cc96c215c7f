"""A table of a page as a file: CSV for programs, Markdown for a page, LaTeX for a paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from ..files.csv_text import safe_cell
from .contents import Grid
from .quantities import NBSP, NONE

_LONG = 40  # rows; more go over several pages
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", NBSP: "~", "\u2011": "-",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "←": r"$\leftarrow$", "≥": r"$\geq$", "≤": r"$\leq$",
    "–": "--", "—": "---", "…": r"\dots{}", "“": "``", "”": "''", "·": r"$\cdot$", "§": r"\S{}",
}  # fmt: skip


# --- CSV ------------------------------------------------------------------------------------------------------------


def to_csv(grid: Grid) -> str:
    """Return a table as CSV. A number is one for any program; what stands behind ± has a column of its own.

    >>> print(
    ...     to_csv(Grid("", "", ["Arm", "Error, %"], [["dsd", "−0.83 ± 0.27"], ["llr", "1,234"]], [False, True])),
    ...     end="",
    ... )
    Arm,"Error, %","Error, %, ±"
    dsd,-0.83,0.27
    llr,1234,
    """
    columns = list(zip(*grid.rows, strict=True)) if grid.rows else [()] * len(grid.head)
    head: list[str] = []
    cells: list[list[str]] = []
    for shown, column in zip(grid.head, columns, strict=True):
        title, plain = shown.replace(NBSP, " ").replace("\u2011", "-"), [_plain(cell) for cell in column]
        if any(" ± " in cell for cell in plain):
            halves = [cell.partition(" ± ") for cell in plain]
            # A word behind the interval, such as `better`, stands in a third column.
            rests = [half.partition(" ") for _, _, half in halves]
            head += [title, f"{title}, ±"]
            cells += [[_numeric(one) for one, _, _ in halves], [_numeric(half) for half, _, _ in rests]]
            if any(word for _, _, word in rests):
                head.append(f"{title}, in words")
                cells.append([word for _, _, word in rests])
            continue
        known = [cell for cell in plain if cell]
        if known and all(cell.endswith(" %") and _NUMBER.fullmatch(cell[:-2]) for cell in known):
            head.append(f"{title}, %")
            plain = [cell.removesuffix(" %") for cell in plain]
        else:
            head.append(title)
        cells.append([_numeric(cell) for cell in plain])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(safe_cell, head))
    writer.writerows([safe_cell(cell) for cell in row] for row in zip(*cells, strict=True))
    return text.getvalue()


def _plain(cell: str) -> str:
    cell = cell.replace(NBSP, " ").replace("−", "-")
    return "" if cell == NONE else cell


def _numeric(cell: str) -> str:
    return cell.replace(",", "").removeprefix("+") if _NUMBER.fullmatch(cell) else cell


# --- Markdown -------------------------------------------------------------------------------------------------------


def markdown(text: str) -> str:
    r"""Return text as Markdown that shows it.

    >>> print(markdown("<b>|x_1"))
    \<b\>\|x\_1
    """
    return re.sub(r"([\\|`*_\[\]<>])", r"\\\1", text)


def to_markdown(grid: Grid) -> str:
    r"""Return a table as GitHub's Markdown, under its caption.

    >>> print(to_markdown(Grid("arms", "Test error", ["Arm", "%"], [["a|b", "1.5"]], [False, True])), end="")
    Test error
    <BLANKLINE>
    | Arm | % |
    |:--|--:|
    | a\|b | 1.5 |
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(markdown, cells)) + " |"

    marks = "|".join("--:" if numeric else ":--" for numeric in grid.numeric)
    return "\n".join([grid.caption, "", line(grid.head), f"|{marks}|", *map(line, grid.rows), ""])


# --- LaTeX ----------------------------------------------------------------------------------------------------------


def latex(text: str) -> str:
    r"""Return text as LaTeX that shows it.

    >>> latex("test error, % of features.4_w"), latex("−0.83 ± 0.27").replace("~", " ")
    ('test error, \\% of features.4\\_w', '$-$0.83 $\\pm$ 0.27')
    """
    return "".join(_LATEX.get(character, character) for character in text)


def to_latex(grid: Grid, label: str) -> str:
    r"""Return a table for a paper, in the style of booktabs; a long one goes over several pages.

    >>> print(to_latex(Grid("arms", "Test error", ["Arm", "%"], [["dsd", "1.5"]], [False, True]), "error"), end="")
    % \usepackage{booktabs}
    \begin{table}
      \centering
      \caption{Test error.}
      \label{tab:error}
      \begin{tabular}{lr}
        \toprule
        Arm & \% \\
        \midrule
        dsd & 1.5 \\
        \bottomrule
      \end{tabular}
    \end{table}
    """
    form = "".join("r" if numeric else "l" for numeric in grid.numeric)
    # A row that begins with [ would be read as an option of the \\ before it.
    lines = [" & ".join(map(latex, row)) + r" \\" for row in grid.rows]
    lines = [f"{{}}{line}" if line.startswith("[") else line for line in lines]
    head = " & ".join(map(latex, grid.head)) + r" \\"
    caption = latex(grid.caption.rstrip("."))
    if len(grid.rows) > _LONG:
        top = [r"% \usepackage{booktabs,longtable}", rf"\begin{{longtable}}{{{form}}}"]
        top += [rf"  \caption{{{caption}.}} \label{{tab:{label}}} \\", r"  \toprule", f"  {head}", r"  \midrule"]
        inside = [r"  \endfirsthead", r"  \toprule", f"  {head}", r"  \midrule", r"  \endhead"]
        return "\n".join([*top, *inside, *(f"  {line}" for line in lines), r"  \bottomrule", r"\end{longtable}", ""])
    rules = [r"\toprule", head, r"\midrule", *lines, r"\bottomrule"]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}.}}",
            rf"  \label{{tab:{label}}}",
            rf"  \begin{{tabular}}{{{form}}}",
            *(f"    {line}" for line in rules),
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )
