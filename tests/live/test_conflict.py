"""Another client wants what we hold changed: it gets our change, at once, and both sides know what was said."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps import Client, Stat, connect
from cephcaps.events import CapEvent, CapFlushed, CapFlushing, CapRevokeAcked, CapRevoking
from cephcaps.file import OpenFile

from .cluster import LiveCluster
from .holding import agree
from .libcephfs import LibcephfsPeer, PeerStat

ALONE = "PYTEST_XDIST_WORKER" not in os.environ
MEDIAN_LIMIT, SLOWEST_LIMIT = (0.010, 1.0) if ALONE else (0.100, 5.0)
"""Seconds. Two libcephfs clients: 1.5 ms and 90 ms, without the pipe to the peer, which is in our figures."""
LONG_AGO = 10**18
BUFFERED = "AxFx"
STORY = [CapRevoking, CapFlushing, CapRevokeAcked, CapFlushed]


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


async def change(client: Client, file: OpenFile, number: int) -> dict[str, int]:
    """Make the file dirty under Ax and Fx; gives what was set. A round before may have taken the bits along: what is
    then asked of the MDS brings them back."""
    for attempt in range(5):
        wanted = {"mode": 0o600 + number % 64, "mtime": LONG_AGO + number * 1_000_000_007 + attempt}
        await file.setattr(**wanted, size=file.size + 1)
        held = client.inode_caps(file.ino)
        assert held is not None
        if BUFFERED in held.dirty:
            return {**wanted, "size": file.size}
    raise AssertionError(f"Ax and Fx do not come back: {held}")


async def interfere(peer: LibcephfsPeer, kind: str, path: str, made: dict[str, int], number: int) -> float:
    """Let the peer do what needs our change; gives the seconds it took, and notes in ``made`` what it has changed."""
    other = {
        "statx": (peer.aio.statx, (), {}),
        "chmod": (peer.aio.chmod, (0o777,), {}),
        "chown": (peer.aio.chown, (number, number + 1), {}),
        "utimes": (peer.aio.utimes, (), {"mtime": 2 * LONG_AGO + number}),
        "truncate": (peer.aio.truncate, (number,), {}),
        "open": (peer.aio.open, (os.O_RDONLY,), {}),
        "write": (peer.aio.open, (os.O_WRONLY,), {}),
    }
    call, args, named = other[kind]
    started = time.perf_counter()
    result = await call(path, *args, **named)
    took = time.perf_counter() - started
    match kind:
        case "statx":
            assert (result.mode & 0o7777, result.mtime, result.size) == (made["mode"], made["mtime"], made["size"])
        case "chmod":
            made["mode"] = 0o777
        case "chown":
            made |= {"uid": number, "gid": number + 1}
        case "utimes":
            made["mtime"] = 2 * LONG_AGO + number
        case "truncate":
            made["size"] = number
            del made["mtime"]  # moves to when the file was cut
        case "open" | "write":
            await peer.aio.close_fd(result)
    return took


def check_story(events: list[Any]) -> None:
    """Asked back, flushed, given back, acknowledged: in this order, each whole, nothing left open."""
    about = [event for event in events if isinstance(event, CapEvent)]
    assert list(dict.fromkeys(type(e) for e in about if type(e) in STORY)) == STORY, about
    flushing = {event.flush_tid: event for event in about if isinstance(event, CapFlushing)}
    flushed = {event.flush_tid: event for event in about if isinstance(event, CapFlushed)}
    assert flushing.keys() == flushed.keys()
    waiting = 0
    for event in about:
        match event:
            case CapRevoking():
                waiting |= int(event.caps)
            case CapRevokeAcked():
                assert int(event.caps) & ~waiting == 0
                waiting &= ~int(event.caps)
            case CapFlushed():
                assert about.index(flushing[event.flush_tid]) < about.index(event)
    assert not waiting


def shown(stat: Stat | PeerStat, made: dict[str, int]) -> dict[str, int]:
    """What ``stat`` says of the fields in ``made``."""
    values = {name: getattr(stat, name) for name in made}
    return {**values, "mode": stat.mode & 0o7777}


@pytest.mark.parametrize("rounds", [320, pytest.param(1000, marks=pytest.mark.soak)])
async def test_conflicts_make_the_other_wait_for_milliseconds_only(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, rounds: int
) -> None:
    kinds = ("statx", "chmod", "statx", "utimes", "chown", "truncate", "open", "write")
    waits: dict[str, list[float]] = {kind: [] for kind in kinds}
    started = time.monotonic()
    async with connect(conf) as client:
        await client.mkdir(f"/conflict-{rounds}")
        for number in range(rounds):
            kind = kinds[number % len(kinds)]
            # Once both have had it open for writing the MDS keeps Fx from both: such rounds take a file each.
            path = f"/conflict-{rounds}/{kind}" + (f"-{number}" if kind in ("open", "write") else "")
            async with client.open(path, "a") as file:
                with client.events(ino=file.ino) as events:
                    made = await change(client, file, number)
                    waits[kind].append(await interfere(peer, kind, path, made, number))
                    await agree(cluster, client, file.ino)
                    check_story(events.drain())
            assert client.metrics.late == ()
            assert shown(await client.stat(path), made) == made, kind
            assert shown(await peer.aio.statx(path), made) == made, kind
        assert (await cluster.aio.mds_admin("dump_ops_in_flight"))["num_ops"] == 0
    every = [wait for some in waits.values() for wait in some]
    for kind, some in {"all": every, **waits}.items():
        print(
            f"{kind:>9}: {len(some):4} rounds, the peer waited {statistics.median(some) * 1e3:5.1f} ms (median), "
            f"{max(some) * 1e3:5.1f} ms (slowest)"
        )
    print(f"{time.monotonic() - started:.1f} s in all")
    assert statistics.median(every) <= MEDIAN_LIMIT
    assert max(every) < SLOWEST_LIMIT
