"""The page of a report: whole by itself, and safe whatever a capture holds."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.trace.report import Gathered, page, report_data
from cephcaps.trace.report.page import SCRIPTS, as_text
from cephwire.session import ClientSession, SessionOp
from tests.trace.rendering import FILE, up
from tests.trace.test_report import gathered, opened, rooted

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>&lt;&amp;",
    "{{script}}{{data}}",
    "\"'`${alert(1)}\\",
    "a\u2028b\u2029c",
    "\u202egnp.exe",
    "\x00\x1b[31m\n",
    "\udcff\udc80",
    "javascript:alert(1)",
)


class Parsed(html.parser.HTMLParser):
    """What a browser would make of a page: its elements, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.style = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "style":
            self.style += data


def named(name: str) -> Gathered:
    """A trace in which a file and a host are called ``name``."""
    opening = ClientSession(SessionOp.REQUEST_OPEN, 0, metadata={"hostname": name})
    return gathered(up(opening), rooted(), opened(name=name))


def parsed(found: Gathered, name: str = "capture.pcapng", **more: Any) -> Parsed:
    return Parsed(page(report_data(found, name, **more)).decode())


PLAIN = parsed(named("plain"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_changes_nothing_but_data(name: str) -> None:
    class Found:
        rule = client = path = what = name
        ino, ns = FILE, 0

    made = parsed(named(name), name, findings=[Found()])
    assert [tag for tag, _ in made.elements] == [tag for tag, _ in PLAIN.elements]
    assert made.scripts[1] == PLAIN.scripts[1]
    assert made.style == PLAIN.style
    data = json.loads(made.scripts[0])
    paths = [inode["path"] for inode in data["inodes"]]
    assert f"/dir/{as_text(name)}" in paths
    assert data["clients"][1]["hostname"] == as_text(name)
    assert data["findings"][0]["what"] == as_text(name)
    assert not re.search("[<>&\u2028\u2029]", made.scripts[0])


@given(st.text())
def test_any_name_of_a_file_of_a_trace_is_escaped(name: str) -> None:
    made = parsed(gathered(), name)
    assert [tag for tag, _ in made.elements] == [tag for tag, _ in PLAIN.elements]
    assert json.loads(made.scripts[0])["file"] == as_text(name)


def test_bytes_that_are_no_text_are_spelled_out() -> None:
    assert as_text("a\udcffb\n\u202e") == "a\\xffb\\n\\u202e"
    assert as_text({"a": ["\x1b"], "b": [1, 2]}) == {"a": ["\\x1b"], "b": [1, 2]}


def test_the_page_loads_nothing() -> None:
    for tag, attributes in PLAIN.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "img")
        assert "src" not in attributes
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    text = page(report_data(named("x"), "x")).decode()
    assert set(re.findall(r"https?://[^\"']*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket|import\(|sendBeacon", text)


def test_its_policy_lets_only_its_own_script_and_style_work() -> None:
    (policy,) = [a["content"] for tag, a in PLAIN.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for text, what in ((PLAIN.scripts[1], "script-src"), (PLAIN.style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{what} 'sha256-{digest}'" in policy


def test_its_script_makes_no_html_of_text() -> None:
    script = PLAIN.scripts[1]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser", script
    )
    assert "</script" not in script
    assert "<!--" not in script


def test_everything_the_script_looks_for_is_there() -> None:
    asked = set(re.findall(r'\$\("([\w-]+)"\)', PLAIN.scripts[1]))
    ids = [a["id"] for _, a in PLAIN.elements if "id" in a]
    assert asked <= set(ids)
    assert len(ids) == len(set(ids))
    targets = {(a.get("href") or "")[1:] for tag, a in PLAIN.elements if tag == "a"}
    assert targets <= set(ids)


def test_what_can_be_operated_has_a_name() -> None:
    text = page(report_data(named("x"), "x")).decode()
    for tag, attributes in PLAIN.elements:
        if tag in ("input", "select"):
            assert re.search(rf'<label>[^<]*<{tag} id="{attributes["id"]}"|<label><{tag} id="{attributes["id"]}"', text)
        if tag == "canvas":
            assert "aria-label" in attributes or attributes.get("aria-hidden") == "true"
    assert "prefers-color-scheme: dark" in PLAIN.style
    assert '<html lang="en">' in text


def test_every_part_of_the_script_is_in_it() -> None:
    folder = files("cephcaps.trace.report") / "assets"
    scripts = {name for one in folder.iterdir() if (name := one.name).endswith(".js")}
    assert scripts == {f"{name}.js" for name in SCRIPTS}
    for name in scripts:
        assert (folder / name).read_text("utf-8") in PLAIN.scripts[1]


def test_paths_of_the_page_are_those_of_the_report() -> None:
    data = json.loads(PLAIN.scripts[0])
    assert "/dir/plain" in {inode["path"] for inode in data["inodes"] if inode["ino"] == f"{FILE:#x}"}
