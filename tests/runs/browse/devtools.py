"""A headless Chromium driven over the DevTools protocol: a page, its console, clicks, pictures."""

import base64
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.request

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One tab; `logs` is what its console said, `problems` what went wrong in its scripts."""

    def __init__(self, address):
        host, _, path = address.removeprefix("ws://").partition("/")
        name, _, port = host.partition(":")
        self._socket = socket.create_connection((name, int(port)), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            pass
        self._last, self.logs, self.problems = 0, [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """A command of the protocol; returns its result."""
        self._last += 1
        data = json.dumps({"id": self._last, "method": method, "params": parameters}).encode()
        mask = os.urandom(4)
        size = len(data)
        head = b"\x81" + (
            bytes([0x80 | size]) if size < 126
            else b"\xfe" + struct.pack(">H", size) if size < 65536
            else b"\xff" + struct.pack(">Q", size)
        )  # fmt: skip
        whole = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        body = (int.from_bytes(data, "little") ^ whole).to_bytes(size, "little")
        self._socket.sendall(head + mask + body)
        while True:
            message = json.loads(self._message())
            if message.get("id") == self._last:
                assert "error" not in message, message
                return message["result"]
            self._heard(message)

    def _message(self):
        parts, last = [], False
        while not last:
            first, second = self._file.read(2)
            last, size = bool(first & 0x80), second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
            parts.append(self._file.read(size))
        return b"".join(parts)

    def _heard(self, message):
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:2000])
        elif message.get("method") == "Log.entryAdded":
            self.problems.append(json.dumps(parameters["entry"])[:2000])
        elif message.get("method") == "Runtime.consoleAPICalled":
            self.logs.append(json.dumps(parameters["args"])[:2000])
        elif message.get("method") == "Page.javascriptDialogOpening":
            self.problems.append(f"dialog: {parameters}")

    def close(self):
        """Say no more to it."""
        self._file.close()
        self._socket.close()

    def open(self, address):
        """Go to an address, as from outside."""
        self.call("Page.navigate", url=address)

    def run(self, expression):
        """The value of an expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True,
                          returnByValue=True)  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression, seconds=20.0):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):  # between two pages
                value = self.run(f"Boolean({expression})")
                if value:
                    return value
            assert time.monotonic() < end, f"{expression} did not become true: {self.problems}"
            time.sleep(0.02)

    def drag(self, start, end):
        """Press the mouse at a place `(x, y)`, move to another, release."""
        self._mouse("mousePressed", *start)
        for k in range(1, 5):
            at = [a + (b - a) * k / 4 for a, b in zip(start, end)]
            self._mouse("mouseMoved", *at)
        self._mouse("mouseReleased", *end)

    def _mouse(self, kind, x, y):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1,
                  clickCount=1)  # fmt: skip

    def size(self, width, height, *, dark=False):
        """Of the window, and which colours it prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path, *, whole=True):
        """Save what is shown as a PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def chromium(profile):
    """A browser with one tab."""
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        file, end = profile / "DevToolsActivePort", time.monotonic() + 30
        while not (file.exists() and len(file.read_text().splitlines()) == 2):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.05)
        port = file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
        page = Page(tabs[0]["webSocketDebuggerUrl"])
        try:
            yield page
        finally:
            page.close()
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
