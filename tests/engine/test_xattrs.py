"""Extended attributes: set here under Xx and flushed whole, with a version the MDS takes; the rest is asked for."""

from __future__ import annotations

import errno
import os
from typing import Any

import msgspec
import pytest

from cephcaps.engine.fields import xattr_blobs
from cephcaps.engine.inode import CapSnap, SnapContext
from cephcaps.engine.vxattrs import asked_for, is_read_only, names_pool, text_of
from cephcaps.engine.xattrs import XattrChange, encoded, limit_of, refusal
from cephwire.capbits import StatMask
from cephwire.caps import CapOp
from cephwire.inode import Charmap, FileLayout, InodeStat, OptMetadata, Quota, UnknownVersioned
from tests.engine.bench import DIRECTORY, FILE, Bench, flush, stat_of
from tests.session import samples

LIMIT = 100
SOME = {"user.a": b"1", "user.c": b"3"}
ASKED = None


def held(caps: str = "pXsx", **fields: Any) -> Bench:
    """A bench with inode 7, of which ``SOME`` attributes are known at version 4."""
    bench = Bench()
    bench.hold(7, caps, **{"xattrs": SOME, "xattr_version": 4, **fields})
    return bench


def put(bench: Bench, name: str, value: bytes | None, stamp: int = 1, **how: bool) -> int | None:
    return bench.engine.change_xattr(7, XattrChange(name, value, stamp, **how), LIMIT, bench.now)


def carried(bench: Bench) -> list[tuple[int, dict[str, bytes] | None]]:
    """Version and attributes of each cap message since the last look; None where it carries none."""
    return [(m.xattr_version, xattr_blobs.decode(m.xattrs).xattrs if m.xattrs else None) for m in bench.sent()]


# Setting


def test_what_is_set_here_is_dirty_and_of_a_new_version_and_nothing_is_sent() -> None:
    bench = held()
    inode = bench.inode(7)
    before = inode.change_attr

    assert put(bench, "user.b", b"2", stamp=50) == 0

    assert inode.xattrs == {"user.a": b"1", "user.b": b"2", "user.c": b"3"}
    assert list(inode.xattrs) == ["user.a", "user.b", "user.c"]
    assert (inode.xattr_version, inode.ctime, inode.change_attr) == (5, 50, before + 1)
    assert bench.sends() == []
    bench.flush(7)
    assert bench.said() == [flush("pXsx", dirty="Xx", tid=1)]


def test_a_flush_carries_all_attributes_with_the_raised_version() -> None:
    bench = held()
    put(bench, "user.b", b"2")
    put(bench, "user.b", b"22")
    bench.flush(7)

    assert carried(bench) == [(6, {"user.a": b"1", "user.b": b"22", "user.c": b"3"})]


def test_what_is_changed_again_while_the_first_is_on_its_way_is_a_flush_of_its_own() -> None:
    bench = held()
    put(bench, "user.b", b"2")
    bench.flush(7)
    put(bench, "user.b", b"3")
    bench.flush(7)
    assert [(send.tid, send.message.xattr_version) for send in bench.sends()] == [(1, 5), (2, 6)]

    bench.ack(7, 1)
    assert bench.inode(7).flushing
    bench.ack(7, 2)
    assert not bench.inode(7).flushing


def test_a_revoke_takes_the_change_along() -> None:
    bench = held()
    put(bench, "user.b", b"2")

    bench.revoke(7, "p")

    [sent] = bench.sends()
    assert (CapOp(sent.message.op).name, sent.tid, sent.message.xattr_version) == ("UPDATE", 1, 5)
    assert xattr_blobs.decode(sent.message.xattrs).xattrs == {**SOME, "user.b": b"2"}
    assert bench.held(7) == ("p", "p")


def test_a_flush_of_other_bits_carries_no_attributes() -> None:
    bench = held("pAsxXsx")
    bench.change(7, mode=0o600)
    bench.flush(7)

    assert carried(bench) == [(4, None)]


def test_the_state_that_a_snapshot_keeps_stays_as_it_was() -> None:
    bench = held()
    inode = bench.inode(7)
    snap = CapSnap(inode, SnapContext(3, (3,)), 0, 0, bench.now)

    put(bench, "user.a", b"other")

    assert xattr_blobs.decode(encoded(snap)).xattrs == SOME
    assert (snap.xattr_version, inode.xattr_version) == (4, 5)


def test_no_attributes_are_four_zero_bytes_and_not_nothing() -> None:
    bench = held(xattrs={})

    assert encoded(bench.inode(7)) == bytes(4)


@pytest.mark.parametrize(
    ("name", "how", "result"),
    [
        ("user.a", {"create": True}, errno.EEXIST),
        ("user.b", {"create": True}, 0),
        ("user.b", {"replace": True}, errno.ENODATA),
        ("user.a", {"replace": True}, 0),
        ("user.a", {"create": True, "replace": True}, errno.EEXIST),
        ("user.b", {"create": True, "replace": True}, errno.ENODATA),
    ],
)
def test_it_must_or_must_not_be_there(name: str, how: dict[str, bool], result: int) -> None:
    bench = held()

    assert put(bench, name, b"x", **how) == result

    assert bench.inode(7).xattr_version == (4 if result else 5)
    assert bool(bench.inode(7).dirty) == (not result)


# Asking


@pytest.mark.parametrize("caps", ["p", "pXs", "pAsxLsxFsx"])
def test_without_xx_the_mds_is_asked(caps: str) -> None:
    bench = held(caps)

    assert put(bench, "user.b", b"2") is ASKED

    assert bench.inode(7).xattrs == SOME
    assert not bench.inode(7).dirty


def test_an_inode_that_is_not_in_the_cache_is_asked_for() -> None:
    assert put(Bench(), "user.b", b"2") is ASKED


def test_what_was_never_told_is_asked_for() -> None:
    assert put(held(xattrs=None), "user.b", b"2") is ASKED


def test_taking_away_is_asked_for_as_a_flush_may_not_do_it() -> None:
    bench = held()

    assert put(bench, "user.a", None) is ASKED
    assert bench.inode(7).xattrs == SOME


def test_what_an_mds_acts_upon_is_asked_for() -> None:
    assert put(held(), "ceph.dir.pin", b"1") is ASKED


@pytest.mark.parametrize(("size", "result"), [(79, 0), (80, ASKED)])
def test_more_than_an_mds_takes_is_asked_for(size: int, result: int | None) -> None:
    """Of 100 bytes user.a, user.c and what they say take 14, and user.é takes 7."""
    bench = held()

    assert put(bench, "user.é", b"x" * size) == result


def test_bits_of_another_rank_than_the_authority_do_not_count() -> None:
    bench = Bench(ranks=2)
    bench.hold(7, "pXsx", auth=False, xattrs=SOME, xattr_version=4)

    assert put(bench, "user.b", b"2") is ASKED


def test_a_cap_of_a_stale_session_does_not_count() -> None:
    bench = held()
    bench.engine.sessions.stale(0, 2)

    assert put(bench, "user.b", b"2") is ASKED


def test_an_authority_that_has_become_read_only_is_asked_and_refuses() -> None:
    bench = held()
    bench.engine.session_read_only(0, bench.now)

    assert put(bench, "user.b", b"2") is ASKED


# Believing


def test_what_is_lost_with_its_session_is_not_taken_for_what_the_mds_has() -> None:
    bench = held()
    bench.opened(7, 1)
    put(bench, "user.b", b"2")
    assert bench.engine.session_lost(0, ConnectionError(), bench.now) == {7: "inode 0x7: Xx"}
    bench.engine.sessions.opened(0, 9, float("inf"), 0)

    bench.hold(7, "pXs", xattrs={"user.z": b"theirs"}, xattr_version=5)

    assert bench.inode(7).xattrs == {"user.z": b"theirs"}


def test_what_the_mds_says_while_ours_is_on_its_way_does_not_undo_it() -> None:
    bench = held()
    put(bench, "user.b", b"2")
    bench.flush(7)

    bench.hold(7, "pXs", seq=2, xattrs=SOME, xattr_version=4)

    assert bench.inode(7).xattrs == {**SOME, "user.b": b"2"}


# Names


@pytest.mark.parametrize(
    ("name", "mode", "result"),
    [
        ("user.a", FILE, 0),
        ("trusted.a", FILE, 0),
        ("security.a", FILE, 0),
        ("ceph.anything", FILE, 0),
        ("system.posix_acl_access", FILE, 0),
        ("system.posix_acl_default", DIRECTORY, 0),
        ("system.posix_acl_default", FILE, errno.EACCES),
        ("system.other", FILE, errno.EOPNOTSUPP),
        ("other.a", FILE, errno.EOPNOTSUPP),
        ("user", FILE, errno.EOPNOTSUPP),
        ("", FILE, errno.EOPNOTSUPP),
        ("user." + "n" * 250, FILE, 0),
        ("user." + "n" * 251, FILE, errno.ERANGE),
        ("user." + os.fsdecode(b"\xff") * 251, FILE, errno.ERANGE),
    ],
)
def test_names_nobody_can_set_are_refused_at_once(name: str, mode: int, result: int) -> None:
    assert refusal(name, b"", mode) == result


def test_a_name_that_is_too_long_can_still_be_taken_away() -> None:
    assert refusal("user." + "n" * 251, None, FILE) == 0


def test_the_map_says_how_much_an_mds_takes_if_it_is_new_enough_to() -> None:
    mdsmap = samples.mdsmap(5).mdsmap
    new = msgspec.structs.replace(mdsmap, ev=18, max_xattr_size=1000)

    assert limit_of(mdsmap) == 65536
    assert limit_of(new) == 1000
    assert limit_of(msgspec.structs.replace(new, max_xattr_size=0)) == 0


# Virtual ones

LAID_OUT: dict[str, Any] = {"layout": FileLayout(65536, 2, 131072, 0, 0, 0, 3), "pool_ns": "ns"}
LIMITED = {"quota": Quota(1000, 0)}
COUNTED = {"files": 2, "subdirs": 1, "rfiles": 5, "rsubdirs": 3, "rbytes": 99, "rctime": 5_000_000_007, "rsnaps": 4}
FOLDED = {"optmetadata": (OptMetadata(9, UnknownVersioned(1, 1, b"")), OptMetadata(1, Charmap(0, "nfd", "utf8")))}


def directory(**fields: Any) -> InodeStat:
    return stat_of(7, "p", mode=DIRECTORY, **fields)


@pytest.mark.parametrize(
    ("name", "told", "text"),
    [
        (
            "ceph.dir.layout",
            directory(**LAID_OUT),
            b"stripe_unit=65536 stripe_count=2 object_size=131072 pool=data pool_namespace=ns",
        ),
        ("ceph.dir.layout", directory(), None),
        (
            "ceph.file.layout",
            stat_of(7, "p", layout=LAID_OUT["layout"]),
            b"stripe_unit=65536 stripe_count=2 object_size=131072 pool=data",
        ),
        ("ceph.file.layout.stripe_unit", stat_of(7, "p", **LAID_OUT), b"65536"),
        ("ceph.dir.layout.stripe_count", directory(**LAID_OUT), b"2"),
        ("ceph.dir.layout.object_size", directory(**LAID_OUT), b"131072"),
        ("ceph.dir.layout.pool", directory(**LAID_OUT), b"data"),
        ("ceph.dir.layout.pool_namespace", directory(**LAID_OUT), b"ns"),
        ("ceph.dir.layout.pool_namespace", directory(layout=LAID_OUT["layout"]), b""),
        ("ceph.dir.layout.stripe_unit", directory(pool_ns="ns"), b"0"),
        ("ceph.quota", directory(**LIMITED), b"max_bytes=1000 max_files=0"),
        ("ceph.quota.max_bytes", directory(**LIMITED), b"1000"),
        ("ceph.quota.max_files", directory(**LIMITED), b"0"),
        ("ceph.quota.max_files", directory(), None),
        ("ceph.dir.entries", directory(**COUNTED), b"3"),
        ("ceph.dir.files", directory(**COUNTED), b"2"),
        ("ceph.dir.subdirs", directory(**COUNTED), b"1"),
        ("ceph.dir.rentries", directory(**COUNTED), b"8"),
        ("ceph.dir.rfiles", directory(**COUNTED), b"5"),
        ("ceph.dir.rsubdirs", directory(**COUNTED), b"3"),
        ("ceph.dir.rbytes", directory(**COUNTED), b"99"),
        ("ceph.dir.rsnaps", directory(**COUNTED), b"4"),
        ("ceph.dir.rctime", directory(**COUNTED), b"5.000000007"),
        ("ceph.dir.pin", directory(export_pin=3), b"3"),
        ("ceph.dir.pin", directory(), b"-1"),
        ("ceph.dir.charmap", directory(**FOLDED), b'{"casesensitive":false,"normalization":"nfd","encoding":"utf8"}'),
        ("ceph.dir.casesensitive", directory(**FOLDED), b"0"),
        ("ceph.dir.normalization", directory(**FOLDED), b"nfd"),
        ("ceph.dir.encoding", directory(), None),
        ("ceph.snap.btime", directory(snap_btime=1_500_000_000), b"1.500000000"),
        ("ceph.snap.btime", directory(), None),
        ("ceph.fscrypt.auth", directory(fscrypt_auth=b"\0k"), b"\0k"),
        ("ceph.fscrypt.file", stat_of(7, "p"), None),
        (
            "ceph.mirror.info",
            directory(xattrs={"ceph.mirror.info.cluster_id": b"c", "ceph.mirror.info.fs_id": b"1"}),
            b"cluster_id=c fs_id=1",
        ),
        ("ceph.mirror.info", directory(xattrs=None), None),
    ],
)
def test_a_virtual_attribute_says_what_libcephfs_says(name: str, told: InodeStat, text: bytes | None) -> None:
    assert asked_for(name, told.mode) is not None
    assert text_of(name, told, pool="data" if names_pool(name) else "") == text


@pytest.mark.parametrize(
    ("name", "mode", "mask"),
    [
        ("ceph.dir.rbytes", DIRECTORY, StatMask.RSTAT),
        ("ceph.dir.entries", DIRECTORY, StatMask.SIZE),
        ("ceph.dir.pin", DIRECTORY, 0),
        ("ceph.dir.pin", FILE, None),
        ("ceph.file.layout", FILE, 0),
        ("ceph.file.layout", DIRECTORY, None),
        ("ceph.file.layout", 0o120777, None),
        ("ceph.file.layout.json", FILE, None),
        ("ceph.dir.pin.random", DIRECTORY, None),
    ],
)
def test_what_a_reply_does_not_tell_is_asked_of_the_mds(name: str, mode: int, mask: int | None) -> None:
    assert asked_for(name, mode) == mask


def test_some_cannot_be_set() -> None:
    assert is_read_only("ceph.dir.rbytes", DIRECTORY)
    assert not is_read_only("ceph.dir.rbytes", FILE)  # no such name there: the MDS says so
    assert is_read_only("ceph.snap.btime", FILE)
    assert is_read_only("ceph.client_id", FILE)
    assert not is_read_only("ceph.dir.pin", DIRECTORY)


def test_an_update_that_flushes_nothing_carries_no_attributes() -> None:
    bench = held("pXsxFs")
    bench.revoke(7, "pXsx")

    [message] = bench.sent()
    assert (message.op, message.xattrs) == (CapOp.UPDATE, b"")
