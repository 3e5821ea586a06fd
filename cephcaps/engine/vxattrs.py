"""Virtual attributes: names below ``ceph.`` that say something of the inode itself, as libcephfs writes it.

Those that follow from what a reply tells of the inode are written here; any other is asked of the MDS (GETVXATTR).
Source: ceph: src/client/Client.cc, ``_dir_vxattrs``, ``_file_vxattrs`` and their callbacks; what each says was compared
with libcephfs 16.2 and 20.2.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable

from cephwire.capbits import StatMask
from cephwire.inode import Charmap, InodeStat

__all__ = ["asked_for", "is_read_only", "names_pool", "pool_name_of", "text_of"]

LAYOUT = ("", ".stripe_unit", ".stripe_count", ".object_size", ".pool", ".pool_namespace")
DIR_LAYOUT = tuple(f"ceph.dir.layout{part}" for part in LAYOUT)
FILE_LAYOUT = tuple(f"ceph.file.layout{part}" for part in LAYOUT)
QUOTA = ("ceph.quota", "ceph.quota.max_bytes", "ceph.quota.max_files")
CHARMAP = ("ceph.dir.charmap", "ceph.dir.casesensitive", "ceph.dir.normalization", "ceph.dir.encoding")
ENTRIES: dict[str, Callable[[InodeStat], int]] = {
    "ceph.dir.entries": lambda told: told.files + told.subdirs,
    "ceph.dir.files": lambda told: told.files,
    "ceph.dir.subdirs": lambda told: told.subdirs,
}
RECURSIVE: dict[str, Callable[[InodeStat], int]] = {
    "ceph.dir.rentries": lambda told: told.rfiles + told.rsubdirs,
    "ceph.dir.rfiles": lambda told: told.rfiles,
    "ceph.dir.rsubdirs": lambda told: told.rsubdirs,
    "ceph.dir.rsnaps": lambda told: told.rsnaps,
    "ceph.dir.rbytes": lambda told: told.rbytes,
    "ceph.dir.rctime": lambda told: told.rctime,
}
ANY = ("ceph.snap.btime", "ceph.fscrypt.auth", "ceph.fscrypt.file")
OF_DIRECTORY = (*DIR_LAYOUT, *QUOTA, *CHARMAP, *ENTRIES, *RECURSIVE, *ANY, "ceph.dir.pin", "ceph.mirror.info")
OF_FILE = (*FILE_LAYOUT, *ANY)
OF_CLIENT = ("ceph.cluster_fsid", "ceph.client_id", "ceph.caps")
"""These say something of the client that is asked."""


def asked_for(name: str, mode: int) -> int | None:
    """What must be valid in a reply from which to tell ``name`` (`StatMask`); None if no reply tells."""
    if name not in (OF_DIRECTORY if stat.S_ISDIR(mode) else OF_FILE if stat.S_ISREG(mode) else ()):
        return None
    if name in RECURSIVE:
        return StatMask.RSTAT
    if name in ENTRIES:
        return StatMask.SIZE
    return StatMask.XATTR if name == "ceph.mirror.info" else 0


def names_pool(name: str) -> bool:
    """Whether it says the name of the layout's pool, which no inode tells."""
    return name.endswith((".layout", ".layout.pool"))


def pool_name_of(mode: int) -> str:
    """The attribute, asked of the MDS, that says the name of the layout's pool."""
    return "ceph.dir.layout.pool_name" if stat.S_ISDIR(mode) else "ceph.file.layout.pool_name"


def is_read_only(name: str, mode: int) -> bool:
    """Whether nobody can set it, so that no MDS is asked to."""
    counted = stat.S_ISDIR(mode) and (name in ENTRIES or name in RECURSIVE)
    return counted or name in OF_CLIENT or name == "ceph.snap.btime"


def text_of(name: str, told: InodeStat, pool: str) -> bytes | None:
    """What ``name`` says; None where the inode has no such thing.

    Args:
        pool: name of the layout's pool, where `names_pool`.
    """
    if name in DIR_LAYOUT or name in FILE_LAYOUT:
        text = _layout(name.partition(".layout")[2], told, pool)
    elif name in QUOTA:
        text = _quota(name, told)
    elif name in CHARMAP:
        text = _charmap(name, told)
    elif name in ENTRIES:
        text = str(ENTRIES[name](told))
    elif name == "ceph.dir.rctime":
        text = _time(told.rctime)
    elif name in RECURSIVE:
        text = str(RECURSIVE[name](told))
    elif name == "ceph.dir.pin":
        text = str(told.export_pin)
    elif name == "ceph.snap.btime":
        text = _time(told.snap_btime) if told.snap_btime else None
    elif name == "ceph.mirror.info":
        return _mirror(told)
    else:
        return (told.fscrypt_auth if name == "ceph.fscrypt.auth" else told.fscrypt_file) or None
    return None if text is None else text.encode("utf-8", "surrogateescape")


def _layout(part: str, told: InodeStat, pool: str) -> str | None:
    layout = told.layout
    said = {
        "stripe_unit": str(layout.stripe_unit),
        "stripe_count": str(layout.stripe_count),
        "object_size": str(layout.object_size),
        "pool": pool,
        "pool_namespace": told.pool_ns,
    }
    if not any((layout.stripe_unit, layout.stripe_count, layout.object_size, layout.pool_id, told.pool_ns)):
        return None  # a directory that has none of its own
    if part:
        return said[part[1:]]
    return " ".join(f"{field}={value}" for field, value in said.items() if value)


def _quota(name: str, told: InodeStat) -> str | None:
    max_bytes, max_files = told.quota.max_bytes, told.quota.max_files
    if not max_bytes and not max_files:
        return None
    if name == "ceph.quota":
        return f"max_bytes={max_bytes} max_files={max_files}"
    return str(max_bytes if name.endswith("max_bytes") else max_files)


def _charmap(name: str, told: InodeStat) -> str | None:
    charmap = next((part.value for part in told.optmetadata if isinstance(part.value, Charmap)), None)
    if charmap is None:
        return None
    if name == "ceph.dir.charmap":
        said = (bool(charmap.casesensitive), charmap.normalization, charmap.encoding)
        keys = ("casesensitive", "normalization", "encoding")
        return json.dumps(dict(zip(keys, said, strict=True)), separators=(",", ":"))
    return str(getattr(charmap, name.rpartition(".")[2]))


def _mirror(told: InodeStat) -> bytes | None:
    cluster_id, fs_id = [(told.xattrs or {}).get(f"ceph.mirror.info.{part}") for part in ("cluster_id", "fs_id")]
    return None if cluster_id is None else b"cluster_id=%b fs_id=%b" % (cluster_id, fs_id or b"")


def _time(ns: int) -> str:
    return f"{ns // 10**9}.{ns % 10**9:09}"
