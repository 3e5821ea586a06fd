"""What is in a packet: every link layer, both IPs, and lengths that lie."""

from __future__ import annotations

import contextlib
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.trace.capture import Packet
from cephcaps.trace.packets import MalformedPacket, Segment, ends, reverse, segment, segments
from tests.trace.packet_maker import ACK, FIN, LINKS, PSH, enhanced, ethernet, interface, ipv4, ipv6, section, tcp

Wrap = Callable[[bytes], bytes]
chances = st.integers(0, 2**32).map(random.Random)

ENDS4 = ("10.1.2.3", "192.168.255.254")
ENDS6 = ("2001:db8::1", "fe80::ffff:0:1")
PORTS = (41234, 6800)
SAID = b"ceph v2\n and more"
TCP = tcp(PORTS, 0xFFFFFFF0, 77, PSH | ACK, SAID)


def read(data: bytes, link: int = 101, size: int | None = None) -> Segment | None:
    """What `segment` and `segments`, which need not go the same way, both say."""
    packet = Packet(0, link, data, len(data) if size is None else size)
    (found,) = segments([packet])
    if isinstance(found, MalformedPacket):
        raise found
    assert found == segment(packet)
    return found


def holds(found: Segment | None, payload: bytes = SAID, size: int | None = None) -> bool:
    """Whether the segment is the one above, with this payload."""
    assert found is not None
    assert (found.seq, found.ack, found.flags) == (0xFFFFFFF0, 77, PSH | ACK)
    four, six = [tuple((f"{end}", port) for end, port in zip(pair, PORTS, strict=True)) for pair in (ENDS4, ENDS6)]
    assert ends(found.key) in (four, tuple((f"[{end}]", port) for end, port in six))
    assert ends(reverse(found.key)) == ends(found.key)[::-1]
    return (found.payload, found.size) == (payload, len(payload) if size is None else size)


@pytest.mark.parametrize(("link", "wrap"), LINKS.values(), ids=LINKS)
def test_every_link_layer_carries_both_ips(link: int, wrap: Wrap) -> None:
    assert holds(read(wrap(ipv4(ENDS4, TCP)), link))
    assert holds(read(wrap(ipv6(ENDS6, TCP)), link))


def test_links_that_say_which_ip() -> None:
    assert holds(read(ipv4(ENDS4, TCP), 228))
    assert holds(read(ipv6(ENDS6, TCP), 229))


@pytest.mark.parametrize("options", [bytes(4), b"\x07" * 40])
def test_ip_options_are_passed_over(options: bytes) -> None:
    assert holds(read(ipv4(ENDS4, TCP, options=options)))


@pytest.mark.parametrize("options", [bytes(4), b"\x01" * 12, b"\x01" * 40])
def test_tcp_options_are_passed_over(options: bytes) -> None:
    body = tcp(PORTS, 0xFFFFFFF0, 77, PSH | ACK, SAID, options)
    assert holds(read(ipv4(ENDS4, body)))
    assert holds(read(ipv6(ENDS6, body)))


@pytest.mark.parametrize(
    "extensions",
    [
        [(0, bytes(7))],
        [(0, b"\x01" + bytes(14)), (43, bytes(7)), (60, b"\x02" + bytes(22)), (135, bytes(7)), (139, bytes(7))],
        [(51, b"\x04" + bytes(22))],
        [(44, bytes(7))],  # a fragment header for a packet that is whole (RFC 6946)
        [(60, bytes(7)), (140, bytes(7))],
    ],
)
def test_ipv6_extension_headers_are_passed_over(extensions: list[tuple[int, bytes]]) -> None:
    assert holds(read(ipv6(ENDS6, TCP, extensions=extensions)))


@pytest.mark.parametrize("make", [lambda: ipv4(ENDS4, TCP), lambda: ipv6(ENDS6, TCP)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("trailer", [b"\0", b"FCS!", bytes(46)])
def test_what_follows_ip_is_no_payload(make: Callable[[], bytes], trailer: bytes) -> None:
    assert holds(read(ethernet(make()) + trailer, 1))


def test_padding_of_a_short_frame_is_no_payload() -> None:
    found = read(ethernet(ipv4(ENDS4, tcp(PORTS, 0xFFFFFFF0, 77, PSH | ACK))) + bytes(6), 1)
    assert holds(found, b"")


@pytest.mark.parametrize("length", [0, None])
@pytest.mark.parametrize("said", [SAID, bytes(60_000), bytes(65_496), bytes(65_536), bytes(200_000)])
def test_a_packet_that_offload_has_yet_to_cut_is_as_long_as_it_was_captured(length: int | None, said: bytes) -> None:
    """Its length field holds 0, or the low bits."""
    body = tcp(PORTS, 0xFFFFFFF0, 77, PSH | ACK, said)
    assert holds(read(ethernet(ipv4(ENDS4, body, length=length)), 1), said)
    assert holds(read(ethernet(ipv6(ENDS6, body, length=length)), 1), said)


def test_a_jumbogram_is_as_long_as_it_was_captured() -> None:
    body = tcp(PORTS, 0xFFFFFFF0, 77, PSH | ACK, bytes(100_000))
    jumbo = b"\0\xc2\x04" + struct.pack(">I", len(body) + 8)
    assert holds(read(ipv6(ENDS6, body, extensions=[(0, jumbo)], length=0)), bytes(100_000))


def test_a_length_past_the_frame_is_not_believed() -> None:
    assert holds(read(ipv4(ENDS4, TCP, length=1000)))
    assert holds(read(ipv6(ENDS6, TCP, length=1000)))


@pytest.mark.parametrize("kept", [0, 1, len(SAID) - 1])
def test_payload_that_was_not_captured_is_counted(kept: int) -> None:
    for ip in (ipv4(ENDS4, TCP), ipv6(ENDS6, TCP), ipv4(ENDS4, TCP, options=bytes(8))):
        cut = len(ip) - len(SAID) + kept
        assert holds(read(ip[:cut], size=len(ip)), SAID[:kept], len(SAID))
        frame = ethernet(ip) + b"FCS!"
        assert holds(read(frame[: 14 + cut], 1, len(frame)), SAID[:kept], len(SAID))


@pytest.mark.parametrize(
    ("data", "link"),
    [
        (ethernet(bytes(28), kind=b"\x08\x06"), 1),  # ARP
        (ethernet(b"\x42\x42\x03" + bytes(35), kind=b"\0\x26"), 1),  # a length: 802.3, spanning tree
        (ethernet(b"", (0x8100,) * 20, kind=b"\x08\x06"), 1),
        (ipv4(ENDS4, bytes(8), protocol=17), 101),
        (ipv4(ENDS4, b"", protocol=17), 101),
        (ipv4(ENDS4, bytes(8), protocol=17, fragment=0x2000), 101),
        (ipv6(ENDS6, bytes(8), protocol=58), 101),
        (ipv6(ENDS6, b"", protocol=59), 101),
        (ipv6(ENDS6, bytes(8), protocol=17, extensions=[(44, b"\0\0\x01" + bytes(4))]), 101),
        (struct.pack("<I", 7) + bytes(40), 0),
        (struct.pack(">I", 7) + bytes(40), 108),
    ],
)
def test_what_is_not_tcp_is_passed_over(data: bytes, link: int) -> None:
    assert read(data, link) is None


@pytest.mark.parametrize(
    ("data", "link", "why"),
    [
        (b"", 1, "too short for its headers"),
        (b"", 101, "too short for its headers"),
        (b"", 113, "too short for its headers"),
        (b"", 276, "too short for its headers"),
        (b"\x02\0", 0, "too short for its headers"),
        (ethernet(b"", kind=b"\x08\0"), 1, "too short for its headers"),
        (ethernet(b"", kind=b"\x81\0"), 1, "too short for its headers"),
        (ethernet(ipv4(ENDS4, TCP)[:33]), 1, "too short for its headers"),
        (ethernet(ipv6(ENDS6, TCP)[:53]), 1, "too short for its headers"),
        (ipv6(ENDS6, b"", protocol=60), 101, "too short for its headers"),
        (b"\x25" + bytes(40), 101, "IP version 2"),
        (b"\x44" + ipv4(ENDS4, TCP)[1:], 101, "an IPv4 header of 16 bytes"),
        (ipv4(ENDS4, TCP, length=30), 101, "a TCP header of 20 bytes in 10"),
        (ipv6(ENDS6, TCP, length=19), 101, "a TCP header of 20 bytes in 19"),
        (ipv4(ENDS4, TCP[:12] + b"\x40" + TCP[13:]), 101, "a TCP header of 16 bytes"),
        (ipv6(ENDS6, TCP[:12] + b"\xf0" + TCP[13:]), 101, "a TCP header of 60 bytes in 37"),
        (bytes(60), 9, "link type 9 is not known here"),
        (bytes(60), -1, "link type -1 is not known here"),
        (ipv4(ENDS4, TCP, fragment=0x2000), 101, "IP fragments from 10.1.2.3 to 192.168.255.254"),
        (ipv4(ENDS4, TCP, fragment=0x0003), 101, "IP fragments from 10.1.2.3 to 192.168.255.254"),
        (ipv6(ENDS6, TCP, extensions=[(44, b"\0\0\x01" + bytes(4))]), 101, r"IP fragments from \[2001:db8::1\] to"),
        (ipv6(ENDS6, TCP, extensions=[(44, b"\0\0\x08" + bytes(4))]), 101, r"IP fragments from \[2001:db8::1\] to"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, link: int, why: str) -> None:
    with pytest.raises(MalformedPacket, match=f"^{why}"):
        read(data, link)


def test_headers_that_were_not_captured_are_told_apart_from_short_packets() -> None:
    with pytest.raises(MalformedPacket, match="not enough of it was captured for its headers"):
        read(ethernet(ipv4(ENDS4, TCP))[:47], 1, 1000)


def test_do_not_fragment_is_no_fragment() -> None:
    assert holds(read(ipv4(ENDS4, TCP, fragment=0x4000)))


@given(
    st.sampled_from([*{link for link, _ in LINKS.values()}, 228, 5000]), st.binary(max_size=120), st.integers(0, 200)
)
def test_any_packet_gives_a_segment_or_says_why_not(link: int, data: bytes, more: int) -> None:
    with contextlib.suppress(MalformedPacket):
        found = read(data, link, len(data) + more)
        assert found is None or len(found.payload) <= found.size <= len(data) + more


@given(st.sampled_from(sorted(LINKS)), st.booleans(), chances)
def test_a_damaged_packet_gives_a_segment_or_says_why_not(name: str, six: bool, chance: random.Random) -> None:
    link, wrap = LINKS[name]
    data = bytearray(wrap(ipv6(ENDS6, TCP, extensions=[(0, bytes(7))]) if six else ipv4(ENDS4, TCP)))
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(len(data))] = chance.choice((0, 1, 6, 44, 60, 255, chance.randrange(256)))
    with contextlib.suppress(MalformedPacket):
        found = read(bytes(data), link)
        assert found is None or len(found.payload) == found.size


def test_the_flags_are_those_of_the_header() -> None:
    found = read(ipv4(ENDS4, tcp(PORTS, 1, 2, FIN | ACK)))
    assert found is not None
    assert found.flags == FIN | ACK


@pytest.mark.skipif(not shutil.which("tshark"), reason="apt-get install tshark would let this run")
def test_tshark_reads_the_same(tmp_path: Path) -> None:
    """All links but those that IP's own version makes needless, each an interface of one file."""
    chance = random.Random(1)
    links = [made for name, made in LINKS.items() if name not in ("raw-12", "raw-14")]
    file = section() + b"".join(interface(link) for link, _ in links)
    ours = []
    for number, (link, wrap) in enumerate(links):
        for _ in range(20):
            said, options = bytes(chance.randint(0, 70)), b"\x01" * 4 * chance.randint(0, 10)
            ports = chance.randint(1025, 65535), 6800
            body = tcp(
                ports, chance.getrandbits(32), chance.getrandbits(32), chance.choice((ACK, FIN | ACK)), said, options
            )
            ip = chance.choice((ipv4(ENDS4, body), ipv6(ENDS6, body), ipv6(ENDS6, body, extensions=[(60, bytes(7))])))
            data = wrap(ip) + bytes(chance.choice((0, 6)) * (link == 1))
            packet = Packet(0, link, data, len(data))
            file += enhanced(packet, 0, number=number)
            found = segment(packet)
            assert found is not None
            (source, source_port), (destination, _) = ends(found.key)
            numbers = (source_port, found.seq, found.ack, found.flags, found.size, len(found.payload))
            ours.append([source.strip("[]"), destination.strip("[]"), *map(str, numbers)])
    (tmp_path / "all.pcapng").write_bytes(file)
    names = (
        "ip.src",
        "ipv6.src",
        "ip.dst",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.seq_raw",
        "tcp.ack_raw",
        "tcp.flags",
        "tcp.len",
    )
    columns = [part for name in names for part in ("-e", name)]
    run = ["tshark", "-r", tmp_path / "all.pcapng", "-T", "fields", *columns]
    lines = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
    theirs = []
    for line in lines:
        *some, flags, size = (column for column in line.split("\t") if column)
        theirs.append([*some, str(int(flags, 16)), size, size])
    assert ours == theirs
