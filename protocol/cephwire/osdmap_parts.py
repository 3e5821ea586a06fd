"""What an OSDMap of a cluster without OSDs says in the parts that `cephwire.osdmap` keeps opaque.

For those who make a map: one that C++ clients decode, with pools, flags and no OSDs. Reading a real cluster's map with
these gives an error where it has OSDs, placements or a CRUSH hierarchy. Sources: ceph: src/osd/OSDMap.cc
(``OSDMap::encode``), src/osd/osd_types.cc (``pg_pool_t::encode``), src/crush/CrushWrapper.cc (``encode``). Compared
byte by byte with the first maps of clusters of Ceph 16.2 and 20.2, which have no OSDs yet.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

import msgspec

from cephwire.schema import (
    Const,
    Int8ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Map,
    Record,
    Sized,
    Struct,
    Text,
    Utime,
    Versioned,
)

__all__ = ["CRUSH", "DETAILS", "PLACEMENT", "POOL", "Crush", "Details", "OsdMapFlag", "Placement", "Pool", "PoolFlag"]


class OsdMapFlag(IntFlag):
    """``CEPH_OSDMAP_*`` (ceph: src/include/rados.h)."""

    FULL = 1 << 1
    """No client may write: libcephfs gives ENOSPC at once."""
    SORTBITWISE = 1 << 15
    RECOVERY_DELETES = 1 << 19
    PURGED_SNAPDIRS = 1 << 20
    PGLOG_HARDLIMIT = 1 << 22


class PoolFlag(IntFlag):
    """``pg_pool_t::FLAG_*`` (ceph: src/osd/osd_types.h)."""

    HASHPSPOOL = 1 << 0
    FULL = 1 << 1


class Pool(msgspec.Struct, frozen=True, gc=False):
    """``pg_pool_t``: a replicated pool as it is when made; what is left out is not set."""

    size: int = 1
    """Replicas."""
    pg_num: int = 8
    pgp_num: int = 8
    last_change: int = 1
    """Epoch."""
    flags: int = PoolFlag.HASHPSPOOL
    """`PoolFlag`."""
    application_metadata: dict[str, dict[str, str]] = {}
    """What uses it, such as "cephfs"."""
    create_time: int = 0
    """Nanoseconds since 1970."""


POOL: Final = Versioned(
    27,
    Record(
        Pool,
        Struct(
            "type" / Const(1, Int8ul),
            "size" / Int8ul,
            "crush_rule" / Const(0, Int8ul),
            "object_hash" / Const(2, Int8ul),
            "pg_num" / Int32ul,
            "pgp_num" / Int32ul,
            "lpg_nums" / Const(bytes(8)),
            "last_change" / Int32ul,
            "snaps_and_auid" / Const(bytes(28)),
            "flags" / Int64ul,
            "crash_replay_interval" / Const(0, Int32ul),
            "min_size" / Const(1, Int8ul),
            "quotas_and_tiers" / Const(bytes(20)),
            "tier_of" / Const(-1, Int64sl),
            "cache_mode" / Const(0, Int8ul),
            "read_tier" / Const(-1, Int64sl),
            "write_tier" / Const(-1, Int64sl),
            "properties" / Const(0, Int32ul),
            "hit_set_params" / Const(bytes((1, 1, 1, 0, 0, 0, 0))),
            "hit_sets_and_targets" / Const(bytes(28)),
            "cache_target_dirty_ratio_micro" / Const(400_000, Int32ul),
            "cache_target_full_ratio_micro" / Const(800_000, Int32ul),
            "ages_and_expectations" / Const(bytes(28)),
            "cache_target_dirty_high_ratio_micro" / Const(600_000, Int32ul),
            "min_write_recency_for_promote" / Const(0, Int32ul),
            "use_gmt_hitset" / Const(1, Int8ul),
            "fast_read" / Const(0, Int8ul),
            "hit_set_decay" / Const(bytes(8)),
            "opts" / Const(bytes((2, 1, 4, 0, 0, 0, 0, 0, 0, 0))),
            "last_force_op_resend_prenautilus" / Const(0, Int32ul),
            "application_metadata" / Map(Text, Map(Text, Text)),
            "create_time" / Utime,
        ),
    ),
    compat=5,
)
"""Version 27; what later ones add has fit defaults in every reader since Nautilus."""


class Crush(msgspec.Struct, frozen=True, gc=False):
    """A CRUSH map without devices, buckets and rules."""

    type_map: dict[int, str] = {}
    name_map: dict[int, str] = {}
    rule_name_map: dict[int, str] = {}


CRUSH: Final = Record(
    Crush,
    Struct(
        "magic" / Const(0x00010000, Int32ul),
        "max_buckets" / Const(0, Int32sl),
        "max_rules" / Const(0, Int32ul),
        "max_devices" / Const(0, Int32sl),
        "type_map" / Map(Int32sl, Text),
        "name_map" / Map(Int32sl, Text),
        "rule_name_map" / Map(Int32sl, Text),
        "choose_local_tries" / Const(0, Int32ul),
        "choose_local_fallback_tries" / Const(0, Int32ul),
        "choose_total_tries" / Const(50, Int32ul),
        "chooseleaf_descend_once" / Const(1, Int32ul),
        "chooseleaf_vary_r" / Const(1, Int8ul),
        "straw_calc_version" / Const(1, Int8ul),
        "allowed_bucket_algs" / Const(0x36, Int32ul),
        "chooseleaf_stable" / Const(1, Int8ul),
        "classes_and_choose_args" / Const(bytes(16)),
    ),
)
"""``CrushWrapper`` with the tunables of the profile "jewel"."""


class Placement(msgspec.Struct, frozen=True, gc=False):
    """`cephwire.osdmap.OsdMapClientPart.placement` of version 10, without OSDs."""

    pools: dict[int, Pool]
    pool_name: dict[int, str]
    pool_max: int
    """Highest pool id ever given."""
    flags: int
    """`OsdMapFlag`."""
    crush: Crush = Crush()
    erasure_code_profiles: dict[str, dict[str, str]] = {}
    crush_version: int = 1


PLACEMENT: Final = Record(
    Placement,
    Struct(
        "pools" / Map(Int64sl, POOL),
        "pool_name" / Map(Int64sl, Text),
        "pool_max" / Int32sl,
        "flags" / Int32ul,
        "max_osd" / Const(0, Int32sl),
        "osds_and_temps" / Const(bytes(24)),
        "crush" / Sized(CRUSH),
        "erasure_code_profiles" / Map(Text, Map(Text, Text)),
        "upmaps" / Const(bytes(8)),
        "crush_version" / Int32sl,
        "removed_snaps_last_changes_and_primaries" / Const(bytes(28)),
    ),
)


class Details(msgspec.Struct, frozen=True, gc=False):
    """`cephwire.osdmap.OsdMapOsdPart.details` of version 9, without OSDs."""

    require_min_compat_client: int
    """A release's number."""
    require_osd_release: int


DETAILS: Final = Record(
    Details,
    Struct(
        "osds" / Const(bytes(24)),
        "nearfull_ratio" / Const(bytes.fromhex("9a99593f")),
        "full_ratio" / Const(bytes.fromhex("3333733f")),
        "backfillfull_ratio" / Const(bytes.fromhex("6666663f")),
        "require_min_compat_client" / Int8ul,
        "require_osd_release" / Int8ul,
        "removed_snaps_and_flags" / Const(bytes(12)),
    ),
)
"""The ratios, as floats, are 0.85, 0.95 and 0.9."""
