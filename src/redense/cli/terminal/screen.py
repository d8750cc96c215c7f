"""The console of a verb: what it prints is text and never markup, commands or emoji codes, whoever wrote it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text
from typing_extensions import override

from redense.files.streams import hush
from redense.files.visible import visible, visible_line


class SafeConsole(Console):
    """A console for text that others wrote: nothing in a string is obeyed; what is styled is a `Text` of our own.

    Where the reader of the output goes away (``| head -1``), the work goes on in silence.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

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
