"""Names and addresses: the bytes of each form, and what is read out of them."""

import pytest
from construct import ConstructError

from cephwire.entity import (
    ENTITY_ADDR,
    ENTITY_ADDRVEC,
    ENTITY_NAME,
    ENTITY_NUM,
    AddrType,
    AddrVec,
    EntityAddr,
    EntityName,
    EntityNum,
    EntityType,
    LegacyAddr,
    address_of,
    addresses,
)

V2 = EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 3300, 7)
V2_BYTES = bytes.fromhex("0101011c00000002000000070000001000000002000ce47f0000010000000000000000")
V1 = EntityAddr.make(AddrType.LEGACY, "127.0.0.1", 6789)
V6 = EntityAddr.make(AddrType.MSGR2, "fd00::1", 6800, 0xFFFFFFFF)
V6_BYTES = bytes.fromhex(
    "01 0101 28000000 02000000 ffffffff 1c000000 0a00 1a90 00000000 fd000000000000000000000000000001 00000000"
)
LEGACY_BYTES = bytes.fromhex("00000000 07000000 0002 0ce4 7f000001") + bytes(120)


@pytest.mark.parametrize(("addr", "raw"), [(V2, V2_BYTES), (V6, V6_BYTES), (V2.legacy(), LEGACY_BYTES)])
def test_an_address_has_these_bytes_in_each_form(addr: EntityAddr | LegacyAddr, raw: bytes) -> None:
    assert ENTITY_ADDR.build(addr) == raw
    assert ENTITY_ADDR.parse(raw) == addr


@pytest.mark.parametrize(
    ("addr", "text"),
    [
        (V2, "v2:127.0.0.1:3300/7"),
        (V6, "v2:[fd00::1]:6800/4294967295"),
        (V2.legacy(), "v1:127.0.0.1:3300/7"),
        (EntityAddr.make(AddrType.ANY, "1.2.3.5", 0, 5), "1.2.3.5:0/5"),
        (EntityAddr(AddrType.NONE, 0, b""), "-"),
        (AddrVec((V2, V1)), "[v2:127.0.0.1:3300/7,v1:127.0.0.1:6789/0]"),
        (AddrVec((V2,)), "v2:127.0.0.1:3300/7"),
        (AddrVec(()), "-"),
    ],
)
def test_addresses_print_as_ceph_prints_them(addr: object, text: str) -> None:
    assert str(addr) == text


def test_an_address_tells_its_host_and_port() -> None:
    assert (V2.family, V2.host, V2.port) == (2, "127.0.0.1", 3300)
    assert (V6.family, V6.host, V6.port) == (10, "fd00::1", 6800)


@pytest.mark.parametrize("sockaddr", [b"", b"\2", b"\2\0", b"\x0a\0\1\2\3", b"\1\0\1\2\3\4\5\6\7\x08"])
def test_an_address_that_is_no_ip_has_no_host_and_still_prints(sockaddr: bytes) -> None:
    addr = EntityAddr(AddrType.MSGR2, 1, sockaddr)
    assert (addr.ip, addr.host, addr.port) == (None, "", 0)
    assert str(addr)
    assert ENTITY_ADDR.parse(ENTITY_ADDR.build(addr)) == addr


def test_an_unknown_address_type_is_kept_and_printed_by_number() -> None:
    assert str(EntityAddr.make(9, "1.2.3.4", 1)) == "type9:1.2.3.4:1/0"


def test_a_name_is_no_host() -> None:
    with pytest.raises(ValueError, match="localhost"):
        EntityAddr.make(AddrType.MSGR2, "localhost", 3300)


def test_a_legacy_address_becomes_a_modern_one() -> None:
    assert V2.legacy().modern() == EntityAddr.make(AddrType.LEGACY, "127.0.0.1", 3300, 7)
    assert V6.legacy().modern() == EntityAddr.make(AddrType.LEGACY, "fd00::1", 6800, 0xFFFFFFFF)
    assert LegacyAddr(3, bytes(128)).modern() == EntityAddr(AddrType.NONE, 3, b"")


def test_the_same_endpoint_may_have_another_type() -> None:
    entry = EntityAddr.make(AddrType.ANY, "127.0.0.1", 3300, 7)
    assert entry.same_endpoint(V2)
    assert entry.same_endpoint(V2.legacy().modern())
    assert not entry.same_endpoint(EntityAddr.make(AddrType.ANY, "127.0.0.1", 3300, 8))
    assert not entry.same_endpoint(EntityAddr.make(AddrType.ANY, "127.0.0.2", 3300, 7))


def test_equal_addresses_are_one_dict_key() -> None:
    assert {V2: 1}[EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 3300, 7)] == 1


def test_a_list_of_addresses_mixes_both_forms() -> None:
    value = AddrVec((V2, V1.legacy()))
    raw = ENTITY_ADDRVEC.build(value)
    assert raw == b"\2" + b"\2\0\0\0" + V2_BYTES + ENTITY_ADDR.build(V1.legacy())
    assert ENTITY_ADDRVEC.parse(raw) == value
    assert addresses(value) == (V2, V1)


@pytest.mark.parametrize(("raw", "addr"), [(V2_BYTES, V2), (LEGACY_BYTES, V2.legacy())])
def test_a_single_address_may_stand_for_a_list(raw: bytes, addr: EntityAddr | LegacyAddr) -> None:
    found = ENTITY_ADDRVEC.parse(raw)
    assert found == addr
    assert [a.host for a in addresses(found)] == ["127.0.0.1"]


def test_the_address_of_a_messenger_is_picked() -> None:
    both = AddrVec((V1, V2))
    assert address_of(both) == V2
    assert address_of(both, AddrType.LEGACY) == V1
    assert address_of(V1.legacy()) is None


def test_what_a_newer_peer_adds_to_an_address_is_skipped() -> None:
    newer = b"\1\2\1" + (0x1C + 2).to_bytes(4, "little") + V2_BYTES[7:] + b"zz"
    found = ENTITY_ADDRVEC.parse(b"\2\2\0\0\0" + newer + V2_BYTES)
    assert found == AddrVec((V2, V2))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\3",
        V2_BYTES[:-1],
        LEGACY_BYTES[:-1],
        V2_BYTES.replace(b"\x10\0\0\0", b"\x11\0\0\0"),  # a sockaddr longer than its envelope
        b"\1\2\2" + V2_BYTES[3:],  # needs a reader of version 2
    ],
)
def test_a_broken_address_is_refused(raw: bytes) -> None:
    with pytest.raises(ConstructError):
        ENTITY_ADDR.parse(raw)


def test_a_list_within_a_list_or_cut_short_is_refused() -> None:
    for raw in (b"\2\1\0\0\0\2\0\0\0\0", b"\2\2\0\0\0" + V2_BYTES, b"\2\xff\xff\xff\xff"):
        with pytest.raises(ConstructError):
            ENTITY_ADDRVEC.parse(raw)


def test_a_textual_name_has_these_bytes() -> None:
    name = EntityName.parse("client.admin")
    assert name == EntityName(EntityType.CLIENT, "admin")
    assert str(name) == "client.admin"
    assert ENTITY_NAME.build(name) == bytes.fromhex("08000000 05000000") + b"admin"
    assert ENTITY_NAME.parse(ENTITY_NAME.build(name)) == name


def test_the_id_of_a_name_may_hold_dots() -> None:
    assert EntityName.parse("client.a.b") == EntityName(EntityType.CLIENT, "a.b")


@pytest.mark.parametrize("text", ["", "client", "client.", ".admin", "user.admin", "Client.admin"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no entity name"):
        EntityName.parse(text)


def test_a_number_name_takes_nine_bytes() -> None:
    name = EntityNum(EntityType.CLIENT, 4123)
    assert ENTITY_NUM.sizeof() == 9
    assert ENTITY_NUM.build(name) == bytes.fromhex("08 1b10000000000000")
    assert ENTITY_NUM.parse(ENTITY_NUM.build(name)) == name
    assert [str(n) for n in (name, EntityNum(EntityType.MDS, 0), EntityNum(8, -1), EntityNum(64, 1))] == [
        "client.4123",
        "mds.0",
        "client.?",
        "unknown.1",
    ]
