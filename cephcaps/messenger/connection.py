"""What connections of both messengers have in common: messages in and out, once the handshake is done.

Bytes come in through `receive`, bytes to write pile up in `out`; what the connection learns it tells its owner, in the
call that brought it.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Any, Protocol

from cephcaps.errors import ProtocolViolation
from cephcaps.messenger.link import Instance, Link, Outgoing
from cephwire.codec import Leftover
from cephwire.control import ConMode
from cephwire.entity import EntityAddr, EntityType
from cephwire.errors import MalformedMessage
from cephwire.frames import MessageFlag, MessageHeader, Priority
from cephwire.messages import BY_NUMBER

__all__ = ["Connection", "Instance", "Owner", "Phase", "Tap", "Undecodable"]


class Phase(Enum):
    """What a connection waits for."""

    BANNER = "the peer's banner"
    HELLO = "the peer's HELLO"
    CONNECT = "the peer's answer to our connect"
    AUTH = "authentication"
    SIGNATURE = "the peer's signature"
    IDENT = "the peer's ident"
    READY = "messages"
    CLOSED = "nothing more"


class Undecodable(MalformedMessage):
    """A message arrived whole and is not what its type says. To have it sent again is of no use."""


class Owner(Protocol):
    """Whose connection it is: a monitor client or an MDS session."""

    def connection_ready(self, connection: Connection, now: float) -> None:
        """The handshake is done and what was not acknowledged is on its way again; messages may be sent."""

    def connection_reset(self, connection: Connection, now: float) -> None:
        """The peer has forgotten the session that was to be resumed; a new one is being made on this connection."""

    def message_received(self, connection: Connection, header: MessageHeader, message: Any, now: float) -> None:
        """A message, in order."""


class Tap(Protocol):
    """Is shown every message, after it is written and before it is read, duplicates included, but for those that
    authenticate a connection. Must not raise."""

    def __call__(self, sent: bool, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None: ...


class Connection:
    """The state machine of one TCP connection; a new one is made for every attempt, and takes the session's link.

    Args:
        target: whom to reach; the address must be, nonce included, one the peer calls its own.
        link: what the session has come to; one of its own for a session that ends with its connection.

    Attributes:
        out: bytes to write, in order; whoever writes them clears it.
        phase: what it waits for.
        con_mode: as negotiated.
        addr: ours, as peers know it; None until the peer has told our IP.
        tap: looks on, if there is one.
        last_heard: when bytes last came.
        keepalive_acked: the stamp last echoed.
        leftover: stretches of received bytes that no schema explained.
        unknown: counts of messages of types we do not know, by type.
    """

    def __init__(
        self,
        owner: Owner,
        instance: Instance,
        peer_type: EntityType,
        target: EntityAddr,
        global_id: int,
        link: Link,
    ) -> None:
        self.owner = owner
        self.target = target
        self.peer_type = peer_type
        self.global_id = global_id
        self.link = link
        self.phase: Phase = Phase.BANNER
        self.out: list[bytes] = []
        self.con_mode = ConMode.CRC
        self.addr: EntityAddr | None = None
        self.tap: Tap | None = None
        self.last_heard: float = 0.0
        self.keepalive_acked = 0
        self.leftover: list[Leftover] = []
        self.unknown: Counter[int] = Counter()
        self._instance = instance
        self._acked = 0

    def __repr__(self) -> str:
        return f"<Connection to {self.who} {self.phase.name}>"

    @property
    def who(self) -> str:
        """The peer, in words for errors."""
        return f"{self.peer_type.name.lower()} at {self.target}"

    @property
    def mode(self) -> str:
        """How what is said here is protected, in the words of ``ms_mode``."""
        return self.con_mode.name.lower()

    def receive(self, data: bytes, now: float) -> None:
        """Take in bytes, however they are cut.

        Raises:
            MalformedMessage, ProtocolViolation, ConnectionFailed, AuthError: the connection is of no more use.
        """
        raise NotImplementedError

    def keepalive(self, stamp: int) -> None:
        """Ask for a sign of life; ``stamp`` (ns) comes back as `keepalive_acked`."""
        raise NotImplementedError

    def send(self, message: Any, *, tid: int = 0, version: int | None = None, priority: int = Priority.DEFAULT) -> None:
        """Queue a message, in the layout of ``version`` (our newest if None)."""
        self.carry(self.link.number(message, tid, version, priority))

    def close(self) -> None:
        """Take in nothing more."""
        self.phase = Phase.CLOSED

    # For the messengers

    def carry(self, outgoing: Outgoing) -> None:
        """Write a message that has its number; only once the handshake is done."""
        link = self.link
        header = MessageHeader(
            seq=outgoing.seq,
            tid=outgoing.tid,
            type=outgoing.type,
            priority=outgoing.priority,
            version=outgoing.version,
            data_pre_padding_len=0,
            data_off=0,
            ack_seq=0 if link.lossy else link.in_seq,
            flags=MessageFlag.COMPLETE,
            compat_version=outgoing.compat,
        )
        self._write_message(header, outgoing.front, outgoing.middle, outgoing.data)
        if self.tap is not None and self.phase is Phase.READY:
            self.tap(True, header, outgoing.front, outgoing.middle, outgoing.data)

    def _write_message(self, header: MessageHeader, front: bytes, middle: bytes, data: bytes) -> None:
        raise NotImplementedError

    def _write_ack(self, seq: int) -> None:
        raise NotImplementedError

    def _begin(self, now: float) -> None:
        """The handshake is done. What the peer may not have got goes first."""
        self.phase = Phase.READY
        self._acked = self.link.in_seq
        for outgoing in self.link.unacked:
            self.carry(outgoing)
        self.owner.connection_ready(self, now)

    def _forgotten(self, now: float, *, wholly: bool = True) -> None:
        self.link.forgotten(wholly=wholly)
        if wholly:
            self.owner.connection_reset(self, now)

    def _acknowledge(self) -> None:
        """One ACK for all that came together; without it the peer keeps every message it sent."""
        link = self.link
        if link.in_seq != self._acked and not link.lossy and self.phase is Phase.READY:
            self._acked = link.in_seq
            self._write_ack(link.in_seq)

    def _deliver(self, header: MessageHeader, front: bytes, middle: bytes, data: bytes, now: float) -> None:
        """A message has come whole."""
        if self.tap is not None:
            self.tap(False, header, front, middle, data)
        link = self.link
        if header.ack_seq:
            self._take_ack(header.ack_seq)
        if header.seq <= link.in_seq:
            return  # sent again after a reconnect, had already
        link.in_seq = header.seq
        kind = BY_NUMBER.get(header.type)
        if kind is None:
            self.unknown[header.type] += 1
            return
        try:
            message = kind.decode(
                front, middle, data, version=header.version, compat=header.compat_version, leftover=self.leftover
            )
        except MalformedMessage as error:
            raise Undecodable(str(error)) from None
        self.owner.message_received(self, header, message, now)

    def _take_ack(self, seq: int) -> None:
        """The peer has every message up to ``seq``."""
        if seq > self.link.out_seq:
            raise ProtocolViolation(f"{self.who} acknowledges message {seq}; we have sent {self.link.out_seq}")
        self.link.acknowledged(seq)
