"""Which metadata is believed: the MDS's, unless ours may be newer."""

from __future__ import annotations

from typing import Any

import pytest

from cephcaps.engine.inode import Inode
from cephwire.caps import CapOp
from cephwire.codec import Codec
from cephwire.inode import XATTR_BLOB, FileLayout, XattrBlob
from tests.engine.bench import DIRECTORY, Bench

WRAP = 2**32
xattr_blobs: Codec[XattrBlob] = Codec(XATTR_BLOB)


def values(inode: Inode, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(inode, name) for name in names}


# By lock

OLD = {"mode": 0o100644, "uid": 1, "gid": 1, "btime": 1, "nlink": 1}
NEW = {"mode": 0o100600, "uid": 2, "gid": 2, "btime": 2, "nlink": 2}
AUTH = ("mode", "uid", "gid", "btime")


@pytest.mark.parametrize(
    ("held", "taken"),
    [
        ("p", (*AUTH, "nlink")),
        ("pAsLsXsFscr", (*AUTH, "nlink")),
        ("pAsxLsXsFs", ("nlink",)),
        ("pAsLsxXsFs", AUTH),
        ("pAsxLsx", ()),
        ("pFsxcrwb", (*AUTH, "nlink")),
    ],
)
def test_a_reply_tells_all_but_what_we_hold_exclusively(held: str, taken: tuple[str, ...]) -> None:
    bench = Bench()
    bench.hold(7, held, **OLD)

    inode = bench.hold(7, held, seq=2, **NEW)

    assert values(inode, tuple(NEW)) == OLD | {name: NEW[name] for name in taken}


@pytest.mark.parametrize(
    ("held", "granted", "taken"),
    [
        ("p", "pAsLs", (*AUTH, "nlink")),
        ("p", "pAs", AUTH),
        ("p", "pLs", ("nlink",)),
        ("p", "pXsFscr", ()),
        ("pAsxLs", "pAsLs", ("nlink",)),
        ("pAsLsx", "pAsLs", AUTH),
        ("pAsxLsx", "pAsLs", ()),
    ],
)
def test_a_push_tells_what_it_grants_to_share(held: str, granted: str, taken: tuple[str, ...]) -> None:
    bench = Bench()
    inode = bench.hold(7, held, **OLD)

    bench.push(7, granted, **NEW)

    assert values(inode, tuple(NEW)) == OLD | {name: NEW[name] for name in taken}


def test_what_is_changed_here_counts_until_it_is_acknowledged() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsxLs", uid=1)
    bench.change(7, uid=5)

    bench.revoke(7, "pLs", uid=1)
    bench.push(7, "pAsLs", uid=1)
    bench.hold(7, "pAsLs", seq=9, uid=1)
    assert inode.uid == 5
    bench.ack(7, 1)
    bench.hold(7, "pAsLs", seq=10, uid=6)

    assert inode.uid == 6


def test_what_was_held_in_a_generation_that_is_over_does_not_count() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsxLsx", **OLD)
    bench.engine.sessions.stale(0, 2)

    bench.hold(7, "pAsLs", seq=2, **NEW)

    assert values(inode, tuple(NEW)) == NEW


def test_a_push_after_staleness_is_believed_too() -> None:
    bench = Bench()
    inode = bench.hold(7, "pAsxLsx", **OLD)
    bench.engine.sessions.stale(0, 2)

    bench.push(7, "pAsLs", **NEW)

    assert values(inode, tuple(NEW)) == NEW


# Extended attributes


@pytest.mark.parametrize(
    ("held", "version", "xattrs", "taken"),
    [
        ("pXs", 5, {"user.a": b"2"}, True),
        ("pXs", 4, {"user.a": b"2"}, False),
        ("pXs", 5, None, False),
        ("pXsx", 5, {"user.a": b"2"}, False),
    ],
)
@pytest.mark.parametrize("by", ["reply", "push"])
def test_newer_extended_attributes_are_taken(
    by: str, held: str, version: int, xattrs: dict[str, bytes] | None, taken: bool
) -> None:
    bench = Bench()
    inode = bench.hold(7, held, xattr_version=4, xattrs={"user.a": b"1"})

    if by == "reply":
        bench.hold(7, held, seq=2, xattr_version=version, xattrs=xattrs)
    else:
        blob = xattr_blobs.encode(XattrBlob(xattrs)) if xattrs is not None else b""
        bench.push(7, held, xattr_version=version, xattrs=blob)

    assert inode.xattrs == {"user.a": b"2" if taken else b"1"}
    assert inode.xattr_version == (5 if taken else 4)


# Size


@pytest.mark.parametrize(
    ("size", "truncate_seq", "truncate_size", "then"),
    [
        (200, 3, 50, (200, 3, 50)),  # grown
        (90, 3, 50, (100, 3, 50)),  # lags behind what we know
        (90, 4, 90, (90, 4, 90)),  # cut
        (500, 4, 90, (500, 4, 90)),  # cut, then grown
        (90, 2, 40, (100, 3, 10)),  # from before a cut we know of
        (500, 2, 40, (100, 3, 10)),
    ],
)
@pytest.mark.parametrize("by", ["reply", "grant", "trunc"])
def test_size_grows_and_a_newer_truncation_settles_it(
    by: str, size: int, truncate_seq: int, truncate_size: int, then: tuple[int, int, int]
) -> None:
    bench = Bench()
    inode = bench.hold(7, "pFs", size=100, truncate_seq=3, truncate_size=10)
    told = {"size": size, "truncate_seq": truncate_seq, "truncate_size": truncate_size}

    if by == "reply":
        bench.hold(7, "pFs", seq=2, **told)
    else:
        bench.push(7, "pFs", op=CapOp.GRANT if by == "grant" else CapOp.TRUNC, **told)

    assert (inode.size, inode.truncate_seq, inode.truncate_size) == then
    assert bench.sent() == []


def test_truncate_seq_wraps() -> None:
    bench = Bench()
    inode = bench.hold(7, "pFs", size=100, truncate_seq=WRAP - 1)

    bench.push(7, "pFs", size=10, truncate_seq=0)

    assert (inode.size, inode.truncate_seq) == (10, 0)


@pytest.mark.parametrize(("granted", "taken"), [("pAsLsXs", False), ("pFs", True), ("pFr", True), ("pFw", True)])
def test_a_push_tells_size_and_layout_with_file_bits_only(granted: str, taken: bool) -> None:
    bench = Bench()
    inode = bench.hold(7, "p", size=1)
    layout = FileLayout(4096, 1, 4096, 0, 0, 0, 3)

    bench.push(7, granted, size=10, layout=layout, pool_ns="ns")

    assert (inode.size, inode.layout == layout, inode.pool_ns) == ((10, True, "ns") if taken else (1, False, ""))


@pytest.mark.parametrize("by", ["reply", "push"])
def test_only_the_authority_says_how_far_we_may_write(by: str) -> None:
    bench = Bench(ranks=2)
    inode = bench.hold(7, "pFr", rank=0, max_size=100)

    bench.hold(7, "pFr", rank=1, auth=False, max_size=5)
    if by == "push":
        bench.push(7, "pFrw", rank=1, max_size=5)
    assert inode.max_size == 100

    if by == "reply":
        bench.hold(7, "pFr", rank=0, seq=2, max_size=0)
    else:
        bench.push(7, "pFr", rank=0, max_size=0)
        assert inode.max_size == 100, "nor does it count for who may not write"
        bench.push(7, "pFrw", rank=0, max_size=0)
    assert inode.max_size == 0


# Times

TIMES = ("ctime", "mtime", "atime", "time_warp_seq")


@pytest.mark.parametrize(
    ("held", "told", "then"),
    [
        # Nothing of ours can be newer: the MDS is right, unless this is from before the times were set.
        ("pFs", (50, 50, 50, 3), (50, 50, 50, 3)),
        ("pFs", (50, 50, 50, 4), (50, 50, 50, 4)),
        ("pFs", (500, 500, 500, 2), (100, 100, 100, 3)),
        # Under a bit that lets us change times they only go forward, until somebody sets them.
        ("pFsx", (50, 50, 500, 3), (100, 100, 500, 3)),
        ("pFw", (500, 500, 50, 3), (500, 500, 100, 3)),
        ("pFb", (50, 50, 50, 4), (100, 50, 50, 4)),
        ("pAsx", (500, 50, 50, 2), (500, 100, 100, 3)),
        ("pXsx", (50, 50, 50, 3), (100, 100, 100, 3)),
    ],
)
@pytest.mark.parametrize("by", ["reply", "push"])
def test_times_go_forward_unless_they_were_set(
    by: str, held: str, told: tuple[int, ...], then: tuple[int, ...]
) -> None:
    bench = Bench()
    inode = bench.hold(7, held, **dict(zip(TIMES, (100, 100, 100, 3), strict=True)))
    news = dict(zip(TIMES, told, strict=True))

    if by == "reply":
        bench.hold(7, held, seq=2, **news)
    else:
        bench.push(7, "pAsxLsXsxFsxcrwb", **news)

    assert tuple(getattr(inode, name) for name in TIMES) == then


def test_time_warp_seq_wraps() -> None:
    bench = Bench()
    inode = bench.hold(7, "pFs", time_warp_seq=WRAP - 1, mtime=9)

    bench.push(7, "pFs", time_warp_seq=0, mtime=3)

    assert (inode.mtime, inode.time_warp_seq) == (3, 0)


def test_times_come_with_any_bit_to_read() -> None:
    bench = Bench()
    inode = bench.hold(7, "p", mtime=1)

    bench.push(7, "pFw", mtime=5)
    assert inode.mtime == 1
    bench.push(7, "pAs", mtime=5)
    assert inode.mtime == 5


# Directories and versions


def test_a_directory_s_counts_come_with_its_shared_bit() -> None:
    bench = Bench()
    inode = bench.hold(7, "p", mode=DIRECTORY, files=1, subdirs=1)
    assert inode.counts is not None

    bench.push(7, "pAs", mode=DIRECTORY, nfiles=5, nsubdirs=6)
    assert inode.counts.subdirs == 1
    bench.push(7, "pAsFs", mode=DIRECTORY, nfiles=2**64 - 1, nsubdirs=2**64 - 1)
    assert inode.counts.subdirs == 1
    bench.push(7, "pAsFs", mode=DIRECTORY, nfiles=5, nsubdirs=6)
    assert inode.counts.subdirs == 6


@pytest.mark.parametrize("by", ["reply", "push"])
def test_change_attr_only_rises(by: str) -> None:
    bench = Bench()
    inode = bench.hold(7, "pAs", change_attr=5)

    for told in (4, 9):
        if by == "reply":
            bench.hold(7, "pAs", seq=told, change_attr=told)
        else:
            bench.push(7, "pAs", change_attr=told)
        assert inode.change_attr == max(5, told)
