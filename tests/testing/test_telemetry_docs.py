"""docs/telemetry.md: its programs run as they stand, and its tables leave nothing out."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import msgspec
import pytest

from cephcaps import events
from cephcaps.engine.latency import BOUNDS
from cephcaps.testing import TestCluster
from cephcaps.view import Metrics
from tests.testing.test_prometheus import FAMILIES

PAGE = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
PROGRAMS = dict(re.findall(r"^## (\w+).*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
SAYS = {
    "Events": '"event":"CapFlushed"',
    "Metrics": '"request_latency":{"0":{"getattr":{"count":1',
    "Prometheus": 'cephcaps_request_duration_seconds_count{client="',
    "OpenTelemetry": '"name": "mkdir"',
    "Logs": '"event": "session.open"',
}


def test_every_chapter_has_a_program() -> None:
    assert PROGRAMS.keys() == SAYS.keys() == set(re.findall(r"^## (\w+)", PAGE, re.MULTILINE))


@pytest.mark.parametrize("chapter", SAYS)
async def test_a_program_runs_as_it_stands(cluster: TestCluster, chapter: str) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAMS[chapter],
        env={**os.environ, "CEPH_CONF": str(cluster.conf)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        said = (await program.communicate())[0].decode()
    assert program.returncode == 0, said
    assert SAYS[chapter] in said, said
    if chapter in ("Events", "Metrics", "Logs"):
        assert [json.loads(line) for line in said.splitlines()]


def test_every_event_metric_and_family_is_told_of() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    kinds = [getattr(events, name) for name in events.__all__]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not events.CapEvent:
            assert {kind.__name__, *kind.__struct_fields__} <= named
    assert set(Metrics.__struct_fields__) <= named
    assert {f"{name}_total" if kind == "counter" else name for name, kind in FAMILIES.items()} <= named
    assert f"({len(BOUNDS)} bounds\nfrom {BOUNDS[0] * 1000:.1f} ms to {BOUNDS[-1]:.0f} s)" in PAGE
