"""Logs: nothing unless the application asks; then whose line it is and of which connection, and never a key."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cephcaps import CephError, Client, connect
from cephcaps.events import SessionChanged
from cephcaps.testing import TestCluster

WRONG = base64.b64encode(struct.pack("<HIIH", 1, 0, 0, 16) + b"\1" * 16).decode()
"""A key (ceph: src/auth/Crypto.h, ``CryptoKey``) that no cluster knows."""
EVENTFUL = """
import asyncio, contextlib, cephcaps
from cephcaps.testing import TestCluster

async def main():
    async with TestCluster() as cluster:
        with contextlib.suppress(cephcaps.CephError):
            async with cephcaps.connect(cluster.conf, record="/dev/full") as client:
                await client.mkdir("/d")
                cluster.faults.cut()
                await client.mkdir("/e")
                await asyncio.sleep(1.2)  # the recording is written, which fails: a warning
                cluster.faults.evict(client.global_id)
                await client.mkdir("/f")
        with contextlib.suppress(cephcaps.CephError):
            async with cephcaps.connect(cluster.conf, mon_host="v2:127.0.0.1:1", timeout=0.5):
                pass

asyncio.run(main())
"""


def run(before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", before + EVENTFUL], capture_output=True, text=True, timeout=60)


def test_nothing_is_printed_unless_asked_for() -> None:
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_printed_is_what_was_asked_for() -> None:
    done = run("import logging; logging.basicConfig()\n")
    assert done.stdout == ""
    [warning] = done.stderr.splitlines()
    assert warning.startswith("WARNING:cephcaps:event='recording.ended' client=")


def test_structlog_configured_for_the_application_s_own_lines_prints_nothing_of_ours() -> None:
    done = run("import structlog; structlog.configure(); structlog.get_logger().info('mine')\n")
    assert "mine" in done.stdout
    assert "cephcaps" not in done.stdout + done.stderr
    assert done.returncode == 0


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged while structlog is configured to write JSON, parsed."""
    found: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = json.loads(record.getMessage())
            if "daemon" not in line:  # else the test cluster's
                found.append(line)

    library, handler = logging.getLogger("cephcaps"), Handler()
    before = library.level
    structlog.configure(
        processors=[
            structlog.stdlib.add_logger_name,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    library.addHandler(handler)
    library.setLevel(logging.DEBUG)
    yield found
    library.removeHandler(handler)
    library.setLevel(before)
    structlog.reset_defaults()


async def test_a_line_says_whose_it_is_and_of_which_connection(
    cluster: TestCluster, lines: list[dict[str, Any]]
) -> None:
    async with connect(cluster.conf) as client:
        peer = str(client.sessions[0].addr)
        cluster.faults.cut(client.global_id)
        await client.mkdir("/d")
        with client.events((SessionChanged,)) as events:
            cluster.faults.stale(client.global_id)
            async with asyncio.timeout(5):
                assert isinstance(changed := await anext(events), SessionChanged)
        assert changed.state == "stale"
        whose = client.global_id
    sessions = [line for line in lines if line["event"].startswith("session.")]
    assert {line["event"] for line in sessions} >= {"session.open", "session.stale", "session.closed"}
    assert all((line["client"], line["peer"], line["rank"]) == (whose, peer, 0) for line in sessions)

    mine = [line for line in lines if line["event"].startswith("connection.") and "rank" in line]
    assert {line["event"] for line in mine} == {"connection.made", "connection.lost", "connection.closed"}
    assert all((line["client"], line["peer"], line["rank"]) == (whose, peer, 0) for line in mine)

    mons = [line for line in lines if line["event"].startswith(("mon.", "connection.")) and "rank" not in line]
    assert mons
    assert all(line["peer"].startswith("v2:127.0.0.1:") for line in mons)
    assert all(line["client"] in (0, whose) and line["logger"] == "cephcaps" for line in lines)


async def test_two_clients_lines_are_told_apart(
    client: Client, other: Client, cluster: TestCluster, lines: list[dict[str, Any]]
) -> None:
    cluster.faults.cut()
    await client.mkdir("/a")
    await other.mkdir("/b")
    lost = [line["client"] for line in lines if line["event"] == "connection.lost" and "rank" in line]
    assert sorted(lost) == sorted([client.global_id, other.global_id])


async def test_no_line_has_a_key(cluster: TestCluster, lines: list[dict[str, Any]]) -> None:
    secrets: list[bytes] = []
    async with connect(cluster.conf) as client:
        tickets = client._running.core.tickets
        assert tickets.key is not None
        cluster.faults.cut()
        await client.mkdir("/d")
        cluster.faults.expire_tickets()
        cluster.faults.cut()
        await client.mkdir("/e")
        secrets += [tickets.key.secret, *(ticket.session_key.secret for ticket in tickets.held.values())]
    with pytest.raises(CephError):
        async with connect(cluster.conf, options={"key": WRONG}, timeout=2):
            pass
    text = json.dumps(lines)
    assert len(secrets) > 2
    assert len(lines) > 10
    for secret in secrets:
        for form in (base64.b64encode(secret).decode().strip("="), secret.hex(), repr(secret)):
            assert form not in text
    keys = re.findall(r"key = (\S+)", next(cluster.conf.parent.glob("*keyring*")).read_text())
    assert keys
    assert not [key for key in (*keys, WRONG) if key.strip("=") in text]
