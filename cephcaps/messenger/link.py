"""What outlives a connection: who we are to one daemon, the numbers of both directions, what is not acknowledged.

A lossless session goes on over any number of connections, one after the other. Both sides number their messages and
keep each until the other has acknowledged it; on a new connection they tell what arrived last and send the rest again,
the same bytes under the same numbers. Source: ceph: src/msg/async/ProtocolV2.cc; doc/dev/msgr2.rst.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cephwire.entity import AddrType, AnyAddr, EntityAddr
from cephwire.frames import Priority
from cephwire.messages import BY_CLASS

__all__ = ["Instance", "Link", "Outgoing"]

U64 = 2**64


@dataclass(slots=True)
class Instance:
    """What identifies this client to every daemon for as long as it lives.

    Attributes:
        nonce: with our IP the key under which servers file us, and what gets blocklisted. Not 0.
        messenger: what we speak with all of them, as the type of addresses: MSGR2, or LEGACY for messenger v1. A server
            drops what one speaks when the same address and nonce come to it over the other.
        global_seq: counts connection attempts; a server refuses one lower than it has seen.
        hosts: our IPs, as daemons saw us.
    """

    nonce: int
    messenger: AddrType = AddrType.MSGR2
    global_seq: int = 0
    hosts: set[str] = field(default_factory=set)

    def address(self, host: str) -> EntityAddr:
        """Ours, for a daemon that sees us at ``host``. Port 0, as nobody connects to a client."""
        self.hosts.add(host)
        return EntityAddr.make(self.messenger, host, 0, self.nonce)

    def meant_by(self, listed: AnyAddr) -> bool:
        """Whether an entry of the OSDMap's blocklist is for us: an entry without port and nonce is for the whole IP."""
        return isinstance(listed, EntityAddr) and any(
            listed.same_endpoint(EntityAddr.make(AddrType.ANY, host, 0, nonce))
            for host in self.hosts
            for nonce in (self.nonce, 0)
        )


class Outgoing(NamedTuple):
    """A message as it is sent, however often."""

    seq: int
    tid: int
    type: int
    priority: int
    version: int
    compat: int
    front: bytes
    middle: bytes
    data: bytes


class Link:
    """Our side of a session with one daemon at the level of the messenger.

    Args:
        cookie: names our side to a peer that keeps the session when its connection breaks; 0 for one it forgets
            (lossy): nothing is kept then.

    Attributes:
        peer_cookie: names the peer's side; 0 until it has introduced itself, when there is nothing to resume.
        connect_seq: counts the times it was resumed, as far as the peer confirmed them; messenger v1 counts the first
            connection too.
        in_seq, out_seq: last message received and sent.
        unacked: what the peer may not have got, oldest first.
        peer_num: the peer's number, such as a rank; -1 while unknown.
        peer_features: connection features that both sides have.
        lossy: whether the peer forgets; it decides.
    """

    __slots__ = (
        "connect_seq",
        "cookie",
        "in_seq",
        "lossy",
        "out_seq",
        "peer_cookie",
        "peer_features",
        "peer_num",
        "unacked",
    )

    def __init__(self, cookie: int) -> None:
        self.cookie: int = cookie
        self.lossy: bool = not cookie
        self.peer_cookie: int = 0
        self.connect_seq: int = 0
        self.in_seq: int = 0
        self.out_seq: int = 0
        self.unacked: deque[Outgoing] = deque()
        self.peer_num: int = -1
        self.peer_features: int = 0

    def number(self, message: Any, tid: int, version: int | None, priority: int = Priority.DEFAULT) -> Outgoing:
        """Encode a message in the layout of ``version`` (our newest if None), and keep it until it is acknowledged."""
        kind = BY_CLASS[type(message)]
        front, middle, data = kind.encode(message, version)
        self.out_seq += 1
        outgoing = Outgoing(
            self.out_seq,
            tid,
            kind.number,
            priority,
            kind.newest if version is None else version,
            kind.compat,
            front,
            middle,
            data,
        )
        if not self.lossy:
            self.unacked.append(outgoing)
        return outgoing

    def acknowledged(self, seq: int) -> None:
        """The peer has every message up to ``seq``."""
        unacked = self.unacked
        while unacked and unacked[0].seq <= seq:
            unacked.popleft()

    def forgotten(self, *, wholly: bool) -> None:
        """The peer knows nothing of the session, or nothing of what it sent: what we are to it begins anew."""
        self.peer_cookie = 0
        self.connect_seq = 0
        self.in_seq = 0
        if wholly:
            self.unacked.clear()
            self.out_seq = 0
            self.cookie = self.cookie % (U64 - 1) + 1
