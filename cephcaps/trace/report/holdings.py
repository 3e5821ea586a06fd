"""Who holds which bits of which inode, followed through a trace, and which revokes are outstanding.

A client holds what a rank has issued to it and, until it has answered, what it is asked to give back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.inode import NOSNAP, InodeStat
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ReaddirReply
from cephwire.request import ClientRequest
from cephwire.session import ClientSession, SessionOp

__all__ = ["Asked", "Holdings", "How", "Watcher"]

MOST_CAPS: Final = 200_000
"""Caps that are followed; beyond, those that came first are forgotten."""
BITS: Final = 0xFFFF
"""Bits that can be told apart: no MDS issues others."""
GRANTS: Final = frozenset((CapOp.GRANT, CapOp.REVOKE, CapOp.IMPORT))
HOLDS: Final = frozenset((CapOp.UPDATE, CapOp.DROP, CapOp.FLUSH, CapOp.RELEASE, CapOp.RENEW))

How: TypeAlias = Literal["caps", "request", "caprelease", "export", "session", "forgotten"]
"""By what a revoke ended: answered by a cap message, by a release in a request or by a release of the whole cap; or
overtaken by an export, by the end of the session, or by more caps than are followed."""


@dataclass(slots=True, eq=False)
class Asked:
    """A revoke."""

    client: int
    daemon: int
    ino: int
    at: int
    """When it was first asked for, in microseconds."""
    seq: int
    lost: int
    """Bits to be given back, as far as the client was known to have them."""


class Watcher(Protocol):
    """Is told what changes."""

    def holds(self, at: int, client: int, ino: int, held: int, lost: int, asked: bool) -> None:
        """A client holds ``held``, of which ``lost`` is wanted back; whether a revoke is outstanding."""

    def asked(self, asked: Asked) -> None:
        """A revoke begins."""

    def ended(self, asked: Asked, at: int, how: How) -> None:
        """A revoke is over."""

    def caps(self, at: int, client: int, number: int) -> None:
        """A client has caps on so many inodes."""


class Cap:
    """What a rank has issued to a client on an inode."""

    __slots__ = ("asked", "issued", "kept", "seq")

    def __init__(self, issued: int, seq: int) -> None:
        self.issued: int = issued
        self.seq: int = seq
        self.asked: Asked | None = None
        self.kept: int = 0
        """Bits that the revoke leaves."""


class Holdings:
    """Follows the caps of every client."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._rows: dict[tuple[int, int], dict[int, Cap]] = {}
        """By client and inode: the cap from each daemon."""
        self._sessions: dict[tuple[int, int], dict[int, None]] = {}
        """By client and daemon: inodes."""
        self._numbers: dict[int, int] = {}
        """Inodes that each client has caps on."""
        self._total = 0
        self._reconnecting: set[tuple[int, int]] = set()

    def outstanding(self) -> list[Asked]:
        """Revokes without an answer, the oldest first."""
        found = [cap.asked for row in self._rows.values() for cap in row.values() if cap.asked is not None]
        return sorted(found, key=lambda asked: asked.at)

    # From either side

    def session(self, at: int, client: int, daemon: int, m: ClientSession, former: list[int]) -> None:
        """Args:
        former: daemons that had the rank before.
        """
        if m.op in (SessionOp.REQUEST_OPEN, SessionOp.CLOSE, SessionOp.REJECT):
            self._end(at, client, daemon)
        elif m.op == SessionOp.OPEN:  # caps of the rank's former holder are told to this one or lost
            for other in former:
                self._end(at, client, other)

    def client_caps(self, at: int, client: int, daemon: int, m: ClientCaps, to_daemon: bool) -> None:
        if not to_daemon:
            self._granted(at, client, daemon, m)
        elif m.op in HOLDS:
            self._keep(at, client, daemon, m.ino, m.caps & BITS, m.seq, "caps")
            if m.op in (CapOp.DROP, CapOp.RELEASE):
                self._drop(at, client, daemon, m.ino, "caps")

    # From a client

    def request(self, at: int, client: int, daemon: int, m: ClientRequest) -> None:
        for release in m.releases:
            self._keep(at, client, daemon, release.ino, release.caps & BITS, release.seq, "request")

    def released(self, at: int, client: int, daemon: int, m: ClientCapRelease) -> None:
        for item in m.caps:
            self._drop(at, client, daemon, item.ino, "caprelease")

    def reconnected(self, at: int, client: int, daemon: int, m: ClientReconnect, former: list[int]) -> None:
        session = client, daemon
        if session not in self._reconnecting:  # the first part of several
            for other in (daemon, *former):
                self._end(at, client, other)
        for told in m.caps:
            self._issue(at, client, daemon, told.ino, told.cap.issued & BITS, 0)
        if m.more:
            self._reconnecting.add(session)
        else:
            self._reconnecting.discard(session)

    # From an MDS

    def reply(self, at: int, client: int, daemon: int, m: ClientReply) -> None:
        for inode in (m.trace.dir, m.trace.target):
            if inode is not None:
                self._inode(at, client, daemon, inode)
        if isinstance(m.extra, ReaddirReply):
            for entry in m.extra.entries:
                self._inode(at, client, daemon, entry.inode)

    def _inode(self, at: int, client: int, daemon: int, inode: InodeStat) -> None:
        cap: Any = inode.cap
        if inode.snapid == NOSNAP and cap.cap_id:
            self._issue(at, client, daemon, inode.ino, cap.caps & BITS, cap.seq)

    def _granted(self, at: int, client: int, daemon: int, m: ClientCaps) -> None:
        if m.op == CapOp.EXPORT:
            self._drop(at, client, daemon, m.ino, "export")
        elif m.op in GRANTS:
            known = self._rows.get((client, m.ino), {}).get(daemon)
            if m.op == CapOp.REVOKE or (known is not None and known.issued & ~m.caps):
                self._revoke(at, client, daemon, m, known)
            else:
                self._issue(at, client, daemon, m.ino, m.caps & BITS, m.seq)

    def _revoke(self, at: int, client: int, daemon: int, m: ClientCaps, cap: Cap | None) -> None:
        kept = m.caps & BITS
        if cap is None:
            cap = self._new(at, client, daemon, m.ino, kept)
        lost = cap.issued & ~kept
        cap.issued, cap.seq, cap.kept = kept, m.seq, kept
        if cap.asked is None:
            cap.asked = Asked(client, daemon, m.ino, at, m.seq, lost)
            self._watcher.asked(cap.asked)
        else:
            cap.asked.lost = (cap.asked.lost | lost) & ~kept
            cap.asked.seq = m.seq
        self._tell(at, client, m.ino)

    # What is kept

    def _issue(self, at: int, client: int, daemon: int, ino: int, bits: int, seq: int) -> None:
        cap = self._rows.get((client, ino), {}).get(daemon) or self._new(at, client, daemon, ino, bits)
        cap.issued, cap.seq = bits, seq
        if cap.asked is not None:
            cap.kept |= bits
            cap.asked.lost &= ~bits
        self._tell(at, client, ino)

    def _keep(self, at: int, client: int, daemon: int, ino: int, held: int, seq: int, how: How) -> None:
        """A client says that of a cap it has only ``held`` left."""
        cap = self._rows.get((client, ino), {}).get(daemon)
        if cap is None:
            return
        # One that has crossed a grant does not know of it. Sequence numbers wrap: their signed difference counts.
        if not seq - cap.seq & 0x80000000:
            cap.issued &= held
        asked = cap.asked
        if asked is not None and not held & ~cap.kept and not seq - asked.seq & 0x80000000:
            cap.asked = None
            self._watcher.ended(asked, at, how)
        self._tell(at, client, ino)

    def _new(self, at: int, client: int, daemon: int, ino: int, bits: int) -> Cap:
        if self._total >= MOST_CAPS:
            (whose, of), row = next(iter(self._rows.items()))
            self._drop(at, whose, next(iter(row)), of, "forgotten")
        row = self._rows.setdefault((client, ino), {})
        if not row:
            self._count(at, client, 1)
        cap = row[daemon] = Cap(bits, 0)
        self._sessions.setdefault((client, daemon), {})[ino] = None
        self._total += 1
        return cap

    def _drop(self, at: int, client: int, daemon: int, ino: int, how: How) -> None:
        """A cap is gone."""
        row = self._rows.get((client, ino))
        cap = None if row is None else row.pop(daemon, None)
        if row is None or cap is None:
            return
        self._total -= 1
        inodes = self._sessions[client, daemon]
        del inodes[ino]
        if not inodes:
            del self._sessions[client, daemon]
        if not row:
            del self._rows[client, ino]
            self._count(at, client, -1)
        if cap.asked is not None:
            self._watcher.ended(cap.asked, at, how)
        self._tell(at, client, ino)

    def _end(self, at: int, client: int, daemon: int) -> None:
        """A session is over, and every cap of it."""
        for ino in list(self._sessions.get((client, daemon), ())):
            self._drop(at, client, daemon, ino, "session")

    def _count(self, at: int, client: int, more: int) -> None:
        number = self._numbers[client] = self._numbers.get(client, 0) + more
        self._watcher.caps(at, client, number)

    def _tell(self, at: int, client: int, ino: int) -> None:
        held = lost = 0
        outstanding = False
        for cap in self._rows.get((client, ino), {}).values():
            held |= cap.issued
            if cap.asked is not None:
                held |= cap.asked.lost
                lost |= cap.asked.lost
                outstanding = True
        self._watcher.holds(at, client, ino, held, lost, outstanding)
