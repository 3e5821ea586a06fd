"""A cap that has moved to another rank is the old rank's business no more."""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.rules import Report, Rules
from cephcaps.trace.lint.state import Cap, CapState, Claim, ClientKey, Session, State
from cephcaps.trace.view import duration
from cephwire.caps import CapFlag, CapPeer, ClientCaps
from cephwire.scalars import NSEC

__all__ = ["Moves"]

UNREAD: Final = 6 * NSEC
"""What was queued before an EXPORT was read is sent within this: the kernel gathers releases for 5 s (fs/ceph/
mds_client.c, ``delayed_work``)."""

RELEASED: Final = Rule(
    "release-after-export",
    "a cap that was exported is neither released at the rank it was exported from nor spoken of to it",
    "kernel: fs/ceph/caps.c, handle_cap_export (the cap is removed without a release) and handle_cap_import (which "
    "releases it only where CEPH_CAP_FLAG_RELEASE says so)",
)


class _Release(NamedTuple):
    session: Session
    cap: Cap
    claim: Claim
    exported: int


class Moves(Rules):
    """A release may have been on its way when the EXPORT came. It was not if the client goes on with the cap it has
    from the importer, for then it had not given the inode up."""

    rules: ClassVar[tuple[Rule, ...]] = (RELEASED,)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._peers: Recent[tuple[int, int], CapPeer] = Recent()  # by the exporter's session and inode
        self._allowed: Recent[tuple[ClientKey, int, int], bool] = Recent()  # the exporter's cap may be released
        self._waiting: Recent[tuple[ClientKey, int, int], _Release] = Recent()  # by the importer's cap

    def exported(self, session: Session, cap: Cap | None, message: ClientCaps, ns: int) -> None:
        if isinstance(message.body, CapPeer) and message.body.cap_id:
            self._peers[session.number, message.ino] = message.body
        else:
            self._peers.pop((session.number, message.ino))

    def imported(self, session: Session, message: ClientCaps) -> None:
        peer = message.peer
        if peer is not None and peer.flags & CapFlag.RELEASE:
            self._allowed[session.client.key, message.ino, peer.cap_id] = True

    def claimed(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        if cap is None:
            return
        if cap.state == CapState.EXPORTED:
            if claim.ns - cap.since > UNREAD:
                self._late(session, cap, claim)
        elif claim.op != "request release":
            waiting = self._waiting.pop((session.client.key, claim.ino, claim.cap_id))
            if waiting is not None:
                self._wrong(waiting)

    def released(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        if cap is None:
            return
        key = session.client.key
        if cap.state != CapState.EXPORTED:
            self._waiting.pop((key, claim.ino, claim.cap_id))
            return
        if self._allowed.get((key, claim.ino, claim.cap_id)):
            return
        if claim.ns - cap.since > UNREAD:
            self._late(session, cap, claim)
            return
        peer = self._peers.get((session.number, claim.ino))
        target = None if peer is None else self.state.at_rank(session.client, peer.mds)
        if peer is None or target is None:
            return
        release = _Release(session, cap, claim, cap.since)
        there = self.state.cap(target, claim.ino)
        if there is None or there.cap_id != peer.cap_id or there.said is None:
            self._waiting[key, claim.ino, peer.cap_id] = release
        elif there.state == CapState.HELD and there.said.ns > cap.since:
            self._wrong(release)

    def _late(self, session: Session, cap: Cap, claim: Claim) -> None:
        age = claim.ns - cap.since
        what = f"{claim.op} {duration(age)} after the cap was exported"
        self.found(
            RELEASED, session, what, cap=cap, ns=claim.ns, seq=claim.seq, bits=claim.caps, age_ns=age, said=claim
        )

    def _wrong(self, release: _Release) -> None:
        session, cap, claim, exported = release
        age = claim.ns - exported
        what = (
            f"{claim.op} {duration(age)} after the cap was exported, while the client went on with the one it has from "
            "the importer"
        )
        self.found(RELEASED, session, what, cap=cap, ns=claim.ns, seq=claim.seq, age_ns=age, said=claim)
