"""Messenger v1 after the handshake: what is signed, messages, and a session that goes on over its connections."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.auth.crypto import CryptoKey
from cephcaps.errors import ConnectionFailed, MalformedMessage, ProtocolViolation
from cephcaps.messenger.connection import Phase
from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.v1_stream import BadSignature
from cephwire.entity import EntityType
from cephwire.frames import MessageFlag
from cephwire.keys import CryptoType
from cephwire.legacy import LEGACY_BANNER, MsgrTag
from cephwire.mon_messages import MConfig, MonGetMap
from cephwire.session import ClientSession, SessionOp
from tests.session.handshakes import NONCE, PAIRS
from tests.session.handshakes_v1 import RENEW, Legacy, hear, legacy, recorded, say, twisted
from tests.session.peers import flushed
from tests.session.peers_v1 import U64
from tests.session.test_connection_bytes import LEAVES, leaked

BOTH = (CryptoType.AES, CryptoType.AES256K)
both_keys = pytest.mark.parametrize("type", BOTH)
each = pytest.mark.parametrize(("kind", "type"), [(kind, type) for kind in PAIRS for type in BOTH])

FOOTER = 21
mds = partial(legacy, EntityType.MDS)
mon = partial(legacy, EntityType.MON)


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

    assert [connect.connect_seq for connect, _ in second.server.connects] == [2, 2, 8]
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
    assert [connect.connect_seq for connect, _ in second.server.connects] == [2, 2, 0]
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
