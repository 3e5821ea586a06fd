"""The MDS: what comes in from clients, and what goes out.

One rank, all in memory. Facts: ceph: src/mds/Server.cc (``handle_client_session``, ``dispatch_client_request``,
``reply_client_request``), src/mds/Locker.cc.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from cephcaps.messenger.server import Login
from cephcaps.testing.daemon import Daemon, Remote
from cephcaps.testing.keys import KeyServer, NoLogin, ServiceLogin
from cephcaps.testing.maps import Maps
from cephcaps.testing.mds.capability import Cap
from cephcaps.testing.mds.caps import CapKeeper
from cephcaps.testing.mds.clientcaps import ClientCapsTaker
from cephcaps.testing.mds.filelocks import FileLocks
from cephcaps.testing.mds.holding import of
from cephcaps.testing.mds.inode import Inode
from cephcaps.testing.mds.leases import Leases
from cephcaps.testing.mds.names import free_names, take_name
from cephcaps.testing.mds.operations import Operations
from cephcaps.testing.mds.outcome import Outcome
from cephcaps.testing.mds.ranges import Ranges
from cephcaps.testing.mds.reconnect import RECONNECT_TIMEOUT, Legacy, Takeover, leave
from cephcaps.testing.mds.replies import Replies
from cephcaps.testing.mds.request import Mutation, Refused, Request, Waits
from cephcaps.testing.mds.session import Session
from cephcaps.testing.mds.sessions import Sessions
from cephcaps.testing.mds.snaps import Realm, Snapshots
from cephcaps.testing.mds.stats import cap_message
from cephcaps.testing.mds.tree import Tree
from cephcaps.testing.mds.walk import Walker
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, ClientCaps
from cephwire.control import ConMode
from cephwire.entity import EntityAddr, EntityType
from cephwire.frames import MessageHeader
from cephwire.lease import ClientLease
from cephwire.quota import ClientQuota
from cephwire.reclaim import ClientReclaim, ClientReclaimReply
from cephwire.reconnect import ClientReconnect
from cephwire.request import ClientRequest
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature, ClientSession
from cephwire.snap import ClientSnap, SnapOp

__all__ = ["Mds"]

EOPNOTSUPP = 95
JOURNAL_DELAY = 0.05
"""Seconds until a change is safe, unless somebody asks for it at once; a real MDS takes up to 5."""
PUSHED = (ClientCaps, ClientLease, ClientSnap, ClientQuota)


class Mds(Daemon):
    """One rank.

    Attributes:
        tree: the file system; ``snapshots`` what is kept of it.
        caps: the caps clients hold.
        sessions: clients.
        state: "active"; of a rank that is taken over first "reconnect" and "rejoin"; "stopped" once it is nobody's.
        on_evict: is told the address of a client that must not come back.
        on_state: is told of every new state.
    """

    kind = EntityType.MDS

    def __init__(self, addr: EntityAddr, con_modes: tuple[ConMode, ...], keys: KeyServer, maps: Maps, *, cephx: bool):
        super().__init__(addr, con_modes)
        self._keys, self._cephx = keys, cephx
        self.maps = maps
        self.tree: Tree = Tree(maps.created)
        self.snapshots: Snapshots = Snapshots(self.tree.root)
        self.walker: Walker = Walker(self.tree, self.snapshots)
        self.caps: CapKeeper = CapKeeper(self)
        self.ranges: Ranges = Ranges(self)
        self.leases: Leases = Leases(self)
        self.file_locks: FileLocks = FileLocks(self)
        self.sessions: Sessions = Sessions(self)
        self.on_evict: Callable[[EntityAddr], None] = lambda addr: None
        self.state: str = "active"
        self.on_state: Callable[[str], None] = lambda state: None
        self._takeover: Takeover | None = None
        self._taker = ClientCapsTaker(self)
        self._operations = Operations(self)
        self._replies = Replies(self)
        self._woken: deque[Inode] = deque()
        self._later: deque[Callable[[], object]] = deque()
        self._journal: deque[tuple[float, Callable[[], None]]] = deque()
        self._journaled = self._flush_to = 0

    # Daemon

    def login(self) -> Login:
        return ServiceLogin(self._keys) if self._cephx else NoLogin(self._keys, to_mon=False)

    def send(self, remote: Remote, message: Any, *, tid: int = 0, version: int | None = None) -> None:
        if self.state != "stopped":
            super().send(remote, message, tid=tid, version=version)

    def stop(self) -> Legacy:
        """Be this rank no more: what was changed counts as journaled, and nobody is told anything."""
        self.state = "stopped"
        self.flush_journal()
        return leave(self)

    def take_over(self, legacy: Legacy, now: float, timeout: float = RECONNECT_TIMEOUT) -> None:
        """Be the next daemon of a rank; its clients have so many seconds to come back."""
        self._enter(now)
        self.tree = legacy.tree
        self.snapshots = legacy.snapshots
        self.walker = Walker(self.tree, self.snapshots)
        self.caps.last_cap_id = legacy.last_cap_id
        self.state, self._takeover = "reconnect", Takeover(self, legacy, now + timeout)
        self._rejoin()
        self._leave()

    def _rejoin(self) -> None:
        """Go on from reconnect once all have come, or time is up."""
        takeover = self._takeover
        if takeover is None or not takeover.over(self.now):
            return
        self._takeover = None
        for state, step in (("rejoin", takeover.rejoin), ("active", takeover.begin)):
            self.state = state
            self.on_state(state)
            step()

    def gone(self, remote: Remote, now: float) -> None:
        session = self.sessions.of(remote)
        if session is not None:
            self._enter(now)
            self.sessions.end(session)
            self._leave()

    def tick(self, now: float) -> None:
        super().tick(now)
        self._enter(now)
        self._rejoin()
        self.flush_journal(now)
        self.sessions.tick(now)
        self._leave()

    def next_deadline(self) -> float:
        due = self._journal[0][0] if self._journal else float("inf")
        if self._takeover is not None:
            due = min(due, self._takeover.deadline)
        return min(due, self.sessions.next_deadline(), super().next_deadline())

    def received(self, remote: Remote, header: MessageHeader, message: Any, now: float) -> None:
        if self.state == "stopped":
            return
        self._enter(now)
        if self._takeover is not None:
            self._takeover.received(remote, header, message)
            self._rejoin()
            self._leave()
            return
        session = self.sessions.of(remote)
        match message:
            case ClientSession():
                self.sessions.received(remote, session, message)
            case ClientReclaim():
                self.send(remote, ClientReclaimReply(-EOPNOTSUPP, 0, EntityAddr(0, 0, b"")))
            case ClientReconnect() if session is None:
                self.sessions.refuse(remote)
            case _ if session is None:
                pass  # a real MDS drops what comes without a session, too
            case ClientRequest():
                self._requested(session, header.tid, message)
            case ClientCaps():
                self._taker.received(session, header.tid, message)
            case ClientCapRelease():
                for item in message.caps:
                    self._taker.released(session, item)
            case ClientLease():
                self.leases.received(session, message)
            case ClientReconnect():
                self.sessions.end(session, tell=True)
            case _:
                pass
        self._leave()

    def within(self, now: float, step: Callable[[], None]) -> None:
        """Do something of one's own accord, and what comes of it."""
        self._enter(now)
        step()
        self._leave()

    def _enter(self, now: float) -> None:
        self.now = self.caps.now = now

    def _leave(self) -> None:
        """Do what has come of what was done, until nothing more does."""
        while True:
            if self._later:
                self._later.popleft()()
            elif self._woken:
                inode = self._woken.popleft()
                waiting, inode.waiting = inode.waiting, ()
                for request in waiting:
                    request.waits_for = None
                    self.run(request)
            elif self._journaled - len(self._journal) < self._flush_to:
                self._journal.popleft()[1]()
            else:
                return

    # For the parts

    def push(self, session: Session, message: Any, *, tid: int = 0) -> None:
        """Send what counts for the session's push seq."""
        assert isinstance(message, PUSHED)
        if session.state != "closed":
            session.pushed += 1
            self.send(session.remote, message, tid=tid)

    def journaled(self, then: Callable[[], None]) -> None:
        """Do ``then`` once the change just made is safe."""
        self._journal.append((self.now + JOURNAL_DELAY, then))
        self._journaled += 1

    def flush_soon(self) -> None:
        """Make safe what has been changed by now, once this message is done with."""
        self._flush_to = self._journaled

    def flush_journal(self, until: float | None = None) -> None:
        """Everything changed by now is safe; with ``until`` only what is due."""
        for _ in range(len(self._journal)):
            if until is not None and self._journal[0][0] > until:
                return
            self._journal.popleft()[1]()

    def later(self, step: Callable[[], object]) -> None:
        """Do this once what is being done is done with."""
        self._later.append(step)

    def realm_of(self, inode: Inode) -> int:
        return self.snapshots.realm_of(inode).inode.ino

    # Realms

    def tell_realm(self, directory: Inode, op: SnapOp) -> None:
        """Tell whoever holds something in a realm that it is new, or that its snapshots are others now."""
        realm = self.snapshots.realm_of(directory)
        for session in self.sessions:
            inside = [cap.inode for cap in session.caps.values() if self.tree.is_above(directory, cap.inode)]
            if not inside:
                continue
            moved = [inode for inode in inside if self.snapshots.realm_of(inode) is realm]
            below = [inode for inode in inside if inode is not directory and inode.realm is not None]
            self._tell_realm(session, realm, op, moved, below)

    def moved_realm(self, inode: Inode) -> None:
        """What is at and below ``inode`` lies in another realm now."""
        realm = self.snapshots.realm_of(inode)
        for session in self.sessions:
            inside = [cap.inode for cap in session.caps.values() if self.tree.is_above(inode, cap.inode)]
            moved = [each for each in inside if self.snapshots.realm_of(each) is realm]
            below = [each for each in inside if each.realm is not None]
            if moved or below:
                self._tell_realm(session, realm, SnapOp.SPLIT, moved, below)

    def new_realm(self, directory: Inode) -> None:
        """Make a directory a realm of its own."""
        above = self.snapshots.realm_of(directory)
        directory.realm = Realm(directory, above.seq, above.seq, above.seq)
        self.tell_realm(directory, SnapOp.SPLIT)

    def tell_realm_to(self, session: Session, realm: Realm, op: SnapOp, moved: list[Inode]) -> None:
        """Tell one client of a realm, or that these inodes are in it now."""
        self._tell_realm(session, realm, op, moved, [])

    def _tell_realm(self, session: Session, realm: Realm, op: SnapOp, moved: list[Inode], below: list[Inode]) -> None:
        split = op == SnapOp.SPLIT
        trace = self.snapshots.trace(realm, modern=session.has(ClientFeature.NEW_SNAPREALM_INFO))
        self.push(
            session,
            ClientSnap(
                op,
                realm.inode.ino if split else 0,
                tuple(inode.ino for inode in moved) if split else (),
                tuple(inode.ino for inode in below) if split else (),
                trace,
            ),
        )

    # CapTeller

    def tell_caps(self, cap: Cap, op: CapOp) -> None:
        self.push(cap.session, cap_message(cap, op, self.realm_of(cap.inode)))

    def wake(self, inode: Inode) -> None:
        """Let requests that wait for a file lock here try again, when this is done with."""
        if inode.waiting:
            self._woken.append(inode)

    def too_late(self, session: Session) -> None:
        if self.now - session.renewed >= self.maps.session_timeout:
            self.later(lambda: self.sessions.evict(session))

    def fit_ranges(self, inode: Inode) -> None:
        self.ranges.check(inode)

    def unused(self, inode: Inode) -> None:
        self.tree.forget(inode)

    def close(self) -> None:
        """It is over: let go of the tree, whose parts hold each other."""
        self.state = "stopped"
        for inode in self.tree.inodes.values():
            inode.forget()
        self.tree.inodes.clear()

    # Requests

    def _requested(self, session: Session, tid: int, message: ClientRequest) -> None:
        for done in [done for done in session.completed if done < message.oldest_client_tid]:
            del session.completed[done]
        if tid in session.completed:
            self._replies.again(session, tid, message, session.completed[tid])
            return
        request = Request(session, tid=tid, message=message, began=self.now)
        request.again = lambda: self.run(request)
        session.requests[request] = None
        for release in message.releases:
            self._taker.released_with_request(request, release)
        self.run(request)

    def run(self, request: Request) -> None:
        """Carry out a request, or as much as can be done of it now."""
        if request.state != "waiting":
            return
        try:
            outcome = self._operations.run(request)
        except Waits:
            return
        except Refused as refused:
            self.refuse(request, refused.errno)
            return
        if not outcome.changed:
            self.caps.release(request, "wx")
            self._replies.tell(request, outcome)
            self.finish(request)
            return
        request.state = "committing"
        if outcome.early and not request.patient:
            request.early = True
            self.caps.holding.answered(request, names=request.message.op != RequestOp.RENAME)
            self._replies.tell(request, outcome)
            self.journaled(lambda: self._commit(request, outcome))
            self.caps.release(request, "r")
        else:
            self.journaled(lambda: self._commit(request, outcome))
            self.flush_soon()

    def _commit(self, request: Request, outcome: Outcome) -> None:
        """The change is safe."""
        for step in outcome.once_safe:
            step()
        request.session.completed[request.tid] = outcome.created
        self.caps.release(request, "wx")
        self._free_names(request)
        if request.early:
            self._replies.safe(request)
        else:
            self._replies.tell(request, outcome)
        self.finish(request)
        for step in outcome.in_the_end:
            step()

    def finish(self, request: Request) -> None:
        """It is answered; give back all it holds (ceph: ``MDCache::request_cleanup``)."""
        request.state = "over"
        request.session.requests.pop(request, None)
        self.caps.release(request)
        self._free_names(request)
        for ino, seq in request.releases.items():
            # What a client gave back for a request it may want again.
            inode = self.tree.inodes.get(ino)
            cap = None if inode is None else inode.caps.get(request.session)
            if cap is not None and cap.seq == seq:
                self.caps.reissue(cap)

    def _free_names(self, mutation: Mutation) -> None:
        for again in free_names(mutation):
            again()

    def refuse(self, request: Request, number: int) -> None:
        """Let a request fail with this errno."""
        self.caps.release(request, "wx")
        self._replies.refuse(request, number)
        self.finish(request)

    def kill(self, request: Request) -> None:
        """Its client is gone: forget it, unless its change is made."""
        if request.state == "waiting":
            if request.waits_for is not None:
                stopped = request.waits_for
                stopped.waiting = tuple(each for each in stopped.waiting if each is not request)
            self.finish(request)

    def relink(self, inode: Inode) -> None:
        """An inode has lost its primary name: move it to where its next name is, by a request of the MDS's own (ceph:
        src/mds/StrayManager.cc, ``reintegrate_stray``)."""
        if not inode.links:
            return
        dentry, mutation = inode.links[0], Mutation(None)

        def attempt() -> None:
            try:
                self.caps.holding.acquire(mutation, of(dentry.dir, "F", "w"))
                take_name(mutation, dentry.dir, dentry.name, self.flush_soon)
                self.leases.recall(mutation, dentry.dir, dentry.name)
                self.caps.holding.acquire(mutation, of(inode, "L", "x"))
            except Waits:
                return
            self.journaled(done)
            self.flush_soon()

        def done() -> None:
            self.caps.release(mutation)
            self._free_names(mutation)

        mutation.again = attempt
        attempt()

    def requests(self) -> list[Request]:
        """Those that wait for something."""
        return [request for session in self.sessions for request in session.requests if request.state == "waiting"]
