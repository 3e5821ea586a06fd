"""What a connection is: messenger v1 or v2, by its banner or in its midst, or nothing of Ceph's."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.trace import stream as under_test
from cephcaps.trace.decoding import decode_all
from cephcaps.trace.items import Problem, Traced
from cephcaps.trace.stream import KEPT, MAX_SEARCH, MAX_SEARCH_ONE, Stream, Streams
from cephcaps.trace.v1 import V1Stream
from cephcaps.trace.v2 import V2Stream
from cephwire.control import Ack, ConMode
from cephwire.frames import BANNER_PREFIX
from cephwire.legacy import LEGACY_BANNER
from cephwire.session import ClientSession, SessionOp
from tests.session.handshakes import mds_pair
from tests.trace.overheard import DOWN, UP, Piece, control, message, overheard
from tests.trace.test_v1 import said as v1_message

RENEW = ClientSession(SessionOp.REQUEST_RENEWCAPS, 1)
NOISE = random.Random(1).randbytes(MAX_SEARCH_ONE + 8192)
SSH = b"SSH-2.0-OpenSSH_9.2\r\n"


def heard(pieces: Iterable[Piece], daemon: str = "192.0.2.2:6800") -> tuple[Streams, Stream]:
    streams = Streams({})
    stream = streams.open("192.0.2.7:50000", daemon)
    for ns, (to_daemon, piece) in enumerate(pieces):
        if isinstance(piece, bytes):
            stream.data(to_daemon, piece, ns)
        else:
            stream.gap(to_daemon, piece, ns)
    decode_all(streams.out)
    return streams, stream


def kinds(streams: Streams) -> list[str]:
    return [item.kind for item in streams.out if isinstance(item, Problem)]


def traced(streams: Streams) -> list[Traced]:
    return [item for item in streams.out if isinstance(item, Traced)]


@pytest.mark.parametrize(("banner", "reader"), [(BANNER_PREFIX, V2Stream), (LEGACY_BANNER, V1Stream)])
@pytest.mark.parametrize("way", [UP, DOWN])
@pytest.mark.parametrize("joined", [False, True])
def test_a_banner_tells_which_messenger_it_is(banner: bytes, reader: type, way: bool, joined: bool) -> None:
    cut: list[Piece] = [(way, None)] if joined else []
    streams, stream = heard([*cut, *((way, banner[at : at + 1]) for at in range(len(banner)))])
    assert isinstance(stream._reader, reader)
    assert (streams.messengers, streams.strangers, streams.out) == (1, 0, [])
    assert stream.data == stream._reader.data, "who asks now, calls the reader itself"


def test_a_conversation_goes_to_its_reader_whole() -> None:
    talk = overheard(mds_pair(ConMode.CRC))
    streams, stream = heard([(way, data[at : at + 3]) for way, data in talk.pieces for at in range(0, len(data), 3)])
    stream.end(9999)
    assert kinds(streams) == []
    for way in (UP, DOWN):
        assert [item.message for item in traced(streams) if item.to_daemon == way] == [
            message for _, message in talk.way(way)
        ]


def test_only_messengers_are_counted_and_numbered() -> None:
    streams = Streams()
    for data in (SSH, BANNER_PREFIX, b"GET / HTTP/1.1\r\n", LEGACY_BANNER):
        streams.open("a:1", "b:6800").data(UP, data, 1)
    assert (streams.messengers, streams.strangers) == (2, 2)
    streams.open("a:2", "b:6800").data(UP, BANNER_PREFIX, 1)
    third = streams.open("a:2", "b:6800")
    third.data(UP, BANNER_PREFIX, 1)
    assert third._flow.number == 4


def test_what_begins_without_a_banner_is_no_messenger() -> None:
    streams, stream = heard([(DOWN, SSH), (UP, message(1, RENEW)), (DOWN, BANNER_PREFIX), (UP, 10)])
    stream.end(5)
    assert (streams.out, streams.strangers, streams.messengers) == ([], 1, 0)
    assert stream._beginnings is None


@pytest.mark.parametrize("way", [UP, DOWN])
def test_messenger_v2_is_known_in_its_midst(way: bool) -> None:
    half = message(1, RENEW)[20:]
    streams, stream = heard([(not way, None), (not way, b"???"), (way, None), (way, half), (way, message(2, RENEW))])
    assert isinstance(stream._reader, V2Stream)
    (item,) = traced(streams)
    assert item.message == RENEW
    assert sorted(kinds(streams)) == ["gap", "gap", "skipped"]
    assert sum(item.size for item in streams.out if isinstance(item, Problem)) == len(half)


def test_messenger_v1_is_known_in_its_midst() -> None:
    streams, stream = heard([(UP, None), (UP, b"the rest of something" + v1_message(5, RENEW) + v1_message(6, RENEW))])
    assert isinstance(stream._reader, V1Stream)
    stream.end(9)
    assert [item.header.seq for item in traced(streams)] == [5, 6]


@given(cuts=st.lists(st.integers(1, 60), min_size=1, max_size=30), version=st.sampled_from((1, 2)))
def test_a_header_is_found_however_the_bytes_are_cut(cuts: list[int], version: int) -> None:
    make = message if version == 2 else v1_message
    whole = NOISE[:300] + make(5, RENEW) + make(6, RENEW)
    pieces: list[Piece] = [(UP, None)]
    at = 0
    while at < len(whole):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append((UP, whole[at : at + size]))
        at += size
    streams, stream = heard(pieces)
    stream.end(9999)
    assert [item.header.seq for item in traced(streams)] == [5, 6]


def test_acks_alone_tell_messenger_v2() -> None:
    _, stream = heard([(UP, None), (UP, control(Ack(9)))])
    assert isinstance(stream._reader, V2Stream)


@pytest.mark.parametrize("both", [False, True])
def test_a_search_without_end_is_ended(both: bool) -> None:
    limit = MAX_SEARCH if both else MAX_SEARCH_ONE
    step = 4096
    pieces: list[Piece] = [(UP, None), (DOWN, None)]
    for at in range(0, limit + step + KEPT, step):
        pieces += [(way, NOISE[at : at + step]) for way in ((UP, DOWN) if both else (UP,))]
    streams, stream = heard(pieces, "192.0.2.2:22")
    assert stream._beginnings is None
    assert (streams.out, streams.strangers) == ([], 1)


def test_little_is_kept_while_searching() -> None:
    _, stream = heard([(UP, None), (UP, NOISE[:60_000]), (DOWN, None), (DOWN, NOISE[:50])])
    assert stream._beginnings is not None
    assert sum(len(each.tail) for each in stream._beginnings) <= 2 * KEPT


@pytest.mark.parametrize("port", [3300, 6800, 7568])
def test_what_cannot_be_read_at_a_daemons_port_may_be_secure(port: int) -> None:
    streams, stream = heard([(UP, None), (UP, NOISE[:500])], f"192.0.2.2:{port}")
    stream.end(9)
    (problem,) = streams.out
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.to_daemon) == ("sealed", None)
    assert "secure mode" in problem.what


def test_a_connection_whose_end_alone_was_captured_is_no_problem_elsewhere() -> None:
    streams, stream = heard([(UP, None), (UP, NOISE[:500])], "192.0.2.2:22")
    stream.end(9)
    assert streams.out == []


def test_unfinished_messages_are_given_up_where_they_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_HELD", 50_000)
    streams = Streams({})
    opened = [streams.open(f"192.0.2.7:{port}", "192.0.2.2:6800") for port in range(5000, 5005)]
    long = message(1, number=999, segments=(bytes(1_000_000),))
    for number, stream in enumerate(opened):
        stream.data(UP, BANNER_PREFIX, 1)
        stream.gap(UP, None, 1)
        stream.data(UP, long[: 10_000 + 1_000 * number], 2)
    before = len(streams.out)
    streams.trim(3)
    told = [item for item in streams.out[before:] if isinstance(item, Problem) and item.kind == "skipped"]
    assert [problem.size for problem in told] == [14_000]
    assert sum(reader.held for reader in streams._reading.values()) <= 50_000
    opened[-1].data(UP, long[14_000:] + message(2, RENEW), 4)
    assert [item.header.seq for item in traced(streams)] == [2]
    for stream in opened:
        stream.end(5)
    assert not streams._reading


@given(
    pieces=st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(
                st.none(),
                st.integers(1, 9),
                st.binary(max_size=100),
                st.sampled_from([BANNER_PREFIX, LEGACY_BANNER, message(1, RENEW), v1_message(1, RENEW)]),
            ),
        ),
        max_size=12,
    )
)
def test_any_bytes_are_taken(pieces: list[Piece]) -> None:
    streams, stream = heard(pieces)
    stream.end(99)
    streams.finish()
    assert streams.messengers + streams.strangers >= 1
