"""The daemon's side of messenger v1 against the client's, in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cephcaps.auth.cephx import CephxAuthorizer
from cephcaps.errors import ConnectionFailed
from cephcaps.messenger.connection import Connection, Phase
from cephcaps.messenger.link import Instance
from cephcaps.messenger.v1 import ConnectionV1
from cephcaps.messenger.v1_stream import BadSignature
from cephcaps.testing.keys import KeyServer
from cephwire.codec import Codec
from cephwire.control import ConMode
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.keys import CryptoType
from cephwire.legacy import CLIENT_BANNER, MSG_CONNECT, ClientBanner, MsgConnect, MsgrProtocol, MsgrTag
from cephwire.mon_messages import MConfig
from cephwire.session import ClientSession, SessionOp
from tests.session.peers import entropy
from tests.testing.test_server_v2 import Echo, Meeting

ADDR = EntityAddr.make(AddrType.LEGACY, "127.0.0.1", 6801, 77)
PEER = EntityAddr.make(AddrType.LEGACY, "127.0.0.1", 50000)
RENEW = ClientSession(SessionOp.REQUEST_RENEWCAPS, 1)


@dataclass
class MeetingV1(Meeting):
    """The same as over messenger v2."""

    def connect(self) -> Connection:
        tickets, kind = self.tickets, EntityType.MDS
        self.instance = Instance(99, AddrType.LEGACY)
        self.daemon.addrs = (ADDR,)
        proof = CephxAuthorizer(tickets, kind, tickets.held[kind])
        client = ConnectionV1(self.owner, self.instance, proof, kind, ADDR, tickets.global_id, self.link)
        self.server = self.daemon.accept(PEER)
        self.carry(client)
        return client


def meeting(type: CryptoType = CryptoType.AES) -> MeetingV1:
    return MeetingV1(Echo(KeyServer(entropy("cluster"), type), ConMode.CRC), ConMode.CRC)


@pytest.mark.parametrize("type", [CryptoType.AES, CryptoType.AES256K])
def test_both_ends_meet_and_sign_what_they_say(type: CryptoType) -> None:
    both = meeting(type)
    client = both.connect()
    assert client.phase is both.server.phase is Phase.READY
    client.send(RENEW)
    (remote,) = both.daemon.remotes.values()
    assert (remote.addr.type, remote.addr.nonce) == (AddrType.LEGACY, 99)
    both.daemon.send(remote, MConfig({"a": "b"}))
    both.carry(client)
    assert both.daemon.heard == [RENEW]
    assert both.owner.messages == [MConfig({"a": "b"})]
    client.send(RENEW)
    said = bytearray(b"".join(client.out))
    said[-9] ^= 1  # in the signature
    with pytest.raises(BadSignature):
        both.server.receive(bytes(said), 0.0)


def test_a_session_goes_on_where_it_was_cut() -> None:
    both = meeting()
    client = both.connect()
    (remote,) = both.daemon.remotes.values()
    client.send(RENEW)
    client.out.clear()  # lost on the way
    both.daemon.lost(both.server, 0.0)
    both.daemon.send(remote, MConfig({"while": "away"}))
    both.connect()
    assert both.daemon.heard == [RENEW]
    assert both.owner.messages == [MConfig({"while": "away"})]
    assert both.owner.resets == 0
    assert not both.link.unacked


def test_a_session_that_the_daemon_forgot_is_reset() -> None:
    both = meeting()
    both.connect()
    (remote,) = both.daemon.remotes.values()
    both.daemon.forget(remote)
    client = both.connect()
    assert client.phase is Phase.READY
    assert both.owner.resets == 1


def test_an_attempt_to_resume_that_was_counted_already_is_made_again() -> None:
    both = meeting()
    both.connect()
    (remote,) = both.daemon.remotes.values()
    remote.link.connect_seq = 9
    client = both.connect()
    assert client.phase is Phase.READY
    assert both.owner.resets == 0
    assert both.link.connect_seq == remote.link.connect_seq == 11


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        ({"protocol_version": 1}, MsgrTag.BADPROTOVER),
        ({"features": 0}, MsgrTag.FEATURES),
    ],
    ids=lambda value: value.name if isinstance(value, MsgrTag) else "",
)
def test_who_cannot_be_let_in_is_told_why(change: dict[str, int], tag: MsgrTag) -> None:
    both = meeting()
    both.daemon.addrs = (ADDR,)
    server = both.daemon.accept(PEER)
    server.out.clear()
    connect = {
        "features": 2**64 - 1,
        "host_type": EntityType.CLIENT,
        "global_seq": 1,
        "connect_seq": 0,
        "protocol_version": MsgrProtocol.MDS,
        "authorizer_protocol": 0,
        "authorizer_len": 0,
        "flags": 0,
    }
    hello: bytes = Codec(CLIENT_BANNER).encode(ClientBanner(PEER.legacy()))  # type: ignore[arg-type]
    asked: bytes = Codec(MSG_CONNECT).encode(MsgConnect(**{**connect, **change}))  # type: ignore[arg-type]
    server.receive(hello, 0.0)
    server.receive(asked, 0.0)
    assert b"".join(server.out)[0] == tag
    assert both.daemon.remotes == {}


def test_who_asks_for_ever_is_not_answered_for_ever() -> None:
    both = meeting()
    both.daemon.addrs = (ADDR,)
    server = both.daemon.accept(PEER)
    server.receive(Codec(CLIENT_BANNER).encode(ClientBanner(PEER.legacy())), 0.0)  # type: ignore[arg-type]
    asked: bytes = Codec(MSG_CONNECT).encode(MsgConnect(0, 8, 1, 0, MsgrProtocol.MDS, 0, 0, 0))  # type: ignore[arg-type]
    with pytest.raises(ConnectionFailed, match="20 times"):
        server.receive(asked * 100, 0.0)
