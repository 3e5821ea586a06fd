"""What a client flushes for a snapshot shows what it had read, and said, when it heard of that."""

from __future__ import annotations

from collections.abc import Iterator

from cephcaps.engine.inode import Inode, newer
from cephcaps.engine.realms import decode_trace
from cephcaps.trace.replay.evidence import Evidence, sent_before
from cephcaps.trace.replay.said import NAMES_SEQ, Said
from cephcaps.trace.replay.steps import Step
from cephcaps.trace.replay.told import Told
from cephwire.caps import CapOp, ClientCaps
from cephwire.snap import ClientSnap, SnapRealm

__all__ = ["before_snap", "seq_of_news", "snapped_before"]


def before_snap(at: Evidence, step: Step) -> Iterator[Step | None]:
    """The last of each kind that the client dealt with before it read the news of a snapshot in ``step``, though it was
    captured later."""
    newest = seq_of_news(at, step)
    flushes = [(said, other) for said, other in at.window.snaps(at.client) if not at.expected.ours(said.tid)]
    known = next((other for said, other in flushes if said.follows == newest - 1), None)
    given = _gave_back(at, newest, flushes)
    yield given if given is None or known is None or sent_before(given, known) else None
    crossing = at.crossing(step, known)
    yield _granted(at, step, newest, flushes, crossing)
    yield _acknowledged(at, step, {said.ino for said, _ in flushes if said.follows == newest - 1}, crossing)


def _gave_back(at: Evidence, newest: int, flushes: list[tuple[Said, Step]]) -> Step | None:
    """The last statement that gave back what the FLUSHSNAPs say the client no longer had."""
    last: Step | None = None
    for snap, _ in flushes:
        cap = at.cap(snap.rank, snap.ino)
        if snap.follows >= newest or cap is None:
            continue  # of a snapshot still to come
        held = cap.issued
        for said, other in at.window.ahead(at.client, snap.rank, snap.ino):
            if said is snap or not held & ~snap.caps:
                break
            if said.op in NAMES_SEQ and said.cap_id == cap.cap_id and not snap.caps & ~said.caps:
                if held & ~said.caps and (last is None or other.number > last.number):
                    last = other
                held &= said.caps
    return last


def _granted(
    at: Evidence, step: Step, newest: int, flushes: list[tuple[Said, Step]], crossing: list[Step]
) -> Step | None:
    """The last by which other ranks granted what the FLUSHSNAPs say the client had."""
    missing: dict[tuple[int, int], tuple[int, int]] = {}
    for snap, flush in flushes:
        inode = at.engine.cache.inodes.get(snap.ino)
        if inode is None or snap.rank == step.rank or snap.follows != newest - 1 or _knows(at, inode, newest):
            continue
        bits = snap.caps
        for cap in inode.caps.values():
            bits &= ~(cap.issued | cap.implemented)
        if bits:
            missing[snap.rank, snap.ino] = bits, flush.number
    last = None
    for one in crossing if missing else ():
        for told in one.told:
            bits, before = missing.get((one.rank, told.ino), (0, 0))
            if bits and not bits & ~told.caps and one.number < before:
                del missing[one.rank, told.ino]
                last = one
    return last


def _acknowledged(at: Evidence, step: Step, flushed: set[int], crossing: list[Step]) -> Step | None:
    """The last acknowledgement by other ranks of a flush after which the client has nothing to flush for the
    snapshot."""
    made = max((realm.snaps[0] for realm in _realms(at, step) if realm.snaps), default=0)
    last = None
    for one in crossing:
        message = one.item.message
        if not isinstance(message, ClientCaps) or message.op != CapOp.FLUSH_ACK or message.ino in flushed:
            continue
        inode = at.engine.cache.inodes.get(message.ino)
        if inode is None or not at.expected.ours(one.item.header.tid):
            continue
        if made > max(at.engine.realms.context(inode.realm).snaps, default=0):
            last = one
    return last


def snapped_before(at: Evidence, step: Step) -> Step | None:
    """Another rank's news of a snapshot, if what the client flushes for that lacks what ``step`` grants."""
    told = {told.ino: told for told in step.told}
    for snap, flush in at.window.snaps(at.client) if told else ():
        grant = told.get(snap.ino)
        if grant is None or snap.rank != step.rank or at.expected.ours(snap.tid) or not _lacks(at, snap, grant):
            continue
        news = [
            one
            for one in at.crossing(step, at.known_from(step))
            if isinstance(one.item.message, ClientSnap)
            and seq_of_news(at, one) == snap.follows + 1
            and one.number < flush.number
        ]
        if news:
            return next(one for one in reversed(news) if one.rank == news[0].rank)  # of one realm after the other
    return None


def _lacks(at: Evidence, snap: Said, grant: Told) -> bool:
    """Whether the FLUSHSNAP has not what ``grant`` gives, and is sent before the client speaks as who has read that."""
    cap = at.cap(snap.rank, snap.ino)
    if cap is None or not grant.caps & ~(cap.issued | cap.implemented | snap.caps):
        return False
    for said, _ in at.window.ahead(at.client, snap.rank, snap.ino):
        if said is snap or newer(said.seq, grant.seq) >= 0:
            return said is snap
    return False


def _knows(at: Evidence, inode: Inode, newest: int) -> bool:
    """Whether another rank has told of the snapshot."""
    return at.engine.realms.context(inode.realm).seq >= newest


def seq_of_news(at: Evidence, step: Step) -> int:
    """Of the newest snapshot that a CLIENT_SNAP tells of."""
    return max((realm.seq for realm in _realms(at, step)), default=0)


def _realms(at: Evidence, step: Step) -> tuple[SnapRealm, ...]:
    return decode_trace(step.item.message.trace, at.engine.cache.rank(step.rank).features).realms
