"""Sessions: opened, renewed, gone stale, evicted and closed.

Facts: ceph: src/mds/Server.cc (``handle_client_session``, ``find_idle_sessions``, ``kill_session``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cephcaps.testing.daemon import Remote
from cephcaps.testing.mds.session import Session
from cephwire.capbits import Cap as Bit
from cephwire.session import ClientFeature, ClientSession, SessionFlag, SessionOp

if TYPE_CHECKING:
    from cephcaps.testing.mds.server import Mds

__all__ = ["FEATURES", "Sessions"]

SHORT_FORM = 1
NEVER = float("inf")
FEATURES = ClientFeature.mask(
    ClientFeature.JEWEL,
    ClientFeature.KRAKEN,
    ClientFeature.LUMINOUS,
    ClientFeature.MIMIC,
    ClientFeature.REPLY_ENCODING,
    ClientFeature.LAZY_CAP_WANTED,
    ClientFeature.MULTI_RECONNECT,
    ClientFeature.DELEG_INO,
    ClientFeature.ALTERNATE_NAME,
    ClientFeature.OP_GETVXATTR,
    ClientFeature.RETRY_FWD_32BITS,
    ClientFeature.NEW_SNAPREALM_INFO,
    ClientFeature.HAS_OWNER_UIDGID,
)
"""What this MDS knows. Without METRIC_COLLECT clients keep their metrics to themselves."""


class Sessions:
    """All sessions; those not heard of for longest come first."""

    def __init__(self, mds: Mds) -> None:
        self._mds = mds
        self._by_remote: dict[Remote, Session] = {}

    def of(self, remote: Remote) -> Session | None:
        return self._by_remote.get(remote)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_remote.values()))

    def find(self, client: int) -> Session | None:
        """The session of the client with this global id."""
        return next((session for session in self._by_remote.values() if session.client == client), None)

    def __len__(self) -> int:
        return len(self._by_remote)

    def received(self, remote: Remote, session: Session | None, message: ClientSession) -> None:
        if message.op == SessionOp.REQUEST_OPEN:
            self._open(remote, session, message)
            return
        if session is None:
            if message.op == SessionOp.REQUEST_CLOSE:
                self._say(remote, SessionOp.CLOSE)
            return
        match message.op:
            case SessionOp.REQUEST_RENEWCAPS:
                self._renew(session, message.seq)
            case SessionOp.REQUEST_CLOSE:
                if message.seq == session.pushed:
                    self.end(session, tell=True)
            case SessionOp.REQUEST_FLUSH_MDLOG:
                self._mds.flush_journal()
            case _:
                pass

    def _open(self, remote: Remote, session: Session | None, message: ClientSession) -> None:
        missing = self._mds.maps.required_client_features & ~message.features
        root = message.metadata.get("root", "")
        if missing:
            self._reject(remote, f"missing required features '0x{missing:x}'")
        elif root and not root.startswith("/"):
            self._reject(remote, f"non-allowable root '{root}'")
        elif session is None:
            session = self._by_remote[remote] = Session(remote, remote.global_id)
            session.features, session.metadata = message.features & FEATURES, message.metadata
            session.renewed = self._mds.now
            self._mds.send(remote, ClientSession(SessionOp.OPEN, 0, features=FEATURES))

    def resume(self, remote: Remote, former: Session) -> Session:
        """The session of a client that has come back to a rank taken over."""
        session = self._by_remote[remote] = Session(remote, former.client)
        session.features, session.metadata = former.features, former.metadata
        session.completed, session.completed_flushes = former.completed, former.completed_flushes
        session.inos = former.inos
        session.renewed = self._mds.now
        self._mds.send(remote, ClientSession(SessionOp.OPEN, 0, features=FEATURES))
        return session

    def refuse(self, remote: Remote) -> None:
        """Tell somebody who claims a session that there is none."""
        self._say(remote, SessionOp.CLOSE)

    def _reject(self, remote: Remote, why: str, flags: int = 0) -> None:
        self._mds.send(remote, ClientSession(SessionOp.REJECT, 0, metadata={"error_string": why}, flags=flags))

    def reject_blocklisted(self, remote: Remote) -> None:
        self._reject(remote, "blocklisted (blacklisted)", SessionFlag.BLOCKLISTED)

    def _renew(self, session: Session, seq: int) -> None:
        session.renewed = self._mds.now
        self._by_remote[session.remote] = self._by_remote.pop(session.remote)
        was_stale, session.state = session.state == "stale", "open"
        self._say(session.remote, SessionOp.RENEWCAPS, seq)
        if was_stale:
            for cap in list(session.caps.values()):
                if not self._mds.caps.locker.evaluate(cap.inode):
                    self._mds.caps.reissue(cap)

    def _say(self, remote: Remote, op: SessionOp, seq: int = 0, max_caps: int = 0) -> None:
        self._mds.send(remote, ClientSession(op, seq, max_caps=max_caps), version=SHORT_FORM)

    def end(self, session: Session, *, tell: bool = False) -> None:
        """All the client holds is free again; with ``tell`` it hears so."""
        session.state = "closed"
        self._by_remote.pop(session.remote, None)
        for dentry in list(session.leases.values()):
            self._mds.leases.drop(session, dentry)
        for cap in list(session.caps.values()):
            self._mds.file_locks.forget(session, cap.inode)
            self._mds.caps.drop(cap)
        for request in list(session.requests):
            self._mds.kill(request)
        if tell:
            self._say(session.remote, SessionOp.CLOSE)

    def evict(self, session: Session) -> None:
        """End it, and let the client never come back under its address."""
        if session.state == "closed":
            return
        remote = session.remote
        self.end(session)
        self._mds.forget(remote)
        self._mds.on_evict(remote.addr)

    def recall(self, session: Session, max_caps: int) -> None:
        """Ask a client to keep no more caps than this."""
        self._say(session.remote, SessionOp.RECALL_STATE, max_caps=max_caps)

    def make_stale(self, session: Session) -> None:
        """Its caps do not count until it renews: what others wait for is taken from it."""
        session.state = "stale"
        self._say(session.remote, SessionOp.STALE, session.pushed)
        for cap in session.caps.values():
            cap.valid = False
        for cap in [cap for cap in session.caps.values() if cap.revoking]:
            self._mds.caps.revoke_stale(cap)
            self._mds.caps.locker.gather_all(cap.inode)
            self._mds.caps.locker.evaluate(cap.inode)

    # Time

    def tick(self, now: float) -> None:
        maps = self._mds.maps
        for session in list(itertools.takewhile(self._silent(now), self._by_remote.values())):
            asked = [cap for cap in self._mds.caps.revoking if cap.session is session]
            if now - session.renewed >= maps.session_autoclose or any(cap.issued & Bit.ANY_WR for cap in asked):
                self.evict(session)
            elif asked and session.state == "open":
                self.make_stale(session)

    def _silent(self, now: float) -> Callable[[Session], bool]:
        """Whether nothing was heard of a session for too long; those not heard of for longest come first."""
        return lambda session: now - session.renewed >= self._mds.maps.session_timeout

    def next_deadline(self) -> float:
        """When `tick` has something to do, or somewhat earlier."""
        maps = self._mds.maps
        deadline = NEVER
        for session in self._by_remote.values():
            heard = session.renewed
            timeout = heard + maps.session_timeout
            if timeout > self._mds.now:
                return min(deadline, timeout if self._mds.caps.revoking else heard + maps.session_autoclose)
            deadline = self._mds.now if self._is_late(session) else min(deadline, heard + maps.session_autoclose)
        return deadline

    def _is_late(self, session: Session) -> bool:
        """Whether others wait for one of whom nothing was heard for too long."""
        return any(
            cap.session is session and (session.state == "open" or cap.issued & Bit.ANY_WR)
            for cap in self._mds.caps.revoking
        )
