"""Whatever is public says what it is: names in `__all__`, and the methods and properties of classes among them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import TOP

PUBLIC = (
    "cephcaps",
    "cephcaps.caps",
    "cephcaps.client",
    "cephcaps.data",
    "cephcaps.errors",
    "cephcaps.events",
    "cephcaps.file",
    "cephcaps.namespace",
    "cephcaps.shell.data",
    "cephcaps.snapshots",
    "cephcaps.stat",
    "cephcaps.testing",
    "cephcaps.testing.faults",
    "cephcaps.testing.plugin",
    "cephcaps.trace",
    "cephcaps.trace.lint",
    "cephcaps.trace.replay",
    "cephcaps.view",
    "cephcaps.xattrs",
)
OBVIOUS = {"is_dir", "is_symlink", "parse", "of"}
"""Names that leave nothing to say."""


def undocumented(module: str) -> Iterator[str]:
    home = importlib.import_module(module)
    for name in home.__all__:
        thing = getattr(home, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        if not inspect.getdoc(thing):
            yield name
        members = vars(thing).items() if inspect.isclass(thing) else ()
        for member, value in members:
            plain = inspect.isfunction(value) or isinstance(value, (property, classmethod))
            if plain and not member.startswith("_") and member not in OBVIOUS and not inspect.getdoc(value):
                yield f"{name}.{member}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_docstring(module: str) -> None:
    assert list(undocumented(module)) == []


FILES = [path for folder in ("cephcaps", "protocol/cephwire") for path in sorted((TOP / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert not text or text.startswith(('"""', 'r"""')), path
