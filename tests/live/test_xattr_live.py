"""Extended attributes between us and libcephfs: what one sets the other reads, and virtual ones read alike."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps import Client, connect
from cephcaps.engine.xattrs import limit_of
from cephcaps.events import CapEvent, CapFlushed, CapFlushing, CapRevokeAcked, CapRevoking
from cephwire.capbits import Cap
from cephwire.request import ClientRequest
from cephwire.requestop import RequestOp

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .holding import Sent, agree
from .libcephfs import LibcephfsPeer

ROUNDS = 100
LAYOUT = tuple(
    f"ceph.{kind}.layout{part}"
    for kind in ("dir", "file")
    for part in (
        "", ".json", ".stripe_unit", ".stripe_count", ".object_size", ".pool", ".pool_name", ".pool_id",
        ".pool_namespace",
    )
)  # fmt: skip
RECURSIVE = tuple(f"ceph.dir.r{what}" for what in ("entries", "files", "subdirs", "snaps", "bytes", "ctime"))
VIRTUAL = (
    *LAYOUT,
    *RECURSIVE,
    "ceph.dir.entries", "ceph.dir.files", "ceph.dir.subdirs",
    "ceph.quota", "ceph.quota.max_bytes", "ceph.quota.max_files",
    "ceph.dir.pin", "ceph.dir.pin.random", "ceph.dir.pin.distributed", "ceph.dir.subvolume", "ceph.quiesce.block",
    "ceph.dir.charmap", "ceph.dir.casesensitive", "ceph.dir.normalization", "ceph.dir.encoding",
    "ceph.snap.btime", "ceph.mirror.info", "ceph.mirror.info.fs_id", "ceph.mirror.dirty_snap_id",
    "ceph.fscrypt.auth", "ceph.fscrypt.file", "ceph.cluster_fsid", "ceph.none",
    "user.none", "trusted.none", "security.none", "system.none", "none",
)  # fmt: skip


@pytest.fixture
def peer(cluster: LiveCluster) -> Iterator[LibcephfsPeer]:
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call gives, or the name of the errno with which it fails."""
    try:
        return await call
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def sent_for_xattrs(sent: Sent, client: Client) -> list[int]:
    """The requests about extended attributes that have left."""
    about = (RequestOp.SETXATTR, RequestOp.RMXATTR)
    return [request.op for request in sent.by(client, ClientRequest) if request.op in about]


async def test_what_is_set_here_is_flushed_when_libcephfs_asks_for_it(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with connect(conf) as client, client.open("/xattr", "x") as file:
        await client.sync()
        for number, value in enumerate((b"first", bytes(range(256)), b"\0" * 40_000)):
            before = (await client.stat("/xattr")).xattr_version
            with client.events(ino=file.ino) as events:
                await client.setxattr("/xattr", f"user.{number}", value)
                held = client.inode_caps(file.ino)
                assert held is not None
                assert str(held.dirty) == "Xx"
                assert await client.getxattr("/xattr", f"user.{number}") == value
                assert await peer.aio.getxattr("/xattr", f"user.{number}") == value
                dump = await agree(cluster, client, file.ino)
                story = [type(event) for event in events.drain() if isinstance(event, CapEvent)]
            assert dump["xattr_version"] == (await client.stat("/xattr")).xattr_version == before + 1
            kinds = (CapRevoking, CapFlushing, CapRevokeAcked, CapFlushed)
            assert [kind for kind in dict.fromkeys(story) if kind in kinds] == list(kinds)
        assert await peer.aio.listxattr("/xattr") == await client.listxattr("/xattr")
        assert sent_for_xattrs(sent, client) == []


async def test_a_hundred_random_changes_from_both_sides_are_read_alike_by_both(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    rng = random.Random(5)
    truth: dict[str, bytes] = {}
    locally = 0
    # No value is empty: a Pacific MDS does not survive `dump inode` of an inode that has such a one.
    async with connect(conf) as client:
        async with client.open("/random", "x") as file:
            for number in range(ROUNDS):
                name = f"{rng.choice(('user', 'trusted', 'security'))}.{rng.choice('abcdé')}"
                value = rng.randbytes(rng.choice((1, 10, 1000, 8000)))
                kind = rng.choice(("set", "set", "create", "replace", "remove"))
                flags = {"create": os.XATTR_CREATE, "replace": os.XATTR_REPLACE}.get(kind, 0)
                if rng.random() < 0.6:
                    await agree(cluster, client, file.ino)  # so that Xx has come back
                    if kind == "remove":
                        done = outcome(client.removexattr("/random", name))
                    else:
                        how = {kind: True} if flags else {}
                        done = outcome(client.setxattr("/random", name, value, **how))
                elif kind == "remove":
                    done = outcome(peer.aio.removexattr("/random", name))
                else:
                    done = outcome(peer.aio.setxattr("/random", name, value, flags))
                expected = None
                if name in truth and kind == "create":
                    expected = "EEXIST"
                elif name not in truth and kind in ("remove", "replace"):
                    expected = "ENODATA"
                elif kind == "remove":
                    del truth[name]
                else:
                    truth[name] = value
                assert await done == expected, (number, kind, name)
                held = client.inode_caps(file.ino)
                assert held is not None
                locally += int(held.dirty) == Cap.XATTR_EXCL
                if rng.random() < 0.3:
                    await file.fsync()
                for each in truth if number % 10 == 0 else truth.keys() & {name}:
                    assert await client.getxattr("/random", each) == truth[each], number
                    assert await peer.aio.getxattr("/random", each) == truth[each], number
                assert await client.listxattr("/random") == sorted(truth, key=os.fsencode)
                assert await peer.aio.listxattr("/random") == sorted(truth, key=os.fsencode)
        await agrees_at_rest(cluster, client)
    print(f"{locally} of {ROUNDS} changes were made under Xx")
    assert locally > ROUNDS // 10


async def test_what_is_taken_away_is_gone_for_all_although_another_was_set_here_before(
    conf: Path, peer: LibcephfsPeer
) -> None:
    async with connect(conf) as client, client.open("/taken", "x") as file:
        await client.sync()
        await client.setxattr("/taken", "user.a", b"1")
        await client.setxattr("/taken", "user.b", b"1")
        await file.fsync()
        await client.setxattr("/taken", "user.c", b"1")
        await client.removexattr("/taken", "user.a")
        assert await peer.aio.listxattr("/taken") == await client.listxattr("/taken") == ["user.b", "user.c"]
        await client.setxattr("/taken", "user.empty", b"")
        assert await peer.aio.getxattr("/taken", "user.empty") == await client.getxattr("/taken", "user.empty") == b""
        await client.removexattr("/taken", "user.empty")
        await client.removexattr("/taken", "user.b")
        await client.removexattr("/taken", "user.c")
        assert await peer.aio.listxattr("/taken") == await client.listxattr("/taken") == []
        await file.fsync()


async def test_what_is_too_much_for_a_flush_is_left_for_the_mds_to_refuse(
    conf: Path, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    async with connect(conf) as client, client.open("/large", "x") as file:
        await client.sync()
        most = limit_of(client.mds_map) - len("user.large")
        await client.setxattr("/large", "user.large", b"x" * most)
        assert sent_for_xattrs(sent, client) == []
        assert len(await peer.aio.getxattr("/large", "user.large")) == most
        assert await outcome(client.setxattr("/large", "user.more", b"")) == "ENOSPC"
        assert sent_for_xattrs(sent, client) == [RequestOp.SETXATTR]
        assert await client.listxattr("/large") == await peer.aio.listxattr("/large") == ["user.large"]
        await file.fsync()


async def test_where_nothing_covers_it_the_mds_is_asked_and_fsync_waits_for_that(
    conf: Path, peer: LibcephfsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    await peer.aio.mkdir("/asked")
    fds = [await peer.aio.open("/asked/file", os.O_RDWR | os.O_CREAT)]  # both write: nobody has Xx
    async with connect(conf) as client, client.open("/asked/file", "a"):
        await client.setxattr("/asked/file", "user.a", b"1")
        assert sent_for_xattrs(sent, client) == [RequestOp.SETXATTR]
        await client.fsync("/asked/file")
        assert client.metrics.requests == 0
        assert await peer.aio.getxattr("/asked/file", "user.a") == b"1"
        await peer.aio.setxattr("/asked/file", "user.a", b"2")
        assert await client.getxattr("/asked/file", "user.a") == b"2"
    await peer.aio.close_fd(fds[0])


async def test_virtual_attributes_read_as_libcephfs_reads_them(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    paths: tuple[str, ...] = ("/", "/virtual", "/virtual/sub", "/virtual/file", "/virtual/laid", "/virtual/link")
    async with connect(conf) as client:
        await client.makedirs("/virtual/sub")
        for name, value in {
            "ceph.dir.layout.stripe_count": b"2",
            "ceph.dir.layout.pool_namespace": b"ns",
            "ceph.quota.max_files": b"100",
            "ceph.quota.max_bytes": b"1000000",
            "ceph.dir.pin": b"0",
            "ceph.dir.pin.random": b"0.01",
        }.items():
            await client.setxattr("/virtual", name, value)
        await client.sync()  # else the MDS makes others wait until it journals all that, in up to 5 s
        await peer.aio.write_file("/virtual/file", b"hello")
        await client.symlink("file", "/virtual/link")
        async with client.open("/virtual/laid", "x"):
            await client.sync()
            await client.setxattr("/virtual/laid", "ceph.file.layout", b"stripe_unit=65536 object_size=131072")
        if cluster.release.name == "tentacle":
            await client.mkdir("/virtual/sub/folded")
            await client.setxattr("/virtual/sub/folded", "ceph.dir.casesensitive", b"0")
            paths += ("/virtual/sub/folded",)
        await client.mksnap("/virtual", "taken")
        paths += ("/virtual/.snap/taken", "/virtual/.snap/taken/file", "/virtual/.snap/taken/link")
        read = 0
        for path in paths:
            for name in VIRTUAL:
                if name in RECURSIVE and path not in ("/virtual", "/virtual/file", "/virtual/.snap/taken"):
                    continue  # to sum a directory up takes the MDS a while
                ours = await outcome(client.getxattr(path, name, follow_symlinks=False))
                theirs = await outcome(peer.aio.getxattr(path, name))
                if ours != theirs and name in RECURSIVE:  # they lag behind, and may have moved in between
                    ours = await outcome(client.getxattr(path, name, follow_symlinks=False))
                assert ours == theirs, (path, name)
                read += isinstance(ours, bytes)
            assert await client.listxattr(path, follow_symlinks=False) == []
        assert await client.getxattr("/virtual", "ceph.client_id") == f"client{client.global_id}".encode()
        caps = client.inode_caps("/virtual")
        assert caps is not None
        told = await client.getxattr("/virtual", "ceph.caps")
        assert told == f"{caps.issued}/{int(caps.issued):#x}".encode()
        assert await client.getxattr("/virtual/link", "ceph.file.layout.pool_namespace") == b"ns"
        assert await client.getxattr("/virtual/.snap/taken", "ceph.snap.btime")
        assert await outcome(client.setxattr("/virtual/.snap/taken", "user.a", b"")) == "EROFS"
        await client.rmsnap("/virtual", "taken")
        await client.setxattr("/virtual", "ceph.dir.pin", b"-1")
        await client.setxattr("/virtual", "ceph.quota.max_files", b"0")
    print(f"{read} gave something")


async def test_what_cannot_be_set_fails_as_it_fails_for_libcephfs(
    cluster: LiveCluster, conf: Path, peer: LibcephfsPeer
) -> None:
    names = (*VIRTUAL, "ceph.client_id")
    if cluster.release.name == "tentacle":
        names += ("ceph.caps",)
    async with connect(conf) as client:
        for which in ("ours", "theirs"):
            await client.makedirs(f"/refused/{which}")
            async with client.open(f"/refused/{which}/file", "x"):
                pass
        await peer.aio.write_file("/refused/ours/file", b"x")
        await peer.aio.write_file("/refused/theirs/file", b"x")
        for name in names:
            if name.startswith("ceph.fscrypt"):
                continue  # libcephfs sets these by another op
            for tail in ("", "/file"):
                ours = await outcome(client.setxattr(f"/refused/ours{tail}", name, b"1"))
                theirs = await outcome(peer.aio.setxattr(f"/refused/theirs{tail}", name, b"1"))
                assert ours == theirs, f"set {name} on the {tail or 'directory'}"
                ours = await outcome(client.removexattr(f"/refused/ours{tail}", name))
                theirs = await outcome(peer.aio.removexattr(f"/refused/theirs{tail}", name))
                if not (name == "system.none" and cluster.release.name == "pacific"):  # sends it, to no avail
                    assert ours == theirs, f"remove {name} of the {tail or 'directory'}"
        with pytest.raises(OSError, match="range") as caught:
            await client.setxattr("/refused", "user." + "n" * 251, b"")
        assert caught.value.errno == errno.ERANGE
        acl = bytes.fromhex("0200000001000700ffffffff04000500ffffffff20000500ffffffff")
        assert await outcome(client.setxattr("/refused/ours/file", "system.posix_acl_default", acl)) == "EACCES"
        await client.setxattr("/refused/ours/file", "system.posix_acl_access", acl)
        await client.removexattr("/refused/ours/file", "system.posix_acl_access")
        await client.removexattr("/refused/ours/file", "system.posix_acl_access")
