"""One TCP connection: carries bytes between a socket and a pure connection, and decides nothing."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol, cast

from cephcaps.errors import ConnectionFailed
from cephcaps.messenger.connection import Connection
from cephcaps.shell.turns import Turns

__all__ = ["SocketOwner", "SocketProtocol"]

MAX_UNREAD = 16 * 1024 * 1024
"""Bytes that a peer may leave unread before we read no more of what it says, as most of that wants an answer. It is
silent to us then, and left like one that is."""


class SocketOwner(Protocol):
    """The supervisor, as a socket sees it."""

    def socket_made(self, connection: Connection, socket: SocketProtocol) -> None: ...

    def bytes_received(self, connection: Connection, data: bytes) -> None: ...

    def socket_lost(self, connection: Connection, error: Exception) -> None: ...


class SocketProtocol(asyncio.Protocol):
    """Reading never waits for anybody; writing is one joined write for whatever one callback produced."""

    def __init__(self, owner: SocketOwner, connection: Connection) -> None:
        self._owner = owner
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._turns = Turns.of(asyncio.get_running_loop())
        self._closed = False
        self._queued = False  # not all that was read is taken in
        self._stuck = False  # the peer does not read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._transport.set_write_buffer_limits(MAX_UNREAD)
        self._owner.socket_made(self._connection, self)
        self.flush()

    def data_received(self, data: bytes) -> None:
        if not self._turns.take(self._take_in, data, self._read_on) and not self._closed:
            assert self._transport is not None
            self._queued = True
            self._transport.pause_reading()

    def _take_in(self, data: bytes) -> None:
        if not self._closed:
            self._owner.bytes_received(self._connection, data)

    def _read_on(self) -> None:
        self._queued = False
        self._maybe_read()

    def _maybe_read(self) -> None:
        if self._transport is not None and not (self._closed or self._queued or self._stuck):
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._stuck = True
        if self._transport is not None and not self._closed:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stuck = False
        self._maybe_read()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._closed = True
            reason = "the peer closed it"
            if exc is not None:
                reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
            awaited = self._connection.phase.value
            self._owner.socket_lost(self._connection, ConnectionFailed(f"{reason} (while awaiting {awaited})"))

    @property
    def local(self) -> tuple[str, int] | None:
        """Our end's address and port; None if the system does not tell."""
        found = None if self._transport is None else self._transport.get_extra_info("sockname")
        return None if found is None else (found[0], found[1])

    def flush(self) -> None:
        """Write what the connection has to say."""
        out = self._connection.out
        if out and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def close(self) -> None:
        """Write what is left, then close; to a peer that does not read it is no use."""
        self.flush()
        self._closed = True
        if self._transport is not None and self._stuck:
            self._transport.abort()
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the socket and write nothing more."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
