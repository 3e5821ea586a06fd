"""What the messages so far say about each client, session and cap, as far as it is certain.

Nothing is guessed: what began before the trace, or lies beyond a gap in it, is None, and no rule judges by that. A
message that has been captured may not have been read yet by whom it is for, so what a client holds is known only as the
most it can hold: what it said last, and whatever was told it since.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, TypeAlias

from cephcaps.trace.known import Recent
from cephcaps.trace.words import CAPS
from cephwire.caps import CapBody

__all__ = ["Cap", "CapState", "Claim", "Client", "ClientKey", "Session", "State", "Told", "after"]

ClientKey: TypeAlias = "int | str"
"""Its global id or, while that is unknown, its address."""

REMEMBERED: Final = 50_000
"""Caps that are kept at least; at most twice as many."""
MOST_CLIENTS: Final = 20_000
MOST_SESSIONS: Final = 256
"""Of one client: as many as there are ranks, and a few that failed."""
ISSUES: Final = 64
"""Replies of which the seq is kept, for each cap."""
UNREAD: Final = 64
"""Messages to a client that are kept until it shows that it has read them, for each cap."""
SESSION_TIMEOUT: Final = 60
"""Seconds, while no MDS map has said (ceph: src/mds/MDSMap.h, ``session_timeout``)."""


def after(one: int, other: int) -> bool:
    """Whether a sequence number is newer; they are of 32 bits and wrap (kernel: ``ceph_seq_cmp``)."""
    return 0 < (one - other & 0xFFFFFFFF) < 0x80000000


class Claim(NamedTuple):
    """What a client says of a cap: a CLIENT_CAPS, the record in a request, an item of a CAPRELEASE."""

    ns: int
    op: str
    ino: int
    cap_id: int
    seq: int | None
    """None in a CAPRELEASE, which has none."""
    issue_seq: int
    mseq: int
    caps: int
    wanted: int
    dirty: int = 0
    tid: int = 0
    flags: int = 0
    body: CapBody | None = None

    def __str__(self) -> str:
        seq = "" if self.seq is None else f" seq {self.seq}"
        dirty = f" dirty {CAPS[self.dirty]} flush_tid {self.tid}" if self.tid else ""
        return f"{self.op}{seq} issue_seq {self.issue_seq} mseq {self.mseq} caps {CAPS[self.caps]}{dirty}"


class Told(NamedTuple):
    """What an MDS says of a cap: a CLIENT_CAPS, or an inode in a reply."""

    ns: int
    op: str
    ino: int
    cap_id: int
    seq: int
    mseq: int
    caps: int
    issues: bool = False
    """Whether the seq is one that releases have to name: of a reply or an IMPORT."""

    def __str__(self) -> str:
        return f"{self.op} seq {self.seq} mseq {self.mseq} caps {CAPS[self.caps]}"


class CapState:
    HELD = 0
    RELEASED = 1
    """By a CAPRELEASE."""
    EXPORTED = 2


class Cap:
    """A cap of one inode, from one MDS.

    Attributes:
        whole: nothing of its story is missing.
        seq, mseq: newest that the MDS has told; None while it has not.
        issues: seqs of replies and imports that carried it.
        stand_in: seq that an EXPORT to it has the client go by until it reads the IMPORT; None if none has.
        pending: bits the MDS leaves the client; None while unknown.
        base: bits the client held when it spoke last, None while unknown.
        unread: seq and bits of what it may not have read then.
        said: what the client said last; of that also ``said_seq``, ``said_issue`` and ``said_mseq``, but for a
            CAPRELEASE, which may have been queued long before.
        told: what the MDS said last.
        since: when it was released or exported.
    """

    __slots__ = (
        "base", "cap_id", "ino", "issues", "mseq", "pending", "said", "said_issue", "said_mseq", "said_seq", "seq",
        "since", "stand_in", "state", "told", "unread", "whole",
    )  # fmt: skip

    def __init__(self, ino: int, cap_id: int, *, whole: bool) -> None:
        self.ino: int = ino
        self.cap_id: int = cap_id
        self.whole: bool = whole
        self.state: int = CapState.HELD
        self.since: int = 0
        self.seq: int | None = None
        self.mseq: int | None = None
        self.pending: int | None = None
        self.base: int | None = 0 if whole else None
        self.issues: deque[int] = deque(maxlen=ISSUES)
        self.stand_in: int | None = None
        self.unread: deque[tuple[int, int]] = deque()
        self.said: Claim | None = None
        self.told: Told | None = None
        self.said_seq: int | None = None
        self.said_issue: int | None = None
        self.said_mseq: int | None = None

    def most(self, seq: int | None = None) -> int | None:
        """The bits the client can hold, at most, when it says ``seq``; None if that is unknown."""
        if self.base is None:
            return None
        held = self.base
        for told, caps in self.unread:
            if seq is None or not after(told, seq):
                held |= caps
        return held

    def outdates(self, claim: Claim) -> bool:
        """Whether a release is of before the MDS issued the cap last: queued or on its way when the client, by a
        reply, got it again. The MDS takes no notice of it."""
        return bool(self.issues) and after(self.issues[-1], claim.issue_seq)

    def hear(self, told: Told) -> None:
        """Take in what the MDS says."""
        self.told = told
        if self.seq is None or after(told.seq, self.seq):
            self.seq = told.seq
        if self.mseq is None or after(told.mseq, self.mseq):
            self.mseq = told.mseq
        if told.issues and (not self.issues or self.issues[-1] != told.seq):
            self.issues.append(told.seq)
        self.pending = told.caps
        if self.unread and self.unread[-1][0] == told.seq:
            self.unread[-1] = told.seq, self.unread[-1][1] | told.caps
        else:
            self.unread.append((told.seq, told.caps))
            if len(self.unread) > UNREAD:  # an MDS that never hears of the client
                (_, dropped), (seq, caps) = self.unread.popleft(), self.unread.popleft()
                self.unread.appendleft((seq, caps | dropped))

    def stands_in(self, seq: int, held: int | None) -> None:
        """An EXPORT to it: until the IMPORT is read, it goes by ``seq`` and has what the exported cap had too."""
        self.stand_in = seq
        if held is None:
            self.base = None
        elif len(self.unread) < UNREAD:
            self.unread.append((seq, held))

    def say(self, claim: Claim) -> None:
        """Take in what the client says."""
        self.said = claim
        if claim.seq is None:
            self.state = CapState.RELEASED
            self.since = claim.ns
            self.base = 0
            return
        self.base = claim.caps
        if claim.seq == self.seq and self.pending is not None:
            # What goes back under the newest seq, the MDS forgets too (ceph: src/mds/Capability.cc, confirm_receipt).
            self.pending &= claim.caps
        while self.unread and after(claim.seq, self.unread[0][0]):
            self.unread.popleft()
        self.said_seq, self.said_issue, self.said_mseq = claim.seq, claim.issue_seq, claim.mseq


class Client:
    """A client: one mount.

    Attributes:
        whole: its first session began in the trace, and nothing is missing since.
        sessions: by the daemon's address.
        session_timeout: seconds.
        blocklisted: when it last heard of a client on its host being blocklisted; 0 if never.
    """

    __slots__ = ("blocklisted", "key", "session_timeout", "sessions", "whole")

    def __init__(self, key: ClientKey) -> None:
        self.key: ClientKey = key
        self.sessions: dict[str, Session] = {}
        self.whole: bool = False
        self.session_timeout: int = SESSION_TIMEOUT
        self.blocklisted: int = 0


class Session:
    """What one client and one MDS daemon have going; begins anew with every opening.

    Attributes:
        number: names it; caps of those before mean nothing.
        rank: of the MDS; None while unknown.
        whole: it began in the trace, and nothing is missing since.
        open: whether its OPEN was seen, or the client's RECONNECT.
        closing: when the client first asked for its end; 0 while it has not.
        heard: anything was said in it.
        parts: further parts of a RECONNECT are to come.
    """

    __slots__ = ("client", "closing", "daemon", "heard", "ns", "number", "open", "parts", "rank", "whole")

    def __init__(self, client: Client, daemon: str, number: int) -> None:
        self.client: Client = client
        self.daemon: str = daemon
        self.number: int = number
        self.rank: int | None = None
        self.whole: bool = False
        self.open: bool = False
        self.heard: bool = False
        self.parts: bool = False
        self.closing: int = 0
        self.ns: int = 0
        """When the MDS last said something."""

    @property
    def evicted(self) -> int:
        """When it turned out that the MDS had thrown the client out; 0 if it has not. No message says so."""
        blocklisted = self.client.blocklisted
        return blocklisted if blocklisted > self.ns else 0


class State:
    """All clients, sessions and caps."""

    def __init__(self) -> None:
        self.clients: dict[ClientKey, Client] = {}
        self._caps: Recent[tuple[int, int], Cap] = Recent(REMEMBERED)
        self._numbers = 0
        self.ns = 0
        """Of the newest message."""

    def client(self, key: ClientKey) -> Client:
        found = self.clients.get(key)
        if found is None:
            if len(self.clients) >= MOST_CLIENTS:
                del self.clients[next(iter(self.clients))]
            found = self.clients[key] = Client(key)
        return found

    def session(self, client: Client, daemon: str) -> Session:
        found = client.sessions.get(daemon)
        return self.begin(client, daemon) if found is None else found

    def begin(self, client: Client, daemon: str) -> Session:
        """A new session in place of any before it."""
        before = client.sessions.pop(daemon, None)
        if len(client.sessions) >= MOST_SESSIONS:
            del client.sessions[next(iter(client.sessions))]
        self._numbers += 1
        session = client.sessions[daemon] = Session(client, daemon, self._numbers)
        if before is not None:
            session.rank = before.rank
        return session

    def at_rank(self, client: Client, rank: int) -> Session | None:
        """The newest session of ``client`` with that rank."""
        found = [one for one in client.sessions.values() if one.rank == rank]
        return max(found, key=lambda one: one.number, default=None)

    def cap(self, session: Session, ino: int) -> Cap | None:
        return self._caps.get((session.number, ino))

    def make(self, session: Session, ino: int, cap_id: int, *, whole: bool) -> Cap:
        cap = self._caps[session.number, ino] = Cap(ino, cap_id, whole=whole)
        return cap

    def drop(self, session: Session, ino: int) -> None:
        self._caps.pop((session.number, ino))
