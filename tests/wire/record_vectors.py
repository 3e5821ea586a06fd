"""Makes the recorded messages in data/mds from a capture of real clients and MDSs: a tool, run by hand.

    python tests/wire/record_vectors.py CAPTURE.pcap RELEASE > tests/wire/data/mds/RELEASE.jsonl

The capture is tcpdump's own format, of a cluster with "ms cluster mode = crc", "ms service mode = crc", "ms client mode
= crc", begun before its clients. Every message between a client and an MDS must decode to the last byte, or the tool
stops; of those, the shortest that together show all there is to see are kept. No other frames are: they have keys.
"""

from __future__ import annotations

import json
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import msgspec

from cephwire.message import Message
from cephwire.messages import BY_NUMBER
from cephwire.session import CLIENT_SESSION, SessionOp

MESSAGE_TAG, HELLO_TAG = 17, 1
MDS_ENTITY, CLIENT_ENTITY = 2, 8
BANNER_SIZE, PREAMBLE_SIZE, EPILOGUE_SIZE = 26, 32, 13
TYPES = {*range(22, 30), *range(0x310, 0x315)}
LONGEST = 9000
"""Bytes; longer messages only repeat themselves."""

TELLING = {"op", "action", "type", "result", "flags", "dirty", "safe", "mask", "kind", "snapid", "frag", "data"}
"""Fields whose every value is worth a message; of others, whether they say anything."""


class Recorded(NamedTuple):
    type: int
    version: int
    compat: int
    tid: int
    dir: str
    segments: tuple[bytes, bytes, bytes]

    def as_json(self) -> str:
        front, middle, data = (segment.hex() for segment in self.segments)
        facts = {"type": self.type, "version": self.version, "compat": self.compat, "tid": self.tid, "dir": self.dir}
        return json.dumps(facts | {k: v for k, v in (("front", front), ("middle", middle), ("data", data)) if v})


def tcp_streams(capture: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What both sides of each connection have sent: the side that opened it first."""
    magic, link = struct.unpack_from("<I16xI", capture)
    assert magic in (0xA1B2C3D4, 0xA1B23C4D), "not tcpdump's little-endian format"
    assert link == 1, "not captured on an Ethernet-like interface"
    pieces: dict[tuple[bytes, bytes, bytes, bytes], dict[int, bytes]] = defaultdict(dict)
    begins: dict[tuple[bytes, bytes, bytes, bytes], int] = {}
    opened: list[tuple[bytes, bytes, bytes, bytes]] = []
    at = 24
    while at < len(capture):
        size = struct.unpack_from("<8xI", capture, at)[0]
        packet, at = capture[at + 16 : at + 16 + size], at + 16 + size
        ip = packet[14:]
        tcp = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4])]
        key = (ip[12:16], tcp[0:2], ip[16:20], tcp[2:4])
        seq, flags = struct.unpack_from(">I5xB", tcp, 4)
        if flags & 2:  # SYN
            assert key not in begins, "two connections between the same ports"
            begins[key] = seq + 1
            if not flags & 16:
                opened.append(key)
        payload = tcp[(tcp[12] >> 4) * 4 :]
        if payload and key in begins:
            offset = seq - begins[key] & 0xFFFFFFFF
            if len(payload) > len(pieces[key].get(offset, b"")):
                pieces[key][offset] = payload
    for key in opened:
        yield joined(pieces[key]), joined(pieces[key[2], key[3], key[0], key[1]])


def joined(pieces: dict[int, bytes]) -> bytes:
    """The bytes up to the first that was not captured."""
    found = bytearray()
    for offset in sorted(pieces):
        if offset > len(found):
            break
        found += pieces[offset][len(found) - offset :]
    return bytes(found)


def frames(stream: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Tag and segments of every whole frame, messenger v2.1 in crc mode."""
    at = BANNER_SIZE
    while at + PREAMBLE_SIZE <= len(stream):
        preamble = stream[at : at + PREAMBLE_SIZE]
        assert crc(preamble[:28], 0) == int.from_bytes(preamble[28:], "little"), "not in crc mode, or bytes are missing"
        sizes = [int.from_bytes(preamble[2 + 6 * i : 6 + 6 * i], "little") for i in range(preamble[1])]
        end = at + PREAMBLE_SIZE + sum(sizes) + (4 if sizes[0] else 0) + (EPILOGUE_SIZE if len(sizes) > 1 else 0)
        if end > len(stream):
            return
        at += PREAMBLE_SIZE
        segments = []
        for i, size in enumerate(sizes):
            segments.append(stream[at : at + size])
            at += size + (4 if i == 0 and size else 0)
        yield preamble[0], segments
        at = end


def crc(raw: bytes, seed: int) -> int:
    """crc32c as Ceph computes it: no inversion before and after."""
    return int(google_crc32c.extend(seed ^ 0xFFFFFFFF, raw)) ^ 0xFFFFFFFF


def messages(capture: bytes) -> Iterator[Recorded]:
    """Those between clients and MDSs, in no order that matters."""
    for sent, received in tcp_streams(capture):
        if (entity(sent), entity(received)) != (CLIENT_ENTITY, MDS_ENTITY):
            continue
        for direction, stream in (("out", sent), ("in", received)):
            for tag, segments in frames(stream):
                if tag != MESSAGE_TAG:
                    continue
                tid, number, version, compat = struct.unpack_from("<8xQH2xH15xH", segments[0])
                if number in TYPES:
                    rest = [*segments[1:], b"", b"", b""]
                    yield Recorded(number, version, compat, tid, direction, (rest[0], rest[1], rest[2]))


def entity(stream: bytes) -> int:
    """Type of the entity that sent this."""
    return next((segments[0][0] for tag, segments in frames(stream) if tag == HELLO_TAG), 0)


def decode(recorded: Recorded) -> Any:
    message: Message[Any] = BY_NUMBER[recorded.type]
    leftover: list[Any] = []
    found = message.decode(*recorded.segments, version=recorded.version, compat=recorded.compat, leftover=leftover)
    assert not leftover, (recorded, leftover)
    return found


def sights(value: Any, path: str) -> Iterator[str]:
    """What there is to see in a message, one string each."""
    if isinstance(value, msgspec.Struct):
        yield f"{path}={type(value).__name__}"
        for name in value.__struct_fields__:
            field = getattr(value, name)
            if name in TELLING and isinstance(field, int | bytes):
                yield f"{path}.{name}={field!r}"
            yield from sights(field, f"{path}.{name}")
    elif isinstance(value, dict | tuple):
        yield f"{path} {'some' if value else 'none'}"
        for item in value.values() if isinstance(value, dict) else value:
            yield from sights(item, f"{path}[]")
    else:
        yield f"{path} {'some' if value else 'none'}"


def size(recorded: Recorded) -> int:
    return sum(map(len, recorded.segments))


def telling(found: list[Recorded]) -> Iterator[Recorded]:
    """The shortest messages that show everything all of them show."""
    seen: set[str] = set()
    for recorded in sorted(found, key=size):
        message = decode(recorded)
        if size(recorded) > LONGEST:
            continue
        kind = f"{recorded.type} {recorded.version} {recorded.dir}"
        op = getattr(message, "op", getattr(message, "action", ""))
        shown = {f"{kind} {sight}" for sight in sights(message, "")} | {f"{kind} op={op}"}
        if recorded.tid:
            shown.add(f"{kind} op={op} tid")
        if not shown <= seen:
            seen |= shown
            yield recorded


def main() -> None:
    path, release = sys.argv[1:]
    found = list(messages(Path(path).read_bytes()))
    sessions = [(m, decode(m)) for m in found if m.type == CLIENT_SESSION.number and m.version > 1]
    client = next(s.features for _, s in sessions if s.op == SessionOp.REQUEST_OPEN)
    mds = next(s.features for _, s in sessions if s.op == SessionOp.OPEN)
    print(json.dumps({"release": release, "features": client & mds}))
    kept = sorted(telling(found), key=lambda r: (r.type, r.dir, size(r)))
    for recorded in kept:
        print(recorded.as_json())
    print(f"{len(kept)} of {len(found)} messages", file=sys.stderr)


if __name__ == "__main__":
    main()
