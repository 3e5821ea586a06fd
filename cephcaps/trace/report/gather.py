"""Takes in a trace, message by message, and keeps what a report tells of it; memory is bounded."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from cephcaps.trace.fields import op_of
from cephcaps.trace.items import Item, Traced
from cephcaps.trace.known import Known, Learned
from cephcaps.trace.report.durations import MOST, Durations
from cephcaps.trace.report.ends import Ends
from cephcaps.trace.report.holdings import Asked, Holdings, How
from cephcaps.trace.report.inodes import Inodes
from cephcaps.trace.report.lanes import ASKED, Event
from cephcaps.trace.report.series import Series
from cephcaps.trace.report.waiting import Waiting, Waits
from cephcaps.trace.selection import inodes
from cephcaps.trace.summary import Summary
from cephcaps.trace.table import label
from cephcaps.trace.words import CAPS
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.lease import ClientLease
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import ClientRequest
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import ClientSnap

__all__ = ["Gathered", "Mark", "Revoke", "Slice"]

MOST_KINDS: Final = 1000
"""Types with their ops; a made-up message may have any."""
MOST_MARKS: Final = 5000
MOST_REVOKES: Final = 200
"""The slowest, and those that did not end with an answer."""
MOST_SLICES: Final = 500_000
MOST_OF_A_MESSAGE: Final = 10_000
"""Inodes of one message that are followed."""
LONGEST: Final = 512
"""Characters of a request's path."""
UNTOLD: Final = frozenset((SessionOp.REQUEST_RENEWCAPS, SessionOp.RENEWCAPS))
ANSWERS: Final = frozenset(("caps", "request", "caprelease"))
FLUSH_ACKS: Final = frozenset((CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK))


class Mark(NamedTuple):
    """A message about a session."""

    at: int
    kind: int
    client: int
    way: int
    seq: int


class Revoke(NamedTuple):
    """A revoke that is over. The longer the greater."""

    took: int
    at: int
    client: int
    daemon: int
    ino: int
    lost: int
    seq: int
    how: How


class Slice(NamedTuple):
    """Something that took its time."""

    cat: str
    """``revoke``, ``flush`` or ``request``."""
    name: str
    client: int
    daemon: int
    ino: int
    at: int
    took: int
    """-1 if it was not over at the end."""


class Gathered:
    """What has been gathered; the Watcher of its own `Holdings`.

    Args:
        slices: keep every revoke, flush and request too, as far as there is room.
    """

    def __init__(self, *, slices: bool = False) -> None:
        self.first: int | None = None
        """Nanoseconds of the first message: all other times are microseconds since then."""
        self.end: int = 0
        self.summary: Summary = Summary()
        self.known: Known = Known()
        self.ends: Ends = Ends()
        self.holdings: Holdings = Holdings(self)
        self.inodes: Inodes = Inodes()
        self.series: Series = Series()
        self.waits: Waits = Waits()
        self.revokes: Durations = Durations()
        self.revokes_of: dict[int, Durations] = {}
        """By client."""
        self.slowest: list[Revoke] = []
        """A heap of those answered."""
        self.overtaken: dict[How, int] = {}
        """How many ended otherwise."""
        self.marks: list[Mark] = []
        self.marks_left_out: int = 0
        self.kinds: dict[str, int] = {}
        self.slices: list[Slice] | None = [] if slices else None
        self.slices_left_out: int = 0
        self._kind = self._way = 0

    def take(self, item: Item) -> None:
        """Take in the next item of the trace."""
        if not isinstance(item, Traced):
            self.summary.problem(item)
            return
        self.summary.message(item)
        if self.first is None:
            self.first = item.ns
        if item.message is None or item.resent:
            return
        learned = self.known.take(item)
        if (taken := _TAKEN.get(type(item.message))) is not None:
            at = self._at(item.ns)
            client, daemon = self.ends.of(item.flow)
            self._way = 2 * daemon + item.to_daemon
            self._kind = self._number(label(item))
            if item.to_daemon:
                self.ends.clients[client].heard = at
            taken(self, at, client, daemon, item, item.message, learned)

    def _at(self, ns: int) -> int:
        # A connection that is opened only later may have messages from before the first.
        at = min(max(ns - (self.first or 0), 0) // 1000, MOST)
        self.end = max(self.end, at)
        return at

    def take_all(self, items: Iterable[Item]) -> None:
        for item in items:
            self.take(item)

    # Messages

    def _client_caps(self, at: int, client: int, daemon: int, item: Traced, m: ClientCaps, learned: Learned) -> None:
        waited = -1 if learned.waited is None else learned.waited // 1000
        more = m.dirty if item.to_daemon else (learned.had or 0) & ~m.caps
        tid = item.header.tid
        if not item.to_daemon and m.op in FLUSH_ACKS:
            more = m.dirty
            done = self.waits.flushed(at, client, tid)
            waited = -1 if done is None else at - done.at
            if done is not None:
                self._slice("flush", f"{done.what} {done.below}", client, daemon, m.ino, done.at, at - done.at)
        elif item.to_daemon and tid and (m.dirty or m.op == CapOp.FLUSHSNAP):
            what = "flushsnap" if m.op == CapOp.FLUSHSNAP else "flush"
            self.waits.flush(Waiting(client, daemon, tid, what, m.ino, CAPS[m.dirty], at))
        elif not item.to_daemon and m.op in (CapOp.GRANT, CapOp.IMPORT):
            self.series.count(at, client, "granted")
        if item.to_daemon and m.op in (CapOp.DROP, CapOp.RELEASE):
            self.series.count(at, client, "released")
        self._event(at, client, m.ino, m.caps, more, m.seq, waited)
        self.holdings.client_caps(at, client, daemon, m, item.to_daemon)

    def _request(self, at: int, client: int, daemon: int, item: Traced, m: ClientRequest, learned: Learned) -> None:
        self.series.count(at, client, "requests")
        below = m.path.path[:LONGEST]
        self.waits.request(Waiting(client, daemon, item.header.tid, str(op_of(m)), m.path.ino, below, at))
        kept = {release.ino: release.caps for release in m.releases}
        for ino in _few({ino: None for ino in inodes(m) if ino}):
            self._event(at, client, ino, kept.get(ino, 0), 0, item.header.tid, -1)
        self.holdings.request(at, client, daemon, m)

    def _reply(self, at: int, client: int, daemon: int, item: Traced, m: ClientReply, learned: Learned) -> None:
        sent, first = self.waits.reply(at, client, item.header.tid, bool(m.safe))
        waited = -1 if sent is None else at - sent.at
        told = {inode.ino: inode.cap.caps for inode in _issuing(m)}
        if sent is not None and sent.ino:
            told.setdefault(sent.ino, 0)
        for ino in _few(told):
            self._event(at, client, ino, told[ino], 0, item.header.tid, waited)
        if sent is not None and first:
            self._slice("request", f"{sent.what} {sent.below}".rstrip(), client, daemon, sent.ino, sent.at, waited)
        self.holdings.reply(at, client, daemon, m)

    def _released(self, at: int, client: int, daemon: int, item: Traced, m: ClientCapRelease, learned: Learned) -> None:
        self.series.count(at, client, "released", len(m.caps))
        for cap in m.caps[:MOST_OF_A_MESSAGE]:
            self._event(at, client, cap.ino, 0, 0, cap.issue_seq, -1)
        self.holdings.released(at, client, daemon, m)

    def _reconnect(self, at: int, client: int, daemon: int, item: Traced, m: ClientReconnect, learned: Learned) -> None:
        self._mark(at, client, 0)
        for told in m.caps[:MOST_OF_A_MESSAGE]:
            self._event(at, client, told.ino, told.cap.issued, 0, 0, -1)
        self.holdings.reconnected(at, client, daemon, m, self.ends.former(daemon))

    def _session(self, at: int, client: int, daemon: int, item: Traced, m: ClientSession, learned: Learned) -> None:
        if m.op == SessionOp.REQUEST_OPEN:
            self.ends.clients[client].take(m.metadata)
        elif m.op == SessionOp.RECALL_STATE:
            self.series.count(at, client, "recalled")
        if m.op not in UNTOLD:
            self._mark(at, client, m.max_caps if m.op == SessionOp.RECALL_STATE else m.seq)
        self.holdings.session(at, client, daemon, m, self.ends.former(daemon))

    def _other(self, at: int, client: int, daemon: int, item: Traced, m: Any, learned: Learned) -> None:
        for ino in _few({ino: None for ino in inodes(m) if ino}):
            self._event(at, client, ino, 0, 0, int(getattr(m, "seq", 0)), -1)

    # What is kept of them

    def _number(self, name: str) -> int:
        found = self.kinds.get(name)
        if found is None:
            if len(self.kinds) >= MOST_KINDS:
                name = "other"
            found = self.kinds.setdefault(name, len(self.kinds))
        return found

    def _event(self, at: int, client: int, ino: int, bits: int, more: int, seq: int, waited: int) -> None:
        self.inodes.add(ino, Event(at, self._kind, client, self._way, bits, more, min(seq, MOST), waited))

    def _mark(self, at: int, client: int, seq: int) -> None:
        if len(self.marks) < MOST_MARKS:
            self.marks.append(Mark(at, self._kind, client, self._way, min(seq, MOST)))
        else:
            self.marks_left_out += 1

    def _slice(self, cat: str, name: str, client: int, daemon: int, ino: int, at: int, took: int) -> None:
        if self.slices is None:
            return
        if len(self.slices) < MOST_SLICES:
            self.slices.append(Slice(cat, name, client, daemon, ino, at, took))
        else:
            self.slices_left_out += 1

    # What `Holdings` tells

    def holds(self, at: int, client: int, ino: int, held: int, lost: int, asked: bool) -> None:
        self.inodes.holds(at, client, ino, held, lost | (ASKED if asked else 0))

    def asked(self, asked: Asked) -> None:
        self.series.count(asked.at, asked.client, "revoked")
        inode = self.inodes.get(asked.at, asked.client, asked.ino)
        inode.revokes += 1
        inode.open += 1

    def ended(self, asked: Asked, at: int, how: How) -> None:
        took = max(at - asked.at, 0)
        inode = self.inodes.get(at, asked.client, asked.ino)
        inode.open = max(inode.open - 1, 0)
        name = f"revoke {CAPS[asked.lost]}"
        self._slice("revoke", name, asked.client, asked.daemon, asked.ino, asked.at, took)
        if how not in ANSWERS:
            self.overtaken[how] = self.overtaken.get(how, 0) + 1
            return
        inode.waited += took
        inode.longest = max(inode.longest, took)
        self.revokes.add(took)
        self.revokes_of.setdefault(asked.client, Durations()).add(took)
        found = Revoke(took, asked.at, asked.client, asked.daemon, asked.ino, asked.lost, asked.seq, how)
        if len(self.slowest) < MOST_REVOKES:
            heapq.heappush(self.slowest, found)
        else:
            heapq.heappushpop(self.slowest, found)

    def caps(self, at: int, client: int, number: int) -> None:
        self.series.holds(at, client, number)

    # Names

    def path(self, ino: int, clients: Iterable[int]) -> str:
        """Where an inode lies, as far as any of ``clients`` knows: ``/a/b``, ``#0x10000000000/b``, or nothing."""
        best = ""
        for client in clients:
            flow = self.ends.clients[client].flow
            path = "" if flow is None else self.known.path(flow, ino)
            if path.startswith("/"):
                return path
            if "/" in path:
                best = path
        return best


def _issuing(m: ClientReply) -> Iterator[InodeStat]:
    """Live inodes that a reply tells of."""
    for inode in (m.trace.dir, m.trace.target):
        if inode is not None and inode.snapid == NOSNAP:
            yield inode
    if isinstance(m.extra, ReaddirReply):
        for entry in m.extra.entries[:MOST_OF_A_MESSAGE]:
            if entry.inode.snapid == NOSNAP:
                yield entry.inode


def _few(inos: dict[int, Any]) -> list[int]:
    return list(inos)[:MOST_OF_A_MESSAGE]


_TAKEN: Final[dict[type, Any]] = {
    ClientCaps: Gathered._client_caps,
    ClientRequest: Gathered._request,
    ClientReply: Gathered._reply,
    ClientCapRelease: Gathered._released,
    ClientReconnect: Gathered._reconnect,
    ClientSession: Gathered._session,
    ClientLease: Gathered._other,
    ClientSnap: Gathered._other,
}
