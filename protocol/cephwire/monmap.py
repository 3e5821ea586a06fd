"""The MonMap: which monitors there are, where, and what they agree on.

Source: ceph: src/mon/MonMap.h and MonMap.cc (``MonMap``, ``mon_info_t``). Read field by field from Ceph 16.2 and 20.2
against ``ceph mon dump``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from cephwire.entity import ENTITY_ADDRVEC, AnyAddrs
from cephwire.schema import (
    Bytes,
    Counted,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64ul,
    Map,
    Record,
    Since,
    Struct,
    Text,
    Utime,
    Versioned,
)

__all__ = ["MONMAP", "ElectionStrategy", "MonInfo", "MonMap"]


class ElectionStrategy(IntEnum):
    """``MonMap::election_strategy``: how the monitors choose their leader."""

    CLASSIC = 1
    """The lowest rank that is reachable."""
    DISALLOW = 2
    """The same, leaving out ``disallowed_leaders``."""
    CONNECTIVITY = 3
    """The one with the best connections."""


class MonInfo(msgspec.Struct, frozen=True, gc=False):
    """One monitor."""

    name: str
    """Without the leading ``mon.``."""
    public_addrs: AnyAddrs
    priority: int = 0
    """Clients prefer the lowest; version 2."""
    weight: int = 0
    """Relative chance of being chosen among equals in priority; version 4."""
    crush_location: dict[str, str] = {}
    """Bucket type to bucket name; version 5."""
    time_added: int = 0
    """Nanoseconds since 1970; version 6."""


_MON_INFO: Final = Versioned(
    6,
    Record(
        MonInfo,
        Struct(
            "name" / Text,
            "public_addrs" / ENTITY_ADDRVEC,
            "priority" / Since(2, Int16ul),
            "weight" / Since(4, Int16ul),
            "crush_location" / Since(5, Map(Text, Text)),
            "time_added" / Since(6, Utime),
        ),
    ),
)
"""``mon_info_t``; version 5 from Ceph 16.2, 6 from 20.2."""


class MonMap(msgspec.Struct, frozen=True, gc=False):
    """All monitors of a cluster."""

    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    epoch: int
    last_changed: int
    """Nanoseconds since 1970."""
    created: int
    """Nanoseconds since 1970."""
    persistent_features: int
    """Bits of ``ceph::features::mon`` that stay set once set."""
    optional_features: int
    mon_info: dict[str, MonInfo]
    """By name."""
    ranks: tuple[str, ...]
    """Names by rank."""
    min_mon_release: int = 0
    """The oldest major release that may join: 16 is Pacific, 20 Tentacle; version 7."""
    removed_ranks: tuple[int, ...] = ()
    """Ranks this epoch took away; version 8."""
    strategy: int = ElectionStrategy.CLASSIC
    """An `ElectionStrategy`; version 8."""
    disallowed_leaders: tuple[str, ...] = ()
    """Names; version 8."""
    stretch_mode: int = 0
    """Whether the cluster is stretched over two sites; version 9."""
    tiebreaker_mon: str = ""
    """The monitor outside both sites; version 9."""
    stretch_marked_down_mons: tuple[str, ...] = ()
    """Names; version 9."""
    auth_epoch: int = 0
    """Moves when all rotating service keys are wiped; version 10."""
    auth_service_cipher: int = 0
    """`cephwire.keys.CryptoType` of the keys services seal tickets with; version 10."""
    auth_allowed_ciphers: tuple[int, ...] = ()
    """Types of keys an entity may have; version 10."""
    auth_preferred_cipher: int = 0
    """Type of newly made keys; version 10."""


_MON_FEATURES: Final = Versioned(1, Int64ul)
"""``mon_feature_t`` (ceph: src/mon/mon_types.h)."""

MONMAP: Final = Versioned(
    10,
    Record(
        MonMap,
        Struct(
            "fsid" / Bytes(16),
            "epoch" / Int32ul,
            "last_changed" / Utime,
            "created" / Utime,
            "persistent_features" / _MON_FEATURES,
            "optional_features" / _MON_FEATURES,
            "mon_info" / Map(Text, _MON_INFO),
            "ranks" / Counted(Text),
            "min_mon_release" / Since(7, Int8ul),
            "removed_ranks" / Since(8, Counted(Int32ul)),
            "strategy" / Since(8, Int8ul),
            "disallowed_leaders" / Since(8, Counted(Text)),
            "stretch_mode" / Since(9, Int8ul),
            "tiebreaker_mon" / Since(9, Text),
            "stretch_marked_down_mons" / Since(9, Counted(Text)),
            "auth_epoch" / Since(10, Int32ul),
            "auth_service_cipher" / Since(10, Int32sl),
            "auth_allowed_ciphers" / Since(10, Counted(Int32sl)),
            "auth_preferred_cipher" / Since(10, Int32sl),
        ),
    ),
    compat=6,
)
"""``MonMap``; version 9 from Ceph 16.2, 10 from 20.2.

A peer that did not announce ``SERVER_NAUTILUS`` is sent version 5 or older, laid out otherwise; those are not read.
"""
