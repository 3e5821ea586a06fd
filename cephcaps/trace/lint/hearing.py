"""Messages of a trace -> what the rules are told of them, and what is known afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.lint.rules import Ended, Rules
from cephcaps.trace.lint.state import Cap, CapState, Claim, ClientKey, Session, State, Told
from cephcaps.trace.words import Words
from cephwire.caprelease import CLIENT_CAPRELEASE, ClientCapRelease
from cephwire.caps import CLIENT_CAPS, CapBody, CapOp, CapPeer, ClientCaps
from cephwire.entity import addresses
from cephwire.inode import NOSNAP, InodeStat
from cephwire.lease import CLIENT_LEASE, ClientLease
from cephwire.map_messages import MMdsMap, MOsdMap
from cephwire.quota import CLIENT_QUOTA, ClientQuota
from cephwire.reconnect import CLIENT_RECONNECT, ClientReconnect
from cephwire.reply import CLIENT_REPLY, CLIENT_REQUEST_FORWARD, ClientReply, ClientRequestForward, ReaddirReply
from cephwire.request import CLIENT_REQUEST, ClientRequest
from cephwire.session import CLIENT_SESSION, ClientSession, SessionOp
from cephwire.snap import CLIENT_SNAP, ClientSnap

__all__ = ["Hearing"]

CLAIMS: Final = frozenset((CapOp.UPDATE, CapOp.DROP, CapOp.FLUSH, CapOp.RELEASE, CapOp.RENEW))
"""From a client: ops that say what it holds."""
TELLS: Final = frozenset((CapOp.GRANT, CapOp.REVOKE, CapOp.IMPORT))
"""From an MDS: ops that say what is issued."""
ACKS: Final = frozenset((CapOp.FLUSH_ACK, CapOp.FLUSHSNAP_ACK))
PUSHES: Final = (ClientCaps, ClientLease, ClientSnap, ClientQuota)
MDS_TYPES: Final = frozenset(
    kind.number
    for kind in (
        CLIENT_CAPS, CLIENT_CAPRELEASE, CLIENT_LEASE, CLIENT_QUOTA, CLIENT_RECONNECT, CLIENT_REPLY, CLIENT_REQUEST,
        CLIENT_REQUEST_FORWARD, CLIENT_SESSION, CLIENT_SNAP,
    )
)  # fmt: skip
"""What a client and an MDS say to each other."""
OP: Final = Words(CapOp)
MOST_FLOWS: Final = 100_000


class Hearing:
    """Listens to a trace for some groups of rules.

    Attributes:
        messages: between clients and MDS daemons, so far.
    """

    def __init__(self, state: State, groups: Sequence[Rules]) -> None:
        self.messages: int = 0
        self._state = state
        self._groups = groups
        self._keys: dict[int, ClientKey] = {}  # by flow, the client it was taken for

    def take(self, item: Item) -> None:
        """Listen to one item."""
        if isinstance(item, Problem):
            self._missed(item.flow)
            return
        message = item.message
        if isinstance(message, MMdsMap):
            self._mds_map(item, message)
        elif isinstance(message, MOsdMap):
            self._osd_map(item, message)
        if item.header.type not in MDS_TYPES or item.resent:
            return
        state = self._state
        late = item.ns < state.ns
        state.ns = max(state.ns, item.ns)
        if message is None:
            self._missed(item.flow)
            return
        self.messages += 1
        session = self._session_of(item.flow)
        if late:  # of a connection whose key came late: what others said meanwhile was heard before
            session.client.whole = False
        if item.to_daemon:
            self._sent(session, item, message)
        else:
            self._heard(session, item, message)

    def finish(self) -> None:
        """There is no more."""
        for group in self._groups:
            group.finish()

    # Whose it is

    def _session_of(self, flow: Flow) -> Session:
        key: ClientKey = flow.client if flow.client_id is None else flow.client_id
        state = self._state
        before = self._keys.get(flow.number)
        if before != key:
            if before is not None:  # only now it is known who that is
                self._end(state.session(state.client(before), flow.daemon), "forgotten")
            elif len(self._keys) >= MOST_FLOWS:
                self._keys.clear()
            self._keys[flow.number] = key
        session = state.session(state.client(key), flow.daemon)
        if flow.daemon_num is not None and flow.daemon_num >= 0 and session.rank != flow.daemon_num:
            session.rank = flow.daemon_num
            if session.open:  # it was not known yet when the client reconnected
                self._replaces(session)
        return session

    def _missed(self, flow: Flow | None) -> None:
        """Something of a connection is missing: what is known of its session no longer holds."""
        if flow is None:
            return
        key = self._keys.get(flow.number)
        if key is not None:
            client = self._state.client(key)
            client.whole = False
            self._end(self._state.session(client, flow.daemon), "forgotten")

    def _end(self, session: Session, how: Ended, successor: Session | None = None) -> Session:
        """The session ends here; gives the one in its place."""
        for group in self._groups:
            group.ended(session, how, successor)
        if successor is not None:
            session.client.sessions.pop(session.daemon, None)
            return successor
        begun = self._state.begin(session.client, session.daemon)
        begun.open = how == "forgotten" and session.open
        begun.heard = how == "forgotten"
        return begun

    def _mds_map(self, item: Traced, message: MMdsMap) -> None:
        """Which ranks are whose; sessions with daemons that have failed are over."""
        if item.to_daemon or item.flow.client_id is None:
            return
        state = self._state
        client = state.client(item.flow.client_id)
        client.session_timeout = message.mdsmap.session_timeout or client.session_timeout
        infos = message.mdsmap.mds_info.values()
        up = {_address(addr.host, addr.port) for info in infos for addr in addresses(info.addrs)}
        for session in list(client.sessions.values()):
            if session.daemon not in up and session.heard:
                self._end(session, "failed")

    def _osd_map(self, item: Traced, message: MOsdMap) -> None:
        """Who is blocklisted: an MDS that evicts a client has its address added."""
        if item.to_daemon or item.flow.client_id is None:
            return
        host = item.flow.client.rpartition(":")[0].strip("[]")
        listed = (addr for change in message.incremental_maps.values() for addr in change.osd.new_blocklist)
        # That of a client has no port. Its nonce, which no message shows, tells it from others on its host.
        if any(addr.host == host and not addr.port for one in listed for addr in addresses(one)):
            self._state.client(item.flow.client_id).blocklisted = item.ns

    # From a client

    def _sent(self, session: Session, item: Traced, message: Any) -> None:
        match message:
            case ClientSession(op=SessionOp.REQUEST_OPEN) if session.heard and (session.open or session.closing):
                session = self._end(session, "reopened")
            case ClientReconnect() if not session.parts:
                session = self._reconnecting(session)
        if isinstance(message, ClientSession) and message.op == SessionOp.REQUEST_OPEN:
            fresh = not session.heard
            session.whole = session.whole or fresh
            session.client.whole = session.client.whole or (fresh and len(session.client.sessions) == 1)
        session.heard = True
        groups = self._groups
        for group in groups:
            group.sent(session, item)
        match message:
            case ClientCaps():
                self._caps_sent(session, item, message)
            case ClientCapRelease():
                for one in message.caps:
                    claim = Claim(item.ns, "caprelease", one.ino, one.cap_id, None, one.issue_seq, one.mseq, 0, 0)
                    self._released(session, claim)
            case ClientRequest():
                for group in groups:
                    group.requested(session, item, message)
                for release in message.releases:
                    if release.dname:
                        for group in groups:
                            group.lease_released(session, release)
                    if release.cap_id:
                        self._claimed(session, Claim(
                            item.ns, "request release", release.ino, release.cap_id, release.seq, release.issue_seq,
                            release.mseq, release.caps, release.wanted,
                        ))  # fmt: skip
            case ClientLease():
                for group in groups:
                    group.lease_sent(session, item, message)
            case ClientSession():
                for group in groups:
                    group.session_sent(session, item, message)
                if message.op == SessionOp.REQUEST_CLOSE and not session.closing:
                    session.closing = item.ns
            case ClientReconnect():
                self._reconnected(session, item, message)

    def _caps_sent(self, session: Session, item: Traced, m: ClientCaps) -> None:
        cap = self._cap(session, m.ino, m.cap_id)
        for group in self._groups:
            group.flushed(session, cap, item, m)
        if m.op in CLAIMS:
            body = m.body if isinstance(m.body, CapBody) else None
            self._claimed(session, Claim(
                item.ns, str(OP[m.op]), m.ino, m.cap_id, m.seq, m.issue_seq, m.mseq, m.caps, m.wanted, m.dirty,
                item.header.tid, m.flags, body,
            ))  # fmt: skip

    def _claimed(self, session: Session, claim: Claim) -> None:
        cap = self._cap(session, claim.ino, claim.cap_id)
        for group in self._groups:
            group.claimed(session, cap, claim)
        if cap is None and self._state.cap(session, claim.ino) is None:
            cap = self._state.make(session, claim.ino, claim.cap_id, whole=False)
        if cap is not None:
            cap.say(claim)

    def _released(self, session: Session, claim: Claim) -> None:
        cap = self._cap(session, claim.ino, claim.cap_id)
        for group in self._groups:
            group.released(session, cap, claim)
        if cap is not None and cap.state != CapState.EXPORTED and not cap.outdates(claim):
            cap.say(claim)

    def _reconnecting(self, session: Session) -> Session:
        """The RECONNECT begins: whatever there was with this rank is over."""
        if session.open:  # with the daemon that had it, which knows nothing of it any more
            before, session = session, self._state.begin(session.client, session.daemon)
            for group in self._groups:
                group.ended(before, "replaced", session)
        session.open = session.whole = True
        self._replaces(session)
        return session

    def _replaces(self, session: Session) -> None:
        """Sessions with daemons that had the rank before are over."""
        for other in list(session.client.sessions.values()):
            if other.number < session.number and other.rank == session.rank is not None:
                self._end(other, "replaced", session)

    def _reconnected(self, session: Session, item: Traced, m: ClientReconnect) -> None:
        session.parts = bool(m.more)
        for group in self._groups:
            group.reconnected(session, item, m)
        for one in m.caps:
            cap = self._state.make(session, one.ino, one.cap.cap_id, whole=True)
            told = Told(item.ns, "reconnect", one.ino, one.cap.cap_id, 0, 0, one.cap.issued, True)
            cap.hear(told)
            cap.told = None
            cap.base = one.cap.issued
            cap.said = Claim(item.ns, "reconnect", one.ino, cap.cap_id, 0, 0, 0, one.cap.issued, one.cap.wanted)

    # From an MDS

    def _heard(self, session: Session, item: Traced, message: Any) -> None:
        session.heard, session.ns = True, item.ns
        groups = self._groups
        for group in groups:
            group.heard(session, item)
        if isinstance(message, PUSHES):
            for group in groups:
                group.pushed(session, item)
        match message:
            case ClientCaps():
                self._caps_heard(session, item, message)
            case ClientReply():
                self._reply(session, item, message)
            case ClientLease():
                for group in groups:
                    group.lease_heard(session, item, message)
            case ClientSession():
                for group in groups:
                    group.session_heard(session, item, message)
                if message.op == SessionOp.OPEN:
                    session.open = True
                elif message.op in (SessionOp.CLOSE, SessionOp.REJECT):
                    self._end(session, "closed")
            case ClientRequestForward() | _:
                pass

    def _caps_heard(self, session: Session, item: Traced, m: ClientCaps) -> None:
        if m.op in ACKS:
            for group in self._groups:
                group.acked(session, item, m)
            return
        if m.op == CapOp.EXPORT:
            self._exported(session, item, m)
            return
        for group in self._groups:
            group.body_told(session, m)
        if m.op == CapOp.IMPORT:
            for group in self._groups:
                group.imported(session, m)
            self._left_behind(session, m)
        if m.op in TELLS:
            imports = m.op == CapOp.IMPORT
            self._told(session, Told(item.ns, str(OP[m.op]), m.ino, m.cap_id, m.seq, m.mseq, m.caps, imports))

    def _exported(self, session: Session, item: Traced, m: ClientCaps) -> None:
        cap = self._cap(session, m.ino, m.cap_id)
        for group in self._groups:
            group.exported(session, cap, m, item.ns)
        if cap is not None:
            cap.state, cap.since = CapState.EXPORTED, item.ns
            cap.told = Told(item.ns, "export", m.ino, m.cap_id, m.seq, m.mseq, 0)
        peer = m.body
        if not isinstance(peer, CapPeer) or not peer.cap_id:
            return
        target = self._state.at_rank(session.client, peer.mds)
        if target is None or target is session:
            return
        # Until it reads the IMPORT the client goes by what the EXPORT says, one seq behind (ceph: src/client/Client.cc,
        # handle_cap_export; kernel: fs/ceph/caps.c, handle_cap_export).
        known = self._cap(target, m.ino, peer.cap_id)
        if known is None:
            self._state.make(target, m.ino, peer.cap_id, whole=False)
        else:
            known.stands_in((peer.issue_seq - 1) & 0xFFFFFFFF, None if cap is None else cap.most())

    def _left_behind(self, session: Session, m: ClientCaps) -> None:
        """An IMPORT that comes before its EXPORT ends the cap that the exporter had issued."""
        peer = m.peer
        source = None if peer is None or not peer.cap_id else self._state.at_rank(session.client, peer.mds)
        if source is None or source is session or peer is None:
            return
        cap = self._cap(source, m.ino, peer.cap_id)
        if cap is not None and cap.state == CapState.HELD:
            cap.state, cap.since = CapState.EXPORTED, self._state.ns

    def _reply(self, session: Session, item: Traced, m: ClientReply) -> None:
        trace = m.trace
        for inode in (trace.dir, trace.target):
            if inode is not None:
                self._inode(session, item, inode)
        if isinstance(m.extra, ReaddirReply):
            for entry in m.extra.entries:
                self._inode(session, item, entry.inode)

    def _inode(self, session: Session, item: Traced, inode: InodeStat) -> None:
        if inode.snapid != NOSNAP:
            return
        for group in self._groups:
            group.shown(session, inode)
        cap = inode.cap
        if cap.cap_id:
            self._told(session, Told(item.ns, "reply", inode.ino, cap.cap_id, cap.seq, cap.mseq, cap.caps, True))

    def _told(self, session: Session, told: Told) -> None:
        cap = self._cap(session, told.ino, told.cap_id)
        for group in self._groups:
            group.told(session, cap, told)
        if cap is None:
            cap = self._state.make(session, told.ino, told.cap_id, whole=session.whole and told.op == "reply")
        elif cap.state != CapState.HELD and told.issues:
            # The MDS had not yet read that it was given back: it is the client's again, beginning with this.
            cap.state, cap.base = CapState.HELD, cap.base and 0
            cap.unread.clear()
        cap.hear(told)

    def _cap(self, session: Session, ino: int, cap_id: int) -> Cap | None:
        cap = self._state.cap(session, ino)
        return cap if cap is not None and cap.cap_id == cap_id else None


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
