"""What is counted, told and logged of a client's work: latencies, failures, requests, log lines."""

from __future__ import annotations

import asyncio
import bisect
import errno

import pytest

from cephcaps import Client, RequestTimeout, SessionLost, connect
from cephcaps.events import (
    CapEvent,
    CapFlushed,
    CapRevokeAcked,
    CapRevoking,
    RequestEnded,
    RequestEvent,
    RequestStarted,
)
from cephcaps.testing import TestCluster
from cephcaps.view import LATENCY_BOUNDS
from cephwire.reply import ClientReply


async def test_requests_revokes_and_flushes_are_timed(client: Client, other: Client) -> None:
    assert client.metrics.flush_latency[0].count == client.metrics.revoke_latency[0].count == 0

    with client.events((CapRevoking, CapRevokeAcked, CapFlushed)) as events:
        async with client.open("/f", "x") as file:
            await file.setattr(mtime=10**18)
            await other.stat("/f")
            await client.sync()
    metrics = client.metrics

    create = metrics.request_latency[0]["create"]
    assert create.count == sum(create.buckets) == 1
    assert 0 < create.seconds < 5
    kinds = [type(event) for event in events.drain()]
    assert metrics.revoke_latency[0].count == kinds.count(CapRevokeAcked) > 0
    assert metrics.flush_latency[0].count == kinds.count(CapFlushed) > 0
    assert metrics.revoke_latency[0].seconds < metrics.flush_latency[0].seconds < 10
    assert metrics.sessions == {0: "open"}
    assert metrics.request_failures == {}


async def test_a_revoke_takes_as_long_as_its_bits_are_in_use(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as file:
        async with file.cap_refs(need="Fw", want="", endoff=10):
            asked = asyncio.create_task(other.stat("/f"))
            await asyncio.sleep(0.4)
            answered = client.metrics.revoke_latency[0]
            assert answered.seconds < 0.1  # of the bits that were not in use
        await asked
    latency = client.metrics.revoke_latency[0]
    assert 0.25 < latency.seconds < 5
    assert sum(latency.buckets[bisect.bisect(LATENCY_BOUNDS, 0.1) :]) == 1


@pytest.mark.misbehaves("the MDS leaves a request without its answer")
async def test_a_failure_is_counted_by_what_it_was(cluster: TestCluster, client: Client) -> None:
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            await client.unlink("/nowhere")
    cluster.faults.drop(ClientReply)
    with pytest.raises(RequestTimeout):
        await client.mkdir("/d", timeout=0.2)

    failures = client.metrics.request_failures
    assert failures[0]["mkdir"] == {"RequestTimeout": 1}
    assert sum(why.get("ENOENT", 0) for why in failures[0].values()) == 2
    assert "mkdir" not in client.metrics.request_latency[0]


async def test_every_request_is_told_of_when_it_begins_and_when_it_ends(client: Client) -> None:
    with client.events((RequestEvent,)) as events, client.events() as others:
        await client.mkdir("/d")
        with pytest.raises(FileNotFoundError):
            await client.rmdir("/nowhere")
    told = events.drain()

    assert not any(isinstance(event, RequestEvent) for event in others.drain())
    started = {event.tid: event for event in told if isinstance(event, RequestStarted)}
    ended = {event.tid: event for event in told if isinstance(event, RequestEnded)}
    assert [type(event) for event in told] == [RequestStarted, RequestEnded] * len(started)
    made = next(event for event in ended.values() if event.op == "mkdir")
    assert (made.rank, made.result, made.error, made.ino, made.path) == (0, 0, "", 1, "d")
    assert list(ended.values())[-1].result == -errno.ENOENT
    assert client.metrics.requests == 0 or not client.metrics.late


async def test_a_request_whose_caller_goes_ends_as_cancelled_and_once(cluster: TestCluster, client: Client) -> None:
    cluster.faults.freeze()
    with client.events((RequestEvent,), ino=1) as events:
        waiting = asyncio.create_task(client.mkdir("/d"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        cluster.faults.thaw()
        await client.mkdir("/e")
        told = [event for event in events.drain() if isinstance(event, RequestEnded)]
    assert [(event.path, event.result, event.error) for event in told] == [("d", None, "cancelled"), ("e", 0, "")]
    assert client.metrics.request_failures == {}


async def test_nothing_is_noted_for_nobody(client: Client) -> None:
    core = client._running.core.mds
    assert core.requests.events is core.engine.cache.events is None
    with client.events((CapEvent,)):
        assert core.requests.events is None
        assert core.engine.cache.events is not None
        with client.events((RequestStarted,)):
            assert core.requests.events is core.engine.cache.events
        assert core.requests.events is None
    assert core.engine.cache.events is None


async def test_what_nobody_has_answered_ends_with_the_client(cluster: TestCluster) -> None:
    client = await connect(cluster.conf).__aenter__()
    with client.events((RequestEvent,)) as events:
        cluster.faults.freeze()
        waiting = asyncio.create_task(client.mkdir("/d"))
        await asyncio.sleep(0.1)
        await client._running.close(0.2)
        with pytest.raises(SessionLost, match="closed"):
            await waiting
    told = events.drain()
    assert [type(event) for event in told] == [RequestStarted, RequestEnded]
    assert isinstance(told[-1], RequestEnded)
    assert told[-1].result is None
    assert "closed" in told[-1].error
