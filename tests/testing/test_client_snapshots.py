"""Snapshots: taken, read, changed against, and removed."""

from __future__ import annotations

import errno

import pytest

from cephcaps import Client


async def test_snapshots_keep_what_was_flushed_after_them(client: Client, other: Client) -> None:
    await client.mkdir("/d")
    async with client.open("/d/f", "x") as file:
        await file.setattr(mtime=10**18)  # under Fx, not flushed
        await other.mksnap("/d", "s")
        await file.setattr(mtime=2 * 10**18)
        await client.sync()
        assert (await other.stat("/d/.snap/s/f")).mtime == 10**18
        assert (await other.stat("/d/f")).mtime == 2 * 10**18
        assert [snapshot.name for snapshot in await client.lssnap("/d")] == ["s"]
        await client.rmsnap("/d", "s")
        assert await other.lssnap("/d") == []


async def test_what_is_removed_stays_in_the_snapshot(client: Client, other: Client) -> None:
    await client.makedirs("/d/e")
    async with client.open("/d/e/f", "x"):
        pass
    await client.symlink("f", "/d/e/l")
    await client.setxattr("/d/e/f", "user.a", b"old")
    first = await client.mksnap("/d", "first", metadata={"why": "to see"})
    await other.setxattr("/d/e/f", "user.a", b"new")
    for path in ("/d/e/f", "/d/e/l"):
        await other.unlink(path)
    await other.rmdir("/d/e")
    assert sorted(await client.listdir("/d/.snap/first/e")) == ["f", "l"]
    assert await client.readlink("/d/.snap/first/e/l") == "f"
    assert await client.getxattr("/d/.snap/first/e/f", "user.a") == b"old"
    assert await client.listdir("/d") == []
    (snapshot,) = await other.lssnap("/d")
    assert (snapshot.snapid, snapshot.metadata) == (first, {"why": "to see"})


async def test_snapshots_of_directories_above_are_listed_below(client: Client, other: Client) -> None:
    await client.makedirs("/a/b")
    ino = (await client.stat("/a")).ino
    outer = await client.mksnap("/a", "outer")
    inner = await other.mksnap("/a/b", "inner")
    assert inner > outer
    assert [each.name for each in await other.lssnap("/a/b")] == [f"_outer_{ino}", "inner"]
    await client.rename("/a/.snap/outer", "/a/.snap/renamed")
    assert [each.name for each in await other.lssnap("/a")] == ["renamed"]


async def test_a_snapshot_is_not_to_be_changed(client: Client) -> None:
    await client.makedirs("/d/e")
    await client.mksnap("/d", "s")
    for refused in (client.mkdir("/d/.snap/s/x"), client.rmdir("/d/.snap/s/e"), client.chmod("/d/.snap/s/e", 0)):
        with pytest.raises(OSError) as error:
            await refused
        assert error.value.errno == errno.EROFS
    with pytest.raises(FileExistsError):
        await client.mksnap("/d", "s")
    with pytest.raises(OSError):
        await client.mksnap("/d", "_s")
    with pytest.raises(FileNotFoundError):
        await client.rmsnap("/d", "none")
