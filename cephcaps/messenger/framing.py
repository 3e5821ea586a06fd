"""Bytes <-> frames of msgr2.1, in crc and secure mode.

Source: ceph: src/msg/async/frames_v2.h; doc/dev/msgr2.rst. Revision 0 of the protocol frames differently and is not
spoken.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cephcaps.messenger.crc import MASK, crc32c, standard_crc32c
from cephcaps.messenger.secure import TAG_SIZE, SecureStream
from cephwire.errors import MalformedMessage
from cephwire.frames import FRAME_COMPRESSED, LATE_STATUS_MASK, MAX_SEGMENTS, LateStatus, Tag

__all__ = ["MAX_FRAME", "PREAMBLE_SIZE", "CompressedFrame", "Frame", "FrameReader", "FrameWriter", "find_preamble"]

PREAMBLE_LAYOUT = struct.Struct("<BBIHIHIHIHBB")
"""`cephwire.frames.PREAMBLE` up to its crc."""
PREAMBLE_SIZE = 32
unpack_preamble: Callable[..., tuple[Any, ...]] = struct.Struct("<BBIHIHIHIHBxI").unpack_from
pack_preamble: Callable[..., bytes] = PREAMBLE_LAYOUT.pack
EPILOGUE_CRC = struct.Struct("<BIII")
EPILOGUE_CRC_SIZE = EPILOGUE_CRC.size
pack_epilogue: Callable[..., bytes] = EPILOGUE_CRC.pack
unpack_epilogue: Callable[..., tuple[Any, ...]] = EPILOGUE_CRC.unpack_from
NO_CRCS = (0, 0, 0)
"""For the segments after the first that there are not."""
EPILOGUE_SECURE_SIZE = 16
CRC = struct.Struct("<I")
CRC_SIZE = CRC.size
pack_crc: Callable[..., bytes] = CRC.pack
unpack_crc: Callable[..., tuple[Any, ...]] = CRC.unpack_from
INLINE_SIZE = 48
"""Bytes of the first segment that are sealed together with the preamble."""
SEALED_PREAMBLE_SIZE = PREAMBLE_SIZE + INLINE_SIZE + TAG_SIZE
BLOCK = 16
"""Secure mode pads every segment to whole cipher blocks."""
COMPLETE = int(LateStatus.COMPLETE)
EPILOGUE_SECURE = bytes((COMPLETE,)).ljust(EPILOGUE_SECURE_SIZE, b"\0")
make: Callable[..., Frame] = tuple.__new__
"""A NamedTuple in half the time that its class takes."""
ALIGNMENT = (8, 8, 8, 4096)

MAX_HANDSHAKE_FRAME = 64 * 1024
"""Bytes of a frame from a peer that has not proved who it is; tickets for all services take under 2 KiB."""
MAX_TRANSCRIPT = 16 * MAX_HANDSHAKE_FRAME
"""Bytes of a handshake, which are kept until they are signed; one takes under 8 KiB."""
MAX_FRAME = 256 * 1024 * 1024
"""Bytes of any frame; an MDS sends at most a directory's listing or an OSD map in one (a few MiB)."""

# Lengths up to MAX_FRAME. Linux leaves alignments with the segments that it cut off (net/ceph/messenger_v2.c).
USED, UNUSED = rb"(?:.{3}[\x00-\x10]..)", rb"(?:\x00{4}..)"
SEGMENTS = b"|".join(
    b"\\x%02x%b{%d}%b{%d}" % (count, USED, count, UNUSED, MAX_SEGMENTS - count) for count in range(1, MAX_SEGMENTS + 1)
)
PREAMBLE_LIKE = re.compile(b"[\\x01-\\x%02x](?:%b)[\\x00\\x01]\\x00.{4}" % (max(Tag), SEGMENTS), re.DOTALL)


class Frame(NamedTuple):
    """One frame, checked and in clear."""

    tag: int
    segments: tuple[bytes, ...]


class CompressedFrame(MalformedMessage):
    """A frame is compressed, which was not agreed on. It is left out; what follows can be read."""


class FrameReader:
    """Takes bytes as they come and gives frames.

    Attributes:
        transcript: every byte read so far, while the handshake needs it for its signature; then None.
        limit: largest frame accepted, bytes.
        skipped: bytes passed over: frames that were no good, and what `missed` and `resume` leave out.
    """

    def __init__(self) -> None:
        self.transcript: bytearray | None = bytearray()
        self.limit = MAX_HANDSHAKE_FRAME
        self.skipped: int = 0
        self._secure: SecureStream | None = None
        self._buffer = b""  # frames are cut out of what was fed as it is
        self._at = 0
        self._later = bytearray()  # fed since, while the frame begun in `_buffer` was not all there
        self._need = PREAMBLE_SIZE  # bytes from `_at` on without which nothing can be done
        self._opened: tuple[int, int, tuple[int, ...], bytes] | None = None  # a secure frame's preamble and beginning
        self._pass_over = 0  # bytes to come of a frame that is given up

    def encrypt(self, stream: SecureStream) -> None:
        """What follows is sealed."""
        self._secure = stream
        self._need = SEALED_PREAMBLE_SIZE

    def feed(self, data: bytes) -> None:
        if self._pass_over:
            passed = min(self._pass_over, len(data))
            self._pass_over -= passed
            self.skipped += passed
            data = data[passed:]
        if self._at == len(self._buffer) and not self._later:
            self._buffer, self._at = bytes(data), 0
        else:
            self._later += data

    def take(self, size: int) -> bytes | None:
        """The next ``size`` bytes, or None while they are not all here."""
        return self._take(size) if self._has(size) else None

    def next(self) -> Frame | None:
        """The next frame, or None while it is not all here.

        Raises:
            MalformedMessage: the bytes are no frame, damaged, or longer than `limit`. A frame that begins well has then
                been passed over, and what follows it may be read in crc mode; else only `resume` finds more.
        """
        while len(self._buffer) - self._at >= self._need or (self._later and self._has(self._need)):
            begin = self._at
            try:
                frame = self._next_checked() if self._secure is None else self._next_sealed(self._secure)
            except MalformedMessage:
                self.skipped += self._at - begin
                raise
            if frame is not None:
                return frame
        return None

    def missed(self, size: int | None) -> bool:
        """Go on behind ``size`` bytes that will not come, None if nobody knows how many. In crc mode only.

        True if they belong all to the frame that had begun, which is given up; else `resume` must find the next.
        """
        here = self.waiting
        rest = self._pass_over or (self._need - here if self._need > PREAMBLE_SIZE else 0)
        self.skipped += here
        self._buffer, self._at, self._need = b"", 0, PREAMBLE_SIZE
        self._later.clear()
        known = size is not None and size <= rest
        self._pass_over = rest - size if size is not None and known else 0
        return known

    def resume(self) -> bool:
        """Pass over what is no frame, up to the next preamble; False if none has come yet. In crc mode only."""
        data = self._buffer[self._at :] + self._later
        self._later.clear()
        found = find_preamble(data, self.limit)
        passed = max(len(data) - PREAMBLE_SIZE + 1, 0) if found < 0 else found
        self.skipped += passed
        self._buffer, self._at, self._need = data[passed:], 0, PREAMBLE_SIZE
        return found >= 0

    @property
    def waiting(self) -> int:
        """Bytes fed that are in no frame yet."""
        return len(self._buffer) - self._at + len(self._later)

    def _has(self, size: int) -> bool:
        if len(self._buffer) - self._at >= size:
            return True
        if self.waiting < size or not self._later:
            return False
        self._buffer = self._buffer[self._at :] + self._later
        self._at = 0
        self._later.clear()
        return True

    def _take(self, size: int) -> bytes:
        stop = self._at + size
        taken = self._buffer[self._at : stop]
        self._at = stop
        if self.transcript is not None:
            self.transcript += taken
        return taken

    def _next_checked(self) -> Frame | None:
        """The frame in crc mode; None if it is not all here, or its sender gave it up."""
        buffer, at = self._buffer, self._at
        tag, flags, lengths = _preamble(buffer, at, self.limit)
        count, length = len(lengths), lengths[0]
        stop = at + PREAMBLE_SIZE + sum(lengths)
        if length:
            stop += CRC_SIZE
        if count > 1:
            stop += EPILOGUE_CRC_SIZE
        if len(buffer) < stop:
            self._need = stop - at
            return None
        self._at, self._need = stop, PREAMBLE_SIZE
        if self.transcript is not None:
            self.transcript += buffer[at:stop]
            if len(self.transcript) > MAX_TRANSCRIPT:
                raise MalformedMessage(f"Frame: a handshake of over {MAX_TRANSCRIPT} bytes")
        if flags & FRAME_COMPRESSED:
            raise CompressedFrame(COMPRESSED)
        at += PREAMBLE_SIZE
        first = buffer[at : at + length]
        at += length
        if length:
            (crc,) = unpack_crc(buffer, at)
            if standard_crc32c(first) ^ MASK != crc:
                raise _damaged(0, first, crc)
            at += CRC_SIZE
        if count == 1:
            return make(Frame, (tag, (first,)))
        late_status, crc1, crc2, crc3 = unpack_epilogue(buffer, stop - EPILOGUE_CRC_SIZE)
        second = buffer[at : at + lengths[1]]
        if standard_crc32c(second) ^ MASK != crc1:
            raise _damaged(1, second, crc1)
        segments: tuple[bytes, ...] = (first, second)
        for index, crc in zip(range(2, count), (crc2, crc3), strict=False) if count > 2 else ():
            at += lengths[index - 1]
            segment = buffer[at : at + lengths[index]]
            if standard_crc32c(segment) ^ MASK != crc:
                raise _damaged(index, segment, crc)
            segments += (segment,)
        if late_status & LATE_STATUS_MASK == COMPLETE or _complete(late_status):
            return make(Frame, (tag, segments))
        return None

    def _next_sealed(self, secure: SecureStream) -> Frame | None:
        """The frame in secure mode; None if only its beginning is here, or its sender gave it up."""
        if self._opened is None:
            block = secure.open(self._take(SEALED_PREAMBLE_SIZE))
            tag, flags, lengths = _preamble(block, 0, self.limit)
            self._opened = tag, flags, lengths, block[PREAMBLE_SIZE:]
            self._need = _sealed_body(lengths)
            if not self._has(self._need):
                return None
        tag, flags, lengths, first = self._opened
        body = self._take(self._need)
        self._opened, self._need = None, SEALED_PREAMBLE_SIZE
        length = lengths[0]
        if length > INLINE_SIZE:
            rest = _blocks(length) - INLINE_SIZE + TAG_SIZE
            first += secure.open(body[:rest])
            body = body[rest:]
        segments = [first[:length]]
        late_status = COMPLETE
        if len(lengths) > 1:
            tail = secure.open(body)
            at = 0
            for size in lengths[1:]:
                segments.append(tail[at : at + size])
                at += _blocks(size)
            late_status = tail[at]
        if flags & FRAME_COMPRESSED:
            raise CompressedFrame(COMPRESSED)
        return make(Frame, (tag, tuple(segments))) if _complete(late_status) else None


COMPRESSED = "Preamble.flags at byte 26: a compressed frame, which was not agreed on"


def find_preamble(data: bytes, limit: int = MAX_FRAME) -> int:
    """Where in ``data`` the first frame of up to ``limit`` bytes begins, to judge by its preamble; -1 if nowhere."""
    at = 0
    while (match := PREAMBLE_LIKE.search(data, at)) is not None:
        try:
            _preamble(data, match.start(), limit)
        except MalformedMessage:
            at = match.start() + 1
        else:
            return match.start()
    return -1


def _preamble(data: bytes, at: int, limit: int) -> tuple[int, int, tuple[int, ...]]:
    """Tag, flags and the segments' lengths."""
    tag, count, length0, _, length1, _, length2, _, length3, _, flags, crc = unpack_preamble(data, at)
    if crc != crc32c(0, data[at : at + PREAMBLE_LAYOUT.size]):
        raise MalformedMessage("Preamble.crc at byte 28: does not fit; not a msgr2.1 peer, or damaged on the way")
    if count == 2 and length1 > 0 and length0 + length1 <= limit:  # nearly every message
        return tag, flags, (length0, length1)
    if not 1 <= count <= MAX_SEGMENTS:
        raise MalformedMessage(f"Preamble.num_segments at byte 1: {count}, not 1 to {MAX_SEGMENTS}")
    lengths = (length0, length1, length2, length3)[:count]
    if count > 1 and not lengths[-1]:
        raise MalformedMessage("Preamble.num_segments at byte 1: counts an empty last segment")
    if sum(lengths) > limit:
        raise MalformedMessage(f"Preamble at byte 2: a frame of {sum(lengths)} bytes, over {limit}")
    return tag, flags, lengths


def _damaged(index: int, segment: bytes, crc: int) -> MalformedMessage:
    return MalformedMessage(f"Frame segment {index} of {len(segment)} bytes: its crc is not {crc:#x}; damaged")


def _complete(late_status: int) -> bool:
    status = late_status & LATE_STATUS_MASK
    if status == COMPLETE:
        return True
    if status != LateStatus.ABORTED:
        raise MalformedMessage(f"Epilogue.late_status: {late_status:#x} is neither complete nor aborted")
    return False


def _blocks(size: int) -> int:
    """Bytes of the cipher blocks that ``size`` bytes take."""
    return -(-size // BLOCK) * BLOCK


def _sealed_body(lengths: tuple[int, ...]) -> int:
    """Bytes of a secure frame after what came with its preamble."""
    first = lengths[0]
    size = _blocks(first) - INLINE_SIZE + TAG_SIZE if first > INLINE_SIZE else 0
    if len(lengths) > 1:
        size += sum(map(_blocks, lengths[1:])) + EPILOGUE_SECURE_SIZE + TAG_SIZE
    return size


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
        first, others = segments[0], segments[1:count]
        if count == 2:  # nearly every message
            head = pack_preamble(tag, 2, len(first), 8, len(others[0]), 8, 0, 0, 0, 0, 0, 0)
        else:
            layout = [0] * 2 * MAX_SEGMENTS
            layout[: 2 * count : 2] = map(len, segments[:count])
            layout[1 : 2 * count : 2] = ALIGNMENT[:count]
            head = pack_preamble(tag, count, *layout, 0, 0)
        preamble = head + pack_crc(crc32c(0, head))
        if self._secure is None:
            return _with_crcs(preamble, first, others)
        return sealed(self._secure, preamble, first, others)


def sealed(secure: SecureStream, preamble: bytes, first: bytes, others: Sequence[bytes]) -> bytes:
    """A frame in secure mode, of a preamble and segments."""
    frame = secure.seal(preamble + first[:INLINE_SIZE].ljust(INLINE_SIZE, b"\0"))
    if len(first) > INLINE_SIZE:
        frame += secure.seal(_padded(first[INLINE_SIZE:]))
    if others:
        frame += secure.seal(b"".join([_padded(segment) for segment in others]) + EPILOGUE_SECURE)
    return frame


def _padded(segment: bytes) -> bytes:
    """``segment`` in whole cipher blocks."""
    return segment + bytes(-len(segment) % BLOCK)


def _with_crcs(preamble: bytes, first: bytes, others: Sequence[bytes]) -> bytes:
    parts = [preamble, first]
    if first:
        parts.append(pack_crc(standard_crc32c(first) ^ MASK))
    if others:
        parts += others
        crcs = [standard_crc32c(segment) ^ MASK for segment in others]
        parts.append(pack_epilogue(COMPLETE, *crcs, *NO_CRCS[len(crcs) :]))
    return b"".join(parts)
