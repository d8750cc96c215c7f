"""A headless Chromium that draws pages where nobody looks on: started, driven by its DevTools protocol, and ended.

The protocol is JSON over a WebSocket, of which a client needs little: no package and no driver beside the browser.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redense.errors import BrowserError

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_ELSEWHERE = (  # where they lie when they are on no PATH
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's is too small
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the browser itself stays offline too
)
_SECONDS = 120.0  # for which a browser may be silent while it is waited for


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome; ``$REDENSE_BROWSER`` goes before what is installed. None: there is none.

    Raises:
        BrowserError: ``$REDENSE_BROWSER`` names no program.
    """
    named = os.environ.get("REDENSE_BROWSER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise BrowserError(f"REDENSE_BROWSER must name a Chromium or Chrome that can be started, got '{named}'")
        return found
    return next(filter(None, map(shutil.which, (*_PROGRAMS, *_ELSEWHERE))), None)


class Browser:
    """A running browser: a context, in which `page` opens pages.

    Args:
        patience: seconds for which it may be silent while it is waited for.

    Raises:
        BrowserError: there is none, or it does not start.
    """

    def __init__(self, patience: float = _SECONDS) -> None:
        self._patience = patience
        program = find_browser()
        if program is None:
            raise BrowserError(
                "no Chromium or Chrome was found, which draws the figures: install one (Debian and Ubuntu: "
                "apt-get install chromium), or name it in REDENSE_BROWSER"
            )
        self._folder = tempfile.TemporaryDirectory(prefix="redense-browser-", ignore_cleanup_errors=True)
        # Its sandbox cannot be had by root, nor in most containers; it is shown nothing but our own pages.
        outside = ("--no-sandbox",) if sys.platform == "linux" else ()
        profile = Path(self._folder.name)
        self._process = subprocess.Popen(
            [program, *_FLAGS, *outside, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )
        try:
            self._connection = _Connection(*self._address(profile / "DevToolsActivePort", program), patience)
        except BaseException:
            self._end()
            raise

    def _address(self, file: Path, program: str) -> tuple[int, str]:
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                port, path = file.read_text(encoding="utf-8").splitlines()
                return int(port), path
            if (code := self._process.poll()) is not None:
                raise BrowserError(f"{program} ended as it began, with exit code {code}: does it start by hand?")
            time.sleep(0.02)
        raise BrowserError(f"{program} did not start within {self._patience:.0f} seconds: does it start by hand?")

    def page(self) -> BrowserPage:
        """Return a new, empty page."""
        target = self._connection.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._connection.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        return BrowserPage(self._connection, session, target)

    def __enter__(self) -> Browser:
        """Return the browser."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the browser and the connection to it."""
        with contextlib.suppress(BrowserError, OSError):
            self._connection.ask("Browser.close", {})
        self._connection.close()
        self._end()

    def _end(self) -> None:
        try:
            self._process.wait(5 if hasattr(self, "_connection") else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


class BrowserPage:
    """A page of a `Browser`. ``events`` are what the browser has said of it, each with ``method`` and ``params``."""

    def __init__(self, connection: _Connection, session: str, target: str) -> None:
        self._connection, self._session, self._target = connection, session, target
        self.events: list[dict[str, Any]] = []
        connection.listeners[session] = self.events.append
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, https://chromedevtools.github.io/devtools-protocol, and return its result."""
        return self._connection.ask(method, parameters, self._session)

    def go(self, address: str) -> None:
        """Load an address and wait until all of it is there."""
        self.events.clear()
        answer = self.ask("Page.navigate", url=address)
        if "errorText" in answer:
            raise BrowserError(f"the browser cannot load {address}: {answer['errorText']}")
        self._connection.wait(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))

    def run(self, script: str) -> Any:
        """Return what an expression of JavaScript gives, or the value of its promise.

        Raises:
            BrowserError: it throws.
        """
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            said = details.get("exception", {}).get("description") or details.get("text")
            raise BrowserError(f"the browser could not draw it: {str(said).splitlines()[0]}")
        return answer["result"].get("value")

    def close(self) -> None:
        """Close the page."""
        self._connection.ask("Target.closeTarget", {"targetId": self._target})
        del self._connection.listeners[self._session]


class _Connection:
    """A WebSocket (RFC 6455) on which a browser answers."""

    def __init__(self, port: int, path: str, patience: float) -> None:
        self._patience = patience
        self.listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._asked = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._socket.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")
        answer = list(iter(self._file.readline, b"\r\n"))
        if not answer or not re.match(rb"HTTP/1.1 101 ", answer[0]):
            raise BrowserError(f"the browser refused the connection: {answer[:1]}")

    def ask(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._asked += 1
        number = self._asked
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        self._send(0x1, json.dumps(message).encode())
        self.wait(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"the browser does not do {method}: {answer['error'].get('message')}")
        return answer["result"]

    def wait(self, done: Callable[[], bool]) -> None:
        """Take in messages until something is true."""
        while not done():
            message = json.loads(self._message())
            if "id" in message:
                self._answers[message["id"]] = message
            elif listen := self.listeners.get(message.get("sessionId", "")):
                listen({"method": message["method"], "params": message["params"]})

    def _send(self, kind: int, data: bytes) -> None:
        size = len(data)
        length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BQ", 0x80 | 127, size)
        if 126 <= size < 1 << 16:
            length = struct.pack("!BH", 0x80 | 126, size)
        mask = secrets.token_bytes(4)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        self._socket.sendall(struct.pack("!B", 0x80 | kind) + length + mask + masked)

    def _message(self) -> bytes:
        return b"".join(self._parts())

    def _parts(self) -> Iterator[bytes]:
        try:
            while True:
                first, second = self._read(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", self._read(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", self._read(8))
                data, kind = self._read(size), first & 0x0F
                if kind == 0x9:  # a ping
                    self._send(0xA, data)
                elif kind == 0x8:
                    raise BrowserError("the browser has closed the connection")
                elif kind <= 0x2:
                    yield data
                    if first & 0x80:
                        return
        except OSError:  # a timeout, or one that was before
            raise BrowserError(f"the browser has not answered for {self._patience:.0f} seconds") from None

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise BrowserError("the browser has ended")
        return data

    def close(self) -> None:
        self._file.close()
        self._socket.close()
