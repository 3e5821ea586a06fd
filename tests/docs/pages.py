"""What README.md and docs/*.md hold: blocks of code, commands in them, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAGES", "TOP", "Block", "Command", "anchors", "blocks", "commands", "links"]

TOP = Path(__file__).parents[2]
PAGES = (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))
SHELLS = ("sh", "bash", "console")
PROGRAMS = re.compile(r"(\$ )?([A-Z_]+=\S+ )*(bash|cephcaps|ceph|dumpcap|make|pip|pytest|python3?|tcpdump|uv)( |$)")
"""How a line begins that is a command, in an indented block."""


class Block(NamedTuple):
    """Code between fences, or indented by four spaces."""

    page: Path
    line: int
    """Of its first line of code, counted from 1."""
    language: str
    """As its fence says; "indented" where there is none."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


class Command(NamedTuple):
    """A command that a page tells its reader to run, without the comment behind it."""

    block: Block
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """All blocks of code."""
    fence, language, began = "", "", 0
    lines: list[str] = []
    before = ""
    for number, line in enumerate([*page.read_text().splitlines(), ""], 1):
        if fence:
            if line.strip() == fence:
                yield Block(page, began, language, "\n".join(lines))
                fence, lines = "", []
            else:
                lines.append(line)
        elif found := re.match(r"(`{3,})(.*)", line):
            fence, language, began = found[1], found[2].strip(), number + 1
        elif line.startswith("    ") and (lines or not before):
            began = began if lines else number
            lines.append(line[4:])
        elif lines:
            yield Block(page, began, "indented", "\n".join(lines))
            lines = []
        before = line.strip()
    assert not fence, f"{page.name}: a block that does not end"


def commands(block: Block) -> Iterator[Command]:
    """Of a console block, what stands behind "$"; of an indented one, what begins with a program's name."""
    lines = iter(block.text.splitlines())
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1] + next(lines).lstrip()
        prompted = line.startswith("$ ")
        if block.language in ("sh", "bash"):
            told = bool(line.strip()) and not line.startswith("#")
        elif block.language == "indented":
            told = PROGRAMS.match(line) is not None
        else:
            told = block.language == "console" and prompted
        if told:
            yield Command(block, re.sub(r"\s+# .*", "", line.removeprefix("$ ")).strip())


def _prose(page: Path) -> str:
    """The page without what is in fences."""
    return re.sub(r"(?ms)^(`{3,}).*?^\1$", "", page.read_text())


def links(page: Path) -> Iterator[str]:
    """Where links and pictures of a page lead."""
    prose = re.sub(r"`[^`\n]*`", "", _prose(page))
    yield from re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(page: Path) -> set[str]:
    """What ``#...`` may name: the headings, as GitHub and MyST spell them."""
    headings = re.findall(r"(?m)^#+ (.*)$", _prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
