"""A client's core, the daemons it can reach and a clock, without sockets: what the shell does, in memory.

The clock stands still unless a test moves it, and every byte written is read before `World.run` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cephcaps.actions import Action, Connect, Disconnect, Done, Failed, Happened
from cephcaps.auth.cephx import Tickets
from cephcaps.core import Core, Mount, Request
from cephcaps.errors import AuthError, ConnectionFailed, MalformedMessage, ProtocolViolation
from cephcaps.mds.requests import Operation
from cephcaps.mds.routing import Credentials
from cephcaps.mds.session import Session
from cephcaps.messenger.connection import Connection
from cephcaps.messenger.link import Instance
from cephcaps.monitor.client import MonTimers
from cephcaps.testing.keys import KeyServer, MonLogin, NoLogin, ServiceLogin
from cephwire.caps import ClientCaps
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.frames import MessageHeader
from cephwire.keys import CryptoType
from cephwire.lease import ClientLease
from cephwire.mdsmap import MdsState
from cephwire.mon_messages import MAuth, MAuthReply, MonSubscribe, Subscription
from cephwire.quota import ClientQuota
from cephwire.request import ClientRequest, FilePath
from cephwire.requestargs import GetattrArgs
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import ClientSnap
from tests.session import samples
from tests.session.handshakes import ADMIN, NONCE
from tests.session.peers import Kept, Login, Peer, entropy, flushed
from tests.session.peers_v1 import PeerV1

NEVER = float("inf")
SPINS = 30
"""Ticks at one and the same moment after which the core counts as spinning."""
ROUNDS = 200
"""Exchanges without time passing after which client and daemons count as chattering."""
MODES = (ConMode.SECURE, ConMode.CRC)
PUSHED = (ClientCaps, ClientLease, ClientSnap, ClientQuota)
ALL_FEATURES = (1 << 24) - 1
LEAVES = (MalformedMessage, ProtocolViolation, ConnectionFailed, AuthError)


@dataclass(eq=False)
class Daemon:
    """A monitor or an MDS.

    Attributes:
        mood: "well"; "dead" refuses TCP, "silent" accepts and says nothing, "stranger" is no Ceph.
        peers: every connection it has had, the newest last.
        arrived: changes each new connection before its first byte.
        keeps: sessions that outlive their connections, by the client's cookie.
    """

    world: World
    addr: EntityAddr
    mood: str = "well"
    peers: list[Any] = field(default_factory=list)
    arrived: Callable[[Any], None] = lambda peer: None
    keeps: dict[int, Kept] = field(default_factory=dict)
    kind = EntityType.MON

    def make_peer(self) -> Peer:
        raise NotImplementedError

    @property
    def peer(self) -> Any:
        """Its newest connection."""
        return self.peers[-1]

    def accept(self) -> Peer | None:
        if self.mood == "dead":
            return None
        peer = self.make_peer()
        peer.keeps = self.keeps
        self.peers.append(peer)
        self.arrived(peer)
        if self.mood == "well":
            peer.start()
        else:
            peer.receive = lambda data: None  # type: ignore[method-assign]
            if self.mood == "stranger":
                peer.put(b"220 mail.example ESMTP\r\n")
        return peer


class MonPeer(Peer):
    """A monitor's connection: answers subscriptions and requests for tickets."""

    def __init__(self, monitor: Monitor, login: Login) -> None:
        super().__init__(EntityType.MON, monitor.addr, login, MODES)
        self.monitor = monitor
        self.subscriptions: dict[str, Subscription] = {}

    def handle(self, header: MessageHeader, message: Any) -> None:
        match message:
            case MonSubscribe():
                self.subscriptions |= message.what
                for what in message.what:
                    self.publish(what)
            case MAuth() if self.monitor.renews:
                payload = self.login.answer(message.auth_payload)  # type: ignore[attr-defined]
                self.send(MAuthReply(2, 0 if payload else -13, 0, payload or b"", ""))

    def publish(self, what: str) -> None:
        """Send the map named ``what`` to a subscriber that has not had it."""
        wanted, found = self.subscriptions.get(what), self.monitor.world.maps.get(what)
        if wanted is not None and found is not None and found[0] >= wanted.start:
            self.subscriptions[what] = Subscription(found[0] + 1, wanted.flags)
            self.send(found[1])


class MonPeerV1(MonPeer, PeerV1):
    """The same over messenger v1."""


@dataclass(eq=False)
class Monitor(Daemon):
    """A monitor; all of them publish `World.maps`.

    Attributes:
        renews: answers requests for tickets.
    """

    renews: bool = True

    def make_peer(self) -> Peer:
        kind = MonPeerV1 if self.addr.type == AddrType.LEGACY else MonPeer
        return kind(self, MonLogin(self.world.keys) if self.world.cephx else NoLogin(to_mon=True))


class MdsPeer(Peer):
    """An MDS's connection and its session."""

    def __init__(self, mds: Mds, login: Login) -> None:
        super().__init__(EntityType.MDS, mds.addr, login, MODES)
        self.mds = mds

    @property
    def pushed(self) -> int:
        return self.kept.pushed

    @pushed.setter
    def pushed(self, count: int) -> None:
        self.kept.pushed = count

    def handle(self, header: MessageHeader, message: Any) -> None:
        match message:
            case ClientSession(op=SessionOp.REQUEST_OPEN) if self.mds.opens:
                self.send(ClientSession(SessionOp.OPEN, 0, features=self.mds.features))
            case ClientSession(op=SessionOp.REQUEST_RENEWCAPS) if self.mds.renews:
                self.say(SessionOp.RENEWCAPS, message.seq)
            case ClientSession(op=SessionOp.REQUEST_CLOSE) if message.seq == self.pushed:
                self.say(SessionOp.CLOSE, 0)
            case ClientRequest() if (answer := self.mds.answers(message)) is not None:
                self.send(answer, tid=header.tid)

    def say(self, op: SessionOp, seq: int = 0) -> None:
        self.send(ClientSession(op, seq), version=1)

    def push(self, message: Any, tid: int = 0) -> None:
        assert isinstance(message, PUSHED)
        self.pushed += 1
        self.send(message, tid=tid)

    # What the client said

    def session_ops(self) -> list[tuple[SessionOp, int]]:
        return [(SessionOp(message.op), message.seq) for message in self.got(ClientSession)]

    def requests(self) -> list[tuple[int, ClientRequest]]:
        return [(header.tid, message) for header, message in self.messages if isinstance(message, ClientRequest)]


class MdsPeerV1(MdsPeer, PeerV1):
    """The same over messenger v1."""


def root_only(request: ClientRequest) -> Any:
    """Answers for the root's attributes and leaves everything else unanswered."""
    is_root = request.op == RequestOp.GETATTR and request.path == FilePath(1, "")
    return samples.reply(RequestOp.GETATTR, samples.inode(1)) if is_root else None


@dataclass(eq=False)
class Mds(Daemon):
    """An MDS.

    Attributes:
        opens, renews: answers requests to open, to renew.
        answers: what it replies to a request; None for nothing.
    """

    gid: int = 0
    features: int = ALL_FEATURES
    opens: bool = True
    renews: bool = True
    answers: Callable[[ClientRequest], Any] = root_only
    kind = EntityType.MDS

    def make_peer(self) -> Peer:
        kind = MdsPeerV1 if self.addr.type == AddrType.LEGACY else MdsPeer
        return kind(self, ServiceLogin(self.world.keys) if self.world.cephx else NoLogin(to_mon=False))


class StrictCore(Core):
    """Notices when a peer's bytes raise what they must not."""

    def disconnected(self, connection: Connection, error: Exception, now: float) -> None:
        assert isinstance(error, LEAVES), f"{error!r} came of received bytes"
        super().disconnected(connection, error, now)


class World:
    """One client in its cluster.

    Attributes:
        now: the clock.
        results: what became of each call, by token: a result or an exception.
        events: everything that happened, by name and facts.
        maps: what monitors publish, by name: epoch and message.
        links: the connections that stand.
    """

    def __init__(
        self,
        *,
        mons: int = 1,
        mds: int = 1,
        type: CryptoType | None = CryptoType.AES,
        mode: ConMode = ConMode.CRC,
        fs: str | None = None,
        root: str = "/",
        messenger: AddrType = AddrType.MSGR2,
    ) -> None:
        self.messenger = messenger
        self.now = 1000.0
        self.keys = KeyServer(entropy("cluster"), type or CryptoType.AES)
        self.cephx = type is not None
        self.mons = [Monitor(self, mon_addr(number, messenger)) for number in range(mons)]
        self.ranks = [Mds(self, mds_addr(100 + rank, messenger), gid=100 + rank) for rank in range(mds)]
        self.daemons: dict[EntityAddr, Daemon] = {daemon.addr: daemon for daemon in (*self.mons, *self.ranks)}
        self.maps: dict[str, tuple[int, Any]] = {
            "monmap": (3, samples.monmap(3, *(mon.addr for mon in self.mons))),
            "fsmap.user": (7, samples.fsmap(7, {"a": samples.FSCID, "b": 2})),
        }
        self.map_ranks()
        self.tickets = Tickets(ADMIN, self.keys.add(str(ADMIN)) if self.cephx else None, entropy("client"))
        self.core = StrictCore(
            Credentials(self.tickets, Instance(NONCE, messenger), 1000, 1001, (4, 5)),
            tuple(mon.addr for mon in self.mons),
            (mode,),
            (mode,),
            fs,
            root,
            {"hostname": "here", "entity_id": "admin", "root": root},
            MonTimers(),
            lambda options: (mode,),
        )
        self.results: dict[int, Any] = {}
        self.pending: set[int] = set()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.dialled: list[EntityAddr] = []
        self.links: dict[Connection, Peer] = {}
        self._tokens = 0

    # Maps

    def map_ranks(self, epoch: int = 5, state: MdsState = MdsState.ACTIVE, **changes: Any) -> None:
        """Make an MDSMap of the ranks as they are."""
        infos = [samples.mds_info(rank, mds.gid, mds.addr, state) for rank, mds in enumerate(self.ranks)]
        self.maps[f"mdsmap.{samples.FSCID}"] = epoch, samples.mdsmap(epoch, *infos, **changes)

    def replace(self, rank: int) -> Mds:
        """Put another daemon in charge of ``rank``; `publish` tells the client."""
        gid = self.ranks[rank].gid + 100
        mds = self.ranks[rank] = Mds(self, mds_addr(gid, self.messenger), gid=gid)
        self.daemons[mds.addr] = mds
        return mds

    def publish(self) -> None:
        """Let subscribers have what is new."""
        for mon in self.mons:
            for peer in mon.peers:
                if peer in self.links.values():
                    for what in peer.subscriptions:
                        peer.publish(what)
        self.run()

    # Calls

    def call(self, request: Request, timeout: float = 30.0) -> int:
        self._tokens += 1
        self.pending.add(self._tokens)
        self.core.call(self._tokens, request, self.now + timeout, self.now)
        self.run()
        return self._tokens

    def cancel(self, token: int) -> None:
        self.core.cancel(token, self.now)
        self.pending.discard(token)

    def mount(self) -> Any:
        """Get to the root; gives the answer or the error."""
        token = self.call(Mount(), 10.0)
        self.advance(10.0, until=lambda: token in self.results)
        return self.results[token]

    def getattr(self, ino: int = 2, timeout: float = 30.0) -> int:
        return self.call(Operation(RequestOp.GETATTR, FilePath(ino), f"/file{ino}", GetattrArgs(0)), timeout)

    # The shell's part

    def run(self) -> None:
        """Carry out actions and carry bytes until all is quiet."""
        for _ in range(ROUNDS):
            if not self._step():
                return
        raise AssertionError(f"client and daemons chatter without end: {self.events[-5:]}")

    def _step(self) -> bool:
        actions = self.core.out[:]
        self.core.out.clear()
        for action in actions:
            self._carry_out(action)
        moved = bool(actions)
        for connection, peer in list(self.links.items()):
            if connection not in self.links:
                continue
            if data := flushed(connection.out):
                peer.receive(data)
                moved = True
            if data := flushed(peer.out):
                self.core.received(connection, data, self.now)
                moved = True
            if peer.closed and connection in self.links:
                self.cut(connection)
                moved = True
        return moved

    def _carry_out(self, action: Action) -> None:
        match action:
            case Connect(connection):
                self.dialled.append(connection.target)
                daemon = self.daemons.get(connection.target)
                peer = daemon.accept() if daemon is not None else None
                if peer is None:
                    self.core.disconnected(connection, ConnectionFailed("connection refused"), self.now)
                else:
                    self.links[connection] = peer
            case Disconnect(connection):
                if peer := self.links.pop(connection, None):
                    peer.receive(flushed(connection.out))
            case Done(token, result) | Failed(token, result):
                assert token in self.pending, f"call {token} is answered twice, or was cancelled"
                self.pending.remove(token)
                self.results[token] = result
            case Happened(event, facts):
                self.events.append((event, facts))

    def cut(self, connection: Connection) -> None:
        """The TCP connection breaks."""
        self.links.pop(connection)
        self.core.disconnected(connection, ConnectionFailed("the peer closed it"), self.now)

    def lose(self, daemon: Daemon) -> None:
        """Every connection to ``daemon`` breaks."""
        for connection, peer in list(self.links.items()):
            if peer in daemon.peers:
                self.cut(connection)
        self.run()

    def advance(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, with a tick whenever the core asked for one; stop early once ``until`` holds."""
        end, spins = self.now + seconds, 0
        while not until():
            deadline = self.core.next_deadline()
            assert deadline < NEVER or not self.pending, f"calls {self.pending} wait for nothing"
            if deadline > end:
                self.now = end
                return
            spins = spins + 1 if deadline <= self.now else 0
            assert spins < SPINS, f"the core spins at {self.now}: its next deadline stays {deadline}"
            self.now = max(self.now, deadline)
            self.core.tick(self.now)
            self.run()

    # What there is to see

    @property
    def session(self) -> Session:
        return self.core.mds.sessions[0]

    def happened(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.events if name == event]


def mon_addr(number: int, messenger: AddrType = AddrType.MSGR2) -> EntityAddr:
    return EntityAddr.make(messenger, "192.0.2.1", 3300 + number)


def mds_addr(gid: int, messenger: AddrType = AddrType.MSGR2) -> EntityAddr:
    return EntityAddr.make(messenger, "192.0.2.2", 6800 + gid, gid)


def mounted(**settings: Any) -> World:
    """A client that has just mounted."""
    world = World(**settings)
    result = world.mount()
    assert not isinstance(result, Exception), result
    return world
