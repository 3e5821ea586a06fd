"""What a client says of a cap shows what it had read of that cap, and of the cap's moves from rank to rank."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from cephcaps.engine.inode import InodeCap, newer
from cephcaps.trace.replay.evidence import CROSSED, NEAR, UNDER_WAY, Evidence
from cephcaps.trace.replay.said import NAMES_SEQ, TELLS
from cephcaps.trace.replay.steps import Step
from cephcaps.trace.replay.told import Told
from cephwire.caps import CapFlag, CapOp, CapPeer, ClientCaps

__all__ = ["before_caps"]

U32 = 1 << 32


def before_caps(at: Evidence, step: Step) -> Iterator[Step | None]:
    """The last of each kind that the client dealt with before it read ``step``, though it was captured later."""
    message = step.item.message
    yield _said_of_older(at, step)
    if isinstance(message, ClientCaps) and message.op == CapOp.EXPORT and isinstance(message.body, CapPeer):
        yield _said_before_export(at, step, message, message.body)
    if isinstance(message, ClientCaps) and message.op == CapOp.IMPORT and message.peer is not None:
        if message.peer.mds != step.rank:
            yield from _before_import(at, step, message, message.peer)
    else:
        yield _imported_before(at, step)


def _said_of_older(at: Evidence, step: Step) -> Step | None:
    """The last statement that names an older seq."""
    last: Step | None = None
    for told in step.told:
        for said, other in at.window.ahead(at.client, step.rank, told.ino):
            if said.op not in NAMES_SEQ or said.cap_id != told.cap_id:
                continue
            behind = newer(said.seq, told.seq) < 0 and newer(said.mseq, told.mseq) <= 0
            if not behind or other.item.ns > step.item.ns + UNDER_WAY:
                break
            if last is None or other.number > last.number:
                last = other
    return last


def _said_before_export(at: Evidence, step: Step, message: ClientCaps, peer: CapPeer) -> Step | None:
    """The last statement about a cap as it was before an EXPORT had it stand in."""
    last = None
    for said, other in at.window.ahead(at.client, peer.mds, message.ino):
        same = said.op in NAMES_SEQ and said.cap_id == peer.cap_id and newer(said.mseq, peer.mseq) < 0
        behind = newer(said.issue_seq, (peer.issue_seq - 1) % U32) < 0 and other.item.ns <= step.item.ns + UNDER_WAY
        if not same or not behind:
            break
        last = other
    return last


# An IMPORT, which ends the exporter's cap


def _before_import(at: Evidence, step: Step, message: ClientCaps, peer: CapPeer) -> Iterator[Step | None]:
    old = at.cap(peer.mds, message.ino)
    if old is not None and old.cap_id == peer.cap_id:
        yield _said_of_exported(at, step, old, message.ino, peer)
        yield _told_of_exported(at, step, old, message)


def _said_of_exported(at: Evidence, step: Step, old: InodeCap, ino: int, peer: CapPeer) -> Step | None:
    """The last statement about the cap that ends, as that was before; or its release, if the IMPORT asks for none."""
    last = None
    for said, other in at.window.ahead(at.client, old.rank, ino):
        if said.cap_id != old.cap_id or other.item.ns > step.item.ns + UNDER_WAY:
            break
        if said.op == "caprelease" and said.issue_seq == old.issue_seq and not peer.flags & CapFlag.RELEASE:
            return other
        if said.op not in NAMES_SEQ or newer(said.seq, old.seq) > 0:
            break
        last = other
    return last


def _told_of_exported(at: Evidence, step: Step, old: InodeCap, message: ClientCaps) -> Step | None:
    """The last that the exporter sent which the client goes by as who still has the cap."""
    last = None
    for other in at.crossing(step, at.known_from(step)):
        if other.rank != old.rank:
            continue
        goes_by = _goes_by(at, step, old, message, other)
        if goes_by is False:
            break
        if goes_by:
            last = other
    return last


def _goes_by(at: Evidence, step: Step, old: InodeCap, message: ClientCaps, other: Step) -> bool | None:
    """Whether the client had the cap ``old`` when it read ``other``; None if that cannot be said."""
    told = other.item.message
    if any(_outlives(at, each, old.rank, step) for each in other.told if each.ino == message.ino):
        return False
    if not isinstance(told, ClientCaps) or (told.ino, told.cap_id) != (message.ino, old.cap_id):
        return None
    if told.op == CapOp.EXPORT:
        return (isinstance(told.body, CapPeer) and _stands_in(at, step, message, told.body)) or None
    if newer(told.mseq, old.mseq) > 0:
        return False  # it has come back, and is another one
    if told.op not in (CapOp.GRANT, CapOp.REVOKE):
        return None
    for said, _ in islice(at.window.ahead(at.client, old.rank, message.ino), NEAR):
        if said.cap_id != old.cap_id:
            continue
        if said.op == "caprelease" and said.issue_seq == told.seq:
            return False  # its answer to what is told of a cap that it has no more
        if said.op in NAMES_SEQ and newer(said.seq, told.seq) >= 0:
            return True
    return told.op == CapOp.GRANT or None  # which asks for no answer by who has the cap


def _stands_in(at: Evidence, step: Step, message: ClientCaps, peer: CapPeer) -> bool:
    """Whether the client speaks of the importer's cap as an EXPORT has it: one seq behind the IMPORT."""
    cap, seq = at.cap(step.rank, message.ino), (peer.issue_seq - 1) % U32
    if peer.mds != step.rank or peer.cap_id != message.cap_id or (cap is not None and cap.issue_seq == seq):
        return False
    for said, _ in at.window.ahead(at.client, step.rank, message.ino):
        if said.op not in NAMES_SEQ or said.cap_id != message.cap_id or newer(said.seq, message.seq) >= 0:
            return False
        if said.issue_seq == seq:
            return True
    return False


# A reply of the exporter's, which issues the cap anew


def _imported_before(at: Evidence, step: Step) -> Step | None:
    """The IMPORT that ended the cap which ``step`` issues anew."""
    for told in step.told:
        cap = at.cap(step.rank, told.ino)
        if cap is not None and cap.cap_id == told.cap_id:
            for other in at.window.imports(at.client, step.rank, told.ino):
                if other.item.ns <= step.item.ns + CROSSED and _outlives(at, told, step.rank, other):
                    return other
    return None


def _outlives(at: Evidence, told: Told, rank: int, ending: Step) -> bool:
    """Whether the client has the cap that ``told`` issues anew when it has read the IMPORT ``ending`` one with that
    cap_id: so it read the IMPORT first. It still speaks of it then, or gives it back as it was before ``told``."""
    if not told.anew or ending.item.message.peer.cap_id != told.cap_id:
        return False
    known = at.known_from(ending)
    for said, other in islice(at.window.ahead(at.client, rank, told.ino), NEAR):
        if said.cap_id != told.cap_id:
            continue
        if said.op == "caprelease" and newer(said.issue_seq, told.seq) < 0:
            return True
        if said.op in TELLS and said.issue_seq == told.seq and known is not None and other.number > known.number:
            return True
    return False
