"""CLIENT_REPLY and CLIENT_REQUEST_FORWARD: how an MDS answers a request."""

from __future__ import annotations

from enum import IntFlag
from typing import Final, TypeAlias

import msgspec

from cephwire.filelock import FILE_LOCK, FileLock
from cephwire.inode import DIR_STAT, INODE_STAT, LEASE_STAT, DirStat, InodeStat, LeaseStat
from cephwire.message import Message
from cephwire.requestop import RequestOp
from cephwire.schema import (
    Blob,
    Counted,
    Filled,
    Int8ul,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64ul,
    LengthOf,
    Present,
    Record,
    Repeat,
    Sized,
    Struct,
    Switch,
    Text,
    Versioned,
)

__all__ = [
    "CLIENT_REPLY",
    "CLIENT_REQUEST_FORWARD",
    "BlockDiffReply",
    "BlockRange",
    "ClientReply",
    "ClientRequestForward",
    "CreatedInode",
    "DirEntry",
    "InodeRange",
    "ReaddirFlag",
    "ReaddirReply",
    "ReplyExtra",
    "ReplyTrace",
    "VxattrReply",
]


class ReplyTrace(msgspec.Struct, frozen=True, gc=False):
    """The directory and the entry a request went through, and the inode it was about; each may be untold."""

    dir: InodeStat | None
    """None, as the next three, unless the reply says ``is_dentry``."""
    dirstat: DirStat | None
    dname: str | None
    dlease: LeaseStat | None
    target: InodeStat | None
    """None unless the reply says ``is_target``; with a dentry and no target, the name is known not to exist."""


class InodeRange(msgspec.Struct, frozen=True, gc=False):
    """Neighbouring inode numbers."""

    start: int
    length: int


class CreatedInode(msgspec.Struct, frozen=True, gc=False):
    """CREATE, and OPEN that has created: the new inode's number and some the client may use for later files."""

    created_ino: int
    delegated_inos: tuple[InodeRange, ...]


CREATED_INODE: Final = Versioned(
    1,
    Record(
        CreatedInode,
        Struct(
            "created_ino" / Int64ul,
            "delegated_inos" / Counted(Record(InodeRange, Struct("start" / Int64ul, "length" / Int64ul))),
        ),
    ),
)
"""``openc_response_t``, of sessions with the client feature DELEG_INO, which every Ceph since Octopus has; without it
the created number comes bare (ceph: src/messages/MClientReply.h)."""


class ReaddirFlag(IntFlag):
    """ceph: src/include/ceph_fs.h, ``CEPH_READDIR_*``."""

    FRAG_END = 0x1
    """Ends with the last entry of the fragment."""
    FRAG_COMPLETE = 0x100
    """Begins with the first, too."""
    HASH_ORDER = 0x200
    """Entries are in the order of their names' hash."""
    OFFSET_HASH = 0x400
    """The request's ``offset_hash`` is understood."""


class DirEntry(msgspec.Struct, frozen=True, gc=False):
    """One name of a directory."""

    dname: str
    dlease: LeaseStat
    inode: InodeStat


class ReaddirReply(msgspec.Struct, frozen=True, gc=False):
    """READDIR, LSSNAP and READDIR_SNAPDIFF: entries of one fragment."""

    dirstat: DirStat
    """Of the fragment that is told, which need not be the one asked for."""
    flags: int
    """`ReaddirFlag`."""
    entries: tuple[DirEntry, ...]


READDIR_REPLY: Final = Record(
    ReaddirReply,
    Struct(
        "dirstat" / DIR_STAT,
        "num" / LengthOf("entries"),
        "flags" / Int16ul,
        "entries"
        / Repeat("num", Record(DirEntry, Struct("dname" / Text, "dlease" / LEASE_STAT, "inode" / INODE_STAT))),
    ),
)
"""ceph: src/mds/Server.cc, ``handle_client_readdir``."""
_LISTINGS: Final = (RequestOp.READDIR, RequestOp.LSSNAP, RequestOp.READDIR_SNAPDIFF)


class VxattrReply(msgspec.Struct, frozen=True, gc=False):
    """GETVXATTR."""

    value: str


VXATTR_REPLY: Final = Versioned(1, Record(VxattrReply, Struct("value" / Text)))
"""ceph: src/mds/Server.cc, ``handle_client_getvxattr``."""


class BlockRange(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a file, in bytes."""

    offset: int
    length: int


class BlockDiffReply(msgspec.Struct, frozen=True, gc=False):
    """FILE_BLOCKDIFF: where two versions of a file differ."""

    rval: int
    """1 where more is to be asked for, 0 at the end."""
    scan_idx: int
    """Where to go on."""
    blocks: tuple[BlockRange, ...]


BLOCKDIFF_REPLY: Final = Versioned(
    1,
    Record(
        BlockDiffReply,
        Struct(
            "rval" / Int32sl,
            "scan_idx" / Int64ul,
            "blocks" / Counted(Record(BlockRange, Struct("offset" / Int64ul, "length" / Int64ul))),
        ),
    ),
)
"""``BlockDiff`` (ceph: src/mds/Server.cc, ``handle_client_file_blockdiff``)."""

ReplyExtra: TypeAlias = CreatedInode | ReaddirReply | FileLock | VxattrReply | BlockDiffReply | bytes | None
"""What only some ops answer: None where such an op has nothing to tell, bytes (none) for the others."""


class ClientReply(msgspec.Struct, frozen=True, gc=False):
    """MDS to client. The header's tid is the request's.

    A request that changes something may be answered twice: at once with all there is to tell and ``safe`` 0, and with
    ``safe`` 1 and nothing else once it is journaled.
    """

    op: int
    """`cephwire.requestop.RequestOp`."""
    result: int
    """0, or a negative errno (Linux's numbers)."""
    mdsmap_epoch: int
    """0 in an unsafe reply."""
    safe: int
    is_dentry: int
    is_target: int
    trace: ReplyTrace
    extra: ReplyExtra
    snap: bytes
    """The target's snap trace: `cephwire.snap.SNAP_TRACE` or its plain form, by the session's features. To be taken in
    before the caps of the trace."""


CLIENT_REPLY: Final = Message[ClientReply](
    26,
    Record(
        ClientReply,
        Struct(
            "op" / Int32ul,
            "result" / Int32sl,
            "mdsmap_epoch" / Int32ul,
            "safe" / Int8ul,
            "is_dentry" / Int8ul,
            "is_target" / Int8ul,
            "trace"
            / Sized(
                Record(
                    ReplyTrace,
                    Struct(
                        "dir" / Present("is_dentry", INODE_STAT),
                        "dirstat" / Present("is_dentry", DIR_STAT),
                        "dname" / Present("is_dentry", Text),
                        "dlease" / Present("is_dentry", LEASE_STAT),
                        "target" / Present("is_target", INODE_STAT),
                    ),
                )
            ),
            "extra"
            / Switch(
                "op",
                {
                    **dict.fromkeys((RequestOp.CREATE, RequestOp.OPEN), Filled(CREATED_INODE)),
                    **dict.fromkeys(_LISTINGS, Filled(READDIR_REPLY)),
                    RequestOp.GETFILELOCK: Filled(FILE_LOCK),
                    RequestOp.GETVXATTR: Filled(VXATTR_REPLY),
                    RequestOp.FILE_BLOCKDIFF: Filled(BLOCKDIFF_REPLY),
                },
                Blob,
            ),
            "snap" / Blob,
        ),
    ),
)
"""``struct ceph_mds_reply_head``, 15 bytes, and three blobs (ceph: src/messages/MClientReply.h)."""


class ClientRequestForward(msgspec.Struct, frozen=True, gc=False):
    """MDS to client: ask another rank, under the same tid."""

    dest_mds: int
    """Rank."""
    num_fwd: int
    """To be sent with the request; one that is not higher than before is to be ignored."""
    client_must_resend: int
    """Always 1."""


CLIENT_REQUEST_FORWARD: Final = Message[ClientRequestForward](
    25,
    Record(
        ClientRequestForward,
        Struct("dest_mds" / Int32sl, "num_fwd" / Int32ul, "client_must_resend" / Int8ul),
    ),
)
"""9 bytes (ceph: src/messages/MClientRequestForward.h)."""
