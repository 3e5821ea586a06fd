"""One client's session with one MDS rank: open, renew, close.

A session outlives neither its MDS nor, yet, its connection. Sources: kernel: fs/ceph/mds_client.c; ceph:
src/client/Client.cc, src/mds/Server.cc (``handle_client_session``).
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

from cephcaps.actions import Action, Connect, Disconnect, Happened
from cephcaps.errors import AuthError, CephError, ProtocolViolation, SessionLost
from cephcaps.messenger.connection import Connection, Phase
from cephwire.caps import ClientCaps
from cephwire.entity import EntityAddr
from cephwire.frames import MessageHeader
from cephwire.lease import ClientLease
from cephwire.mdsmap import MdsInfo
from cephwire.quota import ClientQuota
from cephwire.session import ClientSession, SessionFlag, SessionOp
from cephwire.snap import ClientSnap

__all__ = ["OUR_FEATURES", "Session", "SessionHost", "SessionState"]

SessionState: TypeAlias = Literal["opening", "open", "stale", "reconnecting", "closing", "closed", "rejected"]

NEVER = float("inf")
RENEW_FRACTION = 3
"""Renew after a third of ``mdsmap.session_timeout`` (ceph: ``Client::tick``; the kernel takes a quarter)."""
FIRST_PAUSE = 0.2
MAX_PAUSE = 15.0
"""Seconds between attempts to connect, doubling (``ms_initial_backoff``, ``ms_max_backoff``)."""
TICKET_PAUSE = 1.0
"""Seconds after which a ticket that has not come is asked for again."""
HANDSHAKE_TIMEOUT = 10.0
"""Seconds for an MDS to get from TCP to OPEN before it is tried anew."""

OUR_FEATURES = 0x1EFBFF
"""Client features we announce, bits 0-9, 11-15 and 17-20. Left out: reclaim (10), notify_session_state (16), enforcing
the MDS's caps ourselves (21), charmap (22) and blockdiff (23) (ceph: src/mds/cephfs_features.h)."""

PUSHED = (ClientCaps, ClientLease, ClientSnap, ClientQuota)
"""What the MDS counts as pushed to the client; REQUEST_CLOSE must carry the exact count."""


SHORT_FORM = 1
"""Version of CLIENT_SESSION that ends after the leases, as everyone sends all but REQUEST_OPEN."""


class SessionHost(Protocol):
    """All sessions' owner."""

    out: list[Action]

    def make_connection(self, session: Session, addr: EntityAddr, now: float) -> Connection | None:
        """A connection for ``session``, or None until there is a ticket."""

    def session_opened(self, session: Session, now: float) -> None: ...

    def num_caps(self, rank: int) -> int: ...

    def session_renewed(self, session: Session, now: float) -> None:
        """Caps from before count again, as far as they were granted again."""

    def session_stale(self, session: Session, now: float) -> None:
        """Caps do not count until they are granted again."""

    def recalled(self, session: Session, max_caps: int, now: float) -> None:
        """The MDS wants us to hold no more caps than that."""

    def session_read_only(self, session: Session, now: float) -> None:
        """The MDS takes no changes any more."""

    def barrier(self, session: Session, now: float) -> None:
        """Send all that is owed before what comes next."""

    def session_ended(self, session: Session, error: Exception, now: float) -> None:
        """The session is gone and with it all that was sent over it."""

    def session_closed(self, session: Session, now: float) -> None:
        """The session was closed as we asked."""

    def pushed(self, session: Session, header: MessageHeader, message: Any, now: float) -> None:
        """A message about caps, leases, snapshots or quotas."""

    def answered(self, session: Session, header: MessageHeader, message: Any, now: float) -> None:
        """A reply, a forward, or anything else."""


class Session:
    """What we and one rank have agreed on.

    Attributes:
        rank, gid, addr: the MDS daemon; another gid is another daemon.
        state: as named in the protocol's documentation.
        seq: messages pushed to us since the session opened.
        cap_gen: rises whenever caps from before stop counting.
        cap_ttl: until when caps count without renewal, on the clock of ``now``.
        features: client features both sides have.
        why: why it is not open, in words; empty if there is nothing to say.
        read_only: the MDS takes no changes any more, and says so with EROFS.
        final: why this MDS will not have another session with us; None if it may.
    """

    def __init__(self, host: SessionHost, rank: int, info: MdsInfo, addr: EntityAddr, metadata: dict[str, str]) -> None:
        self.rank = rank
        self.gid = info.gid
        self.name = info.name
        self.addr = addr
        self.state: SessionState = "opening"
        self.seq = 0
        self.cap_gen = 0
        self.cap_ttl = 0.0
        self.features = 0
        self.why = ""
        self.final: Exception | None = None
        self.read_only = False
        self.connection: Connection | None = None
        self.metadata = metadata
        self.renew_interval = NEVER
        self._host = host
        self._renew_seq = 0
        self._renew_at = NEVER
        self._renew_sent_at = 0.0
        self._session_timeout = 0.0
        self._connect_at = 0.0
        self._give_up = NEVER
        self._pause = FIRST_PAUSE
        self._close_once_open = False

    def __repr__(self) -> str:
        return f"<Session rank={self.rank} {self.state} seq={self.seq} num_caps={self.num_caps}>"

    @property
    def num_caps(self) -> int:
        """Caps held from this rank."""
        return self._host.num_caps(self.rank)

    @property
    def who(self) -> str:
        return f"mds.{self.rank} ({self.name}) at {self.addr}"

    @property
    def usable(self) -> bool:
        return self.state in ("open", "stale")

    def set_timeout(self, session_timeout: float) -> None:
        """Seconds after which the MDS counts a silent client as stale, from the MDSMap."""
        self._session_timeout = session_timeout
        self.renew_interval = session_timeout / RENEW_FRACTION

    def connect(self, now: float) -> None:
        if self.connection is not None or self.state != "opening" or now < self._connect_at:
            return
        self.connection = self._host.make_connection(self, self.addr, now)
        if self.connection is None:
            self._connect_at = now + TICKET_PAUSE
            return
        self._give_up = now + HANDSHAKE_TIMEOUT
        self._host.out.append(Connect(self.connection))

    def ticket_arrived(self, now: float) -> None:
        self._connect_at = min(self._connect_at, now)
        self.connect(now)

    def refuse(self, error: Exception) -> None:
        """There can be no session with this MDS."""
        self.final = error
        self._drop("rejected")

    def send(self, message: Any, tid: int = 0, version: int | None = None) -> None:
        assert self.connection is not None
        self.connection.send(message, tid=tid, version=version)

    def _say(self, op: SessionOp, seq: int) -> None:
        self.send(ClientSession(op, seq), version=SHORT_FORM)

    def flush_journal(self) -> None:
        """Ask the MDS to make all it has applied durable now; it does not answer."""
        self._say(SessionOp.REQUEST_FLUSH_MDLOG, 0)

    def close(self, now: float) -> None:
        """Ask the MDS to close; it answers with CLOSE, unless it has pushed more meanwhile."""
        if self.state == "opening" and self.connection is not None and self.connection.phase is Phase.READY:
            self._close_once_open = True  # to leave now would leave a session behind at the MDS
            return
        if self.state == "opening":
            self._drop("closed")
            self._host.session_closed(self, now)
        if not self.usable:
            return
        self._set_state("closing")
        self._renew_at = NEVER
        self._say(SessionOp.REQUEST_CLOSE, self.seq)

    # What time brings

    def next_deadline(self) -> float:
        if self.state == "opening":
            return self._give_up if self.connection is not None else self._connect_at
        return self._renew_at

    def tick(self, now: float) -> None:
        if self.state == "opening":
            if self.connection is None:
                self.connect(now)
            elif now >= self._give_up:
                self.lost(self.connection, CephError(f"no answer while awaiting {self.connection.phase.value}"), now)
        elif now >= self._renew_at:
            self._renew(now)

    def _renew(self, now: float) -> None:
        self._renew_seq += 1
        self._renew_sent_at = now
        self._renew_at = now + self.renew_interval
        self._say(SessionOp.REQUEST_RENEWCAPS, self._renew_seq)

    # What the connection brings

    def connection_ready(self, connection: Connection, now: float) -> None:
        opening = ClientSession(SessionOp.REQUEST_OPEN, 0, metadata=self.metadata, features=OUR_FEATURES)
        connection.send(opening)

    def message_received(self, connection: Connection, header: MessageHeader, message: Any, now: float) -> None:
        if isinstance(message, ClientSession):
            self._session_message(message, now)
        elif isinstance(message, PUSHED):
            self.seq += 1
            self._host.pushed(self, header, message, now)
            if self.state == "closing":
                # The MDS takes no close that has not seen all it pushed; it waits for this one.
                self._say(SessionOp.REQUEST_CLOSE, self.seq)
        else:
            self._host.answered(self, header, message, now)

    def _session_message(self, message: ClientSession, now: float) -> None:
        match message.op:
            case SessionOp.OPEN:
                self._opened(message, now)
            case SessionOp.RENEWCAPS:
                # Counted from when we asked: the MDS's clock for us began no later.
                if message.seq == self._renew_seq:
                    self.cap_ttl = self._renew_sent_at + self._session_timeout
                    if self.state == "stale":
                        self._set_state("open")
                    self._host.session_renewed(self, now)
            case SessionOp.STALE:
                self.cap_gen += 1
                self.cap_ttl = 0.0
                if self.state != "closing":
                    self._set_state("stale")
                    self._host.session_stale(self, now)
                    self._renew(now)
            case SessionOp.FLUSHMSG:
                # A barrier: everything before it has been handled, and what that owes leaves first.
                self._host.barrier(self, now)
                self._say(SessionOp.FLUSHMSG_ACK, message.seq)
            case SessionOp.CLOSE:
                asked = self.state == "closing"
                self._drop("closed")
                if asked:
                    self._host.session_closed(self, now)
                else:
                    self._end(SessionLost(f"{self.who} closed the session", reason="closed"), now)
            case SessionOp.REJECT:
                self._rejected(message, now)
            case SessionOp.RECALL_STATE:
                self._host.recalled(self, message.max_caps, now)
            case SessionOp.FORCE_RO:
                self.read_only = True
                self._host.session_read_only(self, now)
            case _:
                raise ProtocolViolation(f"{self.who} sent session op {message.op}, which is not for clients")

    def _opened(self, message: ClientSession, now: float) -> None:
        self.features = OUR_FEATURES & message.features
        if self.state != "opening":
            return  # again: only the features may be news
        self._pause = FIRST_PAUSE
        self._give_up = NEVER
        self.why = ""
        self.read_only = False  # else the MDS says so once more, at once
        self._renew_seq = 0
        self.cap_gen += 1
        self.cap_ttl = now + self._session_timeout
        self._renew_at = now + self.renew_interval
        self._set_state("open")
        if self._close_once_open:
            self.close(now)
        else:
            self._host.session_opened(self, now)

    def _rejected(self, message: ClientSession, now: float) -> None:
        reason = message.metadata.get("error_string", "no reason given")
        self._drop("rejected")
        error: Exception
        if message.flags & SessionFlag.BLOCKLISTED or "blocklisted" in reason:
            error = SessionLost(
                f"{self.who} refused the session: this client's address is blocklisted; connect anew",
                reason="blocklisted",
            )
        elif "root" in reason or "caps" in reason:
            error = AuthError(
                f"{self.who} refused the session: {reason}; the key's MDS caps do not cover this directory or file "
                f"system: connect with root= set to what they do cover (see `ceph auth get {self._entity}`)"
            )
        else:
            error = SessionLost(f"{self.who} refused the session: {reason}", reason="rejected")
        self.final = error
        self._end(error, now)

    @property
    def _entity(self) -> str:
        return f"client.{self.metadata.get('entity_id', '')}"

    def lost(self, connection: Connection, error: Exception, now: float) -> None:
        """The connection is of no more use."""
        if connection is not self.connection:
            return
        was = self.state
        self.why = str(error)
        if was == "opening" and not isinstance(error, AuthError):
            self._drop("opening")
            self._connect_at = now + self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE)
            return
        self._drop("closed")
        if was == "closing":
            self._host.session_closed(self, now)
        elif isinstance(error, AuthError):
            self.final = AuthError(f"{self.who} refused us: {error}")
            self._end(self.final, now)
        else:
            # The MDS keeps the session for whoever resumes it, and until then lets no other take its place.
            broke = f"the connection to {self.who} broke: {error}; this client cannot resume it: connect a new one"
            self.final = SessionLost(broke, reason="reset")
            self._end(self.final, now)

    def replaced(self, now: float) -> None:
        """The MDSMap names another daemon for this rank."""
        if self.state in ("closed", "rejected"):
            return
        self._drop("closed")
        self._end(SessionLost(f"{self.who} is no longer the MDS of rank {self.rank}", reason="failed over"), now)

    def _end(self, error: Exception, now: float) -> None:
        self.why = str(error)
        self._host.session_ended(self, error, now)

    def _drop(self, state: SessionState) -> None:
        if self.connection is not None:
            self.connection.close()
            self._host.out.append(Disconnect(self.connection))
            self.connection = None
        self._renew_at = self._give_up = NEVER
        self._set_state(state)

    def _set_state(self, state: SessionState) -> None:
        if state != self.state:
            self.state = state
            self._host.out.append(Happened(f"session.{state}", {"rank": self.rank, "why": self.why}))
