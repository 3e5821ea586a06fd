"""Quotas: who refuses, how far up, and where what is known comes from."""

from __future__ import annotations

import errno

import pytest

from cephcaps.engine import quota
from cephcaps.engine.inode import DirCounts
from cephcaps.errors import MdsError
from cephwire.capbits import FileMode
from cephwire.inode import Quota
from cephwire.quota import ClientQuota
from cephwire.requestop import RequestOp
from tests.engine.bench import DIRECTORY, Bench, stat_of

TOP, BELOW, DEEP, FILE, OTHER = 10, 11, 12, 13, 20
NONE = Quota(0, 0)


def tree(**limits: Quota) -> Bench:
    """/top/below/deep/file and /other below the root, inode 1; ``limits`` by directory name."""
    bench = Bench()
    bench.hold(1, "pFs", mode=DIRECTORY, rfiles=1, rsubdirs=5, rbytes=100)
    above = 1
    for name, ino in (("top", TOP), ("below", BELOW), ("deep", DEEP)):
        told = stat_of(ino, "pFs", mode=DIRECTORY, quota=limits.get(name, NONE), rfiles=1, rsubdirs=3, rbytes=100)
        bench.reply(told, dir=stat_of(above, "pFs", mode=DIRECTORY), dname=name)
        above = ino
    bench.reply(stat_of(FILE, "pFsx", size=100), dir=stat_of(DEEP, "pFs", mode=DIRECTORY), dname="file")
    told = stat_of(OTHER, "pFs", mode=DIRECTORY, quota=limits.get("other", NONE))
    bench.reply(told, dir=stat_of(1, "pFs", mode=DIRECTORY), dname="other")
    for ino, name in ((TOP, "top"), (BELOW, "below"), (DEEP, "deep")):
        inode = bench.inode(ino)  # the replies above told nothing of these as a directory of another
        inode.counts = DirCounts(0, 100, 1, 3, limits.get(name))
    return bench


def counts(bench: Bench) -> DirCounts:
    found = bench.inode(TOP).counts
    assert found is not None
    return found


def refuses(bench: Bench, ino: int, *, bytes: int = 0, files: int = 0) -> int | None:
    """Inode of the directory that has no room."""
    found = quota.room(bench.engine.cache, bench.inode(ino), bytes=bytes, files=files)
    return found.ino if found is not None else None


@pytest.mark.parametrize(("files", "refused"), [(1, None), (2, TOP), (0, None), (-3, None)])
def test_files_and_directories_count_alike_and_a_directory_counts_itself(files: int, refused: int | None) -> None:
    bench = tree(top=Quota(0, 5))

    assert refuses(bench, DEEP, files=files) == refused


@pytest.mark.parametrize(("bytes", "refused"), [(50, None), (51, TOP), (0, None), (-1000, None)])
def test_bytes_may_be_used_up_to_the_limit(bytes: int, refused: int | None) -> None:
    bench = tree(top=Quota(150, 0))

    assert refuses(bench, FILE, bytes=bytes) == refused


def test_the_nearest_that_has_no_room_refuses_and_each_has_its_say() -> None:
    bench = tree(top=Quota(120, 0), deep=Quota(1000, 0))

    assert refuses(bench, FILE, bytes=10) is None
    assert refuses(bench, FILE, bytes=30) == TOP
    assert refuses(bench, FILE, bytes=2000) == DEEP


def test_a_limit_on_one_does_not_limit_the_other() -> None:
    bench = tree(top=Quota(1, 0), deep=Quota(0, 1))

    assert refuses(bench, DEEP, files=1) == DEEP
    assert refuses(bench, BELOW, files=1) is None
    assert refuses(bench, BELOW, bytes=1) == TOP


def test_what_is_above_something_unknown_limits_nothing() -> None:
    bench = tree(top=Quota(1, 1))
    bench.inode(BELOW).parent = 999

    assert refuses(bench, DEEP, files=1) is None


def test_names_that_are_out_of_date_and_lead_in_a_circle_end() -> None:
    bench = tree(other=Quota(1, 1))
    bench.inode(TOP).parent = DEEP

    assert refuses(bench, DEEP, files=1) is None


@pytest.mark.parametrize("op", [RequestOp.CREATE, RequestOp.MKDIR, RequestOp.MKNOD, RequestOp.SYMLINK, RequestOp.LINK])
def test_a_name_more_is_refused(op: RequestOp) -> None:
    bench = tree(top=Quota(0, 4))
    cache = bench.engine.cache

    assert quota.refusal(cache, op, DEEP) == errno.EDQUOT
    assert quota.refusal(cache, op, OTHER) == 0
    assert quota.refusal(cache, op, 999) == 0


@pytest.mark.parametrize("op", [RequestOp.UNLINK, RequestOp.RMDIR, RequestOp.SETATTR, RequestOp.OPEN, RequestOp.MKSNAP])
def test_what_adds_no_name_is_not_refused(op: RequestOp) -> None:
    assert quota.refusal(tree(top=Quota(0, 1)).engine.cache, op, DEEP) == 0


def test_a_rename_may_not_cross_into_another_quota() -> None:
    cache = tree(top=Quota(0, 1000), deep=Quota(0, 1000)).engine.cache

    def rename(source: int, target: int) -> int:
        return quota.refusal(cache, RequestOp.RENAME, target, source)

    assert rename(BELOW, TOP) == rename(TOP, BELOW) == rename(OTHER, 1) == rename(DEEP, DEEP) == 0
    assert rename(BELOW, DEEP) == rename(DEEP, BELOW) == rename(TOP, OTHER) == rename(OTHER, TOP) == errno.EXDEV
    assert rename(999, TOP) == 0


@pytest.mark.parametrize(("size", "refused"), [(150, False), (151, True), (100, False), (3, False), (None, False)])
def test_a_file_may_grow_as_far_as_there_is_room(size: int | None, refused: bool) -> None:
    cache = tree(top=Quota(150, 0)).engine.cache

    assert quota.growth_refused(cache, FILE, size) is refused


def test_a_write_beyond_the_room_there_is_is_refused_before_it_begins() -> None:
    bench = tree(top=Quota(150, 0))
    bench.hold(FILE, "pFsrw", size=100, max_size=1 << 20, seq=2)
    bench.opened(FILE, FileMode.RDWR)

    assert bench.got(bench.get(FILE, "Fw", endoff=150)) == "Fw"
    with pytest.raises(MdsError) as raised:
        bench.got(bench.get(FILE, "Fw", endoff=151))
    assert raised.value.errno == errno.EDQUOT


def test_a_push_brings_limits_and_use() -> None:
    bench = tree()

    quota.told(bench.engine.cache, ClientQuota(TOP, 0, 7, 8, 9, Quota(5, 6)))
    quota.told(bench.engine.cache, ClientQuota(999, 0, 7, 8, 9, Quota(5, 6)))

    top = counts(bench)
    assert (top.rbytes, top.rfiles, top.rsubdirs, top.quota) == (7, 8, 9, Quota(5, 6))
    quota.told(bench.engine.cache, ClientQuota(TOP, 0, 7, 8, 9, NONE))
    assert top.quota is None


def test_a_reply_of_the_authority_brings_them_too() -> None:
    bench = Bench(ranks=2)
    bench.hold(TOP, "pFs", mode=DIRECTORY)

    bench.hold(TOP, "pFs", rank=1, auth=False, mode=DIRECTORY, quota=Quota(1, 1))
    assert counts(bench).quota is None

    bench.hold(TOP, "pFs", seq=2, mode=DIRECTORY, quota=Quota(5, 6), rbytes=3)
    assert (counts(bench).quota, counts(bench).rbytes) == (Quota(5, 6), 3)

    bench.hold(TOP, "pFs", seq=3, mode=DIRECTORY)
    assert counts(bench).quota is None
