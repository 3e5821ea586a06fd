"""Connections put together again from packets in any order, twice, in part, or missing."""

from __future__ import annotations

import pytest

from cephcaps.trace import tcp as under_test
from cephcaps.trace.capture import Packet
from cephcaps.trace.connection import PIECE_COST
from cephcaps.trace.items import Problem
from cephcaps.trace.tcp import PATIENCE, WINDOW
from tests.trace.ear import ANSWERED, SAID, Ear, heard, noise
from tests.trace.packet_maker import ACK, FIN, LINKS, PSH, RST, SYN, Talk, ipv4, tcp

# The usual.


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("ends", [("10.0.0.2", "10.0.0.1"), ("2001:db8::2", "2001:db8::1")])
def test_a_conversation_from_beginning_to_end(link: str, ends: tuple[str, str]) -> None:
    talk = Talk(*ends, link=link)
    (stream,) = heard(
        talk.connect(),
        talk.send(False, ANSWERED[:100]),
        talk.send(True, SAID),
        talk.ack(False),
        talk.send(False, ANSWERED[100:]),
        talk.ack(True),
        talk.fin(True),
        talk.fin(False),
        talk.ack(True),
    )
    six = ":" in ends[0]
    assert stream.ends == (
        f"[{ends[0]}]:41234" if six else "10.0.0.2:41234",
        f"[{ends[1]}]:6800" if six else "10.0.0.1:6800",
    )
    assert stream.parts(True) == [SAID]
    assert stream.parts(False) == [ANSWERED]
    assert [ns for _, _, ns in stream.told] == sorted(ns for _, _, ns in stream.told)


def test_an_ended_connection_says_so_at_once() -> None:
    talk = Talk()
    ear = Ear()
    ear.hear(talk.connect(), talk.send(True, SAID), talk.fin(True))
    assert ear.only().ended is None
    ear.hear(talk.send(False, ANSWERED))  # half closed
    assert ear.only().parts(False) == [ANSWERED]
    ear.hear(talk.fin(False))
    assert ear.only().ended == talk.ns


def test_a_connection_that_says_nothing_opens_no_stream() -> None:
    assert heard((talk := Talk()).connect(), talk.fin(True), talk.fin(False), talk.ack(True)) == []
    assert heard([(talk := Talk()).packet(True, SYN)], talk.rst(False)) == []
    assert heard(Talk().ack(True), Talk().fin(True), Talk().rst(True)) == []


def test_the_sequence_number_wraps() -> None:
    talk = Talk(isn=(2**32 - 3000, 2**32 - 1))
    (stream,) = heard(talk.connect(), talk.send(True, SAID), talk.send(False, ANSWERED))
    assert stream.parts(True) == [SAID]
    assert stream.parts(False) == [ANSWERED]


def test_several_connections_are_kept_apart() -> None:
    talks = [Talk(ports=(41000 + number, 6800)) for number in range(3)]
    for talk in talks:
        talk.next = [5, 5]
    streams = heard(*(talk.connect() for talk in talks), *(talk.send(True, SAID[at:]) for at, talk in enumerate(talks)))
    assert [stream.parts(True) for stream in streams] == [[SAID], [SAID[1:]], [SAID[2:]]]


@pytest.mark.parametrize("copies", [2, 3])
def test_a_capture_of_every_interface_that_has_each_packet_twice(copies: int) -> None:
    talk = Talk(isn=(2**32 - 5000, 7))
    all_of_it = [
        *talk.connect(),
        *talk.send(True, SAID),
        *talk.send(False, ANSWERED),
        *talk.fin(True),
        *talk.fin(False),
    ]
    (stream,) = heard([packet for packet in all_of_it for _ in range(copies)])
    assert stream.parts(True) == [SAID]
    assert stream.parts(False) == [ANSWERED]


# Who is the client.


@pytest.mark.parametrize("ports", [(41234, 6800), (6800, 41234), (6800, 6801), (1, 2)])
def test_who_connects_is_the_client(ports: tuple[int, int]) -> None:
    (stream,) = heard((talk := Talk(ports=ports)).connect(), talk.send(False, ANSWERED))
    assert stream.ends == (f"10.0.0.2:{ports[0]}", f"10.0.0.1:{ports[1]}")
    assert stream.parts(False) == [ANSWERED]


def test_the_answer_alone_tells_who_connected_and_where_both_begin() -> None:
    talk = Talk(ports=(6801, 6800))
    _, answer, _ = talk.connect()
    (stream,) = heard([answer], talk.send(True, SAID), talk.send(False, ANSWERED))
    assert stream.ends == ("10.0.0.2:6801", "10.0.0.1:6800")
    assert stream.parts(True) == [SAID]
    assert stream.parts(False) == [ANSWERED]


def test_the_answer_may_come_before_what_it_answers() -> None:
    syn, answer, ack = (talk := Talk()).connect()
    (stream,) = heard([answer, syn, ack], talk.send(True, SAID))
    assert stream.parts(True) == [SAID]


@pytest.mark.parametrize("port", [3300, 6789, 6800, 7568])
@pytest.mark.parametrize("to_daemon", [True, False])
def test_ports_tell_the_daemon_where_the_capture_begins_later(port: int, to_daemon: bool) -> None:
    for other in (41234, 1023):
        (stream,) = heard(Talk(ports=(other, port)).send(to_daemon, SAID))
        assert stream.ends == (f"10.0.0.2:{other}", f"10.0.0.1:{port}")
        assert stream.parts(to_daemon) == [None, SAID]


def test_of_two_unknown_ports_the_lower_is_the_daemons() -> None:
    for to_daemon in (True, False):
        (stream,) = heard(Talk(ports=(9000, 8000)).send(to_daemon, SAID))
        assert stream.ends == ("10.0.0.2:9000", "10.0.0.1:8000")


# Out of order.


def test_what_comes_too_early_waits_and_counts_as_captured_with_what_it_waited_for() -> None:
    talk = Talk()
    ear = Ear()
    first, second, third = (*talk.connect(), *talk.send(True, SAID[:300], 100))[3:]
    ear.hear(Talk().connect(), [third, second])
    assert ear.streams == []
    ear.hear([first])
    assert ear.only().told == [(True, SAID[at : at + 100], first.ns) for at in (0, 100, 200)]


def test_an_acknowledgment_that_overtakes_its_data_is_no_gap() -> None:
    talk = Talk()
    hello = talk.connect()
    data = talk.send(True, SAID)
    (stream,) = heard(hello, talk.ack(False), noise(PATIENCE - len(data) - 1), data)
    assert stream.parts(True) == [SAID]


def test_data_that_was_acknowledged_and_does_not_come_is_a_gap() -> None:
    talk = Talk()
    ear = Ear()
    ear.hear(talk.connect(), talk.send(True, SAID[:1000]))
    talk.send(True, SAID[1000:3000])
    ear.hear(talk.ack(False), noise(PATIENCE - 1))
    assert ear.only().parts(True) == [SAID[:1000]]
    ear.hear(noise(1))
    assert ear.only().parts(True) == [SAID[:1000], 2000]
    ear.hear(talk.send(True, SAID[3000:]))
    assert ear.only().parts(True) == [SAID[:1000], 2000, SAID[3000:]]


def test_data_that_was_not_acknowledged_is_waited_for() -> None:
    """The network lost it, and it is sent again."""
    talk = Talk()
    hello, (first, *rest) = talk.connect(), talk.send(True, SAID)
    (stream,) = heard(hello, rest, noise(), [first])
    assert stream.parts(True) == [SAID]


def test_several_gaps_each_have_their_size() -> None:
    talk = Talk()
    hello, data = talk.connect(), talk.send(True, SAID, 1000)
    (stream,) = heard(hello, [data[at] for at in (0, 2, 3, 6, 9)], talk.ack(False), noise(), talk.ack(False))
    assert stream.parts(True) == [
        SAID[:1000], 1000, SAID[2000:4000], 2000, SAID[6000:7000], 2000, SAID[9000:]
    ]  # fmt: skip


def test_each_gap_is_waited_for_after_its_own_acknowledgment() -> None:
    talk = Talk()
    ear = Ear()
    ear.hear(talk.connect(), talk.send(True, SAID[:1000]))
    talk.send(True, SAID[1000:2000])
    ear.hear(talk.ack(False), noise(PATIENCE // 2))
    late = talk.send(True, SAID[2000:3000])
    ear.hear(talk.ack(False), noise(PATIENCE // 2))
    assert ear.only().parts(True) == [SAID[:1000], 1000]
    ear.hear(late)
    assert ear.only().parts(True) == [SAID[:1000], 1000, SAID[2000:3000]]
    talk.send(True, SAID[3000:4000])
    ear.hear(talk.ack(False), noise(10), talk.send(True, SAID[4000:5000]), talk.ack(False), noise(), noise())
    assert ear.only().parts(True)[2:] == [SAID[2000:3000], 1000, SAID[4000:5000]]


def test_at_the_end_of_the_capture_what_was_held_is_told_around_its_gaps() -> None:
    talk = Talk()
    hello, data = talk.connect(), talk.send(True, SAID, 1000)
    (stream,) = heard(hello, [data[at] for at in (0, 2, 5)])
    assert stream.parts(True) == [SAID[:1000], 1000, SAID[2000:3000], 2000, SAID[5000:6000]]


def test_a_connection_that_closes_over_a_gap_tells_it_and_ends() -> None:
    talk = Talk()
    ear = Ear()
    hello, data = talk.connect(), talk.send(True, SAID, 1000)
    ear.hear(hello, data[:-1], talk.fin(True), talk.ack(False), noise())
    assert ear.only().parts(True) == [SAID[:9000], 1000]
    ear.hear(talk.fin(False))
    assert ear.only().ended == talk.ns


def test_fin_may_overtake_data() -> None:
    talk = Talk()
    hello, data, fins = talk.connect(), talk.send(True, SAID), [*talk.fin(True), *talk.fin(False)]
    (stream,) = heard(hello, fins, reversed(data))
    assert stream.parts(True) == [SAID]


def test_too_much_that_waits_is_not_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_HELD", 3 * (1000 + PIECE_COST))
    talk = Talk()
    ear = Ear()
    hello, data = talk.connect(), talk.send(True, SAID, 1000)
    ear.hear(hello, data[1:4])
    assert ear.streams == []
    ear.hear(data[5:6])
    assert ear.only().parts(True) == [1000, SAID[1000:4000]]
    ear.hear(data[4:5])
    assert ear.only().parts(True) == [1000, SAID[1000:6000]]


def test_connections_together_hold_no_more_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_HELD_TOGETHER", 4 * (1000 + PIECE_COST))
    talks = [Talk(ports=(41000 + number, 6800)) for number in range(6)]
    ear = Ear()
    for talk in talks:
        ear.hear(talk.connect(), talk.send(True, SAID[:2000], 1000)[1:])
    assert [stream.parts(True) for stream in ear.streams] == [[1000, SAID[1000:2000]]] * 2


# Sent again.


def test_what_is_sent_again_in_other_pieces_counts_once_and_the_first_bytes_win() -> None:
    talk = Talk()
    ear = Ear()
    ear.hear(talk.connect())
    begin = talk.next[True]

    def put(at: int, data: bytes) -> None:
        ear.hear([talk.packet(True, ACK, data, seq=begin + at)])

    put(0, b"aaaa")
    put(2, b"bbbb")  # its half is new
    put(0, b"cc")
    put(10, b"dd")
    put(14, b"ee")
    put(8, b"ffffffffff")  # around both
    put(7, b"gg")
    put(3, b"hhhhh")
    assert ear.only().parts(True) == [b"aaaabbhgffddffeeff"]


def test_keepalives_and_probes_of_a_closed_window_add_nothing() -> None:
    talk = Talk()
    hello, said = talk.connect(), talk.send(True, SAID)
    last = talk.next[True] - 1
    probes = [talk.packet(True, ACK, b"", seq=last), talk.packet(True, ACK, b"\0", seq=last)]
    into_a_closed_window = [talk.packet(True, ACK, b"!"), talk.packet(True, ACK, b"!")]
    talk.next[True] += 1
    (stream,) = heard(hello, said, probes, noise(), into_a_closed_window, talk.ack(False), talk.send(True, SAID))
    assert stream.parts(True) == [SAID + b"!" + SAID]


def test_after_the_end_what_is_sent_again_opens_nothing() -> None:
    talk = Talk()
    hello, said = talk.connect(), talk.send(True, SAID)
    fins = [*talk.fin(True), *talk.fin(False), *talk.ack(True)]
    (stream,) = heard(hello, said, fins, fins, said, hello)
    assert stream.parts(True) == [SAID]


# Not captured whole.


def test_packets_that_were_captured_in_part_leave_gaps_of_known_size() -> None:
    talk = Talk()
    hello, data = talk.connect(), talk.send(True, SAID, 1000)
    cut = [packet._replace(data=packet.data[:154]) for packet in data]
    (stream,) = heard(hello, cut, cut)
    assert stream.parts(True) == [part for at in range(0, 10_000, 1000) for part in (SAID[at : at + 100], 900)]
    (stream,) = heard(hello, [packet._replace(data=packet.data[:54]) for packet in data])
    assert stream.parts(True) == [10_000]


def test_parts_that_come_out_of_order() -> None:
    talk = Talk()
    hello, data = talk.connect(), talk.send(True, SAID[:4000], 1000)
    data[1] = data[1]._replace(data=data[1].data[:154])
    (stream,) = heard(hello, [data[at] for at in (1, 3, 0, 2)], talk.ack(False), noise())
    assert stream.parts(True) == [SAID[:1100], 900, SAID[2000:4000]]


def test_fragments_are_told_for_each_pair_of_ends_and_leave_gaps() -> None:
    talk = Talk()
    ear = Ear()
    ear.hear(talk.connect(), talk.send(True, SAID[:1000]))
    body = tcp(talk.ports, talk.next[True], 0, ACK, SAID[1000:2000])
    for fragment in (0x2000, 0x0040, 0x0080):
        data = LINKS["ethernet"][1](ipv4(talk.ends, body, fragment=fragment))
        ear.hear([Packet(talk.ns, 1, data, len(data))])
    talk.next[True] += 1000
    ear.hear(talk.ack(False), noise(), talk.send(True, SAID[2000:]))
    ear.assembler.finish(ear.ns)
    assert ear.only().parts(True) == [SAID[:1000], 1000, SAID[2000:]]
    what = "IP fragments from 10.0.0.2 to 10.0.0.1: they are not put together"
    assert [(one.kind, one.what) for one in ear.problems if isinstance(one, Problem)] == [
        ("packet", what),
        ("packet", f"2 times more: {what}"),
    ]


# Where connections begin and end.


def test_a_capture_that_begins_later_says_that_something_is_missing() -> None:
    talk = Talk()
    talk.send(True, bytes(5000))
    (stream,) = heard(talk.ack(False), talk.send(True, SAID), talk.send(False, ANSWERED))
    assert stream.parts(True) == [None, SAID]
    assert stream.parts(False) == [None, ANSWERED]


def test_ports_that_are_used_again_are_a_new_connection() -> None:
    first, second = Talk(), Talk(isn=(900_000, 2_000_000))
    streams = heard(first.connect(), first.send(True, SAID), second.connect(), second.send(True, ANSWERED))
    assert [stream.parts(True) for stream in streams] == [[SAID], [ANSWERED]]
    again = Talk(isn=(77, 88))
    streams = heard(
        first.connect(),
        first.send(True, SAID),
        first.fin(True),
        first.fin(False),
        again.connect(),
        again.send(False, SAID),
    )
    assert [(stream.parts(True), stream.parts(False)) for stream in streams] == [([SAID], []), ([], [SAID])]


def test_ports_used_again_from_the_other_side() -> None:
    old, new = Talk(ports=(7000, 6800)), Talk("10.0.0.1", "10.0.0.2", (6800, 7000), (4, 5))
    streams = heard(old.connect(), old.send(True, SAID), new.connect(), new.send(True, ANSWERED))
    assert [stream.ends[0] for stream in streams] == ["10.0.0.2:7000", "10.0.0.1:6800"]
    assert streams[1].parts(True) == [ANSWERED]


def test_ports_used_again_are_noticed_without_the_handshake() -> None:
    first, second = Talk(), Talk(isn=(1000 + WINDOW * 3, 5000 + WINDOW * 3))
    streams = heard(first.connect(), first.send(True, SAID), second.send(True, ANSWERED), second.send(False, SAID))
    assert [stream.parts(True) for stream in streams] == [[SAID], [None, ANSWERED]]
    assert streams[1].parts(False) == [None, SAID]


def test_a_stray_packet_without_data_changes_nothing() -> None:
    talk, stray = Talk(), Talk(isn=(1000 + WINDOW * 3, 5000 + WINDOW * 3))
    (stream,) = heard(
        talk.connect(), talk.send(True, SAID), stray.rst(True), stray.fin(True), noise(), talk.send(True, SAID)
    )
    assert stream.parts(True) == [SAID + SAID]


def test_after_a_reset_what_was_on_its_way_still_comes() -> None:
    talk = Talk()
    ear = Ear()
    ear.hear(talk.connect(), talk.send(True, SAID), talk.rst(True), talk.send(False, ANSWERED), noise())
    assert ear.only().parts(False) == [ANSWERED]
    assert ear.only().ended == Talk(ports=(1, 1)).packet(True, ACK).ns
    ear.hear(talk.rst(True), talk.rst(False), noise())
    assert len(ear.streams) == 1


def test_data_with_reset_says_why_and_is_none_of_the_streams() -> None:
    talk = Talk()
    (stream,) = heard(talk.connect(), talk.send(True, SAID), [talk.packet(False, RST | ACK, b"go away")])
    assert stream.parts(False) == []


def test_data_may_come_with_the_handshake_and_with_fin() -> None:
    talk = Talk()
    syn = talk.packet(True, SYN, SAID[:500])
    talk.next[True] += 501
    answer = talk.packet(False, SYN | ACK)
    talk.next[False] += 1
    last = talk.packet(True, FIN | PSH | ACK, SAID[500:])
    (stream,) = heard([syn, answer, last])
    assert stream.parts(True) == [SAID]


def test_the_longest_silent_connections_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_CONNECTIONS", 8)
    talks = [Talk(ports=(41000 + number, 6800)) for number in range(9)]
    ear = Ear()
    for talk in talks[:8]:
        ear.hear(talk.connect(), talk.send(True, SAID[:1000]))
    ear.hear(talks[0].send(True, SAID[1000:]))
    ear.hear(talks[8].connect())
    assert [stream.ended is not None for stream in ear.streams] == [False, True, True, *[False] * 5]
    ear.hear(talks[0].send(True, b"more"), talks[8].send(True, SAID))
    assert ear.streams[0].parts(True) == [SAID + b"more"]
    assert ear.streams[8].parts(True) == [SAID]


def test_a_connection_with_itself_does_no_harm() -> None:
    talk = Talk("10.0.0.1", "10.0.0.1", (6800, 6800))
    assert len(heard(talk.connect(), talk.send(True, SAID), talk.send(False, ANSWERED), talk.fin(True))) >= 1
