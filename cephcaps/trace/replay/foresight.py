"""What a client is about to say tells what it has done by itself, and what it has not heard of yet."""

from __future__ import annotations

from itertools import islice
from typing import Final

from cephcaps.engine.inode import Inode, InodeCap, newer
from cephcaps.engine.realms import decode_trace
from cephcaps.trace.replay.driven import Driven
from cephcaps.trace.replay.expected import Expected
from cephcaps.trace.replay.steps import Ahead, Client, Step, Window
from cephcaps.trace.replay.told import Told, told_in
from cephwire.capbits import Cap
from cephwire.caps import CapOp, CapPeer, ClientCaps
from cephwire.snap import ClientSnap

__all__ = ["TELLS", "Foresight"]

NS: Final = 1_000_000_000
U32: Final = 1 << 32
UNDER_WAY: Final = 5 * NS
"""For how long something may have been under way when its answer was captured."""
CROSSED: Final = NS // 10
"""Within which what two ranks sent was captured that the client read the other way around."""
NEAR: Final = 100
"""Statements about an inode among which those about one grant are looked for."""
TELLS: Final = ("update", "flush")
"""What says how things stand with a cap."""


class Foresight:
    """Looks ahead in the trace for one client."""

    def __init__(self, client: Client, window: Window, engine: Driven, expected: Expected) -> None:
        self._client = client
        self._window = window
        self._engine = engine
        self._expected = expected

    def heard_before(self, step: Step) -> list[Step]:
        """What another rank told the client, and that read before, though it was captured later: what it says next of
        either rank's cap shows that."""
        message = step.item.message
        if isinstance(message, ClientSnap):
            return self._granted_before_snap(step)
        peer = message.peer if isinstance(message, ClientCaps) and message.op == CapOp.IMPORT else None
        if peer is None:
            return self._snapped_before_grant(step)
        if peer.mds == step.rank:
            return []
        if message.ino not in self._engine.cache.inodes:
            return self._met_elsewhere(step)
        old = self._cap(peer.mds, message.ino)
        if old is None or old.cap_id != peer.cap_id:
            return []
        coming, last = list[Step](), 0
        for other in self._window.coming(self._client, step.item.ns + CROSSED):
            if other.rank != peer.mds:
                continue
            coming.append(other)
            goes_by = self._goes_by(step, old, other.item.message)
            if goes_by is False:
                break
            last = len(coming) if goes_by else last
        return coming[:last]

    def _met_elsewhere(self, step: Step) -> list[Step]:
        """Up to the reply by which the client came to know the inode of an IMPORT; else it had given the cap back."""
        message = step.item.message
        ahead = self._window.first_ahead(self._client, step.rank, message.ino)
        if ahead is None or ahead.said.cap_id != message.cap_id or ahead.said.op not in (*TELLS, "request"):
            return []
        coming = [one for one in self._window.coming(self._client, step.item.ns + CROSSED) if one.rank != step.rank]
        for number, one in enumerate(coming):
            if any(told.ino == message.ino for told in told_in(one.item.message)):
                return [other for other in coming[: number + 1] if other.rank == one.rank]
        return []

    def _goes_by(self, step: Step, old: InodeCap, told: object) -> bool | None:
        """Whether the client goes by ``told`` of the cap ``old``, before it reads the IMPORT that ends it; None if
        that cannot be said."""
        message = step.item.message
        if not isinstance(told, ClientCaps) or (told.ino, told.cap_id) != (message.ino, old.cap_id):
            return None
        if told.op == CapOp.EXPORT:
            return (isinstance(told.body, CapPeer) and self._stands_in(step, told.body)) or None
        if told.op not in (CapOp.GRANT, CapOp.REVOKE):
            return None
        for said, _ in islice(self._window.ahead(self._client, old.rank, message.ino), NEAR):
            if said.cap_id != old.cap_id:
                continue
            if said.op == "caprelease" and said.issue_seq == told.seq:
                return False  # its answer to what is told of a cap that it has no more
            if said.op in (*TELLS, "request") and newer(said.seq, told.seq) >= 0:
                return True
        return told.op == CapOp.GRANT or None  # which asks for no answer by who has the cap

    def _stands_in(self, step: Step, peer: CapPeer) -> bool:
        """Whether the client speaks of the importer's cap as an EXPORT has it: one seq behind the IMPORT."""
        message, seq = step.item.message, (peer.issue_seq - 1) % U32
        cap = self._cap(step.rank, message.ino)
        if peer.mds != step.rank or peer.cap_id != message.cap_id or (cap is not None and cap.issue_seq == seq):
            return False
        for said, _ in self._window.ahead(self._client, step.rank, message.ino):
            if said.op not in (*TELLS, "request") or said.cap_id != message.cap_id or newer(said.seq, message.seq) >= 0:
                return False
            if said.issue_seq == seq:
                return True
        return False

    def said_before(self, step: Step) -> list[Step]:
        """The last that the client sent each rank without knowing of ``step``, though it was captured later."""
        if isinstance(step.item.message, ClientSnap):
            found = [self._given_before_snap(step)]
        else:
            found = [self._of_the_exported(step), self._of_older(step)]
        return [last for last in found if last is not None]

    def _of_older(self, step: Step) -> Step | None:
        """The last that names an older seq."""
        last = None
        for told in told_in(step.item.message):
            for said, other in self._window.ahead(self._client, step.rank, told.ino):
                if said.op not in (*TELLS, "request") or said.cap_id != told.cap_id:
                    continue
                behind = newer(said.seq, told.seq) < 0 and newer(said.mseq, told.mseq) <= 0
                if not behind or other.item.ns > step.item.ns + UNDER_WAY:
                    break
                if last is None or other.number > last.number:
                    last = other
        return last

    def _of_the_exported(self, step: Step) -> Step | None:
        """The last about the cap that an IMPORT ends, as that was before."""
        message, last = step.item.message, None
        peer = message.peer if isinstance(message, ClientCaps) and message.op == CapOp.IMPORT else None
        cap = self._cap(peer.mds, message.ino) if peer is not None else None
        if peer is None or cap is None or cap.cap_id != peer.cap_id:
            return None
        for said, other in self._window.ahead(self._client, peer.mds, message.ino):
            same = said.cap_id == cap.cap_id and said.op in (*TELLS, "request")
            if not same or newer(said.seq, cap.seq) > 0 or other.item.ns > step.item.ns + UNDER_WAY:
                break
            last = other
        return last

    def _given_before_snap(self, step: Step) -> Step | None:
        """The last that gave back what the client's FLUSHSNAPs say it no longer had when it heard of the snapshot."""
        last = None
        newest = self._newest_snap(step)
        for snap in self._window.snaps(self._client):
            cap = self._cap(snap.rank, snap.ino)
            if snap.follows >= newest or cap is None or self._expected.ours(snap.tid):
                continue  # of a snapshot still to come, or one it knows
            held = cap.issued
            for ahead in self._window.ahead(self._client, snap.rank, snap.ino):
                said = ahead.said
                if said is snap or not held & ~snap.caps:
                    break
                if said.op in (*TELLS, "request") and said.cap_id == cap.cap_id and not snap.caps & ~said.caps:
                    if held & ~said.caps and (last is None or ahead.step.number > last.number):
                        last = ahead.step
                    held &= said.caps
        return last

    def snapped_before(self, step: Step) -> list[Step]:
        """What told the client of the snapshot that it flushes for in ``step``, where another rank did while something
        older waited to be read: of two connections the one that has less to say is read first (ceph:
        src/msg/DispatchQueue.cc, a queue each, in turns)."""
        unasked = [said for said in step.said if said.op == "flushsnap" and not self._expected.ours(said.tid)]
        follows = [said.follows for said in unasked if not self._expected.waits(said)]
        coming = self._window.coming(self._client, step.item.ns) if follows else ()
        return [
            other
            for other in coming
            if isinstance(other.item.message, ClientSnap)
            and other.rank != step.rank
            and self._newest_snap(other) > min(follows)
        ]

    def _granted_before_snap(self, step: Step) -> list[Step]:
        """Up to the GRANTs by other ranks of what the client's FLUSHSNAPs say it had when it heard of the snapshot."""
        newest, wait = self._newest_snap(step), dict[int, list[tuple[int, int]]]()
        for snap in self._window.snaps(self._client):
            inode = self._engine.cache.inodes.get(snap.ino)
            if inode is None or snap.rank == step.rank or snap.follows != newest - 1 or self._expected.ours(snap.tid):
                continue
            if self._engine.realms.context(inode.realm).seq >= newest:
                continue  # another rank has told that
            missing = snap.caps
            for cap in inode.caps.values():
                missing &= ~(cap.issued | cap.implemented)
            if missing:
                wait.setdefault(snap.rank, []).append((snap.ino, missing))
        coming = list(self._window.coming(self._client, step.item.ns + CROSSED)) if wait else []
        last: dict[int, int] = {}
        for number, one in enumerate(coming):
            for told in told_in(one.item.message):
                met = [(ino, bits) for ino, bits in wait.get(one.rank, ()) if told.ino == ino and not bits & ~told.caps]
                for each in met:
                    wait[one.rank].remove(each)
                    last[one.rank] = number
        return [one for number, one in enumerate(coming) if number <= last.get(one.rank, -1)]

    def _snapped_before_grant(self, step: Step) -> list[Step]:
        """Up to another rank's news of a snapshot, if what the client flushes for that lacks what ``step`` grants."""
        told = {told.ino: told for told in told_in(step.item.message)}
        for snap in self._window.snaps(self._client):
            grant, cap = told.get(snap.ino), self._cap(step.rank, snap.ino)
            if grant is None or cap is None or snap.rank != step.rank or self._expected.ours(snap.tid):
                continue
            if not grant.caps & ~(cap.issued | cap.implemented | snap.caps):
                continue
            first = next(
                (said for said, _ in self._window.ahead(self._client, snap.rank, snap.ino)
                 if said is snap or newer(said.seq, grant.seq) >= 0), None,
            )  # fmt: skip
            if first is not snap:
                continue
            coming = [one for one in self._window.coming(self._client, step.item.ns + CROSSED) if one.rank != step.rank]
            news = [
                (number, one.rank)
                for number, one in enumerate(coming)
                if isinstance(one.item.message, ClientSnap) and self._newest_snap(one) == snap.follows + 1
            ]
            if news:
                teller = news[0][1]
                last = max(number for number, rank in news if rank == teller)  # of one realm after the other
                return [one for one in coming[: last + 1] if one.rank == teller]
        return []

    def _newest_snap(self, step: Step) -> int:
        realms = decode_trace(step.item.message.trace, self._engine.cache.rank(step.rank).features).realms
        return max((realm.seq for realm in realms), default=0)

    def answer(self, rank: int, told: Told, cap: InodeCap) -> Ahead | None:
        """What the client says in answer to ``told``; None if that asks for none."""
        if not (cap.issued | cap.implemented) & ~told.caps and not told.asks_back:
            return None
        lost = (cap.issued | cap.implemented) & ~told.caps
        for ahead in self._window.ahead(self._client, rank, told.ino):
            said = ahead.said
            if said.cap_id != told.cap_id and said.op != "flushsnap":
                return None  # it has given this one up
            # A request's record is no answer, but shows bits that are in use still.
            if said.op in TELLS or (said.op == "request" and said.seq == told.seq and said.caps & lost):
                return ahead if said.seq == told.seq else None
        return None

    def wanted(self, inode: Inode, answer: Ahead) -> int:
        """What the client wants of ``inode`` as it stands: the first rank that hears of it next tells."""
        first = answer
        for rank in inode.caps:
            ahead = self._window.first_ahead(self._client, rank, inode.ino)
            if ahead is not None and ahead.said.op in TELLS and ahead.step.number < first.step.number:
                first = ahead
        return first.said.wanted

    def keeps_lazily(self, rank: int, told: Told, cap: InodeCap) -> bool:
        """Whether the client, asked for FILE_LAZYIO before ``told``, goes on to count it as in use."""
        if told.asks_back or not cap.revoking & Cap.FILE_LAZYIO:
            return False
        coming = (ahead.said for ahead in self._window.ahead(self._client, rank, told.ino))
        said = next((said for said in coming if said.op in TELLS), None)
        return said is not None and said.cap_id == told.cap_id and newer(said.seq, told.seq) > 0

    def dropped(self, rank: int, told: Told, cap: InodeCap) -> Ahead | None:
        """The release that the client has queued already when it learns ``told``, if it has dropped the cap."""
        coming = [
            ahead
            for ahead in islice(self._window.ahead(self._client, rank, told.ino), NEAR)
            if ahead.said.cap_id == told.cap_id
        ]
        releases = [
            ahead for ahead in coming if ahead.said.op == "caprelease" and ahead.said.issue_seq == cap.issue_seq
        ]
        if not releases:
            return None
        if told.anew:
            return releases[0] if newer(cap.issue_seq, told.seq) < 0 else None
        # It is told that it has it no more: by a release of its own.
        again = any(ahead.said.op == "caprelease" and ahead.said.issue_seq == told.seq for ahead in coming)
        return releases[0] if coming[0] is releases[0] and again else None

    def _cap(self, rank: int, ino: int) -> InodeCap | None:
        inode = self._engine.cache.inodes.get(ino)
        return inode.cap(rank) if inode is not None else None
