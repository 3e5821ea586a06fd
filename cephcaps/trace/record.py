"""Records what a client and its daemons say, in clear, as a pcapng file that this package and Wireshark read.

Messages are written as messenger v1 streams, whatever messenger carried them. Handshakes are made up and messages of
authentication emptied: no key, ticket or authorizer gets into the file. Source: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from functools import partial
from time import time_ns
from typing import Any, Final, TypeAlias

import msgspec

from cephcaps.errors import ConfigError
from cephcaps.messenger.connection import Connection
from cephcaps.trace.pcapng import INTERFACE_DESCRIPTION, OPTION_END, OPTION_TSRESOL, SECTION_HEADER
from cephcaps.trace.synthetic import Peers, Synthetic
from cephcaps.version import VERSION
from cephwire.entity import AF_INET6, AddrType, EntityAddr, EntityNum, EntityType
from cephwire.errors import MalformedMessage
from cephwire.frames import MessageHeader
from cephwire.mon_messages import AUTH, AUTH_REPLY, MON_COMMAND, MON_COMMAND_ACK

__all__ = ["Recorder"]

BATCH = 64 * 1024
"""Bytes that are laid out and written at once: more would keep the client from its messages for over a millisecond."""
ENVELOPE = 150
"""About what the file takes for a message besides its segments."""
SECRETS: Final[dict[int, tuple[Any, dict[str, Any]]]] = {
    AUTH.number: (AUTH, {"auth_payload": b""}),
    AUTH_REPLY.number: (AUTH_REPLY, {"result_bl": b""}),
    MON_COMMAND.number: (MON_COMMAND, {"cmd": (), "inbl": b""}),
    MON_COMMAND_ACK.number: (MON_COMMAND_ACK, {"cmd": (), "rs": "", "outbl": b""}),
}
"""Messages that carry tickets, prove a key, or may ask for keys and tell them; and what is written instead."""
FIRST_PORT, PORTS = 1024, 60_000
"""Of those made up where the system does not tell ours."""

BYTE_ORDER = 0x1A2B3C4D
MAJOR, MINOR = 1, 0
UNKNOWN_LENGTH = -1
OPTION_USERAPPL = 4
"""Of the section header: what wrote it."""
OPTION_IF_NAME = 2
LINKTYPE_RAW = 101
"""Nothing but IP, 4 or 6 (https://www.tcpdump.org/linktypes.html)."""
NANOSECONDS = 9
"""if_tsresol: the power of ten."""

SECTION = struct.Struct("<IHHq")
INTERFACE = struct.Struct("<HxxI")
OPTION = struct.Struct("<HH")
BLOCK = struct.Struct("<II")
LENGTH = struct.Struct("<I")
LENGTH_AT = 4


class Recorder:
    """Writes messages to a file, in batches and in the order in which they were sent and taken in.

    A failure to write, such as a full disk, ends the recording and nothing else: the file is cut to its last whole
    packet, and `failure` says why. It writes where messages are handled, so the time a slow disk takes is theirs. Two
    recorders of one path, or one that a fork has doubled, spoil each other's file.

    Args:
        path: of the file, which only its owner may read; what it held is overwritten.

    Attributes:
        failure: why the recording ended; None while all is well.

    Raises:
        ConfigError: there can be no such file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.fspath(path)
        self.failure: str | None = None
        try:
            self._file = _open(self.path)  # -1 when it is closed
        except (OSError, ValueError) as error:
            why, number = (error.strerror, error.errno) if isinstance(error, OSError) else (error, None)
            raise ConfigError(f"record: {self.path!r} cannot be written: {why}", errno=number) from None
        self._talks: dict[Connection, _Talk] = {}
        self._heard: list[_Heard] = []
        self._size = 0
        self._blocks: list[bytes] = [_section(), _interface()]
        self._written = 0
        self._connections = 0
        self._sessions: dict[tuple[int, int], int] = {}  # connections that each has had, by both sides' cookies

    def __repr__(self) -> str:
        return f"<Recorder of {self.path}>"

    @property
    def waiting(self) -> bool:
        """Whether something was recorded that is not written yet."""
        return bool(self._heard or self._blocks)

    def attach(self, connection: Connection, local: tuple[str, int] | None) -> None:
        """Record what ``connection`` says from now on; its own end is at ``local``, host and port."""
        if self._file >= 0:
            self._talks[connection] = talk = _Talk(connection, local)
            connection.tap = partial(self._tap, talk)

    def detach(self, connection: Connection) -> None:
        """``connection`` is closed."""
        talk = self._talks.pop(connection, None)
        if talk is not None:
            connection.tap = None
            self._heard.append((talk, time_ns(), False, None, b"", b"", b""))

    def _tap(self, talk: _Talk, sent: bool, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
        if talk.session is None:  # later it may be over, and another begun by the same two
            talk.session = talk.connection.link.cookie, talk.connection.link.peer_cookie
        # Bytes are laid out later, many messages in a row: each then takes a third of the time it would take here.
        self._heard.append((talk, time_ns(), sent, header, front, middle, data))
        self._size += ENVELOPE + len(front) + len(middle) + len(data)
        if self._size >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._file < 0:
            return
        self._lay_out()
        batch = b"".join(self._blocks)
        self._blocks.clear()
        done = 0
        try:
            while done < len(batch):
                done += os.write(self._file, batch[done:] if done else batch)
        except OSError as error:
            self._fail(error, batch, done)
        self._written += done

    def close(self) -> None:
        """Write what is waiting, the end of every connection with it."""
        for connection in list(self._talks):
            self.detach(connection)
        self.flush()
        file, self._file = self._file, -1
        if file >= 0:
            try:
                os.close(file)
            except OSError as error:
                self.failure = error.strerror or str(error)

    def _lay_out(self) -> None:
        """Make blocks of what was heard."""
        blocks = self._blocks
        for talk, ns, sent, header, front, middle, data in self._heard:
            packets = talk.packets
            if header is None:
                if packets is not None:
                    packets.end(blocks, ns)
                continue
            if packets is None:
                packets = self._begin(talk)
                packets.begin(blocks, ns)
            if header.type in SECRETS:
                front, middle, data = _without_secret(header, front), b"", b""
            packets.message(blocks, sent, header, front, middle, data, ns)
        self._heard.clear()
        self._size = 0

    def _begin(self, talk: _Talk) -> Synthetic:
        """Packets for a connection that has something to say: by now all about it is known."""
        self._connections += 1
        connection, link = talk.connection, talk.connection.link
        assert talk.session is not None
        before = 0 if link.lossy else self._sessions.get(talk.session, 0)
        self._sessions[talk.session] = before + 1
        peers = Peers(
            client=EntityNum(EntityType.CLIENT, connection.global_id),
            daemon=EntityNum(connection.peer_type, link.peer_num),
            client_addr=_local_addr(connection, talk.local, self._connections),
            daemon_addr=connection.target,
            features=link.peer_features,
            lossy=link.lossy,
            connect_seq=before,
        )
        talk.packets = Synthetic(peers, self._connections)
        return talk.packets

    def _fail(self, error: OSError, batch: bytes, done: int) -> None:
        """Nothing more can be written: leave whole packets behind."""
        self.failure = error.strerror or str(error)
        whole, following = 0, 0
        while following <= done:
            whole = following
            following += LENGTH.unpack_from(batch, whole + LENGTH_AT)[0]
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._written + whole)  # what is no file, such as a pipe, cannot be cut
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1
        for connection in self._talks:
            connection.tap = None
        self._talks.clear()


class _Talk:
    """What is recorded of one connection; ``session`` and ``packets`` from its first message on."""

    __slots__ = ("connection", "local", "packets", "session")

    def __init__(self, connection: Connection, local: tuple[str, int] | None) -> None:
        self.connection = connection
        self.local = local
        self.packets: Synthetic | None = None
        self.session: tuple[int, int] | None = None


_Heard: TypeAlias = tuple[_Talk, int, bool, MessageHeader | None, bytes, bytes, bytes]
"""Where, when, whether sent, and a message; without a header, the end of the connection."""


def _local_addr(connection: Connection, local: tuple[str, int] | None, number: int) -> EntityAddr:
    """Where the connection came from, with the nonce it went by."""
    nonce = 0 if connection.addr is None else connection.addr.nonce
    family = connection.target.family
    if local is not None:
        host, port = local
        found = EntityAddr.make(AddrType.LEGACY, host.partition("%")[0], port, nonce)
        if found.family == family:
            return found
    unknown = "::" if family == AF_INET6 else "0.0.0.0"
    return EntityAddr.make(AddrType.LEGACY, unknown, FIRST_PORT + number % PORTS, nonce)


def _without_secret(header: MessageHeader, front: bytes) -> bytes:
    """The front of a message of authentication, with nothing in the field that authenticates."""
    kind, emptied = SECRETS[header.type]
    try:
        message = kind.decode(front, version=header.version, compat=header.compat_version)
    except MalformedMessage:
        return b""
    written: bytes = kind.encode(msgspec.structs.replace(message, **emptied), min(header.version, kind.newest))[0]
    return written


def _open(path: str) -> int:
    """The file, empty and its owner's alone."""
    # Without O_NONBLOCK a named pipe that nobody reads would hold up the client for ever.
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            os.fchmod(file, 0o600)
            os.ftruncate(file, 0)
    except OSError:
        os.close(file)
        raise
    return file


def _section() -> bytes:
    """The section header, section 4.1."""
    body = SECTION.pack(BYTE_ORDER, MAJOR, MINOR, UNKNOWN_LENGTH)
    return _block(SECTION_HEADER, body + _option(OPTION_USERAPPL, f"cephcaps {VERSION}".encode()) + _option(OPTION_END))


def _interface() -> bytes:
    """The one interface, section 4.2; its packets are kept whole."""
    options = _option(OPTION_IF_NAME, b"cephcaps") + _option(OPTION_TSRESOL, bytes((NANOSECONDS,)))
    return _block(INTERFACE_DESCRIPTION, INTERFACE.pack(LINKTYPE_RAW, 0) + options + _option(OPTION_END))


def _block(type: int, body: bytes) -> bytes:
    length = BLOCK.size + len(body) + LENGTH.size
    return BLOCK.pack(type, length) + body + LENGTH.pack(length)


def _option(code: int, value: bytes = b"") -> bytes:
    return OPTION.pack(code, len(value)) + value + bytes(-len(value) & 3)
