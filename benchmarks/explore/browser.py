"""Chromium without a driver: pages are opened, clicked, typed into and looked at by DevTools' protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT = 90.0
"""Seconds for what a page is waited for."""


def program() -> str | None:
    """Where Chromium is; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Tab:
    """A page that is open."""

    def __init__(self, address: str, domains: tuple[str, ...] = ("Page", "Runtime", "Network", "Log")):
        from websockets.sync.client import connect

        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(connect(address, max_size=None, open_timeout=WAIT))
        self._numbers = itertools.count(1)
        self.said: list[dict[str, Any]] = []
        """What the page's console and its network had to say."""
        for domain in domains:
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something by its protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=WAIT))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.said.append(answer)

    def do(self, code: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def close(self) -> None:
        """Say no more to it."""
        self._stack.close()

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Of the window, and whether the system is dark."""
        phone = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str, until: str) -> None:
        """Go there, and wait until an expression holds."""
        self.send("Page.navigate", url=address)
        self.wait(f"location.href !== 'about:blank' && ({until})")

    def wait(self, code: str, seconds: float = WAIT, *, awaited: bool = False) -> float:
        """Until an expression, or what it promises, holds; the seconds that it took."""
        begun = time.perf_counter()
        while True:
            with contextlib.suppress(AssertionError):  # of a page that isn't whole yet
                if self.do(code if awaited else f"!!({code})"):
                    return time.perf_counter() - begun
            assert time.perf_counter() - begun < seconds, f"waited {seconds} s for {code}; the page says:\n{self.text}"
            time.sleep(0.02)

    @property
    def text(self) -> str:
        """All that can be read on the page."""
        return str(self.do("document.body ? document.body.innerText : ''"))

    def sees(self, words: str, seconds: float = WAIT) -> None:
        """Wait until words are on the page."""
        self.wait(f"document.body.innerText.includes({json.dumps(words)})", seconds)

    def click(self, selector: str, place: int = 0) -> None:
        """In the middle of what a selector finds, as a mouse does, once it has come to rest and lies on top there."""
        found = f"document.querySelectorAll({json.dumps(selector)})[{place}]"
        self.front()
        self.wait(found)
        middle = "(r => [r.x + r.width / 2, r.y + r.height / 2])(it.getBoundingClientRect())"
        self.wait(
            f"""(async () => {{
                const it = {found};
                it.scrollIntoView({{block: 'center', behavior: 'instant'}});
                const before = {middle};
                await new Promise(done => setTimeout(done, 50));
                const now = {middle};
                window.atRest = now;
                return `${{before}}` === `${{now}}` && it.contains(document.elementFromPoint(...now));
            }})()""",
            awaited=True,
        )
        x, y = self.do("window.atRest")
        at = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **at)

    def key(self, key: str) -> None:
        """Press a key and let it go."""
        self.front()
        code = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **code)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def front(self) -> None:
        """Before all other tabs: what lies behind draws nothing and has no focus."""
        self.send("Page.bringToFront")

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.send("Input.insertText", text=text)

    def picture(self, path: Path) -> Path:
        """What is to be seen, as a PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path

    @property
    def requested(self) -> list[str]:
        """Addresses that the page asked for."""
        events = (each["params"] for each in self.said if each.get("method") == "Network.requestWillBeSent")
        return [event["request"]["url"] for event in events]

    @property
    def faults(self) -> list[str]:
        """Exceptions of the page's code, and errors that its console told."""
        found = []
        for each in self.said:
            said = each.get("params", {})
            if each.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(said["exceptionDetails"])[:500])
            if each.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
                found.append(json.dumps(said["entry"])[:500])
        return found


class Browser:
    """A running Chromium."""

    def __init__(self, port: int):
        self._at = f"http://127.0.0.1:{port}"
        self.tabs: list[Tab] = []

    def tab(self) -> Tab:
        """A new one in a window of its own, as hidden ones draw nothing and hear no clicks; open as the browser is."""
        with urllib.request.urlopen(f"{self._at}/json/version", timeout=WAIT) as answer:
            asking = Tab(json.load(answer)["webSocketDebuggerUrl"], domains=())
        found = asking.send("Target.createTarget", url="about:blank", newWindow=True)
        asking.close()
        self.tabs.append(Tab(f"{self._at.replace('http', 'ws')}/devtools/page/{found['targetId']}"))
        return self.tabs[-1]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium without a window, on a fresh profile, for as long as it is asked for."""
    found = program()
    assert found is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        own = (f"--user-data-dir={folder}", "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank")
        process = subprocess.Popen([found, *flags, *own], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if at := re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line):
                    break
            else:
                raise AssertionError(f"{found} ended with {process.wait()}")
            running = Browser(int(at[1]))
            yield running
            for tab in running.tabs:
                tab.close()
        finally:
            process.terminate()
            process.wait(WAIT)
