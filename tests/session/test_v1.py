"""Messenger v1: the handshake with all its answers, what is signed, and a session that goes on over its connections."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.auth.cephx import CephxAuthorizer, TicketRefused
from cephcaps.auth.crypto import CryptoKey
from cephcaps.errors import AuthError, CephError, ConnectionFailed, MalformedMessage, ProtocolViolation
from cephcaps.messenger.connection import Phase
from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.link import Instance, Link
from cephcaps.messenger.v1 import MAX_CONNECTS, BadSignature, ConnectionV1
from cephcaps.messenger.v1_mon import MonConnectionV1
from cephwire.cephx import MON_AUTH_OFFER
from cephwire.codec import Codec
from cephwire.control import AuthMethod
from cephwire.entity import AddrType, EntityAddr, EntityType
from cephwire.features import CLIENT_FEATURES, MSG_ADDR2, MSG_AUTH
from cephwire.frames import MessageFlag
from cephwire.keys import CryptoType
from cephwire.legacy import (
    CONNECT_LOSSY,
    LEGACY_BANNER,
    SERVER_BANNER,
    MsgConnect,
    MsgConnectReply,
    MsgrProtocol,
    MsgrTag,
    ServerBanner,
)
from cephwire.mon_messages import MAuth, MAuthReply, MConfig, MonGetMap, PaxosHeader
from cephwire.session import ClientSession, SessionOp
from tests.session.handshakes import ADMIN, COOKIE, GLOBAL_ID, NONCE, PAIRS, Pair
from tests.session.peers import CLIENT_ADDR, banner, flushed
from tests.session.peers_v1 import U64, PeerV1
from tests.session.test_connection_bytes import LEAVES, leaked

BOTH = (CryptoType.AES, CryptoType.AES256K)
both_keys = pytest.mark.parametrize("type", BOTH)
both_kinds = pytest.mark.parametrize("kind", PAIRS)
each = pytest.mark.parametrize(("kind", "type"), [(kind, type) for kind in PAIRS for type in BOTH])

FOOTER = 21
RENEW = ClientSession(SessionOp.RENEWCAPS, 5)


class Legacy(Pair):
    """Both ends of a connection over messenger v1."""

    client: Any
    server: Any

    def again(self) -> Legacy:
        """The next connection of the same session."""
        return connected(self, self.client._instance, self.client.link, self.server.keeps)


def connected(pair: Pair, instance: Instance, link: Link, keeps: dict[int, Any]) -> Legacy:
    old, kind = pair.server, pair.server.kind
    addr = EntityAddr(AddrType.LEGACY, old.addr.nonce, old.addr.sockaddr)
    server = PeerV1(kind, addr, old.login, ())
    server.keeps = keeps
    gid = pair.tickets.global_id
    client: ConnectionV1
    if kind is EntityType.MON:
        login = getattr(pair.client, "_login", None) or pair.client._authenticator  # type: ignore[attr-defined]
        client = MonConnectionV1(pair.owner, instance, login, addr, gid, link)
    else:
        authenticator = pair.client._authenticator  # type: ignore[attr-defined]
        if isinstance(authenticator, CephxAuthorizer):
            authenticator = CephxAuthorizer(pair.tickets, kind, pair.tickets.held[kind])
        client = ConnectionV1(pair.owner, instance, authenticator, kind, addr, gid, link)
    return Legacy(client, server, pair.owner, pair.tickets, pair.keys)  # type: ignore[arg-type]


def legacy(kind: EntityType, type: CryptoType | None = CryptoType.AES) -> Legacy:
    pair = PAIRS[kind](type=type)
    return connected(pair, Instance(NONCE, AddrType.LEGACY), Link(COOKIE if kind is EntityType.MDS else 0), {})


mds = partial(legacy, EntityType.MDS)
mon = partial(legacy, EntityType.MON)


def say(pair: Pair, *messages: Any) -> None:
    for message in messages:
        pair.server.send(message, version=1)
    pair.receive()


def hear(pair: Pair) -> None:
    """The daemon reads what the client has written since."""
    pair.server.receive(flushed(pair.client.out))


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


def twisted(*tags: MsgrTag | int, **values: int) -> Callable[[Legacy], None]:
    """The daemon answers the first connects with these, as often as there are tags."""

    def change(pair: Legacy) -> None:
        left = list(tags)

        def twist(connect: MsgConnect, reply: MsgConnectReply, proof: bytes) -> tuple[MsgConnectReply, bytes]:
            if not left or reply.tag == MsgrTag.CHALLENGE_AUTHORIZER:
                return reply, proof
            size = values.get("authorizer_len", len(proof))
            said = pair.server.reply(left.pop(0), size=size)
            changed = {name: getattr(said, name) for name in said.__struct_fields__} | values
            return MsgConnectReply(**changed), proof[:size]

        pair.server.twist = twist

    return change


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

    with pytest.raises(MalformedMessage, match="CephxResponse"):
        pair.meet()
    assert pair.tickets.global_id == 0


# Signatures


@pytest.mark.parametrize(
    ("type", "size", "signature"),
    [(CryptoType.AES, 16, 0x0970B0016BCE2B40), (CryptoType.AES256K, 32, 0x9233B08DA4ACE9E8)],
)
def test_a_signature_is_what_real_daemons_make_of_the_same(type: CryptoType, size: int, signature: int) -> None:
    key = CryptoKey(type, 0, bytes(range(size)))

    assert key.signature(struct.pack("<8I", 1, 2, 3, 4, 5, 6, 7, 8)) == signature


@both_keys
def test_messages_go_both_ways_signed(type: CryptoType) -> None:
    pair = mds(type).meet()
    say(pair, RENEW, MConfig({"a": "b"}))
    pair.client.send(RENEW, version=1, tid=7)
    hear(pair)

    assert pair.owner.messages == [RENEW, MConfig({"a": "b"})]
    assert [(header.seq, header.tid, message) for header, message in pair.server.messages] == [(1, 7, RENEW)]
    assert all(pair.server.signatures)


@both_keys
def test_a_message_signed_with_another_key_ends_the_connection(type: CryptoType) -> None:
    pair = mds(type).meet()
    pair.server.sign_with = pair.keys.new_key()

    with pytest.raises(
        BadSignature, match=r"MsgFooter\.sig at byte 12: message 1 is not as mds at .* would have signed"
    ):
        say(pair, RENEW)
    assert not pair.owner.messages


def test_a_message_that_is_not_signed_ends_the_connection() -> None:
    pair = mds().meet()
    pair.server.signs = False

    with pytest.raises(BadSignature):
        say(pair, RENEW)


@given(st.sampled_from(BOTH), st.data())
def test_no_bit_of_a_signed_message_changes_unnoticed(type: CryptoType, data: st.DataObject) -> None:
    pair = mds(type).meet()
    pair.server.send(RENEW, version=1)
    message = bytearray(flushed(pair.server.out))
    bit = data.draw(st.integers(8, 8 * len(message) - 1))
    message[bit // 8] ^= 1 << bit % 8

    try:
        pair.client.receive(bytes(message), 1.0)
    except MalformedMessage:
        pass
    else:
        # Its sender may seem to have given it up, and a flag that means nothing is as good as none.
        assert bit // 8 == len(message) - 1 or pair.owner.messages == []
    assert pair.owner.messages in ([], [RENEW])


# Messages


def test_a_message_its_sender_gave_up_is_as_if_never_sent() -> None:
    pair = mds().meet()
    pair.server.send(MConfig({"a": "given up"}))
    aborted = bytearray(flushed(pair.server.out))
    aborted[-1] &= ~MessageFlag.COMPLETE
    pair.server.send(MConfig({"a": "sent"}), seq=1)

    pair.client.receive(bytes(aborted) + flushed(pair.server.out), 1.0)

    assert pair.owner.messages == [MConfig({"a": "sent"})]


def message(pair: Legacy, **changes: int) -> bytearray:
    """A monitor's message with fields of its header changed and the header's crc made to fit."""
    pair.server.send(MConfig({}))
    raw = bytearray(flushed(pair.server.out))
    offsets = {"front_len": 22, "middle_len": 26, "data_len": 30}
    for name, value in changes.items():
        raw[1 + offsets[name] : 5 + offsets[name]] = value.to_bytes(4, "little")
    raw[50:54] = crc32c(0, bytes(raw[1:50])).to_bytes(4, "little")
    return raw


def test_a_length_is_judged_before_anything_is_kept_for_it() -> None:
    for changes in ({"front_len": 0xFFFFFFFF}, {"middle_len": 1 << 28, "data_len": 1}):
        pair = mon().meet()
        with pytest.raises(MalformedMessage, match=r"MsgHeader\.front_len at byte 22: \d+ bytes in .* over 268435456"):
            pair.client.receive(bytes(message(pair, **changes)), 1.0)


def test_damage_is_named() -> None:
    for at, text in ((10, r"MsgHeader\.crc at byte 49"), (54, r"MsgFooter\.front_crc at byte 0: .*, but the 4 bytes")):
        pair = mon().meet()
        damaged = message(pair)
        damaged[at] ^= 1
        with pytest.raises(MalformedMessage, match=text):
            pair.client.receive(bytes(damaged), 1.0)


def test_data_without_a_crc_is_taken_as_it_is() -> None:
    pair = mon().meet()
    raw = message(pair)
    raw[-FOOTER + 8 : -FOOTER + 12] = bytes((1, 2, 3, 4))
    raw[-1] |= MessageFlag.NOCRC
    pair.client.receive(bytes(raw), 1.0)

    assert pair.owner.messages == [MConfig({})]


@pytest.mark.parametrize("tag", [0, MsgrTag.READY, MsgrTag.SEQ, 17, 255])
def test_a_tag_that_does_not_belong_there_ends_the_connection(tag: int) -> None:
    with pytest.raises(MalformedMessage, match=f"MsgrTag at byte 0: {int(tag)} begins nothing"):
        mds().meet().client.receive(bytes((tag,)), 1.0)


def test_a_peer_may_say_that_it_closes() -> None:
    with pytest.raises(ConnectionFailed, match="the peer closes the connection"):
        mds().meet().client.receive(bytes((MsgrTag.CLOSE,)), 1.0)


def test_signs_of_life() -> None:
    pair = mon().meet()
    stamp = bytes((1, 2, 3, 4, 255, 255, 255, 255))  # more nanoseconds than there are
    pair.server.put(bytes((MsgrTag.KEEPALIVE, MsgrTag.KEEPALIVE2)) + stamp)
    pair.receive()
    pair.client.keepalive(5_000_000_007)
    hear(pair)
    pair.receive()

    assert pair.server.stamps_acked == [stamp]
    assert pair.client.keepalive_acked == 5_000_000_007
    assert pair.client.last_heard == 1.0


# Acknowledgements


def test_messages_that_come_together_get_one_ack_and_no_message_of_ours_is_one() -> None:
    pair = mds().meet()
    pair.owner.message_received = lambda connection, *rest: connection.send(MonGetMap())  # type: ignore[assignment]
    say(pair, RENEW, RENEW, RENEW)
    hear(pair)
    pair.client.receive(b"", 2.0)

    assert pair.server.acks == [3]
    assert not pair.client.out


def test_a_lossy_connection_is_not_acknowledged() -> None:
    pair = mon().meet()
    say(pair, RENEW)
    hear(pair)

    assert pair.server.acks == []


def test_acks_of_the_peer_are_taken() -> None:
    pair = mds().meet()
    for seq in (1, 2, 3):
        pair.client.send(ClientSession(SessionOp.REQUEST_RENEWCAPS, seq), version=1)
    pair.server.put(bytes((MsgrTag.ACK,)) + U64.pack(2))
    pair.receive()
    assert [outgoing.seq for outgoing in pair.client.link.unacked] == [3]

    pair.server.put(bytes((MsgrTag.ACK,)) + U64.pack(4))
    with pytest.raises(ProtocolViolation, match="acknowledges message 4; we have sent 3"):
        pair.receive()


# A session that goes on


def numbered(*seqs: int) -> list[ClientSession]:
    return [ClientSession(SessionOp.RENEWCAPS, seq) for seq in seqs]


def test_a_session_goes_on_with_what_either_side_has_not_got() -> None:
    first = mds()
    first.server.first_seq = 1000
    first.meet()
    say(first, *numbered(1, 2))
    for one in numbered(11, 12):
        first.client.send(one, version=1)
    hear(first)
    for one in numbered(13):  # neither of these arrives
        first.client.send(one, version=1)
        first.server.send(one, version=1)
    first.client.close()

    second = first.again()
    second.meet()

    assert [connect.connect_seq for connect, _ in second.server.connects] == [2, 2]
    assert second.client.link.connect_seq == 3
    assert first.owner.messages == numbered(1, 2, 13)
    assert first.server.got(ClientSession) == numbered(11, 12)
    assert second.server.got(ClientSession) == numbered(13)
    assert [header.seq for header in first.owner.headers] == [1001, 1002, 1003]


def test_what_comes_again_is_taken_once() -> None:
    first = mds().meet()
    say(first, *numbered(1, 2))
    first.client.close()
    kept = first.server.keeps[NONCE]
    forgetful = list(kept.unacked)

    second = first.again()
    second.server.start()
    kept.acknowledged = lambda seq: None
    second.meet(greeting=b"")

    assert len(forgetful) == 2
    assert first.owner.messages == numbered(1, 2)


def test_an_attempt_that_fails_counts_for_nothing() -> None:
    first = mds().meet()
    first.client.close()
    failed = first.again()
    failed.server.settle = lambda connect: (MsgrTag.WAIT, {})
    with pytest.raises(ConnectionFailed):
        failed.meet()

    second = failed.again().meet()

    assert [connect.connect_seq for connect, _ in second.server.connects] == [2, 2]
    assert second.client.phase is Phase.READY


def test_a_peer_that_counts_further_is_followed() -> None:
    first = mds().meet()
    first.client.close()
    first.server.keeps[NONCE].connect_seq = 7

    second = first.again().meet()

    assert [connect.connect_seq for connect, _ in second.server.connects] == [2, 2, 8, 8]
    assert len(set(second.server.login.nonces)) == 2 + 1, "each connect after the first has an authorizer of its own"
    assert second.client.link.connect_seq == 9


def test_a_peer_that_has_seen_more_attempts_is_outbid() -> None:
    pair = mds()
    pair.server.global_seq = 40
    pair.meet()

    assert [connect.global_seq for connect, _ in pair.server.connects] == [1, 1, 41, 41]
    assert pair.client._instance.global_seq == 41


def test_a_peer_that_has_forgotten_the_session_gets_a_new_one() -> None:
    first = mds().meet()
    say(first, RENEW)
    first.client.send(RENEW, version=1)
    first.client.close()
    first.server.keeps.clear()

    second = first.again().meet()

    assert first.owner.resets == 1
    assert [connect.connect_seq for connect, _ in second.server.connects] == [2, 2, 0, 0]
    assert (second.client.link.connect_seq, second.client.link.in_seq, second.client.link.out_seq) == (1, 0, 0)
    assert not second.server.messages
    assert second.client.phase is Phase.READY


def test_only_who_can_read_our_ticket_makes_us_forget_a_session() -> None:
    first = mds().meet()
    first.client.close()
    second = first.again()
    twisted(MsgrTag.RESETSESSION, authorizer_len=0)(second)

    with pytest.raises(MalformedMessage, match="AUTHORIZER_REPLY"):
        second.meet()
    assert first.owner.resets == 0


def test_an_owner_that_closes_on_a_reset_has_nothing_more_written() -> None:
    first = mds().meet()
    first.client.close()
    first.server.keeps.clear()
    second = first.again()
    first.owner.connection_reset = lambda connection, now: connection.close()  # type: ignore[method-assign]
    second.meet()

    assert [connect.connect_seq for connect, _ in second.server.connects] == [2, 2]
    assert not second.client.out


# Any bytes


@cache
def recorded(kind: EntityType, type: CryptoType) -> bytes:
    """All a daemon says to `legacy`'s client until the connection is made, and two messages."""
    pair = legacy(kind, type).meet()
    say(pair, MConfig({"a": "b"}), RENEW)
    return bytes(pair.server.sent)


legacies = st.tuples(st.sampled_from(list(PAIRS)), st.sampled_from(BOTH))


def outcome(pair: Legacy, data: bytes) -> str:
    said, became = "", ""
    try:
        pair.client.receive(data, 0.0)
        became = pair.client.phase.name
    except LEAVES as error:
        said, became = str(error), type(error).__name__
    assert not leaked(said, pair.keys.secrets)
    return became


@given(legacies, st.binary(max_size=600))
def test_any_bytes_are_refused_or_not_enough(handshake: tuple[Any, ...], noise: bytes) -> None:
    for start in (b"", LEGACY_BANNER, recorded(*handshake)[:281]):
        assert outcome(legacy(*handshake), start + noise) != Phase.READY.name


@given(legacies, st.data())
def test_a_handshake_cut_anywhere_waits_for_the_rest(handshake: tuple[Any, ...], data: st.DataObject) -> None:
    whole = recorded(*handshake)
    cut = data.draw(st.integers(0, len(whole)))
    pair = legacy(*handshake)

    assert outcome(pair, whole[:cut]) in Phase.__members__
    assert outcome(pair, whole[cut:]) == Phase.READY.name
    assert pair.owner.messages == [MConfig({"a": "b"}), RENEW]


@given(legacies, st.data())
def test_any_damage_is_refused_with_an_error_meant_for_it(handshake: tuple[Any, ...], data: st.DataObject) -> None:
    damaged = bytearray(recorded(*handshake))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    pair = legacy(*handshake)

    outcome(pair, bytes(damaged))

    assert all(message in (MConfig({"a": "b"}), RENEW) for message in pair.owner.messages)


@each
def test_nothing_shows_a_secret(kind: EntityType, type: CryptoType) -> None:
    pair = legacy(kind, type).meet()
    client = pair.client
    shown = [client, client._authenticator, client._session_key, client.link, getattr(client, "_login", None)]
    shown += [pair.tickets, *pair.tickets.held.values()]

    assert len(pair.keys.secrets) >= 5
    for value in shown:
        assert not leaked(f"{value!r} {value}", pair.keys.secrets)


def test_a_recording_has_nothing_of_the_login() -> None:
    pair = mon()
    heard: list[int] = []
    pair.client.tap = lambda sent, header, *segments: heard.append(header.type)
    pair.meet()
    say(pair, MConfig({}))
    pair.client.send(MonGetMap())

    assert heard == [62, 5]
