"""CLIENT_REQUEST: an operation on names or inodes that a client asks an MDS for.

Its ops are in `cephwire.requestop`, their arguments in `cephwire.requestargs`.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

import msgspec

from cephwire.message import Message
from cephwire.requestargs import REQUEST_ARGS, RequestArgs
from cephwire.schema import (
    Blob,
    Const,
    Counted,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64ul,
    LengthOf,
    Map,
    Record,
    Repeat,
    Segment,
    Since,
    Struct,
    Text,
    Utime,
    Versioned,
)

__all__ = [
    "CLIENT_REQUEST",
    "FILEPATH",
    "HEAD_V3_SIZE",
    "NO_OWNER",
    "SNAP_PAYLOAD",
    "ClientRequest",
    "FilePath",
    "RequestFlag",
    "RequestRelease",
    "SnapPayload",
]

NO_OWNER: Final = 2**32 - 1
"""``owner_uid`` and ``owner_gid`` of a request that creates nothing."""
HEAD_V3_SIZE: Final = 118
"""Bytes of a head of version 3, which says so itself (``struct_len``)."""


class RequestFlag(IntFlag):
    """ceph: src/include/ceph_fs.h, ``CEPH_MDS_FLAG_*``."""

    REPLAY = 1
    """It was answered, unsafely, by the rank's former holder."""
    WANT_DENTRY = 2
    """The reply should tell of the directory and the name too."""
    ASYNC = 4
    """The client has gone on without an answer, as DIR_CREATE or DIR_UNLINK lets it."""


class FilePath(msgspec.Struct, frozen=True, gc=False):
    """A path from a base inode; a leading empty component is the base's ``.snap`` directory."""

    ino: int = 0
    path: str = ""


FILEPATH: Final = Record(FilePath, Struct("filepath_v" / Const(1, Int8ul), "ino" / Int64ul, "path" / Text))
"""``class filepath`` (ceph: src/include/filepath.h)."""


class RequestRelease(msgspec.Struct, frozen=True, gc=False):
    """A cap, or part of it, given back with a request that would make the MDS revoke it; may give up a lease too."""

    ino: int
    cap_id: int
    caps: int
    """Bits kept."""
    wanted: int
    seq: int
    issue_seq: int
    """seq of the last reply or IMPORT that carried the cap."""
    mseq: int
    dname_seq: int = 0
    """seq of the lease on ``dname``."""
    dname: str = ""
    """Entry of directory ``ino`` whose lease is given up; empty is none."""


REQUEST_RELEASE: Final = Record(
    RequestRelease,
    Struct(
        "ino" / Int64ul,
        "cap_id" / Int64ul,
        "caps" / Int32ul,
        "wanted" / Int32ul,
        "seq" / Int32ul,
        "issue_seq" / Int32ul,
        "mseq" / Int32ul,
        "dname_seq" / Int32ul,
        "dname" / Text,
    ),
)
"""``struct ceph_mds_request_release``, 44 bytes with the name's length, and the name (ceph: src/include/ceph_fs.h)."""


class SnapPayload(msgspec.Struct, frozen=True, gc=False):
    """What MKSNAP carries in the data segment."""

    metadata: dict[str, str]


SNAP_PAYLOAD: Final = Versioned(1, Record(SnapPayload, Struct("metadata" / Map(Text, Text))))
"""``struct SnapPayload`` (ceph: src/mds/snap.h)."""


class ClientRequest(msgspec.Struct, frozen=True, gc=False):
    """Client to MDS. The header's tid is the client's number for the request; reply and forward carry it too."""

    head_version: int
    """1; 2 for an MDS with the client feature RETRY_FWD_32BITS; 3 for one that has HAS_OWNER_UIDGID as well."""
    oldest_client_tid: int
    """Oldest request not yet answered safely: the MDS forgets what it has completed before."""
    mdsmap_epoch: int
    flags: int
    """`RequestFlag`."""
    num_retry: int
    """Low byte of ``ext_num_retry``, and so the next."""
    num_fwd: int
    op: int
    """`cephwire.requestop.RequestOp`."""
    caller_uid: int
    caller_gid: int
    ino: int
    """Inode number to use for a create that is replayed or asynchronous; else 0."""
    args: RequestArgs
    """By ``op``."""
    path: FilePath
    path2: FilePath
    releases: tuple[RequestRelease, ...]
    stamp: int
    """Nanoseconds; becomes ctime and mtime of what changes. Since message version 2."""
    data: bytes
    """The data segment: an attribute's value (SETXATTR), a `SNAP_PAYLOAD` (MKSNAP)."""
    ext_num_retry: int = 0
    """Since head version 2, as the next."""
    ext_num_fwd: int = 0
    struct_len: int = HEAD_V3_SIZE
    """Bytes of the head. Since head version 3, as the next two."""
    owner_uid: int = NO_OWNER
    """Owner of what CREATE, MKNOD, MKDIR and SYMLINK make."""
    owner_gid: int = NO_OWNER
    gid_list: tuple[int, ...] = ()
    """Supplementary groups of the caller. Since message version 4."""
    alternate_name: bytes = b""
    """Since message version 5."""
    fscrypt_auth: bytes = b""
    """Since message version 6, as the next."""
    fscrypt_file: bytes = b""


CLIENT_REQUEST: Final = Message[ClientRequest](
    24,
    Record(
        ClientRequest,
        Struct(
            "head_version" / Int16ul,
            "oldest_client_tid" / Int64ul,
            "mdsmap_epoch" / Int32ul,
            "flags" / Int32ul,
            "num_retry" / Int8ul,
            "num_fwd" / Int8ul,
            "num_releases" / LengthOf("releases", Int16ul),
            "op" / Int32ul,
            "caller_uid" / Int32ul,
            "caller_gid" / Int32ul,
            "ino" / Int64ul,
            "args" / REQUEST_ARGS,
            "ext_num_retry" / Since(2, Int32ul, of="head_version"),
            "ext_num_fwd" / Since(2, Int32ul, of="head_version"),
            "struct_len" / Since(3, Int32ul, of="head_version"),
            "owner_uid" / Since(3, Int32ul, of="head_version"),
            "owner_gid" / Since(3, Int32ul, of="head_version"),
            "path" / FILEPATH,
            "path2" / FILEPATH,
            "releases" / Repeat("num_releases", REQUEST_RELEASE),
            "stamp" / Utime,
            "gid_list" / Counted(Int64ul),
            "alternate_name" / Since(5, Blob),
            "fscrypt_auth" / Since(6, Blob),
            "fscrypt_file" / Since(6, Blob),
            "data" / Segment("data"),
        ),
    ),
    newest=6,
    oldest=4,
)
"""A head of 98, 106 or 118 bytes by its own version, and what follows by the message's.

Pacific writes version 5, Reef and Tentacle 6; versions before 4 are of clients without the connection feature
FS_BTIME, 2016 and older (ceph: src/messages/MClientRequest.h, src/include/ceph_fs.h).
"""
