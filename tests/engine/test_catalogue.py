"""The engine's documentation names functions and tests that exist, for every subject of the original."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOC = Path(__file__).parents[2] / "docs" / "engine.md"
SECTIONS = 28
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in DOC.read_text().splitlines()
    if re.match(r"\| \d+ \|", line)
]


def resolve(name: str) -> object:
    """What a dotted name stands for: in a package, or in `cephcaps.engine` or these tests."""
    roots = ("", "cephcaps.engine.", "tests.engine.", "tests.")
    for root in roots:
        words = f"{root}{name}".split(".")
        for cut in range(len(words), 0, -1):
            try:
                found: object = import_module(".".join(words[:cut]))
            except ImportError:
                continue
            try:
                for word in words[cut:]:
                    found = getattr(found, word)
            except AttributeError:
                break
            return found
    raise AssertionError(f"{name} does not exist")


def test_every_subject_is_there() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, SECTIONS + 1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"section-{row[0]}")
def test_every_subject_is_done_and_shown(row: list[str]) -> None:
    for cell in row[2:4]:
        names = re.findall(r"`([^`]+)`", cell)
        assert names, f"section {row[0]} names nothing"
        for name in names:
            resolve(name)
