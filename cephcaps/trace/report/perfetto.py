"""A report as Chrome trace events, which Perfetto and chrome://tracing show.

Each client is a process. Each rank has threads for revokes, flushes and requests: as many as overlap, since slices of
one thread must lie in each other. Caps held are a counter.

Source: "Trace Event Format", the Chromium project; ``ph`` X is a slice, C a counter, M a name; times in microseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final

from cephcaps.trace.report.data import Data
from cephcaps.trace.report.gather import Gathered, Slice

__all__ = ["perfetto"]

MOST_THREADS: Final = 500
"""Of one kind at one rank for one client; what overlaps more is left out."""


def perfetto(gathered: Gathered, data: Data) -> Data:
    """Trace events of what was gathered with ``slices``.

    Args:
        data: what `report_data` made of it.
    """
    threads = _Threads(gathered)
    events = [event for one in _slices(gathered) if (event := threads.event(one)) is not None]
    names = [_named("process_name", client["name"], pid) for pid, client in enumerate(data["clients"]) if pid]
    return {
        "displayTimeUnit": "ms",
        "otherData": {
            "file": data["file"],
            "first_ns": data["first_ns"],
            "left_out": gathered.slices_left_out + threads.left_out,
        },
        "traceEvents": [*names, *threads.names, *events, *_counters(data)],
    }


def _slices(gathered: Gathered) -> Iterator[Slice]:
    """All, by when they begin; what was not over at the end lasts until then."""
    found = list(gathered.slices or ())
    found += (
        Slice("revoke", "unanswered revoke", asked.client, asked.daemon, asked.ino, asked.at, -1)
        for asked in gathered.holdings.outstanding()
    )
    for sent in gathered.waits.unanswered():
        cat = "flush" if sent.what in ("flush", "flushsnap") else "request"
        name = f"unanswered {sent.what} {sent.below}".rstrip()
        found.append(Slice(cat, name, sent.client, sent.daemon, sent.ino, sent.at, -1))
    found.sort(key=lambda one: one.at)
    return iter(found)


class _Threads:
    """Gives each slice a thread in which nothing else goes on."""

    def __init__(self, gathered: Gathered) -> None:
        self.names: list[Data] = []
        self.left_out = 0
        self._gathered = gathered
        self._busy: dict[tuple[int, int, str], list[tuple[int, int]]] = {}
        """By client, daemon and kind: a heap of when each thread is free again, and its number."""
        self._number = 0

    def event(self, one: Slice) -> Data | None:
        took = one.took if one.took >= 0 else self._gathered.end - one.at
        threads = self._busy.setdefault((one.client, one.daemon, one.cat), [])
        if threads and threads[0][0] <= one.at:
            thread = heapq.heapreplace(threads, (one.at + took, threads[0][1]))[1]
        elif len(threads) < MOST_THREADS:
            thread = self._new(one, len(threads))
            heapq.heappush(threads, (one.at + took, thread))
        else:
            self.left_out += 1
            return None
        path = self._gathered.path(one.ino, (one.client,)) if one.ino else ""
        return {
            "ph": "X", "cat": one.cat, "name": one.name, "pid": one.client, "tid": thread, "ts": one.at, "dur": took,
            "args": {"ino": f"{one.ino:#x}", "path": path, "answered": one.took >= 0},
        }  # fmt: skip

    def _new(self, one: Slice, before: int) -> int:
        self._number += 1
        name = f"{self._gathered.ends.daemons[one.daemon].name} {one.cat}s"
        self.names.append(_named("thread_name", f"{name} {before + 1}" if before else name, one.client, self._number))
        return self._number


def _named(what: str, name: str, pid: int, tid: int | None = None) -> Data:
    event: Data = {"ph": "M", "name": what, "pid": pid, "args": {"name": name}}
    return event if tid is None else {**event, "tid": tid}


def _counters(data: Data) -> Iterator[Data]:
    width = data["series"]["width_us"]
    for told in data["series"]["clients"]:
        last: Any = None
        for bin, held in enumerate(told["held"]):
            if held != last:
                last = held
                counted = {"ph": "C", "name": "caps held", "pid": told["client"], "ts": (bin + 1) * width}
                yield {**counted, "args": {"caps": held}}
