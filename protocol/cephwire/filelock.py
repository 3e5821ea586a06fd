"""Advisory file locks as messages carry them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from cephwire.schema import Counted, Filled, Int8ul, Int64ul, Record, Struct

__all__ = ["FILE_LOCK", "FILE_LOCKS", "FileLock", "FileLocks", "LockRule", "LockType"]


class LockRule(IntEnum):
    """Whose rules a lock follows (ceph: src/include/ceph_fs.h, ``CEPH_LOCK_FCNTL`` ...)."""

    FCNTL = 1
    FLOCK = 2
    FCNTL_INTR = 3
    """Stop waiting for an fcntl lock."""
    FLOCK_INTR = 4
    """Stop waiting for a flock lock."""


class LockType(IntEnum):
    """ceph: src/include/ceph_fs.h, ``CEPH_LOCK_SHARED`` ..."""

    SHARED = 1
    EXCL = 2
    UNLOCK = 4
    """Asked for: give the lock back. Answered by GETFILELOCK: nobody holds it."""


class FileLock(msgspec.Struct, frozen=True, gc=False):
    """One lock on a range of a file."""

    start: int
    length: int
    """Bytes; 0 is to the end of the file."""
    client: int
    """Global id of the client; 0 where a client tells of its own."""
    owner: int
    """Who holds it within the client. Bit 63 set says that this alone tells owners apart, without ``pid``."""
    pid: int
    """Process; 0 for flock."""
    type: int
    """`LockType`."""


FILE_LOCK: Final = Record(
    FileLock,
    Struct(
        "start" / Int64ul,
        "length" / Int64ul,
        "client" / Int64ul,
        "owner" / Int64ul,
        "pid" / Int64ul,
        "type" / Int8ul,
    ),
)
"""``struct ceph_filelock``, 41 bytes (ceph: src/include/ceph_fs.h)."""


class FileLocks(msgspec.Struct, frozen=True, gc=False):
    """All locks a client holds on one inode."""

    fcntl: tuple[FileLock, ...]
    flock: tuple[FileLock, ...]


FILE_LOCKS: Final = Filled(Record(FileLocks, Struct("fcntl" / Counted(FILE_LOCK), "flock" / Counted(FILE_LOCK))))
"""A blob: empty, or the two lists (ceph: src/client/Client.cc, ``_encode_filelocks``)."""
