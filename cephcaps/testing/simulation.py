"""Runs clients and a `TestCluster` on a clock and a network of their own: the same seed, the same bytes.

Nothing is waited for: when nobody has anything to do, the clock jumps to the next alarm. Bytes go from one end of a
connection to the other in this process, so no other process can take part. What a client asks the system for (random
bytes, the time of day, who it is) comes from the seed and from that clock; what it does with threads is not covered.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import selectors
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

__all__ = ["simulate"]

T = TypeVar("T")
EPOCH = 1_600_000_000
"""When it begins, in seconds since 1970."""
BOOTED = 1000.0
"""What the clock shows then: not 0, which stands for never in many a state machine."""
FIRST_PORT = 20_000
PID = 1
STUCK = 10.0
"""Seconds of real time after which a simulation in which nobody has anything to do counts as stuck."""


def simulate(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int = 0) -> T:
    """What ``main()`` returns, run on a simulated clock and network.

    Args:
        main: enters a `TestCluster` and clients of it.
        seed: where randomness comes from; with the same seed, every message is the same and comes at the same time.
    Raises:
        TimeoutError: nobody has anything to do, and nothing will come.
    """
    loop = _Loop()
    draw = _draws(seed)
    with (
        mock.patch.object(os, "urandom", side_effect=draw),
        mock.patch.object(os, "getpid", return_value=PID),
        mock.patch.object(socket, "gethostname", return_value="simulated"),
        mock.patch.object(time, "time_ns", side_effect=loop.time_ns),
        mock.patch("cephcaps.trace.record.time_ns", side_effect=loop.time_ns),
        asyncio.Runner(loop_factory=lambda: loop) as runner,
    ):
        return runner.run(main())


def _draws(seed: int) -> Callable[[int], bytes]:
    numbers = itertools.count()
    return lambda size: hashlib.shake_256(f"{seed} {next(numbers)}".encode()).digest(size)


class _Selector(selectors.DefaultSelector):
    """Never sleeps while an alarm is set: the clock moves instead."""

    now = BOOTED

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0 if timeout is not None else STUCK)
        if timeout is None and not found:
            raise TimeoutError("the simulation is stuck: nobody has anything to do, and no alarm is set")
        if not found and timeout:
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock and network are its own."""

    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)
        self._clock_resolution = 1e-9
        self._listening: dict[int, _Server] = {}
        self._ports = itertools.count(FIRST_PORT)

    def time(self) -> float:
        return self._own.now

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        return EPOCH * 10**9 + round((self._own.now - BOOTED) * 10**9)

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        """Of numbers only; asking the system takes a thread."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    async def create_server(  # type: ignore[override]  # no more than what this package asks for
        self, factory: Any, host: str, port: int, **how: Any
    ) -> Any:
        server = _Server(self, factory, (host, port or next(self._ports)))
        self._listening[server.address[1]] = server
        server.serving = how.get("start_serving", True)
        return server

    async def create_connection(self, factory: Any, host: str, port: int) -> Any:  # type: ignore[override]  # likewise
        server = self._listening.get(port)
        if server is None or not server.serving:
            raise ConnectionRefusedError(111, "Connection refused")
        here, there = (host, next(self._ports)), server.address
        mine, theirs = _Transport(self, here, there), _Transport(self, there, here)
        mine.far, theirs.far = theirs, mine
        mine.protocol, theirs.protocol = factory(), server.factory()
        theirs.protocol.connection_made(theirs)
        mine.protocol.connection_made(mine)
        return mine, mine.protocol


class _Server:
    """What listens."""

    def __init__(self, loop: _Loop, factory: Callable[[], Any], address: tuple[str, int]) -> None:
        self._loop = loop
        self.factory = factory
        self.address = address
        self.serving = True

    @property
    def sockets(self) -> list[_Server]:
        return [self]

    def getsockname(self) -> tuple[str, int]:
        return self.address

    async def start_serving(self) -> None:
        self.serving = True

    def close(self) -> None:
        self._loop._listening.pop(self.address[1], None)

    async def wait_closed(self) -> None:
        """Connections are their owners' to close."""


class _Transport(asyncio.Transport):
    """One end of a connection. What is written here is read there in the next turn of the loop."""

    far: _Transport
    protocol: Any

    def __init__(self, loop: _Loop, here: tuple[str, int], there: tuple[str, int]) -> None:
        super().__init__({"sockname": here, "peername": there})
        self._loop = loop
        self._closed = False

    def write(self, data: Any) -> None:
        if not self._closed and not self.far._closed:
            self._loop.call_soon(self.far._read, bytes(data))

    def _read(self, data: bytes) -> None:
        if not self._closed:
            self.protocol.data_received(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits to be written here."""

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """What was written still comes; then the other end learns that there is no more."""
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)
            self._loop.call_soon(self.far._ended)

    def _ended(self) -> None:
        if not self._closed:
            self._closed = True
            self.protocol.connection_lost(None)

    def abort(self) -> None:
        self.close()
