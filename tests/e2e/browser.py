"""A headless Chromium, driven and watched over the pipe of its DevTools protocol."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

PATIENCE = 90.0
INSTALL = "these tests need Chromium: `apt-get install chromium`, or `chromium` on the PATH"

# Chromium reads commands from 3 and answers on 4, whatever numbers the pipes have here.
WITH_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page. `requests` are the URLs it asked for, `errors` the errors in its console."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []

    def attach(self) -> Self:
        """Open a page and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:  # Any: JSON, as in all of the protocol
        """Send a command and return its result; note the events that come before it."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        self._to.write(json.dumps(command).encode() + b"\0")
        self._to.flush()
        for message in self._messages():
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method"), message.get("params", {}))
        raise AssertionError("Chromium has gone")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.errors}"
            time.sleep(0.05)

    def close(self) -> None:
        self._to.close()
        self._from.close()

    def _messages(self) -> Iterator[dict[str, Any]]:
        text = b""
        while byte := self._from.read(1):
            if byte == b"\0":
                yield json.loads(text)
                text = b""
            else:
                text += byte

    def _note(self, event: str | None, details: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif event == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.errors.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
        elif event == "Runtime.exceptionThrown":
            self.errors.append(str(details["exceptionDetails"]))


@contextmanager
def open_browser(profile: Path, *, host: str) -> Iterator[Browser]:
    """Start a browser that finds `host` on this machine, and no other host at all."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, INSTALL
    read_commands, to_browser = os.pipe()
    from_browser, write_answers = os.pipe()
    arguments = [
        "--headless=new",
        "--no-sandbox",  # its pages are ours, and containers run as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        f"--host-resolver-rules=MAP {host} 127.0.0.1, MAP * ~NOTFOUND",
        "--remote-debugging-pipe",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_PIPES, str(read_commands), str(write_answers), program, *arguments],
        pass_fds=(read_commands, write_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_commands)
    os.close(write_answers)
    browser = Browser(to_browser, from_browser)
    try:
        yield browser.attach()
    finally:
        browser.close()  # Chromium exits when its pipe is closed
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
