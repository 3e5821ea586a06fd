"""Messenger v2 frames: sizes, recorded frames taken apart, and feature masks."""

from typing import Any

import pytest
from construct import ConstructError

from cephwire import control, features, frames
from cephwire.control import FRAMES, TAGS
from cephwire.entity import AddrType, AddrVec, EntityAddr
from cephwire.features import (
    CLIENT_FEATURES,
    MSG_ADDR2,
    OS_PERF_STAT_NS,
    RANGE_BLOCKLIST,
    REQUIRED_FEATURES,
    SERVER_JEWEL,
    SERVER_MIMIC,
    SERVER_NAUTILUS,
    Feature,
    has_feature,
)
from cephwire.frames import Tag

ACK_FRAME = bytes.fromhex("140108000000080000000000000000000000000000000000000000007374bc5b05000000000000003fb2f61b")
MESSAGE_FRAME = bytes.fromhex(
    "1104290000000800020000000800000000000800010000000010000080130a4b"
    "010000000000000000000000000000000f007f0003000000000000000000000000000000010100000"
    "0a6a2f0026869780e3d26620affffffff6ca0c356"
)
ADDR = EntityAddr.make(AddrType.MSGR2, "10.0.0.1", 0, 77)
TARGET = EntityAddr.make(AddrType.MSGR2, "10.0.0.2", 6800, 99)
PAYLOADS = (
    control.Hello(8, ADDR),
    control.AuthRequest(2, (2, 1), b"payload"),
    control.AuthBadMethod(1, -95, (2,), (1, 2)),
    control.AuthReplyMore(b"challenge"),
    control.AuthRequestMore(b""),
    control.AuthDone(4123, 2, b"tickets"),
    control.AuthSignature(bytes(32)),
    control.ClientIdent(AddrVec((ADDR,)), TARGET, 4123, 1, CLIENT_FEATURES, REQUIRED_FEATURES, 0, 0x1234),
    control.ServerIdent(AddrVec((TARGET,)), 0, 2, CLIENT_FEATURES, 0, 1, 0),
    control.IdentMissingFeatures(1 << 63),
    control.SessionReconnect(AddrVec((ADDR,)), 1, 2, 3, 4, 5),
    control.SessionReset(1),
    control.SessionRetry(9),
    control.SessionRetryGlobal(10),
    control.SessionReconnectOk(11),
    control.Wait(),
    control.Keepalive2(1_600_000_000_123_456_789),
    control.Keepalive2Ack(1_600_000_000_123_456_789),
    control.Ack(2**64 - 1),
    control.CompressionRequest(0, ()),
    control.CompressionDone(0, 0),
)


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        (frames.BANNER_HEADER, 10),
        (frames.BANNER, 16),
        (frames.PREAMBLE, 32),
        (frames.EPILOGUE_CRC, 13),
        (frames.EPILOGUE_SECURE, 16),
        (frames.MESSAGE_HEADER, 41),
        (FRAMES[Tag.AUTH_SIGNATURE], 32),
        (FRAMES[Tag.SESSION_RESET], 1),
        (FRAMES[Tag.WAIT], 0),
        (FRAMES[Tag.KEEPALIVE2], 8),
        (FRAMES[Tag.ACK], 8),
        (FRAMES[Tag.COMPRESSION_DONE], 5),
    ],
)
def test_fixed_parts_have_their_sizes(schema: Any, size: int) -> None:
    assert schema.sizeof() == size


def test_the_banner_of_a_client_has_these_bytes() -> None:
    raw = frames.BANNER_HEADER.build(frames.BannerHeader(16))
    raw += frames.BANNER.build(frames.Banner(frames.BannerFeature.REVISION_1, 0))
    assert raw == b"ceph v2\n" + bytes.fromhex("1000 0100000000000000 0000000000000000")
    assert frames.BANNER_HEADER.parse(raw) == frames.BannerHeader(16)
    assert frames.BANNER.parse(raw[10:]) == frames.Banner(1, 0)


def test_a_v1_port_is_told_by_its_banner() -> None:
    with pytest.raises(ConstructError):
        frames.BANNER_HEADER.parse(b"ceph v027" + bytes(272))


def test_an_ack_frame_comes_apart() -> None:
    preamble = frames.PREAMBLE.parse(ACK_FRAME)
    assert (preamble.tag, preamble.num_segments, preamble.flags, preamble.crc) == (Tag.ACK, 1, 0, 0x5BBC7473)
    assert (preamble.lengths, preamble.alignment0) == ((8,), 8)
    assert frames.PREAMBLE.build(preamble) == ACK_FRAME[:32]
    assert FRAMES[Tag.ACK].parse(ACK_FRAME[32:40]) == control.Ack(5)


def test_a_message_frame_comes_apart() -> None:
    preamble = frames.PREAMBLE.parse(MESSAGE_FRAME)
    assert (preamble.tag, preamble.lengths, preamble.alignment3) == (Tag.MESSAGE, (41, 2, 0, 1), 4096)
    header = frames.MESSAGE_HEADER.parse(MESSAGE_FRAME[32:73])
    assert header == frames.MessageHeader(
        seq=1,
        tid=0,
        type=15,
        priority=frames.Priority.DEFAULT,
        version=3,
        data_pre_padding_len=0,
        data_off=0,
        ack_seq=0,
        flags=frames.MessageFlag.COMPLETE,
        compat_version=1,
    )
    assert frames.MESSAGE_HEADER.build(header) == MESSAGE_FRAME[32:73]
    epilogue = frames.EPILOGUE_CRC.parse(MESSAGE_FRAME[-13:])
    assert epilogue.late_status & frames.LATE_STATUS_MASK == frames.LateStatus.COMPLETE
    assert epilogue.crc2 == 0xFFFFFFFF
    assert frames.EPILOGUE_CRC.build(epilogue) == MESSAGE_FRAME[-13:]


def test_the_secure_epilogue_fills_one_block() -> None:
    assert frames.EPILOGUE_SECURE.build(frames.EpilogueSecure(frames.LateStatus.COMPLETE)) == b"\x0e" + bytes(15)


def test_every_tag_but_message_has_a_payload_and_an_example_here() -> None:
    assert set(FRAMES) == set(Tag) - {Tag.MESSAGE}
    assert {TAGS[type(payload)] for payload in PAYLOADS} == set(FRAMES)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: type(p).__name__)
def test_a_payload_survives_the_wire(payload: Any) -> None:
    schema = FRAMES[TAGS[type(payload)]]
    assert schema.parse(schema.build(payload)) == payload


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: type(p).__name__)
def test_a_payload_cut_anywhere_is_refused(payload: Any) -> None:
    schema = FRAMES[TAGS[type(payload)]]
    raw = schema.build(payload)
    for size in range(len(raw)):
        with pytest.raises(ConstructError):
            schema.parse(raw[:size])


@pytest.mark.parametrize(
    ("payload", "raw"),
    [
        (control.AuthRequest(2, (2, 1), b"ab"), "02000000 02000000 02000000 01000000 02000000 6162"),
        (control.AuthBadMethod(4, -95, (2,), ()), "04000000 a1ffffff 01000000 02000000 00000000"),
        (control.AuthDone(0x1122, 1, b""), "2211000000000000 01000000 00000000"),
        (control.Keepalive2(3_000_000_007), "03000000 07000000"),
        (control.SessionReset(1), "01"),
        (control.CompressionRequest(0, ()), "00 00000000"),
        (control.CompressionDone(0, 0), "00 00000000"),
    ],
)
def test_payloads_have_these_bytes(payload: Any, raw: str) -> None:
    assert FRAMES[TAGS[type(payload)]].build(payload) == bytes.fromhex(raw)


def test_idents_are_as_long_as_their_addresses_make_them() -> None:
    by_tag = {TAGS[type(payload)]: len(FRAMES[TAGS[type(payload)]].build(payload)) for payload in PAYLOADS}
    assert by_tag[Tag.HELLO] == 1 + 35
    assert by_tag[Tag.CLIENT_IDENT] == (5 + 35) + 35 + 6 * 8
    assert by_tag[Tag.SERVER_IDENT] == (5 + 35) + 6 * 8
    assert by_tag[Tag.SESSION_RECONNECT] == (5 + 35) + 5 * 8


def test_a_reused_bit_counts_only_with_its_incarnation() -> None:
    assert has_feature(1 << 59, MSG_ADDR2)
    assert not has_feature(1 << 2, SERVER_NAUTILUS)
    assert not has_feature(1 << 2 | 1 << 57, SERVER_NAUTILUS)
    assert has_feature(1 << 2 | 1 << 28 | 1 << 57, SERVER_NAUTILUS)
    assert not has_feature(1 << 28, SERVER_MIMIC)
    assert has_feature(1 << 57, SERVER_JEWEL)


def test_a_client_announces_all_named_features_but_two() -> None:
    named = {value for value in vars(features).values() if isinstance(value, Feature)}
    assert {f for f in named if not has_feature(CLIENT_FEATURES, f)} == {OS_PERF_STAT_NS, RANGE_BLOCKLIST}


@pytest.mark.parametrize("required", [0x0C01020042040000, 0x0800000000000000])
def test_a_client_announces_what_mons_and_mdss_require(required: int) -> None:
    assert required & ~CLIENT_FEATURES == 0
