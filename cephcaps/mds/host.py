"""What sessions ask of whoever owns them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cephcaps.mds.carrier import Dialer
from cephwire.frames import MessageHeader

if TYPE_CHECKING:
    from cephcaps.mds.session import Session

__all__ = ["SessionHost"]


class SessionHost(Dialer, Protocol):
    """All sessions' owner."""

    def session_opened(self, session: Session, now: float) -> None: ...

    def num_caps(self, rank: int) -> int: ...

    def session_renewed(self, session: Session, now: float) -> None:
        """Caps from before count again, as far as they were granted again."""

    def session_stale(self, session: Session, now: float) -> None:
        """Caps do not count until they are granted again."""

    def session_suspended(self, session: Session, now: float) -> None:
        """Nothing counts and nothing can be sent until it is known what has become of the session."""

    def session_unseated(self, session: Session, now: float) -> None:
        """The MDS is gone; until another has taken the rank over nothing can be sent."""

    def session_resumes(self, session: Session, now: float) -> None:
        """Tell the rank's new holder what we hold and what it may not have got."""

    def session_served(self, session: Session, now: float) -> None:
        """The rank's new holder has taken us over and serves."""

    def recalled(self, session: Session, max_caps: int, now: float) -> None:
        """The MDS wants us to hold no more caps than that."""

    def session_read_only(self, session: Session, now: float) -> None:
        """The MDS takes no changes any more."""

    def barrier(self, session: Session, now: float) -> None:
        """Send all that is owed before what comes next."""

    def ticket_refused(self) -> None:
        """An MDS does not take the ticket we have."""

    def session_ended(self, session: Session, error: Exception, now: float) -> None:
        """The session is gone and with it all that was sent over it."""

    def session_closed(self, session: Session, now: float) -> None:
        """The session was closed as we asked."""

    def pushed(self, session: Session, header: MessageHeader, message: Any, now: float) -> None:
        """A message about caps, leases, snapshots or quotas."""

    def answered(self, session: Session, header: MessageHeader, message: Any, now: float) -> None:
        """A reply, a forward, or anything else."""
