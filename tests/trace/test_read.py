"""A capture file read to its messages."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.trace import Problem, Traced, TraceReader, read_trace, source
from cephcaps.trace import read as under_test
from cephcaps.trace.capture import NotACapture, Packet
from cephwire.control import ConMode
from cephwire.keys import CryptoType
from tests.session.handshakes import ADMIN
from tests.trace.overheard import Tapped, headers
from tests.trace.packet_maker import Talk, pcap, pcapng

NETWORK = {"anyio", "asyncio", "select", "selectors", "socket", "ssl", "structlog"}


def captured(world: Tapped, size: int = 1448) -> list[Packet]:
    """All that the world's client and daemons said, as packets."""
    talks = [Talk(ports=(50_000 + number, 6800)) for number in range(len(world.heard))]
    packets: list[Packet] = []
    for number, to_daemon, data in world.all:
        talk = talks[number]
        if talk.next == [5000, 1000]:
            packets += talk.connect()
        packets += talk.send(to_daemon, data, size)
    for ns, talk in enumerate(talks):
        packets += [*talk.fin(True), *talk.fin(False), *talk.ack(True)]
        assert ns < 100
    return [packet._replace(ns=1_700_000_000_000_000_000 + 1000 * at) for at, packet in enumerate(packets)]


@pytest.fixture(scope="module", params=[ConMode.CRC, ConMode.SECURE], ids=["crc", "secure"])
def world(request: pytest.FixtureRequest) -> Tapped:
    world = Tapped(type=CryptoType.AES256K, mode=request.param, mons=2)
    world.mount()
    for _ in range(5):
        world.getattr(1)
    return world


@pytest.mark.parametrize("format", [pcap, pcapng])
def test_a_capture_is_read_to_the_messages_that_were_sent(world: Tapped, format: type) -> None:
    raw = format(captured(world))
    reader = TraceReader(io.BytesIO(raw), {str(ADMIN): world.keys.principals[str(ADMIN)]})
    items = list(reader)
    read = [item for item in items if isinstance(item, Traced)]
    assert len(read) == len(items)
    for number, heard in enumerate(world.heard):
        mine = [item for item in read if item.flow.client == f"10.0.0.2:{50_000 + number}"]
        for way in (True, False):
            numbers = [(item.header.type, item.header.seq) for item in mine if item.to_daemon == way]
            assert numbers == [(header.type, header.seq) for header, _ in heard.way(way)]
    assert reader.packets == len(captured(world))
    assert (reader.connections, reader.strangers) == (len(world.heard), 0)
    assert [item.ns for item in read] == sorted(item.ns for item in read)


def test_it_gives_messages_while_it_reads(world: Tapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "TRIM_EVERY", 1000)
    monkeypatch.setattr(source, "CHUNK", 1000)
    reader = TraceReader(io.BytesIO(pcap(captured(world))), {})
    next(iter(reader))
    assert 0 < reader.packets < len(captured(world))
    assert reader.connections > 0


def test_a_pipe_that_is_still_written_to_gives_what_has_come(world: Tapped) -> None:
    raw = pcap(captured(world))
    key = {str(ADMIN): world.keys.principals[str(ADMIN)]}
    whole = len(list(read_trace(io.BytesIO(raw), key)))
    get, put = os.pipe()
    with os.fdopen(get, "rb") as pipe:
        with os.fdopen(put, "wb", buffering=0) as sink:
            sink.write(raw[:-100])
            items = read_trace(pipe, key)
            first = [next(items) for _ in range(whole - 1)]
            sink.write(raw[-100:])
        assert len(first + list(items)) == whole


def test_what_is_no_capture_is_refused_at_once() -> None:
    with pytest.raises(NotACapture):
        read_trace(io.BytesIO(b"ceph v2\n and so on"))


@given(data=st.data())
def test_a_damaged_capture_gives_what_is_left(world: Tapped, data: st.DataObject) -> None:
    raw = bytearray(pcapng(captured(world, 500)))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(64, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    key = {str(ADMIN): world.keys.principals[str(ADMIN)]}
    said = [repr(headers.encode(header)) for heard in world.heard for header in (header for _, header, _ in heard.said)]
    for item in read_trace(io.BytesIO(bytes(raw)), key):
        if isinstance(item, Problem):
            assert item.what
        elif item.flow.secure:
            assert repr(headers.encode(item.header)) in said


def test_importing_it_loads_nothing_of_the_network() -> None:
    program = "import sys, cephcaps.trace; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert not NETWORK & {name.split(".")[0] for name in ran.stdout.split()}
