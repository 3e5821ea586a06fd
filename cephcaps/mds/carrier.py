"""Carries one session over as many connections as it takes: dials, resumes, backs off, notices a dead peer.

Sources: ceph: src/msg/async/ProtocolV2.cc (``fault``, ``reconnect``); src/common/options (``ms_initial_backoff``,
``ms_max_backoff``).
"""

from __future__ import annotations

from typing import Any, Protocol

from cephcaps.actions import Action, Connect, Disconnect
from cephcaps.errors import ConnectionFailed
from cephcaps.messenger.connection import Connection, Owner, Phase
from cephcaps.messenger.link import Link
from cephwire.entity import EntityAddr

__all__ = ["Carrier", "Dialer"]

NEVER = float("inf")
NSEC = 1_000_000_000
TICKET_PAUSE = 1.0
"""Seconds after which a ticket that has not come is asked for again."""
HANDSHAKE_TIMEOUT = 10.0
"""Seconds for the peer to get from TCP to messages before it is tried anew."""
PING_INTERVAL = 10.0
MISSED_PINGS = 3
"""Pings in a row on which nothing was heard: the peer is gone. Counted, not timed: after a process was frozen, what
came meanwhile is read after the first of them."""
STEADY = 1.0
"""Seconds that what an MDS has agreed to lasts at least; an end before that counts as one more attempt."""
USEFUL = 0.02
"""Seconds that a connection lasts at least which brought something: on a bad network they break after a tenth of a
second, again and again, and each carries some of the work on."""
RESUMING = 1 / 16
"""Of the first pause, how long the first one is after a connection that stood: its peer is most likely still there, and
a handshake that breaks on a bad network is worth another at once. Ceph waits the whole."""


class Dialer(Protocol):
    """Who makes connections.

    Attributes:
        first_pause, max_pause: seconds between attempts, doubling (``ms_initial_backoff``, ``ms_max_backoff``).
    """

    out: list[Action]
    first_pause: float
    max_pause: float

    def make_connection(self, owner: Owner, addr: EntityAddr, link: Link, now: float) -> Connection | None:
        """A connection for ``owner``, or None until there is a ticket.

        Raises:
            CephError: there will be none.
        """

    def new_link(self) -> Link:
        """A link to a peer that has not heard of us."""

    def fraction(self) -> float:
        """A random number from 0 up to 1."""


class Carrier:
    """The connections of one session, one after the other.

    Attributes:
        addr: where the peer is.
        link: what they have in common.
        connection: the one that stands or is being made, None between attempts.
        broken: how many that stood have broken.
    """

    def __init__(self, dialer: Dialer, owner: Owner, addr: EntityAddr) -> None:
        self.addr: EntityAddr = addr
        self.link: Link = dialer.new_link()
        self.connection: Connection | None = None
        self.broken: int = 0
        self._dialer = dialer
        self._owner = owner
        self._dial_at = NEVER
        self._give_up = NEVER
        self._ping_at = NEVER
        self._unheard = 0
        self._pause = dialer.first_pause
        self._stood_at = -NEVER
        self._heard_before = 0  # in_seq when the connection stood
        self._brief_pause = 0.0  # after connections that stood, did not last and brought nothing

    @property
    def ready(self) -> bool:
        """Whether messages leave at once."""
        return self.connection is not None and self.connection.phase is Phase.READY

    def send(self, message: Any, tid: int = 0, version: int | None = None) -> None:
        """Send now, or once there is a connection again."""
        outgoing = self.link.number(message, tid, version)
        if self.connection is not None and self.connection.phase is Phase.READY:
            self.connection.carry(outgoing)

    def dial(self, now: float) -> None:
        """Connect now, unless that is being done.

        Raises:
            CephError: there will be no connection.
        """
        if self.connection is not None:
            return
        self.connection = self._dialer.make_connection(self._owner, self.addr, self.link, now)
        if self.connection is None:
            self._dial_at = now + TICKET_PAUSE
            return
        self._dial_at = NEVER
        self._give_up = now + HANDSHAKE_TIMEOUT
        self._dialer.out.append(Connect(self.connection))

    def wait(self, until: float) -> None:
        """Connect then, and not before."""
        self._dial_at = until

    def ticket_arrived(self, now: float) -> None:
        """Raises what `dial` does."""
        if self._dial_at != NEVER:
            self.dial(now)

    def stands(self, now: float) -> None:
        """The handshake is done."""
        self._give_up = NEVER
        self._stood_at = now
        self._heard_before = self.link.in_seq
        self._pause = self._dialer.first_pause * RESUMING
        self._ping_at = now + PING_INTERVAL
        self._unheard = 0

    def broke(self, now: float) -> None:
        """The connection is of no more use. Another is made: at once if it stood, unless that happens again and again,
        else after a pause, which is at least half of what it could be."""
        stood = self.connection is not None and self._give_up == NEVER
        self.hang_up()
        if stood:
            self.broken += 1
            enough = STEADY if self.link.in_seq == self._heard_before else USEFUL
            if now >= self._stood_at + enough:
                self._brief_pause = 0.0
            self._dial_at = now + self._brief_pause
            self._brief_pause = min(max(2 * self._brief_pause, self._dialer.first_pause * RESUMING), STEADY)
        else:
            self._dial_at = now + self._pause * (1 + self._dialer.fraction()) / 2
            self._pause = min(2 * self._pause, self._dialer.max_pause)

    def hang_up(self) -> None:
        """Be without a connection until `dial` is called."""
        self._dial_at = self._give_up = self._ping_at = NEVER
        if self.connection is not None:
            self.connection.close()
            self._dialer.out.append(Disconnect(self.connection))
            self.connection = None

    def renew(self, addr: EntityAddr) -> None:
        """Hang up for good: what follows begins anew, with the peer at ``addr``."""
        self.hang_up()
        self.addr = addr
        self.link = self._dialer.new_link()
        self._pause = self._dialer.first_pause

    # What time brings

    def next_deadline(self) -> float:
        return min(self._dial_at, self._give_up, self._ping_at)

    def tick(self, now: float) -> ConnectionFailed | None:
        """Do what is due; gives why the connection is of no more use, if it is not.

        Raises:
            CephError: there will be no connection.
        """
        connection = self.connection
        if connection is None:
            if now >= self._dial_at:
                self.dial(now)
        elif now >= self._give_up:
            return ConnectionFailed(f"no answer while awaiting {connection.phase.value}")
        elif now >= self._ping_at:
            heard = connection.last_heard >= self._ping_at - PING_INTERVAL
            self._unheard = 0 if heard else self._unheard + 1
            if self._unheard >= MISSED_PINGS:
                return ConnectionFailed(f"silent for {now - connection.last_heard:.0f} s")
            self._ping_at = now + PING_INTERVAL
            connection.keepalive(int(now * NSEC))
        return None
