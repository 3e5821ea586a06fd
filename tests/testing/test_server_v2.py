"""The daemon's side of messenger v2.1 against the client's, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from cephcaps.auth.cephx import CephxAuthorizer, CephxLogin
from cephcaps.messenger.connection import Connection, Phase
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v2 import ConnectionV2
from cephcaps.testing.daemon import Daemon, Remote
from cephcaps.testing.keys import KeyServer, MonLogin, ServiceLogin
from cephwire.cephx import TicketList
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.frames import MessageHeader
from cephwire.keys import CryptoType
from cephwire.mon_messages import MConfig
from cephwire.session import ClientSession, SessionOp
from tests.session.handshakes import GLOBAL_ID, Listener, tickets_for
from tests.session.peers import entropy

ADDR = EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 6800, 77)
PEER = EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 50000)
each_way = pytest.mark.parametrize("mode", list(ConMode))
each_key = pytest.mark.parametrize("type", [CryptoType.AES, CryptoType.AES256K])


class Echo(Daemon):
    """Remembers what it hears."""

    kind = EntityType.MDS

    def __init__(self, keys: KeyServer, mode: ConMode, *, mon: bool = False) -> None:
        super().__init__(ADDR, (mode,))
        self.kind = EntityType.MON if mon else EntityType.MDS
        self.lossy = mon
        self.keys = keys
        self.heard: list[Any] = []
        self.ended: list[Remote] = []

    def login(self) -> MonLogin | ServiceLogin:
        return MonLogin(self.keys) if self.lossy else ServiceLogin(self.keys)

    def received(self, remote: Remote, header: MessageHeader, message: Any, now: float) -> None:
        self.heard.append(message)

    def gone(self, remote: Remote, now: float) -> None:
        self.ended.append(remote)


@dataclass
class Meeting:
    """A client, its daemon, and the connections between them."""

    daemon: Echo
    mode: ConMode
    owner: Listener = field(default_factory=Listener)
    instance: Instance = field(default_factory=lambda: Instance(99))
    link: Link = field(default_factory=lambda: Link(4711))

    def __post_init__(self) -> None:
        keys = self.daemon.keys
        self.tickets = tickets_for(keys.add("client.admin"))
        if self.daemon.lossy:
            self.link = Link(0)
            return
        self.tickets.global_id = GLOBAL_ID
        key = self.tickets.key
        assert key is not None
        self.tickets.take(TicketList((keys.ticket(EntityType.AUTH, GLOBAL_ID, key, None),)), key, 0.0)
        session_key = self.tickets.held[EntityType.AUTH].session_key
        self.tickets.take(keys.tickets(EntityType.MDS, GLOBAL_ID, session_key), session_key, 0.0)

    def connect(self) -> Connection:
        tickets = self.tickets
        login = (
            CephxLogin(tickets)
            if self.daemon.lossy
            else CephxAuthorizer(tickets, EntityType.MDS, tickets.held[EntityType.MDS])
        )
        kind = self.daemon.kind
        client = ConnectionV2(self.owner, self.instance, login, kind, ADDR, (self.mode,), tickets.global_id, self.link)
        self.server = self.daemon.accept(PEER)
        self.carry(client)
        return client

    def carry(self, client: Connection) -> None:
        while client.out or self.server.out:
            out, client.out[:] = b"".join(client.out), []
            self.server.receive(out, 0.0)
            out, self.server.out[:] = b"".join(self.server.out), []
            client.receive(out, 0.0)


def meeting(mode: ConMode, type: CryptoType = CryptoType.AES, *, mon: bool = False) -> Meeting:
    return Meeting(Echo(KeyServer(entropy("cluster"), type), mode, mon=mon), mode)


@each_way
@each_key
@pytest.mark.parametrize("mon", [True, False])
def test_both_ends_meet_and_talk(mode: ConMode, type: CryptoType, mon: bool) -> None:
    both = meeting(mode, type, mon=mon)
    client = both.connect()
    assert client.phase is both.server.phase is Phase.READY
    assert client.con_mode is both.server.con_mode is mode
    client.send(ClientSession(SessionOp.REQUEST_OPEN, 0))
    (remote,) = both.daemon.remotes.values()
    both.daemon.send(remote, MConfig({"a": "b"}))
    both.carry(client)
    assert both.daemon.heard == [ClientSession(SessionOp.REQUEST_OPEN, 0)]
    assert both.owner.messages == [MConfig({"a": "b"})]


@each_way
def test_a_lossless_session_goes_on_where_it_was_cut(mode: ConMode) -> None:
    both = meeting(mode)
    client = both.connect()
    (remote,) = both.daemon.remotes.values()
    client.send(ClientSession(SessionOp.REQUEST_RENEWCAPS, 1))
    client.out.clear()  # lost on the way
    both.daemon.lost(both.server, 0.0)
    both.daemon.send(remote, MConfig({"while": "away"}))

    both.connect()

    assert both.daemon.heard == [ClientSession(SessionOp.REQUEST_RENEWCAPS, 1)]
    assert both.owner.messages == [MConfig({"while": "away"})]
    assert both.owner.resets == 0
    assert not both.link.unacked


def test_a_session_that_the_daemon_forgot_is_reset() -> None:
    both = meeting(ConMode.CRC)
    both.connect()
    (remote,) = both.daemon.remotes.values()
    both.daemon.forget(remote)
    both.connect()
    assert both.owner.resets == 1
    assert both.daemon.ended == []


def test_an_attempt_to_resume_that_was_counted_already_is_made_again() -> None:
    both = meeting(ConMode.CRC)
    both.connect()
    (remote,) = both.daemon.remotes.values()
    remote.link.connect_seq = 5
    client = both.connect()
    assert client.phase is Phase.READY
    assert both.link.connect_seq == remote.link.connect_seq == 6


def test_a_new_session_from_the_same_address_ends_the_former() -> None:
    both = meeting(ConMode.CRC)
    both.connect()
    (former,) = both.daemon.remotes.values()
    both.link = Link(4712)
    both.connect()
    assert both.daemon.ended == [former]
    assert len(both.daemon.remotes) == 1


def test_a_monitor_forgets_a_client_with_its_connection() -> None:
    both = meeting(ConMode.CRC, mon=True)
    both.connect()
    both.daemon.lost(both.server, 0.0)
    assert both.daemon.remotes == {}
    assert len(both.daemon.ended) == 1
