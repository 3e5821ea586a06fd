"""What another MDS answered to a captured request, held against what the captured one did."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from cephcaps.trace.replay.remap import Numbers
from cephcaps.trace.replay.steps import Client
from cephcaps.trace.words import Words
from cephwire.filelock import FileLock, LockType
from cephwire.inode import InodeStat
from cephwire.reply import ClientReply, ReaddirFlag, ReaddirReply

__all__ = ["KINDS", "Answered", "Divergence", "Kind", "Tally", "compare", "errno_word"]

Kind: TypeAlias = Literal["errno", "type", "identity", "names", "lock", "missing-before", "not-sent", "no-answer"]
KINDS: Final[dict[Kind, str]] = {
    "errno": "it ended otherwise",
    "type": "a file of another type is there",
    "identity": "another file is there: not the one that the same inode was before",
    "names": "a listing has other names",
    "lock": "another lock is in the way, or none",
    "missing-before": "what was there before the capture is not there now",
    "not-sent": "it names an inode that has no counterpart, or is an op that is not known",
    "no-answer": "there was no answer in time, or no session to ask in",
}
NAMES_TOLD: Final = 10
"""Of a listing's, that are told of each side."""
TYPES: Final = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
LOCKS: Final = Words(LockType)


class Answered(NamedTuple):
    """What became of something that was asked.

    Attributes:
        errno: 0 where it was done; None where nobody said.
        reply: the first, where there was one with errno 0.
        why: nobody said.
    """

    errno: int | None
    reply: ClientReply | None = None
    why: str = ""


class Divergence(NamedTuple):
    """One thing that did not come out as captured. Numbers and paths are those of the capture."""

    client: Client
    ns: int
    """When it was asked for."""
    op: str
    """In Ceph's words; ``flush`` where it is a change that a flush told of."""
    tid: int
    ino: int
    """What the request names first, and `path` after it."""
    path: str
    kind: Kind
    captured: str
    replayed: str


class Tally:
    """Counts of one client.

    Attributes:
        requests: asked again.
        flushes: changes from flushes made again.
        divergences: found.
        passed_over: what is not replayed, by what it is.
    """

    __slots__ = ("divergences", "flushes", "passed_over", "requests")

    def __init__(self) -> None:
        self.requests: int = 0
        self.flushes: int = 0
        self.divergences: int = 0
        self.passed_over: dict[str, int] = {}

    def pass_over(self, what: str) -> None:
        self.passed_over[what] = self.passed_over.get(what, 0) + 1


class Found(NamedTuple):
    """One finding."""

    kind: Kind
    captured: str
    replayed: str


def errno_word(number: int | None, why: str = "") -> str:
    """``ENOENT``; "done" for 0, ``why`` for None."""
    if number is None:
        return why
    return errno.errorcode.get(number, str(number)) if number else "done"


def compare(captured: ClientReply, there: Answered, numbers: Numbers, lost: set[int]) -> Iterator[Found]:
    """What differs; what the answers show to be counterparts is noted in ``numbers``.

    Args:
        lost: captured inodes that were made during the capture, and not there.
    """
    was = max(-captured.result, 0)
    target = captured.trace.target
    if there.errno is None:
        yield Found("no-answer", errno_word(was), there.why)
    elif was != there.errno:
        gone = there.errno == errno.ENOENT and target is not None
        if gone and target is not None and target.ino not in numbers and target.ino not in lost:
            yield Found("missing-before", f"{_type(target)} {target.ino:#x}", "ENOENT")
        else:
            yield Found("errno", errno_word(was), errno_word(there.errno))
    elif there.reply is not None:
        yield from _same_inode(captured.trace.dir, there.reply.trace.dir, numbers)
        yield from _same_inode(target, there.reply.trace.target, numbers)
        yield from _extras(captured, there.reply, numbers)


def _same_inode(captured: InodeStat | None, there: InodeStat | None, numbers: Numbers) -> Iterator[Found]:
    if captured is None or there is None:  # an MDS that was restarted tells nothing of what it had done before
        return
    if stat.S_IFMT(captured.mode) != stat.S_IFMT(there.mode):
        yield Found("type", _type(captured), _type(there))
        return
    numbers.snapshot(captured.snapid, there.snapid)
    if not numbers.agree(captured.ino, there.ino):
        known = numbers.known_as(there.ino)
        replayed = f"the counterpart of {known:#x}" if known is not None else f"{there.ino:#x}, a stranger"
        yield Found("identity", f"{captured.ino:#x}", replayed)


def _extras(captured: ClientReply, there: ClientReply, numbers: Numbers) -> Iterator[Found]:
    match captured.extra, there.extra:
        case ReaddirReply() as mine, ReaddirReply() as theirs:
            yield from _listing(mine, theirs, numbers)
        case FileLock() as mine, FileLock() as theirs:
            if (mine.type, mine.start, mine.length) != (theirs.type, theirs.start, theirs.length):
                yield Found("lock", _lock(mine), _lock(theirs))


def _listing(captured: ReaddirReply, there: ReaddirReply, numbers: Numbers) -> Iterator[Found]:
    mine = {numbers.name(entry.dname): entry.inode for entry in captured.entries}
    theirs = {entry.dname: entry.inode for entry in there.entries}
    for name, inode in mine.items():
        if name in theirs:
            yield from _same_inode(inode, theirs[name], numbers)
    # Two pieces begin behind the same name; they are of the same stretch if both go on to the end of one fragment.
    ended = captured.flags & there.flags & ReaddirFlag.FRAG_END
    if ended and captured.dirstat.frag == there.dirstat.frag and mine.keys() != theirs.keys():
        yield Found("names", _names(mine.keys() - theirs.keys()), _names(theirs.keys() - mine.keys()))


def _names(names: set[str]) -> str:
    told = ", ".join(sorted(names)[:NAMES_TOLD])
    more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
    return f"has {told}{more} besides" if names else "has no other"


def _type(inode: InodeStat) -> str:
    return TYPES.get(stat.S_IFMT(inode.mode), f"{inode.mode:#o}")


def _lock(lock: FileLock) -> str:
    return f"{LOCKS[lock.type]} {lock.start}~{lock.length or 'end'}"
