"""What every group of rules has: a method for each thing that can be overheard, which does nothing unless replaced.

Each is called before `State` has taken in what it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from cephcaps.trace.items import Traced
from cephcaps.trace.lint.finding import Finding, Rule
from cephcaps.trace.lint.state import Cap, Claim, Session, State, Told

if TYPE_CHECKING:
    from cephwire.caps import ClientCaps
    from cephwire.inode import InodeStat
    from cephwire.lease import ClientLease
    from cephwire.reconnect import ClientReconnect
    from cephwire.request import ClientRequest, RequestRelease
    from cephwire.session import ClientSession

__all__ = ["Ended", "Report", "Rules"]

Report: TypeAlias = Callable[[Finding], None]

Ended: TypeAlias = str
"""How a session came to its end: ``closed`` by the MDS, ``failed`` with its daemon, ``replaced`` by one with the rank's
next daemon, ``reopened`` by the client without having been closed, ``forgotten`` because something is missing."""


class Rules:
    """A group of rules on one subject."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    def __init__(self, state: State, report: Report) -> None:
        self.state = state
        self._report = report

    def found(
        self,
        rule: Rule,
        session: Session,
        what: str,
        *,
        cap: Cap | None = None,
        ns: int | None = None,
        ino: int | None = None,
        bits: int = 0,
        seq: int | None = None,
        age_ns: int | None = None,
        said: object = None,
        told: object = None,
    ) -> None:
        """Report that ``rule`` was broken; with ``said`` and ``told``, the last messages, if ``cap`` lacks them."""
        if cap is not None:
            ino = cap.ino if ino is None else ino
            said = cap.said if said is None else said
            told = cap.told if told is None else told
        self._report(
            Finding(
                rule,
                self.state.ns if ns is None else ns,
                session.client.key,
                session.rank,
                session.daemon,
                what,
                ino,
                bits,
                seq,
                age_ns,
                "" if said is None else str(said),
                "" if told is None else str(told),
            )
        )

    def owed_ns(self, session: Session, since: int) -> int:
        """How long something has been owed: until now, or until the client asked for the end of its session."""
        return (session.closing or self.state.ns) - since

    # Caps

    def claimed(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        """The client says what it holds; ``cap`` is None where nothing is known of one with that cap_id."""

    def released(self, session: Session, cap: Cap | None, claim: Claim) -> None:
        """The client gives a cap back, in a CAPRELEASE."""

    def told(self, session: Session, cap: Cap | None, told: Told) -> None:
        """The MDS says what the client may hold; ``cap`` is None where nothing is known of one with that cap_id."""

    def exported(self, session: Session, cap: Cap | None, message: ClientCaps, ns: int) -> None:
        """The MDS has handed a cap over to another rank."""

    def imported(self, session: Session, message: ClientCaps) -> None:
        """The MDS has taken a cap over; before it is `told`."""

    # Flushes and what they carry

    def flushed(self, session: Session, cap: Cap | None, item: Traced, message: ClientCaps) -> None:
        """The client sends a CLIENT_CAPS, of any op; before it is `claimed`."""

    def acked(self, session: Session, item: Traced, message: ClientCaps) -> None:
        """A FLUSH_ACK or FLUSHSNAP_ACK."""

    def pushed(self, session: Session, item: Traced) -> None:
        """A message that the client counts: CLIENT_CAPS, _LEASE, _SNAP or _QUOTA."""

    def shown(self, session: Session, inode: InodeStat) -> None:
        """A reply tells of an inode; before it is `told`."""

    def body_told(self, session: Session, message: ClientCaps) -> None:
        """The MDS tells an inode's size and times; before it is `told`."""

    # Sessions

    def sent(self, session: Session, item: Traced) -> None:
        """The client says anything in the session; before all else about it."""

    def heard(self, session: Session, item: Traced) -> None:
        """The MDS does."""

    def session_sent(self, session: Session, item: Traced, message: ClientSession) -> None:
        """A CLIENT_SESSION from the client."""

    def session_heard(self, session: Session, item: Traced, message: ClientSession) -> None:
        """A CLIENT_SESSION from the MDS."""

    def requested(self, session: Session, item: Traced, message: ClientRequest) -> None:
        """A request; before what it releases is `claimed`."""

    def lease_released(self, session: Session, release: RequestRelease) -> None:
        """A request gives a lease up."""

    def lease_sent(self, session: Session, item: Traced, message: ClientLease) -> None:
        """A CLIENT_LEASE from the client."""

    def lease_heard(self, session: Session, item: Traced, message: ClientLease) -> None:
        """A CLIENT_LEASE from the MDS."""

    def reconnected(self, session: Session, item: Traced, message: ClientReconnect) -> None:
        """A RECONNECT, the first part of it or a further one."""

    def ended(self, session: Session, how: Ended, successor: Session | None = None) -> None:
        """The session is no more; ``successor`` goes on in its place, if any."""

    def finish(self) -> None:
        """The trace ends."""
