"""Messenger v1 read passively: handshakes, messages, gaps, and bytes that are none of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.messenger.crc import crc32c
from cephcaps.trace import v1_side
from cephcaps.trace.decoding import decode_all
from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.v1 import MAX_SESSIONS, V1Sessions, V1Stream
from cephwire.codec import Codec, Leftover
from cephwire.entity import AddrType, EntityAddr, EntityNum, EntityType
from cephwire.features import CLIENT_FEATURES, MSG_AUTH
from cephwire.frames import MessageFlag
from cephwire.legacy import (
    CLIENT_BANNER,
    MSG_ACK,
    MSG_CONNECT,
    MSG_CONNECT_REPLY,
    MSG_FOOTER,
    MSG_FOOTER_OLD,
    MSG_HEADER,
    SERVER_BANNER,
    ClientBanner,
    MsgAck,
    MsgConnect,
    MsgConnectReply,
    MsgFooter,
    MsgFooterOld,
    MsgHeader,
    MsgrProtocol,
    MsgrTag,
    ServerBanner,
)
from cephwire.messages import BY_CLASS
from cephwire.mon_messages import MAuthReply
from cephwire.reply import CLIENT_REPLY
from cephwire.session import CLIENT_SESSION, ClientSession, SessionOp
from tests.wire.strategies import values

CLIENT = EntityNum(EntityType.CLIENT, 4123)
MDS = EntityNum(EntityType.MDS, 0)
SERVER_AT = EntityAddr.make(AddrType.LEGACY, "192.0.2.2", 6800, 99)
CLIENT_AT = EntityAddr.make(AddrType.LEGACY, "192.0.2.7", 0, 77)
SEEN_AT = EntityAddr.make(AddrType.LEGACY, "192.0.2.7", 50000)
NO_SIGNING = CLIENT_FEATURES & ~MSG_AUTH.mask
OLD_SIZE, SIZE = 13, 21
UP, DOWN = True, False
TICK = 1_000

headers: Codec[MsgHeader] = Codec(MSG_HEADER)


def raw(
    seq: int,
    front: bytes = b"front",
    middle: bytes = b"",
    data: bytes = b"",
    *,
    src: EntityNum = CLIENT,
    type: int = 999,
    flags: int = MessageFlag.COMPLETE,
    footer: int = SIZE,
    **changes: Any,
) -> bytes:
    """One message as it is on the wire, its tag first."""
    fields = {"tid": 0, "priority": 127, "version": 1, "data_off": 0, "compat_version": 1, **changes}
    header = MsgHeader(
        seq=seq, type=type, front_len=len(front), middle_len=len(middle), data_len=len(data), src=src, crc=0, **fields
    )
    head = headers.encode(header)[:-4]
    crcs = (crc32c(0, front), crc32c(0, middle), crc32c(0, data))
    end = Codec(MSG_FOOTER).encode(MsgFooter(*crcs, 0x1122334455667788, flags))
    if footer == OLD_SIZE:
        end = Codec(MSG_FOOTER_OLD).encode(MsgFooterOld(*crcs, flags))
    return b"\7" + head + struct.pack("<I", crc32c(0, head)) + front + middle + data + end


def said(seq: int, message: Any, *, src: EntityNum = CLIENT, **how: Any) -> bytes:
    kind = BY_CLASS[type(message)]
    front, middle, data = kind.encode(message)
    return raw(seq, front, middle, data, src=src, type=kind.number, version=kind.newest, **how)


def connect(connect_seq: int = 0, features: int = CLIENT_FEATURES, authorizer: bytes = bytes(258)) -> bytes:
    head = MsgConnect(features, EntityType.CLIENT, 1, connect_seq, MsgrProtocol.MDS, 2, len(authorizer), 0)
    return Codec(MSG_CONNECT).encode(head) + authorizer


def reply(tag: MsgrTag, connect_seq: int = 1, features: int = CLIENT_FEATURES, authorizer: bytes = bytes(62)) -> bytes:
    head = MsgConnectReply(tag, features, 1, connect_seq, MsgrProtocol.MDS, len(authorizer), 0)
    return Codec(MSG_CONNECT_REPLY).encode(head) + authorizer


CLIENT_HELLO = Codec(CLIENT_BANNER).encode(ClientBanner(CLIENT_AT.legacy()))
SERVER_HELLO = Codec(SERVER_BANNER).encode(ServerBanner(SERVER_AT.legacy(), SEEN_AT.legacy()))


def ack(seq: int) -> bytes:
    return Codec(MSG_ACK).encode(MsgAck(seq))


def handshake(connect_seq: int = 0, features: int = CLIENT_FEATURES) -> list[tuple[bool, bytes]]:
    """As a client and an MDS of today have it: challenged, then open with SEQ."""
    return [
        (DOWN, SERVER_HELLO),
        (UP, CLIENT_HELLO),
        (UP, connect(connect_seq, features)),
        (DOWN, reply(MsgrTag.CHALLENGE_AUTHORIZER)),
        (UP, connect(connect_seq, features)),
        (DOWN, reply(MsgrTag.SEQ, connect_seq + 1) + ack(0)),
        (UP, ack(0)),
    ]


def flow() -> Flow:
    return Flow(1, "192.0.2.7:50000", "192.0.2.2:6800")


def read(
    pieces: Sequence[tuple[bool, bytes]], sessions: V1Sessions | None = None, out: list[Item] | None = None
) -> list[Item]:
    """The items of a connection whose bytes come so, one tick apart."""
    out = [] if out is None else out
    stream = V1Stream(flow(), out, sessions)
    for number, (to_daemon, data) in enumerate(pieces):
        stream.data(to_daemon, data, number * TICK)
    stream.end(len(pieces) * TICK)
    decode_all(out)
    return out


def seqs(items: Sequence[Item]) -> list[tuple[bool, int]]:
    return [(item.to_daemon, item.header.seq) for item in items if isinstance(item, Traced)]


def problems(items: Sequence[Item]) -> list[tuple[str, int]]:
    return [(item.kind, item.size) for item in items if isinstance(item, Problem)]


OPEN = ClientSession(SessionOp.REQUEST_OPEN, 0)


def test_a_session_is_read_from_its_handshake_on() -> None:
    pieces = [
        *handshake(),
        (UP, said(1, OPEN, tid=7, priority=196, data_off=3)),
        (DOWN, b"\x08" + ack(1) + said(5, ClientSession(SessionOp.OPEN, 0), src=MDS)),
        (UP, b"\x0e" + bytes(8) + b"\x09" + b"\x08" + ack(5) + b"\x06"),
    ]
    first, second = read(pieces)
    assert isinstance(first, Traced)
    assert isinstance(second, Traced)
    assert first.message == OPEN
    assert second.message.op == SessionOp.OPEN
    assert (first.ns, first.to_daemon, first.leftover, first.error, first.resent) == (7 * TICK, UP, (), None, False)
    assert first.segments == CLIENT_SESSION.encode(OPEN)
    header = first.header
    assert (header.seq, header.tid, header.type, header.priority) == (1, 7, CLIENT_SESSION.number, 196)
    assert (header.version, header.compat_version, header.data_off) == (CLIENT_SESSION.newest, 1, 3)
    assert (header.ack_seq, header.flags) == (0, MessageFlag.COMPLETE)
    known = first.flow
    assert (known.messenger, known.secure) == (1, False)
    assert (known.client_id, known.daemon_type, known.daemon_num) == (4123, EntityType.MDS, 0)


def test_what_the_daemon_is_shows_before_it_says_anything() -> None:
    known = flow()
    stream = V1Stream(known, [])
    for to_daemon, data in handshake()[:3]:
        stream.data(to_daemon, data, 0)
    assert (known.daemon_type, known.daemon_num, known.client_id) == (EntityType.MDS, None, None)


@pytest.mark.parametrize("tag", [MsgrTag.RESETSESSION, MsgrTag.RETRY_SESSION, MsgrTag.RETRY_GLOBAL])
def test_connecting_again_on_the_same_socket_is_followed(tag: MsgrTag) -> None:
    retry = [(UP, connect(3)), (DOWN, reply(tag, authorizer=b""))]
    assert seqs(read([*handshake()[:2], *retry, *handshake()[2:], (UP, raw(1))])) == [(UP, 1)]


def test_a_server_without_seq_opens_with_ready() -> None:
    opened = [(UP, connect(authorizer=b"")), (DOWN, reply(MsgrTag.READY, authorizer=b"") + raw(1, src=MDS))]
    assert seqs(read([*handshake()[:2], *opened, (UP, raw(1))])) == [(DOWN, 1), (UP, 1)]


def test_without_msg_auth_footers_are_thirteen_bytes() -> None:
    pieces = [*handshake(features=NO_SIGNING), (UP, raw(1, footer=OLD_SIZE) + raw(2, footer=OLD_SIZE))]
    assert seqs(read(pieces)) == [(UP, 1), (UP, 2)]


def test_a_reply_captured_late_holds_the_client_up_and_no_more() -> None:
    shake = handshake()
    pieces = [*shake[1:5], (UP, ack(0) + raw(1)), shake[0], shake[3], shake[5], (UP, raw(2))]
    assert seqs(read(pieces)) == [(UP, 1), (UP, 2)]


def test_a_message_its_sender_gave_up_is_none() -> None:
    assert read([*handshake(), (UP, raw(1, flags=0) + raw(2))])[0].header.seq == 2  # type: ignore[union-attr]


def test_data_without_a_crc_is_not_checked() -> None:
    whole = raw(1, data=b"data", flags=MessageFlag.COMPLETE | MessageFlag.NOCRC)
    wrong = whole[:-13] + bytes(4) + whole[-9:]
    items = read([*handshake(), (UP, wrong)])
    assert [item.segments for item in items if isinstance(item, Traced)] == [(b"front", b"", b"data")]


def test_what_its_type_does_not_explain_is_told_with_the_message() -> None:
    short = raw(1, b"\0", type=CLIENT_SESSION.number, src=MDS)
    longer = said(2, OPEN)
    front, _, _ = CLIENT_SESSION.encode(OPEN)
    longer = raw(2, front + b"??", type=CLIENT_SESSION.number, version=CLIENT_SESSION.newest)
    broken, unexplained = read([*handshake(), (DOWN, short), (UP, longer)])
    assert isinstance(broken, Traced)
    assert isinstance(unexplained, Traced)
    assert broken.message is None
    assert "ClientSession" in str(broken.error)
    assert unexplained.message == OPEN
    assert unexplained.leftover == (Leftover("ClientSession", len(front), 2),)


def test_a_client_without_a_number_yet_is_unknown() -> None:
    items = read([*handshake(), (UP, raw(1, src=EntityNum(EntityType.CLIENT, -1)))])
    assert items[0].flow is not None
    assert items[0].flow.client_id is None


def test_a_monitor_tells_the_client_its_number() -> None:
    letting_in = MAuthReply(2, 0, 4711, b"", "")
    items = read([*handshake(), (DOWN, said(1, letting_in, src=EntityNum(EntityType.MON, 0)))])
    assert items[0].flow is not None
    assert (items[0].flow.client_id, items[0].flow.daemon_type) == (4711, EntityType.MON)


# Broken streams


def test_a_message_that_was_damaged_is_a_problem_and_the_next_is_read() -> None:
    whole = raw(1, b"a" * 100)
    damaged = whole[:60] + b"b" + whole[61:]
    items = read([*handshake(), (UP, damaged + raw(2))])
    assert problems(items) == [("malformed", len(whole))]
    assert seqs(items) == [(UP, 2)]


@pytest.mark.parametrize("size", [None, 1448])
def test_after_a_gap_the_next_whole_message_is_found(size: int | None) -> None:
    out: list[Item] = []
    stream = V1Stream(flow(), out)
    for to_daemon, data in handshake():
        stream.data(to_daemon, data, 0)
    stream.data(UP, raw(1)[:70], 1)
    stream.gap(UP, size, 2)
    stream.data(UP, b"end of it" + raw(9) + raw(10)[:30], 3)
    stream.data(UP, raw(10)[30:], 4)
    stream.data(DOWN, raw(1, src=MDS), 5)
    assert problems(out) == [("gap", 70 + (size or 0)), ("skipped", 9)]
    assert seqs(out) == [(UP, 9), (UP, 10), (DOWN, 1)]


@pytest.mark.parametrize("lost", range(7))
def test_a_gap_in_the_handshake_costs_the_handshake(lost: int) -> None:
    out: list[Item] = []
    stream = V1Stream(flow(), out)
    for number, (to_daemon, data) in enumerate(handshake()):
        if number == lost:
            stream.gap(to_daemon, len(data), 0)
        else:
            stream.data(to_daemon, data, 0)
    stream.data(UP, raw(1), 0)
    stream.data(DOWN, raw(1, src=MDS), 0)
    assert seqs(out) == [(UP, 1), (DOWN, 1)]
    assert "malformed" not in dict(problems(out))


@pytest.mark.parametrize("footer", [SIZE, OLD_SIZE])
def test_a_connection_joined_late_is_read_and_its_footers_told_by_what_follows(footer: int) -> None:
    stream_of = [raw(seq, b"x" * seq, footer=footer) for seq in range(1, 6)]
    bytes_of = b"".join(stream_of[:2]) + b"\x08" + ack(3) + b"".join(stream_of[2:])
    items = read([(UP, bytes_of[100:])])
    assert problems(items) == [("skipped", len(stream_of[0]) + len(stream_of[1]) - 100 + 9)] or seqs(items)[0] == (
        UP,
        2,
    )
    assert seqs(items)[-3:] == [(UP, 3), (UP, 4), (UP, 5)]
    assert not [item for item in items if isinstance(item, Problem) and item.kind != "skipped"]


@pytest.mark.parametrize("footer", [SIZE, OLD_SIZE])
@given(signature=st.binary(min_size=8, max_size=8), cut=st.integers(1, 80))
def test_a_guessed_footer_does_not_lose_the_stream(footer: int, signature: bytes, cut: int) -> None:
    def one(seq: int) -> bytes:
        whole = raw(seq, footer=footer)
        return whole[:-9] + signature + whole[-1:] if footer == SIZE else whole

    bytes_of = b"".join(map(one, range(1, 5)))
    pieces = [(UP, bytes_of[at : at + cut]) for at in range(0, len(bytes_of), cut)]
    assert seqs(read(pieces))[-2:] == [(UP, 3), (UP, 4)]


def test_ends_taken_for_each_other_are_told_by_the_banner() -> None:
    known = Flow(1, "192.0.2.2:6800", "192.0.2.7:50000")
    out: list[Item] = []
    stream = V1Stream(known, out)
    for to_daemon, data in [*handshake(), (UP, raw(1)), (DOWN, raw(1, src=MDS))]:
        stream.data(not to_daemon, data, 0)
    assert (known.client, known.daemon) == ("192.0.2.7:50000", "192.0.2.2:6800")
    assert seqs(out) == [(UP, 1), (DOWN, 1)]


@pytest.mark.parametrize("first", [UP, DOWN])
def test_ends_taken_for_each_other_are_told_by_who_sends(first: bool) -> None:
    known = Flow(1, "192.0.2.2:6800", "192.0.2.7:50000")
    out: list[Item] = []
    stream = V1Stream(known, out)
    said_by = {UP: raw(1), DOWN: raw(1, src=MDS, type=CLIENT_REPLY.number)}
    for to_daemon in (first, not first):
        stream.data(not to_daemon, said_by[to_daemon], 0)
    assert (known.client, known.daemon) == ("192.0.2.7:50000", "192.0.2.2:6800")
    assert (known.client_id, known.daemon_type) == (4123, EntityType.MDS)
    assert seqs(out) == [(first, 1), (not first, 1)]


# Sessions that outlive their connections


def test_what_is_sent_again_after_a_reconnect_is_marked() -> None:
    sessions, out = V1Sessions(), []  # type: ignore[var-annotated]
    read([*handshake(), (UP, raw(1) + raw(2)), (DOWN, raw(1, src=MDS))], sessions, out)
    read([*handshake(connect_seq=2), (UP, raw(2) + raw(3)), (DOWN, raw(1, src=MDS) + raw(2, src=MDS))], sessions, out)
    resent = [(item.to_daemon, item.header.seq, item.resent) for item in out[3:]]
    assert [item.resent for item in out[:3]] == [False] * 3
    assert resent == [(UP, 2, True), (UP, 3, False), (DOWN, 1, True), (DOWN, 2, False)]


def test_a_new_session_of_the_same_ends_begins_anew() -> None:
    sessions, out = V1Sessions(), []  # type: ignore[var-annotated]
    read([*handshake(), (UP, raw(1))], sessions, out)
    read([*handshake(), (UP, raw(1))], sessions, out)
    assert [item.resent for item in out] == [False, False]


def test_a_session_whose_beginning_was_not_captured_is_known_by_its_hosts() -> None:
    sessions, out = V1Sessions(), []  # type: ignore[var-annotated]
    read([(UP, raw(8)), (DOWN, raw(9, src=MDS))], sessions, out)
    read([*handshake(connect_seq=2), (UP, raw(8) + raw(9))], sessions, out)
    assert [item.resent for item in out] == [False, False, True, False]


def test_of_two_such_sessions_between_the_same_hosts_neither_is_taken_for_the_other() -> None:
    sessions, out = V1Sessions(), []  # type: ignore[var-annotated]
    read([(UP, raw(8))], sessions, out)
    read([(UP, raw(3))], sessions, out)
    read([*handshake(connect_seq=2), (UP, raw(4))], sessions, out)
    assert [item.resent for item in out] == [False, False, False]


def test_only_so_many_sessions_are_remembered() -> None:
    sessions = V1Sessions()
    first, last = sessions.begin(b"first", b""), sessions.begin(b"last", b"")
    for number in range(MAX_SESSIONS):
        sessions.joined(Flow(1, f"{number}:1", "d"), first)
        if number > 1:
            sessions.begin(b"%d" % number, b"")
    assert sessions.resume(b"last", b"", flow()) is last
    sessions.begin(b"one more", b"")
    assert sessions.resume(b"first", b"", flow()) is not first


# Any bytes


@given(data=st.data())
def test_any_cut_of_the_bytes_gives_the_same_messages(data: st.DataObject) -> None:
    whole = [*handshake(), (UP, raw(1) + raw(2, b"", b"m", b"d" * 300)), (DOWN, raw(1, src=MDS) + b"\x08" + ack(2))]
    pieces: list[tuple[bool, bytes]] = []
    for to_daemon, part in whole:
        step = data.draw(st.integers(1, len(part)))
        pieces += [(to_daemon, part[at : at + step]) for at in range(0, len(part), step)]
    items = read(pieces)
    assert problems(items) == []
    assert seqs(items) == [(UP, 1), (UP, 2), (DOWN, 1)]


@given(message=values(CLIENT_SESSION.schema, CLIENT_SESSION.newest), seq=st.integers(1, 2**64 - 1))
def test_any_message_is_read_as_it_was_written(message: Any, seq: int) -> None:
    (item,) = read([*handshake(), (UP, said(seq, message, tid=seq))])
    assert isinstance(item, Traced)
    assert (item.message, item.header.seq, item.header.tid) == (message, seq, seq)


@given(value=values(MSG_HEADER))
def test_the_offsets_read_by_hand_are_those_of_the_schema(value: MsgHeader) -> None:
    found = v1_side.unpack_head(b"\7" + headers.encode(value), 0)
    src = value.src
    assert found == (
        value.seq, value.tid, value.type, value.priority, value.version, value.front_len, value.middle_len,
        value.data_len, value.data_off, src.type, src.num, value.compat_version, value.crc,
    )  # fmt: skip
    assert v1_side.unpack_lengths(b"\7" + headers.encode(value), v1_side.LENGTHS_AT) == found[5:8]


@given(
    data=st.lists(
        st.tuples(st.booleans(), st.binary(max_size=300) | st.sampled_from([raw(1), raw(7), SERVER_HELLO, connect()])),
        max_size=20,
    ),
    opened=st.booleans(),
    gaps=st.sets(st.integers(0, 20)),
)
def test_any_bytes_are_messages_or_problems(data: list[tuple[bool, bytes]], opened: bool, gaps: set[int]) -> None:
    out: list[Item] = []
    stream = V1Stream(flow(), out)
    for to_daemon, part in [*(handshake() if opened else ()), *data]:
        stream.data(to_daemon, part, 0)
    for number, (to_daemon, part) in enumerate(data):
        if number in gaps:
            stream.gap(to_daemon, number or None, 0)
        stream.data(to_daemon, part, 0)
    stream.end(0)
    assert stream.held == 0
    assert all(item.header.seq in (1, 7) for item in out if isinstance(item, Traced))


@pytest.mark.parametrize("lengths", [(2**32 - 1, 0, 0), (0, 2**26 + 1, 0), (2**25, 2**24, 2**25)])
def test_a_message_beyond_all_measure_is_not_waited_for(lengths: tuple[int, int, int]) -> None:
    front, middle, data = lengths
    header = MsgHeader(1, 0, 26, 127, 1, front, middle, data, 0, MDS, 1, 0)
    head = headers.encode(header)[:-4]
    items = read([*handshake(), (DOWN, b"\7" + head + struct.pack("<I", crc32c(0, head)) + raw(2, src=MDS))])
    assert problems(items) == [("malformed", 0), ("skipped", 54)]
    assert seqs(items) == [(DOWN, 2)]


@pytest.mark.parametrize("unit", [b"\7", b"\7\0", raw(1)[:54][:-1] + b"?", b"\7" * 17 + b"\0" * 3, bytes(64)])
def test_bytes_made_to_look_like_headers_are_passed_in_bounded_memory(unit: bytes) -> None:
    out: list[Item] = []
    stream = V1Stream(flow(), out)
    part = unit * (40_000 // len(unit))
    for _ in range(10):
        stream.data(UP, part, 0)
        assert stream.held < 100
    stream.data(UP, raw(3), 0)
    assert seqs(out) == [(UP, 3)]
    assert problems(out)[-1] == ("skipped", 10 * len(part))


def test_an_authorizer_beyond_all_measure_is_not_waited_for() -> None:
    head = MsgConnect(CLIENT_FEATURES, EntityType.CLIENT, 1, 0, MsgrProtocol.MDS, 2, 2**32 - 1, 0)
    bytes_of = Codec(MSG_CONNECT).encode(head)
    items = read([*handshake()[:2], (UP, bytes_of), (UP, raw(1))])
    assert problems(items) == [("malformed", 0), ("skipped", len(bytes_of))]
    assert seqs(items) == [(UP, 1)]
