"""What a client tells an MDS about one cap, in one form for every message that carries it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapBody, CapOp, ClientCaps
from cephwire.reconnect import ClientReconnect, ReconnectCap
from cephwire.request import ClientRequest, RequestRelease

__all__ = ["COMPARED", "NAMES_SEQ", "TELLS", "Said", "of_cap", "said_in"]

OPS: Final[dict[int, str]] = {
    CapOp.UPDATE: "update",
    CapOp.DROP: "drop",
    CapOp.FLUSH: "flush",
    CapOp.FLUSHSNAP: "flushsnap",
    CapOp.RELEASE: "release",
    CapOp.RENEW: "renew",
}

TELLS: Final = ("update", "flush")
"""What says how things stand with a cap."""
NAMES_SEQ: Final = (*TELLS, "request")
"""What names the seq that the client has read last."""
COMPARED: Final = ("op", "cap_id", "caps", "dirty", "seq", "issue_seq", "mseq", "follows")
"""What is compared of two: ``wanted`` tells what is open, and that is inferred from it."""


class Said(NamedTuple):
    """One statement about one cap; 0 where its kind of message has no such field."""

    op: str
    """As `CapOp` names them, or ``caprelease`` (an item of CLIENT_CAPRELEASE), ``request`` (a record of a
    CLIENT_REQUEST), ``reconnect`` (an entry of CLIENT_RECONNECT)."""
    rank: int
    ino: int
    cap_id: int = 0
    caps: int = 0
    wanted: int = 0
    dirty: int = 0
    seq: int = 0
    issue_seq: int = 0
    mseq: int = 0
    follows: int = 0
    """Of a FLUSHSNAP."""
    tid: int = 0
    """The flush's."""
    message: Any = None
    """The CLIENT_CAPS it was, for the values it flushes."""
    answers: str = ""
    """Of one of ours that gives nothing back: what it answers all the same, ``revoke`` or ``grant``."""

    def differs(self, other: Said) -> tuple[str, ...]:
        """Names of the fields that are not alike."""
        return tuple(name for name in COMPARED if getattr(self, name) != getattr(other, name))


def said_in(rank: int, message: Any, tid: int) -> list[Said]:
    """All that a client's message says of caps, in its order.

    Args:
        tid: the header's.
    """
    match message:
        case ClientCaps() if isinstance(message.body, CapBody):
            return [_of_caps(rank, message, tid)]
        case ClientCapRelease():
            return [_of_item(rank, item) for item in message.caps]
        case ClientRequest():
            return [_of_record(rank, record) for record in message.releases]
        case ClientReconnect():
            return [_of_entry(rank, entry) for entry in message.caps]
    return []


def _of_caps(rank: int, message: ClientCaps, tid: int) -> Said:
    snap = message.op == CapOp.FLUSHSNAP
    return Said(
        op=OPS.get(message.op, str(message.op)),
        rank=rank,
        ino=message.ino,
        # It is about no cap: what clients put there, and the caps they name, nobody reads.
        cap_id=0 if snap else message.cap_id,
        caps=message.caps,
        wanted=message.wanted,
        dirty=message.dirty,
        seq=0 if snap else message.seq,
        issue_seq=0 if snap else message.issue_seq,
        mseq=message.mseq,
        follows=message.snap_follows if snap else 0,
        tid=tid,
        message=message,
    )


def of_cap(op: str, rank: int, ino: int, cap: Any) -> Said:
    """What there is to say of an engine's cap as it is."""
    return Said(
        op,
        rank,
        ino,
        cap_id=cap.cap_id,
        caps=cap.implemented,
        wanted=cap.mds_wanted,
        seq=cap.seq,
        issue_seq=cap.issue_seq,
        mseq=cap.mseq,
    )


def _of_item(rank: int, item: CapItem) -> Said:
    return Said("caprelease", rank, item.ino, cap_id=item.cap_id, issue_seq=item.issue_seq, mseq=item.mseq)


def _of_record(rank: int, record: RequestRelease) -> Said:
    return Said(
        "request",
        rank,
        record.ino,
        cap_id=record.cap_id,
        caps=record.caps,
        wanted=record.wanted,
        seq=record.seq,
        issue_seq=record.issue_seq,
        mseq=record.mseq,
    )


def _of_entry(rank: int, entry: ReconnectCap) -> Said:
    cap = entry.cap
    return Said("reconnect", rank, entry.ino, cap_id=cap.cap_id, caps=cap.issued, wanted=cap.wanted)
