"""Flushes: numbered by one counter, acknowledged, and none forgotten."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import ClassVar, Final

from cephcaps.trace.items import Traced
from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.revokes import ENDS
from cephcaps.trace.lint.rules import Ended, Report, Rules
from cephcaps.trace.lint.state import Cap, ClientKey, Session, State
from cephcaps.trace.view import duration
from cephcaps.trace.words import CAPS
from cephwire.caps import CapOp, ClientCaps
from cephwire.scalars import NSEC

__all__ = ["Flushes"]

PATIENCE: Final = 15 * NSEC
"""Until an acknowledgement is missed: the MDS journals what nobody waits for with its next tick (ceph:
``mds_tick_interval``, 5 s)."""
MOST_FLUSHES: Final = 100_000
MOST_SESSIONS: Final = 20_000
ACKED: Final = 30_000
"""Acknowledged flushes that are remembered, to know their tids again."""

UNACKED: Final = Rule(
    "flush-unacked",
    "a flush is acknowledged; it is not if it goes to a rank that is not the authority, or with a wrong cap_id or "
    "mseq, or if it is not sent again after an IMPORT or a failover",
    "ceph: src/mds/Locker.cc, handle_client_caps; kernel: fs/ceph/caps.c, ceph_kick_flushing_caps",
)
REUSED: Final = Rule(
    "flush-tid-reused",
    "a flush tid means one flush of one inode, whenever it is sent again; a flush without one cannot be acknowledged",
    "ceph: src/mds/Locker.cc, handle_client_caps (have_completed_flush: a known tid is acknowledged and not applied)",
)
ORDER: Final = Rule(
    "flush-tid-order",
    "new flush tids only rise, from one counter for all inodes and ranks",
    "kernel: fs/ceph/caps.c, __mark_caps_flushing (last_cap_flush_tid); ceph: src/client/Client.cc, last_flush_tid",
)
OLDEST: Final = Rule(
    "oldest-flush-tid",
    "oldest_flush_tid is not above a flush that is still to be acknowledged: the MDS forgets those below it",
    "ceph: src/mds/Locker.cc, handle_client_caps (trim_completed_flushes); kernel: fs/ceph/caps.c, "
    "__get_oldest_flush_tid",
)


class _Flush:
    __slots__ = ("dirty", "follows", "ino", "ns", "said", "sent", "session", "snap", "tid")

    def __init__(self, session: Session, item: Traced, m: ClientCaps) -> None:
        self.session, self.tid = session, item.header.tid
        self.ns = self.sent = item.ns
        self.ino, self.dirty, self.snap, self.follows = m.ino, m.dirty, m.op == CapOp.FLUSHSNAP, m.snap_follows
        self.said = ""

    def is_of(self, m: ClientCaps) -> bool:
        snap = m.op == CapOp.FLUSHSNAP
        return self.ino == m.ino and self.snap == snap and (not snap or self.follows == m.snap_follows)


class Flushes(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (UNACKED, REUSED, ORDER, OLDEST)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._open: dict[tuple[ClientKey, int], _Flush] = {}
        self._acked: dict[tuple[ClientKey, int], _Flush] = {}
        self._inodes: dict[tuple[ClientKey, int], set[int]] = {}  # the tids of each that are open
        self._tids: dict[int, list[int]] = {}  # by session number, a heap: open ones and some that no longer are
        self._newest: Recent[int, int] = Recent(MOST_SESSIONS)  # by session number
        self._heard: Recent[int, int] = Recent(MOST_SESSIONS)  # by session number, when its MDS spoke last

    def flushed(self, session: Session, cap: Cap | None, item: Traced, message: ClientCaps) -> None:
        tid = item.header.tid
        if not tid:
            if message.dirty:
                what = f"flushes {CAPS[message.dirty]} without a tid"
                self.found(REUSED, session, what, cap=cap, ino=message.ino, bits=message.dirty, seq=message.seq)
            return
        key = session.client.key, tid
        known = self._open.get(key) or self._acked.get(key)
        if known is None:
            self._new(session, cap, item, message)
        elif known.is_of(message):
            if key in self._open:
                known.session, known.sent = session, item.ns
                heappush(self._tids.setdefault(session.number, []), tid)
        else:
            what = (
                f"tid {tid} flushes {CAPS[message.dirty]} of this inode, after it flushed {CAPS[known.dirty]} of "
                f"{known.ino:#x}{' for a snapshot' if known.snap else ''}"
            )
            self.found(
                REUSED, session, what, cap=cap, ino=message.ino, bits=message.dirty, seq=message.seq, said=_told(item)
            )
        self._oldest(session, cap, item, message)

    def _new(self, session: Session, cap: Cap | None, item: Traced, message: ClientCaps) -> None:
        tid = item.header.tid
        newest = self._newest.get(session.number) or 0
        # Of a client whose beginning was not captured, an old tid may be one that is sent again. What is flushed while
        # its inode moves from rank to rank may get its tid then, and leave once the move is over.
        if tid < newest and session.client.whole and not message.mseq:
            what = f"new flush with tid {tid}, after {newest}"
            self.found(
                ORDER, session, what, cap=cap, ino=message.ino, bits=message.dirty, seq=message.seq, said=_told(item)
            )
        self._newest[session.number] = max(newest, tid)
        if len(self._open) >= MOST_FLUSHES:
            self._done(next(iter(self._open)))
        flush = self._open[session.client.key, tid] = _Flush(session, item, message)
        flush.said = _told(item)
        self._inodes.setdefault((session.client.key, message.ino), set()).add(tid)
        tids = self._tids.setdefault(session.number, [])
        heappush(tids, tid)
        if len(tids) > 2 * MOST_FLUSHES:  # a client that never says which is its oldest
            tids[:] = sorted(one for one in tids if (session.client.key, one) in self._open)

    def _oldest(self, session: Session, cap: Cap | None, item: Traced, message: ClientCaps) -> None:
        oldest = message.oldest_flush_tid
        if not oldest:
            return
        tids = self._tids.get(session.number, [])
        while tids and tids[0] < oldest:
            tid = heappop(tids)
            flush = self._open.get((session.client.key, tid))
            if flush is not None and flush.session is session:
                what = f"oldest_flush_tid {oldest}, while {tid} is not acknowledged"
                self.found(OLDEST, session, what, cap=cap, ino=message.ino, seq=message.seq, said=_told(item))
                self._done((session.client.key, tid))

    def acked(self, session: Session, item: Traced, message: ClientCaps) -> None:
        client, tid = session.client.key, item.header.tid
        if message.op == CapOp.FLUSHSNAP_ACK:
            self._done((client, tid))
            return
        # It covers what was flushed of the inode before.
        for one in sorted(self._inodes.get((client, message.ino), ())):
            if one <= tid and not self._open[client, one].snap:
                self._done((client, one))

    def heard(self, session: Session, item: Traced) -> None:
        self._heard[session.number] = item.ns

    def ended(self, session: Session, how: Ended, successor: Session | None = None) -> None:
        for tid in self._tids.pop(session.number, ()):
            key = session.client.key, tid
            flush = self._open.get(key)
            if flush is None or flush.session is not session:
                continue
            if successor is not None:
                flush.session, flush.sent = successor, self.state.ns  # to whom it is to be sent again
                heappush(self._tids.setdefault(successor.number, []), flush.tid)
                continue
            if how in ENDS:
                self._missing(flush)
            self._done(key)

    def finish(self) -> None:
        for flush in self._open.values():
            self._missing(flush)
        self._open.clear()

    def _missing(self, flush: _Flush) -> None:
        session = flush.session
        # An MDS that says nothing more at all says nothing of the client.
        if min((self._heard.get(session.number) or 0) - flush.sent, self.owed_ns(session, flush.sent)) < PATIENCE:
            return
        age = self.owed_ns(session, flush.ns)
        what = f"tid {flush.tid}, {CAPS[flush.dirty]}, was not acknowledged within {duration(age)}"
        cap = self.state.cap(session, flush.ino)
        self.found(UNACKED, session, what, cap=cap, ino=flush.ino, bits=flush.dirty, age_ns=age, said=flush.said)

    def _done(self, key: tuple[ClientKey, int]) -> None:
        flush = self._open.pop(key, None)
        if flush is None:
            return
        client = key[0]
        tids = self._inodes[client, flush.ino]
        tids.discard(flush.tid)
        if not tids:
            del self._inodes[client, flush.ino]
        self._acked[key] = flush
        if len(self._acked) > ACKED:
            del self._acked[next(iter(self._acked))]


def _told(item: Traced) -> str:
    m: ClientCaps = item.message
    op = "flushsnap" if m.op == CapOp.FLUSHSNAP else "update"
    follows = f" follows {m.snap_follows}" if m.op == CapOp.FLUSHSNAP else ""
    return (
        f"{op} seq {m.seq} mseq {m.mseq} caps {CAPS[m.caps]} dirty {CAPS[m.dirty]} flush_tid {item.header.tid} "
        f"oldest_flush_tid {m.oldest_flush_tid}{follows}"
    )
