"""What Prometheus and OpenTelemetry are told while libcephfs contends for what we hold, with the MDS as the judge."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cephcaps import Client, connect
from cephcaps.caps import Caps
from cephcaps.events import CapRevokeAcked, CapRevoking
from cephcaps.otel import Spans
from cephcaps.prometheus import Exporter

from .cluster import LiveCluster
from .holding import agree
from .libcephfs import LibcephfsPeer

ROUNDS = 40
IN_USE = 1.0
"""Seconds for which bits that are asked back stay in use."""


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


class Scraped:
    """What one scrape says of one client."""

    def __init__(self, client: Client) -> None:
        registry = CollectorRegistry(auto_describe=True)
        registry.register(Exporter(client))
        self._client = str(client.global_id)
        self._samples = [
            sample
            for family in text_string_to_metric_families(generate_latest(registry).decode())
            for sample in family.samples
        ]

    def value(self, name: str, **labels: object) -> float:
        """The sum of the samples that have these labels."""
        wanted = {"client": self._client, **{key: str(of) for key, of in labels.items()}}
        return sum(
            s.value for s in self._samples if s.name == f"cephcaps_{name}" and wanted.items() <= s.labels.items()
        )


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


async def test_what_is_told_of_conflicts_is_what_happened(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    async with connect(conf) as client, connect(conf) as other:
        with Spans(client, provider), client.events((CapRevoking, CapRevokeAcked)) as events:
            with tracer.start_as_current_span("work") as work:
                await client.mkdir("/telemetry")
            async with client.open("/telemetry/f", "x") as file:
                for number in range(ROUNDS):
                    await file.setattr(mtime=10**18 + number)
                    await (peer.aio.statx if number % 2 else peer.aio.chmod)(
                        "/telemetry/f", *(() if number % 2 else (0o600 + number,))
                    )
                async with file.cap_refs(need="Fw", want="", endoff=4096):
                    waiting = asyncio.create_task(peer.aio.open("/telemetry/f", os.O_RDONLY))
                    stat = asyncio.create_task(other.stat("/telemetry/f", "Fs"))
                    await asyncio.sleep(IN_USE)
                    held_up = Scraped(client)
                await peer.aio.close_fd(await waiting)
                await stat
                await client.sync()
                await agree(cluster, client, file.ino)
            told = events.drain()
        with pytest.raises(FileNotFoundError):
            await client.unlink("/telemetry/nowhere")
        scraped, metrics = Scraped(client), client.metrics
        session = await cluster.aio.session(client.global_id)
        caps = Scraped(client).value("caps", rank=0)
    provider.shutdown()
    spans = exporter.get_finished_spans()

    # Prometheus: counts are those of events and of the MDS.
    assert metrics.late == ()
    assert session is not None
    assert caps == session["num_caps"] > 0
    assert scraped.value("session", rank=0, state="open") == scraped.value("up") == 1
    assert scraped.value("request_duration_seconds_count", op="create", rank=0) == 1
    assert scraped.value("request_failures_total", why="ENOENT") == 1
    acked = sum(isinstance(event, CapRevokeAcked) for event in told)
    answered = scraped.value("revoke_duration_seconds_count", rank=0)
    assert 0 < answered <= acked
    assert held_up.value("revoking_inodes") == 1
    assert scraped.value("revoking_inodes") == scraped.value("flushes_in_flight") == 0
    slow = answered - scraped.value("revoke_duration_seconds_bucket", rank=0, le=0.5)
    assert slow == 1
    assert IN_USE * 0.9 < scraped.value("revoke_duration_seconds_sum", rank=0) < IN_USE + 5
    assert scraped.value("flush_duration_seconds_count", rank=0) >= ROUNDS / 2

    # OpenTelemetry: a span for each request that was answered meanwhile, and for each revoke.
    [made] = [span for span in spans if span.name == "mkdir"]
    assert made.parent is not None
    assert made.parent.span_id == work.get_span_context().span_id
    assert made.attributes is not None
    assert (made.attributes["ceph.path"], made.attributes["ceph.result"]) == ("telemetry", 0)
    revokes = [span for span in spans if span.name == "revoke"]
    assert len(revokes) == answered
    assert {(span.attributes or {})["ceph.outcome"] for span in revokes} == {"acknowledged"}
    assert {(span.attributes or {})["ceph.ino"] for span in revokes} == {event.ino for event in told}  # type: ignore[union-attr]
    longest = max(revokes, key=seconds)
    assert IN_USE * 0.9 < seconds(longest) < IN_USE + 5
    assert "Fw" in Caps(str((longest.attributes or {})["ceph.caps"]))
    tids = [(span.attributes or {})["ceph.tid"] for span in spans if span.name not in ("revoke", "work")]
    assert len(tids) == len(set(tids))
