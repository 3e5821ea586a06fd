"""Bytes <-> frames of msgr2.1, in crc and secure mode.

Source: ceph: src/msg/async/frames_v2.h; doc/dev/msgr2.rst. Revision 0 of the protocol frames differently and is not
spoken.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.secure import TAG_SIZE, SecureStream
from cephwire.codec import Codec
from cephwire.errors import MalformedMessage
from cephwire.frames import FRAME_COMPRESSED, LATE_STATUS_MASK, MAX_SEGMENTS, PREAMBLE, LateStatus, Preamble, Tag

__all__ = ["Frame", "FrameReader", "FrameWriter"]

PREAMBLE_SIZE = 32
EPILOGUE_CRC = struct.Struct("<BIII")
EPILOGUE_SECURE_SIZE = 16
CRC = struct.Struct("<I")
PREAMBLE_LAYOUT = struct.Struct("<BBIHIHIHIHBB")
INLINE_SIZE = 48
"""Bytes of the first segment that are sealed together with the preamble."""
BLOCK = 16
"""Secure mode pads every segment to whole cipher blocks."""
SEGMENT_CRC_SEED = 0xFFFFFFFF
ALIGNMENT = (8, 8, 8, 4096)

MAX_HANDSHAKE_FRAME = 64 * 1024
"""Bytes of a frame from a peer that has not proved who it is; tickets for all services take under 2 KiB."""
MAX_FRAME = 256 * 1024 * 1024
"""Bytes of any frame; an MDS sends at most a directory's listing or an OSD map in one (a few MiB)."""

preambles: Codec[Preamble] = Codec(PREAMBLE)


class Frame(NamedTuple):
    """One frame, checked and in clear."""

    tag: int
    segments: tuple[bytes, ...]


class FrameReader:
    """Takes bytes as they come and gives frames.

    Attributes:
        transcript: every byte read so far, while the handshake needs it for its signature; then None.
        limit: largest frame accepted, bytes.
    """

    def __init__(self) -> None:
        self.transcript: bytearray | None = bytearray()
        self.limit = MAX_HANDSHAKE_FRAME
        self._secure: SecureStream | None = None
        self._buffer = bytearray()
        self._at = 0
        self._preamble: Preamble | None = None
        self._first = b""  # of a secure frame: the part of segment 0 sealed with the preamble

    def encrypt(self, stream: SecureStream) -> None:
        """What follows is sealed."""
        self._secure = stream

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self, size: int) -> bytes | None:
        """The next ``size`` bytes, or None while they are not all here."""
        stop = self._at + size
        if len(self._buffer) < stop:
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            return None
        taken = bytes(self._buffer[self._at : stop])
        self._at = stop
        if self.transcript is not None:
            self.transcript += taken
        return taken

    def next(self) -> Frame | None:
        """The next frame, or None while it is not all here.

        Raises:
            MalformedMessage: the bytes are no frame, damaged, or longer than `limit`; nothing after them can be read.
        """
        while True:
            if self._preamble is None and not self._read_preamble():
                return None
            assert self._preamble is not None
            body = self.take(_body_size(self._preamble, self._secure is not None))
            if body is None:
                return None
            preamble, self._preamble = self._preamble, None
            segments = self._open(preamble, body) if self._secure else _checked(preamble, body)
            if segments is not None:
                return Frame(preamble.tag, segments)

    def _read_preamble(self) -> bool:
        block = self.take(PREAMBLE_SIZE if self._secure is None else PREAMBLE_SIZE + INLINE_SIZE + TAG_SIZE)
        if block is None:
            return False
        if self._secure is not None:
            block = self._secure.open(block)
            self._first = block[PREAMBLE_SIZE:]
        preamble = preambles.decode(block[:PREAMBLE_SIZE])
        if preamble.crc != crc32c(0, block[: PREAMBLE_SIZE - CRC.size]):
            raise MalformedMessage("Preamble.crc at byte 28: does not fit; not a msgr2.1 peer, or damaged on the way")
        if not 1 <= preamble.num_segments <= MAX_SEGMENTS:
            raise MalformedMessage(f"Preamble.num_segments at byte 1: {preamble.num_segments}, not 1 to {MAX_SEGMENTS}")
        if preamble.num_segments > 1 and not preamble.lengths[-1]:
            raise MalformedMessage("Preamble.num_segments at byte 1: counts an empty last segment")
        if preamble.flags & FRAME_COMPRESSED:
            raise MalformedMessage("Preamble.flags at byte 26: a compressed frame, which was not agreed on")
        if sum(preamble.lengths) > self.limit:
            raise MalformedMessage(f"Preamble at byte 2: a frame of {sum(preamble.lengths)} bytes, over {self.limit}")
        self._preamble = preamble
        return True

    def _open(self, preamble: Preamble, body: bytes) -> tuple[bytes, ...] | None:
        """The segments of a secure frame; None if its sender gave it up."""
        assert self._secure is not None
        length, *others = preamble.lengths
        first, self._first = self._first, b""
        rest = 0
        if length > INLINE_SIZE:
            rest = _padded(length) - INLINE_SIZE + TAG_SIZE
            first += self._secure.open(body[:rest])
        segments = [first[:length]]
        if not others:
            return tuple(segments)
        tail = self._secure.open(body[rest:])
        at = 0
        for size in others:
            segments.append(tail[at : at + size])
            at += _padded(size)
        return tuple(segments) if _complete(tail[at]) else None


def _checked(preamble: Preamble, body: bytes) -> tuple[bytes, ...] | None:
    """The segments of a frame in crc mode; None if its sender gave it up."""
    lengths = preamble.lengths
    segments: list[bytes] = []
    crcs: list[int] = []
    at = 0
    for index, size in enumerate(lengths):
        segments.append(body[at : at + size])
        at += size
        if index == 0 and size:
            crcs += CRC.unpack_from(body, at)
            at += CRC.size
        elif index == 0:
            crcs.append(SEGMENT_CRC_SEED)
    status = LateStatus.COMPLETE
    if len(lengths) > 1:
        status, *later = EPILOGUE_CRC.unpack_from(body, at)
        crcs += later[: len(lengths) - 1]
    for index, (segment, crc) in enumerate(zip(segments, crcs, strict=True)):
        if crc32c(SEGMENT_CRC_SEED, segment) != crc:
            raise MalformedMessage(f"Frame segment {index} of {len(segment)} bytes: its crc is not {crc:#x}; damaged")
    return tuple(segments) if _complete(status) else None


def _complete(late_status: int) -> bool:
    status = late_status & LATE_STATUS_MASK
    if status not in (LateStatus.COMPLETE, LateStatus.ABORTED):
        raise MalformedMessage(f"Epilogue.late_status: {late_status:#x} is neither complete nor aborted")
    return status == LateStatus.COMPLETE


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _body_size(preamble: Preamble, secure: bool) -> int:
    """Bytes of the frame after what came with its preamble."""
    first, *others = preamble.lengths
    if secure:
        size = _padded(first) - INLINE_SIZE + TAG_SIZE if first > INLINE_SIZE else 0
        return size + (sum(map(_padded, others)) + EPILOGUE_SECURE_SIZE + TAG_SIZE if others else 0)
    size = first + (CRC.size if first else 0)
    return size + (sum(others) + EPILOGUE_CRC.size if others else 0)


class FrameWriter:
    """Makes frames' bytes."""

    def __init__(self) -> None:
        self._secure: SecureStream | None = None

    def encrypt(self, stream: SecureStream) -> None:
        """What follows is sealed."""
        self._secure = stream

    def frame(self, tag: Tag, segments: Sequence[bytes]) -> bytes:
        """One frame of up to four segments; empty ones at the end are left out."""
        count = len(segments)
        while count > 1 and not segments[count - 1]:
            count -= 1
        used = segments[:count]
        layout: list[int] = []
        for segment, alignment in zip(used, ALIGNMENT, strict=False):
            layout += (len(segment), alignment)
        head = PREAMBLE_LAYOUT.pack(tag, count, *layout, *[0] * (8 - len(layout)), 0, 0)
        preamble = head + CRC.pack(crc32c(0, head))
        return self._seal(preamble, used) if self._secure else _with_crcs(preamble, used)

    def _seal(self, preamble: bytes, segments: Sequence[bytes]) -> bytes:
        assert self._secure is not None
        seal = self._secure.seal
        first, *others = segments
        sealed = [seal(preamble + first[:INLINE_SIZE].ljust(INLINE_SIZE, b"\0"))]
        if len(first) > INLINE_SIZE:
            sealed.append(seal(first[INLINE_SIZE:].ljust(_padded(len(first)) - INLINE_SIZE, b"\0")))
        if others:
            padded = [segment.ljust(_padded(len(segment)), b"\0") for segment in others]
            sealed.append(seal(b"".join([*padded, bytes((LateStatus.COMPLETE,)).ljust(EPILOGUE_SECURE_SIZE, b"\0")])))
        return b"".join(sealed)


def _with_crcs(preamble: bytes, segments: Sequence[bytes]) -> bytes:
    first, *others = segments
    parts = [preamble, first]
    if first:
        parts.append(CRC.pack(crc32c(SEGMENT_CRC_SEED, first)))
    if others:
        parts += others
        crcs = [crc32c(SEGMENT_CRC_SEED, segment) for segment in others]
        parts.append(EPILOGUE_CRC.pack(LateStatus.COMPLETE, *crcs, *[0] * (3 - len(crcs))))
    return b"".join(parts)
