"""One client's session with one MDS rank: open, renew, survive, close.

A session outlives its connections (`cephcaps.mds.carrier`), and its MDS: the daemon that takes the rank over is told
what we hold. Sources: kernel: fs/ceph/mds_client.c; ceph: src/client/Client.cc, src/mds/Server.cc
(``handle_client_session``, ``handle_client_reconnect``).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from cephcaps.actions import Happened
from cephcaps.auth.cephx import TicketRefused
from cephcaps.errors import AuthError, CephError, ProtocolViolation, SessionLost
from cephcaps.mds.carrier import Carrier
from cephcaps.mds.host import SessionHost
from cephcaps.mds.refusals import refusal
from cephcaps.mds.renewals import Renewals
from cephcaps.messenger.connection import Connection, Undecodable
from cephwire.caps import ClientCaps
from cephwire.entity import EntityAddr
from cephwire.frames import MessageHeader
from cephwire.lease import ClientLease
from cephwire.mdsmap import MdsInfo, MdsState
from cephwire.quota import ClientQuota
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import ClientSnap

__all__ = ["OUR_FEATURES", "Session", "SessionState"]

SessionState: TypeAlias = Literal["opening", "open", "stale", "reconnecting", "closing", "closed", "rejected"]

NEVER = float("inf")
ANSWER_TIMEOUT = 10.0
"""Seconds for an MDS that serves to answer REQUEST_OPEN before it is asked over a new connection."""

REFUSALS = 5
"""Tickets refused in a row after which we are taken to be unwelcome. Keys may have moved on, and an MDS that is being
shut down has none any more; the next ticket is a fresh one, and may be for another MDS."""

OUR_FEATURES = 0x1EFBFF
"""Client features we announce, bits 0-9, 11-15 and 17-20. Left out: reclaim (10), notify_session_state (16), enforcing
the MDS's caps ourselves (21), charmap (22) and blockdiff (23) (ceph: src/mds/cephfs_features.h)."""

PUSHED = (ClientCaps, ClientLease, ClientSnap, ClientQuota)
"""What the MDS counts as pushed to the client; REQUEST_CLOSE must carry the exact count."""


SHORT_FORM = 1
"""Version of CLIENT_SESSION that ends after the leases, as everyone sends all but REQUEST_OPEN."""


class Session:
    """What we and one rank have agreed on.

    Attributes:
        rank: the MDS's.
        gid: which daemon that is; another gid is another daemon.
        name: the daemon's.
        state: as named in the protocol's documentation.
        seq: messages pushed to us since the session opened.
        cap_gen: rises whenever caps from before stop counting.
        features: client features both sides have.
        why: why it is not open, or was interrupted, in words; empty if there is nothing to say.
        read_only: the MDS takes no changes any more, and says so with EROFS.
        final: why this MDS will not have another session with us; None if it may.
        carrier: its connections.
        renewals: when it is renewed, and until when its caps count without.
    """

    def __init__(self, host: SessionHost, rank: int, info: MdsInfo, addr: EntityAddr, metadata: dict[str, str]) -> None:
        self.rank = rank
        self.gid: int = info.gid
        self.name: str = info.name
        self.state: SessionState = "opening"
        self.seq: int = 0
        self.cap_gen: int = 0
        self.features: int = 0
        self.why: str = ""
        self.final: Exception | None = None
        self.read_only: bool = False
        self.metadata = metadata
        self.carrier: Carrier = Carrier(host, self, addr)
        self.renewals: Renewals = Renewals()
        self._host = host
        self._answer_by = NEVER
        self._greeted = False  # over this link the MDS has been asked to open, or told what we hold
        self._accepted = False  # the rank's new holder has answered that
        self._serving = True  # and it serves
        self._forgotten: SessionLost | None = None  # what the MDS has let us know: it has another session's caps
        self._close_once_open = False
        self._refusals = 0

    def __repr__(self) -> str:
        return f"<Session rank={self.rank} {self.state} seq={self.seq} num_caps={self.num_caps}>"

    @property
    def num_caps(self) -> int:
        """Caps held from this rank."""
        return self._host.num_caps(self.rank)

    @property
    def addr(self) -> EntityAddr:
        return self.carrier.addr

    @property
    def connection(self) -> Connection | None:
        """The one that stands or is being made; None between attempts."""
        return self.carrier.connection

    @property
    def who(self) -> str:
        return f"mds.{self.rank} ({self.name}) at {self.addr}"

    @property
    def usable(self) -> bool:
        return self.state in ("open", "stale")

    @property
    def speaking(self) -> bool:
        """Whether the MDS listens to what is not a request."""
        return self.usable or self.state == "closing" or (self.state == "reconnecting" and self._greeted)

    def connect(self, now: float) -> None:
        try:
            self.carrier.dial(now)
        except CephError as error:
            self._refused(error, now)

    def ticket_arrived(self, now: float) -> None:
        try:
            self.carrier.ticket_arrived(now)
        except CephError as error:
            self._refused(error, now)

    def refuse(self, error: Exception) -> None:
        """There can be no session with this MDS."""
        self.final = error
        self._drop("rejected")

    def send(self, message: Any, tid: int = 0, version: int | None = None) -> None:
        self.carrier.send(message, tid=tid, version=version)

    def _say(self, op: SessionOp, seq: int) -> None:
        self.send(ClientSession(op, seq), version=SHORT_FORM)

    def flush_journal(self) -> None:
        """Ask the MDS to make all it has applied durable now; it does not answer."""
        self._say(SessionOp.REQUEST_FLUSH_MDLOG, 0)

    def close(self, now: float) -> None:
        """Ask the MDS to close; it answers with CLOSE, unless it has pushed more meanwhile."""
        if self.state == "reconnecting" or (self.state == "opening" and self._greeted and self._forgotten is None):
            self._close_once_open = True  # to leave now would leave a session behind at the MDS
        elif self.state == "opening":
            lost = self._forgotten
            self._drop("closed")
            if lost is not None:
                self._end(lost, now)
            self._host.session_closed(self, now)
        elif self.usable:
            self._set_state("closing")
            self.renewals.stop()
            self._say(SessionOp.REQUEST_CLOSE, self.seq)

    # What time brings

    def next_deadline(self) -> float:
        return min(self.renewals.due, self._answer_by, self.carrier.next_deadline())

    def tick(self, now: float) -> None:
        try:
            broken = self.carrier.tick(now)
        except CephError as error:
            self._refused(error, now)
            return
        if broken is not None and self.connection is not None:
            self.lost(self.connection, broken, now)
        elif now >= self._answer_by:
            self.why = f"no answer to REQUEST_OPEN in {ANSWER_TIMEOUT:.0f} s"
            self._begin_anew(self.addr)
            self.carrier.broke(now)
        if now >= self.renewals.due:
            self._renew(now)

    def _renew(self, now: float) -> None:
        self.renewals.postpone(now)
        if self.carrier.ready:  # else once it is
            self._say(SessionOp.REQUEST_RENEWCAPS, self.renewals.asked_for(now))

    # What the connection brings

    def connection_ready(self, connection: Connection, now: float) -> None:
        self.carrier.stands(now)
        self._refusals = 0
        if self._greeted:
            if self.usable and self.renewals.overdue(now):
                self._renew(now)
            return
        self._greeted = True
        if self.state == "opening":
            self._answer_by = now + ANSWER_TIMEOUT
            self.send(ClientSession(SessionOp.REQUEST_OPEN, 0, metadata=self.metadata, features=OUR_FEATURES))
        elif self.state == "reconnecting":
            self.seq = 0
            self.read_only = False
            self.cap_gen += 1
            self.renewals.asked_by_reconnecting(now)
            self._host.session_resumes(self, now)

    def connection_reset(self, connection: Connection, now: float) -> None:
        """The MDS has dropped us, which is all that an evicted client hears of it. One that shuts down does so too."""
        self._greeted = False
        if self.state == "closing":
            self._drop("closed")
            self._host.session_closed(self, now)
        elif self.usable:
            self._be_forgotten("it had dropped this client: evicted, or taken for dead", now)

    def _be_forgotten(self, why: str, now: float) -> None:
        """The MDS has no session of ours any more, it seems. What it answers to REQUEST_OPEN tells how that came."""
        self.why = why
        self._forgotten = SessionLost(f"{self.who} ended the session: {why}", reason="evicted")
        self.renewals.stop()
        self.renewals.expire()
        self._greeted = False
        self._set_state("opening")
        self._host.session_suspended(self, now)

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
                if self.renewals.answered(message.seq):
                    if self.state == "stale":
                        self._set_state("open")
                    self._host.session_renewed(self, now)
            case SessionOp.STALE:
                self.cap_gen += 1
                self.renewals.expire()
                if self.usable:
                    self._set_state("stale")
                    self._host.session_stale(self, now)
                    self._renew(now)
            case SessionOp.FLUSHMSG:
                # A barrier: everything before it has been handled, and what that owes leaves first.
                self._host.barrier(self, now)
                self._say(SessionOp.FLUSHMSG_ACK, message.seq)
            case SessionOp.CLOSE:
                self._closed(now)
            case SessionOp.REJECT:
                self.reject(refusal(message, self.who, f"client.{self.metadata.get('entity_id', '')}"), now)
            case SessionOp.RECALL_STATE:
                self._host.recalled(self, message.max_caps, now)
            case SessionOp.FORCE_RO:
                self.read_only = True
                self._host.session_read_only(self, now)
            case _:
                raise ProtocolViolation(f"{self.who} sent session op {message.op}, which is not for clients")

    def _opened(self, message: ClientSession, now: float) -> None:
        self.features = OUR_FEATURES & message.features
        if self.state == "reconnecting":
            self._accepted = True
            self.renewals.granted()
            self._serve(now)
            return
        if self.state != "opening":
            return  # again: only the features may be news
        self._answer_by = NEVER
        lost, self._forgotten = self._forgotten, None
        if lost is not None:
            self._host.session_ended(self, lost, now)
        self.why = ""
        self.seq = 0
        self.read_only = False  # else the MDS says so once more, at once
        self.cap_gen += 1
        self.renewals.begin(now)
        self._set_state("open")
        if self._close_once_open:
            self.close(now)
        else:
            self._host.session_opened(self, now)

    def _closed(self, now: float) -> None:
        """The MDS has ended the session: as we asked, because we reconnected too late, or for a reason of its own."""
        asked = self.state == "closing"
        late = self.state == "reconnecting"
        self._drop("closed")
        if asked:
            self._host.session_closed(self, now)
        else:
            why = "did not take us back after it took the rank over" if late else "closed the session"
            self._end(SessionLost(f"{self.who} {why}", reason="closed"), now)

    def reject(self, error: Exception, now: float) -> None:
        """There will be no session any more, with whatever daemon."""
        if self.final is None:
            self.final = error
            self._drop("rejected")
            self._end(error, now)

    def _refused(self, error: CephError, now: float) -> None:
        """We are not let in."""
        if self.state == "closing":
            self._drop("closed")
            self._host.session_closed(self, now)
        elif self.state == "opening" and self._forgotten is None:
            self.reject(AuthError(f"{self.who} refused us: {error}"), now)
        else:
            refused = f"{self.who} does not let us in again: {error}; check the key and connect anew"
            self.reject(SessionLost(refused, reason="rejected"), now)

    def lost(self, connection: Connection, error: Exception, now: float) -> None:
        """The connection is of no more use; the session goes on with another unless that is of no use either."""
        if connection is not self.connection:
            return
        self.why = str(error)
        if isinstance(error, TicketRefused) and self._refusals < REFUSALS:
            self._refusals += 1
            self._host.ticket_refused()
            self.carrier.broke(now)
        elif isinstance(error, AuthError):
            self._refused(error, now)
        elif isinstance(error, Undecodable | ProtocolViolation) and self._greeted and self.state != "opening":
            # It would be sent again, or be missed without a trace.
            self.reject(SessionLost(f"{self.who} is not understood: {error}", reason="protocol"), now)
        elif self.state in ("closed", "rejected"):
            self.carrier.hang_up()
        else:
            self.carrier.broke(now)

    # What the MDSMap brings

    def mapped(self, info: MdsInfo | None, addr: EntityAddr | None, now: float) -> None:
        """The map names the rank's holder, or nobody."""
        if self.state in ("closed", "rejected"):
            return
        if info is None or addr is None:
            if self.gid:
                self.gid = 0
                self._unseat(f"{self.who} is no longer the MDS of rank {self.rank}, and nobody else is yet", now)
            return
        if info.gid != self.gid:
            self.gid = info.gid
            self.name = info.name
            self._unseat(f"rank {self.rank} is taken over by {info.name}", now)
            self.carrier.renew(addr)
        if self.state == "opening" and self.connection is None and info.state >= MdsState.CLIENTREPLAY:
            self.connect(now)
        elif self.state == "reconnecting":
            self._recovering(info.state, now)

    def _unseat(self, why: str, now: float) -> None:
        """The MDS is gone. What it has not answered is told to the next."""
        self.why = why
        self.renewals.stop()
        self._begin_anew(self.addr)
        if self.state == "opening" and self._forgotten is None:
            return
        self._forgotten = None  # it may have been dying: its successor knows better
        if self.state == "closing":
            self._close_once_open = True
        self._accepted = self._serving = False
        self._set_state("reconnecting")
        self._host.session_unseated(self, now)

    def _begin_anew(self, addr: EntityAddr) -> None:
        self.carrier.renew(addr)
        self._greeted = False
        self._answer_by = NEVER

    def _recovering(self, state: int, now: float) -> None:
        """How far the rank's new holder has come."""
        if state == MdsState.RECONNECT:
            self.connect(now)
        elif state > MdsState.RECONNECT:
            if not self._greeted:
                self._be_forgotten("it took the rank over without hearing from this client", now)
                if state >= MdsState.CLIENTREPLAY:
                    self.connect(now)
                return
            # Not later: to carry out what is sent it again, it may have to ask caps back of us.
            self._serving = state >= MdsState.CLIENTREPLAY
            self._serve(now)

    def _serve(self, now: float) -> None:
        if not (self._accepted and self._serving):
            return
        self.why = ""
        self._set_state("open")
        self._renew(now)
        self._host.session_served(self, now)
        if self._close_once_open:
            self.close(now)

    def gone(self, now: float) -> None:
        """The file system has no such rank any more."""
        if self.state not in ("closed", "rejected"):
            closing = self.state == "closing"
            self._drop("closed")
            if closing:
                self._host.session_closed(self, now)
            else:
                self._end(SessionLost(f"rank {self.rank} was given up without a word to us", reason="closed"), now)

    def abandon(self, now: float) -> None:
        """Leave without waiting for anything."""
        if self.state not in ("closed", "rejected"):
            if self._greeted and self.state != "closing":
                # Else the MDS would count on us to give caps back, and hold others up until it misses us.
                self._say(SessionOp.REQUEST_CLOSE, 0 if self.state == "opening" else self.seq)
            self._drop("closed")
            self._end(SessionLost(f"the session with {self.who} was given up", reason="closed"), now)

    def _end(self, error: Exception, now: float) -> None:
        self.why = str(error)
        self._host.session_ended(self, error, now)

    def _drop(self, state: SessionState) -> None:
        self.carrier.hang_up()
        self._answer_by = NEVER
        self.renewals.stop()
        self._forgotten = None
        self._set_state(state)

    def _set_state(self, state: SessionState) -> None:
        if state != self.state:
            self.state = state
            facts = {"rank": self.rank, "peer": str(self.addr), "why": self.why}
            self._host.out.append(Happened(f"session.{state}", facts))
