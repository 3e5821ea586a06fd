"""Messenger v1: the handshake with all its answers, what is signed, and a session that goes on over its connections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from cephcaps.auth.cephx import TicketRefused
from cephcaps.errors import AuthError, CephError, ConnectionFailed, MalformedMessage, ProtocolViolation
from cephcaps.messenger.connection import Phase
from cephcaps.messenger.v1 import MAX_CONNECTS
from cephwire.cephx import MON_AUTH_OFFER
from cephwire.codec import Codec
from cephwire.control import AuthMethod
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.features import CLIENT_FEATURES, MSG_ADDR2, MSG_AUTH
from cephwire.keys import CryptoType
from cephwire.legacy import (
    CONNECT_LOSSY,
    SERVER_BANNER,
    MsgConnect,
    MsgrProtocol,
    MsgrTag,
    ServerBanner,
)
from cephwire.mon_messages import MAuth, MAuthReply, MConfig, MonGetMap, PaxosHeader
from cephwire.session import ClientSession
from tests.session.handshakes import ADMIN, GLOBAL_ID, NONCE, PAIRS
from tests.session.handshakes_v1 import RENEW, Legacy, hear, legacy, say, twisted
from tests.session.peers import CLIENT_ADDR, banner

BOTH = (CryptoType.AES, CryptoType.AES256K)
both_kinds = pytest.mark.parametrize("kind", PAIRS)
each = pytest.mark.parametrize(("kind", "type"), [(kind, type) for kind in PAIRS for type in BOTH])

mds = partial(legacy, EntityType.MDS)
mon = partial(legacy, EntityType.MON)


# The handshake


@each
@pytest.mark.parametrize("step", [0, 1, 31])
def test_a_handshake_is_completed_however_the_bytes_are_cut(kind: EntityType, type: CryptoType, step: int) -> None:
    pair = legacy(kind, type).meet(step=step)

    assert pair.client.phase is Phase.READY
    assert pair.client.mode == "legacy"
    assert pair.owner.ready == 1


@both_kinds
def test_a_handshake_without_authentication_is_completed(kind: EntityType) -> None:
    pair = legacy(kind, None).meet()
    say(pair, RENEW)
    pair.client.send(RENEW, version=1)
    hear(pair)

    assert pair.server.login.name == "client.admin"
    assert pair.owner.messages == pair.server.got(ClientSession) == [RENEW]
    assert pair.server.signatures == [0] * len(pair.server.signatures)


def test_an_mds_is_told_who_connects_and_challenges_it() -> None:
    pair = mds().meet()
    (first, _), (second, _) = pair.server.connects

    assert pair.server.client_addr == EntityAddr.make(AddrType.LEGACY, CLIENT_ADDR.host, 0, NONCE)
    assert pair.client.addr == pair.server.client_addr
    assert (first.global_seq, first.connect_seq, first.flags) == (1, 0, 0)
    assert (first.features, first.host_type) == (CLIENT_FEATURES, EntityType.CLIENT)
    assert (first.protocol_version, first.authorizer_protocol) == (MsgrProtocol.MDS, AuthMethod.CEPHX)
    assert replace_len(second, first.authorizer_len) == first, "the challenge is answered in the very same connect"
    assert pair.server.login.nonces[0] == pair.server.login.nonces[1]
    assert not pair.client.link.lossy
    assert pair.client.link.connect_seq == 1


def replace_len(connect: MsgConnect, size: int) -> MsgConnect:
    return MsgConnect(**{name: getattr(connect, name) for name in connect.__struct_fields__} | {"authorizer_len": size})


def test_a_monitor_is_connected_to_by_a_stranger_who_then_logs_in() -> None:
    pair = mon().meet()
    [(connect, authorizer)] = pair.server.connects
    first, second = pair.server.auths

    assert (connect.protocol_version, connect.authorizer_protocol, authorizer) == (MsgrProtocol.MON, 0, b"")
    assert connect.flags == CONNECT_LOSSY
    assert pair.client.link.lossy
    offer = Codec(MON_AUTH_OFFER).decode(first.auth_payload)
    assert (first.protocol, offer.methods, offer.name, offer.global_id) == (0, (AuthMethod.CEPHX,), ADMIN, 0)
    assert (second.protocol, second.monmap_epoch) == (AuthMethod.CEPHX, 0)
    assert pair.tickets.global_id == pair.client.global_id == GLOBAL_ID
    assert EntityType.MDS in pair.tickets.held
    pair.client.send(MonGetMap())
    hear(pair)
    assert [source.num for source in pair.server.sources] == [-1, -1, GLOBAL_ID]


def test_a_client_that_has_an_identity_keeps_it() -> None:
    first = mon().meet()
    again = first.again()
    again.meet()

    offer = Codec(MON_AUTH_OFFER).decode(again.server.auths[0].auth_payload)
    assert offer.global_id == again.client.global_id == GLOBAL_ID


def test_what_a_monitor_says_to_a_stranger_is_not_taken_in() -> None:
    pair = mon()
    twist = pair.server.twist_auth

    def talkative(message: MAuth, reply: MAuthReply) -> MAuthReply:
        pair.server.send(MConfig({"a": "b"}))
        return twist(message, reply)

    pair.server.twist_auth = talkative
    pair.meet()

    assert pair.owner.ready == 1
    assert not pair.owner.messages


def test_tickets_are_renewed_over_the_same_connection() -> None:
    pair = mon().meet()
    challenge = pair.client._login.server_challenge
    pair.client.send(MAuth(PaxosHeader(), AuthMethod.CEPHX, pair.tickets.authenticate(challenge), 0))
    hear(pair)
    [asked] = pair.server.got(MAuth)
    pair.server.send(MAuthReply(AuthMethod.CEPHX, 0, 0, pair.server.login.answer(asked.auth_payload), ""))
    pair.receive()

    pair.tickets.answer(pair.owner.messages[-1].result_bl, 5.0)
    assert pair.tickets.held[EntityType.MDS].expires == 5.0 + 3600


# Answers to a connect


@pytest.mark.parametrize(
    ("kind", "change", "error", "text"),
    [
        (
            EntityType.MDS,
            twisted(MsgrTag.FEATURES, features=CLIENT_FEATURES | 1 << 62 | 1 << 45),
            ConnectionFailed,
            r"mds at v1:192\.0\.2\.2:6800/1234567 requires features we lack: bits 45, 62",
        ),
        (
            EntityType.MON,
            twisted(MsgrTag.BADPROTOVER, protocol_version=77),
            ConnectionFailed,
            "mon at .* speaks version 77 of the protocol; known here is 15",
        ),
        (EntityType.MDS, twisted(MsgrTag.WAIT), ConnectionFailed, "asks us to wait for a connection of its own"),
        (EntityType.MDS, twisted(MsgrTag.BADAUTHORIZER), TicketRefused, r"refused the MDS ticket of client\.admin"),
        (EntityType.MON, twisted(MsgrTag.BADAUTHORIZER), ProtocolViolation, "seq 0 with BADAUTHORIZER"),
        (EntityType.MON, twisted(MsgrTag.CHALLENGE_AUTHORIZER), ProtocolViolation, "with CHALLENGE_AUTHORIZER"),
        (EntityType.MDS, twisted(MsgrTag.RESETSESSION), ProtocolViolation, "connect of seq 0 with RESETSESSION"),
        (EntityType.MDS, twisted(MsgrTag.RETRY_SESSION, connect_seq=3), ProtocolViolation, "seq 0 with RETRY_SESSION"),
        (EntityType.MDS, twisted(MsgrTag.RETRY_GLOBAL, global_seq=1 << 31), ProtocolViolation, "with RETRY_GLOBAL"),
        (EntityType.MDS, twisted(MsgrTag.MSG), ProtocolViolation, "seq 0 with MSG"),
        (EntityType.MDS, twisted(0), ProtocolViolation, "seq 0 with tag 0"),
        (EntityType.MDS, twisted(200), ProtocolViolation, "seq 0 with tag 200"),
        (
            EntityType.MON,
            twisted(MsgrTag.SEQ, features=CLIENT_FEATURES & ~(1 << 59)),
            ConnectionFailed,
            r"mon at .* lacks features we need: bits 59; Ceph 14\.2 has them",
        ),
        (
            EntityType.MDS,
            twisted(MsgrTag.SEQ, features=MSG_ADDR2.mask),
            ConnectionFailed,
            "mds at .* lacks features we need: bits 23, 61",
        ),
        (EntityType.MDS, twisted(MsgrTag.SEQ, connect_seq=2), ProtocolViolation, "counts 2 after our connect of 0"),
        (EntityType.MDS, twisted(MsgrTag.SEQ, connect_seq=1, authorizer_len=0), MalformedMessage, "AUTHORIZER_REPLY"),
        (
            EntityType.MDS,
            twisted(MsgrTag.SEQ, authorizer_len=1 << 30),
            MalformedMessage,
            r"MsgConnectReply\.authorizer_len at byte 21: 1073741824, over 65536",
        ),
        (EntityType.MDS, twisted(*[MsgrTag.RETRY_GLOBAL] * 99), ConnectionFailed, f"asked us {MAX_CONNECTS} times"),
    ],
)
def test_an_answer_that_leads_nowhere_ends_the_connection(
    kind: EntityType, change: Callable[[Legacy], None], error: type[CephError], text: str
) -> None:
    pair = legacy(kind)
    change(pair)

    with pytest.raises(error, match=text):
        pair.meet()
    assert pair.owner.ready == 0


def test_a_service_that_cannot_read_our_ticket_is_not_believed() -> None:
    pair = mds()
    pair.server.login.off_by = 1

    with pytest.raises(AuthError, match="it is not the service it claims to be"):
        pair.meet()


@pytest.mark.parametrize(
    ("greeting", "error", "text"),
    [
        (banner(), ConnectionFailed, "it speaks messenger v2 only: use the address of its v1 port, or another ms_mode"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ConnectionFailed, "it is no Ceph daemon: it began with b'SSH-2.0-O'"),
        (b"ceph v026" + bytes(272), ConnectionFailed, "it is no Ceph daemon"),
    ],
)
def test_a_port_that_does_not_speak_our_messenger_is_left(greeting: bytes, error: type[CephError], text: str) -> None:
    with pytest.raises(error, match=text):
        mon().meet(greeting=greeting)


def greeting(pair: Legacy, host: str, *, nonce: int | None = None) -> bytes:
    addr = pair.server.addr
    named = EntityAddr.make(AddrType.LEGACY, host, addr.port, addr.nonce if nonce is None else nonce)
    return Codec(SERVER_BANNER).encode(ServerBanner(named.legacy(), CLIENT_ADDR.legacy()))


def test_another_daemon_behind_the_address_is_left() -> None:
    for host, nonce in (("192.0.2.3", None), ("192.0.2.2", 42), ("0.0.0.0", 42)):
        pair = mds()
        with pytest.raises(ConnectionFailed, match=f"calls itself v1:{host}:6800/.*: it is not the daemon we want"):
            pair.meet(greeting=greeting(pair, host, nonce=nonce))


def test_a_daemon_that_does_not_know_its_own_ip_is_the_one_we_want() -> None:
    pair = mds()

    assert pair.meet(greeting=greeting(pair, "0.0.0.0")).client.phase is Phase.READY


def test_a_daemon_without_numbers_to_exchange_is_ready_at_once() -> None:
    pair = mds()
    pair.client.link.out_seq = 1
    twisted(MsgrTag.READY, connect_seq=1)(pair)

    assert pair.meet().client.phase is Phase.READY
    say(pair, RENEW)
    assert pair.owner.messages == [RENEW]


def test_a_monitor_that_signs_nothing_has_short_footers() -> None:
    pair = mon()
    pair.server.features &= ~MSG_AUTH.mask
    pair.meet()
    say(pair, RENEW)
    pair.client.send(RENEW, version=1)
    hear(pair)

    assert pair.owner.messages == pair.server.got(ClientSession) == [RENEW]


# Logging in at a monitor


def replying(**values: Any) -> Callable[[MAuth, MAuthReply], MAuthReply]:
    def twist(message: MAuth, reply: MAuthReply) -> MAuthReply:
        return MAuthReply(**{name: getattr(reply, name) for name in reply.__struct_fields__} | values)

    return twist


@pytest.mark.parametrize(
    ("type", "values", "error", "text"),
    [
        (CryptoType.AES, {"result": -13}, AuthError, r"client\.admin is unknown to the cluster, or its key is wrong"),
        (CryptoType.AES, {"result": -95}, AuthError, r"no method to authenticate client\.admin with: error -95; for"),
        (CryptoType.AES, {"protocol": 1}, AuthError, "it chose method 1; offered was cephx"),
        (CryptoType.AES, {"global_id": 1 << 63}, ProtocolViolation, "global id 9223372036854775808, over 63 bits"),
        (CryptoType.AES, {"result_bl": b""}, MalformedMessage, "ServerChallenge"),
        (None, {"protocol": 2}, AuthError, "it chose method 2; offered was none"),
        (None, {"result": -13}, AuthError, r"does not take client\.admin unauthenticated"),
    ],
)
def test_a_monitor_that_does_not_let_us_in(
    type: CryptoType | None, values: dict[str, Any], error: type[CephError], text: str
) -> None:
    pair = mon(type)
    pair.server.twist_auth = replying(**values)

    with pytest.raises(error, match=text):
        pair.meet()
    assert pair.owner.ready == 0


def test_a_monitor_that_skips_the_proof_is_not_believed() -> None:
    pair = mon()
    pair.server.twist_auth = replying(result=0, result_bl=b"\x01" + bytes(8), global_id=1)

    with pytest.raises(MalformedMessage, match="AuthenticateReply"):
        pair.meet()
    assert pair.tickets.global_id == 0
