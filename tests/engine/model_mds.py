"""A tiny model of one MDS rank, as the far end of an engine under test: what it grants, and what it makes of answers.

It works as a real one does where that matters to a client (ceph: src/mds/Capability.h, ``confirm_receipt``;
src/mds/Locker.cc, ``handle_client_caps``, ``_do_cap_release``): it keeps what is pending and what may still be held
apart, believes only an answer to its last message, and lowers wishes and takes releases only by issue_seq.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from cephcaps.engine.cache import Send
from cephwire.capbits import Cap, cap_string
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapBody, CapFlag, CapOp, ClientCaps
from cephwire.inode import InodeStat, IssuedCap
from cephwire.request import RequestRelease
from tests.session import samples


class ModelCap:
    """What the MDS keeps of the client's cap.

    Attributes:
        pending: what the client is to have.
        issued: what it may have, as far as the MDS has heard.
        revokes: of each REVOKE not answered its seq, what was issued before it, and the issue_seq at its time.
    """

    def __init__(self, cap_id: int) -> None:
        self.cap_id = cap_id
        self.pending = 0
        self.issued = 0
        self.seq = 0
        self.last_issue = 0
        self.wanted = 0
        self.revokes: deque[tuple[int, int, int]] = deque()

    def set_pending(self, bits: int) -> None:
        """Say something new to the client."""
        self.seq += 1
        if self.pending & ~bits:
            self.revokes.append((self.seq, self.issued, self.last_issue))
        self.pending = bits
        self.issued |= bits

    def confirm(self, seq: int, caps: int) -> None:
        """The client says what it holds, having heard up to ``seq``."""
        caps &= self.issued
        if seq == self.seq:
            self.revokes.clear()
            self.pending &= caps
            self.issued = caps
            return
        while self.revokes and self.revokes[0][0] < seq:
            self.revokes.popleft()
        if self.revokes and self.revokes[0][0] == seq:
            self.revokes[0] = seq, caps, self.revokes[0][2]
        self._count_issued()

    def forget_revokes(self, issue_seq: int) -> None:
        """A release came too late to count, but what was asked back before it is given."""
        while self.revokes and self.revokes[0][2] <= issue_seq:
            self.revokes.popleft()
        self._count_issued()

    def _count_issued(self) -> None:
        self.issued = self.pending
        for _, before, _ in self.revokes:
            self.issued |= before


class ModelInode:
    """Metadata under two locks."""

    def __init__(self) -> None:
        self.mode = 0o100644
        self.mtime = 1
        self.time_warp_seq = 0
        self.change_attr = 0


class ModelMds:
    """The rank, and the two directions of its connection with the client.

    Attributes:
        to_client: pushes and replies on their way, oldest first.
        from_client: what the client has sent and is not handled yet, with the generation of the cap it speaks of.
        journal: flushes applied and not durable yet.
        gen: rises with staleness, as the client's does once it hears of it.
    """

    def __init__(self) -> None:
        self.inodes = {ino: ModelInode() for ino in (7, 8, 9)}
        self.caps: dict[int, ModelCap] = {}
        self.to_client: deque[tuple[Any, int]] = deque()
        self.from_client: deque[tuple[int, Send | RequestRelease | str]] = deque()
        self.journal: deque[tuple[int, int]] = deque()
        self.completed: set[int] = set()
        self.gen = 1
        self.stale = False
        self._last_cap_id = 0

    # To the client

    def reply(self, ino: int, bits: int) -> None:
        """Answer a request; that takes nothing away."""
        if ino not in self.caps:
            self._last_cap_id += 1
            self.caps[ino] = ModelCap(self._last_cap_id)
        cap = self.caps[ino]
        cap.set_pending(cap.pending | bits | Cap.PIN)
        cap.last_issue = cap.seq
        self.to_client.append((self._stat(ino, cap), 0))

    def _stat(self, ino: int, cap: ModelCap) -> InodeStat:
        inode = self.inodes[ino]
        issued = IssuedCap(cap.pending, cap.wanted, cap.cap_id, cap.seq, 0, 1, CapFlag.AUTH)
        return msgspec.structs.replace(
            samples.inode(ino, issued, mode=inode.mode),
            mtime=inode.mtime,
            time_warp_seq=inode.time_warp_seq,
            change_attr=inode.change_attr,
        )

    def push(self, ino: int, bits: int, *, spurious: bool = False) -> None:
        """Grant or revoke; ``spurious`` says REVOKE though nothing is taken."""
        cap, inode = self.caps[ino], self.inodes[ino]
        op = CapOp.REVOKE if cap.pending & ~bits or spurious else CapOp.GRANT
        cap.set_pending(bits | Cap.PIN)
        if op is CapOp.REVOKE and (not cap.revokes or cap.revokes[-1][0] != cap.seq):
            cap.revokes.append((cap.seq, cap.issued, cap.last_issue))
        body = msgspec.structs.replace(samples.EMPTY_BODY, mtime=inode.mtime, time_warp_seq=inode.time_warp_seq)
        message = samples.caps(op, ino, cap.cap_id, seq=cap.seq, bits=cap.pending)
        told = {"mode": inode.mode, "change_attr": inode.change_attr, "body": body, "wanted": cap.wanted}
        self.to_client.append((msgspec.structs.replace(message, **told), 0))

    def become_stale(self) -> None:
        """The client was silent for too long: take all back without asking."""
        self.stale = True
        self.gen += 1
        for cap in self.caps.values():
            cap.pending = cap.issued = Cap.PIN
            cap.revokes.clear()
        self.to_client.append(("stale", 0))

    def acknowledge(self) -> None:
        """The oldest flush applied is durable now."""
        ino, tid = self.journal.popleft()
        self.to_client.append((samples.caps(CapOp.FLUSH_ACK, ino, 0), tid))

    def can_change(self, ino: int, shared: int) -> bool:
        """Whether another client may change what ``shared`` and its exclusive bit cover: nobody relies on it here,
        and nothing is being journaled."""
        cap = self.caps.get(ino)
        held = cap.issued if cap is not None else 0
        return not held & (shared | shared << 1) and all(flushed != ino for flushed, _ in self.journal)

    # From the client

    def handle(self, regrant: dict[int, int]) -> None:
        """Take the oldest message; ``regrant`` is what a renewal gives back."""
        gen, message = self.from_client.popleft()
        if isinstance(message, str):
            for ino, bits in regrant.items():
                if ino in self.caps:
                    self.push(ino, bits)
            self.stale = False
            self.to_client.append(("renewed", 0))
        elif isinstance(message, RequestRelease):
            self._confirm(message.ino, message.cap_id, message, gen)
        elif isinstance(message.message, ClientCapRelease):
            for item in message.message.caps:
                cap = self.caps.get(item.ino)
                if cap is None or cap.cap_id != item.cap_id:
                    continue
                if cap.last_issue == item.issue_seq:
                    del self.caps[item.ino]
                else:
                    cap.forget_revokes(item.issue_seq)
        else:
            self._caps_message(message.message, message.tid, gen)

    def _confirm(self, ino: int, cap_id: int, message: Any, gen: int) -> bool:
        cap = self.caps.get(ino)
        if cap is None or cap.cap_id != cap_id:
            return False
        if gen == self.gen:
            claimed = message.caps & ~cap.issued
            assert not claimed, f"the client claims {cap_string(claimed)}, which it was not given or has given back"
        cap.confirm(message.seq, message.caps)
        cap.wanted = message.wanted if message.issue_seq == cap.last_issue else cap.wanted | message.wanted
        return True

    def _caps_message(self, message: ClientCaps, tid: int, gen: int) -> None:
        known = self._confirm(message.ino, message.cap_id, message, gen)
        assert bool(tid) == bool(message.dirty)
        if not tid:
            return
        assert known, "changes were sent under a cap that was given back"
        assert tid >= message.oldest_flush_tid > 0
        self.completed = {done for done in self.completed if done >= message.oldest_flush_tid}
        if tid not in self.completed:
            self._apply(message)
        self.completed.add(tid)
        self.journal.append((message.ino, tid))

    def _apply(self, message: ClientCaps) -> None:
        inode, body = self.inodes[message.ino], message.body
        assert isinstance(body, CapBody)
        inode.change_attr = max(inode.change_attr, message.change_attr)
        if message.dirty & Cap.AUTH_EXCL:
            inode.mode = message.mode
        if message.dirty & Cap.FILE_EXCL or (message.dirty & Cap.FILE_WR and body.mtime > inode.mtime):
            inode.mtime = body.mtime
        if message.dirty & Cap.FILE_EXCL:
            inode.time_warp_seq = max(inode.time_warp_seq, body.time_warp_seq)
