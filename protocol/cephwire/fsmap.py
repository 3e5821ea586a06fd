"""The map of file systems as clients see it: their names and numbers.

Source: ceph: src/mds/FSMapUser.h and FSMapUser.cc. Read from Ceph 16.2 and 20.2 against ``ceph fs dump``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.schema import Counted, Int32sl, Int32ul, Record, Struct, Text, Versioned

__all__ = ["FSMAP_USER", "FsInfo", "FsMapUser"]


class FsInfo(msgspec.Struct, frozen=True, gc=False):
    """One file system."""

    fscid: int
    """File system cluster id."""
    name: str


class FsMapUser(msgspec.Struct, frozen=True, gc=False):
    """All file systems of a cluster."""

    epoch: int
    legacy_client_fscid: int
    """The default file system; -1 if there is none."""
    filesystems: tuple[FsInfo, ...]


_FS_INFO: Final = Versioned(1, Record(FsInfo, Struct("fscid" / Int32sl, "name" / Text)))

FSMAP_USER: Final = Versioned(
    1,
    Record(
        FsMapUser,
        Struct("epoch" / Int32ul, "legacy_client_fscid" / Int32sl, "filesystems" / Counted(_FS_INFO)),
    ),
)
"""``FSMapUser``."""
