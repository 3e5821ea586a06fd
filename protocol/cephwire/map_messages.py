"""Messages that carry maps: from monitors on subscription, some from other daemons too.

Sources: ceph: src/messages/MMonMap.h and so on, each class's ``encode_payload``. Seen with Ceph 16.2 and 20.2. Each
class keeps Ceph's leading M, to be told from the map it carries.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.fsmap import FSMAP_USER, FsMapUser
from cephwire.mdsmap import MDSMAP, MdsMap
from cephwire.message import Message
from cephwire.monmap import MONMAP, MonMap
from cephwire.osdmap import OSDMAP, OSDMAP_INCREMENTAL, OsdMap, OsdMapIncremental
from cephwire.schema import (
    Bytes,
    Counted,
    Int32ul,
    Int64sl,
    Int64ul,
    Map,
    Record,
    Rest,
    Since,
    Sized,
    Struct,
    Text,
)

__all__ = [
    "FS_MAP",
    "FS_MAP_USER",
    "MDS_MAP",
    "MON_MAP",
    "OSD_MAP",
    "MFsMap",
    "MFsMapUser",
    "MMdsMap",
    "MMonMap",
    "MOsdMap",
    "SnapInterval",
]


class MMonMap(msgspec.Struct, frozen=True, gc=False):
    """The monitors: on subscription to "monmap" and in answer to `MonGetMap`."""

    monmap: MonMap


MON_MAP: Final = Message[MMonMap](4, Record(MMonMap, Struct("monmap" / Sized(MONMAP))))
"""ceph: src/messages/MMonMap.h."""


class MMdsMap(msgspec.Struct, frozen=True, gc=False):
    """One file system's map: on subscription to "mdsmap" or "mdsmap.FSCID", and from an MDS that is asked."""

    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    epoch: int
    mdsmap: MdsMap
    map_fs_name: str = ""
    """Empty from 18.2 and 20.2: `MdsMap.fs_name` has it; version 2."""


MDS_MAP: Final = Message[MMdsMap](
    21,
    Record(
        MMdsMap,
        Struct("fsid" / Bytes(16), "epoch" / Int32ul, "mdsmap" / Sized(MDSMAP), "map_fs_name" / Since(2, Text)),
    ),
    newest=2,
)
"""ceph: src/messages/MMDSMap.h."""


class SnapInterval(msgspec.Struct, frozen=True, gc=False):
    """Neighbouring snapshot ids."""

    start: int
    length: int


_SNAP_INTERVAL: Final = Record(SnapInterval, Struct("start" / Int64ul, "length" / Int64ul))


class MOsdMap(msgspec.Struct, frozen=True, gc=False):
    """One or several epochs of the OSD map: on subscription to "osdmap"."""

    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    incremental_maps: dict[int, OsdMapIncremental]
    """By the epoch each makes."""
    maps: dict[int, OsdMap]
    """Whole maps by epoch."""
    cluster_osdmap_trim_lower_bound: int = 0
    """Oldest epoch the monitors keep; version 2."""
    newest_map: int = 0
    """Newest epoch the sender has; more follow if this message stops short of it; version 2."""
    gap_removed_snaps: dict[int, tuple[SnapInterval, ...]] = {}
    """Snapshots removed in epochs before the first sent, by pool; only seen empty; version 4."""


OSD_MAP: Final = Message[MOsdMap](
    41,
    Record(
        MOsdMap,
        Struct(
            "fsid" / Bytes(16),
            "incremental_maps" / Map(Int32ul, Sized(OSDMAP_INCREMENTAL)),
            "maps" / Map(Int32ul, Sized(OSDMAP)),
            "cluster_osdmap_trim_lower_bound" / Since(2, Int32ul),
            "newest_map" / Since(2, Int32ul),
            "gap_removed_snaps" / Since(4, Map(Int64sl, Counted(_SNAP_INTERVAL))),
        ),
    ),
    newest=4,
    compat=3,
)
"""ceph: src/messages/MOSDMap.h."""


class MFsMap(msgspec.Struct, frozen=True, gc=False):
    """All file systems with all their daemons: on subscription to "fsmap"."""

    epoch: int
    fsmap: bytes
    """``FSMap``, its envelope included; opaque."""


FS_MAP: Final = Message[MFsMap](45, Record(MFsMap, Struct("epoch" / Int32ul, "fsmap" / Rest)))
"""ceph: src/messages/MFSMap.h. The map has version 7 from Ceph 16.2, 8 from 20.2."""


class MFsMapUser(msgspec.Struct, frozen=True, gc=False):
    """Names and numbers of all file systems: on subscription to "fsmap.user"."""

    epoch: int
    fsmap: FsMapUser


FS_MAP_USER: Final = Message[MFsMapUser](103, Record(MFsMapUser, Struct("epoch" / Int32ul, "fsmap" / FSMAP_USER)))
"""ceph: src/messages/MFSMapUser.h."""
