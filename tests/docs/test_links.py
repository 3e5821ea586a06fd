"""Pages lead where they say: to files, headings, modules and functions that are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, TOP, anchors, blocks, links

ELSEWHERE = ("http:", "https:", "mailto:")
NAME = re.compile(r"`((?:cephcaps|cephwire)(?:\.\w+)+)(?:\([^`]*\))?`")
FILE = re.compile(r"`((?:cephcaps|protocol|tests|examples|docs)/[\w/.-]+\.\w+)`")
LABELLED = [page for page in PAGES if page.name not in ("replay.md", "performance.md", "telemetry.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(ELSEWHERE):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(TOP), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}: {sorted(anchors(target))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_module_and_function_named_is_there(page: Path) -> None:
    text = page.read_text()
    for path in FILE.findall(text):
        assert (TOP / path).exists(), f"{page.name}: {path}"
    for name in NAME.findall(text):
        assert found(name), f"{page.name}: {name}"


def found(name: str) -> bool:
    """Whether a dotted name is a module, or something in one. Instances' attributes are taken from annotations."""
    words = name.split(".")
    for split in range(len(words), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(words[:split]))
        except ModuleNotFoundError:
            continue
        for word in words[split:]:
            if not hasattr(thing, word):
                return word in getattr(thing, "__annotations__", {})
            thing = getattr(thing, word)
        return True
    return False


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = (TOP / "docs" / "index.md").read_text().split()
    assert [page.stem for page in PAGES[1:] if page.stem != "index" and page.stem not in listed] == []


@pytest.mark.parametrize("page", LABELLED, ids=lambda page: page.name)
def test_every_block_between_fences_says_what_it_is(page: Path) -> None:
    known = {"sh", "console", "python", "text", "html", "indented", "{toctree}", "{eval-rst}"}
    assert [str(block) for block in blocks(page) if block.language not in known] == []


def test_what_is_not_there_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading: `x`\n[a](b.md) and\n```sh\n[no](link)\n```\n[c](#a-heading-x)\n")
    assert list(links(page)) == ["b.md", "#a-heading-x"]
    assert anchors(page) == {"a-heading-x"}
    assert not found("cephcaps.client.Client.no_such")
    assert found("cephcaps.client.Client.stat")
