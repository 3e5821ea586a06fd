"""The TCP segment in a packet: link layer, IP and TCP headers taken off.

Sources: https://www.tcpdump.org/linktypes.html and the pages it leads to; IEEE 802.1Q, 9.6; RFC 791, 3.1; RFC 8200, 3
and 4; RFC 2675 (jumbograms); RFC 4302, 2; RFC 9293, 3.1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from cephcaps.trace.items import Problem
from cephcaps.trace.source import MAX_RECORD, Packet

__all__ = ["MAX_LENGTH", "MalformedPacket", "Segment", "ends", "reverse", "segment", "segments"]

ETHERNET = 1
NULL = 0
"""BSD loopback: the address family in the capturing machine's byte order; LOOP has it in the network's."""
LOOP = 108
LINUX_SLL = 113
LINUX_SLL2 = 276
RAW = frozenset((12, 14, 101, 228, 229))
"""Nothing but IP. 101 is LINKTYPE_RAW; 12 and 14 are what some systems' DLT_RAW wrote; 228 and 229 say which IP."""

ETHERTYPE_AT = 12
ETHERNET_SIZE = 14
LINUX_SLL_TYPE_AT = 14
LINUX_SLL_SIZE = 16
LINUX_SLL2_SIZE = 20
IPV4 = b"\x08\x00"
IPV6 = b"\x86\xdd"
VLAN_TAGS = frozenset((b"\x81\x00", b"\x88\xa8", b"\x91\x00"))
"""802.1Q, 802.1ad, and what QinQ used before it."""
VLAN_SIZE = 4
FAMILIES = frozenset((2, 10, 24, 28, 30))
"""AF_INET everywhere; AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS."""

TCP = 6
FRAGMENT_MASK = 0x3FFF
"""Of IPv4's flags and offset: more fragments follow, or this is not the first."""
IPV6_FRAGMENT_MASK = 0xFFF9
"""The same of the fragment header."""
MAX_LENGTH = 0xFFFF
"""What the length fields of IP can hold. A packet that segmentation offload has yet to cut, as captures show it, may be
longer: the field then holds 0 or the low bits."""
IPV4_SIZE = 20
IPV6_SIZE = 40
FRAGMENT = 44
AUTHENTICATION = 51
EXTENSIONS = frozenset((0, 43, FRAGMENT, AUTHENTICATION, 60, 135, 139, 140))
"""IPv6's extension headers: hop by hop, routing, destination, mobility, HIP and Shim6 count units of 8 bytes less one
(RFC 6564, 4), the authentication header 4 bytes less two (RFC 4302, 2.2); the fragment header always has 8."""

IPV4_HEADER = struct.Struct(">xxHxxHxB2x8s").unpack_from
IPV6_HEADER = struct.Struct(">4xHBx32s").unpack_from
TCP_HEADER = struct.Struct(">4sIIBB").unpack_from
TCP_SIZE = 20
"""Bytes of a TCP header without options."""

ETHERTYPE_IPV4 = int.from_bytes(IPV4, "big")
IPV4_WITHOUT_OPTIONS = 0x45
IPV4_TCP = {
    link: (struct.Struct(f">{link_layer}BxHxxHxB2x12sIIBBxxxxxx").unpack_from, size + IPV4_SIZE + TCP_SIZE)
    for link, link_layer, size in (
        (ETHERNET, "12xH", ETHERNET_SIZE),
        (LINUX_SLL, "14xH", LINUX_SLL_SIZE),
        (LINUX_SLL2, "H18x", LINUX_SLL2_SIZE),
    )
}
"""By link type, all headers at once where none has options, and their size: type of the link layer; version and header
length of IPv4, total length, flags and fragment offset, protocol, addresses and TCP's ports; sequence and
acknowledgment numbers, data offset, flags."""
NO_IPV4_TCP = (struct.Struct("").unpack_from, MAX_RECORD + 1)
"""Of all other link types: no packet is that long."""
make: Callable[..., Any] = tuple.__new__
"""A NamedTuple in half the time that its class takes."""


class MalformedPacket(Exception):
    """It should hold TCP, but cannot be read."""


class Segment(NamedTuple):
    """What TCP sent."""

    key: bytes
    """Source and destination address, source and destination port; `ends` makes text of it."""
    seq: int
    ack: int
    flags: int
    payload: bytes
    size: int
    """Bytes of payload on the wire; ``payload`` is shorter where the capture kept only the packet's beginning."""


def segments(packets: Iterable[Packet | Problem]) -> list[Segment | MalformedPacket | None]:
    """What `segment` says of each; of a problem, None.

    To be asked of many packets at once: each step of decoding that has a few hundred of them to itself takes a tenth
    less time than if all steps took turns, since its code stays in the processor's cache.
    """
    found: list[Segment | MalformedPacket | None] = []
    for packet in packets:
        if isinstance(packet, Problem):
            found.append(None)
            continue
        _, link, data, size = packet
        # The commonest packet first, whole and right; whatever else it may be, `segment` sees.
        unpack, least = IPV4_TCP.get(link, NO_IPV4_TCP)
        if len(data) >= least:
            kind, version, total, fragment, protocol, key, seq, ack, offset, flags = unpack(data)
            start = least - TCP_SIZE + (offset >> 4) * 4
            if (
                kind == ETHERTYPE_IPV4
                and version == IPV4_WITHOUT_OPTIONS
                and protocol == TCP
                and not fragment & FRAGMENT_MASK
                and least <= start <= size == least - TCP_SIZE - IPV4_SIZE + total
            ):
                found.append(make(Segment, (key, seq, ack, flags, data[start:], size - start)))
                continue
        try:
            found.append(segment(packet))
        except MalformedPacket as bad:
            found.append(bad)
    return found


def segment(packet: Packet) -> Segment | None:
    """The TCP segment in ``packet``; None if it carries something else.

    Raises:
        MalformedPacket: a header is damaged or was not captured, it is a fragment, or the link layer is not known.
    """
    _, link, data, size = packet
    try:
        at = _ip_at(link, data)
        return None if at < 0 else _segment_at(data, at, size)
    except (struct.error, IndexError):
        short = "not enough of it was captured for its headers" if len(data) < size else "too short for its headers"
        raise MalformedPacket(short) from None


def ends(key: bytes) -> tuple[tuple[str, int], tuple[str, int]]:
    """Address as text and port of the source, and of the destination."""
    size = len(key) // 2 - 2
    source, destination = key[:size], key[size : 2 * size]
    return (
        (_text(source), int.from_bytes(key[-4:-2], "big")),
        (_text(destination), int.from_bytes(key[-2:], "big")),
    )


def reverse(key: bytes) -> bytes:
    """The key of what the other side sends."""
    size = len(key) // 2 - 2
    return key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]


def _text(address: bytes) -> str:
    return str(IPv4Address(address)) if len(address) == 4 else f"[{IPv6Address(address)}]"


def _ip_at(link: int, data: bytes) -> int:
    """Where the IP header begins; -1 if there is none."""
    if link in RAW:
        return 0
    if link in (NULL, LOOP):
        family = data[:4]
        known = int.from_bytes(family, "little") in FAMILIES or int.from_bytes(family, "big") in FAMILIES
        return 4 if known or len(family) < 4 else -1
    if link == ETHERNET:
        type_at, at = ETHERTYPE_AT, ETHERNET_SIZE
    elif link == LINUX_SLL2:
        type_at, at = 0, LINUX_SLL2_SIZE
    elif link == LINUX_SLL:
        type_at, at = LINUX_SLL_TYPE_AT, LINUX_SLL_SIZE
    else:
        raise MalformedPacket(f"link type {link} is not known here")
    kind = data[type_at : type_at + 2]
    while kind in VLAN_TAGS:
        kind = data[at + 2 : at + 4]
        at += VLAN_SIZE
    # A type that was not captured could be IP: the caller finds nothing at the header's place, and says so.
    return at if kind in (IPV4, IPV6) or len(kind) < 2 else -1


def _segment_at(data: bytes, at: int, size: int) -> Segment | None:
    """Of any IP packet; struct.error or IndexError if what was captured ends in a header."""
    version = data[at] >> 4
    if version == 4:
        total, fragment, protocol, addresses = IPV4_HEADER(data, at)
        stop = at + _length(total, size - at)
        if protocol != TCP:
            return None
        if fragment & FRAGMENT_MASK:
            raise _fragment(addresses)
        header = (data[at] & 0x0F) * 4
        if header < IPV4_SIZE:
            raise MalformedPacket(f"an IPv4 header of {header} bytes")
        at += header
    elif version == 6:
        length, protocol, addresses = IPV6_HEADER(data, at)
        at += IPV6_SIZE
        stop = at + _length(length, size - at)
        while protocol in EXTENSIONS:
            following, eighths = data[at], data[at + 1]
            if protocol == FRAGMENT:
                if following == TCP and int.from_bytes(data[at + 2 : at + 4], "big") & IPV6_FRAGMENT_MASK:
                    raise _fragment(addresses)
                at += 8
            elif protocol == AUTHENTICATION:
                at += (eighths + 2) * 4
            else:
                at += (eighths + 1) * 8
            protocol = following
        if protocol != TCP:
            return None
    else:
        raise MalformedPacket(f"IP version {version}")
    ports, seq, ack, offset, flags = TCP_HEADER(data, at)
    header = (offset >> 4) * 4
    if header < TCP_SIZE or stop - at < header:
        raise MalformedPacket(f"a TCP header of {header} bytes in {stop - at}")
    at += header
    return Segment(addresses + ports, seq, ack, flags, data[at:stop], stop - at)


def _length(said: int, wire: int) -> int:
    """Bytes of an IP packet, of which the header says so many and the wire had so many."""
    return wire if said == 0 or wire > MAX_LENGTH else min(said, wire)


def _fragment(addresses: bytes) -> MalformedPacket:
    half = len(addresses) // 2
    return MalformedPacket(
        f"IP fragments from {_text(addresses[:half])} to {_text(addresses[half:])}: they are not put together"
    )
