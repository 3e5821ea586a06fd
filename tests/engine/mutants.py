"""Planted bugs, and what catches each: ``python -m tests.engine.mutants``.

Every one is a mistake that real clients have made, and that no MDS reports: it shows as a hang, or as other clients'
stale data, long after. Each is put into the engine in a process of its own, and stories are told (`test_machine`) until
one ends badly; the shortest form of it is printed with ``-v``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from cephcaps.engine import dentries, fields, grants, move
from cephcaps.engine.flush import Flushes
from cephcaps.engine.inode import Flush, Inode, Use
from cephcaps.engine.move import Moves
from cephcaps.engine.release import Releases
from cephcaps.engine.xattrs import XattrChange
from cephcaps.mds.client import MdsClient
from tests.engine import model_world
from tests.engine.model_world import World
from tests.engine.test_machine import OPTIONS, RARE, STEPS

STEPS_AT_MOST = 100_000
STORY = 300
Told = list[tuple[str, dict[str, Any]]]


@contextlib.contextmanager
def plain_compare_of_seq() -> Iterator[None]:
    def plain(seq: int, than: int) -> int:
        return seq - than

    with contextlib.ExitStack() as patches:
        for module in (dentries, fields, grants, move):
            patches.enter_context(mock.patch.object(module, "newer", plain))
        yield


@contextlib.contextmanager
def seq_in_place_of_issue_seq() -> Iterator[None]:
    drop = Releases.drop

    def wrong(self: Releases, inode: Inode, now: float) -> None:
        for cap in inode.caps.values():
            cap.issue_seq = cap.seq
        drop(self, inode, now)

    with mock.patch.object(Releases, "drop", wrong):
        yield


@contextlib.contextmanager
def new_flush_tid_on_resend() -> Iterator[None]:
    resend = Flushes.resend

    def wrong(self: Flushes, inode: Inode, cap: Any, after: int = 0) -> None:
        old, inode.flushes = inode.flushes, ()
        for one in old:
            del self._cache.flushes[one.tid]
            self.record(inode, one.caps, one.sent_at, one.snap)
        resend(self, inode, cap)

    with mock.patch.object(Flushes, "resend", wrong):
        yield


@contextlib.contextmanager
def flush_tids_counted_by_session() -> Iterator[None]:
    def wrong(self: Flushes, inode: Inode, bits: int, now: float, snap: Any = None) -> Flush:
        counters = self.__dict__.setdefault("by_rank", {})
        tid = counters[inode.auth_rank] = counters.get(inode.auth_rank, 0) + 1
        self.last_tid = max(self.last_tid, tid)
        made = Flush(tid, inode.ino, bits, now, snap)
        inode.flushes += (made,)
        self._cache.flushes[tid] = made
        return made

    with mock.patch.object(Flushes, "record", wrong):
        yield


@contextlib.contextmanager
def revoke_acknowledged_before_writeback() -> Iterator[None]:
    class Forgetful(list[Any]):
        def __bool__(self) -> bool:
            return False

    made = Use.__init__

    def wrong(self: Use, size: int) -> None:
        made(self, size)
        self.dirty_data = Forgetful()

    with mock.patch.object(Use, "__init__", wrong):
        yield


@contextlib.contextmanager
def flushmsg_acknowledged_before_releases() -> Iterator[None]:
    with mock.patch.object(MdsClient, "barrier", return_value=None):
        yield


@contextlib.contextmanager
def export_that_loses_dirty_bits() -> Iterator[None]:
    exported = Moves.exported

    def wrong(self: Moves, inode: Inode, cap: Any, message: Any, now: float) -> None:
        self._flushes.forget(inode)
        exported(self, inode, cap, message, now)

    with mock.patch.object(Moves, "exported", wrong):
        yield


@contextlib.contextmanager
def xattrs_flushed_with_an_unraised_version() -> Iterator[None]:
    apply = model_world.xattrs.apply

    def wrong(inode: Inode, change: XattrChange, issued: int, limit: int) -> int | None:
        before = inode.xattr_version
        done = apply(inode, change, issued, limit)
        inode.xattr_version = before
        return done

    with mock.patch.object(model_world.xattrs, "apply", wrong):
        yield


@contextlib.contextmanager
def release_embedded_before_flushsnap() -> Iterator[None]:
    with mock.patch.object(Inode, "unsent_snap", property(lambda self: False)):
        yield


BUGS = (
    plain_compare_of_seq,
    seq_in_place_of_issue_seq,
    new_flush_tid_on_resend,
    flush_tids_counted_by_session,
    revoke_acknowledged_before_writeback,
    flushmsg_acknowledged_before_releases,
    export_that_loses_dirty_bits,
    xattrs_flushed_with_an_unraised_version,
    release_embedded_before_flushsnap,
)


def tell(told: Told) -> str | None:
    """Why the story ends badly; None if it ends well."""
    world = World()
    try:
        for name, what in told:
            getattr(world, name)(**what)
            world.check()
        world.agree()
    except Exception as error:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        words = str(error).splitlines()[0] if str(error) else ""
        place = where.tb_frame.f_code.co_name if where is not None else ""
        return f"{place}: {words or type(error).__name__}"
    return None


def hunt() -> tuple[str, int, Told] | None:
    """What catches the bug that is planted now, after how many steps, and the shortest story found."""
    steps = 0
    for seed in range(STEPS_AT_MOST // STORY):
        rng = random.Random(seed)
        told: Told = []
        while len(told) < STORY:
            name = rng.choice(list(STEPS))
            if rng.random() < RARE.get(name, 1.0):
                told.append((name, {option: OPTIONS[option](rng) for option in STEPS[name]}))
        steps += len(told)
        if tell(told) is not None:
            return *shortened(told), steps
    return None


def shortened(told: Told) -> tuple[str, Told]:
    size = len(told) // 2
    while size:
        at = 0
        while at < len(told):
            shorter = told[:at] + told[at + size :]
            if tell(shorter) is not None:
                told = shorter
            else:
                at += size
        size //= 2
    why = tell(told)
    assert why is not None
    return why, told


def caught(bug: Callable[[], Any]) -> tuple[str, int, Told]:
    """What catches ``bug``; empty if nothing does."""
    with bug():
        if bug is flushmsg_acknowledged_before_releases:
            return barrier_test(), 1, []
        found = hunt()
    if found is None:
        return "", STEPS_AT_MOST, []
    why, story, steps = found
    return why, steps, story


def barrier_test() -> str:
    """Sessions are no part of the stories: a test of theirs looks at the order."""
    from tests.session import test_owed

    try:
        test_owed.test_releases_that_are_queued_leave_before_a_flush_is_acknowledged()
    except (AssertionError, ValueError):
        return "test_owed.test_releases_that_are_queued_leave_before_a_flush_is_acknowledged"
    return ""


def main() -> int:
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        results = pool.map(caught, BUGS, chunksize=1)
    missed = 0
    print(f"{'bug':<42} | {'caught by':<72} | steps")
    for bug, (why, steps, story) in zip(BUGS, results, strict=True):
        missed += not why
        print(f"{bug.__name__.replace('_', ' '):<42} | {why or 'NOTHING':<72} | {steps}")
        if "-v" in sys.argv:
            for name, what in story:
                print(f"    world.{name}({', '.join(f'{key}={value!r}' for key, value in what.items())})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
