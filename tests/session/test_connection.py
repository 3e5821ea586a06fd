"""A connection to a monitor or an MDS: the handshake, every way it can fail, and the messages after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cephcaps.auth.cephx import TicketRefused
from cephcaps.errors import AuthError, CephError, ConnectionFailed, MalformedMessage, ProtocolViolation
from cephcaps.messenger.connection import Phase
from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.framing import FrameWriter
from cephwire.control import (
    IDENT_LOSSY,
    Ack,
    AuthBadMethod,
    AuthDone,
    AuthMethod,
    AuthReplyMore,
    AuthRequest,
    AuthRequestMore,
    AuthSignature,
    ClientIdent,
    ConMode,
    Hello,
    IdentMissingFeatures,
    Keepalive2,
    Keepalive2Ack,
    SessionReset,
    Wait,
)
from cephwire.entity import AddrType, EntityAddr, EntityType, addresses
from cephwire.features import CLIENT_FEATURES, REQUIRED_FEATURES
from cephwire.frames import FRAME_COMPRESSED, BannerFeature, LateStatus, Tag
from cephwire.keys import CryptoType
from cephwire.mon_messages import MConfig, MonGetMap
from cephwire.session import ClientSession, SessionOp
from tests.session.handshakes import (
    COOKIE,
    MDS_ADDR,
    MON_ADDR,
    NONCE,
    PAIRS,
    Pair,
    each_handshake,
    fresh,
    mds_pair,
    mon_pair,
)
from tests.session.peers import CLIENT_ADDR, banner, controls, flushed

CRC_EPILOGUE = 13
both_modes = pytest.mark.parametrize("mode", ConMode)
both_kinds = pytest.mark.parametrize("kind", PAIRS)


# The handshake


@each_handshake
@pytest.mark.parametrize("step", [0, 1, 31])
def test_a_handshake_is_completed_however_the_bytes_are_cut(
    kind: EntityType, mode: ConMode, type: CryptoType, step: int
) -> None:
    pair = fresh(kind, mode, type).meet(step=step)

    assert pair.client.phase is Phase.READY
    assert pair.owner.ready == 1
    assert pair.client.con_mode is mode
    assert len(pair.server.got_frames(AuthSignature)) == 1
    assert len(pair.server.got_frames(ClientIdent)) == 1


@both_kinds
def test_a_handshake_without_authentication_is_completed(kind: EntityType) -> None:
    pair = PAIRS[kind](type=None).meet()

    assert pair.client.phase is Phase.READY
    assert pair.server.login.name == "client.admin"
    assert pair.server.got_frames(AuthSignature) == [AuthSignature(bytes(32))]


@both_kinds
def test_everything_is_written_as_one_transcript_that_plays_again(kind: EntityType) -> None:
    first, second = fresh(kind, ConMode.SECURE, CryptoType.AES), fresh(kind, ConMode.SECURE, CryptoType.AES)

    first.meet()
    second.client.receive(bytes(first.server.sent), 0.0)

    assert second.client.phase is Phase.READY


@both_kinds
def test_the_transcript_is_not_kept_once_it_is_signed(kind: EntityType) -> None:
    pair = PAIRS[kind]().meet()
    signed = len(pair.client._sent)

    pair.client.keepalive(1)
    pair.server.write(Keepalive2(1))
    pair.receive()

    assert pair.client._reader.transcript is None
    assert len(pair.client._sent) == signed


def test_the_client_says_who_it_is_to_a_monitor() -> None:
    pair = mon_pair().meet()
    [hello] = pair.server.got_frames(Hello)
    [ident] = pair.server.got_frames(ClientIdent)

    assert hello == Hello(EntityType.CLIENT, MON_ADDR)
    assert addresses(ident.addrs) == (EntityAddr.make(AddrType.MSGR2, CLIENT_ADDR.host, 0, NONCE),)
    assert ident.target_addr == MON_ADDR
    assert ident.gid == pair.tickets.global_id == 4100
    assert (ident.global_seq, ident.flags, ident.cookie) == (1, IDENT_LOSSY, 0)
    assert (ident.supported_features, ident.required_features) == (CLIENT_FEATURES, REQUIRED_FEATURES)
    assert pair.client.link.lossy


def test_the_client_keeps_its_session_with_an_mds() -> None:
    pair = mds_pair().meet()
    [ident] = pair.server.got_frames(ClientIdent)

    assert ident.target_addr == MDS_ADDR
    assert (ident.gid, ident.flags, ident.cookie) == (4100, 0, COOKIE)
    assert not pair.client.link.lossy


def test_every_attempt_counts_in_the_global_seq() -> None:
    first = mon_pair().meet()
    second = mon_pair()
    second.client._instance = first.client._instance

    second.meet()

    assert [pair.server.got_frames(ClientIdent)[0].global_seq for pair in (first, second)] == [1, 2]


def test_the_server_decides_whether_the_session_is_kept() -> None:
    pair = mds_pair()
    pair.server.answers[ClientIdent] = lambda frame: mon_pair().server.ident(addr=MDS_ADDR)

    assert pair.meet().client.link.lossy


@pytest.mark.parametrize(
    "greeting", [banner(3), banner(tail=b"of a newer peer"), banner(1, 1)], ids=["compression", "longer", "requires us"]
)
def test_banners_of_newer_peers_are_accepted(greeting: bytes) -> None:
    assert mon_pair().meet(greeting=greeting).client.phase is Phase.READY


# Refusals


def refused(pair: Pair, error: type[CephError], text: str, *, greeting: bytes | None = None) -> None:
    """The handshake fails with ``error``, which says ``text``; nothing reaches the owner."""
    with pytest.raises(error, match=text):
        pair.meet(greeting=greeting)
    assert pair.owner.ready == 0
    assert not pair.owner.messages


@pytest.mark.parametrize(
    ("greeting", "error", "text"),
    [
        (b"ceph v027" + bytes(272), ConnectionFailed, r"it speaks messenger v1 only: .* v2 port"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ConnectionFailed, r"it is no Ceph daemon: it began with b'SSH"),
        (bytes(300), ConnectionFailed, r"it is no Ceph daemon"),
        (banner(0), ConnectionFailed, r"mon at v2:192\.0\.2\.1:3300/0 speaks another messenger: supports 0x0"),
        (banner(BannerFeature.COMPRESSION), ConnectionFailed, r"192\.0\.2\.1:3300/0 .* msgr2\.1 \(Ceph 14"),
        (banner(5, 4), ConnectionFailed, r"192\.0\.2\.1:3300/0 speaks another messenger: .* requires 0x4"),
        (banner(3, 2), ConnectionFailed, r"192\.0\.2\.1:3300/0 requires on-wire compression, which is not spoken here"),
        (b"ceph v2\n\xff\xff" + bytes(300), MalformedMessage, "BannerHeader.payload_len at byte 8: 65535, over 4096"),
        (b"ceph v2\n\x08\x00" + bytes(300), MalformedMessage, "Banner.required at byte 8"),
    ],
    ids=["v1", "ssh", "zeros", "revision 0", "no revision 1", "needs more", "needs compression", "endless", "short"],
)
def test_a_port_that_does_not_speak_our_messenger_is_left(greeting: bytes, error: type[CephError], text: str) -> None:
    refused(mon_pair(), error, text, greeting=greeting)


def answering(kind: type[Any], *answer: Any) -> Callable[[Pair], None]:
    def change(pair: Pair) -> None:
        pair.server.answers[kind] = lambda frame: answer

    return change


def setting(name: str, value: Any) -> Callable[[Pair], None]:
    return lambda pair: setattr(pair.server, name, value)


NO_KEY = AuthBadMethod(AuthMethod.CEPHX, -13, (AuthMethod.CEPHX,), (ConMode.CRC,))
NO_METHOD = AuthBadMethod(AuthMethod.CEPHX, -95, (AuthMethod.NONE, AuthMethod.GSS, 9), (ConMode.CRC,))
ELSEWHERE = EntityAddr.make(AddrType.MSGR2, "192.0.2.1", 3300, 1)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (setting("kind", EntityType.OSD), ConnectionFailed, r"it is no mon but an osd"),
        (
            lambda pair: answering(ClientIdent, pair.server.ident(addr=ELSEWHERE))(pair),
            ConnectionFailed,
            r"192\.0\.2\.1:3300/0 calls itself v2:192\.0\.2\.1:3300/1: it is not the daemon we want",
        ),
        (
            answering(ClientIdent, IdentMissingFeatures(1 << 62 | 1 << 5)),
            ConnectionFailed,
            r"mon at v2:192\.0\.2\.1:3300/0 requires features we lack: bits 5, 62",
        ),
        (
            lambda pair: answering(ClientIdent, pair.server.ident(required=1 << 62))(pair),
            ConnectionFailed,
            r"mon at v2:192\.0\.2\.1:3300/0 requires features we lack: bits 62",
        ),
        (
            answering(AuthRequestMore, AuthDone(1, 7, b"")),
            ProtocolViolation,
            r"mon at v2:192\.0\.2\.1:3300/0 chose connection mode 7",
        ),
        (
            answering(AuthRequestMore, AuthDone(1, ConMode.SECURE, b"")),
            ProtocolViolation,
            r"mon at v2:192\.0\.2\.1:3300/0 chose connection mode 2; offered: \(<ConMode\.CRC: 1>,\)",
        ),
        (setting("forged", bytes(32)), ProtocolViolation, r"mon at .* signed another handshake than the one we had"),
        (answering(AuthRequest, AuthDone(1, ConMode.CRC, b"")), AuthError, "without proof of its key"),
        (answering(AuthRequest, NO_KEY), AuthError, r"client\.admin is unknown to the cluster, or its key is wrong"),
        (
            answering(AuthRequest, NO_METHOD),
            AuthError,
            r"no method to authenticate client\.admin with: error -95; it allows none, gss, 9, modes \[1\]",
        ),
        (answering(AuthRequest, Wait()), ProtocolViolation, "mon at .* sent WAIT while we awaited authentication"),
        (answering(AuthSignature, SessionReset(1)), ProtocolViolation, "mon at .* sent SESSION_RESET while we awaited"),
        (
            answering(AuthRequest, AuthReplyMore(b"\x01")),
            MalformedMessage,
            "ServerChallenge.server_challenge at byte 1",
        ),
        (answering(AuthRequestMore, AuthDone(1, ConMode.CRC, b"")), MalformedMessage, "CephxResponse"),
    ],
)
def test_a_monitor_that_goes_wrong_is_left(change: Callable[[Pair], None], error: type[CephError], text: str) -> None:
    pair = mon_pair()
    change(pair)

    refused(pair, error, text)


@both_kinds
def test_a_daemon_that_started_anew_under_its_old_address_does_not_take_us_for_its_own(kind: EntityType) -> None:
    pair = PAIRS[kind]()
    pair.server.addr = EntityAddr(pair.server.addr.type, 42, pair.server.addr.sockaddr)  # with another nonce

    pair.meet()

    assert pair.server.closed
    assert pair.client.phase is Phase.IDENT
    assert pair.owner.ready == 0


def test_secure_mode_needs_a_connection_secret() -> None:
    pair = mon_pair(ConMode.SECURE)
    login = pair.server.login
    pair.server.answers[AuthRequest] = lambda frame: login.request(frame, ConMode.CRC)

    def claiming_secure_mode(frame: AuthRequestMore) -> bytes:
        done = AuthDone(1, ConMode.SECURE, login.more(frame).payload)
        return raw(Tag.AUTH_DONE, controls[Tag.AUTH_DONE].encode(done))

    pair.server.answers[AuthRequestMore] = claiming_secure_mode

    refused(pair, ProtocolViolation, r"mon at .* chose secure mode and gave no connection secret")


def test_a_service_that_refuses_the_ticket_can_be_told_from_one_that_does_not_speak_cephx() -> None:
    pair = mds_pair()
    answering(AuthRequest, NO_KEY)(pair)
    refused(pair, TicketRefused, r"refused the MDS ticket of client\.admin")

    pair = mds_pair()
    answering(AuthRequest, NO_METHOD)(pair)
    refused(pair, AuthError, "no method to authenticate")


@pytest.mark.parametrize("kind", PAIRS)
def test_nobody_may_skip_the_signature(kind: EntityType) -> None:
    pair = PAIRS[kind](ConMode.SECURE)
    pair.server.forged = b"\x01" * 32

    refused(pair, ProtocolViolation, "someone changed it on the way")


def test_method_none_takes_no_questions() -> None:
    pair = mon_pair(type=None)
    answering(AuthRequest, AuthReplyMore(b""))(pair)
    refused(pair, AuthError, "asks for proof under method none")

    pair = mon_pair(type=None)
    answering(AuthRequest, NO_KEY)(pair)
    refused(pair, AuthError, r"does not take client\.admin unauthenticated \(error -13\)")


# Frames in the wrong place


def raw(tag: int, *segments: bytes) -> bytes:
    """A frame with any tag and any segments, as it travels in crc mode."""
    return FrameWriter().frame(tag, segments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Hello, AuthRequest, AuthRequestMore, AuthSignature])
def test_a_message_before_the_connection_is_made_ends_it(kind: type[Any]) -> None:
    pair = mon_pair()
    pair.server.send(MConfig({}))
    message = flushed(pair.server.out)
    answering(kind, message)(pair)

    refused(pair, ProtocolViolation, "mon at .* sent frame 17 of 2 segments")


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (raw(0, b""), "sent frame 0 of 1 segments"),
        (raw(200, b"x"), "sent frame 200 of 1 segments"),
        (raw(Tag.ACK, bytes(8), b"more"), "sent frame 20 of 2 segments"),
        (raw(Tag.HELLO, controls[Tag.HELLO].encode(Hello(1, CLIENT_ADDR))), "sent HELLO while we awaited messages"),
        (raw(Tag.WAIT, b""), "sent WAIT while we awaited messages"),
        (raw(Tag.COMPRESSION_DONE, bytes(5)), "sent COMPRESSION_DONE while we awaited messages"),
        (raw(Tag.AUTH_DONE, controls[Tag.AUTH_DONE].encode(AuthDone(1, 1, b""))), "sent AUTH_DONE while we awaited"),
        (raw(Tag.SESSION_RECONNECT_OK, bytes(8)), "sent SESSION_RECONNECT_OK while we awaited messages"),
    ],
)
def test_a_frame_that_does_not_belong_there_ends_the_connection(frame: bytes, text: str) -> None:
    pair = mon_pair().meet()

    with pytest.raises(ProtocolViolation, match=f"mon at .* {text}"):
        pair.client.receive(frame, 1.0)


def test_a_compressed_frame_ends_the_connection() -> None:
    pair = mds_pair().meet()
    pair.server.send(MConfig({}))
    frame = bytearray(flushed(pair.server.out))
    frame[26] |= FRAME_COMPRESSED
    frame[28:32] = crc32c(0, bytes(frame[:28])).to_bytes(4, "little")
    pair.server.out.append(bytes(frame))

    with pytest.raises(MalformedMessage, match=r"Preamble\.flags at byte 26: a compressed frame, which was not"):
        pair.receive()
    assert not pair.owner.messages


def test_a_control_frame_that_is_too_short_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match=r"Ack\.seq at byte 0: needs 8 bytes, got 7"):
        mon_pair().meet().client.receive(raw(Tag.ACK, bytes(7)), 1.0)


# Messages


@each_handshake
def test_messages_go_both_ways(kind: EntityType, mode: ConMode, type: CryptoType) -> None:
    pair = fresh(kind, mode, type).meet()
    session = ClientSession(SessionOp.RENEWCAPS, 5)

    pair.server.send(MConfig({"a": "b"}), tid=9)
    pair.server.send(session, version=1)
    pair.receive()
    pair.client.send(MonGetMap(), tid=7)
    pair.client.send(session, version=1)
    pair.server.receive(flushed(pair.client.out))

    assert pair.owner.messages == [MConfig({"a": "b"}), session]
    assert [(header.seq, header.tid) for header in pair.owner.headers] == [(1, 9), (2, 0)]
    sent = [(header.seq, header.tid, header.version, message) for header, message in pair.server.messages]
    assert sent == [(1, 7, 1, MonGetMap()), (2, 0, 1, session)]


@both_modes
def test_a_message_sent_again_is_dropped_and_a_gap_is_not_minded(mode: ConMode) -> None:
    pair = mds_pair(mode).meet()

    for seq, text in [(1, "first"), (3, "third"), (3, "third again"), (2, "second"), (1, "first again"), (9, "ninth")]:
        pair.server.send(MConfig({"": text}), seq=seq)
    pair.receive()

    assert [message.config[""] for message in pair.owner.messages] == ["first", "third", "ninth"]
    assert pair.client.link.in_seq == 9


def test_messages_of_unknown_type_are_counted_and_acknowledged() -> None:
    pair = mds_pair().meet()

    for number in (7777, 7777, 8888):
        pair.server.send_raw(number, b"whatever")
    pair.receive()

    assert pair.client.unknown == {7777: 2, 8888: 1}
    assert not pair.owner.messages
    assert pair.client.link.in_seq == 3


def test_a_message_we_are_too_old_for_is_malformed() -> None:
    pair = mds_pair().meet()
    pair.server.send_raw(62, bytes(4), version=9, compat=9)

    with pytest.raises(MalformedMessage, match="MConfig: needs a reader of version 9, this one knows 1"):
        pair.receive()


def test_bytes_that_a_newer_peer_adds_are_noted() -> None:
    pair = mds_pair().meet()
    pair.server.send_raw(62, bytes(4) + b"news", version=2)
    pair.receive()

    assert pair.owner.messages == [MConfig({})]
    assert [(left.structure, left.offset, left.size) for left in pair.client.leftover] == [("MConfig", 4, 4)]


def test_a_message_its_sender_gave_up_is_as_if_never_sent() -> None:
    pair = mds_pair().meet()
    pair.server.send(MConfig({"a": "given up"}))
    aborted = bytearray(flushed(pair.server.out))
    aborted[-CRC_EPILOGUE] = LateStatus.ABORTED
    pair.server.send(MConfig({"a": "sent"}), seq=1)

    pair.client.receive(bytes(aborted) + flushed(pair.server.out), 1.0)

    assert pair.owner.messages == [MConfig({"a": "sent"})]


# Acknowledgements and signs of life


@both_modes
def test_messages_that_come_together_get_one_ack(mode: ConMode) -> None:
    pair = mds_pair(mode).meet()

    for count in (3, 1):
        for _ in range(count):
            pair.server.send(MConfig({}))
        pair.receive()
        pair.server.receive(flushed(pair.client.out))

    pair.server.write(Keepalive2(1))  # nothing that is acknowledged
    pair.receive()
    pair.server.receive(flushed(pair.client.out))

    assert pair.server.got_frames(Ack) == [Ack(3), Ack(4)]


def test_a_message_of_ours_is_the_ack_and_no_other_follows() -> None:
    pair = mds_pair().meet()
    pair.owner.message_received = lambda connection, *rest: connection.send(MonGetMap())  # type: ignore[assignment]

    pair.server.send(MConfig({}))
    pair.receive()
    pair.server.receive(flushed(pair.client.out))
    pair.client.receive(b"", 2.0)

    assert [header.ack_seq for header, _ in pair.server.messages] == [1]
    assert not pair.server.got_frames(Ack)
    assert not pair.client.out


def test_a_lossy_connection_is_not_acknowledged() -> None:
    pair = mon_pair().meet()

    pair.server.send(MConfig({}))
    pair.receive()
    pair.client.send(MonGetMap())
    pair.server.receive(flushed(pair.client.out))

    assert [header.ack_seq for header, _ in pair.server.messages] == [0]
    assert not pair.server.got_frames(Ack)


def test_acks_of_the_peer_are_taken() -> None:
    pair = mds_pair().meet()
    for seq in (1, 2, 3):
        pair.client.send(ClientSession(SessionOp.REQUEST_RENEWCAPS, seq), version=1)
    pair.server.write(Ack(2))
    pair.receive()

    assert [outgoing.seq for outgoing in pair.client.link.unacked] == [3]


def test_an_ack_of_what_was_never_sent_ends_the_connection() -> None:
    pair = mds_pair().meet()
    pair.server.write(Ack(1))

    with pytest.raises(ProtocolViolation, match="acknowledges message 1; we have sent 0"):
        pair.receive()


@both_modes
def test_a_keepalive_is_answered_with_its_stamp(mode: ConMode) -> None:
    pair = mon_pair(mode).meet()

    pair.server.write(Keepalive2(1_700_000_000_123_456_789))
    pair.receive()
    pair.server.receive(flushed(pair.client.out))

    assert pair.server.got_frames(Keepalive2Ack) == [Keepalive2Ack(1_700_000_000_123_456_789)]


def test_our_keepalive_comes_back() -> None:
    pair = mon_pair().meet()

    pair.client.keepalive(5_000_000_007)
    pair.server.receive(flushed(pair.client.out))
    pair.receive()

    assert pair.client.keepalive_acked == 5_000_000_007
    assert pair.client.last_heard == 1.0
