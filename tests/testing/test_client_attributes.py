"""Attributes, extended attributes and quotas, as a second client sees them."""

from __future__ import annotations

import errno
import stat

import pytest

from cephcaps import Client
from tests.live.waiting import until

T1, T2 = 1_600_000_000_123_456_789, 1_700_000_000_987_654_321


async def make(client: Client, path: str) -> None:
    async with client.open(path, "x"):
        pass


async def test_every_attribute_that_is_set_is_seen(client: Client, other: Client) -> None:
    await make(client, "/f")
    before = await other.stat("/f")
    await client.chmod("/f", 0o604)
    await client.chown("/f", 7, 8)
    await client.utime("/f", (T1, T2))
    seen = await other.stat("/f")
    assert (stat.S_IMODE(seen.mode), seen.uid, seen.gid, seen.atime, seen.mtime) == (0o604, 7, 8, T1, T2)
    assert seen.change_attr > before.change_attr
    assert seen.btime == before.btime
    await other.setattr("/f", mode=0o640, uid=9, gid=10, size=4096, atime=T2, mtime=T1)
    seen = await client.stat("/f")
    assert (stat.S_IMODE(seen.mode), seen.uid, seen.gid, seen.size) == (0o640, 9, 10, 4096)
    assert (seen.atime, seen.mtime) == (T2, T1)
    await client.chown("/f", -1, 11)
    seen = await other.stat("/f")
    assert (seen.uid, seen.gid) == (9, 11)


async def test_a_file_grows_and_is_cut(client: Client, other: Client) -> None:
    await make(client, "/f")
    await client.truncate("/f", 10_000)
    assert (await other.stat("/f")).size == 10_000
    cuts = (await other.stat("/f")).truncate_seq
    await other.truncate("/f", 5)
    seen = await client.stat("/f")
    assert (seen.size, seen.truncate_seq) == (5, cuts + 1)


async def test_attributes_of_directories_and_symlinks(client: Client, other: Client) -> None:
    await client.mkdir("/d")
    await client.setattr("/d", mode=0o1777, uid=5, mtime=T1)
    seen = await other.stat("/d")
    assert (stat.S_IMODE(seen.mode), seen.uid, seen.mtime) == (0o1777, 5, T1)
    await client.symlink("/d", "/l")
    await client.chown("/l", 1, 2, follow_symlinks=False)
    assert (await other.stat("/l", follow_symlinks=False)).uid == 1
    assert (await other.stat("/d")).uid == 5


async def test_times_and_numbers_that_fit_no_message_are_refused_here(client: Client) -> None:
    await make(client, "/f")
    with pytest.raises(ValueError, match="1970"):
        await client.utime("/f", (-1, 0))
    with pytest.raises(ValueError, match="32 bits"):
        await client.chown("/f", 2**32, 0)


async def test_a_change_under_exclusive_caps_stays_here_until_asked_for(client: Client, other: Client) -> None:
    async with client.open("/f", "x") as file:
        await file.setattr(mode=0o600, mtime=T1)
        caps = client.inode_caps("/f")
        assert caps is not None
        assert {"Ax", "Fx"} <= {str(bit)[-2:] for bit in (caps.dirty & "Ax", caps.dirty & "Fx")}
        seen = await other.stat("/f")
        assert (stat.S_IMODE(seen.mode), seen.mtime) == (0o600, T1)
        caps = client.inode_caps("/f")
        assert caps is not None
        assert not caps.dirty
        assert not caps.flushing


async def test_extended_attributes_of_every_namespace(client: Client, other: Client) -> None:
    await make(client, "/f")
    for name, value in (("user.a", b"\0bytes\xff"), ("trusted.b", b""), ("security.c", b"x" * 4000)):
        await client.setxattr("/f", name, value)
        assert await other.getxattr("/f", name) == value
    assert sorted(await other.listxattr("/f")) == ["security.c", "trusted.b", "user.a"]
    with pytest.raises(FileExistsError):
        await other.setxattr("/f", "user.a", b"", create=True)
    with pytest.raises(OSError) as missing:
        await other.setxattr("/f", "user.z", b"", replace=True)
    assert missing.value.errno == errno.ENODATA
    await other.setxattr("/f", "user.a", b"new", replace=True)
    assert await client.getxattr("/f", "user.a") == b"new"
    await other.removexattr("/f", "trusted.b")
    assert sorted(await client.listxattr("/f")) == ["security.c", "user.a"]
    with pytest.raises(OSError) as unknown:
        await client.setxattr("/f", "nonsense.a", b"")
    assert unknown.value.errno == errno.EOPNOTSUPP


async def test_virtual_attributes_tell_of_the_tree_below(client: Client, other: Client) -> None:
    await client.makedirs("/d/e")
    await make(client, "/d/f")
    await client.truncate("/d/f", 1234)
    await client.sync()
    assert await other.getxattr("/d", "ceph.dir.entries") == b"2"
    assert await other.getxattr("/d", "ceph.dir.subdirs") == b"1"
    assert await other.getxattr("/d", "ceph.dir.rfiles") == b"1"
    assert await other.getxattr("/d", "ceph.dir.rbytes") == b"1234"
    assert b"pool=" in await other.getxattr("/d/f", "ceph.file.layout")


async def test_a_quota_holds_for_whoever_works_below_it(client: Client, other: Client) -> None:
    await client.mkdir("/q")
    await client.setxattr("/q", "ceph.quota.max_files", b"3")
    assert await other.getxattr("/q", "ceph.quota.max_files") == b"3"
    await client.setxattr("/q", "ceph.quota.max_bytes", b"1000")
    await until(lambda: _refused(other, "/q/f", 1001), "growth over the quota is refused", within=5)
    await other.setxattr("/q", "ceph.quota.max_bytes", b"0")


async def _refused(client: Client, path: str, size: int) -> bool:
    if not await client.exists(path):
        await make(client, path)
    try:
        await client.truncate(path, size)
    except OSError as error:
        return error.errno == errno.EDQUOT
    return False
