"""Maps, inodes and replies with little in them, for tests that care about one field."""

from __future__ import annotations

from typing import Any

from cephwire.caps import CapBody, CapOp, CapPeer, ClientCaps
from cephwire.entity import AddrVec, EntityAddr
from cephwire.fsmap import FsInfo, FsMapUser
from cephwire.inode import INLINE_NONE, NOSNAP, DirStat, FileLayout, InodeStat, IssuedCap, LeaseStat, Quota
from cephwire.map_messages import MFsMapUser, MMdsMap, MMonMap
from cephwire.mdsmap import CompatSet, FeatureSet, MdsInfo, MdsMap, MdsState
from cephwire.monmap import MonInfo, MonMap
from cephwire.reply import ClientReply, DirEntry, ReaddirFlag, ReaddirReply, ReplyTrace
from cephwire.requestop import RequestOp

FSID = bytes(range(16))
FSCID = 1
NO_LAYOUT = FileLayout(0, 0, 0, 0, 0, 0, 0)
NO_LEASE = LeaseStat(0, 0, 0)
NO_COMPAT = CompatSet(FeatureSet(1, {}), FeatureSet(1, {}), FeatureSet(1, {}))
EMPTY_BODY = CapBody(0, 0, 0, 0, 0, 0, 0, NO_LAYOUT, 0)
NO_PEER = CapPeer(0, 0, 0, 0, 0)


def monmap(epoch: int, *monitors: EntityAddr) -> MMonMap:
    info = {f"m{rank}": MonInfo(f"m{rank}", AddrVec((addr,))) for rank, addr in enumerate(monitors)}
    return MMonMap(MonMap(FSID, epoch, 0, 0, 0, 0, info, tuple(info)))


def fsmap(epoch: int, names: dict[str, int], default: int = FSCID) -> MFsMapUser:
    return MFsMapUser(epoch, FsMapUser(epoch, default, tuple(FsInfo(fscid, name) for name, fscid in names.items())))


def mds_info(rank: int, gid: int, addr: EntityAddr, state: int = MdsState.ACTIVE) -> MdsInfo:
    return MdsInfo(gid, f"host{gid}", rank, 1, state, 1, AddrVec((addr,)), 0, -1, "", ())


def mdsmap(epoch: int, *ranks: MdsInfo, failed: tuple[int, ...] = (), session_timeout: int = 60) -> MMdsMap:
    found = MdsMap(
        epoch=epoch,
        flags=0,
        last_failure=0,
        root=0,
        session_timeout=session_timeout,
        session_autoclose=300,
        max_file_size=1 << 40,
        max_mds=len(ranks),
        mds_info={info.gid: info for info in ranks},
        data_pools=(2,),
        cas_pool=-1,
        ev=16,
        compat=NO_COMPAT,
        metadata_pool=1,
        created=0,
        modified=0,
        tableserver=0,
        in_=(*(info.rank for info in ranks), *failed),
        inc={},
        up={info.rank: info.gid for info in ranks},
        failed=failed,
        stopped=(),
        fs_name="a",
    )
    return MMdsMap(FSID, epoch, found)


def cap(caps: int, cap_id: int, *, seq: int = 1, mseq: int = 0) -> IssuedCap:
    return IssuedCap(caps, 0, cap_id, seq, mseq, 1, 1)


NO_CAP = cap(0, 0)


def inode(ino: int, cap: IssuedCap = NO_CAP, *, snapid: int = NOSNAP, mode: int = 0o040755) -> InodeStat:
    return InodeStat(
        ino=ino,
        snapid=snapid,
        rdev=0,
        version=1,
        xattr_version=1,
        cap=cap,
        layout=NO_LAYOUT,
        ctime=0,
        mtime=0,
        atime=0,
        time_warp_seq=0,
        size=0,
        max_size=0,
        truncate_size=0,
        truncate_seq=0,
        mode=mode,
        uid=0,
        gid=0,
        nlink=1,
        files=0,
        subdirs=0,
        rbytes=0,
        rfiles=0,
        rsubdirs=0,
        rctime=0,
        fragtree=(),
        symlink="",
        dir_hash=2,
        xattrs=None,
        inline_version=INLINE_NONE,
        inline_data=b"",
        quota=Quota(0, 0),
        pool_ns="",
        btime=0,
        change_attr=0,
    )


def reply(
    op: int,
    target: InodeStat | None = None,
    *,
    dir: InodeStat | None = None,
    entries: tuple[InodeStat, ...] | None = None,
    result: int = 0,
    safe: int = 1,
) -> ClientReply:
    """A reply; ``dir`` adds a dentry, ``entries`` are those of a READDIR."""
    dirstat = DirStat(0, -1, ())
    trace = ReplyTrace(dir, *((dirstat, "name", NO_LEASE) if dir else (None, None, None)), target)
    extra: Any = None if op in (RequestOp.OPEN, RequestOp.CREATE, RequestOp.READDIR) else b""
    if entries is not None:
        named = tuple(DirEntry(f"n{number}", NO_LEASE, entry) for number, entry in enumerate(entries))
        extra = ReaddirReply(dirstat, ReaddirFlag.FRAG_END, named)
    return ClientReply(op, result, 5, safe, int(dir is not None), int(target is not None), trace, extra, b"")


def caps(op: CapOp, ino: int, cap_id: int, *, seq: int = 1, mseq: int = 0, bits: int = 1) -> ClientCaps:
    """What an MDS says of one cap."""
    body = NO_PEER if op is CapOp.EXPORT else EMPTY_BODY
    peer = NO_PEER if op is CapOp.IMPORT else None
    return ClientCaps(op, ino, 1, cap_id, seq, 0, bits, 0, 0, mseq, 0, 0, 0, 0o100644, 1, 0, body, b"", b"", peer=peer)
