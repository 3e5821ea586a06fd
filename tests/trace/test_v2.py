"""Messenger v2 read passively: whole conversations, gaps, damage, sessions that go on, and what is none of it."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.framing import FrameWriter
from cephcaps.trace import v2
from cephcaps.trace.items import Traced
from cephcaps.trace.v2 import HEADER_SIZE, unpack_header
from cephcaps.trace.v2_side import MAX_FRAME
from cephwire.caps import CapOp
from cephwire.codec import Codec
from cephwire.control import (
    Ack,
    ClientIdent,
    CompressionDone,
    ConMode,
    Hello,
    Keepalive2,
    ServerIdent,
    SessionReconnect,
    SessionReconnectOk,
    SessionReset,
)
from cephwire.entity import AddrType, AddrVec, EntityAddr, EntityType
from cephwire.frames import BANNER_PREFIX, MESSAGE_HEADER, MessageHeader, Tag
from cephwire.keys import CryptoType
from cephwire.messages import BY_NUMBER
from cephwire.session import ClientSession, SessionOp
from tests.session import samples
from tests.session.handshakes import GLOBAL_ID, Pair, mds_pair, mon_pair
from tests.session.peers import banner
from tests.trace.overheard import (
    CLIENT,
    DAEMON,
    DOWN,
    UP,
    Overheard,
    Piece,
    Reader,
    control,
    cut,
    direction,
    is_subsequence,
    message,
    overheard,
    with_tickets,
)

WAYS = (UP, DOWN)
seeds = st.integers(0, 1 << 32)
KINDS = [(mode, type) for mode in ConMode for type in (CryptoType.AES, CryptoType.AES256K)] + [(ConMode.CRC, None)]
each_kind = pytest.mark.parametrize(("mode", "type"), KINDS)
COOKIE, SERVER_COOKIE = 0xC0, 0x5C
CLIENT_ADDRS = AddrVec((EntityAddr.make(AddrType.MSGR2, "192.0.2.7", 0, 99),))
DAEMON_ADDR = EntityAddr.make(AddrType.MSGR2, "192.0.2.2", 6800, 7)
RENEW = ClientSession(SessionOp.REQUEST_RENEWCAPS, 1)
RENEWED = ClientSession(SessionOp.RENEWCAPS, 1)
BANNERS = [(UP, banner()), (DOWN, banner())]
GREETING = [
    *BANNERS,
    (UP, control(Hello(EntityType.CLIENT, DAEMON_ADDR))),
    (DOWN, control(Hello(EntityType.MDS, CLIENT_ADDRS.addrs[0]))),
]
IDENTS = [
    (UP, control(ClientIdent(CLIENT_ADDRS, DAEMON_ADDR, 4123, 1, 0, 0, 0, COOKIE))),
    (DOWN, control(ServerIdent(AddrVec((DAEMON_ADDR,)), 3, 1, 0, 0, 0, SERVER_COOKIE))),
]


@cache
def conversation(mode: ConMode, type: CryptoType | None = CryptoType.AES, rounds: int = 1) -> tuple[Pair, Overheard]:
    pair = mds_pair(mode, type)
    return pair, overheard(pair, rounds=rounds)


def lost_sizes(reader: Reader) -> int:
    return sum(problem.size for problem in reader.problems)


# Whole conversations.


@each_kind
def test_a_conversation_with_an_mds_is_read_as_it_was_held(mode: ConMode, type: CryptoType | None) -> None:
    pair, heard = conversation(mode, type)
    reader = with_tickets(pair)
    flow = reader.read(heard.pieces)
    assert reader.problems == []
    for way in WAYS:
        assert reader.way(way) == heard.way(way)
    assert all(item.flow is flow and not item.leftover and item.error is None for item in reader.traced)
    assert not any(item.resent for item in reader.traced)
    assert (flow.client, flow.daemon, flow.messenger, flow.secure) == (CLIENT, DAEMON, 2, mode is ConMode.SECURE)
    assert (flow.client_id, flow.daemon_type, flow.daemon_num) == (GLOBAL_ID, EntityType.MDS, 0)


@each_kind
def test_a_conversation_with_a_monitor_is_read_as_it_was_held(mode: ConMode, type: CryptoType | None) -> None:
    pair = mon_pair(mode, type)
    heard = overheard(pair)
    reader = Reader(pair.keys.principals)
    flow = reader.read(heard.pieces)
    assert reader.problems == []
    for way in WAYS:
        assert reader.way(way) == heard.way(way)
    assert (flow.client_id, flow.daemon_type, flow.daemon_num) == (GLOBAL_ID, EntityType.MON, 0)


def test_a_message_has_the_time_and_the_segments_of_the_wire() -> None:
    _, heard = conversation(ConMode.CRC)
    reader = Reader()
    reader.read(heard.pieces)
    times = [item.ns for item in reader.traced]
    assert times == sorted(times)
    caps = reader.traced[[item.header.type for item in reader.traced].index(samples_number("ClientCaps"))]
    front, middle, data = caps.segments
    assert (middle, data) == (b"in the middle segment", b"")
    assert front in direction(heard.pieces, caps.to_daemon)


def samples_number(name: str) -> int:
    return {kind.name: kind.number for kind in BY_NUMBER.values()}[name]


@given(seed=seeds, mode=st.sampled_from(ConMode))
def test_it_does_not_matter_how_the_bytes_are_cut(seed: int, mode: ConMode) -> None:
    pair, heard = conversation(mode)
    reader = with_tickets(pair)
    sizes = random.Random(seed)
    reader.read(cut(heard.pieces, lambda: sizes.choice((1, 2, 31, 97, 1448))))
    assert reader.problems == []
    for way in WAYS:
        assert reader.way(way) == heard.way(way)


def test_ends_that_were_guessed_the_wrong_way_round_are_exchanged() -> None:
    _, heard = conversation(ConMode.CRC)
    reader = Reader()
    flow = reader.read([(not way, data) for way, data in heard.pieces], DAEMON, CLIENT)
    assert (flow.client, flow.daemon) == (CLIENT, DAEMON)
    for way in WAYS:
        assert reader.way(way) == heard.way(way)


def test_a_daemon_that_connects_gives_the_flow_no_client_id() -> None:
    reader = Reader()
    pieces = [
        *BANNERS,
        (UP, control(Hello(EntityType.MDS, DAEMON_ADDR))),
        (DOWN, control(Hello(EntityType.OSD, DAEMON_ADDR))),
        *IDENTS,
    ]
    flow = reader.read(pieces)
    assert (flow.client_id, flow.daemon_type, flow.daemon_num) == (None, EntityType.OSD, 3)


def test_the_header_is_laid_out_as_its_schema_says() -> None:
    header = MessageHeader(1 << 60, 2 << 60, 3, 4, 5, 6, 7, 8 << 60, 9, 10)
    raw = Codec(MESSAGE_HEADER).encode(header)
    assert len(raw) == HEADER_SIZE
    assert MessageHeader(*unpack_header(raw)) == header


# Messages that are not as they should be.


def test_a_malformed_message_is_told_and_the_next_one_read() -> None:
    bad = message(1, number=samples_number("ClientCaps"), segments=(b"too short",), version=12)
    reader = Reader()
    reader.read([*GREETING, *IDENTS, (DOWN, bad + message(2, RENEWED))])
    first, second = reader.traced
    assert (first.message, first.segments) == (None, (b"too short", b"", b""))
    assert "ClientCaps" in str(first.error)
    assert (second.message, second.error) == (RENEWED, None)


def test_a_message_of_an_unknown_type_has_its_segments() -> None:
    reader = Reader()
    reader.read([*GREETING, *IDENTS, (DOWN, message(1, number=999, segments=(b"front", b"", b"data")))])
    (item,) = reader.traced
    assert (item.message, item.error, item.segments) == (None, None, (b"front", b"", b"data"))


def test_bytes_that_no_schema_explains_are_left_over() -> None:
    renewal = BY_NUMBER[samples_number("ClientSession")].encode(RENEWED)[0]
    reader = Reader()
    raw = message(1, number=samples_number("ClientSession"), segments=(renewal + b"more",), version=7)
    reader.read([*GREETING, *IDENTS, (DOWN, raw)])
    (item,) = reader.traced
    assert [left.size for left in item.leftover] == [4]


def test_a_header_that_is_too_short_is_a_problem_and_not_the_end() -> None:
    reader = Reader()
    short = FrameWriter().frame(Tag.MESSAGE, [b"short"])
    reader.read([*GREETING, *IDENTS, (DOWN, short + message(1, RENEWED))])
    assert reader.kinds == ["malformed"]
    assert [item.message for item in reader.traced] == [RENEWED]


def test_a_message_that_its_sender_gave_up_is_left_out() -> None:
    given_up = bytearray(message(1, RENEWED))
    given_up[-13] = 0x01
    reader = Reader()
    reader.read([*GREETING, *IDENTS, (DOWN, bytes(given_up) + message(1, RENEWED))])
    assert len(reader.traced) == 1
    assert reader.problems == []


@pytest.mark.parametrize(
    "frame",
    [
        FrameWriter().frame(Tag.ACK, [b"1", b"2"]),
        control(Ack(5)).replace(b"\x14\x01", b"\x63\x01"),
        FrameWriter().frame(Tag.SERVER_IDENT, [b"no ident"]),
    ],
    ids=["two segments", "an unknown tag", "malformed"],
)
def test_an_odd_control_frame_is_a_problem_at_most(frame: bytes) -> None:
    head = frame[:28]
    frame = head + crc32c(0, head).to_bytes(4, "little") + frame[32:]
    reader = Reader()
    reader.read([*GREETING, *IDENTS, (DOWN, frame + message(1, RENEWED))])
    assert set(reader.kinds) <= {"malformed"}
    assert [item.message for item in reader.traced] == [RENEWED]


def test_compressed_frames_are_counted_and_the_others_read() -> None:
    frame = bytearray(message(1, RENEWED))
    frame[26] = 1
    frame[28:32] = crc32c(0, bytes(frame[:28])).to_bytes(4, "little")
    reader = Reader()
    agreed = control(CompressionDone(1, 2))
    reader.read([*GREETING, (DOWN, agreed), *IDENTS, (DOWN, bytes(frame) * 3 + message(4, RENEWED))])
    assert [item.message for item in reader.traced] == [RENEWED]
    assert reader.kinds == ["malformed", "skipped"]
    assert "3 compressed frames" in reader.problems[1].what
    assert reader.problems[1].size == 3 * len(frame)


def test_compression_that_was_declined_is_no_problem() -> None:
    reader = Reader()
    reader.read([*GREETING, (DOWN, control(CompressionDone(0, 0))), *IDENTS, (DOWN, message(1, RENEWED))])
    assert reader.problems == []


def test_messenger_2_0_is_not_read() -> None:
    reader = Reader()
    reader.read([(UP, banner()), (DOWN, banner(0)), (DOWN, b"other frames" * 50), (UP, b"here too" * 50)])
    assert reader.kinds == ["malformed"]
    assert "14.2.11" in reader.problems[0].what


# Gaps in crc mode.


def test_after_a_gap_of_known_size_the_next_frame_is_read() -> None:
    reader = Reader()
    raw = message(1, RENEWED)
    reader.read([*GREETING, *IDENTS, (DOWN, raw[:50]), (DOWN, 20), (DOWN, raw[70:] + message(2, RENEWED))])
    assert [item.header.seq for item in reader.traced] == [2]
    assert reader.kinds == ["gap", "skipped"]
    assert lost_sizes(reader) == len(raw)


def test_a_message_inside_a_message_is_not_taken_for_one() -> None:
    inner = message(77, RENEWED)
    outer = message(1, number=999, segments=(b"x" * 100, b"", inner))
    reader = Reader()
    reader.read([*GREETING, *IDENTS, (DOWN, outer[:90]), (DOWN, 20), (DOWN, outer[110:] + message(2, RENEWED))])
    assert [item.header.seq for item in reader.traced] == [2]


def test_a_gap_in_one_direction_leaves_the_other_alone() -> None:
    _, heard = conversation(ConMode.CRC, rounds=5)
    reader = Reader()
    pieces: list[Piece] = [*heard.pieces]
    lost = max(index for index, (way, data) in enumerate(pieces) if way == DOWN)
    pieces[lost] = (DOWN, None)
    reader.read(pieces)
    assert reader.way(UP) == heard.way(UP)
    assert is_subsequence(reader.way(DOWN), heard.way(DOWN))
    assert len(reader.way(DOWN)) < len(heard.way(DOWN))


def torn(heard: Overheard, seed: int, known: bool) -> list[Piece]:
    """Some stretches are missing."""
    chance = random.Random(seed)
    return [
        (way, data if chance.random() < 0.9 else len(data) if known else None)
        for way, data in cut(heard.pieces, lambda: chance.choice((40, 333, 1448)))
    ]


@given(seed=seeds, known=st.booleans())
def test_what_is_read_of_a_torn_conversation_was_said_in_that_order(seed: int, known: bool) -> None:
    _, heard = conversation(ConMode.CRC, rounds=6)
    pieces = torn(heard, seed, known)
    reader = Reader()
    reader.read(pieces)
    for way in WAYS:
        assert is_subsequence(reader.way(way), heard.way(way))
    gaps = sum(not isinstance(piece, bytes) for _, piece in pieces)
    assert reader.kinds.count("gap") == gaps or "sealed" in reader.kinds


@given(start=st.integers(0, 3000), way=st.sampled_from(WAYS))
def test_a_conversation_joined_late_is_read_from_there(start: int, way: bool) -> None:
    _, heard = conversation(ConMode.CRC, rounds=6)
    whole = direction(heard.pieces, way)
    reader = Reader()
    flow = reader.read([(not way, None), (way, None), (way, whole[start:])])
    said = heard.way(way)
    read = reader.way(flow_way(reader, way))
    assert read == said[len(said) - len(read) :]
    frames_start = len(whole) - len(direction(heard.pieces[-1:], way))
    assert read or start > frames_start - 500
    assert flow.daemon_type in (EntityType.MDS, None)


def flow_way(reader: Reader, way: bool) -> bool:
    """The direction under which ``way`` was read: nothing but messages tells it."""
    return next((item.to_daemon for item in reader.traced), way)


@pytest.mark.parametrize(
    ("body", "from_client"),
    [
        (samples.caps(CapOp.UPDATE, 1, 1), True),
        (samples.caps(CapOp.GRANT, 1, 1), False),
        (RENEW, True),
        (RENEWED, False),
        (samples.reply(samples.RequestOp.GETATTR, samples.inode(1)), False),
    ],
)
@pytest.mark.parametrize("told", WAYS)
def test_a_message_tells_which_end_is_the_client(body: Any, from_client: bool, told: bool) -> None:
    reader = Reader()
    flow = reader.read([(told, None), (told, message(9, body))], "left", "right")
    (item,) = reader.traced
    assert item.to_daemon is from_client
    assert (flow.client, flow.daemon) == (("left", "right") if told == from_client else ("right", "left"))
    assert flow.daemon_type == EntityType.MDS


@given(data=st.data())
def test_flipped_bits_in_crc_mode_cost_a_frame_and_give_no_wrong_one(data: st.DataObject) -> None:
    _, heard = conversation(ConMode.CRC, rounds=3)
    pieces = [(way, bytearray(piece)) for way, piece in heard.pieces]
    hello = 4  # banners and HELLOs may say what they like
    for index in data.draw(st.lists(st.integers(hello, len(pieces) - 1), min_size=1, max_size=3)):
        piece = pieces[index][1]
        bit = data.draw(st.integers(0, 8 * len(piece) - 1))
        piece[bit // 8] ^= 1 << bit % 8
    reader = Reader()
    reader.read([(way, bytes(piece)) for way, piece in pieces])
    for way in WAYS:
        assert is_subsequence(reader.way(way), heard.way(way))
        if reader.way(way) != heard.way(way):
            assert any(problem.to_daemon in (way, None) for problem in reader.problems)


def test_a_frame_longer_than_any_is_none() -> None:
    long = bytearray(message(1, RENEWED))
    long[8:12] = (MAX_FRAME + 1).to_bytes(4, "little")
    long[28:32] = crc32c(0, bytes(long[:28])).to_bytes(4, "little")
    reader = Reader()
    reader.read([*GREETING, *IDENTS, (DOWN, bytes(long) + message(2, RENEWED))])
    assert reader.kinds == ["malformed", "skipped"]
    assert [item.header.seq for item in reader.traced] == [2]
    assert lost_sizes(reader) == len(long)


def test_a_stream_that_ends_within_a_frame_says_so() -> None:
    reader = Reader()
    raw = message(1, RENEWED)
    reader.read([*GREETING, *IDENTS, (DOWN, raw[:-1])])
    (problem,) = reader.problems
    assert (problem.kind, problem.size, problem.to_daemon) == ("gap", len(raw) - 1, DOWN)


# The handshake, out of order or in part.


@each_kind
def test_the_client_may_be_captured_before_the_answer_that_it_had(mode: ConMode, type: CryptoType | None) -> None:
    pair, heard = conversation(mode, type)
    pieces = list(heard.pieces)
    ups = [index for index, (way, _) in enumerate(pieces) if way == UP]
    for index in ups[2:]:  # each before what came down last
        pieces[index - 1], pieces[index] = pieces[index], pieces[index - 1]
    reader = with_tickets(pair)
    reader.read(pieces)
    assert reader.problems == []
    for way in WAYS:
        assert reader.way(way) == heard.way(way)


@pytest.mark.parametrize("way", WAYS)
def test_one_direction_alone_can_be_read_in_crc_mode(way: bool) -> None:
    _, heard = conversation(ConMode.CRC)
    reader = Reader()
    reader.read([piece for piece in heard.pieces if piece[0] == way])
    assert reader.way(way) == heard.way(way)


def without_auth_done(heard: Overheard) -> list[Piece]:
    return [(way, len(data)) if way == DOWN and data[0] == Tag.AUTH_DONE else (way, data) for way, data in heard.pieces]


def test_a_lost_answer_in_the_handshake_does_not_stop_crc_mode() -> None:
    _, heard = conversation(ConMode.CRC)
    pieces = without_auth_done(heard)
    reader = Reader()
    reader.read(pieces)
    assert "sealed" not in reader.kinds
    assert reader.way(UP) == heard.way(UP)
    assert is_subsequence(reader.way(DOWN), heard.way(DOWN))
    assert reader.way(DOWN)


def test_a_lost_answer_in_the_handshake_seals_secure_mode() -> None:
    pair, heard = conversation(ConMode.SECURE)
    pieces = without_auth_done(heard)
    reader = with_tickets(pair)
    reader.read(pieces)
    assert reader.traced == []
    assert reader.kinds == ["gap", "sealed"]
    assert "not whole in the capture" in reader.problems[1].what


def test_what_is_kept_of_a_client_that_waits_for_an_answer_is_bounded() -> None:
    _, heard = conversation(ConMode.CRC)
    ups = [data for way, data in heard.pieces if way == UP]
    reader = Reader()
    stream = reader.stream()
    for data in ups[:3]:
        stream.data(UP, data, 1)
    for _ in range(1000):
        stream.data(UP, bytes(1000), 2)
    assert stream._kept_size <= v2.MAX_KEPT + 2000
    assert stream.held < 10_000


# Secure mode.


@pytest.mark.parametrize("lost", WAYS)
def test_a_secure_stream_ends_at_a_gap_in_that_direction(lost: bool) -> None:
    pair, heard = conversation(ConMode.SECURE, rounds=3)
    pieces: list[Piece] = [*heard.pieces]
    at = [index for index, (way, _) in enumerate(pieces) if way == lost][-3]
    pieces[at] = (lost, 5)
    reader = with_tickets(pair)
    reader.read(pieces)
    assert reader.way(not lost) == heard.way(not lost)
    said, read = heard.way(lost), reader.way(lost)
    assert len(read) < len(said)
    assert read == said[: len(read)]
    gap, rest = reader.problems
    assert (gap.kind, gap.to_daemon, rest.kind) == ("gap", lost, "sealed")
    assert "until the next connection" in gap.what
    assert rest.size == sum(len(data) for way, data in heard.pieces[at + 1 :] if way == lost)


@given(data=st.data())
def test_a_tampered_frame_ends_its_direction(data: st.DataObject) -> None:
    pair, heard = conversation(ConMode.SECURE)
    reader = with_tickets(pair)
    way = data.draw(st.sampled_from(WAYS))
    pieces = list(heard.pieces)
    index = [index for index, (where, _) in enumerate(pieces) if where == way][-1]
    raw = bytearray(pieces[index][1])
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    pieces[index] = (way, bytes(raw))
    reader.read(pieces)
    assert reader.way(not way) == heard.way(not way)
    read = reader.way(way)
    assert read == heard.way(way)[: len(read)]
    assert reader.kinds[0] == "tampered"
    assert all(not isinstance(item, Traced) or item.error is None for item in reader.out)


# Sessions that outlive their connections.


def resumed(*, cookie: int = COOKIE) -> list[Piece]:
    return [
        *GREETING,
        (UP, control(SessionReconnect(CLIENT_ADDRS, cookie, SERVER_COOKIE, 2, 1, 1))),
        (DOWN, control(SessionReconnectOk(1))),
    ]


def marks(reader: Reader) -> list[tuple[bool, int, bool]]:
    return [(item.to_daemon, item.header.seq, item.resent) for item in reader.traced]


FIRST: list[Piece] = [
    *GREETING,
    *IDENTS,
    (UP, message(1, RENEW) + message(2, RENEW)),
    (DOWN, message(1, RENEWED) + message(2, RENEWED)),
]
AGAIN: list[Piece] = [(UP, message(2, RENEW) + message(3, RENEW)), (DOWN, message(2, RENEWED) + message(3, RENEWED))]


def test_what_a_resumed_session_repeats_is_marked() -> None:
    reader = Reader()
    reader.read(FIRST)
    flow = reader.read([*resumed(), *AGAIN], "192.0.2.7:50001")
    assert marks(reader)[4:] == [(UP, 2, True), (UP, 3, False), (DOWN, 2, True), (DOWN, 3, False)]
    assert flow.daemon_num == 3, "no ident says it again"


def test_a_new_session_repeats_nothing() -> None:
    reader = Reader()
    reader.read(FIRST)
    idents = [IDENTS[0], (DOWN, control(ServerIdent(AddrVec((DAEMON_ADDR,)), 3, 1, 0, 0, 0, SERVER_COOKIE + 1)))]
    reader.read([*GREETING, *idents, *AGAIN])
    assert not any(item.resent for item in reader.traced)


def test_an_ident_that_the_client_never_saw_answered_goes_on() -> None:
    reader = Reader()
    reader.read(FIRST)
    reader.read([*GREETING, *IDENTS, *AGAIN])
    assert [item.resent for item in reader.traced[4:]] == [True, False, True, False]


def test_a_session_that_the_server_reset_begins_anew() -> None:
    reader = Reader()
    reader.read(FIRST)
    reset: list[Piece] = [*resumed()[:-1], (DOWN, control(SessionReset(1))), *IDENTS]
    reader.read([*reset, *AGAIN])
    assert not any(item.resent for item in reader.traced)


def test_a_session_of_another_client_is_another() -> None:
    reader = Reader()
    reader.read(FIRST)
    reader.read([*resumed(cookie=COOKIE + 1), *AGAIN])
    assert not any(item.resent for item in reader.traced)


def test_a_session_that_was_joined_late_is_known_again_by_its_hosts() -> None:
    reader = Reader()
    joined: list[Piece] = [(UP, None), (DOWN, None), *FIRST[-2:]]
    reader.read(joined)
    reader.read([*resumed(), *AGAIN], "192.0.2.7:50001")
    assert [item.resent for item in reader.traced[4:]] == [True, False, True, False]


def test_of_two_sessions_between_the_same_hosts_that_were_joined_late_none_is_known_again() -> None:
    reader = Reader()
    joined: list[Piece] = [(UP, None), (DOWN, None), *FIRST[-2:]]
    reader.read(joined)
    reader.read(joined, "192.0.2.7:50009")
    reader.read([*resumed(), *AGAIN], "192.0.2.7:50001")
    assert not any(item.resent for item in reader.traced)


def test_sessions_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cephcaps.trace.sessions.MAX_SESSIONS", 3)
    reader = Reader()
    for number in range(20):
        ident = control(ClientIdent(CLIENT_ADDRS, DAEMON_ADDR, 4123, 1, 0, 0, 0, number + 1))
        reader.read([*GREETING, (UP, ident), IDENTS[1]])
        reader.read([(UP, None), (UP, message(1, RENEW))], f"192.0.2.{number}:1")
    assert len(reader.sessions._known) == 3
    assert len(reader.sessions._nameless) == 3


# Bytes that are none of it.


@given(
    pieces=st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(
                st.binary(max_size=200),
                st.none(),
                st.integers(1, 100),
                st.sampled_from([piece for _, piece in [*GREETING, *IDENTS]]),
                st.sampled_from([BANNER_PREFIX, message(1, RENEW), control(Keepalive2(1))]),
            ),
        ),
        max_size=20,
    ),
    greeted=st.booleans(),
)
def test_garbage_gives_problems_and_raises_nothing(pieces: list[Piece], greeted: bool) -> None:
    reader = Reader({})
    reader.read([*(GREETING if greeted else ()), *pieces])
    reader.secrets.finish()
    assert all(str(problem) for problem in reader.problems)


@given(data=st.data(), mode=st.sampled_from(ConMode))
def test_a_mangled_handshake_raises_nothing(data: st.DataObject, mode: ConMode) -> None:
    pair, heard = conversation(mode)
    raw = [bytearray(piece) for _, piece in heard.pieces]
    for _ in range(data.draw(st.integers(1, 4))):
        piece = data.draw(st.sampled_from(raw[:10]))
        at = data.draw(st.integers(0, len(piece) - 1))
        piece[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not piece:
            piece += b"x"
    reader = with_tickets(pair)
    reader.read([(way, bytes(piece)) for (way, _), piece in zip(heard.pieces, raw, strict=True)])
    reader.secrets.finish()
    for way in WAYS:
        assert is_subsequence(reader.way(way), heard.way(way))
