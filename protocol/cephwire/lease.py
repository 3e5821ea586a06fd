"""CLIENT_LEASE: leases on single directory entries."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from cephwire.message import Message
from cephwire.schema import Int8ul, Int16ul, Int32ul, Int64ul, Record, Struct, Text

__all__ = ["CLIENT_LEASE", "ClientLease", "LeaseAction"]


class LeaseAction(IntEnum):
    """ceph: src/include/ceph_fs.h, ``CEPH_MDS_LEASE_*``. An MDS that gets any other from a client aborts."""

    REVOKE = 1
    """MDS to client. Answered by RELEASE (libcephfs) or REVOKE_ACK (Linux); an MDS takes either."""
    RELEASE = 2
    RENEW = 3
    """Both ways: asked for, and given."""
    REVOKE_ACK = 4


class ClientLease(msgspec.Struct, frozen=True, gc=False):
    """The lease on the entry ``dname`` of directory ``ino`` is revoked, given back or renewed."""

    action: int
    """`LeaseAction`."""
    mask: int
    """1, the dentry lock."""
    ino: int
    first: int
    """First and last snapid the entry is good for; ``last`` is NOSNAP for the live one."""
    last: int
    seq: int
    duration_ms: int
    dname: str


CLIENT_LEASE: Final = Message[ClientLease](
    0x311,
    Record(
        ClientLease,
        Struct(
            "action" / Int8ul,
            "mask" / Int16ul,
            "ino" / Int64ul,
            "first" / Int64ul,
            "last" / Int64ul,
            "seq" / Int32ul,
            "duration_ms" / Int32ul,
            "dname" / Text,
        ),
    ),
)
"""``struct ceph_mds_lease``, 35 bytes, and the name (ceph: src/messages/MClientLease.h)."""
