"""The console of a verb: what it prints is text and never markup, commands or emoji codes, whoever wrote it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from redense.files.opening import hush
from redense.files.visible import visible, visible_line

_WIDE = 160  # characters: a file has room for a whole table
_DUMB = ("dumb", "unknown")


class SafeConsole(Console):
    """A console for text that others wrote: nothing in a string is obeyed; what is styled is a `Text` of our own.

    Where the reader of the output goes away (``| head -1``), the work goes on in silence.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})
        sized = super().is_terminal or self.is_jupyter or options.get("width") or "COLUMNS" in os.environ
        if not sized or self.width < 1:  # Rich shows nothing where COLUMNS is 0
            self.width = _WIDE

    @property
    @override
    def is_terminal(self) -> bool:
        """Whether lines can be drawn again: a dumb terminal cannot, and Rich would show no bar there until its end."""
        return super().is_terminal and os.environ.get("TERM", "").lower() not in _DUMB

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    @override
    def on_broken_pipe(self) -> None:
        self.quiet = True
        hush(self.file)

    def print_titled(self, title: str, text: str, style: str = "bold") -> None:
        """Print ``title: text`` in a line, the title in a style."""
        self.print(Text.assemble((visible_line(title), style), f": {visible_line(text)}"), soft_wrap=True)


class SafeColumn(TextColumn):
    """A column of a progress bar whose text is text."""

    def __init__(self, text: str, **options: Any) -> None:
        super().__init__(text, **{"markup": False, **options})

    @override
    def render(self, task: Any) -> Text:
        return Text(visible_line(self.text_format.format(task=task)), style=self.style, justify=self.justify)


@contextlib.contextmanager
def bar(
    what: str, console: Console | None = None, *columns: ProgressColumn, total: float | None = None
) -> Iterator[Callable[..., None]]:
    """Show a bar on a terminal while the block runs; gives what moves it: things done, of how many, and what they are.

    It is on the error output where no console is given.
    """
    console = console or SafeConsole(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        shown = progress.add_task(what, total=total)

        def show(done: int, total: int, what: str | None = None) -> None:
            progress.update(shown, completed=done, total=total, description=what)

        yield show


def plain_table(first: str, *numbers: str, last: str = "", no_wrap: bool = False) -> Table:
    """Return a table without lines: a column of words, columns of numbers, and perhaps one of words again.

    What is too long for a narrow terminal goes on in the next line: nothing is cut off.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=no_wrap, overflow="fold")
    if last:
        table.add_column(last, overflow="fold")
    return table
