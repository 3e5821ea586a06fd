"""Any segments, in any order, and what another program makes of them."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.trace import tcp as under_test
from cephcaps.trace.capture import Packet, packets
from cephcaps.trace.tcp import WINDOW
from tests.trace.ear import ANSWERED, SAID, Ear, heard
from tests.trace.packet_maker import ACK, FIN, PSH, RST, SYN, Talk, pcap

chances = st.integers(0, 2**32).map(random.Random)


def conversation(chance: random.Random, said: dict[bool, bytes]) -> list[Packet]:
    """A connection in which both sides say what they have to say, in pieces of many sizes, some sent again."""
    talk = Talk(isn=(chance.choice((0, 5, 2**32 - 700)), chance.randrange(2**32)))
    found = talk.connect()
    begin = list(talk.next)
    while any(talk.next[way] - begin[way] < len(said[way]) for way in (True, False)):
        way = chance.random() < 0.5
        at = talk.next[way] - begin[way]
        if at == len(said[way]):
            continue
        found += talk.send(way, said[way][at : at + chance.randint(1, 400)], chance.randint(1, 300))
        if chance.random() < 0.3:  # again, in other pieces
            sent = talk.next[way] - begin[way]
            start = max(sent - chance.randint(0, 300), 0)
            stop = min(start + chance.randint(1, 400), sent)
            found.append(talk.packet(way, ACK, said[way][start:stop], seq=begin[way] + start))
        if chance.random() < 0.3:
            found += talk.ack(not way)
    return [*found, *talk.fin(True), *talk.fin(False)]


def shuffled(chance: random.Random, some: list[Packet], window: int) -> list[Packet]:
    """Each at most ``window`` places from where it was."""
    return [some[at] for at in sorted(range(len(some)), key=lambda at: at + chance.random() * window)]


@given(chances, st.integers(0, 3000), st.integers(0, 3000), st.sampled_from((0, 3, 40)))
def test_any_order_within_bounds_gives_the_same_bytes(chance: random.Random, some: int, more: int, window: int) -> None:
    said = {True: SAID[:some], False: ANSWERED[:more]}
    hello, rest = (found := conversation(chance, said))[:3], found[3:]
    rest = [packet for packet in rest for _ in range(chance.choice((1, 1, 2)))]
    streams = heard(hello, shuffled(chance, rest, window))
    assert len(streams) == (some + more > 0)
    for stream in streams:
        assert b"".join(part for part in stream.parts(True) if isinstance(part, bytes)) == said[True]
        assert stream.parts(True) == [said[True]] * (some > 0)
        assert stream.parts(False) == [said[False]] * (more > 0)


@given(chances, st.integers(1, 3000), st.sampled_from((0, 5)), st.integers(1, 90), st.booleans())
def test_whatever_is_lost_the_rest_comes_at_its_place(
    chance: random.Random, some: int, window: int, percent: int, cut: bool
) -> None:
    said = {True: SAID[:some], False: ANSWERED[:some]}
    hello, rest = (found := conversation(chance, said))[:3], found[3:]
    end = rest[-2:]
    kept = [packet for packet in rest[:-2] if chance.randrange(100) >= percent]
    if cut:
        kept = [p._replace(data=p.data[: chance.choice((54, 100, 2000))]) for p in kept]

    first = {packet.data[34:38]: int.from_bytes(packet.data[38:42], "big") + 1 for packet in hello[:2]}
    seen = {way: bytearray(some) for way in (True, False)}
    for packet in kept:
        ports = packet.data[34:38]
        start = (int.from_bytes(packet.data[38:42], "big") - first[ports]) & 0xFFFFFFFF
        for at in range(start, start + len(packet.data) - 54):
            seen[ports[:2] == (41234).to_bytes(2, "big")][at] = 1

    for stream in heard(hello, shuffled(chance, kept, window), end):
        for way in (True, False):
            at = 0
            for part in stream.parts(way):
                if isinstance(part, bytes):
                    assert part == said[way][at : at + len(part)]
                    at += len(part)
                else:
                    assert part is not None
                    # What was cut off a packet is not waited for, though it may be sent again.
                    assert cut or not any(seen[way][at : at + part])
                    at += part
            assert at == some


@given(chances)
def test_packets_that_make_no_sense_do_no_harm(chance: random.Random) -> None:
    """Numbers far and near, any flags, ports that come back."""
    talks = [Talk(ports=(41000 + number, 6800)) for number in range(3)]
    flags = (ACK, ACK, ACK, PSH | ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, 255)

    def number() -> int:
        return (chance.choice((0, 1000, 2**31, 2**32 - 1, WINDOW)) + chance.randint(-50, 50)) & 0xFFFFFFFF

    found = []
    for _ in range(chance.randint(1, 700)):
        talk = chance.choice(talks)
        data = SAID[: chance.choice((0, 0, 1, 10, 60))]
        made = talk.packet(chance.random() < 0.5, chance.choice(flags), data, seq=number(), ack=number())
        found.append(made._replace(data=made.data[: chance.choice((54, 60, 2000, 2000, 2000))]))
    heard(found)


def test_pieces_without_end_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_HELD", 1 << 20)
    talk = Talk()
    ear = Ear()
    ear.hear(talk.connect())
    begin = talk.next[True] + 1
    order = list(range(0, 20_000, 2))
    random.Random(1).shuffle(order)
    for at in order:
        ear.hear([talk.packet(True, 0, b"x", seq=begin + at)])
        assert ear.assembler._held <= 1 << 20
    ear.hear([talk.packet(True, 0, bytes(20_000), seq=begin)])
    ear.assembler.finish(ear.ns)
    assert sum(part if isinstance(part, int) else len(part or b"") for part in ear.only().parts(True)) == 20_001


# The judge.


@pytest.mark.skipif(not shutil.which("tshark"), reason="apt-get install tshark would let this run")
def test_tshark_follows_the_same_bytes(tmp_path: Path) -> None:
    """In order: tshark 4.0 takes data that its acknowledgment overtook for lost."""
    found = [packet for packet in conversation(random.Random(5), {True: SAID, False: ANSWERED}) for _ in range(2)]
    file = tmp_path / "some.pcap"
    file.write_bytes(pcap(found))
    follow = ["tshark", "-r", file, "-q", "-z", "follow,tcp,raw,0"]
    lines = subprocess.run(follow, check=True, capture_output=True, text=True).stdout.splitlines()[6:-1]
    followed = [
        bytes.fromhex("".join(line for line in lines if line.startswith("\t") == back)) for back in (False, True)
    ]
    assert followed == [SAID, ANSWERED]
    (stream,) = heard(one for one in packets(io.BytesIO(file.read_bytes())) if isinstance(one, Packet))
    assert [stream.parts(True), stream.parts(False)] == [followed[:1], followed[1:]]
