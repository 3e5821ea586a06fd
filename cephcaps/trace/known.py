"""What earlier messages of a trace told that helps a person to read a later one.

Where inodes lie, which caps a client has on them, since when bits are wanted back, when a request or a flush set out.
Memory is bounded: what has not been spoken of for long is forgotten. Nothing here is needed to read a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from cephcaps.trace.items import Flow, Traced
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapBody, CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import ClientRequest
from cephwire.session import ClientSession, SessionOp

__all__ = ["Known", "Learned", "Recent", "Revoke"]

K = TypeVar("K")
V = TypeVar("V")

ROOT: Final = 1
REMEMBERED: Final = 30_000
"""Names, sizes, caps, requests and flushes that are kept at least, of each; at most twice as many."""
LONGEST: Final = 512
"""Characters of a name or path that is kept; names of Linux end at 255 bytes."""
PATHS: Final = 8 << 20
"""Characters of all paths that are kept, so as not to put them together each time."""
PATH_COST: Final = 100
"""What keeping a path costs besides, in characters."""
DEEPEST: Final = 64
"""Directories of a path that are shown: names in a trace may go round in circles."""

GRANTS: Final = frozenset((CapOp.GRANT, CapOp.REVOKE, CapOp.IMPORT))
"""From an MDS: ops that say what is issued. FLUSH_ACK gives back what the client said, EXPORT says nothing."""
HOLDS: Final = frozenset((CapOp.UPDATE, CapOp.DROP, CapOp.FLUSH, CapOp.RELEASE, CapOp.RENEW))
"""From a client: ops that say what it holds. FLUSHSNAP says what it held when the snapshot was made."""

Client: TypeAlias = int | str
"""Its global id or, while that is unknown, its address."""
Daemon: TypeAlias = str
"""Its address, which unlike its rank is known from the first packet."""


class Recent(Generic[K, V]):
    """A dict that forgets, in bulk, what has neither been set nor got for long."""

    __slots__ = ("_limit", "_new", "_old")

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: K) -> V | None:
        found = self._new.get(key)
        if found is None and self._old and (found := self._old.pop(key, None)) is not None:
            self[key] = found
        return found

    def __setitem__(self, key: K, value: V) -> None:
        new = self._new
        new[key] = value
        if len(new) > self._limit:
            self._old, self._new = new, {}

    def pop(self, key: K) -> V | None:
        old = self._old.pop(key, None)
        return self._new.pop(key, old)

    def items(self) -> Iterator[tuple[K, V]]:
        yield from (pair for pair in self._old.items() if pair[0] not in self._new)
        yield from self._new.items()


class Revoke(NamedTuple):
    """A revoke that the client has not answered."""

    client: Client
    rank: int | None
    daemon: Daemon
    ino: int
    ns: int
    """When it was first asked for bits."""
    seq: int
    lost: int
    """Bits it was known to have and is to give back; 0 where that was not known."""


class Learned(NamedTuple):
    """What earlier messages say about this one."""

    waited: int | None = None
    """Nanoseconds since what it answers: a request, a flush or a revoke."""
    had: int | None = None
    """Bits the client had on the inode, as far as known."""
    moved: bool = True
    """Whether size or mtime are not those that were last told."""
    path: str = ""
    """With a reply: what the request was about."""


NOTHING: Final = Learned()


class _Cap:
    """A cap that a rank has issued to a client."""

    __slots__ = ("issued", "kept", "revoke", "session")

    def __init__(self, session: int, issued: int) -> None:
        self.session = session
        self.issued = issued
        self.revoke: Revoke | None = None
        self.kept = 0
        """Bits the revoke leaves."""


class Known:
    """What is known so far. Each client has its own view: inode numbers are those of the file system it has mounted."""

    def __init__(self) -> None:
        self._names: Recent[tuple[Client, int], tuple[int, str]] = Recent()
        self._sizes: Recent[tuple[Client, int], tuple[int, int]] = Recent()
        self._caps: Recent[tuple[Client, Daemon, int], _Cap] = Recent()
        self._ended: dict[tuple[Client, Daemon], int] = {}
        """How many sessions have: caps of those before mean nothing."""
        self._requests: Recent[tuple[Client, int], tuple[int, int, str]] = Recent()
        """By tid: when, and the first path."""
        self._flushes: Recent[tuple[Client, int], int] = Recent()
        """By flush tid: when."""
        self._paths: dict[tuple[Client, int], str] = {}
        """Those that have been asked for and hold still."""
        self._characters = 0
        """Of these."""
        self._floating = False
        """Whether some of these begin at an inode whose own place is not known."""

    def path(self, flow: Flow, ino: int, below: str = "") -> str:
        """Where ``below`` lies from inode ``ino``, as far up as names are known: ``/a/b``, ``#0x10000000000/b``."""
        return self._path(flow.client if flow.client_id is None else flow.client_id, ino, below)

    def _path(self, client: Client, ino: int, below: str = "") -> str:
        found = self._paths.get((client, ino))
        if found is None:
            found = self._paths[client, ino] = self._found_path(client, ino)
            self._characters += len(found) + PATH_COST
            if self._characters > PATHS:
                self._forget_paths()
        if not below:
            return found
        return f"{found}{below}" if found == "/" else f"{found}/{below}"

    def _found_path(self, client: Client, ino: int) -> str:
        parts: list[str] = []
        while ino != ROOT and len(parts) < DEEPEST and (found := self._names.get((client, ino))) is not None:
            ino, name = found
            parts.append(name)
        if ino != ROOT:
            self._floating = True
            parts.append(f"#{ino:#x}")
        elif parts:
            parts.append("")
        return "/".join(reversed(parts)) or "/"

    def _name(self, client: Client, ino: int, parent: int, name: str) -> None:
        """Note where an inode lies."""
        if len(name) > LONGEST:
            return
        key, place = (client, ino), (parent, name)
        before = self._names.get(key)
        if before != place:
            self._names[key] = place
            if before is not None or self._floating:  # paths that lead through it have changed, or now go further up
                self._forget_paths()

    def _forget_paths(self) -> None:
        self._paths.clear()
        self._characters = 0
        self._floating = False

    def unanswered(self) -> Iterator[tuple[Revoke, str]]:
        """Each revoke that nothing has answered, and the inode's path."""
        for (client, daemon, ino), cap in self._caps.items():
            if cap.revoke is not None and cap.session == self._ended.get((client, daemon), 0):
                yield cap.revoke, self._path(client, ino)

    def take(self, item: Traced) -> Learned:
        """Learn from a message, and say what was known about it before."""
        learn = _LEARN.get(type(item.message))
        return NOTHING if learn is None else learn(self, item, item.message, _client(item.flow))

    # From either side

    def _session(self, item: Traced, message: ClientSession, client: Client) -> Learned:
        if message.op in (SessionOp.REQUEST_OPEN, SessionOp.CLOSE, SessionOp.REJECT):
            key = client, item.flow.daemon
            self._ended[key] = self._ended.pop(key, 0) + 1
            if len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]
        return NOTHING

    def _client_caps(self, item: Traced, message: ClientCaps, client: Client) -> Learned:
        if item.to_daemon:
            return self._held(item, message, client)
        return self._granted(item, message, client)

    # From a client

    def _request(self, item: Traced, message: ClientRequest, client: Client) -> Learned:
        if self._requests.get((client, item.header.tid)) is None:
            below = message.path.path
            self._requests[client, item.header.tid] = item.ns, message.path.ino, below if len(below) <= LONGEST else ""
        for release in message.releases:
            cap = self._cap(client, item.flow.daemon, release.ino)
            if cap is not None:
                _keep(cap, release.caps, release.seq)
        return NOTHING

    def _held(self, item: Traced, message: ClientCaps, client: Client) -> Learned:
        if message.dirty and self._flushes.get((client, item.header.tid)) is None:
            self._flushes[client, item.header.tid] = item.ns
        if message.op not in HOLDS:
            return NOTHING
        moved = self._size(client, message.ino, message.body) if message.dirty else False
        cap = self._cap(client, item.flow.daemon, message.ino)
        if cap is None:
            return Learned(moved=moved)
        had, revoke = cap.issued, cap.revoke
        answered = _keep(cap, message.caps, message.seq)
        return Learned(item.ns - revoke.ns if revoke and answered else None, had, moved)

    def _released(self, item: Traced, message: ClientCapRelease, client: Client) -> Learned:
        daemon = item.flow.daemon
        for released in message.caps:
            self._caps.pop((client, daemon, released.ino))
        return NOTHING

    def _reconnected(self, item: Traced, message: ClientReconnect, client: Client) -> Learned:
        daemon = item.flow.daemon
        session = self._ended.get((client, daemon), 0)
        for ino, cap in ((told.ino, told.cap) for told in message.caps):
            if cap.path:
                self._name(client, ino, cap.pathbase, cap.path)
            self._caps[client, daemon, ino] = _Cap(session, cap.issued)
        return NOTHING

    # From an MDS

    def _reply(self, item: Traced, message: ClientReply, client: Client) -> Learned:
        key = client, item.header.tid
        sent = self._requests.pop(key) if message.safe else self._requests.get(key)
        trace = message.trace
        daemon = item.flow.daemon
        if trace.dir is not None:
            self._inode(client, daemon, trace.dir)
        if trace.target is not None:
            if trace.dir is not None and trace.dname is not None and trace.target.snapid == NOSNAP:
                self._name(client, trace.target.ino, trace.dir.ino, trace.dname)
            self._inode(client, daemon, trace.target)
            if isinstance(message.extra, ReaddirReply):
                for entry in message.extra.entries:
                    if entry.inode.snapid == NOSNAP:
                        self._name(client, entry.inode.ino, trace.target.ino, entry.dname)
                        self._inode(client, daemon, entry.inode)
        if sent is None:
            return NOTHING
        ns, ino, below = sent
        return Learned(item.ns - ns, path=self._path(client, ino, below))

    def _inode(self, client: Client, daemon: Daemon, inode: InodeStat) -> None:
        if inode.snapid != NOSNAP:
            return
        self._sizes[client, inode.ino] = inode.size, inode.mtime
        if inode.cap.cap_id:
            self._issue(client, daemon, inode.ino, inode.cap.caps)

    def _granted(self, item: Traced, message: ClientCaps, client: Client) -> Learned:
        daemon, ino = item.flow.daemon, message.ino
        if message.op in (CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK):
            sent = self._flushes.pop((client, item.header.tid))
            return Learned(None if sent is None else item.ns - sent, moved=False)
        if message.op == CapOp.EXPORT:
            self._caps.pop((client, daemon, ino))
            return NOTHING
        moved = self._size(client, ino, message.body)
        if message.op not in GRANTS:
            return Learned(moved=moved)
        known = self._cap(client, daemon, ino)
        had = None if known is None else known.issued
        cap = self._issue(client, daemon, ino, message.caps)
        lost = 0 if had is None else had & ~message.caps
        if lost or message.op == CapOp.REVOKE:
            before = cap.revoke
            since, lost = (item.ns, lost) if before is None else (before.ns, before.lost | lost)
            cap.revoke = Revoke(client, item.flow.daemon_num, daemon, ino, since, message.seq, lost)
            cap.kept = message.caps
        elif cap.revoke is not None:
            cap.kept |= message.caps
        return Learned(had=had, moved=moved)

    # What is kept

    def _cap(self, client: Client, daemon: Daemon, ino: int) -> _Cap | None:
        cap = self._caps.get((client, daemon, ino))
        return cap if cap is not None and cap.session == self._ended.get((client, daemon), 0) else None

    def _issue(self, client: Client, daemon: Daemon, ino: int, issued: int) -> _Cap:
        cap = self._cap(client, daemon, ino)
        if cap is None:
            cap = self._caps[client, daemon, ino] = _Cap(self._ended.get((client, daemon), 0), issued)
        cap.issued = issued
        return cap

    def _size(self, client: Client, ino: int, body: Any) -> bool:
        """Note size and mtime; whether they are news."""
        if not isinstance(body, CapBody):
            return False
        told = body.size, body.mtime
        if self._sizes.get((client, ino)) == told:
            return False
        self._sizes[client, ino] = told
        return True


def _keep(cap: _Cap, held: int, seq: int) -> bool:
    """Note that the client has only ``held`` left; whether that answers a revoke."""
    cap.issued &= held
    # An answer holds nothing that was to be given back, and was not on its way when the revoke came. Sequence numbers
    # wrap: their signed difference counts.
    if cap.revoke is None or held & ~cap.kept or seq - cap.revoke.seq & 0x80000000:
        return False
    cap.revoke = None
    return True


def _client(flow: Flow) -> Client:
    return flow.client if flow.client_id is None else flow.client_id


_LEARN: Final[dict[type, Any]] = {
    ClientSession: Known._session,
    ClientCaps: Known._client_caps,
    ClientRequest: Known._request,
    ClientCapRelease: Known._released,
    ClientReconnect: Known._reconnected,
    ClientReply: Known._reply,
}
