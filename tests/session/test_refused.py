"""Extended attributes by request, and what is refused before any MDS is asked, or by one that has become read-only."""

from __future__ import annotations

import errno
from typing import Any

import msgspec

from cephcaps.core import SetAttributes, SetXattr
from cephcaps.engine.setattr import Change
from cephcaps.engine.xattrs import XattrChange
from cephcaps.mds.requests import Operation
from cephwire.capbits import Cap
from cephwire.inode import InodeStat, Quota
from cephwire.quota import ClientQuota
from cephwire.request import ClientRequest, FilePath, RequestRelease
from cephwire.requestargs import MkdirArgs, SetxattrArgs
from cephwire.requestop import RequestOp
from cephwire.session import SessionOp
from tests.session import samples
from tests.session.world import World, mounted

NOTHING = 10_000
"""A tid that never was."""


def told(ino: int, caps: int, **fields: Any) -> InodeStat:
    return msgspec.structs.replace(samples.inode(ino, samples.cap(caps, ino * 10), mode=0o100644), **fields)


def give(world: World, *inodes: InodeStat) -> None:
    """Rank 0 grants caps with a listing nobody waits for."""
    world.ranks[0].peer.send(samples.reply(RequestOp.READDIR, entries=inodes), tid=NOTHING)
    world.run()


def put(world: World, ino: int, name: str, value: bytes | None, **how: bool) -> int:
    return world.call(SetXattr(ino, f"/file{ino}", XattrChange(name, value, 5, **how)))


def last(world: World) -> ClientRequest:
    """The newest request that has arrived."""
    _, request = world.ranks[0].peer.requests()[-1]
    assert isinstance(request, ClientRequest)
    return request


def asked(world: World) -> int:
    return len(world.ranks[0].peer.requests())


def test_an_attribute_is_set_by_request_and_the_bits_in_the_way_go_with_it() -> None:
    world = mounted()
    give(world, told(7, Cap.PIN | Cap.ANY_SHARED))

    put(world, 7, "user.a", b"value", create=True)

    request = last(world)
    assert (request.op, request.path, request.path2) == (RequestOp.SETXATTR, FilePath(7), FilePath(0, "user.a"))
    assert (request.args, request.data, request.stamp) == (SetxattrArgs(1, 0), b"value", 5)
    kept = Cap.PIN | Cap.ANY_SHARED & ~Cap.XATTR_SHARED
    assert request.releases == (RequestRelease(7, 70, kept, 0, 1, 1, 0),)


def test_a_virtual_one_leaves_xx() -> None:
    world = mounted()
    give(world, told(7, Cap.PIN | Cap.ANY_SHARED | Cap.XATTR_EXCL, xattrs={}))

    put(world, 7, "ceph.file.layout.pool", b"data", replace=True)

    assert last(world).args == SetxattrArgs(2, 0)
    [release] = last(world).releases
    assert release.caps & Cap.XATTR_EXCL


def test_an_attribute_is_taken_away_by_request() -> None:
    world = mounted()
    give(world, told(7, Cap.PIN | Cap.XATTR_SHARED | Cap.XATTR_EXCL, xattrs={"user.a": b""}))

    put(world, 7, "user.a", None)

    request = last(world)
    assert (request.op, request.path2, request.data) == (RequestOp.RMXATTR, FilePath(0, "user.a"), b"")
    assert request.releases == (RequestRelease(7, 70, Cap.PIN, 0, 1, 1, 0),)


def test_what_xx_covers_is_set_or_refused_without_asking() -> None:
    world = mounted()
    give(world, told(7, Cap.PIN | Cap.XATTR_SHARED | Cap.XATTR_EXCL, xattrs={"user.a": b""}))
    before = asked(world)

    assert world.results[put(world, 7, "user.a", b"1")] is None
    error = world.results[put(world, 7, "user.a", b"2", create=True)]

    assert isinstance(error, FileExistsError)
    assert "'/file7'" in str(error)
    assert asked(world) == before


def test_a_directory_whose_quota_is_used_up_takes_no_name_more() -> None:
    world = mounted()
    give(world, told(7, Cap.PIN | Cap.FILE_SHARED, mode=0o040755))
    before = asked(world)
    world.ranks[0].peer.push(ClientQuota(7, 0, 0, 3, 1, Quota(0, 4)))
    world.run()

    error = world.results[world.call(Operation(RequestOp.MKDIR, FilePath(7, "d"), "/dir7/d", MkdirArgs(0o040755)))]

    assert (error.errno, error.filename) == (errno.EDQUOT, "/dir7/d")
    assert asked(world) == before


def test_a_file_in_it_does_not_grow() -> None:
    world = mounted()
    give(world, told(7, Cap.PIN | Cap.FILE_SHARED, mode=0o040755, quota=Quota(1000, 0), rbytes=900))
    give(world, told(8, Cap.PIN | Cap.FILE_SHARED | Cap.FILE_EXCL, size=400))
    world.core.mds.engine.cache.inodes[8].parent = 7

    error = world.results[world.call(SetAttributes(8, "/file8", Change(1, size=501)))]
    assert error.errno == errno.EDQUOT
    assert world.results[world.call(SetAttributes(8, "/file8", Change(1, size=500)))] is None


def test_a_rank_that_becomes_read_only_is_asked_for_each_change_and_refuses_it() -> None:
    world = mounted()
    give(world, told(7, Cap.ALL_FILE, xattrs={}))

    world.ranks[0].peer.say(SessionOp.FORCE_RO)
    world.run()

    assert world.session.read_only
    assert world.session.state == "open"
    peer = str(world.ranks[0].addr)
    assert world.happened("session.forced_read_only") == [{"rank": 0, "peer": peer}]
    put(world, 7, "user.a", b"1")
    assert last(world).op == RequestOp.SETXATTR
    world.call(SetAttributes(7, "/file7", Change(1, mode=0o600)))
    assert last(world).op == RequestOp.SETATTR
