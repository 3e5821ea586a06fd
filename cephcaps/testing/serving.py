"""The shell of a test cluster: sockets and timers for daemons that are otherwise pure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cephcaps.messenger.server import ServerConnection
from cephcaps.shell.log import Log
from cephcaps.testing.daemon import Daemon
from cephwire.entity import AddrType, EntityAddr
from cephwire.errors import CephError

__all__ = ["Served"]


class Served:
    """One daemon and its listening sockets, one for each messenger."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.sockets: dict[ServerConnection, _Socket] = {}
        self.frozen: bool = False
        self._held: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._servers: list[asyncio.Server] = []
        self._closed = False

    async def listen(self, host: str, messenger: AddrType, nonce: int) -> EntityAddr:
        """Bind, and return the address; nobody is let in before `open`."""
        made: list[EntityAddr] = []
        server = await self._loop.create_server(lambda: _Socket(self, made[0]), host, 0, start_serving=False)
        port: int = server.sockets[0].getsockname()[1]
        made.append(EntityAddr.make(messenger, host, port, nonce))
        self._servers.append(server)
        return made[0]

    async def open(self) -> None:
        """Let clients in."""
        for server in self._servers:
            await server.start_serving()

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for server in self._servers:
            server.close()
        for socket in list(self.sockets.values()):
            socket.abort()
        for server in self._servers:
            await server.wait_closed()

    def enter(self, step: Callable[[float], None]) -> None:
        """Let the daemon do something; while it is frozen, later."""
        if self.frozen:
            self._held.append(lambda: self.enter(step))
            return
        step(self._loop.time())
        self.pump()

    def thaw(self) -> None:
        """Do what came while it was frozen."""
        self.frozen = False
        held, self._held = self._held, []
        for step in held:
            step()

    def pump(self) -> None:
        """Write what the daemon has to say, close what it has given up, and set the alarm."""
        daemon = self.daemon
        for socket in list(self.sockets.values()):
            socket.flush()
        while daemon.doomed:
            doomed = self.sockets.get(daemon.doomed.pop())
            if doomed is not None:
                doomed.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = daemon.next_deadline()
        if due != float("inf") and not self._closed:  # its sockets end after it, and the dead do nothing on time
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.enter(self.daemon.tick)


class _Socket(asyncio.Protocol):
    """One connection's bytes."""

    def __init__(self, served: Served, addr: EntityAddr) -> None:
        self._served = served
        self._addr = addr
        self._transport: asyncio.Transport | None = None
        self.connection: ServerConnection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        host, port = transport.get_extra_info("peername")[:2]
        self.connection = self._served.daemon.accept(EntityAddr.make(self._addr.type, host, port), self._addr)
        self._served.sockets[self.connection] = self
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._served.enter(lambda now: self._take(data, now))

    def _take(self, data: bytes, now: float) -> None:
        connection = self.connection
        if connection is None:
            return
        try:
            connection.receive(data, now)
        except CephError as error:
            Log().warn(
                "connection.refused", daemon=self._served.daemon.kind.name, peer=str(connection.target), why=str(error)
            )
            self.close()
            self._gone(now)

    def connection_lost(self, exc: Exception | None) -> None:
        self._served.enter(self._gone)

    def _gone(self, now: float) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self._served.sockets.pop(connection, None)
            self._served.daemon.lost(connection, now)
            Log().note("connection.closed", daemon=self._served.daemon.kind.name, peer=str(connection.target))

    def flush(self) -> None:
        connection = self.connection
        if connection is not None and connection.out and self._transport is not None:
            self._transport.write(b"".join(connection.out))
            connection.out.clear()

    def close(self) -> None:
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def now_ns() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()
