"""What the daemons of a test cluster have in common: connections come, break and are resumed; messages go in and out.

Pure: the shell carries bytes between sockets and connections, and calls `Daemon.tick` when `Daemon.next_deadline` is
reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from cephcaps.messenger.connection import Connection, Phase
from cephcaps.messenger.link import Link
from cephcaps.messenger.server import Login, ServerConnection
from cephcaps.messenger.server_v1 import ServerConnectionV1
from cephcaps.messenger.server_v2 import ServerConnectionV2
from cephwire.control import ConMode
from cephwire.entity import AddrType, AnyAddrs, EntityAddr, EntityType, addresses
from cephwire.frames import MessageHeader, Priority

__all__ = ["Daemon", "Remote"]

NEVER = float("inf")
Kept: TypeAlias = tuple[Any, int, int | None]
"""A message kept back, its tid and the version to write it in."""


@dataclass(eq=False)
class Remote:
    """A client of this daemon, at the level of the messenger.

    Attributes:
        addr: how it calls itself; with the nonce, who it is.
        cookie: the client's name for the session; 0 if it is forgotten with its connection, and over messenger v1,
            where its address is name enough.
        connection: None while it is away.
    """

    addr: EntityAddr
    cookie: int
    link: Link
    connection: ServerConnection | None
    global_id: int
    name: str


class Daemon:
    """A monitor or MDS.

    Attributes:
        addrs: where it listens, one for each messenger; set before the first connection comes.
        connections: those open.
        doomed: connections to be closed once what they have to say is written.
        remotes: clients with a session of the messenger, by address.
        gates: what is asked about every message before it goes: seconds to keep it back, None to lose it.
        observer: looks on at every message: whether it is sent, with whom, and the message.
        now: time of what is being done.
    """

    kind: EntityType
    num = 0
    lossy = False
    addrs: tuple[EntityAddr, ...]

    def __init__(self, addr: EntityAddr, con_modes: tuple[ConMode, ...]) -> None:
        self.addrs = (addr,)
        self.con_modes = con_modes
        self.connections: list[ServerConnection] = []
        self.doomed: list[ServerConnection] = []
        self.remotes: dict[EntityAddr, Remote] = {}
        self.gates: list[Callable[[Any], float | None]] = []
        self.observer: Callable[[bool, Remote, Any], None] | None = None
        self.now: float = 0.0
        self._cookies = 0
        self._kept: dict[Remote, tuple[float, list[Kept]]] = {}

    # For the shell

    def accept(self, peer: EntityAddr, addr: EntityAddr | None = None) -> ServerConnection:
        """A client has connected from ``peer`` to ``addr``, the first of ours if not said."""
        addr = addr or self.addrs[0]
        make = ServerConnectionV1 if addr.type == AddrType.LEGACY else ServerConnectionV2
        connection = make(self, self, addr, peer)
        self.connections.append(connection)
        return connection

    def lost(self, connection: ServerConnection, now: float) -> None:
        """Its socket is gone."""
        if connection in self.connections:
            self.connections.remove(connection)
        remote = self._remote_of(connection)
        connection.close()
        if remote is not None and remote.connection is connection:
            remote.connection = None
            if remote.link.lossy:
                del self.remotes[remote.addr]
                self.gone(remote, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.now = now
        for remote, (due, kept) in list(self._kept.items()):
            if due <= now:
                del self._kept[remote]
                for message, tid, version in kept:
                    self._post(remote, message, tid, version)

    def next_deadline(self) -> float:
        return min((due for due, _ in self._kept.values()), default=NEVER)

    # What a daemon is

    def login(self) -> Login:
        raise NotImplementedError

    def ready(self, remote: Remote, now: float) -> None:
        """A client has begun a session of the messenger, or resumed it."""

    def gone(self, remote: Remote, now: float) -> None:
        """A client's session of the messenger is over, and not by our doing."""

    def received(self, remote: Remote, header: MessageHeader, message: Any, now: float) -> None:
        """A message, in order."""

    # For daemons

    def send(self, remote: Remote, message: Any, *, tid: int = 0, version: int | None = None) -> None:
        """Number a message and write it, now or once the client is back."""
        if remote in self._kept:
            self._kept[remote][1].append((message, tid, version))
            return
        for gate in list(self.gates):
            wait = gate(message)
            if wait is None:
                return
            if wait:
                self._kept[remote] = self.now + wait, [(message, tid, version)]
                return
        self._post(remote, message, tid, version)

    def _post(self, remote: Remote, message: Any, tid: int, version: int | None) -> None:
        if self.observer is not None:
            self.observer(True, remote, message)
        outgoing = remote.link.number(message, tid, version, Priority.DEFAULT)
        connection = remote.connection
        if connection is not None and connection.phase is Phase.READY:
            connection.carry(outgoing)

    def forget(self, remote: Remote) -> None:
        """End the session of the messenger: who comes to resume it is told that there is none."""
        self.remotes.pop(remote.addr, None)
        if remote.connection is not None:
            self.doomed.append(remote.connection)
            remote.connection = None

    # Host

    def begun(self, connection: ServerConnection, addrs: AnyAddrs, cookie: int, now: float) -> Link:
        addr = addresses(addrs)[0]
        former = self.remotes.get(addr)
        if former is not None and cookie and former.cookie == cookie:
            self._take_over(former, connection)  # it has not heard that we know it
            return former.link
        if former is not None:
            self.forget(former)
            self.gone(former, now)
        self._cookies += 1
        link = Link(0 if self.lossy else self._cookies)
        self.remotes[addr] = Remote(addr, cookie, link, connection, connection.global_id, connection.login.name)
        return link

    def kept(self, connection: ServerConnection, addrs: AnyAddrs, cookie: int) -> Link | None:
        remote = self.remotes.get(addresses(addrs)[0])
        if remote is None or remote.cookie != cookie:
            return None
        self._take_over(remote, connection)
        return remote.link

    def _take_over(self, remote: Remote, connection: ServerConnection) -> None:
        if remote.connection is not None and remote.connection is not connection:
            remote.connection.close()
            self.doomed.append(remote.connection)
        remote.connection = connection

    # Owner

    def connection_ready(self, connection: Connection, now: float) -> None:
        remote = self._remote_of(connection)
        if remote is not None:
            self.ready(remote, now)

    def connection_reset(self, connection: Connection, now: float) -> None:
        """Only clients are told to forget."""

    def message_received(self, connection: Connection, header: MessageHeader, message: Any, now: float) -> None:
        remote = self._remote_of(connection)
        if remote is not None and remote.connection is connection:
            if self.observer is not None:
                self.observer(False, remote, message)
            self.received(remote, header, message, now)

    def _remote_of(self, connection: Connection) -> Remote | None:
        return None if connection.addr is None else self.remotes.get(connection.addr)
