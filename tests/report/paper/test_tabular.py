"""Tables as files: CSV that programs read, LaTeX and Markdown that show what the page shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from redense.files.markup import h
from redense.report.kit.document import Section
from redense.report.kit.parts import Cell, Table
from redense.report.kit.quantities import NOTHING, between, cell, estimate, percent, share
from redense.report.paper.tabular import latex, to_csv, to_latex, to_markdown

CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


def grid(*rows: Sequence[Cell], head: tuple[str, ...] = ("Arm", "Error, %")) -> Table:
    return Table("Error of 5 % & more", [(title, place > 0) for place, title in enumerate(head)], rows)


def test_csv_parts_a_mean_from_its_interval_and_from_the_word_behind_it():
    shown = estimate(-1.42, (-2.21, -0.63), 2, signed=True, word="better")
    assert str(shown) == "−1.42\u00a0±\u00a00.79 better"
    text = to_csv(grid(["dsd", shown], ["restart", estimate(0.24, (-0.83, 1.31), 2, signed=True)], ["llr", NOTHING]))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["Arm", "Error, %", "Error, %, ±", "Error, %, in words"]
    assert rows[1:] == [["dsd", "-1.42", "0.79", "better"], ["restart", "0.24", "1.07", ""], ["llr", "", "", ""]]


def test_csv_takes_a_percent_sign_that_all_cells_have_into_the_head():
    text = to_csv(grid(["a", share(0.3)], ["b", share(None)], head=("Layer", "Sparsity")))
    assert text == 'Layer,"Sparsity, %"\na,30\nb,\n'
    mixed = to_csv(grid(["a", share(0.3)], ["b", "by layer"], head=("Layer", "Sparsity")))
    assert mixed == "Layer,Sparsity\na,30 %\nb,by layer\n"


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_every_csv_has_as_many_cells_in_each_row(pairs):
    rows = list(csv.reader(io.StringIO(to_csv(grid(*map(list, pairs))))))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == len(pairs) + 1


def test_latex_shows_every_character_that_it_would_read_as_a_command():
    assert latex(r"a_b & 5 % of $x$ #1 {y} ~z^ \w <i>") == (
        r"a\_b \& 5 \% of \$x\$ \#1 \{y\} \textasciitilde{}z\textasciicircum{} \textbackslash{}w "
        r"\textless{}i\textgreater{}"
    )


@given(CELLS)
def test_no_text_leaves_latex_an_open_brace_or_a_bare_command(text):
    shown = latex(text)
    for command in (r"\{", r"\}", r"\$", r"\&", r"\#", r"\%", r"\_"):
        shown = shown.replace(command, "")
    assert shown.count("{") == shown.count("}")
    assert shown.count("$") % 2 == 0
    assert not {"&", "#", "%", "_"} & set(shown)


def test_latex_of_a_long_table_goes_over_several_pages_and_of_a_short_one_is_a_float():
    assert r"\begin{longtable}{lr}" in to_latex(grid(*[["dsd", "1"]] * 50), "arms")
    short = to_latex(grid(["dsd", "1"], ["[a]", "2"], ["*b", "3"]), "arms")
    assert r"\caption{Error of 5 \% \& more.}" in short
    assert r"\label{tab:arms}" in short
    assert "{}[a] & 2" in short  # or it would be an option of the line before
    assert "{}*b & 3" in short


def test_hyphens_and_apostrophes_beside_each_other_stay_themselves_in_latex():
    assert latex("--a–b '' −") == "-{}-a--b '{}' $-$"


def test_markdown_escapes_what_would_part_cells_or_become_markup():
    assert r"| a\|b | \*1\* |" in to_markdown(grid(["a|b", "*1*"]))
    assert r"| a \&lt; \$b\$ | \- \~\~1\~\~ |" in to_markdown(grid(["a &lt; $b$", "- ~~1~~"]))


def test_a_number_is_in_csv_as_programs_read_it_whatever_the_page_makes_of_it():
    text = to_csv(grid(["a", cell(-1234567.0, 1)], ["b", cell(0.0, 2)], ["c", cell(-0.001, 2)], ["d", cell(None)]))
    assert text.splitlines()[1:] == ["a,-1234567.0", "b,0.00", "c,0.00", "d,"]


def test_what_is_empty_below_a_name_is_no_part_of_the_name():
    cell = ["baseline", h("span", "", class_="about"), h("small")]
    assert to_csv(Table("", [("Arm", False)], [[cell]])) == "Arm\nbaseline\n"


def test_a_cell_of_elements_is_told_in_one_line_as_the_page_shows_it():
    rows: list[list[Cell]] = [
        [[h("code", "a"), " b"], ["9.8", h("small", "9.1 to 10.2")]],
        ["c", ["1 / 2", h("span", "p = 0.04", class_="under")]],
        [[h("span", "dense: 3 steps", h("br")), h("span", "sparse: 2 steps", h("br"))], "<b> & co"],
    ]
    section = Section("arms", "Arms", h("details", [Table("What & how", [("Name", False), ("Value", True)], rows)]))
    (found,) = section.tables  # wherever it is nested
    read = list(csv.reader(io.StringIO(to_csv(found))))
    shown = [["a b", "9.8 [9.1 to 10.2]"], ["c", "1 / 2, p = 0.04"]]
    assert read == [["Name", "Value"], *shown, ["dense: 3 steps; sparse: 2 steps", "<b> & co"]]
    page = str(section.element())
    assert "<caption>What &amp; how</caption>" in page
    assert "&lt;b&gt; &amp; co" in page


def test_a_name_is_the_same_in_every_table_whatever_its_ends_are():
    names = ["x", "x;", ", comma", "–", "a  b", "a\u00a05", "−5"]
    columns: list[tuple[str, bool]] = [("Arm", False), ("Taken for", False)]
    table = Table(
        "", columns, [[["", h("svg"), " ", name, h("span", class_="about")], [h("b", name)]] for name in names]
    )
    read = list(csv.reader(io.StringIO(to_csv(table))))
    assert [row[0] for row in read[1:]] == names
    assert [row[1] for row in read[1:6]] == names[:5]
    plain = Table("", columns, [[name, name] for name in ("–", "x;")])
    assert to_csv(plain).splitlines()[1:] == ["–,–", "x;,x;"]
    assert to_csv(Table("", columns, [["a", between(None, 2)], ["b", percent(None)]])).splitlines()[1:] == ["a,", "b,"]
    assert "| x; | x; |" in to_markdown(plain)
    assert r"x; & x; \\" in to_latex(plain, "plain")
