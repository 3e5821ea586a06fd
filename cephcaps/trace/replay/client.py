"""One captured client's engine, driven by what passed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cephcaps.engine.dentries import is_complete
from cephcaps.engine.inode import Inode, InodeCap, SnapContext
from cephcaps.errors import SessionLost
from cephcaps.trace.known import Recent
from cephcaps.trace.replay.circumstances import Circumstances
from cephcaps.trace.replay.driven import Driven
from cephcaps.trace.replay.evidence import Evidence
from cephcaps.trace.replay.expected import Expected
from cephcaps.trace.replay.foresight import Foresight
from cephcaps.trace.replay.infer import FOR_NAMES, changed, prepare, shares_names
from cephcaps.trace.replay.order import Order
from cephcaps.trace.replay.result import Difference, Tally
from cephcaps.trace.replay.rules import Context
from cephcaps.trace.replay.said import TELLS, Said, of_cap
from cephcaps.trace.replay.steps import Client, Step, Window
from cephcaps.trace.replay.told import Told
from cephwire.capbits import FileMode
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.lease import ClientLease
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply
from cephwire.request import ClientRequest
from cephwire.requestargs import OpenArgs, OpenFlag
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import ClientSnap

__all__ = ["CapturedClient", "file_mode"]

NEVER: Final = float("inf")
NS: Final = 1_000_000_000
FIRST_SEQ: Final = 1
"""Of a cap that a client did not hold before (ceph: src/mds/Capability.h, ``last_sent``)."""
INODES: Final = 1_000_000
"""Inodes whose caps are kept account of; with more, all is forgotten."""
REQUESTS: Final = 100_000
"""Requests whose arguments are kept at most."""
OUR_FEATURES: Final = 2**64 - 1


class CapturedClient:
    """Rebuilds what it held, and holds what it said against what ours would have.

    Attributes:
        tally: counts so far.
        order: in which order it dealt with what was captured.
    """

    def __init__(
        self, client: Client, window: Window, found: Callable[[Difference], None], inos: frozenset[int]
    ) -> None:
        self.client = client
        self.tally: Tally = Tally()
        self.engine: Driven = Driven(self._snapped, self._unanswered)
        self.expected: Expected = Expected(client, self.tally, found, inos)
        self.order: Order = Order(Evidence(client, window, self.engine, self.expected))
        self._foresight = Foresight(client, window)
        self._window = window
        self._sound: set[int] = set()
        """Ranks with whose session everything since its beginning was seen."""
        self._broken: set[int] = set()
        """Ranks with whose session something is missing: it may be opened anew by an answer to a RECONNECT not seen."""
        self._reconnecting: set[int] = set()
        self._features: dict[int, int] = {}
        self._circumstances = Circumstances(client, window, self.expected)
        self._requests: OrderedDict[int, ClientRequest] = OrderedDict()
        self._owing: dict[tuple[int, int], tuple[str, int]] = {}
        """Caps of which the MDS's message waits for an answer, by rank and inode: its kind, and the bits of before."""
        self._asked_back: Recent[tuple[int, int], tuple[int, int]] = Recent()
        """By rank and inode, the seq of its last REVOKE, and what was held before."""
        self._ns = 0

    @property
    def now(self) -> float:
        return self._ns / NS

    # What the MDS sent

    def received(self, step: Step) -> None:
        message, rank = step.item.message, step.rank
        self._ns = step.item.ns
        self.engine.begin(rank)
        if rank not in self._sound:
            self.engine.cache.rank(rank).ttl = NEVER
        match message:
            case ClientSession():
                self._session(rank, message)
            case ClientReply():
                self._reply(step, message)
            case ClientCaps():
                self._caps(step, message)
            case ClientSnap():
                self._expect_snapshots(message.trace)
                self.engine.receive(rank, message, 0, self.now)
            case ClientLease():
                self.engine.receive(rank, message, 0, self.now)
        self._drain()
        if len(self.engine.cache.inodes) > INODES:
            for other in list(self._sound):
                self.lost_track(other)

    def _session(self, rank: int, message: ClientSession) -> None:
        engine = self.engine
        gen = engine.cache.rank(rank).gen
        match message.op:
            case SessionOp.OPEN:
                self._features.setdefault(rank, OUR_FEATURES)
                features = message.features & self._features[rank]
                if rank in self._reconnecting:
                    engine.cache.rank(rank).features = features
                elif rank not in self._sound and rank not in self._broken:
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
        self._broken.add(rank)

    def _reply(self, step: Step, message: ClientReply) -> None:
        rank = step.rank
        for told in step.told:
            self._before(step, told)
        self._expect_snapshots(message.snap)
        unknown = [told for told in step.told if not self._followed(rank, told)]
        target, _ = self.engine.reply(rank, message, self.now, self.now)
        for told in unknown:
            self._drop(rank, told.ino)
        request = self._requests.pop(step.item.header.tid, None)
        if request is not None and target is not None and message.result >= 0 and isinstance(request.args, OpenArgs):
            mode = file_mode(request.args.flags)
            self.engine.open(target, mode)
            if mode & FileMode.WR:
                self._circumstances.opened_to_write(target.ino)
        if request is not None and not message.safe and not isinstance(request.args, OpenArgs):
            self._requests[step.item.header.tid] = request

    def _followed(self, rank: int, told: Told) -> bool:
        """Whether all that became of the cap was seen: it is held already, or begins here."""
        return rank in self._sound or told.seq == FIRST_SEQ or self._cap(rank, told.ino) is not None

    def _begins_here(self, rank: int, message: ClientCaps) -> bool:
        """Whether a message about a cap that our engine does not hold is one about a cap that the client has not."""
        if message.op != CapOp.IMPORT:
            return rank in self._sound
        peer = message.peer
        return message.ino in self.engine.cache.inodes or (peer is not None and peer.mds in self._sound)

    def _drop(self, rank: int, ino: int) -> None:
        """Know no more of a cap than nothing."""
        inode = self.engine.cache.inodes.get(ino)
        cap = inode.cap(rank) if inode is not None else None
        if inode is not None and cap is not None:
            self.engine.cache.remove_cap(inode, cap)

    def _caps(self, step: Step, message: ClientCaps) -> None:
        rank, tid = step.rank, step.item.header.tid
        for told in step.told:
            self._before(step, told)
        if self._cap(rank, message.ino) is None and not self._begins_here(rank, message):
            return
        if message.op == CapOp.IMPORT:
            if message.ino not in self.engine.cache.inodes and self._foresight.takes(step):
                self.engine.meet(message)
            self._expect_snapshots(message.snap_trace)
        if message.op in (CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK):
            ours = self.expected.ours(tid)
            self.expected.finished(tid)
            tid = ours
        self.engine.receive(rank, message, tid, self.now)

    def _before(self, step: Step, told: Told) -> None:
        """Bring about what the client did by itself before it took ``told`` in."""
        engine, rank = self.engine, step.rank
        inode = engine.cache.inodes.get(told.ino)
        if inode is None:
            return
        inode.hold_max = NEVER  # what may wait does, until the client says that its time is up
        cap = inode.cap(rank)
        if cap is None or cap.cap_id != told.cap_id:
            return
        if self._foresight.keeps_lazily(rank, told, cap):
            engine.lazily.add((told.ino, rank))
        dropped = self._foresight.dropped(rank, told, cap)
        if dropped is not None:
            self._window.spoken(dropped)
            self._said(dropped.said, dropped.step.item.ns)
            return
        if told.asks_back or cap.revoked_at:
            self._owing[rank, told.ino] = "revoke" if told.asks_back else "grant", cap.implemented
        if told.asks_back:
            self._asked_back[rank, told.ino] = told.seq, cap.implemented
        if told.max_size is not None and rank == inode.auth_rank:
            inode.max_size = told.max_size
        if inode.use is not None:
            # When to report a size, or to ask for more, is a matter of time.
            inode.use.reported_size, inode.use.wanted_max_size = inode.size, 0
        answer = self._foresight.answer(rank, told, cap)
        if answer is None:
            if is_complete(inode):
                engine.cache.not_whole(inode)
            return
        said = answer.said
        for ahead in self._window.ahead(self.client, rank, told.ino):
            if ahead is answer:
                break
            if ahead.said.op == "flushsnap":
                engine.written(inode, self.now)
        if said.dirty and not self.expected.ours(said.tid):
            changed(engine, inode, said, self.now)
        said = said._replace(wanted=self._foresight.wanted(inode, answer))
        prepare(engine, inode, cap, said, told.caps, self._foresight.kept(inode, rank, told), self.now)

    def _expect_snapshots(self, trace: bytes) -> None:
        """Have the engine look at each inode that the client is going to flush for a snapshot: this may bring it."""
        if trace:
            for said in self._coming_snaps():
                inode = self.engine.cache.inodes.get(said.ino)
                if inode is not None:
                    self.engine.cache.use(inode)

    def _snapped(self, inode: Inode, context: SnapContext, until: int) -> Said | None:
        """The FLUSHSNAP that the client is going to send of ``inode`` as it was under ``context``; what it flushes
        had been changed by then."""
        newest = context.snaps[0] if context.snaps else 0
        for said in self._coming_snaps():
            # Snapshots that go raise the seq and make no new ones. The kernel names the context it was changed under,
            # be that before some went (fs/ceph/snap.c, ``ceph_queue_cap_snap``: ``i_head_snapc``), libcephfs the last
            # before the new snapshot (src/client/Client.cc, ``queue_cap_snap``); there is no snapshot in between.
            if said.ino == inode.ino and newest <= said.follows <= max(context.seq, until):
                self.engine.cache.use(inode).head = SnapContext(said.follows, context.snaps)
                return said
        return None

    def _unanswered(self, snap: Said) -> int:
        cap = self._cap(snap.rank, snap.ino)
        seq, before = self._asked_back.get((snap.rank, snap.ino)) or (0, 0)
        owed = cap is not None and cap.seq == seq and self.expected.waits(of_cap("update", snap.rank, snap.ino, cap))
        return before if owed else 0

    def _coming_snaps(self) -> list[Said]:
        return [said for said, _ in self._window.snaps(self.client) if not self.expected.ours(said.tid)]

    # What the client sent

    def sent(self, step: Step) -> None:
        message, rank = step.item.message, step.rank
        self._ns = max(self._ns, step.item.ns)
        self.engine.begin(rank)
        self.expected.heard(rank, step.item.ns)
        parts = self._window.reconnects(step)
        if parts and rank not in self._reconnecting:
            self._reconnect(rank, parts)  # which some of what it brings goes ahead of
        if not parts and isinstance(message, ClientRequest | ClientCapRelease):
            self._serves(rank)  # nobody asks before that, or gives whole caps back
        match message:
            case ClientSession():
                self._asked(rank, message)
            case ClientReconnect():
                self._tell(rank, step)
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
            # A rank that is to take caps over stands for them already.
            if any(not cap.standing_in for _, cap in self.engine.cache.caps_of(rank)):
                self._lose(rank)
            self._sound.discard(rank)
            self._broken.discard(rank)

    def _said(self, said: Said, ns: int) -> None:
        inode = self.engine.cache.inodes.get(said.ino)
        cap = inode.cap(said.rank) if inode is not None else None
        context = self._circumstances.context(said, ns, inode, cap)
        if (
            inode is not None
            and cap is not None
            and self.expected.give_up(said, self.engine.checks.surplus(inode, cap))
        ):
            self.engine.yield_to(inode, cap, said)
        self._circumstances.said(said, ns)
        ours: Said | None = None
        if (said.op in TELLS or self.expected.ours(said.tid)) and not self.expected.waits(said):
            self._serves(said.rank)  # it answers, or sends again what its rank's last holder may not have got
        if not self.expected.waits(said):
            if inode is None or cap is None:
                self._of_nothing(said, ns, context)
                return
            ours = self._act(inode, cap, said)
            self._drain()
        expected = self.expected.meet(said, ns, context, ours)
        if inode is None or cap is None or inode.cap(said.rank) is not cap:
            return
        if said.op == "caprelease":
            if said.issue_seq == cap.issue_seq:  # else it has come back before that left
                self.engine.cache.remove_cap(inode, cap)
        elif said.op in (*TELLS, "request") and (
            expected is None or (expected.caps, expected.wanted) != (said.caps, said.wanted)
        ):
            self.engine.yield_to(inode, cap, said)

    def _of_nothing(self, said: Said, ns: int, context: Context) -> None:
        """The client speaks of a cap that our engine does not hold."""
        if said.rank in self._sound:
            self.expected.meet(said, ns, context)
        else:
            self.tally.unjudged += 1

    def _act(self, inode: Inode, cap: InodeCap, said: Said) -> Said | None:
        """Have our engine do what the client did by itself; gives what ours says, where no message of its own does."""
        engine, now = self.engine, self.now
        match said.op:
            case "update" | "flush" if not self.expected.ours(said.tid):
                if said.dirty:
                    changed(engine, inode, said, now)
                prepare(engine, inode, cap, said, cap.issued, self._foresight.kept(inode, cap.rank), now)
                if said.op == "flush":
                    engine.flush(inode.ino, now, sync=False)
                    return None
                nodelay = inode.hold_min == 0.0
                if not engine.tell(inode, cap, now, nodelay=nodelay) and said.dirty:
                    engine.update(inode, cap, now, nodelay=nodelay)
            case "flushsnap":
                engine.written(inode, now)
            case "caprelease":
                if inode.use is not None:
                    inode.use.modes.clear()
                    inode.use.rd = inode.use.wr = inode.use.cache = inode.use.buffer = 0
                engine.give_back(inode, cap, now)
            case "request":
                prepare(engine, inode, cap, said, cap.issued, self._foresight.kept(inode, cap.rank), now)
                return engine.embed(inode, cap, cap.issued & ~said.caps)
        return None

    def _reconnect(self, rank: int, parts: list[Step]) -> None:
        """The client is about to tell a rank's new holder what it holds."""
        engine = self.engine
        named = {said.ino: said for part in parts for said in part.said}
        for inode, cap in list(engine.cache.caps_of(rank)):
            said = named.get(inode.ino)
            if said is None:
                engine.cache.remove_cap(inode, cap)
            else:
                prepare(engine, inode, cap, said, cap.issued, 0, self.now)
                # What it gave back by itself or along with a request, and nobody lived to read, shows here only.
                unread = cap.implemented & ~(said.caps | inode.dirty | inode.flushing | inode.used)
                engine.yield_to(inode, cap, said._replace(caps=cap.implemented & ~unread))
        state = engine.cache.rank(rank)
        engine.reconnects.compose(rank, state.gen + 1, NEVER)
        self._reconnecting.add(rank)
        self._drain()

    def _tell(self, rank: int, step: Step) -> None:
        for said in step.said:
            if self.expected.waits(said) or rank in self._sound:
                self.expected.meet(said, step.item.ns, Context())
            else:
                self.tally.unjudged += 1

    def _serves(self, rank: int) -> None:
        if rank in self._reconnecting:
            self._reconnecting.discard(rank)
            self.engine.rank_serves(rank, self.now)
            self._drain()

    # Both

    def _cap(self, rank: int, ino: int) -> InodeCap | None:
        inode = self.engine.cache.inodes.get(ino)
        return inode.cap(rank) if inode is not None else None

    def _drain(self) -> None:
        said = self.engine.take_out()
        self.expected.add([self._marked(one) for one in said] if self._owing else said, self._ns)
        # Of a rank that does not serve yet nothing is answered.
        self._owing = {place: owed for place, owed in self._owing.items() if place[0] in self._reconnecting}

    def _marked(self, said: Said) -> Said:
        """Ours, with a mark if it gives nothing back and has nothing to flush, but answers a message."""
        kind, before = self._owing.get((said.rank, said.ino), ("", 0))
        idle = said.op == "update" and not said.dirty and not before & ~said.caps
        if not idle:
            return said
        wished = self._circumstances.wished(said)
        if wished == FOR_NAMES and not shares_names(self.engine.cache.inodes.get(said.ino)):
            wished = 0
        return said._replace(answers=kind, wanted=said.wanted if wished is None else wished)


def file_mode(flags: int) -> int:
    """What a file opened with these flags is open for (ceph: src/common/ceph_fs.cc, ``ceph_flags_to_mode``)."""
    if flags & OpenFlag.DIRECTORY:
        return FileMode.PIN
    return (FileMode.RD, FileMode.WR, FileMode.RDWR, FileMode.RDWR)[flags & 3]
