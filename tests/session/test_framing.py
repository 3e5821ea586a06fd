"""Frames of msgr2.1 in both modes: known bytes, every cut, every bit."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.messenger.crc import crc32c
from cephcaps.messenger.framing import (
    MAX_FRAME,
    PREAMBLE_SIZE,
    CompressedFrame,
    Frame,
    FrameReader,
    FrameWriter,
    find_preamble,
    sealed,
    unpack_preamble,
)
from cephcaps.messenger.secure import SecureStream, TamperedFrame
from cephwire.codec import Codec
from cephwire.errors import MalformedMessage
from cephwire.frames import PREAMBLE, Tag
from cephwire.keys import CONNECTION_SECRET, ConnectionSecret

SECRET = Codec(CONNECTION_SECRET).decode(bytes(range(64)))
ACK_CRC = bytes.fromhex("140108000000080000000000000000000000000000000000000000007374bc5b05000000000000003fb2f61b")
MESSAGE_CRC = bytes.fromhex(
    "1104290000000800020000000800000000000800010000000010000080130a4b"
    "010000000000000000000000000000000f007f00030000000000000000000000000000000101000000a6a2f002"
    "6869780e3d26620affffffff6ca0c356"
)
HEADER = MESSAGE_CRC[32:73]
ACK_SEALED = bytes.fromhex(
    "4de816477793cc7cbb381480b30cc69431dabdf879b50b483d403cfdc066ed4343c636fdd34ff7965036a3b4f02908ecd7f8cc4f2688a28a"
    "b01f761aeee6fdba01654a9d4a848c689172d4521fcf810802c0215297d5b62375989cf77dfb3633"
)
MESSAGE_SEALED = bytes.fromhex(
    "982e066ff8ab6493c51f43d679c4a3a38a857fda67639b20d43f0505d790c0c45391271be80b05108c13817b172af539ef96daa2c3183c65"
    "656b15d047b91e7ae9f5a5aadddd5350ca29264420199b1b35ce07a6861e7981b22f9fcd219981d87b4b6f0f286aaa0cdfc0210977ac057a"
    "43e0d0b282f4010584c004c4ffd0a4caab4b13fcf5a04cce318ac50bb07a9b3eeceefa676dfb1ca93ebf5e2b285c999c"
)
LONG_SEALED = bytes.fromhex(
    "bc99c908ffd918edc3a6346efc823c2069db34e81bf4d183e277466ff9ee4980ff07f740c354f6d8ae6cadfec3937d4f837d7363dbe1f3d1"
    "d338382fd21a06e3a84c724287f290db3414520b12b0a1065513c3063e1a549e395fe57fa7a1db5e2a77335a9ca4653fb6edbb439a4dbbe5"
    "a060964b9bb1de9cbe5781b620f8b066"
)
ACK = Frame(Tag.ACK, ((5).to_bytes(8, "little"),))
MESSAGE = Frame(Tag.MESSAGE, (HEADER, b"hi", b"", b"x"))
LONG = Frame(Tag.CLIENT_IDENT, (bytes(50),))


def read(data: bytes, secret: ConnectionSecret | None = None, step: int | None = None) -> list[Frame]:
    """The frames in ``data``, fed ``step`` bytes at a time."""
    reader = FrameReader()
    reader.limit = MAX_FRAME
    if secret:
        reader.encrypt(SecureStream(secret, "server"))
    found = []
    for at in range(0, len(data), step or max(len(data), 1)):
        reader.feed(data[at : at + (step or len(data))])
        while frame := reader.next():
            found.append(frame)
    return found


def written(*frames: Frame, secret: ConnectionSecret | None = None) -> bytes:
    writer = FrameWriter()
    if secret:
        writer.encrypt(SecureStream(secret))
    return b"".join(writer.frame(Tag(frame.tag), frame.segments) for frame in frames)


def test_frames_are_written_as_a_real_daemon_reads_them() -> None:
    assert written(ACK) == ACK_CRC
    assert written(MESSAGE) == MESSAGE_CRC
    assert written(ACK, MESSAGE, LONG, secret=SECRET) == ACK_SEALED + MESSAGE_SEALED + LONG_SEALED


@pytest.mark.parametrize("step", [1, 7, 33, 1000])
def test_frames_are_read_however_the_bytes_are_cut(step: int) -> None:
    assert read(ACK_CRC + MESSAGE_CRC, step=step) == [ACK, MESSAGE]
    assert read(ACK_SEALED + MESSAGE_SEALED + LONG_SEALED, SECRET, step) == [ACK, MESSAGE, LONG]


@given(
    frames=st.lists(
        st.tuples(st.binary(max_size=200), st.lists(st.binary(max_size=100), max_size=3)), min_size=1, max_size=4
    ),
    secure=st.booleans(),
)
def test_any_segments_come_back(frames: list[tuple[bytes, list[bytes]]], secure: bool) -> None:
    wanted = []
    for first, others in frames:
        while others and not others[-1]:
            others.pop()
        wanted.append(Frame(Tag.MESSAGE, (first, *others)))
    secret = SECRET if secure else None
    assert read(written(*wanted, secret=secret), secret) == wanted


@pytest.mark.parametrize("bit", range(0, 8 * len(MESSAGE_CRC), 3))
def test_a_flipped_bit_in_crc_mode_is_noticed(bit: int) -> None:
    damaged = bytearray(MESSAGE_CRC)
    damaged[bit // 8] ^= 1 << bit % 8
    if bit // 8 == 32 + 41 + 4 + 3 and bit % 8 >= 4:  # the unused half of late_status
        return
    with pytest.raises(MalformedMessage):
        read(bytes(damaged))


@pytest.mark.parametrize("bit", range(0, 8 * len(MESSAGE_SEALED), 11))
def test_a_flipped_bit_in_secure_mode_is_tampering(bit: int) -> None:
    damaged = bytearray(ACK_SEALED + MESSAGE_SEALED)
    damaged[len(ACK_SEALED) + bit // 8] ^= 1 << bit % 8
    with pytest.raises(TamperedFrame):
        read(bytes(damaged), SECRET)


def test_a_frame_its_sender_gave_up_is_dropped() -> None:
    aborted = bytearray(MESSAGE_CRC)
    aborted[32 + 41 + 4 + 3] = 0x01
    assert read(bytes(aborted) + ACK_CRC) == [ACK]


@pytest.mark.parametrize("size", [64 * 1024 + 1, 2**31])
def test_a_stranger_cannot_make_us_wait_for_a_huge_frame(size: int) -> None:
    reader = FrameReader()
    huge = FrameWriter().frame(Tag.HELLO, [b"x"])
    head = huge[:2] + size.to_bytes(4, "little") + huge[6:28]
    reader.feed(head + crc32c(0, head).to_bytes(4, "little"))
    with pytest.raises(MalformedMessage, match="over 65536"):
        reader.next()


@given(raw=st.binary(max_size=300), secure=st.booleans())
def test_any_bytes_are_frames_or_malformed(raw: bytes, secure: bool) -> None:
    try:
        read(raw, SECRET if secure else None)
    except MalformedMessage:
        return


def test_a_preamble_is_laid_out_as_its_schema_says() -> None:
    head = bytes([17, 4]) + bytes(range(1, 26)) + b"\0"
    preamble = head + b"\xf1\xf2\xf3\xf4"
    assert unpack_preamble(preamble, 0) == msgspec.structs.astuple(Codec(PREAMBLE).decode(preamble))


# For those who only listen


def listening(*pieces: bytes) -> FrameReader:
    reader = FrameReader()
    reader.transcript, reader.limit = None, MAX_FRAME
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("before", [b"", b"?", ACK_CRC[3:], bytes(100), b"\x11\x02" * 40])
@pytest.mark.parametrize("frame", [ACK_CRC, MESSAGE_CRC], ids=["control", "message"])
def test_the_next_frame_is_found_behind_anything(before: bytes, frame: bytes) -> None:
    reader = listening(before, frame)
    assert reader.resume()
    assert reader.next() is not None
    assert (reader.skipped, reader.waiting) == (len(before), 0)


def test_a_frame_is_found_though_its_preamble_comes_in_pieces() -> None:
    reader = listening(b"none of it")
    for at in range(len(ACK_CRC)):
        found = reader.resume()
        assert found == (at >= PREAMBLE_SIZE)
        reader.feed(ACK_CRC[at : at + 1])
    assert reader.next() == ACK
    assert reader.skipped == 10


def test_a_preamble_is_known_whatever_unused_alignments_it_has() -> None:
    head = ACK_CRC[:12] + b"\x08\x00" + bytes(4) + b"\x08\x00" + bytes(4) + b"\x00\x10" + bytes(2)
    frame = head + crc32c(0, head).to_bytes(4, "little") + ACK_CRC[32:]
    assert find_preamble(b"??" + frame) == 2
    assert read(frame) == [ACK]


@pytest.mark.parametrize("limit", [42, 43, 44])
def test_a_preamble_of_too_long_a_frame_is_none(limit: int) -> None:
    assert find_preamble(MESSAGE_CRC, limit) == (0 if limit >= 44 else -1)


def test_what_is_missed_within_a_frame_costs_that_frame_only() -> None:
    reader = listening(ACK_CRC, MESSAGE_CRC[:40])
    assert reader.next() == ACK
    assert reader.next() is None
    assert reader.missed(20)
    reader.feed(MESSAGE_CRC[60:70])
    reader.feed(MESSAGE_CRC[70:] + ACK_CRC)
    assert reader.next() == ACK
    assert reader.skipped == len(MESSAGE_CRC) - 20


@pytest.mark.parametrize(("begun", "size"), [(0, 5), (10, 5), (40, 200), (40, None)])
def test_what_is_missed_beyond_a_frame_leaves_the_place_unknown(begun: int, size: int | None) -> None:
    reader = listening(MESSAGE_CRC[:begun])
    assert reader.next() is None
    assert not reader.missed(size)
    reader.feed(b"the rest of something" + ACK_CRC)
    assert reader.resume()
    assert reader.next() == ACK
    assert reader.skipped == begun + 21


def test_after_a_damaged_segment_the_next_frame_is_read() -> None:
    damaged = bytearray(MESSAGE_CRC)
    damaged[50] ^= 1
    reader = listening(bytes(damaged), ACK_CRC)
    with pytest.raises(MalformedMessage, match="segment 0"):
        reader.next()
    assert reader.skipped == len(MESSAGE_CRC)
    assert reader.next() == ACK


@pytest.mark.parametrize("secret", [None, SECRET], ids=["crc", "secure"])
def test_a_compressed_frame_is_left_out(secret: ConnectionSecret | None) -> None:
    writer, reader = FrameWriter(), listening()
    plain = FrameWriter().frame(Tag.MESSAGE, MESSAGE.segments)
    head = plain[:26] + b"\x01\x00"
    preamble = head + crc32c(0, head).to_bytes(4, "little")
    compressed = preamble + plain[32:]
    if secret is not None:
        stream = SecureStream(secret)
        writer.encrypt(stream)
        reader.encrypt(SecureStream(secret, "server"))
        compressed = sealed(stream, preamble, MESSAGE.segments[0], MESSAGE.segments[1:])
    reader.feed(compressed)
    reader.feed(writer.frame(Tag.ACK, ACK.segments))
    with pytest.raises(CompressedFrame):
        reader.next()
    assert reader.next() == ACK


def test_a_long_frame_in_many_pieces_is_copied_but_once() -> None:
    frame = FrameWriter().frame(Tag.MESSAGE, [HEADER, bytes(200_000)])
    reader = listening()
    for at in range(0, len(frame), 1448):
        assert reader.next() is None
        assert len(reader._buffer) <= 1448
        reader.feed(frame[at : at + 1448])
    assert reader.next() == Frame(Tag.MESSAGE, (HEADER, bytes(200_000)))
