"""The server of `activjax serve`: this machine only, looking only."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import threading
import urllib.parse
from collections import OrderedDict
from pathlib import Path
from typing import Any

from activjax.runs.browse._routes import Answer, Routes
from activjax.runs.errors import StorageError

HOST, PORT = "127.0.0.1", 6170
_SECONDS = 30.0  # for a request
_SMALL = 1400  # bytes, not worth compressing
_POLL = 0.05  # seconds until a server that is closed has noticed
_KEPT = 16  # compressed answers
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# a run's own files may hold anything: shown without scripts, as if they came from nowhere
_FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # always asked, answered by 304 where nothing has changed
    "Vary": "Accept-Encoding",
}


class Server:
    """A page over a folder of runs, served to this machine until it is closed.

    Args:
        root: the folder of all runs.
        port: 0 takes any that is free; None takes `PORT`, or any if that is taken.

    Raises:
        StorageError: no such folder, or the port is taken.
    """

    def __init__(self, root: str | Path, port: int | None = None):
        root = Path(root)
        if not root.is_dir():
            raise StorageError(f"{root}: expected the folder that holds all runs")
        self._http = _bound(port)
        self._http.routes = Routes(root)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(_POLL,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._http.server_address[1]

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.port}/"

    def wait(self) -> None:
        """Until it is closed, or a signal."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    def close(self) -> None:
        """Answer nothing more."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Http(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    routes: Routes

    def __init__(self, address: tuple[str, int]):
        super().__init__(address, _Handler)
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def compressed(self, tag: str, body: bytes) -> bytes:
        """The body by gzip; without times, so that equal bodies are equal."""
        found = self._kept.pop(tag, None) or gzip.compress(body, 5, mtime=0)
        self._kept[tag] = found
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that has gone away is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "activjax", ""
    timeout = _SECONDS
    server: _Http

    def do_GET(self) -> None:
        problem = self._refused()
        if problem is not None:
            return self._fail(*problem)
        target = _target(self.path)
        answer = None if target is None else self.server.routes.answer(*target)
        return self._fail(404, "Not found") if answer is None else self._send(answer)

    do_HEAD = do_GET

    def _refused(self) -> tuple[int, str] | None:
        port = self.server.server_address[1]
        hosts = {f"{name}:{port}" for name in (HOST, "localhost", "[::1]")}
        found = self.headers.get_all("Host") or []
        # a name of somebody else's that leads to this machine (DNS rebinding) is not ours
        if len(found) != 1 or found[0].lower() not in hosts:
            return 403, f"Expected a Host header of {HOST}:{port}"
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return 403, "Asked for by another site's page"
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            return 400, "Expected a request without a body"
        return None

    def _send(self, answer: Answer) -> None:
        tag = f'"{hashlib.sha256(answer.body).hexdigest()[:24]}"'
        wanted = self.headers.get("If-None-Match", "")
        same = tag in (part.strip().removeprefix("W/") for part in wanted.split(","))
        packed = (
            len(answer.body) > _SMALL
            and answer.type != "image/png"
            and "gzip" in self.headers.get("Accept-Encoding", "")
        )
        self.send_response(304 if same else 200)
        self._head(_POLICY if answer.file is None else _FILE_POLICY)
        self.send_header("ETag", tag)
        if same:
            self.end_headers()
            return
        body = self.server.compressed(tag, answer.body) if packed else answer.body
        charset = "; charset=utf-8" if not answer.type.startswith("image/") else ""
        self.send_header("Content-Type", answer.type + charset)
        self.send_header("Content-Length", str(len(body)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        if answer.type == "application/octet-stream":
            self.send_header("Content-Disposition", "attachment")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self._head(_FILE_POLICY)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, policy: str) -> None:
        self.send_header("Content-Security-Policy", policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As all other failures; nothing of the request comes back in it."""
        self.requestline = getattr(self, "requestline", "")
        if not hasattr(self, "request_version"):
            self.request_version = "HTTP/1.1"
        self.command = getattr(self, "command", None) or "GET"
        self._fail(405 if code == 501 else code, "Only GET and HEAD of short paths are answered")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""


def _target(path: str) -> tuple[list[str], dict[str, str]] | None:
    """The names of a request's path, decoded once, and its query; None if it is not plain."""
    path, _, query = path.partition("?")
    if not path.startswith("/") or "#" in path or not path.isascii() or len(path) > 4096:
        return None
    try:
        parts = [urllib.parse.unquote(part, errors="strict") for part in path[1:].split("/")]
        words = dict(urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=8))
    except (UnicodeDecodeError, ValueError):
        return None
    return parts, words


def _bound(port: int | None) -> _Http:
    try:
        return _Http((HOST, PORT if port is None else port))
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return _Http((HOST, 0))
        raise StorageError(f"port {port}: cannot be listened on ({error.strerror})") from error
    except OverflowError as error:
        raise StorageError(f"port {port}: expected a number from 0 to 65535") from error
