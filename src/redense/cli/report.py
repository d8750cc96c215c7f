"""The verb of pages: report."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from redense.errors import RedenseError

from .terminal.printing import say
from .verbs import Verbs


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    report = verbs.add(
        "report",
        "write the report page of a run, a comparison or a scan again, its figures for a paper, or serve all pages",
        _report,
    )
    report.add_argument("path", type=Path, metavar="PATH", help="a run, a comparison or a scan, finished or not")
    report.add_argument("--open", action="store_true", help="open it in the browser")
    report.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="write plots as SVG, PDF and PNG (needs Chromium or Chrome), tables as CSV, Markdown and LaTeX",
    )
    report.add_argument(
        "--serve", action="store_true", help="serve all that lies in PATH, at an address of this machine"
    )
    report.add_argument("--port", metavar="N", help="of that address (default: 8300, or the next that is free)")


def _report(options: argparse.Namespace) -> int:
    if options.serve:
        return _serve(options)
    if options.port is not None:
        raise RedenseError("--port is of --serve: give both")
    from redense.report.kit.document import PageError
    from redense.report.pages import page_of

    kind = page_of(options.path)
    path, unwritten = options.path, None
    try:
        path = kind.write(options.path)
        say(path)
    except PageError as error:
        if not options.figures:
            raise
        unwritten = error  # figures need no room in the folder of the page
    if options.figures:
        from redense.report.paper.printing import write_figures

        files = write_figures(kind.page(options.path), options.figures)
        names = [file.name for file in files]
        drawn, tables = (sum(name.endswith(end) for name in names) for end in (".svg", ".csv"))
        say(f"{options.figures}: {drawn} figures, {tables} tables, {len(files)} files in all; README.md lists them")
    if unwritten:
        raise unwritten
    if options.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return 0


def _serve(options: argparse.Namespace) -> int:
    if options.figures:
        raise RedenseError("--figures is of one page: give it without --serve")
    from redense.report.server.serving import serve

    with serve(options.path, _port(options.port)) as server:
        say(f"{options.path} at {server.address}; Ctrl-C ends it", flush=True)
        if options.open:
            import webbrowser

            webbrowser.open(server.address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    say("\nended; the pages are no longer served")
    return 0


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 5 or not 0 <= int(text) < 1 << 16:
        raise RedenseError(f"--port must be a number from 0 to 65535, got '{text}'")
    return int(text)
