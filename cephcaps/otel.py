"""Spans of a client's requests and of revokes for OpenTelemetry. Needs ``pip install cephcaps[otel]``."""

from __future__ import annotations

import asyncio
import errno
import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer

from cephcaps.caps import Caps
from cephcaps.client import Client
from cephcaps.events import (
    CapEvent,
    CapExported,
    CapGranted,
    CapReleased,
    CapRevokeAcked,
    CapRevoking,
    CapStale,
    Event,
    RequestEnded,
    RequestStarted,
    SessionChanged,
)
from cephcaps.version import VERSION

__all__ = ["Spans"]

NO_PARENT = Context()


@dataclass(slots=True)
class _Revoke:
    """A revoke that is waited for: the bits asked back, and those of them that are not given back yet."""

    span: Span
    asked: Caps
    left: Caps


class Spans:
    """Makes spans while its ``with`` block lasts: ``with Spans(client): ...``.

    A request's is named after its op and lasts from when its caller asks until he is answered or has gone; whatever
    span is current where he asks is its parent. A revoke's is named "revoke" and lasts from its arrival until all its
    bits are given back, or nobody waits for them any more; it has no parent. docs/telemetry.md has their attributes.

    Args:
        client: connected.
        tracer_provider: the application's if not said.
    """

    requests = True

    def __init__(self, client: Client, tracer_provider: TracerProvider | None = None) -> None:
        self._client = client
        self._tracer = get_tracer("cephcaps", VERSION, tracer_provider)
        self._asked: dict[int, Span] = {}
        self._revokes: dict[tuple[int, int], _Revoke] = {}

    def __enter__(self) -> Self:
        self._client._running.listen(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._client._running.unlisten(self)
        self.end()

    # What the client tells

    def put(self, events: Sequence[Event]) -> None:
        now = time.time_ns()
        for event in events:
            try:
                self._take(event, now)
            except Exception as error:  # a span processor of the application's must not end the client
                self._client._running.log.warn("span.failed", error=repr(error))

    def end(self) -> None:
        """End the spans that nothing more will be heard of."""
        now = time.time_ns()
        for span in self._asked.values():
            span.end(now)
        for rank, ino in list(self._revokes):
            self._over(rank, ino, "unheard", now)
        self._asked.clear()

    def _take(self, event: Event, now: int) -> None:
        match event:
            case RequestStarted():
                self._started(event, now)
            case RequestEnded():
                self._ended(event, now)
            case CapRevoking():
                self._revoking(event, now)
            case CapRevokeAcked():
                self._given(event, "acknowledged", now)
            case CapGranted():
                self._given(event, "granted again", now)
            case CapReleased() if not event.issued:
                self._over(event.rank, event.ino, "released", now)
            case CapExported():
                self._over(event.rank, event.ino, "exported", now)
            case CapStale():
                self._over(event.rank, event.ino, "stale", now)
            case SessionChanged() if event.state not in ("open", "closing"):
                for rank, ino in list(self._revokes):
                    if rank == event.rank:
                        self._over(rank, ino, f"session {event.state}", now)

    # Requests

    def _started(self, event: RequestStarted, now: int) -> None:
        # Outside a task it is no caller who asks, and the current span that of whoever connected.
        parent = NO_PARENT if asyncio.current_task() is None else None
        self._asked[event.tid] = self._tracer.start_span(
            event.op,
            parent,
            SpanKind.CLIENT,
            {
                "ceph.client": self._client.global_id,
                "ceph.tid": event.tid,
                "ceph.ino": event.ino,
                "ceph.path": event.path,
            },
            start_time=now,
        )

    def _ended(self, event: RequestEnded, now: int) -> None:
        span = self._asked.pop(event.tid, None)
        if span is None:
            return  # it began before we listened
        span.set_attribute("ceph.rank", event.rank)
        if event.result is None:
            span.set_attribute("error.type", "cancelled" if event.error == "cancelled" else "_OTHER")
            span.set_status(Status(StatusCode.ERROR, event.error))
        else:
            span.set_attribute("ceph.result", event.result)
            if event.result:
                span.set_attribute("error.type", errno.errorcode.get(-event.result, str(event.result)))
                span.set_status(Status(StatusCode.ERROR))
        span.end(now)

    # Revokes

    def _revoking(self, event: CapRevoking, now: int) -> None:
        revoke = self._revokes.get((event.rank, event.ino))
        if revoke is not None:  # more is asked back before the first is given
            revoke.asked |= event.caps
            revoke.left |= event.caps
            revoke.span.set_attribute("ceph.caps", str(revoke.asked))
            return
        attributes: dict[str, int | str] = {
            "ceph.client": self._client.global_id,
            "ceph.ino": event.ino,
            "ceph.rank": event.rank,
            "ceph.caps": str(event.caps),
            "ceph.seq": event.seq,
        }
        span = self._tracer.start_span("revoke", NO_PARENT, SpanKind.SERVER, attributes, start_time=now)
        self._revokes[event.rank, event.ino] = _Revoke(span, event.caps, event.caps)

    def _given(self, event: CapEvent, outcome: str, now: int) -> None:
        """Of these bits nothing more is waited for."""
        revoke = self._revokes.get((event.rank, event.ino))
        if revoke is not None:
            revoke.left -= event.caps
            if not revoke.left:
                self._over(event.rank, event.ino, outcome, now)

    def _over(self, rank: int, ino: int, outcome: str, now: int) -> None:
        revoke = self._revokes.pop((rank, ino), None)
        if revoke is not None:
            revoke.span.set_attribute("ceph.outcome", outcome)
            revoke.span.end(now)
