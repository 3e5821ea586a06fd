"""Metrics of clients for Prometheus, read when it asks for them. Needs ``pip install cephcaps[prometheus]``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import accumulate
from typing import TypeAlias

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from cephcaps.client import Client
from cephcaps.view import LATENCY_BOUNDS, Latency, Metrics

__all__ = ["Exporter"]

PATIENCE = 3.0
"""Seconds that a client's event loop gets to answer a scrape from another thread; Prometheus gives up after 10."""
LE = (*map(str, LATENCY_BOUNDS), "+Inf")
Found: TypeAlias = list[tuple[int, Metrics]]
"""Metrics by the client's global_id."""
Labels: TypeAlias = tuple[object, ...]

GAUGES = (
    ("inodes", "inodes", "Inodes in the cache"),
    ("dirty", "dirty_inodes", "Inodes changed here and not sent"),
    ("flushing", "flushes_in_flight", "Flushes on their way"),
    ("revoking", "revoking_inodes", "Inodes some bits of which are asked back"),
    ("requests", "requests_in_flight", "Requests not answered, or not known to be durable"),
)
COUNTERS = (
    ("release_messages", "release_messages", "Messages that gave back whole caps"),
    ("caps_released", "caps_released", "Caps given back whole"),
    ("unmatched_replies", "unmatched_replies", "Replies that belong to no request"),
    ("bytes_skipped", "stretches_skipped", "Stretches of received bytes that no schema explained, up to 100"),
)
"""Fields of `Metrics` that are one number, names and meanings."""


class Exporter(Collector):
    """A collector for a registry of prometheus_client: ``REGISTRY.register(Exporter(client))``.

    One serves any number of clients, on whatever loops, and may be asked in any thread. A client counts from when it is
    connected until it is closed.

    Args:
        clients: more may come and go by `add` and `remove`.
    """

    def __init__(self, *clients: Client) -> None:
        self._clients = list(clients)

    def add(self, client: Client) -> None:
        self._clients.append(client)

    def remove(self, client: Client) -> None:
        self._clients.remove(client)

    def describe(self) -> Iterable[Metric]:
        """Names alone, so that a registry notices a second exporter."""
        return _families([], [])

    def collect(self) -> Iterable[Metric]:
        """All families, with the samples of every client whose event loop answers in time."""
        up: list[tuple[Labels, float]] = []
        found: Found = []
        for client in list(self._clients):
            supervisor = client._supervisor
            if supervisor is None or supervisor.closed:
                continue
            metrics = _read(client, supervisor.loop)
            up.append(((client.global_id,), metrics is not None))
            if metrics is not None:
                found.append((client.global_id, metrics))
        return _families(up, found)


def _read(client: Client, loop: asyncio.AbstractEventLoop) -> Metrics | None:
    """``client``'s metrics as they are between two callbacks of its loop; None if that does not answer."""
    try:
        if asyncio.get_running_loop() is loop:
            return client.metrics
    except RuntimeError:
        pass  # in a thread without a loop, as that of prometheus_client's own server
    answer: Future[Metrics] = Future()

    def read() -> None:
        if answer.set_running_or_notify_cancel():
            answer.set_result(client.metrics)

    try:
        loop.call_soon_threadsafe(read)
        return answer.result(PATIENCE)
    except (RuntimeError, TimeoutError):  # the loop is closed, or busy with something else
        answer.cancel()
        return None


def _families(up: list[tuple[Labels, float]], found: Found) -> Iterator[Metric]:
    yield _gauge("up", "Whether the client's event loop answered this scrape", (), up)
    for field, name, meaning in GAUGES:
        yield _gauge(name, meaning, (), [((client,), getattr(m, field)) for client, m in found])
    for field, name, meaning in COUNTERS:
        yield _counter(name, meaning, (), [((client,), getattr(m, field)) for client, m in found])
    caps = (((client, rank), count) for client, m in found for rank, count in m.caps.items())
    yield _gauge("caps", "Caps held", ("rank",), caps)
    sessions = (((client, rank, state), 1) for client, m in found for rank, state in m.sessions.items())
    yield _gauge("session", "1, in the state in which the session with the rank is", ("rank", "state"), sessions)
    late = (((client, kind), n) for client, m in found for kind, n in Counter(x.kind for x in m.late).items())
    yield _gauge("late", "Owed or expected for more than 5 s", ("kind",), late)
    failures = (
        ((client, rank, op, why), count)
        for client, m in found
        for rank, ops in m.request_failures.items()
        for op, whys in ops.items()
        for why, count in whys.items()
    )
    yield _counter("request_failures", "Requests that brought an error", ("rank", "op", "why"), failures)
    requests = (
        ((client, rank, op), latency)
        for client, m in found
        for rank, ops in m.request_latency.items()
        for op, latency in ops.items()
    )
    yield _histogram("request", "From a caller's wish to the first answer", ("rank", "op"), requests)
    revokes = (((client, rank), latency) for client, m in found for rank, latency in m.revoke_latency.items())
    yield _histogram("revoke", "From a revoke until all its bits were given back", ("rank",), revokes)
    flushes = (((client, rank), latency) for client, m in found for rank, latency in m.flush_latency.items())
    yield _histogram("flush", "From a flush to its acknowledgement", ("rank",), flushes)


def _gauge(name: str, meaning: str, labels: tuple[str, ...], samples: Iterable[tuple[Labels, float]]) -> Metric:
    family = GaugeMetricFamily(f"cephcaps_{name}", meaning, labels=("client", *labels))
    for values, value in samples:
        family.add_metric([str(label) for label in values], value)
    return family


def _counter(name: str, meaning: str, labels: tuple[str, ...], samples: Iterable[tuple[Labels, float]]) -> Metric:
    family = CounterMetricFamily(f"cephcaps_{name}", meaning, labels=("client", *labels))
    for values, value in samples:
        family.add_metric([str(label) for label in values], value)
    return family


def _histogram(name: str, meaning: str, labels: tuple[str, ...], samples: Iterable[tuple[Labels, Latency]]) -> Metric:
    family = HistogramMetricFamily(f"cephcaps_{name}_duration_seconds", meaning, labels=("client", *labels))
    for values, latency in samples:
        upto = accumulate(latency.buckets)  # Prometheus counts in each bucket all that is shorter, too
        buckets: list[tuple[str, float]] = list(zip(LE, upto, strict=True))
        family.add_metric([str(label) for label in values], buckets, latency.seconds)
    return family
