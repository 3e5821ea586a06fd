"""One captured client's engine, driven by what passed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from cephcaps.engine.inode import Inode, InodeCap, newer
from cephcaps.engine.realms import decode_trace
from cephcaps.errors import SessionLost
from cephcaps.trace.replay.driven import Driven
from cephcaps.trace.replay.expected import Expected
from cephcaps.trace.replay.infer import USABLE, changed, prepare
from cephcaps.trace.replay.result import Difference, Tally
from cephcaps.trace.replay.said import Said
from cephcaps.trace.replay.steps import Client, Step, Window
from cephwire.capbits import FileMode
from cephwire.caps import CapBody, CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.lease import ClientLease
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import ClientRequest
from cephwire.requestargs import OpenArgs, OpenFlag
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import ClientSnap

__all__ = ["CapturedClient"]

NEVER: Final = float("inf")
NS: Final = 1_000_000_000
UNDER_WAY: Final = 5 * NS
"""For how long something may have been under way when its answer was captured."""
REQUESTS: Final = 100_000
"""Requests whose arguments are kept at most."""
OUR_FEATURES: Final = 2**64 - 1
TELLS: Final = ("update", "flush")
"""What says how things stand with a cap."""


class Told(NamedTuple):
    """What an MDS's message says of a cap."""

    ino: int
    cap_id: int
    caps: int
    seq: int
    mseq: int
    anew: bool
    """Whether it is issued anew, by a reply or IMPORT."""
    asks_back: bool = False
    """Whether it is a REVOKE."""


class CapturedClient:
    """Rebuilds what it held, and holds what it said against what ours would have.

    Attributes:
        tally: counts so far.
    """

    def __init__(self, client: Client, window: Window, found: Callable[[Difference], None]) -> None:
        self.client = client
        self.tally = Tally()
        self.engine = Driven()
        self.expected = Expected(client, self.tally, found)
        self._window = window
        self._sound: set[int] = set()
        """Ranks with whose session everything since its beginning was seen."""
        self._reconnecting: set[int] = set()
        self._features: dict[int, int] = {}
        self._requests: OrderedDict[int, ClientRequest] = OrderedDict()
        self._ns = 0

    @property
    def now(self) -> float:
        return self._ns / NS

    # What the MDS sent

    def received(self, step: Step) -> None:
        message, rank = step.item.message, step.rank
        self._ns = step.item.ns
        match message:
            case ClientSession():
                self._session(rank, message)
            case ClientReply():
                self._reply(step, message)
            case ClientCaps():
                self._caps(step, message)
            case ClientSnap():
                self._snapshots(message.trace, rank)
                self.engine.receive(rank, message, 0, self.now)
            case ClientLease():
                self.engine.receive(rank, message, 0, self.now)
        self._drain()

    def said_before(self, step: Step) -> Step | None:
        """The last that the client sent without knowing of ``step``, though it was captured later; None if nothing."""
        last = None
        for told in _told(step.item.message):
            for said, other in self._window.ahead(self.client, step.rank, told.ino):
                if said.op not in (*TELLS, "request") or said.cap_id != told.cap_id:
                    continue
                behind = newer(said.seq, told.seq) < 0 and newer(said.mseq, told.mseq) <= 0
                if not behind or other.item.ns > step.item.ns + UNDER_WAY:
                    break
                if last is None or other.number > last.number:
                    last = other
        return last

    def _session(self, rank: int, message: ClientSession) -> None:
        engine = self.engine
        gen = engine.cache.rank(rank).gen
        match message.op:
            case SessionOp.OPEN:
                self._features.setdefault(rank, OUR_FEATURES)
                features = message.features & self._features[rank]
                if rank in self._reconnecting:
                    engine.cache.rank(rank).features = features
                elif rank not in self._sound:
                    self._lose(rank)
                    engine.sessions.opened(rank, gen + 1, NEVER, features)
                    self._sound.add(rank)
            case SessionOp.STALE:
                engine.sessions.stale(rank, gen + 1)
            case SessionOp.RENEWCAPS:
                engine.session_renewed(rank, NEVER, self.now)
            case SessionOp.CLOSE | SessionOp.REJECT:
                self.expected.end(rank)
                self._lose(rank)
                self._sound.discard(rank)
            case SessionOp.FORCE_RO:
                engine.session_read_only(rank, self.now)

    def _lose(self, rank: int) -> None:
        self.engine.session_lost(rank, SessionLost("", reason="closed"), self.now)
        self.engine.cache.out.clear()
        self.expected.forget(rank)
        self._reconnecting.discard(rank)

    def lost_track(self, rank: int) -> None:
        """Some of what passed is missing: what the client holds from ``rank`` is not known any more."""
        self._lose(rank)
        self._sound.discard(rank)
        self.engine.cache.rank(rank).ttl = NEVER

    def _reply(self, step: Step, message: ClientReply) -> None:
        rank = step.rank
        for told in _told(message):
            self._before(step, told)
        self._snapshots(message.snap, rank)
        target, _ = self.engine.reply(rank, message, self.now, self.now)
        request = self._requests.pop(step.item.header.tid, None)
        if request is not None and target is not None and message.result >= 0 and isinstance(request.args, OpenArgs):
            self.engine.opened(target.ino, _file_mode(request.args.flags), self.now)
        if request is not None and not message.safe and not isinstance(request.args, OpenArgs):
            self._requests[step.item.header.tid] = request

    def _caps(self, step: Step, message: ClientCaps) -> None:
        rank, tid = step.rank, step.item.header.tid
        for told in _told(message):
            self._before(step, told)
        cap = self._cap(rank, message.ino)
        if cap is None and rank not in self._sound and message.op != CapOp.IMPORT:
            return
        if message.op == CapOp.IMPORT:
            self._snapshots(message.snap_trace, rank)
        if message.op in (CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK):
            ours = self.expected.ours(tid)
            self.expected.finished(tid)
            tid = ours
        self._serves(rank)
        self.engine.receive(rank, message, tid, self.now)

    def _before(self, step: Step, told: Told) -> None:
        """Bring about what the client did by itself before it took ``told`` in."""
        ahead = self._window.first_ahead(self.client, step.rank, told.ino)
        inode = self.engine.cache.inodes.get(told.ino)
        cap = inode.caps.get(step.rank) if inode is not None else None
        if inode is not None:
            inode.hold_max = NEVER  # what may wait does, until the client says that its time is up
        if ahead is None or inode is None or cap is None or cap.cap_id != told.cap_id:
            return
        if ahead.said.op == "caprelease":
            if self._dropped_before(step.rank, told, ahead.said):
                self._window.spoken(ahead)
                self._said(ahead.said, ahead.step.item.ns)
            return
        lost = (cap.issued | cap.implemented) & ~told.caps
        if not lost and not told.asks_back:
            return
        coming = (one.said for one in self._window.ahead(self.client, step.rank, told.ino))
        answer = next((said for said in coming if said.op != "flushsnap"), None)
        if answer is None or answer.op not in TELLS or answer.seq != told.seq:
            return
        if answer.dirty and not answer.caps & lost & USABLE and not self.expected.ours(answer.tid):
            changed(self.engine, inode, answer, self.now)
        prepare(self.engine, inode, cap, answer, told.caps, self.now)

    def _dropped_before(self, rank: int, told: Told, said: Said) -> bool:
        """Whether a cap that the client is going to release was dropped before it learnt ``told``."""
        if said.cap_id != told.cap_id:
            return False
        if told.anew:
            return newer(said.issue_seq, told.seq) < 0
        _, second = islice(chain(self._window.ahead(self.client, rank, told.ino), (None, None)), 2)
        return second is not None and second.said.op == "caprelease" and second.said.issue_seq == told.seq

    def _snapshots(self, trace: bytes, rank: int) -> None:
        """Before a snapshot is heard of: what the client's FLUSHSNAPs will bring had been changed."""
        ahead = self._window.snaps(self.client)
        if not ahead or not trace:
            return
        realms = decode_trace(trace, self.engine.cache.rank(rank).features).realms
        newest = max((realm.seq for realm in realms), default=0)
        for said in ahead:
            inode = self.engine.cache.inodes.get(said.ino)
            if inode is None or said.op != "flushsnap" or self.expected.ours(said.tid) or said.follows >= newest:
                continue
            context = inode.use.head if inode.use is not None and inode.use.head is not None else None
            known = context if context is not None else self.engine.cache.context(inode.realm)
            if known.seq == said.follows:
                changed(self.engine, inode, said, self.now)

    # What the client sent

    def sent(self, step: Step) -> None:
        message, rank = step.item.message, step.rank
        self._ns = max(self._ns, step.item.ns)
        match message:
            case ClientSession():
                self._asked(rank, message)
            case ClientReconnect():
                self._reconnect(rank, step)
                return
            case ClientRequest() if step.item.header.tid not in self._requests:
                self._requests[step.item.header.tid] = message
                if len(self._requests) > REQUESTS:
                    self._requests.popitem(last=False)
        for said in step.said:
            self._said(said, step.item.ns)

    def _asked(self, rank: int, message: ClientSession) -> None:
        if message.op == SessionOp.REQUEST_OPEN:
            self._features[rank] = message.features
            self._lose(rank)
            self._sound.discard(rank)

    def _said(self, said: Said, ns: int) -> None:
        inode = self.engine.cache.inodes.get(said.ino)
        cap = inode.caps.get(said.rank) if inode is not None else None
        if not self.expected.waits(said.rank, said.ino):
            if inode is None or cap is None:
                self._of_nothing(said, ns)
                return
            self._act(inode, cap, said)
            self._drain()
        expected = self.expected.meet(said, ns)
        if inode is None or cap is None or inode.caps.get(said.rank) is not cap:
            return
        if said.op == "caprelease":
            self.engine.cache.remove_cap(inode, cap)
        elif said.op in (*TELLS, "request") and (
            expected is None or (expected.caps, expected.wanted) != (said.caps, said.wanted)
        ):
            self.engine.yield_to(inode, cap, said)

    def _of_nothing(self, said: Said, ns: int) -> None:
        """The client speaks of a cap that our engine does not hold."""
        if said.rank in self._sound:
            self.expected.meet(said, ns)
        else:
            self.tally.unjudged += 1

    def _act(self, inode: Inode, cap: InodeCap, said: Said) -> None:
        """Have our engine do what the client did by itself."""
        engine, now = self.engine, self.now
        match said.op:
            case "update" | "flush":
                self._serves(said.rank)
                if said.tid and self.expected.ours(said.tid):
                    return
                if said.dirty:
                    changed(engine, inode, said, now)
                prepare(engine, inode, cap, said, cap.issued, now)
                if said.op == "flush":
                    engine.flush(inode.ino, now, sync=False)
                    return
                nodelay = inode.hold_min == 0.0
                if cap.rank not in engine.checks.check(inode, now, nodelay=nodelay) and said.dirty:
                    engine.update(inode, cap, now, nodelay=nodelay)
            case "caprelease":
                if inode.use is not None:
                    inode.use.modes.clear()
                    inode.use.rd = inode.use.wr = inode.use.cache = inode.use.buffer = 0
                engine.give_back(inode, cap, now)
            case "request":
                prepare(engine, inode, cap, said, cap.issued, now)
                self.expected.add([engine.embed(inode, cap, cap.issued & ~said.caps)], self._ns)

    def _reconnect(self, rank: int, step: Step) -> None:
        engine = self.engine
        named = {said.ino: said for said in step.said}
        for inode, cap in list(engine.cache.caps_of(rank)):
            said = named.get(inode.ino)
            if said is None:
                engine.cache.remove_cap(inode, cap)
            else:
                prepare(engine, inode, cap, said, cap.issued, self.now)
        state = engine.cache.rank(rank)
        engine.reconnects.compose(rank, state.gen + 1, NEVER)
        self._reconnecting.add(rank)
        self._drain()
        for said in step.said:
            self.expected.meet(said, step.item.ns)

    def _serves(self, rank: int) -> None:
        if rank in self._reconnecting:
            self._reconnecting.discard(rank)
            self.engine.rank_serves(rank, self.now)
            self._drain()

    # Both

    def _cap(self, rank: int, ino: int) -> InodeCap | None:
        inode = self.engine.cache.inodes.get(ino)
        return inode.caps.get(rank) if inode is not None else None

    def _drain(self) -> None:
        self.expected.add(self.engine.take_out(), self._ns)


def _told(message: Any) -> Iterator[Told]:
    match message:
        case ClientCaps(op=CapOp.GRANT | CapOp.REVOKE | CapOp.IMPORT):
            assert isinstance(message.body, CapBody)
            anew, asks_back = message.op == CapOp.IMPORT, message.op == CapOp.REVOKE
            yield Told(message.ino, message.cap_id, message.caps, message.seq, message.mseq, anew, asks_back)
        case ClientReply():
            yield from _issued(message.trace.target)
            yield from _issued(message.trace.dir)
            if isinstance(message.extra, ReaddirReply):
                for entry in message.extra.entries:
                    yield from _issued(entry.inode)


def _issued(inode: InodeStat | None) -> Iterator[Told]:
    if inode is not None and inode.snapid == NOSNAP and inode.cap.cap_id and inode.cap.caps:
        cap = inode.cap
        yield Told(inode.ino, cap.cap_id, cap.caps, cap.seq, cap.mseq, True)


def _file_mode(flags: int) -> int:
    """What a file opened with these flags is open for (ceph: src/common/ceph_fs.cc, ``ceph_flags_to_mode``)."""
    if flags & OpenFlag.DIRECTORY:
        return FileMode.PIN
    return (FileMode.RD, FileMode.WR, FileMode.RDWR, FileMode.RDWR)[flags & 3]
