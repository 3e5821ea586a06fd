"""Extended attributes: read under XATTR_SHARED, set here under XATTR_EXCL, else changed by request.

A flush carries all attributes of the inode, whatever has changed. The MDS takes them if their version is newer than its
own, else it acknowledges the flush and changes nothing; so it does with more than its limit allows. Every change here
therefore raises the version, and what would not pass is asked for instead, that it be refused. So is taking one away: a
Pacific MDS puts what a flush carries over what it has, and what is missing there stays (seen on 16.2.15; 20.2 replaces
all). Sources: kernel: fs/ceph/xattr.c, ``__ceph_setxattr``, ``__ceph_build_xattrs_blob``; ceph: src/mds/Locker.cc,
``_do_cap_update``, ``decode_new_xattrs``.
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass

from cephcaps.engine.inode import CapSnap, Inode
from cephwire.capbits import Cap
from cephwire.codec import Codec
from cephwire.inode import XATTR_BLOB, XattrBlob
from cephwire.mdsmap import MdsMap

__all__ = ["ACLS", "VIRTUAL", "XattrChange", "apply", "encoded", "forget", "limit_of", "refusal"]

VIRTUAL = "ceph."
"""Names an MDS acts upon; what they say follows from the inode, and is none of its extended attributes."""
KEPT = ("user.", "trusted.", "security.")
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
"""Access lists. They are kept as they are given: neither are they enforced here, nor does the mode follow them."""

NAME_MAX = 255
"""Bytes of a name (Linux: ``XATTR_NAME_MAX``)."""
DEFAULT_LIMIT = 1 << 16
"""Bytes of names and values together where the map does not say: Ceph's default (``mds_max_xattr_pairs_size``)."""
EV_WITH_LIMIT = 18
"""``ev`` of the first MDSMap that says."""

xattr_blobs: Codec[XattrBlob] = Codec(XATTR_BLOB)


@dataclass(frozen=True, slots=True)
class XattrChange:
    """What is to become of one extended attribute.

    Attributes:
        value: None takes it away, which only an MDS does.
        create, replace: it must not, or must, be there.
        stamp: the time of the change by the wall clock, ns; becomes ctime.
    """

    name: str
    value: bytes | None
    stamp: int
    create: bool = False
    replace: bool = False


def refusal(name: str, value: bytes | None, mode: int) -> int:
    """The errno with which any client refuses to set ``name``, or for None to take it away; 0 if it may be tried."""
    if not name.startswith((VIRTUAL, *KEPT)) and name not in ACLS:
        return errno.EOPNOTSUPP
    if value is not None and len(_raw(name)) > NAME_MAX:
        return errno.ERANGE
    if value is not None and name == ACLS[1] and not stat.S_ISDIR(mode):
        return errno.EACCES
    return 0


def apply(inode: Inode, change: XattrChange, issued: int, limit: int) -> int | None:
    """Do what ``issued`` allows to be done here: gives 0, or an errno; None where an MDS must be asked.

    Args:
        limit: bytes of names and values together that the MDS takes; more is left for it to refuse.
    """
    if not issued & Cap.XATTR_EXCL or inode.xattrs is None:
        return None
    if change.value is None or change.name.startswith(VIRTUAL):
        return None
    is_there = change.name in inode.xattrs
    if change.create and is_there:
        return errno.EEXIST
    if change.replace and not is_there:
        return errno.ENODATA
    changed = {**inode.xattrs, change.name: change.value}
    if sum(len(_raw(name)) + len(value) for name, value in changed.items()) > limit:
        return None
    # Another dict, in the order of the names: a snapshot may keep the one before.
    inode.xattrs = {name: changed[name] for name in sorted(changed, key=_raw)}
    inode.xattr_version = (inode.xattr_version + 1) % 2**64
    inode.ctime = max(inode.ctime, change.stamp)
    inode.change_attr = (inode.change_attr + 1) % 2**64
    return 0


def limit_of(mdsmap: MdsMap) -> int:
    """Bytes of names and values that one inode may have together."""
    return mdsmap.max_xattr_size if mdsmap.ev >= EV_WITH_LIMIT else DEFAULT_LIMIT


def encoded(of: Inode | CapSnap) -> bytes:
    """What a flush of XATTR_EXCL carries in its middle segment: all of them, or the four zero bytes of none."""
    return xattr_blobs.encode(XattrBlob(of.xattrs or {}))


def forget(inode: Inode) -> None:
    """What was changed here is lost: believe whatever the MDS says next, though its version be the same."""
    inode.xattrs, inode.xattr_version = None, 0


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
