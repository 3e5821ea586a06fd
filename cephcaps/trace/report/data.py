"""What a report tells, as plain data: compact for the page, spelled out for JSON.

All times are microseconds since the first message, except ``first_ns`` and ``start_us``, which say when that was.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

import msgspec

from cephcaps.trace.report.durations import MOST, Durations
from cephcaps.trace.report.gather import Gathered, Revoke
from cephcaps.trace.report.holdings import Asked
from cephcaps.trace.report.lanes import ASKED, EVENT_COLUMNS, LANE_COLUMNS, MERGED, Inode
from cephcaps.trace.report.waiting import Waiting
from cephcaps.trace.words import CAPS
from cephcaps.version import VERSION

__all__ = ["Data", "report_data", "spelled_out"]

Data = dict[str, Any]

MOST_UNANSWERED: Final = 500
"""Revokes, and requests and flushes, without an answer that are told; the oldest."""
MOST_FINDINGS: Final = 2000
LONGEST: Final = 1000
"""Characters of a path or of what a finding says."""
OFTEN: Final = 50
"""Inodes in the table of the slowest."""


def report_data(gathered: Gathered, name: str, findings: Iterable[Any] | None = None) -> Data:
    """All that a report tells, ready for `msgspec.json` but for names that are no UTF-8.

    Args:
        name: of the capture.
        findings: of `cephcaps.trace.lint`; None if nobody looked.
    """
    first = gathered.first or 0
    outstanding = gathered.holdings.outstanding()
    for asked in outstanding:  # so that the longest are found first
        inode = gathered.inodes.get(asked.at, asked.client, asked.ino)
        inode.longest = max(inode.longest, gathered.end - asked.at)
    ranked = gathered.inodes.ranked()
    waiting = gathered.waits.unanswered()
    return {
        "version": VERSION,
        "file": name,
        "first_ns": first,
        "start_us": min(first // 1000, 2**52),
        "end_us": gathered.end,
        "clients": [
            {"name": client.name, "heard_us": client.heard, **client.metadata} for client in gathered.ends.clients
        ],
        "daemons": gathered.ends.daemon_names(),
        "kinds": list(gathered.kinds),
        "unanswered": [_unanswered(gathered, asked, waiting) for asked in outstanding[:MOST_UNANSWERED]],
        "unanswered_count": len(outstanding),
        "waiting": [_waiting(gathered, sent) for sent in waiting[:MOST_UNANSWERED]],
        "waiting_count": len(waiting),
        "revokes": _revokes(gathered),
        "took": [{"what": what, **_percentiles(took)} for what, took in sorted(gathered.waits.durations.items())],
        "slowest_inodes": _slowest_inodes(gathered, ranked),
        "inodes": [_inode(gathered, inode) for inode in ranked],
        "series": _series(gathered),
        "marks": [value for mark in gathered.marks for value in mark],
        "findings": None if findings is None else [_finding(found, first) for found in _some(findings)],
        "summary": msgspec.to_builtins(gathered.summary.facts()),
        "limits": {
            "merged_us": gathered.inodes.merged,
            "dropped_inodes": gathered.inodes.dropped,
            "most_events": gathered.inodes.most_events,
            "marks_left_out": gathered.marks_left_out,
        },
    }


def _some(findings: Iterable[Any]) -> list[Any]:
    found = []
    for finding in findings:
        found.append(finding)
        if len(found) >= MOST_FINDINGS:
            break
    return found


def _finding(found: Any, first: int) -> Data:
    rule, ino = found.rule, found.ino
    return {
        "at_us": min(max(found.ns - first, 0) // 1000, MOST),
        "rule": str(getattr(rule, "name", rule)),
        "meaning": str(getattr(rule, "meaning", "")),
        "client": f"client.{found.client}" if isinstance(found.client, int) else str(found.client),
        "ino": "" if ino is None else f"{ino:#x}",
        "path": str(found.path or "")[:LONGEST],
        "what": str(found.what)[:LONGEST],
    }


# Revokes and waits


def _path(gathered: Gathered, ino: int, client: int) -> str:
    return gathered.path(ino, (client,))[:LONGEST]


def _unanswered(gathered: Gathered, asked: Asked, waiting: list[Waiting]) -> Data:
    path = _path(gathered, asked.ino, asked.client)
    return {
        "at_us": asked.at,
        "age_us": gathered.end - asked.at,
        "client": asked.client,
        "daemon": asked.daemon,
        "ino": f"{asked.ino:#x}",
        "path": path,
        "caps": CAPS[asked.lost],
        "seq": asked.seq,
        "waiting": [
            _waiting(gathered, sent)
            for sent in waiting[:MOST_UNANSWERED]
            if sent.client != asked.client and asked.ino == sent.ino and not sent.below
        ],
    }


def _waiting(gathered: Gathered, sent: Waiting) -> Data:
    flow = gathered.ends.clients[sent.client].flow
    below = "" if sent.what in ("flush", "flushsnap") else sent.below
    path = gathered.known.path(flow, sent.ino, below) if flow is not None and sent.ino else below
    return {
        "at_us": sent.at,
        "age_us": gathered.end - sent.at,
        "client": sent.client,
        "daemon": sent.daemon,
        "what": sent.what,
        "tid": sent.tid,
        "ino": f"{sent.ino:#x}",
        "path": path[:LONGEST],
        "caps": sent.below if sent.what in ("flush", "flushsnap") else "",
    }


def _revokes(gathered: Gathered) -> Data:
    return {
        "all": {**_percentiles(gathered.revokes), "counts": gathered.revokes.counts()},
        "of_clients": [{"client": client, **_percentiles(took)} for client, took in gathered.revokes_of.items()],
        "overtaken": gathered.overtaken,
        "slowest": [_slow(gathered, revoke) for revoke in sorted(gathered.slowest, reverse=True)],
    }


def _slow(gathered: Gathered, revoke: Revoke) -> Data:
    return {
        "at_us": revoke.at,
        "took_us": revoke.took,
        "client": revoke.client,
        "daemon": revoke.daemon,
        "ino": f"{revoke.ino:#x}",
        "path": _path(gathered, revoke.ino, revoke.client),
        "caps": CAPS[revoke.lost],
        "seq": revoke.seq,
        "answered_by": revoke.how,
    }


def _percentiles(took: Durations) -> Data:
    told: Data = msgspec.to_builtins(took.percentiles())
    return {key if key == "count" else f"{key}_us": value for key, value in told.items()}


def _slowest_inodes(gathered: Gathered, ranked: list[Inode]) -> list[Data]:
    slow = sorted((one for one in ranked if one.revokes), key=lambda one: one.longest, reverse=True)
    return [
        {
            "ino": f"{inode.ino:#x}",
            "path": _inode_path(gathered, inode),
            "clients": len(inode.lanes),
            "revokes": inode.revokes,
            "unanswered": inode.open,
            "waited_us": inode.waited,
            "longest_us": inode.longest,
        }
        for inode in slow[:OFTEN]
    ]


# Inodes


def _inode_path(gathered: Gathered, inode: Inode) -> str:
    return gathered.path(inode.ino, (inode.client, *inode.lanes))[:LONGEST]


def _inode(gathered: Gathered, inode: Inode) -> Data:
    return {
        "ino": f"{inode.ino:#x}",
        "path": _inode_path(gathered, inode),
        "revokes": inode.revokes,
        "unanswered": inode.open,
        "waited_us": inode.waited,
        "longest_us": inode.longest,
        "lanes": [[client, _differences(lane, LANE_COLUMNS)] for client, lane in inode.lanes.items()],
        "events": _differences(inode.events, EVENT_COLUMNS),
        "gap": [inode.gap, inode.left_out],
    }


def _differences(values: array[int], columns: int) -> list[int]:
    """The same with each time as the difference from the one before, which has fewer digits."""
    told = values.tolist()
    times = told[::columns]
    told[columns::columns] = [later - earlier for earlier, later in pairwise(times)]
    return told


def _series(gathered: Gathered) -> Data:
    series = gathered.series
    bins = gathered.end // series.width + 1
    return {
        "width_us": series.width,
        "clients": [
            {"client": client, "held": series.held(client, bins), **series.counts(client, bins)}
            for client in series.clients()
        ],
    }


# JSON


def spelled_out(data: Data) -> Data:
    """The same for scripts: names where the page has numbers, and objects where it has columns."""
    clients = [client["name"] for client in data["clients"]]
    daemons, kinds = data["daemons"], data["kinds"]

    def named(told: Data) -> Data:
        names = {"client": clients, "daemon": daemons}
        return {
            key: names[key][value] if key in names and isinstance(value, int)
            else [named(one) for one in value] if key == "waiting"
            else value
            for key, value in told.items()
        }  # fmt: skip

    def stretches(lane: list[int]) -> list[Data]:
        return [
            {"at_us": at, "caps": CAPS[held], "wanted_back": CAPS[flags & ASKED - 1], "revoking": bool(flags & ASKED),
             "merged": bool(flags & MERGED)}
            for at, held, flags in _rows(lane, LANE_COLUMNS)
        ]  # fmt: skip

    def event(at: int, kind: int, client: int, way: int, bits: int, more: int, seq: int, waited: int) -> Data:
        return {
            "at_us": at, "type": kinds[kind], "client": clients[client], "daemon": daemons[way >> 1],
            "direction": "to_daemon" if way & 1 else "to_client", "caps": CAPS[bits], "lost_or_dirty": CAPS[more],
            "seq": seq, "waited_us": None if waited < 0 else waited,
        }  # fmt: skip

    def mark(at: int, kind: int, client: int, way: int, seq: int) -> Data:
        return {
            "at_us": at, "type": kinds[kind], "client": clients[client], "daemon": daemons[way >> 1],
            "direction": "to_daemon" if way & 1 else "to_client", "seq": seq,
        }  # fmt: skip

    inodes = [
        {
            **inode,
            "lanes": [{"client": clients[client], "stretches": stretches(lane)} for client, lane in inode["lanes"]],
            "events": [event(*row) for row in _rows(inode["events"], EVENT_COLUMNS)],
            "gap": {"after": inode["gap"][0], "left_out": inode["gap"][1]},
        }
        for inode in data["inodes"]
    ]
    revokes = data["revokes"]
    marks = data["marks"]
    return {
        **data,
        "unanswered": list(map(named, data["unanswered"])),
        "waiting": list(map(named, data["waiting"])),
        "revokes": {
            **revokes,
            "of_clients": list(map(named, revokes["of_clients"])),
            "slowest": list(map(named, revokes["slowest"])),
        },
        "inodes": inodes,
        "series": {**data["series"], "clients": list(map(named, data["series"]["clients"]))},
        "marks": [mark(*marks[at : at + 5]) for at in range(0, len(marks), 5)],
    }


def _rows(values: list[int], columns: int) -> Iterable[list[int]]:
    time = 0
    for at in range(0, len(values), columns):
        time += values[at]
        yield [time, *values[at + 1 : at + columns]]
