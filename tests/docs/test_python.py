"""Every Python block of README.md and docs/*.md runs, on a test cluster of its own."""

from __future__ import annotations

import ast
import asyncio
import inspect
import types
from pathlib import Path
from typing import Any

import pytest

import cephcaps
from cephcaps.testing import TestCluster
from cephcaps.testing.plugin import CephTestCluster
from tests.docs.pages import PAGES, Block, blocks

ELSEWHERE = {"telemetry.md"}
"""Pages whose programs are processes of their own: tests/testing/test_telemetry_docs.py."""
BLOCKS = [
    block for page in PAGES for block in blocks(page) if block.language == "python" and page.name not in ELSEWHERE
]
WHOLE = "asyncio.run("
"""A program that brings its own event loop."""


def program_under_test(conf: Path) -> None:
    """Stands for the reader's own."""

    async def main() -> None:
        async with cephcaps.connect(conf) as client:
            await client.stat("/")

    asyncio.run(main())


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs(block: Block, ceph_test_cluster: CephTestCluster, capsys: pytest.CaptureFixture[str]) -> None:
    source = block.text.replace("/etc/ceph/ceph.conf", str(ceph_test_cluster.conf))
    names: dict[str, Any] = {
        "asyncio": asyncio,
        "cephcaps": cephcaps,
        "conf": ceph_test_cluster.conf,
        "TestCluster": TestCluster,
        "my_program": program_under_test,
    }
    code = compile(source, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if WHOLE not in source and code.co_flags & inspect.CO_COROUTINE:

        async def main() -> None:
            async with asyncio.timeout(30):
                await types.FunctionType(code, names)()

        asyncio.run(main())
    else:
        exec(code, names)
    for name, thing in list(names.items()):
        if name.startswith("test_"):
            thing(ceph_test_cluster)
    if block.page.name == "README.md" and WHOLE in source:
        said = capsys.readouterr().out
        assert said.startswith("33152\n")
        assert [line.partition("(")[0] for line in said.splitlines()[1:]].count("CapFlushing") == 1
        assert len(source.split("\n\n\n")[1].splitlines()) <= 10
