"""Spans of requests and revokes, as OpenTelemetry's own SDK exports them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cephcaps import Client, RequestTimeout
from cephcaps.caps import Caps
from cephcaps.events import (
    CapEvent,
    CapExported,
    CapGranted,
    CapReleased,
    CapRevokeAcked,
    CapRevoking,
    CapStale,
    Event,
    SessionChanged,
)
from cephcaps.otel import Spans
from cephcaps.testing import TestCluster
from cephwire.reply import ClientReply


class Exported:
    """A tracer provider of the test's own, and the spans that have ended."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def failed(self, how: str) -> list[ReadableSpan]:
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if span.attributes and span.attributes.get("error.type") == how]


@pytest.fixture
def exported() -> Iterator[Exported]:
    made = Exported()
    yield made
    made.provider.shutdown()


async def test_a_request_is_a_span_of_its_caller_s(client: Client, exported: Exported) -> None:
    tracer = exported.provider.get_tracer("application")
    with Spans(client, exported.provider), tracer.start_as_current_span("work") as work:
        await client.mkdir("/d")

    [span] = exported.named("mkdir")
    assert span.kind is SpanKind.CLIENT
    assert span.parent is not None
    assert span.parent.span_id == work.get_span_context().span_id
    assert span.attributes is not None
    assert span.attributes["ceph.tid"] > 0  # type: ignore[operator]
    assert {key: value for key, value in span.attributes.items() if key != "ceph.tid"} == {
        "ceph.client": client.global_id,
        "ceph.ino": 1,
        "ceph.path": "d",
        "ceph.rank": 0,
        "ceph.result": 0,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 < span.end_time - span.start_time < 5e9
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "cephcaps"


async def test_callers_that_wait_at_the_same_time_have_their_own(client: Client, exported: Exported) -> None:
    tracer = exported.provider.get_tracer("application")

    async def make(name: str) -> None:
        with tracer.start_as_current_span(name):
            await client.mkdir(f"/{name}")

    with Spans(client, exported.provider):
        await asyncio.gather(*(make(f"work{number}") for number in range(5)))

    callers = {span.context.span_id: span.name for span in exported.named("mkdir") if span.context}
    assert len(callers) == 5
    for span in exported.named("mkdir"):
        assert span.attributes is not None
        [caller] = exported.named(str(span.attributes["ceph.path"]))
        assert span.parent is not None
        assert caller.context is not None
        assert span.parent.span_id == caller.context.span_id


@pytest.mark.misbehaves("the MDS leaves a request without its answer")
async def test_a_failing_request_says_how(cluster: TestCluster, client: Client, exported: Exported) -> None:
    with Spans(client, exported.provider):
        with pytest.raises(FileNotFoundError):
            await client.rmdir("/nowhere")
        cluster.faults.drop(ClientReply)
        with pytest.raises(RequestTimeout):
            await client.mkdir("/d", timeout=0.2)
        cluster.faults.freeze()
        waiting = asyncio.create_task(client.mkdir("/e"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        cluster.faults.thaw()

    [refused] = exported.failed("ENOENT")
    assert refused.status.status_code is StatusCode.ERROR
    [late] = exported.failed("_OTHER")
    assert late.status.status_code is StatusCode.ERROR
    assert "timed out" in str(late.status.description)
    assert late.attributes is not None
    assert "ceph.result" not in late.attributes
    [gone] = exported.failed("cancelled")
    assert gone.status.description == "cancelled"


async def test_a_revoke_is_a_span_until_all_its_bits_are_given(
    client: Client, other: Client, exported: Exported
) -> None:
    with Spans(client, exported.provider):
        async with client.open("/f", "x") as file, file.cap_refs(need="Fw", want="", endoff=10):
            asked = asyncio.create_task(other.stat("/f"))
            await asyncio.sleep(0.4)
            ino = file.ino
        await asked

    spans = exported.named("revoke")
    longest = max(spans, key=lambda span: (span.end_time or 0) - (span.start_time or 0))
    assert longest.kind is SpanKind.SERVER
    assert longest.parent is None
    attributes = longest.attributes
    assert attributes is not None
    assert (attributes["ceph.ino"], attributes["ceph.rank"]) == (ino, 0)
    assert "Fw" in Caps(str(attributes["ceph.caps"]))
    assert {span.attributes["ceph.outcome"] for span in spans if span.attributes} == {"acknowledged"}
    assert len(spans) == client.metrics.revoke_latency[0].count
    took = [((span.end_time or 0) - (span.start_time or 0)) / 1e9 for span in spans]
    assert sum(took) == pytest.approx(client.metrics.revoke_latency[0].seconds, abs=0.1)


def cap_event(kind: type[CapEvent], caps: str, issued: str = "p", ino: int = 7, rank: int = 0) -> CapEvent:
    return kind(ino=ino, rank=rank, caps=Caps(caps), issued=Caps(issued), seq=2)


ENDS: dict[str, list[Event]] = {
    "acknowledged": [cap_event(CapRevokeAcked, "Ax"), cap_event(CapRevokeAcked, "Fx")],
    "granted again": [cap_event(CapRevokeAcked, "Ax"), cap_event(CapGranted, "FxFr")],
    "released": [cap_event(CapReleased, "pAxFx", issued="")],
    "exported": [cap_event(CapExported, "p")],
    "stale": [cap_event(CapStale, "p")],
    "session closed": [SessionChanged(rank=0, state="closed", why="")],
    "session reconnecting": [SessionChanged(rank=0, state="reconnecting", why="")],
}
NO_END: list[Event] = [
    cap_event(CapRevokeAcked, "Ax"),
    cap_event(CapReleased, "As"),
    cap_event(CapRevokeAcked, "AxFx", ino=8),
    cap_event(CapRevokeAcked, "AxFx", rank=1),
    SessionChanged(rank=1, state="closed", why=""),
    SessionChanged(rank=0, state="open", why=""),
]


@pytest.mark.parametrize("outcome", ENDS)
async def test_a_revoke_ends_however_it_ends(client: Client, exported: Exported, outcome: str) -> None:
    spans = Spans(client, exported.provider)
    spans.put([cap_event(CapRevoking, "AxFx")])
    *first, last = ENDS[outcome]
    spans.put(first)
    assert not exported.named("revoke")
    spans.put([last])
    [span] = exported.named("revoke")
    assert span.attributes is not None
    assert span.attributes["ceph.outcome"] == outcome


async def test_a_revoke_does_not_end_with_what_is_not_its_end(client: Client, exported: Exported) -> None:
    spans = Spans(client, exported.provider)
    spans.put([cap_event(CapRevoking, "Ax"), cap_event(CapRevoking, "Fx"), *NO_END])
    assert not exported.named("revoke")
    spans.put([cap_event(CapRevokeAcked, "Fx")])
    [span] = exported.named("revoke")
    assert span.attributes is not None
    assert span.attributes["ceph.caps"] == "AxFx"


async def test_what_is_under_way_when_the_block_ends_ends_with_it(
    cluster: TestCluster, client: Client, exported: Exported
) -> None:
    with Spans(client, exported.provider) as spans:
        cluster.faults.freeze()
        waiting = asyncio.create_task(client.mkdir("/d"))
        await asyncio.sleep(0.1)
        spans.put([cap_event(CapRevoking, "Ax")])
    cluster.faults.thaw()
    await waiting
    assert [len(exported.named(name)) for name in ("mkdir", "revoke")] == [1, 1]
    assert client._running.core.mds.requests.events is None


async def test_a_processor_that_fails_does_not_end_the_client(client: Client, exported: Exported) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: object, parent_context: object = None) -> None:
            raise ValueError("broken")

    exported.provider.add_span_processor(Broken())
    with Spans(client, exported.provider):
        await client.mkdir("/d")
    assert await client.exists("/d")
