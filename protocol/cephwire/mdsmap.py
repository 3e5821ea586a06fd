"""The MDSMap: one file system's metadata servers, and what it asks of its clients.

Sources: ceph: src/mds/MDSMap.h and MDSMap.cc, src/include/CompatSet.h, src/include/ceph_fs.h (the states); kernel:
fs/ceph/mdsmap.c. Read field by field from Ceph 16.2 and 20.2 against ``ceph fs dump``.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import msgspec
from construct import Construct

from cephwire.entity import ENTITY_ADDRVEC, AnyAddrs
from cephwire.schema import (
    Bitset,
    Counted,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Map,
    Record,
    Since,
    Struct,
    Text,
    Utime,
    Versioned,
)

__all__ = [
    "COMPAT_SET",
    "MDSMAP",
    "CompatSet",
    "FeatureSet",
    "MdsInfo",
    "MdsInfoFlag",
    "MdsMap",
    "MdsMapFlag",
    "MdsState",
]


class MdsState(IntEnum):
    """``CEPH_MDS_STATE_*``: negative for daemons without a rank of their own (ceph: src/include/ceph_fs.h)."""

    DNE = 0
    """Does not exist; the rank was never used."""
    STOPPED = -1
    """The rank was given up, its journal is empty."""
    BOOT = -4
    STANDBY = -5
    CREATING = -6
    """The rank comes up for the first time."""
    STARTING = -7
    """The rank comes up again after STOPPED."""
    STANDBY_REPLAY = -8
    """Follows a rank's journal, ready to take over."""
    REPLAYONCE = -9
    """Obsolete."""
    REPLAY = 8
    """Reads the journal of a rank that failed."""
    RESOLVE = 9
    """Settles operations that spanned ranks."""
    RECONNECT = 10
    """Waits for clients to say which caps they hold."""
    REJOIN = 11
    CLIENTREPLAY = 12
    """Works again, on requests clients send anew."""
    ACTIVE = 13
    STOPPING = 14
    """Exports what it has; takes no new sessions."""
    DAMAGED = 15
    """Only in messages to the monitor: metadata is unreadable."""


class MdsMapFlag(IntFlag):
    """``CEPH_MDSMAP_*``: bits of `MdsMap.flags`."""

    NOT_JOINABLE = 1 << 0
    """Standbys may not take ranks: ``ceph fs fail`` and ``joinable false``."""
    ALLOW_SNAPS = 1 << 1
    ALLOW_MULTIMDS_SNAPS = 1 << 4
    ALLOW_STANDBY_REPLAY = 1 << 5
    REFUSE_CLIENT_SESSION = 1 << 6
    REFUSE_STANDBY_FOR_ANOTHER_FS = 1 << 7
    BALANCE_AUTOMATE = 1 << 8


class MdsInfoFlag(IntFlag):
    """Bits of `MdsInfo.flags`."""

    FROZEN = 1 << 0
    """Held in its present state: ``ceph mds freeze``."""


class FeatureSet(msgspec.Struct, frozen=True, gc=False):
    """Numbered features of on-disk data."""

    mask: int
    """Bit n for feature n; bit 0 is no feature and not sent, though Ceph prints masks with it."""
    names: dict[int, str]
    """By number."""


class CompatSet(msgspec.Struct, frozen=True, gc=False):
    """Features a daemon knows or a file system has, by what lacking them forbids."""

    compat: FeatureSet
    """Nothing."""
    ro_compat: FeatureSet
    """Writing."""
    incompat: FeatureSet
    """Any use."""


_FEATURE_SET: Final = Record(FeatureSet, Struct("mask" / Int64ul, "names" / Map(Int64ul, Text)))

COMPAT_SET: Final = Record(
    CompatSet, Struct("compat" / _FEATURE_SET, "ro_compat" / _FEATURE_SET, "incompat" / _FEATURE_SET)
)
"""``CompatSet``, at least 36 bytes (ceph: src/include/CompatSet.h)."""

_NO_FEATURES: Final = FeatureSet(0, {})


class MdsInfo(msgspec.Struct, frozen=True, gc=False):
    """One MDS daemon."""

    gid: int
    """Global id: one life of the daemon."""
    name: str
    """Without the leading ``mds.``; a restarted daemon keeps it and gets another gid."""
    rank: int
    """The rank it holds or, in standby-replay, follows; -1 for none."""
    inc: int
    """Epoch in which it took the rank; 0 without one."""
    state: int
    """An `MdsState`."""
    state_seq: int
    """Goes up with each state the daemon asked for."""
    addrs: AnyAddrs
    """A list since version 8; with their nonces, which a client has to name."""
    laggy_since: int
    """When its beacons stopped, nanoseconds since 1970; 0 if they did not."""
    standby_for_rank: int
    """Obsolete; -1."""
    standby_for_name: str
    """Obsolete; empty."""
    export_targets: tuple[int, ...]
    """Ranks it sends subtrees to; clients may open sessions there ahead of time."""
    mds_features: int = 0
    """Messenger features it announced; version 5."""
    join_fscid: int = -1
    """The file system it would rather serve (``mds_join_fs``), -1 for any; version 6."""
    standby_replay: int = 0
    """Obsolete; version 7."""
    flags: int = 0
    """`MdsInfoFlag`; version 9."""
    compat: CompatSet = CompatSet(_NO_FEATURES, _NO_FEATURES, _NO_FEATURES)
    """What it knows; version 10."""


_MDS_INFO: Final = Versioned(
    10,
    Record(
        MdsInfo,
        Struct(
            "gid" / Int64ul,
            "name" / Text,
            "rank" / Int32sl,
            "inc" / Int32sl,
            "state" / Int32sl,
            "state_seq" / Int64ul,
            "addrs" / ENTITY_ADDRVEC,
            "laggy_since" / Utime,
            "standby_for_rank" / Int32sl,
            "standby_for_name" / Text,
            "export_targets" / Counted(Int32sl),
            "mds_features" / Since(5, Int64ul),
            "join_fscid" / Since(6, Int32sl),
            "standby_replay" / Since(7, Int8ul),
            "flags" / Since(9, Int64ul),
            "compat" / Since(10, COMPAT_SET),
        ),
    ),
    compat=4,
)
"""``MDSMap::mds_info_t``; version 10 from Ceph 16.2 and 20.2, 7 to peers without ``SERVER_NAUTILUS``."""


class MdsMap(msgspec.Struct, frozen=True, gc=False):
    """One file system: its ranks, the daemons that hold them, and its settings."""

    epoch: int
    flags: int
    """`MdsMapFlag`."""
    last_failure: int
    """Epoch in which a rank last failed."""
    root: int
    """Rank of the root inode; 0."""
    session_timeout: int
    """Seconds without renewal after which a session's caps are stale."""
    session_autoclose: int
    """Seconds without renewal after which a session is evicted."""
    max_file_size: int
    """Bytes."""
    max_mds: int
    """Ranks wanted."""
    mds_info: dict[int, MdsInfo]
    """By gid: holders of ranks and daemons in standby-replay, no plain standbys."""
    data_pools: tuple[int, ...]
    """Pool ids; the first is the default."""
    cas_pool: int
    """Unused; -1."""
    ev: int
    """Version of all that follows; it has no length of its own."""
    compat: CompatSet
    metadata_pool: int
    """Pool id."""
    created: int
    """Nanoseconds since 1970."""
    modified: int
    """Nanoseconds since 1970."""
    tableserver: int
    """Rank of the table server; 0."""
    in_: tuple[int, ...]
    """``in``: ranks that exist, up or not."""
    inc: dict[int, int]
    """Obsolete: every rank of ``in`` to this epoch."""
    up: dict[int, int]
    """Rank to the gid of its holder."""
    failed: tuple[int, ...]
    """Ranks without a holder."""
    stopped: tuple[int, ...]
    """Ranks given up."""
    last_failure_osd_epoch: int = 0
    """OSDMap that blocklists the last failed MDS: one as new is needed before data is written; ev 4."""
    ever_allowed_features: int = 0
    """`MdsMapFlag` that were once set; ev 6."""
    explicitly_allowed_features: int = 0
    """`MdsMapFlag` that somebody set; ev 6."""
    inline_data_enabled: int = 0
    """ev 7."""
    enabled: int = 1
    """ev 8."""
    fs_name: str = ""
    """ev 8."""
    damaged: tuple[int, ...] = ()
    """Ranks that need repair; ev 9."""
    balancer: str = ""
    """Object with the balancer's script; ev 11."""
    standby_count_wanted: int = -1
    """-1 for the cluster's default; ev 12."""
    old_max_mds: int = 0
    """``max_mds`` before ``down true``; ev 13."""
    min_compat_client: int = 0
    """Oldest release of clients, 255 for any; obsolete; ev 14."""
    required_client_features: int = 0
    """``CEPHFS_FEATURE_*`` as bits; a client without one of them is rejected; ev 16."""
    bal_rank_mask: str = "-1"
    """Ranks that take part in balancing, in hex; "-1" for all; ev 17."""
    max_xattr_size: int = 0
    """Bytes, names and values of one inode together; 0 from senders that do not say; ev 18."""
    qdb_leader: int = 0
    """gid of the daemon that leads quiescing; ev 19."""
    qdb_members: tuple[int, ...] = ()
    """gids of those that take part; ev 19."""


def _ev(version: int, field: Construct) -> Since:
    return Since(version, field, of="ev")


MDSMAP: Final = Versioned(
    5,
    Record(
        MdsMap,
        Struct(
            "epoch" / Int32ul,
            "flags" / Int32ul,
            "last_failure" / Int32ul,
            "root" / Int32ul,
            "session_timeout" / Int32ul,
            "session_autoclose" / Int32ul,
            "max_file_size" / Int64ul,
            "max_mds" / Int32sl,
            "mds_info" / Map(Int64ul, _MDS_INFO),
            "data_pools" / Counted(Int64sl),
            "cas_pool" / Int64sl,
            "ev" / Int16ul,
            "compat" / COMPAT_SET,
            "metadata_pool" / Int64sl,
            "created" / Utime,
            "modified" / Utime,
            "tableserver" / Int32sl,
            "in_" / Counted(Int32sl),
            "inc" / Map(Int32sl, Int32sl),
            "up" / Map(Int32sl, Int64ul),
            "failed" / Counted(Int32sl),
            "stopped" / Counted(Int32sl),
            "last_failure_osd_epoch" / _ev(4, Int32ul),
            "ever_allowed_features" / _ev(6, Int8ul),
            "explicitly_allowed_features" / _ev(6, Int8ul),
            "inline_data_enabled" / _ev(7, Int8ul),
            "enabled" / _ev(8, Int8ul),
            "fs_name" / _ev(8, Text),
            "damaged" / _ev(9, Counted(Int32sl)),
            "balancer" / _ev(11, Text),
            "standby_count_wanted" / _ev(12, Int32sl),
            "old_max_mds" / _ev(13, Int32sl),
            "min_compat_client" / _ev(14, Int8ul),
            "required_client_features" / _ev(16, Bitset),
            "bal_rank_mask" / _ev(17, Text),
            "max_xattr_size" / _ev(18, Int64ul),
            "qdb_leader" / _ev(19, Int64ul),
            "qdb_members" / _ev(19, Counted(Int64ul)),
        ),
    ),
    compat=4,
)
"""``MDSMap``; version 5 everywhere, ``ev`` 16 from Ceph 16.2, 18 from 18.2, 19 from 20.2.

A peer that did not announce ``MDSENC`` is sent version 3 or older, laid out otherwise; those are not read.
"""
