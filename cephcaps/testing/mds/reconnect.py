"""A rank taken over by another daemon: who has what is learned from clients, as far as they come back in time.

The tree, its snapshots and what must be known for good of clients (requests and flushes done) outlive the daemon, as if
all of it had been in the journal. Caps, locks and leases do not. Facts: ceph: src/mds/Server.cc
(``handle_client_reconnect``, ``reconnect_tick``), src/mds/CInode.cc (``reconnect_cap``, ``choose_lock_state``),
src/mds/MDCache.cc (``choose_lock_states_and_reconnect_caps``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cephcaps.testing.daemon import Remote
from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.locks import BUFFER, CACHE, EXCL, KINDS, SHARED, WR, Lock, State
from cephcaps.testing.mds.loner import choose_loner
from cephcaps.testing.mds.session import Session
from cephcaps.testing.mds.snaps import Realm, Snapshots
from cephcaps.testing.mds.tree import Tree
from cephwire.capbits import Cap as Bit
from cephwire.filelock import LockRule
from cephwire.frames import MessageHeader
from cephwire.reconnect import ClientReconnect, ReconnectCap, SnapRealmReconnect
from cephwire.snap import SnapOp

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["RECONNECT_TIMEOUT", "Legacy", "Takeover", "leave"]

RECONNECT_TIMEOUT = 45.0
"""Seconds that clients have to come back (ceph: ``mds_reconnect_timeout``)."""


@dataclass
class Legacy:
    """What one daemon leaves to the next."""

    tree: Tree
    snapshots: Snapshots
    last_cap_id: int
    sessions: dict[int, Session]


def leave(mds: Mds) -> Legacy:
    """All but what clients hold, which is forgotten."""
    for inode in list(mds.tree.inodes.values()):
        _forget_clients(inode)
    sessions = {session.client: session for session in mds.sessions}
    return Legacy(mds.tree, mds.snapshots, mds.caps.last_cap_id, sessions)


def _forget_clients(inode: Inode) -> None:
    inode.caps.clear()
    inode.wanting = 0
    inode.waiting = ()
    inode.file_locks.clear()
    inode.loner = inode.want_loner = None
    inode.names.clear()
    inode.max_size, inode.safe_ranges = {}, None
    inode.snap = None
    inode.auth, inode.link, inode.xattr, inode.file = (Lock(inode, kind) for kind in "ALXF")
    for dentry in inode.entries.values():
        dentry.leases.clear()
        dentry.revoking.clear()


class Takeover:
    """The time until the rank is active.

    Attributes:
        missing: sessions of clients that have not come back yet.
        deadline: when they are given up.
    """

    def __init__(self, mds: Mds, legacy: Legacy, deadline: float) -> None:
        self._mds = mds
        self.missing: dict[int, Session] = dict(legacy.sessions)
        self.deadline = deadline
        self._later: list[tuple[Remote, MessageHeader, Any]] = []
        self._told: list[tuple[Session, ClientReconnect]] = []

    def received(self, remote: Remote, header: MessageHeader, message: Any) -> None:
        """Claims are heard now, everything else once the rank is active."""
        if not isinstance(message, ClientReconnect):
            self._later.append((remote, header, message))
            return
        session = self._mds.sessions.of(remote)
        if session is None:
            former = self.missing.get(remote.global_id)
            if former is None:
                self._mds.sessions.refuse(remote)
                return
            session = self._mds.sessions.resume(remote, former)
        self._told.append((session, message))
        for claim in message.caps:
            self._claimed(session, claim)
        if not message.more:
            self.missing.pop(remote.global_id, None)

    def _claimed(self, session: Session, claim: ReconnectCap) -> None:
        inode, said = self._mds.tree.inodes.get(claim.ino), claim.cap
        if inode is None:
            return
        cap = Cap(session, inode, said.cap_id, said.issued, said.issued)
        cap.want(said.wanted)
        inode.caps[session] = session.caps[inode.ino] = cap
        if said.wanted & (Bit.ANY_FILE_RD | Bit.ANY_FILE_WR):
            session.opened.add(inode)
        if said.flocks is not None:
            for rule, locks in ((LockRule.FCNTL, said.flocks.fcntl), (LockRule.FLOCK, said.flocks.flock)):
                inode.file_locks.setdefault(rule, []).extend(locks)

    def over(self, now: float) -> bool:
        """Whether there is nobody left to wait for."""
        return not self.missing or now >= self.deadline

    def rejoin(self) -> None:
        """Bring locks into states that go with what clients hold; those who have not come are evicted."""
        mds = self._mds
        for former in self.missing.values():
            mds.on_evict(former.remote.addr)
        for inode in list(mds.tree.inodes.values()):
            if inode.caps:
                choose_loner(inode)
                for kind in KINDS:
                    inode.lock(kind).state = _state(inode.lock(kind), inode)
            else:
                mds.unused(inode)
        for session, message in self._told:
            self._tell_realms(session, message)

    def begin(self) -> None:
        """Serve."""
        mds = self._mds
        for inode in list(mds.tree.inodes.values()):
            if inode.caps:
                if not mds.caps.locker.evaluate(inode):
                    mds.caps.issue(inode)
                if inode.is_file:
                    mds.ranges.check(inode)
        for remote, header, message in self._later:
            if mds.remotes.get(remote.addr) is remote:
                mds.received(remote, header, message, mds.now)

    def _tell_realms(self, session: Session, message: ClientReconnect) -> None:
        """What became of snap realms while the client was not told (ceph: ``finish_snaprealm_reconnect``)."""
        moved: dict[Realm, list[Inode]] = {}
        for claim in message.caps:
            inode = self._mds.tree.inodes.get(claim.ino)
            if inode is not None and self._mds.realm_of(inode) != claim.cap.snaprealm:
                moved.setdefault(self._mds.snapshots.realm_of(inode), []).append(inode)
        for realm, inodes in moved.items():
            self._mds.tell_realm_to(session, realm, SnapOp.SPLIT, inodes)
        for told in message.realms:
            self._update(session, told)

    def _update(self, session: Session, told: SnapRealmReconnect) -> None:
        inode = self._mds.tree.inodes.get(told.ino)
        if inode is not None and inode.realm is not None and inode.realm.seq > told.seq:
            self._mds.tell_realm_to(session, inode.realm, SnapOp.UPDATE, [])


def _state(lock: Lock, inode: Inode) -> State:
    """What goes with the caps that clients claim."""
    issued = 0
    for cap in inode.caps.values():
        issued |= cap.issued >> lock.shift
    issued &= lock.mask
    if issued & (EXCL | BUFFER):
        return State.EXCL
    if issued & WR:
        return State.EXCL if issued & (CACHE | SHARED) else State.MIX
    return State.SYNC
