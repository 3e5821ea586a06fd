"""When a session is to be renewed, and until when its caps count without."""

from __future__ import annotations

__all__ = ["Renewals"]

NEVER = float("inf")
FRACTION = 3
"""Renew after a third of ``mdsmap.session_timeout`` (ceph: ``Client::tick``; the kernel takes a quarter)."""


class Renewals:
    """Of one session. All times are on the clock of ``now``.

    Attributes:
        due: when to ask for the next.
        ttl: until when caps count; 0 while they do not.
    """

    __slots__ = ("_asked_at", "_interval", "_seq", "_timeout", "due", "ttl")

    def __init__(self) -> None:
        self.due: float = NEVER
        self.ttl: float = 0.0
        self._asked_at = 0.0
        self._interval = NEVER
        self._seq = 0
        self._timeout = 0.0

    def set_timeout(self, session_timeout: float) -> None:
        """Seconds after which the MDS counts a silent client as stale, from the MDSMap."""
        self._timeout = session_timeout
        self._interval = session_timeout / FRACTION

    def begin(self, now: float) -> None:
        """The MDS has opened the session: for it, the time begins to run."""
        self._seq = 0
        self._asked_at = now
        self.due = now + self._interval
        self.ttl = now + self._timeout

    def asked_for(self, now: float) -> int:
        """A renewal leaves now; its number."""
        self._seq += 1
        self._asked_at = now
        return self._seq

    def asked_by_reconnecting(self, now: float) -> None:
        """What tells an MDS which caps we hold renews them, too."""
        self._asked_at = now

    def answered(self, seq: int) -> bool:
        """The MDS has renewed; whether that answers what was asked last."""
        if seq != self._seq:
            return False
        self.granted()
        return True

    def granted(self) -> None:
        """Counted from when we asked: the MDS's clock for us began no later."""
        self.ttl = self._asked_at + self._timeout

    def postpone(self, now: float) -> None:
        self.due = now + self._interval

    def overdue(self, now: float) -> bool:
        """Whether one should have been asked for by now, by the last that was."""
        return now >= self._asked_at + self._interval

    def stop(self) -> None:
        self.due = NEVER

    def expire(self) -> None:
        """Caps do not count until the next is granted."""
        self.ttl = 0.0
