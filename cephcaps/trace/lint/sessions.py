"""Sessions are renewed in time, flushed in order and closed with the right count."""

from __future__ import annotations

from typing import ClassVar, Final

from cephcaps.trace.items import Traced
from cephcaps.trace.known import Recent
from cephcaps.trace.lint.finding import Rule
from cephcaps.trace.lint.revokes import ENDS, PATIENCE
from cephcaps.trace.lint.rules import Ended, Report, Rules
from cephcaps.trace.lint.state import Cap, Claim, ClientKey, Session, State
from cephcaps.trace.view import duration
from cephwire.caps import ClientCaps
from cephwire.reply import ClientReply
from cephwire.request import ClientRequest
from cephwire.scalars import NSEC
from cephwire.session import ClientSession, SessionOp

__all__ = ["Sessions"]

GATHERED: Final = NSEC
"""Releases that were queued are sent within this: libcephfs' tick (ceph: ``client_tick_interval``)."""

RENEWALS: Final = Rule(
    "renewals-late",
    "a session is renewed at least once in session_timeout: its caps are not valid after that",
    "kernel: fs/ceph/mds_client.c, delayed_work; ceph: src/client/Client.cc, renew_caps; "
    "src/mds/Server.cc, find_idle_sessions",
)
CLOSE: Final = Rule(
    "close-seq-wrong",
    "REQUEST_CLOSE names how many CLIENT_CAPS, _LEASE, _SNAP and _QUOTA the session has brought, and is sent again "
    "when more come before it ends",
    "ceph: src/mds/Server.cc, handle_client_session; kernel: fs/ceph/mds_client.c, request_close_session",
)
FLUSHMSG: Final = Rule(
    "flushmsg-unacked",
    "FLUSHMSG is answered by FLUSHMSG_ACK with its seq: exports and recalls wait for it",
    "kernel: fs/ceph/mds_client.c, handle_session (CEPH_SESSION_FLUSHMSG); ceph: src/mds/Server.cc, "
    "flush_client_sessions",
)
BEFORE: Final = Rule(
    "flushmsg-ack-before-release",
    "what a recall made the client give back is sent before FLUSHMSG_ACK",
    "ceph: src/client/Client.cc, handle_client_session (ceph PR 26082); kernel: fs/ceph/mds_client.c, handle_session",
)


class _Course:
    """How far a session has come."""

    __slots__ = (
        "acked",
        "asked",
        "closed_at",
        "closed_with",
        "last_push",
        "pushes",
        "recalled",
        "renewed",
        "told_late",
    )

    def __init__(self) -> None:
        self.pushes: int | None = None
        """Messages that count; None while their beginning is unknown."""
        self.last_push = 0
        self.closed_with: int | None = None
        self.closed_at = 0
        self.renewed = 0
        """When the session was last renewed or opened; 0 while unknown."""
        self.told_late = False
        self.asked: dict[int, int] = {}
        """FLUSHMSGs without an answer: when."""
        self.recalled = False
        """A RECALL_STATE has come, and no CAPRELEASE since."""
        self.acked = 0
        """When a FLUSHMSG_ACK was sent in that state."""


MOST_ASKED: Final = 1000


class Sessions(Rules):
    rules: ClassVar[tuple[Rule, ...]] = (RENEWALS, CLOSE, FLUSHMSG, BEFORE)

    def __init__(self, state: State, report: Report) -> None:
        super().__init__(state, report)
        self._courses: Recent[int, tuple[Session, _Course]] = Recent()
        self._at_work: Recent[ClientKey, int] = Recent()
        """When a client, at whatever rank, last sent what may free caps, or was told of inodes that may push others out
        of its cache (ceph: src/client/Client.cc, trim_cache): what it gives back then no recall has asked for."""

    def sent(self, session: Session, item: Traced) -> None:
        course = self._course(session)
        if course.pushes is None and session.whole:
            course.pushes = 0
        if isinstance(item.message, (ClientCaps, ClientRequest)):
            self._at_work[session.client.key] = item.ns
        self._late(session, course, item.ns)

    def heard(self, session: Session, item: Traced) -> None:
        if isinstance(item.message, ClientReply):
            self._at_work[session.client.key] = item.ns
        self._late(session, self._course(session), item.ns)

    def _late(self, session: Session, course: _Course, ns: int) -> None:
        timeout = session.client.session_timeout * NSEC
        age = ns - course.renewed
        if not course.renewed or age <= timeout or course.told_late or session.closing or not session.open:
            return
        course.told_late = True
        what = f"not renewed for {duration(age)}; session_timeout is {duration(timeout)}"
        self.found(RENEWALS, session, what, ns=ns, age_ns=age)

    def session_sent(self, session: Session, item: Traced, message: ClientSession) -> None:
        course = self._course(session)
        match message.op:
            case SessionOp.REQUEST_RENEWCAPS | SessionOp.REQUEST_OPEN:
                course.renewed, course.told_late = item.ns, False
            case SessionOp.REQUEST_CLOSE:
                self._closing(session, course, item, message)
            case SessionOp.FLUSHMSG_ACK:
                course.asked.pop(message.seq, None)
                if course.recalled:
                    course.acked = item.ns

    def _closing(self, session: Session, course: _Course, item: Traced, message: ClientSession) -> None:
        course.closed_with, course.closed_at = message.seq, item.ns
        if course.pushes is not None and message.seq > course.pushes:
            what = f"REQUEST_CLOSE with seq {message.seq}, when {course.pushes} messages had come"
            self.found(CLOSE, session, what, ns=item.ns, seq=message.seq)
            course.closed_with = None

    def session_heard(self, session: Session, item: Traced, message: ClientSession) -> None:
        course = self._course(session)
        match message.op:
            case SessionOp.OPEN:
                course.renewed, course.told_late = item.ns, False
            case SessionOp.RECALL_STATE:
                course.recalled, course.acked = True, 0
            case SessionOp.FLUSHMSG if len(course.asked) < MOST_ASKED:
                course.asked[message.seq] = item.ns

    def reconnected(self, session: Session, item: Traced, message: object) -> None:
        course = self._course(session)
        course.renewed, course.told_late = item.ns, False

    def pushed(self, session: Session, item: Traced) -> None:
        course = self._course(session)
        course.last_push = item.ns
        if course.pushes is not None:
            course.pushes += 1

    def released(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        course = self._course(session)
        idle = (self._at_work.get(session.client.key) or 0) <= course.acked
        if course.acked and idle and 0 < claim.ns - course.acked <= GATHERED:
            age = duration(claim.ns - course.acked)
            what = f"CAPRELEASE {age} after FLUSHMSG_ACK, and none between RECALL_STATE and that"
            self.found(BEFORE, session, what, cap=cap, ns=claim.ns, ino=claim.ino, said=claim)
        course.recalled, course.acked = False, 0

    def ended(self, session: Session, how: Ended, successor: Session | None = None) -> None:
        found = self._courses.pop(session.number)
        if found is not None and how in ENDS:
            self._unacked(*found)

    def _unacked(self, session: Session, course: _Course) -> None:
        for seq, ns in course.asked.items():
            if (age := self.owed_ns(session, ns)) >= PATIENCE:
                what = f"FLUSHMSG was not answered in {duration(age)}"
                self.found(FLUSHMSG, session, what, seq=seq, age_ns=age)

    def finish(self) -> None:
        now = self.state.ns
        for session, course in [pair for _, pair in self._courses.items()]:
            self._unacked(session, course)
            if course.closed_with is None or course.pushes is None or course.closed_with == course.pushes:
                continue
            age = now - max(course.closed_at, course.last_push)
            if age >= PATIENCE:
                what = (
                    f"REQUEST_CLOSE with seq {course.closed_with}, when {course.pushes} messages had come, is ignored"
                )
                self.found(CLOSE, session, what, seq=course.closed_with, age_ns=age)

    def _course(self, session: Session) -> _Course:
        found = self._courses.get(session.number)
        if found is None:
            found = self._courses[session.number] = session, _Course()
        return found[1]
