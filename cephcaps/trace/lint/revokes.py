"""Every REVOKE is answered, and in time."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.items import Traced
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.rules import Ended, Report, Rules
from cephcaps.trace.lint.state import Cap, CapState, Claim, Session, State, Told, after
from cephcaps.trace.view import duration
from cephcaps.trace.words import CAPS
from cephwire.caps import ClientCaps
from cephwire.scalars import NSEC
from cephwire.session import ClientSession, SessionOp

__all__ = ["ENDS", "PATIENCE", "Revokes"]

PATIENCE: Final = 5 * NSEC
"""An answer that the trace does not hold is missed only this long after it was asked for: libcephfs gives bits that it
has no more use for back after as long (ceph: ``client_caps_release_delay``)."""
MOST_REVOKES: Final = 30_000
"""Of one session."""
MOST_SESSIONS: Final = 20_000
ENDS: Final = {"closed": "until the session was closed", "reopened": "until the client opened its session anew"}
"""What a session's end leaves owed."""

UNANSWERED: Final = Rule(
    "revoke-unanswered",
    "a REVOKE is answered by an UPDATE (or a release) under its seq, without the bits asked for, even if it takes "
    "nothing away or the cap has just been given back",
    "kernel: fs/ceph/caps.c, handle_cap_grant; ceph: src/mds/Locker.cc, handle_client_caps, and src/mds/Capability.cc, "
    "confirm_receipt. Races: ceph PRs 25873 and 52175 (revoke that takes nothing), 47752 and 51500 (revoke crossing a "
    "release), 31662 (revoke after stale and renewed)",
)
LATE: Final = Rule(
    "revoke-late",
    "a REVOKE is answered within session_timeout: the MDS complains of the client after that",
    "ceph: src/mds/Locker.cc, caps_tick (health warning MDS_CLIENT_LATE_RELEASE). Race: ceph PR 43595 (answer put off "
    "again and again by new changes)",
)


class _Revoke:
    __slots__ = ("cap_id", "crossing", "ino", "kept", "lost", "ns", "partly", "seq")

    def __init__(self, told: Told, lost: int, *, crossing: bool) -> None:
        self.ns = told.ns
        self.ino, self.cap_id = told.ino, told.cap_id
        self.seq, self.lost, self.kept = told.seq, lost, told.caps
        self.crossing = crossing
        self.partly: Claim | None = None
        """An answer that still held some of the bits."""


class Revokes(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (UNANSWERED, LATE)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._open: dict[int, dict[int, _Revoke]] = {}  # by session number and inode
        self._sessions: dict[int, Session] = {}

    def told(self, session: Session, cap: Cap | None, told: Told) -> None:
        revokes = self._open.get(session.number, {})
        before = revokes.get(told.ino)
        if before is not None and before.cap_id != told.cap_id:
            del revokes[told.ino]  # that cap is no more
            before = None
        pending = None if cap is None or cap.state != CapState.HELD else cap.pending
        if told.op != "revoke" and (told.issues or pending is None or not pending & ~told.caps):
            if before is not None:
                before.kept |= told.caps
            return
        held = None if cap is None else cap.most()
        lost = (held if held is not None else pending or 0) & ~told.caps
        if before is not None:
            before.seq, before.kept, before.partly = told.seq, told.caps, None
            before.lost |= lost
            before.crossing = False
            return
        if session.number not in self._open:
            if len(self._open) >= MOST_SESSIONS:
                self._drop(next(iter(self._open)))
            self._open[session.number], self._sessions[session.number] = revokes, session
        if len(revokes) >= MOST_REVOKES:
            del revokes[next(iter(revokes))]
        revokes[told.ino] = _Revoke(told, lost, crossing=_crossing(cap, told))

    def claimed(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        revoke = self._open.get(session.number, {}).get(claim.ino)
        if revoke is None or revoke.cap_id != claim.cap_id or claim.seq is None or after(revoke.seq, claim.seq):
            return
        if claim.caps & ~revoke.kept:
            revoke.partly = claim
            return
        self._answered(session, cap, revoke, claim)

    def released(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        revoke = self._open.get(session.number, {}).get(claim.ino)
        if revoke is not None and revoke.cap_id == claim.cap_id and not (cap and cap.outdates(claim)):
            self._answered(session, cap, revoke, claim)

    def exported(self, session: Session, cap: Cap | None, message: ClientCaps, ns: int) -> None:
        self._open.get(session.number, {}).pop(message.ino, None)  # the importer asks anew

    def session_heard(self, session: Session, item: Traced, message: ClientSession) -> None:
        if message.op == SessionOp.STALE:  # the MDS has taken what it was asking for (Locker.cc, revoke_stale_caps)
            self._drop(session.number)

    def ended(self, session: Session, how: Ended, successor: Session | None = None) -> None:
        if until := ENDS.get(how):
            for revoke in self._open.get(session.number, {}).values():
                self._missing(session, revoke, until)
        self._drop(session.number)

    def finish(self) -> None:
        for number, session in self._sessions.items():
            for revoke in self._open[number].values():
                self._missing(session, revoke, "until the trace ends")

    def _drop(self, number: int) -> None:
        self._open.pop(number, None)
        self._sessions.pop(number, None)

    def _answered(self, session: Session, cap: Cap | None, revoke: _Revoke, claim: Claim) -> None:
        del self._open[session.number][claim.ino]
        age = claim.ns - revoke.ns
        late = session.client.session_timeout * NSEC
        if age > late:
            what = f"answered {duration(age)} after it was sent; {duration(late)} are allowed"
            self.found(
                LATE, session, what, cap=cap, ns=claim.ns, ino=claim.ino, bits=revoke.lost, seq=revoke.seq, age_ns=age,
                said=claim,
            )  # fmt: skip

    def _missing(self, session: Session, revoke: _Revoke, until: str) -> None:
        age = self.owed_ns(session, revoke.ns)
        evicted = session.evicted > revoke.ns
        if (age < PATIENCE and not evicted) or revoke.crossing:
            return
        what = f"not answered {until}, {duration(age)} later"
        if evicted:
            what += f"; a client of that host was blocklisted {duration(session.evicted - revoke.ns)} after it was sent"
        if revoke.partly is not None:
            what += f"; the answer under seq {revoke.partly.seq} still held {CAPS[revoke.partly.caps & ~revoke.kept]}"
        cap = self.state.cap(session, revoke.ino)
        if cap is not None and cap.state == CapState.RELEASED:
            what += f"; the cap had been released {duration(revoke.ns - cap.since)} before, and the MDS kept it"
        self.found(UNANSWERED, session, what, cap=cap, ino=revoke.ino, bits=revoke.lost, seq=revoke.seq, age_ns=age)


def _crossing(cap: Cap | None, told: Told) -> bool:
    """Whether the MDS will find that the cap was given back, by a release it had not read when it asked."""
    if cap is None or cap.state != CapState.RELEASED or cap.said is None or not cap.issues:
        return False
    return cap.said.issue_seq == cap.issues[-1] and told.ns - cap.since < PATIENCE
