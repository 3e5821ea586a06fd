"""What a client says it holds it was given; what it has changed it flushes before it gives the right to it back."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.items import Traced
from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.rules import Report, Rules
from cephcaps.trace.lint.state import Cap, CapState, Claim, ClientKey, Session, State
from cephcaps.trace.words import CAPS
from cephwire.capbits import Cap as Bits
from cephwire.caps import CapBody, CapOp, ClientCaps
from cephwire.inode import InodeStat

__all__ = ["Held"]

NOT_ISSUED: Final = Rule(
    "caps-not-issued",
    "a client holds no bits but those it was given and has not given back since",
    'ceph: src/mds/Locker.cc, handle_client_caps ("confirming not issued caps"); kernel: fs/ceph/caps.c, __prep_cap',
)
NOT_HELD: Final = Rule(
    "flush-without-cap",
    "what is flushed was changed under an exclusive or write bit that had not been given back",
    "kernel: fs/ceph/caps.c, __ceph_mark_dirty_caps; ceph: src/mds/Locker.cc, _do_cap_update",
)
NOT_WRITTEN: Final = Rule(
    "ack-without-writeback",
    "a size or mtime that was changed here is flushed no later than the last of Fw, Fb and Fx is given back",
    "kernel: fs/ceph/caps.c, ceph_check_caps and __prep_cap: dirty bits go along with the message that gives them up",
)
DATA: Final = Bits.FILE_WR | Bits.FILE_EXCL
"""Dirty bits under which size and times are flushed."""


class _File:
    """The newest that either side has said of a file."""

    __slots__ = ("mtime", "size", "truncate_seq")

    def __init__(self) -> None:
        self.size = self.mtime = self.truncate_seq = 0

    def learn(self, size: int, mtime: int, truncate_seq: int) -> None:
        if truncate_seq > self.truncate_seq:
            self.size, self.truncate_seq = size, truncate_seq
        self.size = max(self.size, size)
        self.mtime = max(self.mtime, mtime)


class Held(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (NOT_ISSUED, NOT_HELD, NOT_WRITTEN)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._files: Recent[tuple[ClientKey, int], _File] = Recent()
        self._tids: Recent[tuple[ClientKey, int], bool] = Recent()

    def flushed(self, session: Session, cap: Cap | None, item: Traced, message: ClientCaps) -> None:
        tid = item.header.tid
        again = bool(tid and self._tids.get((session.client.key, tid)))
        if tid:
            self._tids[session.client.key, tid] = True
        if message.dirty and isinstance(message.body, CapBody) and message.op != CapOp.FLUSHSNAP:
            self._learn(session, message.ino, message.body)
        if again or cap is None or not message.dirty or message.op == CapOp.FLUSHSNAP or cap.state != CapState.HELD:
            return
        held = cap.most(message.seq)
        if held is not None and (lacking := message.dirty & ~held):
            what = f"flushes {CAPS[message.dirty]} as tid {tid} without holding {CAPS[lacking]}"
            self.found(NOT_HELD, session, what, cap=cap, ns=item.ns, bits=lacking, seq=message.seq)

    def claimed(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        if cap is None or cap.state != CapState.HELD or claim.seq is None:
            return
        held = cap.most(claim.seq)
        if held is None:
            return
        if extra := claim.caps & ~held:
            what = f"{claim.op} under seq {claim.seq} holds {CAPS[extra]}, which it did not have"
            self.found(NOT_ISSUED, session, what, cap=cap, ns=claim.ns, bits=extra, seq=claim.seq, said=claim)
        gone = held & Bits.ANY_FILE_WR & ~claim.caps
        if gone and not claim.caps & Bits.ANY_FILE_WR and not claim.dirty & DATA and claim.body is not None:
            self._given_back(session, cap, claim, gone)

    def _given_back(self, session: Session, cap: Cap, claim: Claim, gone: int) -> None:
        body, file = claim.body, self._files.get((session.client.key, claim.ino))
        if body is None or file is None or body.truncate_seq != file.truncate_seq:
            return
        changed = []
        if body.size > file.size:
            changed.append(f"size {body.size}, where {file.size} was told last")
        if body.mtime > file.mtime:
            changed.append("a newer mtime")
        if changed:
            what = f"{claim.op} gives back {CAPS[gone]} with {' and '.join(changed)}, and nothing dirty"
            self.found(NOT_WRITTEN, session, what, cap=cap, ns=claim.ns, bits=gone, seq=claim.seq, said=claim)

    def body_told(self, session: Session, message: ClientCaps) -> None:
        if isinstance(message.body, CapBody):
            self._learn(session, message.ino, message.body)

    def shown(self, session: Session, inode: InodeStat) -> None:
        self._file(session, inode.ino).learn(inode.size, inode.mtime, inode.truncate_seq)

    def _learn(self, session: Session, ino: int, body: CapBody) -> None:
        self._file(session, ino).learn(body.size, body.mtime, body.truncate_seq)

    def _file(self, session: Session, ino: int) -> _File:
        key = session.client.key, ino
        found = self._files.get(key)
        if found is None:
            found = self._files[key] = _File()
        return found
