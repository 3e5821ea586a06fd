"""Who and where: entity types, names and addresses.

Sources: ceph: src/msg/msg_types.h (``entity_addr_t``, ``entity_addrvec_t``, ``entity_name_t``) and
src/common/entity_name.h (``EntityName``); kernel: net/ceph/decode.c. Seen on the wire with Ceph 16.2, 18.2 and 20.2.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from typing import Final, Self, TypeAlias

import msgspec

from cephwire.schema import (
    Blob,
    Bytes,
    Counted,
    Int8ul,
    Int32ul,
    Int64sl,
    Padding,
    Record,
    Struct,
    Tagged,
    Text,
    Versioned,
)

__all__ = [
    "AF_INET",
    "AF_INET6",
    "ENTITY_ADDR",
    "ENTITY_ADDRVEC",
    "ENTITY_NAME",
    "ENTITY_NUM",
    "AddrType",
    "AddrVec",
    "AnyAddr",
    "AnyAddrs",
    "EntityAddr",
    "EntityName",
    "EntityNum",
    "EntityType",
    "LegacyAddr",
    "address_of",
    "addresses",
]

AF_INET: Final = 2
AF_INET6: Final = 10
"""Address families by Linux's numbers, whatever this host's own are."""

SOCKADDR_IN_SIZE: Final = 16
SOCKADDR_IN6_SIZE: Final = 28
SOCKADDR_STORAGE_SIZE: Final = 128


class EntityType(IntEnum):
    """``CEPH_ENTITY_TYPE_*``; one bit each, so that a set of them is their sum."""

    MON = 1
    MDS = 2
    OSD = 4
    CLIENT = 8
    MGR = 16
    AUTH = 32
    """The authentication service itself, in tickets; nobody connects to it."""


class AddrType(IntEnum):
    """Which protocol an address speaks (ceph: src/msg/msg_types.h, ``entity_addr_t::type_t``)."""

    NONE = 0
    LEGACY = 1
    """Messenger v1; printed ``v1``."""
    MSGR2 = 2
    """Messenger v2; printed ``v2``."""
    ANY = 3
    """Either; in blocklists. Printed without a prefix."""
    CIDR = 4
    """A range, in range blocklists."""


_ADDR_PREFIX: Final[dict[int, str]] = {
    AddrType.LEGACY: "v1:",
    AddrType.MSGR2: "v2:",
    AddrType.ANY: "",
    AddrType.CIDR: "cidr:",
}


class EntityAddr(msgspec.Struct, frozen=True, gc=False):
    """A socket address with the protocol spoken there and the nonce that tells one process's life from the next."""

    type: int
    """An `AddrType`."""
    nonce: int
    """Chosen by the process when it starts; 0 for a mon."""
    sockaddr: bytes
    """Empty for a blank address, else u16 family in little-endian and the rest of the C structure as it is: port in
    network order, then the IP (for IPv6 with flowinfo before and scope after it)."""

    @classmethod
    def make(cls, type: int, host: str, port: int, nonce: int = 0) -> Self:
        """The address of a numeric IPv4 or IPv6 ``host``; ValueError if it is a name."""
        ip = ipaddress.ip_address(host)
        if ip.version == 4:
            sockaddr = AF_INET.to_bytes(2, "little") + port.to_bytes(2) + ip.packed + bytes(8)
        else:
            sockaddr = AF_INET6.to_bytes(2, "little") + port.to_bytes(2) + bytes(4) + ip.packed + bytes(4)
        return cls(type, nonce, sockaddr)

    @property
    def family(self) -> int:
        """`AF_INET`, `AF_INET6`, or 0 for a blank address."""
        return int.from_bytes(self.sockaddr[:2], "little")

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The IP, or None if the address is blank or of another family."""
        if self.family == AF_INET and len(self.sockaddr) >= 8:
            return ipaddress.IPv4Address(self.sockaddr[4:8])
        if self.family == AF_INET6 and len(self.sockaddr) >= 24:
            return ipaddress.IPv6Address(self.sockaddr[8:24])
        return None

    @property
    def host(self) -> str:
        """The IP as text, or "" if there is none."""
        return "" if self.ip is None else str(self.ip)

    @property
    def port(self) -> int:
        """The port, or 0 if there is none."""
        return int.from_bytes(self.sockaddr[2:4]) if self.ip is not None else 0

    def same_endpoint(self, other: EntityAddr) -> bool:
        """Whether IP, port and nonce agree, whatever the types: blocklist entries have type ANY."""
        return (self.ip, self.port, self.nonce) == (other.ip, other.port, other.nonce)

    def legacy(self) -> LegacyAddr:
        """The same in the form messenger v1 exchanges; the type is lost."""
        storage = self.sockaddr[:2][::-1] + self.sockaddr[2:]
        return LegacyAddr(self.nonce, storage[:SOCKADDR_STORAGE_SIZE].ljust(SOCKADDR_STORAGE_SIZE, b"\0"))

    def __str__(self) -> str:
        if self.type == AddrType.NONE:
            return "-"
        prefix = _ADDR_PREFIX.get(self.type, f"type{self.type}:")
        host = f"[{self.host}]" if self.family == AF_INET6 else self.host
        return f"{prefix}{host}:{self.port}/{self.nonce}"


class LegacyAddr(msgspec.Struct, frozen=True, gc=False):
    """An address as written for peers without ``MSG_ADDR2`` and in messenger v1's banner: no type, fixed size."""

    nonce: int
    sockaddr: bytes
    """``struct sockaddr_storage``, 128 bytes; as in `EntityAddr`, but with the family in network order."""

    def modern(self) -> EntityAddr:
        """The same with a type: LEGACY, or NONE if it is blank."""
        family = int.from_bytes(self.sockaddr[:2])
        if not family:
            return EntityAddr(AddrType.NONE, self.nonce, b"")
        size = {AF_INET: SOCKADDR_IN_SIZE, AF_INET6: SOCKADDR_IN6_SIZE}.get(family, SOCKADDR_STORAGE_SIZE)
        return EntityAddr(AddrType.LEGACY, self.nonce, self.sockaddr[:2][::-1] + self.sockaddr[2:size])

    def __str__(self) -> str:
        return str(self.modern())


AnyAddr: TypeAlias = EntityAddr | LegacyAddr


class AddrVec(msgspec.Struct, frozen=True, gc=False):
    """The addresses one daemon listens on, in its order of preference."""

    addrs: tuple[AnyAddr, ...]

    def __str__(self) -> str:
        if len(self.addrs) == 1:
            return str(self.addrs[0])
        return "[" + ",".join(map(str, self.addrs)) + "]" if self.addrs else "-"


AnyAddrs: TypeAlias = AddrVec | EntityAddr | LegacyAddr
"""What stands where an ``entity_addrvec_t`` is expected."""


def addresses(value: AnyAddrs) -> tuple[EntityAddr, ...]:
    """All addresses of a field that may hold one or a list, old form or new."""
    addrs = value.addrs if isinstance(value, AddrVec) else (value,)
    return tuple(addr.modern() if isinstance(addr, LegacyAddr) else addr for addr in addrs)


def address_of(value: AnyAddrs, type: AddrType = AddrType.MSGR2) -> EntityAddr | None:
    """The first address of ``type``, or None."""
    return next((addr for addr in addresses(value) if addr.type == type), None)


_ADDR_CASES: Final[dict[int, Record | Versioned]] = {
    0: Record(LegacyAddr, Struct(Padding(3), "nonce" / Int32ul, "sockaddr" / Bytes(SOCKADDR_STORAGE_SIZE))),
    1: Versioned(1, Record(EntityAddr, Struct("type" / Int32ul, "nonce" / Int32ul, "sockaddr" / Blob))),
}

ENTITY_ADDR: Final = Tagged(_ADDR_CASES)
"""``entity_addr_t``. The modern form takes 35 bytes for IPv4 and 47 for IPv6, the legacy one 136: its first u32, 0,
begins with the marker. Which one a peer writes depends on our ``MSG_ADDR2``; both are read anywhere
(ceph: src/msg/msg_types.h, ``entity_addr_t::decode``)."""

ENTITY_ADDRVEC: Final = Tagged({**_ADDR_CASES, 2: Record(AddrVec, Struct("addrs" / Counted(ENTITY_ADDR)))})
"""``entity_addrvec_t``; a single address, in either form, may stand in its place
(ceph: src/msg/msg_types.cc, ``entity_addrvec_t::decode``)."""


class EntityName(msgspec.Struct, frozen=True, gc=False):
    """Whom a key belongs to, as in ``client.admin``."""

    type: int
    """An `EntityType`."""
    id: str
    """What follows the dot."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name ``text`` spells; ValueError if it has no dot or an unknown type."""
        kind, dot, id = text.partition(".")
        if not dot or not id or kind.upper() not in EntityType.__members__ or kind != kind.lower():
            raise ValueError(f"{text!r} is no entity name: TYPE.ID, such as client.admin")
        return cls(EntityType[kind.upper()], id)

    def __str__(self) -> str:
        return f"{_type_name(self.type)}.{self.id}"


ENTITY_NAME: Final = Record(EntityName, Struct("type" / Int32ul, "id" / Text))
"""``EntityName`` (ceph: src/common/entity_name.h)."""


class EntityNum(msgspec.Struct, frozen=True, gc=False):
    """One running process, as in ``client.4123`` or ``mds.0``."""

    type: int
    """An `EntityType`."""
    num: int
    """A client's global id, a daemon's rank or number; negative while not yet known."""

    def __str__(self) -> str:
        return f"{_type_name(self.type)}.{self.num if self.num >= 0 else '?'}"


ENTITY_NUM: Final = Record(EntityNum, Struct("type" / Int8ul, "num" / Int64sl))
"""``struct ceph_entity_name``, 9 bytes (ceph: src/include/msgr.h)."""


def _type_name(type: int) -> str:
    return EntityType(type).name.lower() if type in EntityType._value2member_map_ else "unknown"
