"""Whatever goes wrong: what begins is told to end, once, and counts are those of what was told."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cephcaps import connect
from cephcaps.events import CapEvent, CapFlushed, CapRevokeAcked, RequestEnded, RequestEvent, RequestStarted
from cephcaps.otel import Spans
from cephcaps.testing import TestCluster, simulate
from tests.testing.test_simulation import break_things, work


async def story(seed: int) -> None:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with TestCluster() as cluster, connect(cluster.conf) as one, connect(cluster.conf) as two:
        with (
            one.events((CapEvent, RequestEvent), limit=1_000_000) as events,
            Spans(one, provider) as spans,
        ):
            before = one.metrics
            breaking = asyncio.create_task(break_things(cluster, (one, two), Random(seed)))
            await asyncio.gather(work(one, Random(seed), "one"), work(two, Random(seed + 1), "two"))
            breaking.cancel()
            await asyncio.gather(breaking, return_exceptions=True)
            cluster.faults.thaw()
            await one.sync()
            await asyncio.sleep(120)
            metrics, told = one.metrics, events.drain()
            assert not spans._asked
            assert not spans._revokes
    started = [event.tid for event in told if isinstance(event, RequestStarted)]
    ended = [event for event in told if isinstance(event, RequestEnded)]
    assert started == sorted(set(started))
    assert sorted(event.tid for event in ended) == started
    assert metrics.late == ()

    answered = Counter(event.op for event in ended if event.result is not None)
    counted = {op: latency.count for op, latency in metrics.request_latency[0].items()}
    earlier = {op: latency.count for op, latency in before.request_latency[0].items()}
    assert {op: count - earlier.get(op, 0) for op, count in counted.items() if count > earlier.get(op, 0)} == answered
    failed = sum(bool(event.result) for event in ended)
    whys = [whys for ops in metrics.request_failures.values() for whys in ops.values()]
    assert sum(count for each in whys for count in each.values()) == failed

    flushed = {event.flush_tid for event in told if isinstance(event, CapFlushed)}
    assert metrics.flush_latency[0].count >= len(flushed) > 0
    assert metrics.revoke_latency[0].count <= sum(isinstance(event, CapRevokeAcked) for event in told)

    finished = exporter.get_finished_spans()
    assert Counter(span.name for span in finished if span.name != "revoke") == Counter(event.op for event in ended)
    outcomes = Counter((span.attributes or {})["ceph.outcome"] for span in finished if span.name == "revoke")
    assert outcomes["acknowledged"] == metrics.revoke_latency[0].count > 0
    assert outcomes["unheard"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_begins_ends_once_and_is_counted(seed: int) -> None:
    simulate(lambda: story(seed), seed=seed)
