"""Wireshark's reading of messenger v1, message by message, to hold ours against.

Its dissector (4.0, epan/dissectors/packet-ceph.c) is older than the challenge with which a daemon answers a client's
first authorizer (CVE-2018-1128), and takes the bytes of that round for tags and messages. In most connections it then
misses all that the client sends; in some, by the luck of random bytes, all that the daemon sends too. So it is given a
copy of the capture in which those rounds, and nothing else, are overwritten with KEEPALIVE tags.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Dissected", "Field", "dissect", "without_challenges"]

ENHANCED_PACKET = 6
BLOCK, PACKET_AT, ETHERNET = struct.Struct("<II"), 28, 14
BANNER = b"ceph v027"
ADDR, CONNECT, REPLY = 136, 33, 26
HANDSHAKE = 1 << 14
"""Bytes in which it is over."""
TCP_PROTOCOL, SYN = 6, 2
READY, SEQ = 1, 13
KEEPALIVE = b"\x09"
"""A tag that nothing follows (ceph: src/include/msgr.h, ``CEPH_MSGR_TAG_KEEPALIVE``)."""

TCP = re.compile(r"Src Port: (\d+), Dst Port: (\d+)")
IP = re.compile(r"Src: (\S+), Dst: (\S+)")


class Field(NamedTuple):
    """One field as tshark has it."""

    name: str
    """Such as ``ceph.msg.client_caps.inode``."""
    offset: int
    """From the beginning of the message's front."""
    raw: bytes
    """Its bytes; none where the field only holds others, or is missing."""


class Dissected(NamedTuple):
    """One message as tshark has it."""

    source: str
    target: str
    """Addresses, ``127.0.0.1:6800``."""
    fields: list[Field]


def dissect(path: Path) -> Iterator[Dissected]:
    """The messages of a capture, in its order."""
    # Everything about ceph, and of the layers below it only their names.
    command = ["tshark", "-r", str(path), "-Y", "ceph.tag == 7", "-T", "pdml", "-J", "ceph"]
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as tshark:
        assert tshark.stdout is not None
        for _, packet in ET.iterparse(tshark.stdout):
            if packet.tag == "packet":
                yield from _messages(packet)
                packet.clear()
        tshark.stdout.read()
        if tshark.wait():
            said.seek(0)
            raise RuntimeError(f"tshark ended with {tshark.returncode}: {said.read().decode(errors='replace')}")


def _messages(packet: ET.Element) -> Iterator[Dissected]:
    layers = {proto.get("name"): proto.get("showname", "") for proto in packet}
    addresses, ports = IP.search(layers["ip"]), TCP.search(layers["tcp"])
    assert addresses
    assert ports
    source, target = f"{addresses[1]}:{ports[1]}", f"{addresses[2]}:{ports[2]}"
    for proto in packet:
        if proto.get("name") != "ceph" or proto.find("field[@name='ceph.head']") is None:
            continue
        head = proto.find("field[@name='ceph.head']")
        assert head is not None
        front = int(head.get("pos", 0)) + int(head.get("size", 0))
        fields = [
            Field(name, int(field.get("pos", 0)) - front, _raw(field))
            for field in proto.iter("field")
            if (name := field.get("name", "")).startswith("ceph.")
        ]
        yield Dissected(source, target, fields)


def _raw(field: ET.Element) -> bytes:
    value = field.get("value", "")
    return bytes.fromhex(value) if len(value) == 2 * int(field.get("size", 0)) else b""  # else it is some of its bits


def without_challenges(capture: Path, copy: Path) -> None:
    """Make the copy that tshark understands; ``capture`` is dumpcap's, of one interface, with every handshake in it."""
    raw = bytearray(capture.read_bytes())
    begun: dict[tuple[bytes, bytes], list[_Side]] = {}
    for at in _tcp_packets(raw):
        tcp = at + (raw[at] & 15) * 4
        payload = tcp + (raw[tcp + 12] >> 4) * 4
        ends = (
            bytes(raw[at + 12 : at + 16] + raw[tcp : tcp + 2]),
            bytes(raw[at + 16 : at + 20] + raw[tcp + 2 : tcp + 4]),
        )
        if raw[tcp + 13] & SYN:
            begun.setdefault(ends, []).append(_Side(raw))
        elif ends in begun:
            begun[ends][-1].add(payload, at + int.from_bytes(raw[at + 2 : at + 4], "big"))
    for ends, sides in begun.items():
        for client, daemon in zip(sides, begun.get(ends[::-1], ()), strict=False):
            if int.from_bytes(ends[0][4:], "big") == daemon.told_port:
                _silence(client, daemon)
    copy.write_bytes(raw)


class _Side:
    """What one side of a connection sends first."""

    def __init__(self, raw: bytearray) -> None:
        self.data = b""
        self._raw = raw
        self._pieces: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> None:
        if start < stop and len(self.data) < HANDSHAKE:
            self._pieces.append((start, stop))
            self.data += self._raw[start:stop]

    @property
    def told_port(self) -> int | None:
        """The client's port as the daemon sees it: at the end of its banner are its own address and the client's."""
        at = len(BANNER) + ADDR + 10
        return int.from_bytes(self.data[at : at + 2], "big") if self.data.startswith(BANNER) else None

    def overwrite(self, start: int, stop: int) -> None:
        at = 0
        for first, last in self._pieces:
            end = at + last - first
            if start < end and stop > at:
                begin, past = max(start, at), min(stop, end)
                self._raw[first + begin - at : first + past - at] = KEEPALIVE * (past - begin)
            at = end


def _silence(client: _Side, daemon: _Side) -> None:
    """Leave the first connect of a handshake and the last reply, and nothing between them."""
    sent, answered = len(BANNER) + ADDR, len(BANNER) + 2 * ADDR
    first = None
    while len(client.data) >= sent + CONNECT and len(daemon.data) >= answered + REPLY:
        asks = sent + CONNECT + int.from_bytes(client.data[sent + 28 : sent + 32], "little")
        says = answered + REPLY + int.from_bytes(daemon.data[answered + 21 : answered + 25], "little")
        if first is not None:
            client.overwrite(sent, asks)
        first = first or sent
        if daemon.data[answered] in (READY, SEQ):
            return
        daemon.overwrite(answered, says)
        sent, answered = asks, says


def _tcp_packets(raw: bytearray) -> Iterator[int]:
    """Where the IPv4 header of each TCP packet is."""
    at = 0
    while at + BLOCK.size <= len(raw):
        kind, size = BLOCK.unpack_from(raw, at)
        ip = at + PACKET_AT + ETHERNET
        if kind == ENHANCED_PACKET and raw[ip + 9] == TCP_PROTOCOL:
            yield ip
        at += size
