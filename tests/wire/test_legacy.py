"""Messenger v1: sizes, and what a libcephfs and an MDS of Ceph 20.2.4 have said."""

from typing import Any

import pytest

from cephcaps.messenger.crc import crc32c
from cephwire import legacy
from cephwire.codec import Codec
from cephwire.entity import AddrType, EntityAddr, EntityNum, EntityType
from cephwire.errors import MalformedMessage
from cephwire.features import CEPHX_V2, MSG_AUTH, has_feature
from cephwire.frames import MessageFlag
from cephwire.legacy import MsgConnect, MsgConnectReply, MsgFooter, MsgHeader, MsgrProtocol, MsgrTag
from cephwire.session import CLIENT_SESSION

SERVER_ADDR = "00000000 dd8db127 0002 1a91 7f000001" + 120 * "00"
CLIENT_SEEN = "00000000 00000000 0002 89e0 7f000001" + 120 * "00"
CLIENT_ADDR = "00000000 6fb1ba06 0002 0000 7f000001" + 120 * "00"
CONNECT = "fffffdffffff073f 08000000 02000000 00000000 20000000 02000000 02010000 00"
REPLY = "0d fffffdffffff073f 03000000 01000000 20000000 3e000000 00"
HEADER = (
    "0100000000000000 0000000000000000 1600 7f00 0700 41010000 00000000 00000000 0000 08 1310000000000000 0100 0000"
    "c18ff6c1"
)
FOOTER = "1cc5c871 00000000 00000000 ee860c730c6d25fb 05"


@pytest.mark.parametrize(
    ("schema", "size"),
    [
        (legacy.LEGACY_ADDR, 136),
        (legacy.SERVER_BANNER, 281),
        (legacy.CLIENT_BANNER, 145),
        (legacy.MSG_CONNECT, 33),
        (legacy.MSG_CONNECT_REPLY, 26),
        (legacy.MSG_ACK, 8),
        (legacy.MSG_KEEPALIVE2, 8),
        (legacy.MSG_HEADER, 53),
        (legacy.MSG_FOOTER, 21),
        (legacy.MSG_FOOTER_OLD, 13),
    ],
)
def test_everything_has_its_size(schema: Any, size: int) -> None:
    assert schema.sizeof() == size


def test_banners_carry_the_addresses_of_both_ends() -> None:
    raw = b"ceph v027" + bytes.fromhex(SERVER_ADDR + CLIENT_SEEN)
    banner = legacy.SERVER_BANNER.parse(raw)
    assert str(banner.addr) == "v1:127.0.0.1:6801/665947613"
    assert str(banner.peer_addr) == "v1:127.0.0.1:35296/0"
    assert banner.addr == EntityAddr.make(AddrType.LEGACY, "127.0.0.1", 6801, 665947613).legacy()
    assert legacy.SERVER_BANNER.build(banner) == raw

    own = legacy.CLIENT_BANNER.parse(b"ceph v027" + bytes.fromhex(CLIENT_ADDR))
    assert str(own.addr) == "v1:127.0.0.1:0/112898415"


def test_a_v2_banner_is_none_of_v1() -> None:
    with pytest.raises(MalformedMessage):
        Codec(legacy.CLIENT_BANNER).decode(b"ceph v2\n\x10\0" + bytes(200))


def test_a_connect_and_its_reply_come_apart() -> None:
    connect = legacy.MSG_CONNECT.parse(bytes.fromhex(CONNECT))
    reply = legacy.MSG_CONNECT_REPLY.parse(bytes.fromhex(REPLY))
    assert connect == MsgConnect(0x3F07FFFFFFFDFFFF, EntityType.CLIENT, 2, 0, MsgrProtocol.MDS, 2, 258, 0)
    assert reply == MsgConnectReply(MsgrTag.SEQ, 0x3F07FFFFFFFDFFFF, 3, 1, MsgrProtocol.MDS, 62, 0)
    assert has_feature(connect.features & reply.features, MSG_AUTH)
    assert has_feature(connect.features & reply.features, CEPHX_V2)
    assert legacy.MSG_CONNECT.build(connect) == bytes.fromhex(CONNECT)
    assert legacy.MSG_CONNECT_REPLY.build(reply) == bytes.fromhex(REPLY)


def test_a_header_and_its_footer_come_apart() -> None:
    header = legacy.MSG_HEADER.parse(bytes.fromhex(HEADER))
    footer = legacy.MSG_FOOTER.parse(bytes.fromhex(FOOTER))
    assert header == MsgHeader(
        seq=1,
        tid=0,
        type=CLIENT_SESSION.number,
        priority=127,
        version=7,
        front_len=321,
        middle_len=0,
        data_len=0,
        data_off=0,
        src=EntityNum(EntityType.CLIENT, 4115),
        compat_version=1,
        crc=0xC1F68FC1,
    )
    assert header.crc == crc32c(0, bytes.fromhex(HEADER)[:49])
    assert footer == MsgFooter(0x71C8C51C, 0, 0, 0xFB256D0C730C86EE, MessageFlag.COMPLETE | MessageFlag.SIGNED)
    assert footer.middle_crc == crc32c(0, b"")
    assert legacy.MSG_HEADER.build(header) == bytes.fromhex(HEADER)
    assert legacy.MSG_FOOTER.build(footer) == bytes.fromhex(FOOTER)


def test_the_tags_are_sixteen_without_a_hole() -> None:
    assert [tag.value for tag in MsgrTag] == list(range(1, 17))
