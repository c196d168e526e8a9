"""A real browser without a window: Chromium, driven over a pipe by its own protocol (DevTools), without a driver."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next(filter(None, map(shutil.which, NAMES)), None)
WHY_NOT = f"there is no browser: none of {', '.join(NAMES)} is on the path (Debian: apt-get install chromium)"
FLAGS = ("--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
         "--disable-extensions", "--disable-background-networking", "--disable-dev-shm-usage", "--mute-audio")  # fmt: skip
# The protocol's two ends in the browser.
READS, WRITES = 3, 4


class Browser:
    """One tab. ``faults``: everything that the page complained of: exceptions, errors of the console, what the policy refused."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._rest = b""
        self._last = 0
        self.faults: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of this size (CSS pixels), in a light or dark theme."""
        self.faults.clear()
        self.loaded = False
        self._ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Page.navigate", url=path.resolve().as_uri())
        while not self.loaded:
            self._message()

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression. Raises AssertionError when it throws."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def type(self, text: str) -> None:
        """Put the text where the focus is, as a keyboard would."""
        self._ask("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key, such as ``("Enter", 13, "\\r")``."""
        for kind in ("keyDown", "keyUp"):
            self._ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))

    def _ask(self, method: str, **values: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": values}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self._last:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            some = os.read(self._receive, 1 << 20)
            assert some, "the browser has ended"
            self._rest += some
        one, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(one)
        method, told = found.get("method"), found.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.faults.append(told["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.faults.append(json.dumps(told["args"]))
        elif method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(
            ("file:", "data:", "about:")
        ):
            self.faults.append(f"the page asked for {told['request']['url']}")
        return found


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that ends with the block. FOUND has to be there."""
    assert FOUND is not None, WHY_NOT
    there_reads, here_sends = os.pipe()
    here_receives, there_writes = os.pipe()

    def connect() -> None:
        # Above the two numbers first, so that neither end is overwritten.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there_reads, there_writes)]
        for end, number in zip(ends, (READS, WRITES), strict=True):
            os.dup2(end, number)

    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as home:
        words = [FOUND, *FLAGS, f"--user-data-dir={home}"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, preexec_fn=connect, close_fds=False)
        for end in (there_reads, there_writes):
            os.close(end)
        try:
            yield Browser(here_sends, here_receives)
        finally:
            # The browser ends with its pipe.
            for end in (here_sends, here_receives):
                with suppress(OSError):
                    os.close(end)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
