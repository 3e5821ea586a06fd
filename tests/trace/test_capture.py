"""Capture files, good and bad; python-pcapng and Wireshark's editcap are the judges."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import shutil
import struct
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pcapng import FileScanner, FileWriter
from pcapng import blocks as oracle

from cephcaps.errors import CephError
from cephcaps.trace.capture import NotACapture, Packet, packets
from cephcaps.trace.items import Problem
from cephcaps.trace.pcapng import MAX_INTERFACES
from cephcaps.trace.source import CHUNK, MAX_RECORD
from tests.trace.packet_maker import (
    START,
    block,
    enhanced,
    interface,
    obsolete,
    option,
    pcap,
    pcapng,
    section,
    simple,
)

chances = st.integers(0, 2**32).map(random.Random)
SOME = [
    Packet(START + 1000 * number, 1, bytes((number,)) * size, size) for number, size in enumerate((60, 61, 1, 1514))
]
"""Times are whole microseconds, which every format can hold."""
FORMATS: dict[str, Callable[[list[Packet]], bytes]] = {
    "pcap": pcap,
    "pcap-big-endian": lambda found: pcap(found, ">"),
    "pcap-nanoseconds": lambda found: pcap(found, magic=0xA1B23C4D),
    "pcap-nanoseconds-big-endian": lambda found: pcap(found, ">", magic=0xA1B23C4D),
    "pcap-kuznetzov": lambda found: pcap(found, magic=0xA1B2CD34),
    "pcapng": pcapng,
    "pcapng-big-endian": lambda found: pcapng(found, ">"),
}
every_format = pytest.mark.parametrize("made", FORMATS.values(), ids=FORMATS)


def read(data: bytes) -> list[Packet | Problem]:
    return list(packets(io.BytesIO(data)))


def whats(found: list[Packet | Problem]) -> list[str]:
    assert all(one.kind == "capture" for one in found if isinstance(one, Problem))
    return [one.what for one in found if isinstance(one, Problem)]


# Good files.


@every_format
def test_every_format_gives_the_packets_that_are_in_it(made: Callable[[list[Packet]], bytes]) -> None:
    assert read(made(SOME)) == SOME


@every_format
def test_a_packet_that_was_captured_in_part_says_how_long_it_was(made: Callable[[list[Packet]], bytes]) -> None:
    part = Packet(START, 1, b"the beginning", 9000)
    assert read(made([part])) == [part]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "ticks", "ns"),
    [
        (b"\x06", 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (b"\x09", 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (b"\x00", 1_700_000_000, 1_700_000_000_000_000_000),
        (b"\x0c", 1_700_000_000_123_456_789, 1_700_000_000_123_456),
        (b"\x80", 1_700_000_000, 1_700_000_000_000_000_000),
        (b"\x8a", (1_700_000_000 << 10) + 512, 1_700_000_000_500_000_000),
        (b"\xa0", (1_700_000_000 << 32) + (1 << 30), 1_700_000_000_250_000_000),
        (b"\x7f", (1 << 64) - 1, 0),
        (b"\xff", (1 << 64) - 1, 0),
        (None, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
    ],
)
@pytest.mark.parametrize("offset", [None, 3600, -3600])
def test_times_follow_resolution_and_offset(
    order: str, resolution: bytes | None, ticks: int, ns: int, offset: int | None
) -> None:
    options = option(2, b"lo", order)
    if resolution is not None:
        options += option(9, resolution, order)
    if offset is not None:
        options += option(14, struct.pack(f"{order}q", offset), order)
    packet = SOME[0]
    for made in (enhanced, obsolete):
        file = section(order) + interface(1, order, options) + made(packet, ticks, order)
        assert read(file) == [packet._replace(ns=max(ns + (offset or 0) * 1_000_000_000, 0))]


@pytest.mark.parametrize(("ticks", "offset"), [(2**64 - 1, 0), (0, -1), (2**63 // 1000, 1), (0, 2**62), (0, -(2**63))])
def test_times_that_cannot_be_are_none(ticks: int, offset: int) -> None:
    file = section() + interface(options=option(14, struct.pack("<q", offset)))
    file += enhanced(SOME[0], ticks) + obsolete(SOME[0], ticks)
    assert read(file) == [SOME[0]._replace(ns=0)] * 2


def test_options_after_the_end_and_cut_ones_do_not_count() -> None:
    after_end = option(0, b"") + option(9, b"\x00")
    cut = struct.pack("<HH", 9, 400) + b"\x00"
    for options in (after_end, cut, b"\x09", option(9, b"\x00\x00"), option(14, b"\x00\x00\x00\x01")):
        assert read(section() + interface(options=options) + enhanced(SOME[0], START // 1000)) == [SOME[0]]


def test_each_interface_has_its_own_link_and_resolution() -> None:
    first, second = SOME[0], SOME[1]._replace(link=113)
    file = section() + interface() + interface(113, options=option(9, b"\x09"))
    file += enhanced(first, first.ns // 1000) + enhanced(second, second.ns, number=1)
    file += obsolete(first, first.ns // 1000) + obsolete(second, second.ns, number=1)
    assert read(file) == [first, second] * 2


def test_each_section_has_its_own_byte_order_and_interfaces() -> None:
    file = pcapng(SOME[:2], "<") + pcapng([SOME[2]._replace(link=276)], ">", 276) + section() + pcapng(SOME[3:], "<")
    assert read(file) == [*SOME[:2], SOME[2]._replace(link=276), SOME[3]]


def test_an_interface_of_the_section_before_is_not_known() -> None:
    found = read(pcapng(SOME[:1]) + section() + enhanced(SOME[1], 0))
    assert found[0] == SOME[0]
    assert whats(found) == ["a packet of interface 0, of 0 that are described"]


def test_a_simple_packet_has_no_time_and_is_cut_by_the_snaplen() -> None:
    file = (
        section() + interface(snaplen=10) + simple(Packet(0, 1, b"0123456789", 5000)) + simple(Packet(0, 1, b"01", 2))
    )
    assert read(file) == [Packet(0, 1, b"0123456789", 5000), Packet(0, 1, b"01", 2)]


def test_blocks_of_other_kinds_are_passed_over() -> None:
    others = [block(4, bytes(8)), block(5, bytes(12)), block(0x0BAD, b"custom"), block(10, b"secrets"), block(77, b"")]
    file = section() + others[0] + interface()
    for packet, other in zip(SOME, others, strict=False):
        file += other + enhanced(packet, packet.ns // 1000, options=option(2, b"\x01\x00\x00\x00") + option(0, b""))
    assert read(file) == SOME


class Slow(io.RawIOBase):
    """Gives a byte at a time, as a pipe may."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 1))


@every_format
def test_it_does_not_matter_how_the_bytes_come(made: Callable[[list[Packet]], bytes]) -> None:
    assert list(packets(Slow(made(SOME)))) == SOME  # type: ignore[arg-type]


def test_a_pipe_is_read_as_it_is_written() -> None:
    out, into = os.pipe()
    with open(out, "rb") as reader, open(into, "wb", buffering=0) as writer:
        writer.write(pcapng(SOME[:2]))
        found = packets(reader)
        assert [next(found), next(found)] == SOME[:2]
        writer.write(enhanced(SOME[2], SOME[2].ns))
        assert next(found) == SOME[2]
        writer.close()
        assert list(found) == []


@every_format
def test_packets_longer_than_what_is_read_at_once(made: Callable[[list[Packet]], bytes]) -> None:
    long = Packet(START, 1, random.Random(1).randbytes(3 * CHUNK + 5), 3 * CHUNK + 5)
    assert read(made([SOME[0], long, SOME[1]])) == [SOME[0], long, SOME[1]]


# The judges.


# python-pcapng describes some of its own options in a way that it warns of.
quietly = pytest.mark.filterwarnings("ignore:Field type should not be:DeprecationWarning")


@quietly
@given(
    st.sampled_from("<>"),
    st.lists(st.tuples(st.integers(0, 12) | st.integers(128, 160), st.sampled_from([1, 113, 276, 101])), min_size=1),
    st.data(),
)
def test_python_pcapng_reads_the_same(order: str, kinds: list[tuple[int, int]], data: st.DataObject) -> None:
    number = st.integers(0, len(kinds) - 1)
    drawn = st.tuples(number, st.integers(0, 2**64 - 1), st.binary(max_size=70), st.integers(0, 90), st.booleans())
    file = section(order)
    for resolution, link in kinds:
        file += interface(link, order, option(9, bytes((resolution,)), order))
    for which, ticks, captured, more, old in data.draw(st.lists(drawn)):
        packet = Packet(0, 0, captured, len(captured) + more)
        file += (obsolete if old else enhanced)(packet, ticks, order, which)

    expected = []
    for found in FileScanner(io.BytesIO(file)):
        if isinstance(found, oracle.EnhancedPacket | oracle.ObsoletePacket):
            ticks = found.timestamp_high << 32 | found.timestamp_low
            (resolution,) = found.interface.options["if_tsresol"]
            units = 2 ** (resolution & 127) if resolution & 128 else 10**resolution
            ns = ticks * 1_000_000_000 // units
            ns = ns if ns < 2**63 else 0
            expected.append(Packet(ns, found.interface.link_type, found.packet_data, found.packet_len))
    assert read(file) == expected


@quietly
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_what_python_pcapng_writes_is_read(endianness: str) -> None:
    header = oracle.SectionHeader(endianness=endianness, options={"shb_userappl": "cephcaps"})
    for link, resolution in ((1, b"\x09"), (276, b"\x06")):
        options = {"if_name": "eth0", "if_tsresol": resolution}
        header.new_member(oracle.InterfaceDescription, link_type=link, snaplen=0, options=options)
    file = io.BytesIO()
    writer = FileWriter(file, header)
    for packet in SOME:
        for link, unit in ((0, 1), (1, 1000)):
            made = header.new_member(oracle.EnhancedPacket, interface_id=link)
            made.timestamp_high, made.timestamp_low = divmod(packet.ns // unit, 2**32)
            made.packet_data = packet.data
            writer.write_block(made)
    assert read(file.getvalue()) == [p for packet in SOME for p in (packet, packet._replace(link=276))]


@pytest.mark.skipif(not shutil.which("editcap"), reason="apt-get install wireshark-common would let this run")
@pytest.mark.parametrize("format", ["pcap", "nsecpcap", "modpcap", "pcapng"])
def test_what_editcap_writes_is_read(tmp_path: Path, format: str) -> None:
    (tmp_path / "in.pcapng").write_bytes(pcapng(SOME))
    subprocess.run(["editcap", "-F", format, tmp_path / "in.pcapng", tmp_path / "out"], check=True, capture_output=True)
    assert read((tmp_path / "out").read_bytes()) == SOME


# gzip.


@every_format
def test_gzip_is_undone(made: Callable[[list[Packet]], bytes]) -> None:
    data = made(SOME)
    assert read(gzip.compress(data)) == SOME
    assert read(gzip.compress(data[:50]) + gzip.compress(b"") + gzip.compress(data[50:])) == SOME
    assert list(packets(Slow(gzip.compress(data)))) == SOME  # type: ignore[arg-type]


def test_gzip_that_is_cut_or_damaged_is_told_once() -> None:
    chance = random.Random(1)
    many = [Packet(START, 1, chance.randbytes(9000), 9000) for _ in range(90)]
    whole = pcap(many)
    packed = gzip.compress(whole)

    cut = read(packed[: len(packed) // 2])
    assert cut[:-1] == many[: len(cut) - 1] != []
    (what,) = whats(cut)
    assert what == f"the file ends inside the packet at byte {24 + 9016 * (len(cut) - 1)}; its gzip data is cut short"

    zeroed = read(packed[: len(packed) // 2].ljust(len(packed), b"\0"))
    assert "its gzip data is damaged" in whats(zeroed)[0]

    followed = read(packed + b"trailer")
    assert followed[:-1] == many
    assert "its gzip data is damaged" in whats(followed)[0]


def test_a_small_file_that_unpacks_to_a_huge_one_takes_little_memory() -> None:
    packed = gzip.compress(section() + interface() + block(99, bytes(1 << 20)) * 64, 1)
    assert len(packed) < 1 << 20
    tracemalloc.start()
    try:
        assert read(packed) == []
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# Bad files.


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "there is nothing in it"),
        (b"\x0a", "it begins with 0a"),
        (b"[global]\n", "it begins with 5b676c6f"),
        (b"\xa1\xb2\xc3\xd5" + bytes(20), "it begins with a1b2c3d5"),
        (gzip.compress(b"", mtime=0), "there is nothing in it"),
        (gzip.compress(b"text", mtime=0), "it begins with 74657874"),
        (b"\x1f\x8b\xff" + bytes(9), "its gzip data is damaged"),
        (b"\x1f\x8b", "its gzip data is cut short"),
    ],
)
def test_what_is_no_capture_is_refused_at_once(data: bytes, why: str) -> None:
    with pytest.raises(NotACapture, match=f"^neither pcap nor pcapng: {why}") as caught:
        packets(io.BytesIO(data))
    assert isinstance(caught.value, CephError)
    assert isinstance(caught.value, ValueError)


@every_format
def test_a_cut_file_gives_what_is_whole_and_says_so_once(made: Callable[[list[Packet]], bytes]) -> None:
    whole = made(SOME)
    ends = [len(made(SOME[:count])) for count in range(len(SOME) + 1)]
    heads = {len(section()), ends[0]} if made in (FORMATS["pcapng"], FORMATS["pcapng-big-endian"]) else {ends[0]}
    for size in range(4, len(whole)):
        found = read(whole[:size])
        count = sum(size >= end for end in ends[1:])
        assert found[:count] == SOME[:count]
        assert len(whats(found)) == len(found) - count == (size not in heads and size not in ends), size


@pytest.mark.parametrize("length", [MAX_RECORD + 1, 2**31, 2**32 - 1])
def test_a_pcap_packet_that_claims_to_be_huge_ends_the_reading(length: int) -> None:
    file = pcap(SOME) + struct.pack("<IIII", 1, 1, length, length) + bytes(100)
    assert read(file) == [
        *SOME,
        Problem(
            SOME[-1].ns,
            None,
            None,
            "capture",
            f"at byte 1724: a packet of {length} bytes, over 16777216; what follows is lost",
        ),
    ]


@pytest.mark.parametrize("length", [0, 8, 11, 30, MAX_RECORD + 4, 2**32 - 4])
def test_a_pcapng_block_of_an_impossible_length_ends_the_reading(length: int) -> None:
    found = read(pcapng(SOME) + struct.pack("<II", 6, length) + bytes(100))
    assert found[:-1] == SOME
    assert f"a block of {length} bytes, which is no multiple of 4 between 12 and 16777216" in whats(found)[0]


def test_two_lengths_of_a_block_that_differ_end_the_reading() -> None:
    bad = bytearray(enhanced(SOME[0], 0))
    bad[-4] += 4
    found = read(pcapng(SOME) + bad + enhanced(SOME[0], 0))
    assert found[:-1] == SOME
    assert "that ends with the length" in whats(found)[0]


def test_a_section_that_is_not_understood_ends_the_reading() -> None:
    assert "a section of version 2, not 1" in whats(read(section(major=2) + pcapng(SOME)))[0]
    assert "without a byte order" in whats(read(b"\x0a\x0d\x0d\x0a" + struct.pack("<II", 28, 0) + bytes(16)))[0]
    assert "a section of version None" in whats(read(block(0x0A0D0D0A, struct.pack("<I", 0x1A2B3C4D))))[0]


def test_a_broken_block_costs_itself_alone_and_repeats_are_counted() -> None:
    lies = struct.pack("<IIIII", 0, 0, 0, 5000, 5000)
    bad = block(6, lies) + block(6, b"short") + block(3, b"") + block(2, b"short") + enhanced(SOME[0], 0, number=1)
    file = pcapng(SOME[:1]) + bad + enhanced(SOME[1], SOME[1].ns) + bad + bad
    found = read(file)
    assert [one for one in found if isinstance(one, Packet)] == SOME[:2]
    first = [
        "a packet of 5000 bytes in a block of 32",
        "a packet block of 20 bytes",
        "a simple packet block of 12 bytes",
        "a packet of interface 1, of 1 that are described",
    ]
    assert whats(found) == first + [
        f"{times} times more: {what}" for what, times in zip(first, (2, 5, 2, 2), strict=True)
    ]


def test_a_broken_interface_keeps_its_number() -> None:
    file = section() + block(1, b"") + interface() + enhanced(SOME[0], SOME[0].ns // 1000, number=1)
    assert read(file) == [SOME[0]]


def test_interfaces_without_end_are_not_remembered() -> None:
    found = read(section() + interface() * (MAX_INTERFACES + 1) + enhanced(SOME[0], 0, number=MAX_INTERFACES))
    assert whats(found) == [f"a packet of interface {MAX_INTERFACES}, of {MAX_INTERFACES} that are described"]


def test_problems_without_end_are_told_in_part() -> None:
    bad = b"".join(enhanced(SOME[0], 0, number=number) for number in range(1, 1000))
    found = whats(read(section() + interface() + bad))
    assert len(found) == 101
    assert found[-1] == "899 times more: other problems of this kind"


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=300), st.booleans())
def test_any_bytes_after_a_good_start_give_packets_and_problems(name: str, junk: bytes, headed: bool) -> None:
    start = FORMATS[name](SOME) if headed else FORMATS[name]([])[:4]
    found = read(start + junk)
    assert found[: len(SOME) * headed] == SOME * headed


@given(st.sampled_from(sorted(FORMATS)), chances)
def test_a_damaged_file_gives_packets_and_problems(name: str, chance: random.Random) -> None:
    data = bytearray(FORMATS[name](SOME * 3))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(4, len(data))
        data[at] = chance.choice((0, 1, 6, 255, data[at] ^ 1 << chance.randrange(8)))
    for one in read(bytes(data)):
        assert not isinstance(one, Packet) or len(one.data) <= one.size


@given(st.binary(max_size=200))
def test_any_bytes_are_a_capture_or_refused(junk: bytes) -> None:
    for data in (junk, gzip.compress(junk), b"\x1f\x8b" + junk):
        file: BinaryIO = io.BytesIO(data)
        with contextlib.suppress(NotACapture):
            list(packets(file))
