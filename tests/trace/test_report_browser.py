"""The page of a report in a real browser, at three sizes. Needs Chromium; `make soak` runs it.

Chromium is driven by its own protocol over a pipe (``--remote-debugging-pipe``: JSON with a NUL after each message,
read from descriptor 3 and written to 4), so that nothing else has to be installed. CEPHCAPS_SCREENSHOTS names a folder
for pictures of what was seen.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cephcaps.cli import main
from cephcaps.trace.report import page, report_data
from cephwire.caps import CapOp
from tests.trace.rendering import caps, down
from tests.trace.test_replay import LIBCEPHFS
from tests.trace.test_report import FILE, SHARED, gathered, opened, rooted, storm

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-sync", "--remote-debugging-pipe", "--window-size=1500,1900", "--hide-scrollbars",
)  # fmt: skip
USABLE = 3.0
"""Seconds until a page of 100,000 messages has been drawn."""
PATIENCE = 60.0
REVOKED = down(caps(CapOp.REVOKE, SHARED, seq=2), 4)


class Browser:
    """One tab.

    Attributes:
        said: what went to the console, and errors.
    """

    def __init__(self, write: int, read: int) -> None:
        self.said: list[str] = []
        self._write, self._read, self._buffer, self._number = write, read, b"", 0
        self._session = ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        told: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            told["sessionId"] = self._session
        os.write(self._write, json.dumps(told).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            if answer.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                self.said.append(json.dumps(answer["params"]))
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(until - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            self._buffer += os.read(self._read, 1 << 20)
        raw, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(raw)
        return found

    def run(self, script: str) -> Any:
        """What ``script`` gives in the page, once two frames have been drawn."""
        waiting = f"new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done({script}))))"
        told = self.ask("Runtime.evaluate", expression=waiting, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def load(self, file: Path) -> float:
        """Open a page; seconds until it had been drawn."""
        self.ask("Page.navigate", url=file.as_uri())
        until = time.monotonic() + PATIENCE
        while not (ready := self.run("document.documentElement.dataset.readyMs")):
            assert time.monotonic() < until, self.said
        return float(ready) / 1000

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        codes = {"Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            code = codes.get(key, 0)
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self, name: str, of: str = "") -> None:
        """What is seen, or of the page the element ``of``."""
        if folder := os.environ.get("CEPHCAPS_SCREENSHOTS"):
            how: dict[str, Any] = {"format": "png"}
            if of:
                box = f"const r = document.querySelector({of!r}).getBoundingClientRect()"
                size = "{x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: Math.min(r.height, 900), scale: 1}"
                how |= {"clip": self.run(f"(() => {{ {box}; return {size}; }})()"), "captureBeyondViewport": True}
            raw = base64.b64decode(self.ask("Page.captureScreenshot", **how)["data"])
            (Path(folder) / f"{name}.png").write_bytes(raw)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def descriptors() -> None:
        # Via numbers that neither end has: 3 and 4 may be among those of the pipes.
        high = os.dup2(to_read, 100), os.dup2(from_write, 101)
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    words = [CHROMIUM or "", *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        words, preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Browser(to_write, from_read)
    finally:
        process.terminate()
        process.wait(30)
        os.close(to_write)
        os.close(from_read)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile") as opened_tab:
        yield opened_tab


def written(folder: Path, messages: int) -> Path:
    """A page of a trace of so many messages, in which one revoke has no answer."""
    asked = (rooted(), opened(name="</script>"), REVOKED)
    out = folder / f"{messages}.html"
    out.write_bytes(page(report_data(gathered(*asked, *storm(messages)), f"storm-{messages}.pcapng", [])))
    return out


def shown(tab: Browser) -> tuple[float, float]:
    """From when to when, in microseconds."""
    told = tab.run("location.hash")
    values = dict(part.split("=") for part in told[1:].split("&"))
    return float(values["from"]), float(values["to"])


@pytest.mark.parametrize("messages", [100, 10_000, 100_000])
def test_lanes_are_drawn_and_zoom_pans_and_keys_work(tab: Browser, tmp_path: Path, messages: int) -> None:
    took = tab.load(written(tmp_path, messages))
    assert int(tab.run("document.getElementById('lanes').dataset.lanesDrawn")) > 0
    assert int(tab.run("document.getElementById('lanes').dataset.stretchesDrawn")) > 0
    assert "</script>" in tab.run("document.getElementById('verdict').textContent")
    assert "wanted back" in tab.run("document.getElementById('verdict').textContent")
    tab.picture(f"report-{messages}")
    tab.run("document.getElementById('lanes').scrollIntoView({behavior: 'instant'})")
    tab.run("document.getElementById('lanes').focus({preventScroll: true})")

    tab.press("+")
    zoomed = shown(tab)
    begin = time.monotonic()
    for _ in range(5):
        tab.press("+")
        tab.run("0")
    a_frame = (time.monotonic() - begin) / 5
    narrow = shown(tab)
    assert narrow[1] - narrow[0] < (zoomed[1] - zoomed[0]) / 20
    tab.press("ArrowLeft")
    assert shown(tab)[0] < narrow[0]

    place = tab.run("(() => { const r = document.getElementById('lanes').getBoundingClientRect();"
                    " return [r.left, r.top, r.width, r.height]; })()")  # fmt: skip
    x, y = place[0] + place[2] * 0.6, place[1] + 52
    before = shown(tab)
    tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100, modifiers=2)
    after = shown(tab)
    assert before[0] < after[0] < after[1] < before[1]
    tab.mouse("mousePressed", x, y, button="left", clickCount=1)
    tab.mouse("mouseMoved", x + 120, y, button="left", buttons=1)
    tab.mouse("mouseReleased", x + 120, y, button="left", clickCount=1)
    assert shown(tab)[0] < after[0]
    tab.mouse("mouseMoved", x, y)
    assert "at" in tab.run("document.getElementById('tip').textContent")
    tab.picture(f"report-{messages}-zoomed")

    tab.press("0")
    assert shown(tab)[0] == 0
    tab.press("r")
    assert "Wanted back" in tab.run("document.getElementById('detail').textContent")
    tab.press("ArrowDown")
    assert f"ino={FILE:#x}&" not in tab.run("location.hash + '&'")
    tab.press("Enter")
    assert tab.run("document.activeElement.id") == "diagram"
    assert tab.run("document.querySelectorAll('#diagram svg line').length") > 2
    tab.picture(f"report-{messages}-sequence")

    assert tab.said == []
    assert tab.run("document.documentElement.dataset.error ?? ''") == ""
    print(f"{messages} messages: drawn after {took:.2f} s, {a_frame * 1000:.0f} ms from key to picture")
    assert took < USABLE


def test_a_capture_of_libcephfs_is_shown(tab: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of docs/report.md: CEPHCAPS_SCREENSHOTS=docs/images pytest -m soak -k libcephfs_is_shown FILE."""
    capture, out = tmp_path / "libcephfs-pacific.pcapng", tmp_path / "report.html"
    capture.write_bytes(gzip.decompress(LIBCEPHFS.read_bytes()))
    monkeypatch.setenv("CEPHCAPS_SCREENSHOTS", str(Path(os.environ.get("CEPHCAPS_SCREENSHOTS", tmp_path)).absolute()))
    monkeypatch.chdir(tmp_path)
    assert main(["report", capture.name, "-o", str(out)]) == 0
    tab.ask("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    tab.load(out)
    assert "wanted back" in tab.run("document.getElementById('verdict').textContent")
    tab.picture("report-overview")

    find = "const f = document.getElementById('find'); f.value = '/conflicts.1/1'; f.dispatchEvent(new Event('input'))"
    tab.run(f"(() => {{ {find}; }})()")
    tab.run("document.getElementById('lanes').scrollIntoView({behavior: 'instant'})")
    tab.run("document.getElementById('lanes').focus({preventScroll: true})")
    tab.press("r")
    for _ in range(8):
        tab.press("-")
    assert int(tab.run("document.getElementById('lanes').dataset.stretchesDrawn")) > 0
    tab.picture("report-lanes", "#who")
    tab.press("Enter")
    assert tab.run("document.querySelectorAll('#diagram svg line').length") > 2
    tab.picture("report-sequence", "#sequence")
    assert tab.said == []


def test_nothing_out_of_a_capture_runs(tab: Browser, tmp_path: Path) -> None:
    name = "</script><img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
    out = tmp_path / "hostile.html"
    out.write_bytes(page(report_data(gathered(rooted(), opened(name=name), REVOKED), name)))
    tab.load(out)
    assert "ran" not in tab.run("document.title").split("Caps in")[0]
    assert tab.run("document.images.length") == 0
    assert name in tab.run("document.getElementById('detail').textContent")
    # Even what did get in would not run: the policy knows the one script by its hash.
    tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert tab.run("window.ran ?? 0") == 0


def test_dark_is_drawn_dark(tab: Browser, tmp_path: Path) -> None:
    tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    tab.load(written(tmp_path, 100))
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    tab.picture("report-dark")
    assert tab.said == []
