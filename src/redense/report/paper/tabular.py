"""A table of a page as a file: CSV for programs, Markdown for a page, LaTeX for a paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from redense.files import markup
from redense.files.csv_text import safe_cell
from redense.files.visible import markdown
from redense.report.kit.parts import Cell, Table
from redense.report.kit.quantities import NBSP, Nothing, Number

_LONG = 40  # rows; more go over several pages
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", NBSP: "~", "\u2011": "-",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "←": r"$\leftarrow$", "≥": r"$\geq$", "≤": r"$\leq$",
    "–": "--", "—": "---", "…": r"\dots{}", "“": "``", "”": "''", "·": r"$\cdot$", "§": r"\S{}",
}  # fmt: skip


# --- CSV ------------------------------------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Return a table as CSV. A number is one for any program; what stands behind ± has a column of its own.

    >>> from redense.report.kit.quantities import cell, estimate
    >>> print(
    ...     to_csv(
    ...         Table(
    ...             "",
    ...             [("Arm", False), ("Error, %", True)],
    ...             [["dsd", estimate(-0.83, (-1.1, -0.56), 2)], ["llr", cell(1234.0, 0)]],
    ...         )
    ...     ),
    ...     end="",
    ... )
    Arm,"Error, %","Error, %, ±"
    dsd,-0.83,0.27
    llr,1234,
    """
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.columns)
    head: list[str] = []
    cells: list[list[str]] = []
    for place, ((title, _), column) in enumerate(zip(table.columns, columns, strict=True)):
        names, values = _column(_ascii(title), column, named=not place)
        head += names
        cells += values
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(safe_cell, head))
    writer.writerows([safe_cell(cell) for cell in row] for row in zip(*cells, strict=True))
    return text.getvalue()


def _column(title: str, cells: Sequence[Cell], *, named: bool) -> tuple[list[str], list[list[str]]]:
    """The columns of a file that hold one of a table: with intervals and words, where some cell has one."""
    numbers = [cell for cell in cells if isinstance(cell, Number)]
    units = {cell.unit for cell in numbers if cell.plain}
    alike = len(units) == 1 and units != {""} and len(numbers) == len(cells)
    if alike:
        title = f"{title}, {_ascii(*units)}"
    values = [_value(cell, with_unit=not alike, named=named) for cell in cells]
    if not any(cell.half or cell.word for cell in numbers):
        return [title], [values]
    columns = [values, [cell.half if isinstance(cell, Number) else "" for cell in cells]]
    words = [cell.word if isinstance(cell, Number) else "" for cell in cells]
    if not any(words):
        return [title, f"{title}, ±"], columns
    return [title, f"{title}, ±", f"{title}, in words"], [*columns, words]


def _value(cell: Cell, *, with_unit: bool, named: bool) -> str:
    if isinstance(cell, Nothing):
        return ""
    if not isinstance(cell, Number):
        text = markup.text(cell)
        return text if named else _ascii(text)  # a name is what it is
    return f"{cell.plain} {cell.unit}" if with_unit and cell.unit else cell.plain


def _ascii(text: str) -> str:
    """Text with the spaces, hyphens and signs beside its figures that every program knows."""
    text = re.sub(rf"(?<=[\d±]){NBSP}|{NBSP}(?=[\d±])", " ", text).replace("Non\u2011zero", "Non-zero")
    return re.sub(r"−(?=\d)", "-", text)


def _shown(cell: Cell) -> str:
    return str(cell) if isinstance(cell, Number) else markup.text(cell)


# --- Markdown -------------------------------------------------------------------------------------------------------


def to_markdown(table: Table) -> str:
    r"""Return a table as GitHub's Markdown, under its caption.

    >>> print(to_markdown(Table("Test error", [("Arm", False), ("%", True)], [["a|b", "1.5"]])), end="")
    Test error
    <BLANKLINE>
    | Arm | % |
    |:--|--:|
    | a\|b | 1.5 |
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(markdown, cells)) + " |"

    marks = "|".join("--:" if numeric else ":--" for _, numeric in table.columns)
    head, rows = line([title for title, _ in table.columns]), (line(list(map(_shown, row))) for row in table.rows)
    return "\n".join([markdown(table.caption), "", head, f"|{marks}|", *rows, ""])


# --- LaTeX ----------------------------------------------------------------------------------------------------------


def latex(text: str) -> str:
    r"""Return text as LaTeX that shows it.

    >>> latex("test error, % of features.4_w"), latex("−0.83 ± 0.27").replace("~", " ")
    ('test error, \\% of features.4\\_w', '$-$0.83 $\\pm$ 0.27')
    """
    following = zip(text, f"{text[1:]} ", strict=False)
    return "".join(f"{_LATEX.get(one, one)}{'{}' * _ligature(one, other)}" for one, other in following)


def _ligature(one: str, other: str) -> bool:
    """Whether LaTeX would set two characters as another one: of two hyphens it makes a dash."""
    return (one in "-–—" and other in "-–—") or one == other == "'"


def to_latex(table: Table, label: str) -> str:
    r"""Return a table for a paper, in the style of booktabs; a long one goes over several pages.

    >>> print(to_latex(Table("Test error", [("Arm", False), ("%", True)], [["dsd", "1.5"]]), "error"), end="")
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
    form = "".join("r" if numeric else "l" for _, numeric in table.columns)
    # A row that begins with [ or * would be read as an option of the \\ before it.
    lines = [" & ".join(latex(_shown(cell)) for cell in row) + r" \\" for row in table.rows]
    lines = [f"{{}}{line}" if line.startswith(("[", "*")) else line for line in lines]
    head = " & ".join(latex(title) for title, _ in table.columns) + r" \\"
    caption = latex(table.caption.rstrip("."))
    if len(table.rows) > _LONG:
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
