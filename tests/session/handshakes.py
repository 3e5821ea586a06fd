"""Both ends of one connection, made the same way every time, so that a recorded handshake can be played again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from cephcaps.auth.authenticator import Authenticator
from cephcaps.auth.cephx import CephxAuthorizer, CephxLogin, Tickets
from cephcaps.auth.crypto import CryptoKey
from cephcaps.auth.none import NoneAuth
from cephcaps.messenger.connection import Connection
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v2 import ConnectionV2
from cephcaps.testing.keys import KeyServer, MonLogin, NoLogin, ServiceLogin
from cephwire.cephx import TicketList
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityName, EntityType
from cephwire.frames import MessageHeader
from cephwire.keys import CryptoType
from cephwire.mon_messages import MConfig
from cephwire.session import ClientSession, SessionOp
from tests.session.peers import Login, Peer, converse, entropy, flushed

ADMIN = EntityName(EntityType.CLIENT, "admin")
MON_ADDR = EntityAddr.make(AddrType.MSGR2, "192.0.2.1", 3300)
MDS_ADDR = EntityAddr.make(AddrType.MSGR2, "192.0.2.2", 6800, 1234567)
COOKIE = 0x600DC00C1E
NONCE = 99
GLOBAL_ID = 4100
"""What `KeyServer` gives its first client."""


@dataclass
class Listener:
    """An owner that only remembers."""

    ready: int = 0
    resets: int = 0
    messages: list[Any] = field(default_factory=list)
    headers: list[MessageHeader] = field(default_factory=list)

    def connection_ready(self, connection: Connection, now: float) -> None:
        self.ready += 1

    def connection_reset(self, connection: Connection, now: float) -> None:
        self.resets += 1

    def message_received(self, connection: Connection, header: MessageHeader, message: Any, now: float) -> None:
        self.headers.append(header)
        self.messages.append(message)


@dataclass
class Pair:
    """A client's connection and the daemon at its other end, before the first byte."""

    client: Connection
    server: Peer
    owner: Listener
    tickets: Tickets
    keys: KeyServer

    def meet(self, *, step: int = 0, greeting: bytes | None = None) -> Pair:
        self.server.start(greeting)
        converse(self.client, self.server, step=step)
        return self

    def receive(self) -> None:
        """The client reads what the daemon has written since."""
        self.client.receive(flushed(self.server.out), 1.0)


def tickets_for(key: CryptoKey | None, seed: str = "client") -> Tickets:
    return Tickets(ADMIN, key, entropy(seed))


def mon_pair(mode: ConMode = ConMode.CRC, type: CryptoType | None = CryptoType.AES) -> Pair:
    """To a monitor; ``type`` is that of all keys, None for method none."""
    keys = KeyServer(entropy("cluster"), type or CryptoType.AES)
    tickets = tickets_for(keys.add(str(ADMIN)) if type else None)
    authenticator: Authenticator = CephxLogin(tickets) if tickets.key else NoneAuth(tickets, to_mon=True)
    login: Login = MonLogin(keys) if type else NoLogin(to_mon=True)
    return _pair(EntityType.MON, MON_ADDR, authenticator, login, mode, tickets, keys, 0)


def mds_pair(mode: ConMode = ConMode.CRC, type: CryptoType | None = CryptoType.AES) -> Pair:
    """To an MDS, with tickets in hand."""
    keys = KeyServer(entropy("cluster"), type or CryptoType.AES)
    tickets = tickets_for(keys.add(str(ADMIN)) if type else None)
    tickets.global_id = GLOBAL_ID
    authenticator: Authenticator = NoneAuth(tickets, to_mon=False)
    if tickets.key:
        tickets.take(TicketList((keys.ticket(EntityType.AUTH, GLOBAL_ID, tickets.key, None),)), tickets.key, 0.0)
        session_key = tickets.held[EntityType.AUTH].session_key
        tickets.take(keys.tickets(EntityType.MDS, GLOBAL_ID, session_key), session_key, 0.0)
        authenticator = CephxAuthorizer(tickets, EntityType.MDS, tickets.held[EntityType.MDS])
    login: Login = ServiceLogin(keys) if type else NoLogin(to_mon=False)
    return _pair(EntityType.MDS, MDS_ADDR, authenticator, login, mode, tickets, keys, COOKIE)


def _pair(
    kind: EntityType,
    addr: EntityAddr,
    authenticator: Authenticator,
    login: Login,
    mode: ConMode,
    tickets: Tickets,
    keys: KeyServer,
    cookie: int,
) -> Pair:
    owner = Listener()
    client = ConnectionV2(owner, Instance(NONCE), authenticator, kind, addr, (mode,), tickets.global_id, Link(cookie))
    return Pair(client, Peer(kind, addr, login, (ConMode.SECURE, ConMode.CRC)), owner, tickets, keys)


PAIRS = {EntityType.MON: mon_pair, EntityType.MDS: mds_pair}
HANDSHAKES = [(kind, mode, type) for kind in PAIRS for mode in ConMode for type in (CryptoType.AES, CryptoType.AES256K)]
"""Every handshake cephx has, as arguments of `fresh` and `recorded`."""
each_handshake = pytest.mark.parametrize(
    ("kind", "mode", "type"), HANDSHAKES, ids=[f"{k.name}-{m.name}-{t.name}" for k, m, t in HANDSHAKES]
)


def fresh(kind: EntityType, mode: ConMode, type: CryptoType) -> Pair:
    return PAIRS[kind](mode, type)


@cache
def recorded(kind: EntityType, mode: ConMode, type: CryptoType) -> bytes:
    """All a daemon says to `fresh`'s client until the connection is made, and two messages."""
    pair = fresh(kind, mode, type).meet()
    pair.server.send(MConfig({"a": "b"}))
    pair.server.send(ClientSession(SessionOp.RENEWCAPS, 1), version=1)
    return bytes(pair.server.sent)
