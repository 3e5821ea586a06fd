"""Metadata requests in flight: their ids, what they wait for, and what becomes of them.

A request is matched with its replies by tid alone. One that changes something is answered twice: *unsafe* once applied,
*safe* once durable; until then it stays here, because it would have to be sent again if the MDS failed. So does one
whose caller has gone. Sources: ceph: src/client/Client.cc; kernel: fs/ceph/mds_client.c.
"""

from __future__ import annotations

import errno
import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from cephcaps.engine.inode import Inode
from cephcaps.engine.latency import Histogram
from cephcaps.engine.listing import Listing
from cephcaps.engine.reserve import Reservation
from cephcaps.engine.xattrs import VIRTUAL, XattrChange
from cephcaps.events import Event, RequestEnded, RequestStarted
from cephwire.capbits import Cap
from cephwire.filelock import FileLock, LockRule
from cephwire.reply import ClientReply
from cephwire.request import FilePath
from cephwire.requestargs import ReaddirArgs, RequestArgs, SetxattrArgs, SetxattrFlag
from cephwire.requestop import WRITE_OPS, RequestOp

__all__ = ["NAME_OPS", "Answer", "LockCall", "Operation", "Request", "Requests", "xattr_operation"]

NO_PATH = FilePath()
LISTED = 1024
"""Entries, about, of one reply to a READDIR that names no limit: as many as fit 512 KiB."""
CREATE_OPS = frozenset((RequestOp.CREATE, RequestOp.MKNOD, RequestOp.MKDIR, RequestOp.SYMLINK))
"""Ops that make an inode. From Reef on these name its owner: an MDS that is told of none does not survive it
(ceph: src/mds/Server.cc, ``prepare_new_inode``)."""
JOURNALED_OPS = frozenset(op for op in RequestOp if int(op) & WRITE_OPS and op != RequestOp.SETFILELOCK)
NAME_OPS = CREATE_OPS | {RequestOp.LINK, RequestOp.UNLINK, RequestOp.RMDIR, RequestOp.RENAME}
"""Ops that change the name in ``path``."""


@dataclass(frozen=True, slots=True)
class LockCall:
    """A range of a file to be locked or unlocked.

    Attributes:
        what: the file, in the caller's words; errors name it.
        handle: number of the open file it goes through.
        rule: FCNTL or FLOCK; of an interrupt that ends the wait for such a lock, the rule of that.
        wait: until the lock is had.
        undoes: what was granted when nobody waited for it any more.
    """

    ino: int
    what: str
    handle: int
    rule: LockRule
    lock: FileLock
    wait: bool = False
    undoes: bool = False


class Operation(msgspec.Struct, frozen=True, gc=False):
    """What a caller wants of the file system.

    Attributes:
        what: the path or inode it is about, in the caller's words; errors name it.
        stamp: the caller's wall clock, ns: when what changes has changed.
        drop: cap bits on the inode of ``path`` that the MDS would have to ask for; given back along with the request.
        file_mode: `FileMode` bits in which it opens its target; None if it opens nothing.
        listing: which a READDIR is to go on with.
        lock: what a SETFILELOCK is for.
        caller: uid, gid and further groups of whoever asks; None is whom the client is for.
    """

    op: RequestOp
    path: FilePath
    what: str
    args: RequestArgs = b""
    path2: FilePath = NO_PATH
    data: bytes = b""
    stamp: int = 0
    drop: int = 0
    file_mode: int | None = None
    listing: Listing | None = None
    lock: LockCall | None = None
    caller: tuple[int, int, tuple[int, ...]] | None = None

    @property
    def brings(self) -> int:
        """How many caps its reply may bring: on the target and its directory, or on all that a listing names."""
        return (self.args.max_entries or LISTED) + 1 if isinstance(self.args, ReaddirArgs) else 2

    @property
    def writes(self) -> bool:
        """Whether it changes something an MDS journals: locks are not."""
        return self.op in JOURNALED_OPS

    @property
    def once(self) -> bool:
        """Whether to do it twice may differ from doing it once."""
        return self.writes or self.lock is not None or self.file_mode is not None

    @property
    def creates(self) -> bool:
        return self.op in CREATE_OPS


def xattr_operation(ino: int, what: str, change: XattrChange) -> Operation:
    """How an extended attribute is changed by request. Those that an MDS acts upon lie under other locks."""
    path, path2 = FilePath(ino), FilePath(0, change.name)
    drop = 0 if change.name.startswith(VIRTUAL) else Cap.XATTR_SHARED | Cap.XATTR_EXCL
    if change.value is None:
        return Operation(RequestOp.RMXATTR, path, what, path2=path2, stamp=change.stamp, drop=drop)
    flags = SetxattrFlag.CREATE * change.create | SetxattrFlag.REPLACE * change.replace
    # Epoch 0 of the OSD map: where a layout names a pool it does not know, the MDS gets the newest map itself.
    args = SetxattrArgs(flags, osdmap_epoch=0)
    return Operation(RequestOp.SETXATTR, path, what, args, path2, change.value, change.stamp, drop)


class Answer(NamedTuple):
    """What came of an operation.

    Attributes:
        inode: the target, None where there is none.
        listed: a listing's inodes, in the order of the reply's entries.
        file_mode: in which ``inode`` was opened; None if it was not.
    """

    reply: ClientReply
    inode: Inode | None
    listed: list[Inode]
    file_mode: int | None = None


class Request(msgspec.Struct, eq=False):
    """An operation on its way.

    Attributes:
        token: whom to answer; None once the caller has his answer or has gone.
        rank: where it was sent, or is waiting to be.
        sent: whether it has left, in this session.
        num_fwd: how often MDSs have passed it on.
        num_retry: how often it was sent again to a rank's new holder.
        unsafe: applied, not yet durable.
        created: the inode it has made, while unsafe: another MDS is to make the same.
        deadline: when the caller stops waiting.
        since: when it was asked for.
        sent_at: when it last left.
        reserved: room for the caps its reply brings.
        inos: inodes it changes, as far as known: what fsync on one of them waits for.
    """

    tid: int
    token: int | None
    operation: Operation
    deadline: float
    since: float
    rank: int | None = None
    sent: bool = False
    num_fwd: int = 0
    num_retry: int = 0
    created: int = 0
    unsafe: bool = False
    sent_at: float = 0.0
    reserved: Reservation | None = None
    inos: set[int] = msgspec.field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.operation.op.name.lower()} of {self.operation.what}"


class Requests:
    """Every request that has not been answered for good, oldest first.

    Attributes:
        latency: from a caller's wish to the first answer, by rank and op.
        failures: requests that brought their callers an error, by rank (-1: none was asked), op and why: the name of
            the errno, or that of our error where no MDS has answered.
        events: what happened, in order; None while nobody listens.
    """

    def __init__(self) -> None:
        self.latency: dict[int, dict[RequestOp, Histogram]] = {}
        self.failures: Counter[tuple[int, RequestOp, str]] = Counter()
        self.events: list[Event] | None = None
        self.by_tid: dict[int, Request] = {}
        self.by_token: dict[int, Request] = {}
        self._next_tid = 1
        self._deadlines: list[tuple[float, int]] = []
        self._changing: Counter[int] = Counter()  # how many of them change an inode

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self.by_tid.values()))

    def add(self, token: int | None, operation: Operation, deadline: float, now: float) -> Request:
        """A request on behalf of ``token``, or of nobody."""
        request = Request(self._next_tid, token, operation, deadline, now)
        if operation.writes:
            self.changes(request, operation.path.ino)
            self.changes(request, operation.path2.ino)
        self._next_tid += 1
        self.by_tid[request.tid] = request
        if token is not None:
            self.by_token[token] = request
            if self.events is not None:
                self.events.append(RequestStarted(**_named(request)))
        if deadline != float("inf"):
            heapq.heappush(self._deadlines, (deadline, request.tid))
        return request

    @property
    def last_tid(self) -> int:
        return self._next_tid - 1

    def changes(self, request: Request, ino: int) -> None:
        """``request`` changes that inode; 0 is none."""
        if ino and ino not in request.inos:
            request.inos.add(ino)
            self._changing[ino] += 1

    def unsafe(self, ino: int, up_to: int) -> Request | None:
        """The oldest request, up to that tid, that changes ``ino`` (0: anything) and is not known to be durable."""
        if ino and ino not in self._changing:
            return None
        for request in self.by_tid.values():
            if request.tid > up_to:
                return None
            if request.operation.writes and request.sent and (not ino or ino in request.inos):
                return request
        return None

    def oldest_tid(self) -> int:
        """The oldest not known to be durable: an MDS may forget what it did for those before.

        Locks do not count, as nothing is kept of them; some wait for hours (kernel: ``__register_request``).
        """
        for tid, request in self.by_tid.items():
            if request.operation.op != RequestOp.SETFILELOCK:
                return tid
        return self._next_tid

    def answered(self, request: Request, rank: int, result: int, now: float) -> int | None:
        """``rank`` has answered with 0 or minus an errno; gives what `release` does."""
        if request.token is not None:
            self._histogram(rank, request.operation.op).add(now - request.since)
        return self.release(request, result)

    def release(self, request: Request, result: int | None, error: Exception | None = None) -> int | None:
        """The token to answer, once; None if nobody waits any more.

        Args:
            result: 0, or minus an errno; None where no MDS has answered.
            error: why not; None where the caller has gone.
        """
        token, request.token = request.token, None
        if token is None:
            return None
        del self.by_token[token]
        rank = -1 if request.rank is None else request.rank
        if result or error is not None:
            why = errno.errorcode.get(-result, "unknown") if result else type(error).__name__
            self.failures[rank, request.operation.op, why] += 1
        if self.events is not None:
            why = "" if result is not None else "cancelled" if error is None else str(error)
            self.events.append(RequestEnded(**_named(request), rank=rank, result=result, error=why))
        return token

    def finish(self, request: Request) -> None:
        if self.by_tid.pop(request.tid, None) is not None:
            for ino in request.inos:
                self._changing[ino] -= 1
                if not self._changing[ino]:
                    del self._changing[ino]
        if request.reserved is not None:
            request.reserved.end()

    def _histogram(self, rank: int, op: RequestOp) -> Histogram:
        """Where answers of ``rank`` to ``op`` are counted, begun if need be."""
        ops = self.latency.get(rank)
        if ops is None:
            ops = self.latency[rank] = {}
        found = ops.get(op)
        if found is None:
            found = ops[op] = Histogram()
        return found

    def cancel(self, token: int) -> Request | None:
        """The caller has gone; gives what he waited for."""
        request = self.by_token.get(token)
        if request is not None:
            self.release(request, None)
        return request

    def next_deadline(self) -> float:
        while self._deadlines:
            deadline, tid = self._deadlines[0]
            request = self.by_tid.get(tid)
            if request is not None and request.token is not None:
                return deadline
            heapq.heappop(self._deadlines)
        return float("inf")

    def expired(self, now: float) -> Iterator[Request]:
        """Those whose caller's time is up."""
        while self.next_deadline() <= now:
            _, tid = heapq.heappop(self._deadlines)
            yield self.by_tid[tid]


def _named(request: Request) -> dict[str, Any]:
    """What its events say of it."""
    operation = request.operation
    return {"tid": request.tid, "op": operation.op.name.lower(), "ino": operation.path.ino, "path": operation.path.path}
