"""The OSDMap, as far as a metadata client needs it: its epoch and who is blocklisted.

The rest is opaque, but each part by its own length. Source: ceph: src/osd/OSDMap.h and OSDMap.cc
(``OSDMap::encode``, ``OSDMap::Incremental::encode``). Read from Ceph 16.2 and 20.2 against ``ceph osd dump``.

Entries of the blocklist have addresses of type ANY: compare with `cephwire.entity.EntityAddr.same_endpoint`. One with
port 0 and nonce 0 stands for the whole IP. Ranges (``ceph osd blocklist range add``) are in the opaque part.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.entity import ENTITY_ADDR, ENTITY_ADDRVEC, AnyAddr, AnyAddrs
from cephwire.schema import (
    Bytes,
    Counted,
    Filled,
    Int32sl,
    Int32ul,
    Int64sl,
    Map,
    Record,
    Rest,
    Struct,
    Utime,
    Versioned,
)

__all__ = [
    "OSDMAP",
    "OSDMAP_INCREMENTAL",
    "OsdMap",
    "OsdMapClientChange",
    "OsdMapClientPart",
    "OsdMapIncremental",
    "OsdMapOsdChange",
    "OsdMapOsdPart",
]


class OsdMapClientPart(msgspec.Struct, frozen=True, gc=False):
    """What clients that read and write objects need."""

    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    epoch: int
    created: int
    """Nanoseconds since 1970."""
    modified: int
    """Nanoseconds since 1970."""
    placement: bytes
    """Opaque: pools, flags, OSDs, placement groups, CRUSH; laid out by the part's version."""


class OsdMapOsdPart(msgspec.Struct, frozen=True, gc=False):
    """What only OSDs need, and the blocklist."""

    hb_back_addrs: tuple[AnyAddrs, ...]
    """Heartbeat addresses by OSD."""
    osd_info: tuple[bytes, ...]
    """``osd_info_t`` by OSD, opaque."""
    blocklist: dict[AnyAddr, int]
    """Address to when it expires, nanoseconds since 1970."""
    details: bytes
    """Opaque: the OSDs' other addresses and states, ratios, removed snapshots, ...; laid out by the part's version."""


class OsdMap(msgspec.Struct, frozen=True, gc=False):
    """The whole map."""

    client: OsdMapClientPart
    osd: OsdMapOsdPart
    crc: int
    """crc32c of the map; not checked here."""


OSDMAP: Final = Versioned(
    8,
    Record(
        OsdMap,
        Struct(
            "client"
            / Versioned(
                10,
                Record(
                    OsdMapClientPart,
                    Struct(
                        "fsid" / Bytes(16),
                        "epoch" / Int32ul,
                        "created" / Utime,
                        "modified" / Utime,
                        "placement" / Rest,
                    ),
                ),
            ),
            "osd"
            / Versioned(
                11,
                Record(
                    OsdMapOsdPart,
                    Struct(
                        "hb_back_addrs" / Counted(ENTITY_ADDRVEC),
                        "osd_info" / Counted(Bytes(25)),
                        "blocklist" / Map(ENTITY_ADDR, Utime),
                        "details" / Rest,
                    ),
                ),
                writes=9,
            ),
            "crc" / Int32ul,
        ),
    ),
    compat=7,
)
"""``OSDMap``; version 8, parts 9 and 9 from Ceph 16.2, 10 and 9 from 20.2; the second 11 while ranges are blocklisted.

The opaque fields are laid out by the version they came in: what is built from those of another version is not sound.
"""


class OsdMapClientChange(msgspec.Struct, frozen=True, gc=False):
    """Changes to `OsdMapClientPart`."""

    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    epoch: int
    """The epoch this makes of the one before it."""
    modified: int
    """Nanoseconds since 1970."""
    new_pool_max: int
    """-1 if unchanged."""
    new_flags: int
    """-1 if unchanged."""
    fullmap: OsdMap | None
    """The whole map in place of changes, or None."""
    placement: bytes
    """Opaque: changes to pools, OSDs, placement groups, CRUSH; laid out by the part's version."""


class OsdMapOsdChange(msgspec.Struct, frozen=True, gc=False):
    """Changes to `OsdMapOsdPart`."""

    new_hb_back_up: dict[int, AnyAddrs]
    """By OSD."""
    new_up_thru: dict[int, int]
    """By OSD: epochs."""
    new_last_clean_interval: dict[int, bytes]
    """By OSD: two u32 epochs."""
    new_lost: dict[int, int]
    """By OSD: epochs."""
    new_blocklist: dict[AnyAddr, int]
    """Added or prolonged: address to when it expires, nanoseconds since 1970."""
    old_blocklist: tuple[AnyAddr, ...]
    """Removed."""
    details: bytes
    """Opaque: changes to what `OsdMapOsdPart.details` holds; laid out by the part's version."""


class OsdMapIncremental(msgspec.Struct, frozen=True, gc=False):
    """One epoch's changes to the map."""

    client: OsdMapClientChange
    osd: OsdMapOsdChange
    inc_crc: int
    """crc32c of this structure; not checked here."""
    full_crc: int
    """crc32c of the map it makes; not checked here."""


OSDMAP_INCREMENTAL: Final = Versioned(
    8,
    Record(
        OsdMapIncremental,
        Struct(
            "client"
            / Versioned(
                9,
                Record(
                    OsdMapClientChange,
                    Struct(
                        "fsid" / Bytes(16),
                        "epoch" / Int32ul,
                        "modified" / Utime,
                        "new_pool_max" / Int64sl,
                        "new_flags" / Int32sl,
                        "fullmap" / Filled(OSDMAP),
                        "placement" / Rest,
                    ),
                ),
            ),
            "osd"
            / Versioned(
                11,
                Record(
                    OsdMapOsdChange,
                    Struct(
                        "new_hb_back_up" / Map(Int32sl, ENTITY_ADDRVEC),
                        "new_up_thru" / Map(Int32sl, Int32ul),
                        "new_last_clean_interval" / Map(Int32sl, Bytes(8)),
                        "new_lost" / Map(Int32sl, Int32ul),
                        "new_blocklist" / Map(ENTITY_ADDR, Utime),
                        "old_blocklist" / Counted(ENTITY_ADDR),
                        "details" / Rest,
                    ),
                ),
                writes=9,
            ),
            "inc_crc" / Int32ul,
            "full_crc" / Int32ul,
        ),
    ),
    compat=7,
)
"""``OSDMap::Incremental``; version 8, parts 8 and 9 from Ceph 16.2, 9 and 9 from 20.2; the second 11 where a range is
added or removed. See `OSDMAP` on building."""
