"""What matters in a request and in its reply, in one line for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cephcaps.trace.fields import shown
from cephcaps.trace.items import Traced
from cephcaps.trace.known import Learned
from cephcaps.trace.view import Said, View, clock, duration, result
from cephcaps.trace.words import CAPS, SNAPIDS, text_of
from cephwire.filelock import FileLock
from cephwire.inode import NOSNAP, InodeStat
from cephwire.reply import (
    BlockDiffReply,
    ClientReply,
    ClientRequestForward,
    CreatedInode,
    DirEntry,
    ReaddirReply,
    VxattrReply,
)
from cephwire.request import ClientRequest, RequestRelease
from cephwire.requestargs import (
    BlockDiffArgs,
    FileLockArgs,
    GetattrArgs,
    LookupInoArgs,
    MkdirArgs,
    MknodArgs,
    OpenArgs,
    ReaddirArgs,
    SetattrArgs,
    SetattrMask,
    SetxattrArgs,
    SnapDiffArgs,
)
from cephwire.requestop import RequestOp

__all__ = ["forward_details", "reply_details", "request_details"]


# Requests


SHOWN: Final = 32
"""Bytes of an attribute's value that are."""


def request_details(view: View, item: Traced, m: ClientRequest, learned: Learned) -> Said:
    yield f"tid {item.header.tid}"
    if m.path.ino and not m.path.path:
        yield view.ino(m.path.ino)
    else:
        yield view.path(m.path.ino, m.path.path)
    if m.op == RequestOp.SYMLINK:
        yield f"-> {m.path2.path}"
    elif m.path2.ino:
        yield f"from {view.path(m.path2.ino, m.path2.path)}"
    elif m.path2.path:
        yield m.path2.path
    if m.op == RequestOp.SETXATTR:
        yield f"{text_of(m.data[:SHOWN])!r}" + (f"... of {len(m.data)} bytes" if len(m.data) > SHOWN else "")
    if (say := _ARGS.get(type(m.args))) is not None:
        yield from say(view, m.args)
    if m.ino:
        yield f"ino {m.ino:#x}"
    if m.releases:
        yield "gives back " + view.listed("caps", m.releases, lambda one: one.ino, lambda one: _release(view, one))
    if m.flags:
        yield shown(ClientRequest, "flags", m.flags)
    if retries := m.ext_num_retry or m.num_retry:
        yield f"retry {retries}"
    if forwards := m.ext_num_fwd or m.num_fwd:
        yield f"fwd {forwards}"


def _release(view: View, release: RequestRelease) -> str:
    lease = f" and the lease on {release.dname}" if release.dname else ""
    return f"{view.ino(release.ino)} keeps {CAPS[release.caps]}{lease}"


def _args_mask(view: View, args: GetattrArgs | LookupInoArgs) -> Said:
    yield f"mask {CAPS[args.mask]}" if args.mask else ""


def _args_open(view: View, args: OpenArgs) -> Said:
    yield "flags " + shown(OpenArgs, "flags", args.flags)
    yield f"mode {args.mode:o}" if args.mode else ""
    yield f"mask {CAPS[args.mask]}" if args.mask else ""


def _args_mode(view: View, args: MkdirArgs | MknodArgs) -> Said:
    yield f"mode {args.mode:o}"


def _args_setattr(view: View, args: SetattrArgs) -> Said:
    values = {
        SetattrMask.MODE: f"mode {args.mode:o}",
        SetattrMask.UID: f"uid {args.uid}",
        SetattrMask.GID: f"gid {args.gid}",
        SetattrMask.SIZE: f"size {args.size} from {args.old_size}",
        SetattrMask.MTIME: f"mtime {clock(args.mtime)}",
        SetattrMask.ATIME: f"atime {clock(args.atime)}",
        SetattrMask.BTIME: f"btime {clock(args.btime)}",
    }
    yield from (text for bit, text in values.items() if args.mask & bit)
    others = args.mask & ~sum(values)
    yield shown(SetattrArgs, "mask", others) if others else ""


def _args_readdir(view: View, args: ReaddirArgs | SnapDiffArgs) -> Said:
    yield f"frag {shown(ReaddirArgs, 'frag', args.frag)}" if args.frag else ""
    yield f"max {args.max_entries}" if args.max_entries else ""
    yield f"against {SNAPIDS[args.snap_other]}" if isinstance(args, SnapDiffArgs) else ""


def _args_setxattr(view: View, args: SetxattrArgs) -> Said:
    yield shown(SetxattrArgs, "flags", args.flags)


def _args_filelock(view: View, args: FileLockArgs) -> Said:
    rule, kind = shown(FileLockArgs, "rule", args.rule), shown(FileLockArgs, "type", args.type)
    yield f"{rule} {kind} {_range(args.start, args.length)}"
    yield f"owner {args.owner:#x} pid {args.pid}"
    yield "wait" if args.wait else ""


def _range(start: int, length: int) -> str:
    return f"{start}~{length}" if length else f"{start}~end"


def _args_blockdiff(view: View, args: BlockDiffArgs) -> Said:
    yield f"scan_idx {args.scan_idx} max {args.max_objects}"


_ARGS: Final[dict[type, Callable[[View, Any], Said]]] = {
    GetattrArgs: _args_mask,
    LookupInoArgs: _args_mask,
    OpenArgs: _args_open,
    MkdirArgs: _args_mode,
    MknodArgs: _args_mode,
    SetattrArgs: _args_setattr,
    ReaddirArgs: _args_readdir,
    SnapDiffArgs: _args_readdir,
    SetxattrArgs: _args_setxattr,
    FileLockArgs: _args_filelock,
    BlockDiffArgs: _args_blockdiff,
}


# Replies


def reply_details(view: View, item: Traced, m: ClientReply, learned: Learned) -> Said:
    yield f"tid {item.header.tid}"
    yield f"{result(m.result)} {'safe' if m.safe else 'unsafe'}"
    yield "" if learned.waited is None else f"after {duration(learned.waited)}"
    trace = m.trace
    if trace.target is not None:
        yield _inode(view, trace.target)
    elif trace.dir is not None and trace.dname is not None:
        yield f"{view.path(trace.dir.ino, trace.dname)} is not there"
    else:
        yield learned.path
    if trace.dir is not None and trace.dir.cap.cap_id:
        yield "in " + _inode(view, trace.dir)
    if trace.dlease is not None and trace.dlease.mask:
        yield f"lease {trace.dlease.duration_ms} ms seq {trace.dlease.seq}"
    if m.extra is not None and (say := _EXTRAS.get(type(m.extra))) is not None:
        yield from say(view, m.extra)


def _inode(view: View, inode: InodeStat) -> str:
    """An inode of a reply with the cap that comes with it."""
    if inode.snapid != NOSNAP:
        return f"{view.ino(inode.ino)} in snapshot {SNAPIDS[inode.snapid]}"
    cap = inode.cap
    if not cap.cap_id:
        return f"{view.ino(inode.ino)} no caps"
    return f"{view.ino(inode.ino)} caps {CAPS[cap.caps]} seq {cap.seq}" + (f" mseq {cap.mseq}" if cap.mseq else "")


def _extra_created(view: View, extra: CreatedInode) -> Said:
    yield f"created {extra.created_ino:#x}"
    if numbers := sum(some.length for some in extra.delegated_inos):
        yield f"may use {numbers} inode numbers"


def _extra_readdir(view: View, extra: ReaddirReply) -> Said:
    yield view.listed("entries", extra.entries, lambda entry: entry.inode.ino, _entry)
    yield shown(ReaddirReply, "flags", extra.flags)


def _entry(entry: DirEntry) -> str:
    inode = entry.inode
    caps = f" {CAPS[inode.cap.caps]}" if inode.cap.cap_id and inode.snapid == NOSNAP else ""
    return f"{inode.ino:#x} {entry.dname}{caps}"


def _extra_filelock(view: View, extra: FileLock) -> Said:
    kind = shown(FileLock, "type", extra.type)
    yield f"{kind} {_range(extra.start, extra.length)} client.{extra.client} owner {extra.owner:#x} pid {extra.pid}"


def _extra_vxattr(view: View, extra: VxattrReply) -> Said:
    yield extra.value


def _extra_blockdiff(view: View, extra: BlockDiffReply) -> Said:
    yield f"{len(extra.blocks)} ranges differ"
    yield f"more from {extra.scan_idx}" if extra.rval else ""


_EXTRAS: Final[dict[type, Callable[[View, Any], Said]]] = {
    CreatedInode: _extra_created,
    ReaddirReply: _extra_readdir,
    FileLock: _extra_filelock,
    VxattrReply: _extra_vxattr,
    BlockDiffReply: _extra_blockdiff,
}


def forward_details(view: View, item: Traced, m: ClientRequestForward, learned: Learned) -> Said:
    yield f"tid {item.header.tid}"
    yield f"to mds.{m.dest_mds} fwd {m.num_fwd}"
