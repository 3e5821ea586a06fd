"""Makes packets and capture files, good and bad."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from cephcaps.trace.capture import Packet

__all__ = [
    "ACK",
    "FIN",
    "LINKS",
    "PSH",
    "RST",
    "START",
    "SYN",
    "Talk",
    "block",
    "enhanced",
    "ethernet",
    "interface",
    "ipv4",
    "ipv6",
    "obsolete",
    "option",
    "pcap",
    "pcapng",
    "section",
    "simple",
    "sll",
    "sll2",
    "tcp",
]

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
START = 1_700_000_000_000_000_000
"""When captures begin, ns."""


# Headers.


def tcp(ports: tuple[int, int], seq: int, ack: int, flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
    header = struct.pack(
        ">HHIIBBHHH", *ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 + len(options) // 4 << 4, flags, 65535, 0, 0
    )
    return header + options + payload


def ipv4(
    ends: tuple[str, str],
    body: bytes,
    *,
    protocol: int = 6,
    options: bytes = b"",
    fragment: int = 0,
    length: int | None = None,
) -> bytes:
    words = 5 + len(options) // 4
    if length is None:
        length = words * 4 + len(body)
    header = struct.pack(">BBHHHBBH", 0x40 | words, 0, length & 0xFFFF, 1, fragment, 64, protocol, 0)
    return header + b"".join(ip_address(end).packed for end in ends) + options + body


def ipv6(
    ends: tuple[str, str],
    body: bytes,
    *,
    protocol: int = 6,
    extensions: Sequence[tuple[int, bytes]] = (),
    length: int | None = None,
) -> bytes:
    """``extensions``: number and bytes of each header; the next header's number is put in front of the bytes."""
    following = [*(number for number, _ in extensions), protocol]
    chain = b"".join(bytes((after,)) + rest for (_, rest), after in zip(extensions, following[1:], strict=True))
    if length is None:
        length = len(chain) + len(body)
    header = struct.pack(">IHBB", 6 << 28, length & 0xFFFF, following[0], 64)
    return header + b"".join(ip_address(end).packed for end in ends) + chain + body


def ethertype(ip: bytes) -> bytes:
    return b"\x86\xdd" if ip[0] >> 4 == 6 else b"\x08\x00"


def ethernet(ip: bytes, tags: Iterable[int] = (), kind: bytes | None = None) -> bytes:
    """``tags``: the ethertypes of its VLAN tags."""
    return bytes(12) + b"".join(struct.pack(">HH", tag, 5) for tag in tags) + (kind or ethertype(ip)) + ip


def sll(ip: bytes) -> bytes:
    return struct.pack(">HHH8s", 4, 1, 6, b"") + ethertype(ip) + ip


def sll2(ip: bytes) -> bytes:
    return ethertype(ip) + struct.pack(">HIHBB8s", 0, 2, 1, 0, 6, b"") + ip


def loopback(order: str, family: int) -> bytes:
    return struct.pack(f"{order}I", family)


LINKS = {
    "ethernet": (1, ethernet),
    "vlan": (1, lambda ip: ethernet(ip, (0x8100,))),
    "qinq": (1, lambda ip: ethernet(ip, (0x88A8, 0x8100))),
    "sll": (113, sll),
    "sll2": (276, sll2),
    "null": (0, lambda ip: loopback("<", 2 if ip[0] >> 4 == 4 else 30) + ip),
    "null-other-order": (0, lambda ip: loopback(">", 2 if ip[0] >> 4 == 4 else 24) + ip),
    "loop": (108, lambda ip: loopback(">", 2 if ip[0] >> 4 == 4 else 28) + ip),
    "raw": (101, bytes),
    "raw-12": (12, bytes),
    "raw-14": (14, bytes),
}
"""LINKTYPE and what it puts before IP."""


class Talk:
    """A TCP connection: each method gives the packets of what happens next."""

    def __init__(
        self,
        client: str = "10.0.0.2",
        daemon: str = "10.0.0.1",
        ports: tuple[int, int] = (41234, 6800),
        isn: tuple[int, int] = (1000, 5000),
        link: str = "ethernet",
    ) -> None:
        self.ends, self.ports = (client, daemon), ports
        self.next = [isn[1], isn[0]]  # by to_daemon
        self.ns = START
        self.link, self.wrap = LINKS[link]

    def packet(
        self, to_daemon: bool, flags: int, payload: bytes = b"", *, seq: int | None = None, ack: int | None = None
    ) -> Packet:
        """One packet as said; only the clock moves."""
        self.ns += 1000
        step = 1 if to_daemon else -1
        seq = self.next[to_daemon] if seq is None else seq
        ack = self.next[not to_daemon] if ack is None else ack
        body = tcp(self.ports[::step], seq, ack if flags & ACK else 0, flags, payload)
        ip = (ipv6 if ":" in self.ends[0] else ipv4)(self.ends[::step], body)
        data = self.wrap(ip)
        return Packet(self.ns, self.link, data, len(data))

    def connect(self) -> list[Packet]:
        packets = [self.packet(True, SYN)]
        self.next[1] += 1
        packets.append(self.packet(False, SYN | ACK))
        self.next[0] += 1
        return [*packets, self.packet(True, ACK)]

    def send(self, to_daemon: bool, data: bytes, size: int = 1448) -> list[Packet]:
        packets = []
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            packets.append(self.packet(to_daemon, PSH | ACK, piece))
            self.next[to_daemon] += len(piece)
        return packets

    def ack(self, to_daemon: bool) -> list[Packet]:
        """Sent by the client if ``to_daemon``: it has all that was sent."""
        return [self.packet(to_daemon, ACK)]

    def fin(self, to_daemon: bool) -> list[Packet]:
        packets = [self.packet(to_daemon, FIN | ACK)]
        self.next[to_daemon] += 1
        return packets

    def rst(self, to_daemon: bool) -> list[Packet]:
        return [self.packet(to_daemon, RST | ACK)]


# Capture files.


def pcap(
    packets: Iterable[Packet], order: str = "<", magic: int = 0xA1B2C3D4, link: int = 1, snaplen: int = 262144
) -> bytes:
    unit = 1 if magic == 0xA1B23C4D else 1000
    rest = bytes(8) if magic == 0xA1B2CD34 else b""
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    for packet in packets:
        seconds, ns = divmod(packet.ns, 1_000_000_000)
        parts += (struct.pack(f"{order}IIII", seconds, ns // unit, len(packet.data), packet.size), rest, packet.data)
    return b"".join(parts)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    size = struct.pack(f"{order}I", len(padded(body)) + 12)
    return struct.pack(f"{order}I", kind) + size + padded(body) + size


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + padded(value)


def section(order: str = "<", major: int = 1, options: bytes = b"") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, major, 0, -1) + options, order)


def interface(link: int = 1, order: str = "<", options: bytes = b"", snaplen: int = 0) -> bytes:
    return block(1, struct.pack(f"{order}HHI", link, 0, snaplen) + options, order)


def enhanced(packet: Packet, ticks: int, order: str = "<", number: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(packet.data), packet.size)
    return block(6, head + padded(packet.data) + options, order)


def obsolete(packet: Packet, ticks: int, order: str = "<", number: int = 0) -> bytes:
    head = struct.pack(f"{order}HHIIII", number, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(packet.data), packet.size)
    return block(2, head + padded(packet.data), order)


def simple(packet: Packet, order: str = "<") -> bytes:
    return block(3, struct.pack(f"{order}I", packet.size) + packet.data, order)


def pcapng(packets: Iterable[Packet], order: str = "<", link: int = 1) -> bytes:
    """Of one interface with times in nanoseconds."""
    nanoseconds = option(9, b"\x09", order) + option(0, b"", order)
    head = section(order) + interface(link, order, nanoseconds)
    return head + b"".join(enhanced(packet, packet.ns, order) for packet in packets)
