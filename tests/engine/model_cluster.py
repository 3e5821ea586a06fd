"""A tiny model of two MDS ranks, as the far end of an engine under test: what they grant, and make of answers.

They work as real ones do where that matters to a client (ceph: src/mds/Capability.h, ``confirm_receipt``, ``merge``;
src/mds/Locker.cc, ``handle_client_caps``, ``_do_cap_release``; src/mds/Migrator.cc): what is pending and what may
still be held are kept apart; only an answer to the last message counts; wishes are lowered and releases taken by
issue_seq; what belongs to no cap, or to one from before it moved, is dropped in silence; a flush known by its tid is
only acknowledged.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from cephcaps.engine.cache import Send
from cephcaps.engine.inode import newer
from cephwire.capbits import Cap, cap_string
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapBody, CapFlag, CapOp, CapPeer, ClientCaps
from cephwire.codec import Codec
from cephwire.inode import XATTR_BLOB, InodeStat, IssuedCap
from cephwire.reconnect import ClientReconnect
from cephwire.request import RequestRelease
from tests.session import samples

INOS = (7, 8, 9)
FIRST_SEQ = 2**32 - 3
FIRST_MSEQ = 2**32 - 2
"""Both wrap soon."""
U32 = 2**32

xattr_blobs: Codec[Any] = Codec(XATTR_BLOB)


class ModelCap:
    """What a rank keeps of the client's cap.

    Attributes:
        pending: what the client is to have.
        issued: what it may have, as far as the rank has heard.
        revokes: of each REVOKE not answered its seq, what was issued before it, and the issue_seq at its time.
    """

    def __init__(self, cap_id: int, seq: int, mseq: int) -> None:
        self.cap_id = cap_id
        self.pending = 0
        self.issued = 0
        self.seq = self.last_issue = seq
        self.mseq = mseq
        self.wanted = 0
        self.revokes: deque[tuple[int, int, int]] = deque()

    def set_pending(self, bits: int) -> None:
        """Say something new to the client."""
        self.seq = (self.seq + 1) % U32
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
        while self.revokes and newer(self.revokes[0][0], seq) < 0:
            self.revokes.popleft()
        if self.revokes and self.revokes[0][0] == seq:
            self.revokes[0] = seq, caps, self.revokes[0][2]
        self._count_issued()

    def forget_revokes(self, issue_seq: int) -> None:
        """A release came too late to count, but what was asked back before it is given."""
        while self.revokes and newer(self.revokes[0][2], issue_seq) <= 0:
            self.revokes.popleft()
        self._count_issued()

    def _count_issued(self) -> None:
        self.issued = self.pending
        for _, before, _ in self.revokes:
            self.issued |= before


class State(msgspec.Struct):
    """Metadata of an inode."""

    mode: int = 0o100644
    mtime: int = 1
    time_warp_seq: int = 0
    size: int = 0
    xattr_version: int = 1
    xattrs: dict[str, bytes] = {}


class ModelInode:
    """An inode: as applied, and as it is durable."""

    def __init__(self, auth: int) -> None:
        self.auth = auth
        self.live = State()
        self.durable = State()
        self.max_size = 100


class ModelRank:
    """One rank, and the two directions of its connection with the client.

    Attributes:
        to_client: pushes and replies on their way, oldest first, each with its header's tid.
        from_client: what the client has sent and is not handled yet, with the generation of the cap it speaks of.
        journal: flushes applied and not durable yet: the inode, the tid, what a FLUSHSNAP follows (else -1), and the
            inode's state with it.
    """

    def __init__(self, cluster: ModelCluster, rank: int) -> None:
        self.cluster = cluster
        self.rank = rank
        self.caps: dict[int, ModelCap] = {}
        self.to_client: deque[tuple[Any, int]] = deque()
        self.from_client: deque[tuple[int, Any]] = deque()
        self.journal: deque[tuple[int, int, int, State]] = deque()
        self.gen = 1
        self.stale = False
        self.serving = True

    # To the client

    def reply(self, ino: int, bits: int) -> None:
        """Answer a request; that takes nothing away."""
        if ino not in self.caps:
            self.caps[ino] = ModelCap(self.cluster.new_cap_id(), FIRST_SEQ, FIRST_MSEQ)
        cap = self.caps[ino]
        cap.set_pending(cap.pending | bits | Cap.PIN)
        cap.last_issue = cap.seq
        self.to_client.append((self._stat(ino, cap), 0))

    def _stat(self, ino: int, cap: ModelCap) -> InodeStat:
        inode = self.cluster.inodes[ino]
        told = inode.live
        issued = IssuedCap(cap.pending, cap.wanted, cap.cap_id, cap.seq, cap.mseq, 1, CapFlag.AUTH)
        return msgspec.structs.replace(
            samples.inode(ino, issued, mode=told.mode),
            mtime=told.mtime,
            time_warp_seq=told.time_warp_seq,
            size=told.size,
            max_size=inode.max_size,
            xattrs=dict(told.xattrs),
            xattr_version=told.xattr_version,
        )

    def push(self, ino: int, bits: int, *, spurious: bool = False, op: CapOp | None = None) -> None:
        """Grant or revoke; ``spurious`` says REVOKE though nothing is taken."""
        cap = self.caps[ino]
        if op is None:
            op = CapOp.REVOKE if cap.pending & ~bits or spurious else CapOp.GRANT
        cap.set_pending(bits | Cap.PIN)
        if op is CapOp.REVOKE and (not cap.revokes or cap.revokes[-1][0] != cap.seq):
            cap.revokes.append((cap.seq, cap.issued, cap.last_issue))
        self.to_client.append((self._told(op, ino, cap), 0))

    def _told(self, op: CapOp, ino: int, cap: ModelCap) -> ClientCaps:
        inode = self.cluster.inodes[ino]
        told = inode.live
        body = msgspec.structs.replace(
            samples.EMPTY_BODY,
            mtime=told.mtime,
            time_warp_seq=told.time_warp_seq,
            size=told.size,
            max_size=inode.max_size,
        )
        return msgspec.structs.replace(
            samples.caps(op, ino, cap.cap_id, seq=cap.seq, mseq=cap.mseq, bits=cap.pending),
            mode=told.mode,
            body=body,
            wanted=cap.wanted,
            xattr_version=told.xattr_version,
            xattrs=xattr_blobs.encode(xattr_blobs.schema.cls(dict(told.xattrs))),
        )

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
        ino, tid, follows, state = self.journal.popleft()
        inode = self.cluster.inodes[ino]
        self.cluster.completed.add(tid)
        if follows >= 0:
            self.cluster.snaps_durable.add((ino, follows))
            told = msgspec.structs.replace(samples.caps(CapOp.FLUSHSNAP_ACK, ino, 0), snap_follows=follows)
            self.to_client.append((told, tid))
            return
        inode.durable = state
        self.to_client.append((samples.caps(CapOp.FLUSH_ACK, ino, 0), tid))

    def export(self, ino: int, to: ModelRank) -> None:
        """Hand an inode on, with what the client has of it."""
        self.cluster.inodes[ino].auth = to.rank
        for entry in [entry for entry in self.journal if entry[0] == ino]:
            self.journal.remove(entry)
            to.journal.append(entry)
        cap = self.caps.pop(ino, None)
        if cap is None:
            return
        new = to.caps[ino] = ModelCap(self.cluster.new_cap_id(), FIRST_SEQ, (cap.mseq + 1) % U32)
        new.wanted = cap.wanted
        new.pending = new.issued = cap.issued | cap.pending
        to_new = CapPeer(new.cap_id, new.seq, new.mseq, to.rank, CapFlag.AUTH)
        to_old = CapPeer(cap.cap_id, cap.seq, cap.mseq, self.rank, 0)
        told = samples.caps(CapOp.EXPORT, ino, cap.cap_id, seq=cap.seq, mseq=cap.mseq, bits=0)
        self.to_client.append((msgspec.structs.replace(told, body=to_new), 0))
        to.to_client.append((msgspec.structs.replace(to._told(CapOp.IMPORT, ino, new), peer=to_old), 0))

    def fail(self) -> None:
        """The daemon dies, with whatever was not durable, and another takes over."""
        self.to_client.clear()
        self.from_client.clear()
        self.journal.clear()
        self.caps.clear()
        self.gen += 1
        self.stale = False
        self.serving = False
        for inode in self.cluster.inodes.values():
            if inode.auth == self.rank:
                inode.live = msgspec.structs.replace(inode.durable)

    # From the client

    def handle(self, regrant: int) -> None:
        """Take the oldest message; ``regrant`` is what a renewal gives back."""
        gen, message = self.from_client.popleft()
        match message:
            case "renew":
                for ino in self.caps:
                    if regrant:
                        self.push(ino, regrant)
                self.stale = False
                self.to_client.append(("renewed", 0))
            case RequestRelease():
                self._confirm(message.ino, message.cap_id, message, gen)
            case Send(message=ClientCapRelease() as release):
                for item in release.caps:
                    self._released(item)
            case Send(message=ClientReconnect() as told):
                self._reconnected(told)
            case Send(message=ClientCaps() as caps, tid=tid):
                self._caps_message(caps, tid, gen)

    def _released(self, item: Any) -> None:
        cap = self.caps.get(item.ino)
        if cap is None or cap.cap_id != item.cap_id or newer(item.mseq, cap.mseq) < 0:
            return
        if cap.last_issue == item.issue_seq:
            del self.caps[item.ino]
        else:
            cap.forget_revokes(item.issue_seq)

    def _reconnected(self, told: ClientReconnect) -> None:
        for entry in told.caps:
            cap = self.caps[entry.ino] = ModelCap(entry.cap.cap_id, 0, 0)
            cap.pending = cap.issued = entry.cap.issued
            cap.wanted = entry.cap.wanted
        self.serving = True
        self.to_client.append(("serving", 0))

    def _confirm(self, ino: int, cap_id: int, message: Any, gen: int) -> bool:
        cap = self.caps.get(ino)
        if cap is None or cap.cap_id != cap_id or newer(message.mseq, cap.mseq) < 0:
            return False
        if gen == self.gen:
            claimed = message.caps & ~cap.issued
            assert not claimed, f"the client claims {cap_string(claimed)}, which it was not given or has given back"
        cap.confirm(message.seq, message.caps)
        cap.wanted = message.wanted if message.issue_seq == cap.last_issue else cap.wanted | message.wanted
        return True

    def _caps_message(self, message: ClientCaps, tid: int, gen: int) -> None:
        assert bool(tid) == bool(message.dirty)
        if message.op == CapOp.FLUSHSNAP:
            if self.cluster.inodes[message.ino].auth == self.rank:
                self._flush(message, tid, message.snap_follows)
            return
        known = self._confirm(message.ino, message.cap_id, message, gen)
        if not known and self.serving:
            return  # in silence
        body = message.body
        assert isinstance(body, CapBody)
        inode = self.cluster.inodes[message.ino]
        if tid:
            self._flush(message, tid, -1)
        if known and body.max_size > inode.max_size:
            inode.max_size = body.max_size * 2
            self.push(message.ino, self.caps[message.ino].pending, op=CapOp.GRANT)

    def _flush(self, message: ClientCaps, tid: int, follows: int) -> None:
        assert tid >= message.oldest_flush_tid > 0
        applied = any(tid == known for _, known, _, _ in self.journal)
        if tid not in self.cluster.completed and not applied:
            self.cluster.flush_seen(message, tid, follows)
            if follows < 0:
                self._apply(message)
        live = self.cluster.inodes[message.ino].live
        self.journal.append((message.ino, tid, follows, msgspec.structs.replace(live)))

    def _apply(self, message: ClientCaps) -> None:
        live, body = self.cluster.inodes[message.ino].live, message.body
        assert isinstance(body, CapBody)
        dirty = message.dirty
        if dirty & Cap.AUTH_EXCL:
            live.mode = message.mode
        if dirty & Cap.XATTR_EXCL and message.xattr_version > live.xattr_version:
            live.xattrs = dict(xattr_blobs.decode(message.xattrs).xattrs)
            live.xattr_version = message.xattr_version
        if dirty & (Cap.FILE_EXCL | Cap.FILE_WR):
            live.size = max(live.size, body.size)
        if dirty & Cap.FILE_EXCL or (dirty & Cap.FILE_WR and body.mtime > live.mtime):
            live.mtime = body.mtime
        if dirty & Cap.FILE_EXCL:
            live.time_warp_seq = max(live.time_warp_seq, body.time_warp_seq)


class ModelCluster:
    """Both ranks, and what is the file system's.

    Attributes:
        completed: tids of flushes that are durable.
        snaps_durable: inode and what it follows, of each FLUSHSNAP that is.
        snap_seq: the newest snapshot's number.
    """

    def __init__(self) -> None:
        self.inodes = {ino: ModelInode(auth=ino % 2) for ino in INOS}
        self.completed: set[int] = set()
        self.snaps_durable: set[tuple[int, int]] = set()
        self.snaps_told: dict[tuple[int, int], tuple[int, int]] = {}
        self.snap_seq = 1
        self.ranks = (ModelRank(self, 0), ModelRank(self, 1))
        self._last_cap_id = 0

    def new_cap_id(self) -> int:
        self._last_cap_id += 1
        return self._last_cap_id

    def auth(self, ino: int) -> ModelRank:
        return self.ranks[self.inodes[ino].auth]

    def flush_seen(self, message: ClientCaps, tid: int, follows: int) -> None:
        """A flush is taken in for the first time, as far as is durable."""
        if follows >= 0:
            assert isinstance(message.body, CapBody)
            self.snaps_told[message.ino, follows] = (message.mode, message.body.size)

    def can_change(self, ino: int, shared: int) -> bool:
        """Whether another client may change what ``shared`` and its exclusive bit cover: nobody relies on it here,
        and nothing is being journaled."""
        rank = self.auth(ino)
        cap = rank.caps.get(ino)
        held = cap.issued if cap is not None else 0
        journaled = any(flushed == ino for other in self.ranks for flushed, *_ in other.journal)
        return rank.serving and not held & (shared | shared << 1) and not journaled
