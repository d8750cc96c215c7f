"""A server of pages for this machine alone: a list of runs, the page of each, and what is new in one that goes on.

No path of a request is ever a path of the disk: it is looked up among the names that were listed.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from redense.errors import AddressError, DataError
from redense.files.checksums import check_folder
from redense.files.markup import h
from redense.report.kit.document import Page, Section, changes
from redense.report.pages import RUN, kind_of

from .listing import Entry, entry, found, grid_page, listing_page, reason_of, signature, unreadable

_PORT = 8300
_PORTS = 20  # that are tried one after the other, where none is asked for
_KEPT = 8  # pages that are kept as they were made


@dataclass(frozen=True)
class Served:
    """A page, also as HTML, with what it was made of, and whether it changes no more."""

    page: Page
    text: str
    version: str
    over: bool

    @property
    def news(self) -> str:
        """The news for a page that follows a run, as JSON."""
        return changes(self.page, self.version, self.over)


def serve(root: Path, port: int | None = None) -> Server:
    """Return a server of what lies in a folder, which listens; ``serve_forever`` makes it answer.

    Raises:
        DataError: there is no such folder.
        AddressError: the port is taken.
    """
    if not root.is_dir():
        raise DataError(f"no folder '{root}': expected one that holds runs, such as runs/")
    ports = range(_PORT, _PORT + _PORTS) if port is None else [port]
    why: str | None = None
    for number in ports:
        try:
            return Server(root, number)
        except OSError as error:
            why = error.strerror
    what = f"port {port}" if port is not None else f"every port from {_PORT} to {_PORT + _PORTS - 1}"
    raise AddressError(f"{what} cannot be served at: {why}; name another with --port, or any free one with --port 0")


class Server(ThreadingHTTPServer):
    """Pages of a folder at ``address``."""

    daemon_threads = True
    request_queue_size = 512  # a page that many follow asks often, and one who waits in a queue is not reset
    allow_reuse_address = True
    address_family = socket.AF_INET

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self._entries: dict[str, tuple[str, Entry]] = {}
        self._pages: dict[str, Served] = {}
        self._making = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """The address for a browser."""
        return f"http://127.0.0.1:{self.port}/"

    def listing(self) -> Served:
        """Return the list of all that there is now."""
        with self._making:
            rows = {name: self._entry(name, folder) for name, folder in found(self.root).items()}
            page = listing_page(self.root, rows)
        text = page.html()
        return Served(page, text, hashlib.sha256(text.encode()).hexdigest()[:16], False)

    def page(self, name: str) -> Served | None:
        """Return the page of a name of the list; None if there is no such name."""
        folder = found(self.root).get(name)
        if folder is None:
            return None
        try:
            version = hashlib.sha256(signature(folder).encode()).hexdigest()[:16]
        except Exception as error:  # noqa: BLE001  # then the page says why it cannot be made
            version = hashlib.sha256(repr(error).encode()).hexdigest()[:16]
        with self._making:
            kept = self._pages.get(name)
            if kept is None or kept.version != version:
                kept = _made(name, folder, version)
                self._pages.pop(name, None)
                self._pages[name] = kept
                while len(self._pages) > _KEPT:
                    del self._pages[next(iter(self._pages))]
        return kept

    def _entry(self, name: str, folder: Path) -> Entry:
        try:
            version = signature(folder)
        except Exception as error:  # noqa: BLE001  # one folder must not take the list with it
            return unreadable(name, error)
        known = self._entries.get(name)
        if known is None or known[0] != version or known[1].state in ("running", "stopped", "not finished"):
            known = self._entries[name] = version, entry(name, folder)
        return known[1]


def _made(name: str, folder: Path, version: str) -> Served:
    """Make a page as it is now; of a folder that cannot be read, one that says why."""
    from redense.report.runs.page import make_page
    from redense.report.runs.reading import read_run

    kind = kind_of(folder)
    try:
        check_folder(folder)
        if kind is RUN:
            run = read_run(folder)
            page, over = make_page(run, live=not run.finished), run.finished
        else:
            page, over = (kind.page(folder), True) if kind else (grid_page(name, folder), False)
        return Served(page, page.html(), version, over)
    except Exception as error:  # noqa: BLE001  # what lies there may be anything, and the others are still served
        section = Section("damaged", "This page cannot be made", h("p", reason_of(error)))
        page = Page("redense report", name, [], [section])
        return Served(page, page.html(), version, True)


class _Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer with a page, or with what is new in it."""
        if self.headers.get("Host") not in {f"{host}:{self.server.port}" for host in ("127.0.0.1", "localhost")}:
            # A page of elsewhere whose name was made to lead here would send its own.
            self._answer(HTTPStatus.FORBIDDEN, "only this machine is answered\n", "text/plain")
            return
        address = urlsplit(self.path)
        if address.path == "/":
            page = self.server.listing()
        elif address.path.startswith("/page/"):
            page = self.server.page(unquote(address.path.removeprefix("/page/")))
        else:
            page = None
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, "there is no such page; / lists those that there are\n", "text/plain")
            return
        since = parse_qs(address.query, keep_blank_values=True).get("since")
        if since is None:
            self._answer(HTTPStatus.OK, page.text, "text/html")
        elif since[0] == page.version:
            self._answer(HTTPStatus.NO_CONTENT, "", "application/json")
        else:
            self._answer(HTTPStatus.OK, page.news, "application/json")

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
        data = text.encode(errors="backslashreplace")  # a name that is no UTF-8, as in the files of pages
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(data)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is overridden
        """Say nothing: only the command line prints."""

    def version_string(self) -> str:
        """Name no versions."""
        return "redense"


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
