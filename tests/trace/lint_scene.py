"""Clients and an MDS that do as they should, message by message, until a test has one of them do something else."""

from __future__ import annotations

from typing import Any

from cephcaps.trace.items import Flow, Item
from cephwire.capbits import parse_caps
from cephwire.caprelease import CapItem, ClientCapRelease
from cephwire.caps import CapBody, CapFlag, CapOp, CapPeer
from cephwire.inode import NOSNAP, FileLayout, IssuedCap
from cephwire.lease import ClientLease, LeaseAction
from cephwire.reconnect import CapReconnect, ClientReconnect, ReconnectCap
from cephwire.request import RequestRelease
from cephwire.requestargs import SetattrArgs, SetattrMask
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from tests.trace.rendering import FILE, ROOT, caps, down, flow, inode, reply, request, up

__all__ = ["FULL", "PIN", "READ", "SHARED", "Scene"]

FULL, READ, SHARED, PIN = map(parse_caps, ("pAsxLsXsxFsxcrwb", "pAsLsXsFscr", "pAsLsXs", "p"))
SECOND = 1000.0
"""Milliseconds."""


class Scene:
    """One client with sessions at two ranks.

    Attributes:
        items: what an eavesdropper gets.
        now: milliseconds.
    """

    def __init__(self, client: int = 4123) -> None:
        self.items: list[Item] = []
        self.now = 0.0
        self.flows = {rank: flow(client, rank, client % 1000 * 10 + rank) for rank in (0, 1)}
        self.renewal = 0

    def wait(self, seconds: float) -> None:
        self.now += seconds * SECOND

    def on_time(self, seconds: float) -> None:
        """Wait as a client does that renews its session."""
        while seconds > 0:
            self.wait(min(seconds, 15))
            seconds -= 15
            self.renew()

    def sends(self, message: Any, rank: int = 0, tid: int = 0, **more: Any) -> None:
        self.now += 0.1
        self.items.append(up(message, self.now, flow=self.flows[rank], tid=tid, **more))

    def hears(self, message: Any, rank: int = 0, tid: int = 0, **more: Any) -> None:
        self.now += 0.1
        self.items.append(down(message, self.now, flow=self.flows[rank], tid=tid, **more))

    # Sessions

    def open(self, rank: int = 0) -> None:
        self.sends(ClientSession(SessionOp.REQUEST_OPEN, 0), rank)
        self.hears(ClientSession(SessionOp.OPEN, 0), rank)
        self.renew(rank)

    def renew(self, rank: int = 0) -> None:
        self.renewal += 1
        self.sends(ClientSession(SessionOp.REQUEST_RENEWCAPS, self.renewal), rank)
        self.hears(ClientSession(SessionOp.RENEWCAPS, self.renewal), rank)

    def close(self, seq: int) -> None:
        self.sends(ClientSession(SessionOp.REQUEST_CLOSE, seq))
        self.hears(ClientSession(SessionOp.CLOSE, 0))

    def session(self, op: SessionOp, seq: int = 0) -> None:
        """From the MDS."""
        self.hears(ClientSession(op, seq))

    def fails_over(self) -> None:
        """Rank 0 is another daemon's from now on."""
        old = self.flows[0]
        self.flows[0] = Flow(old.number + 5, old.client, "192.0.2.9:6800", old.client_id, old.daemon_type, 0, 2)

    def reconnect(self, bits: int, ino: int = FILE, cap_id: int = 7) -> None:
        cap = CapReconnect("", cap_id, FULL, bits, ROOT, ROOT, None)
        self.sends(ClientReconnect((ReconnectCap(ino, cap),), ()))

    # What the MDS says of caps

    def looks_up(self, bits: int = FULL, seq: int = 1, *, ino: int = FILE, cap_id: int = 7, mseq: int = 0,
                 rank: int = 0, **more: Any) -> None:  # fmt: skip
        """The client asks for an inode and gets it, named ``file``."""
        self.sends(request(RequestOp.LOOKUP, ROOT, "file"), rank, tid=seq)
        cap = IssuedCap(bits, 0, cap_id, seq, mseq, ROOT, CapFlag.AUTH)
        nothing = IssuedCap(0, 0, 0, 0, 0, ROOT, 0)
        root, file = inode(ROOT, cap=nothing), inode(ino, cap=cap, **more)
        self.hears(reply(RequestOp.LOOKUP, root, "file", file), rank, tid=seq)

    def told(self, op: CapOp, bits: int, seq: int, *, ino: int = FILE, cap_id: int = 7, rank: int = 0,
             **more: Any) -> None:  # fmt: skip
        self.hears(caps(op, bits, ino, seq=seq, cap_id=cap_id, **more), rank)

    def export(self, mseq: int = 0) -> None:
        """From rank 0 to 1, where it has cap_id 70."""
        peer = CapPeer(70, 1, mseq + 1, 1, CapFlag.AUTH)
        self.hears(caps(CapOp.EXPORT, 0, FILE, cap_id=7, mseq=mseq, body=peer))

    def imports(self, bits: int = FULL, mseq: int = 1, flags: int = CapFlag.AUTH) -> None:
        peer = CapPeer(7, 1, mseq - 1, 0, flags)
        self.told(CapOp.IMPORT, bits, 1, cap_id=70, rank=1, mseq=mseq, peer=peer)

    # What the client says of them

    def update(self, bits: int, seq: int, *, issue_seq: int = 1, dirty: int = 0, tid: int = 0, op: CapOp = CapOp.UPDATE,
               ino: int = FILE, cap_id: int = 7, rank: int = 0, size: int = 0, oldest: int | None = None,
               **more: Any) -> None:  # fmt: skip
        body = CapBody(size, 0, 0, 0, 0, 0, 0, FileLayout(0, 0, 0, 0, 0, 0, 0), 0)
        message = caps(
            op, bits, ino, seq=seq, issue_seq=issue_seq, dirty=dirty, cap_id=cap_id, body=body,
            oldest_flush_tid=tid if oldest is None else oldest, **more,
        )  # fmt: skip
        self.sends(message, rank, tid)

    def flushsnap(self, bits: int, tid: int, follows: int, **more: Any) -> None:
        dirty = parse_caps("Fw")
        self.update(
            bits, 0, issue_seq=0, dirty=dirty, tid=tid, op=CapOp.FLUSHSNAP, cap_id=0, snap_follows=follows, **more
        )

    def acked(self, tid: int, *, ino: int = FILE, op: CapOp = CapOp.FLUSH_ACK, rank: int = 0, follows: int = 0) -> None:
        self.hears(caps(op, 0, ino, snap_follows=follows), rank, tid)

    def release(self, *, issue_seq: int = 1, cap_id: int = 7, mseq: int = 0, rank: int = 0, ino: int = FILE) -> None:
        self.sends(ClientCapRelease((CapItem(ino, cap_id, mseq, issue_seq),)), rank)

    def request(self, bits: int, seq: int, *, issue_seq: int = 1, tid: int = 100, **more: Any) -> None:
        """One that gives bits back along with it."""
        record = RequestRelease(FILE, 7, bits, 0, seq, issue_seq, 0)
        args = SetattrArgs(0o600, 0, 0, 0, 0, 0, 0, SetattrMask.MODE, 0)
        self.sends(request(RequestOp.SETATTR, FILE, releases=(record,), args=args, **more), tid=tid)

    # Leases

    def lease_asked(self, seq: int = 5, dname: str = "file") -> None:
        self.hears(ClientLease(LeaseAction.REVOKE, 1, ROOT, NOSNAP, NOSNAP, seq, 0, dname))

    def lease_given(self, seq: int = 5, dname: str = "file", action: int = LeaseAction.REVOKE_ACK) -> None:
        self.sends(ClientLease(action, 1, ROOT, NOSNAP, NOSNAP, seq, 0, dname))
