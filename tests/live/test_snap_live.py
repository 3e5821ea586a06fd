"""Snapshots: taken here or there both clients see the same, and what is in them stays as it was."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cephcaps import Client, Snapshot, connect

from .agreement import agrees_at_rest, mounted
from .cluster import LiveCluster
from .libcephfs import AT_SYMLINK_NOFOLLOW
from .snapshots import context_of, same, tree
from .waiting import until


@pytest.fixture
async def client(conf: Path) -> AsyncIterator[Client]:
    async with connect(conf) as connected:
        yield connected
        assert connected.metrics.late == ()


@pytest.fixture
async def peer(cluster: LiveCluster) -> AsyncIterator[Any]:
    """libcephfs, its calls as coroutines: our client answers meanwhile."""
    async with mounted(cluster) as libcephfs:
        yield libcephfs.aio


# The calls


async def test_snapshots_taken_here_and_there_are_seen_renamed_and_removed_by_both(client: Client, peer: Any) -> None:
    async with tree(client, "/snap-both"):
        await client.mkdir("/snap-both/sub")
        ours = await client.mksnap("/snap-both", "ours", metadata={"why": "a test"})
        await peer.mkdir("/snap-both/.snap/theirs")
        assert sorted(await peer.listdir("/snap-both/.snap")) == ["ours", "theirs"]
        assert await client.listdir("/snap-both/.snap") == await peer.listdir("/snap-both/.snap")
        assert (await peer.statx("/snap-both/.snap/ours")).dev == ours
        first, second = await client.lssnap("/snap-both")
        stamp = (await peer.getxattr("/snap-both/.snap/ours", "ceph.snap.btime")).decode()
        seconds, _, fraction = stamp.partition(".")
        assert first == Snapshot("ours", ours, int(seconds) * 10**9 + int(fraction), {"why": "a test"})
        assert (second.name, second.metadata) == ("theirs", {})
        assert second.snapid > ours

        inherited = await client.lssnap("/snap-both/sub")
        assert [s.snapid for s in inherited] == [first.snapid, second.snapid]
        assert [s.name for s in inherited] == sorted(await peer.listdir("/snap-both/sub/.snap"))

        await client.rename("/snap-both/.snap/theirs", "/snap-both/.snap/hers")
        await peer.rename("/snap-both/.snap/ours", "/snap-both/.snap/his")
        assert sorted(await peer.listdir("/snap-both/.snap")) == ["hers", "his"]
        assert {s.name: s.snapid for s in await client.lssnap("/snap-both")} == {
            "his": ours,
            "hers": second.snapid,
        }

        await client.rmsnap("/snap-both", "hers")
        await peer.rmdir("/snap-both/.snap/his")
        assert await client.lssnap("/snap-both") == []
        assert await peer.listdir("/snap-both/.snap") == []


async def test_directories_made_and_removed_in_dot_snap_are_snapshots(client: Client, peer: Any) -> None:
    async with tree(client, "/snap-mkdir"):
        await client.mkdir("/snap-mkdir/.snap/a")
        assert await peer.listdir("/snap-mkdir/.snap") == ["a"]
        await client.rmdir("/snap-mkdir/.snap/a")
        assert await peer.listdir("/snap-mkdir/.snap") == []


async def test_the_snapshot_directory_goes_by_the_name_the_option_gives(conf: Path, client: Client) -> None:
    async with tree(client, "/snap-name"), connect(conf, options={"client_snapdir": ".s"}) as other:
        await other.mksnap("/snap-name", "a")
        assert await other.listdir("/snap-name/.s") == ["a"]
        assert not await other.exists("/snap-name/.snap")


async def test_what_is_in_a_snapshot_stays_as_it_was_and_libcephfs_sees_the_same(client: Client, peer: Any) -> None:
    async with tree(client, "/snap-in"):
        await client.makedirs("/snap-in/d/e")
        for path, size in (("/snap-in/f", 10), ("/snap-in/d/g", 20), ("/snap-in/d/e/h", 30)):
            async with client.open(path, "x") as file:
                await file.setattr(size=size)
        await client.symlink("d/g", "/snap-in/near")
        await client.symlink("../f", "/snap-in/d/up")
        await client.symlink("/snap-in/f", "/snap-in/far")
        await client.mksnap("/snap-in", "then")
        then = {path: await client.stat(f"/snap-in/{path}") for path in ("f", "d/g", "d", "d/e", "d/e/h")}

        await client.truncate("/snap-in/f", 1)
        await client.chmod("/snap-in/d/g", 0o600)
        await client.unlink("/snap-in/d/e/h")
        await client.rename("/snap-in/d", "/snap-in/now")
        async with client.open("/snap-in/new", "x"):
            pass

        at = "/snap-in/.snap/then"
        for path, before in then.items():
            seen = await client.stat(f"{at}/{path}")
            names = ("ino", "mode", "mtime", "nlink") if seen.is_dir else ("ino", "mode", "mtime", "nlink", "size")
            assert [getattr(seen, name) for name in names] == [getattr(before, name) for name in names]
            assert not seen.caps
        for path in ("", "/.", "/f", "/d", "/d/", "/d/g", "/d/e/h", "/near", "/far", "/d/up", "/d/../f", "/d/e/.."):
            assert same(await client.stat(at + path), await peer.statx(at + path)), path
        for path in ("/near", "/far", "/d/up"):
            assert await client.readlink(at + path) == await peer.readlink(at + path)
            ours = await client.stat(at + path, follow_symlinks=False)
            assert same(ours, await peer.statx(at + path, flags=AT_SYMLINK_NOFOLLOW)), path
        for path in ("", "/d", "/d/e"):
            assert await client.listdir(at + path) == await peer.listdir(at + path)
        async for entry in client.scandir(f"{at}/d"):
            assert same(entry.stat, await peer.statx(f"{at}/d/{entry.name}", flags=AT_SYMLINK_NOFOLLOW)), entry.name
        # libcephfs gives the ctime of when it first looked.
        assert same(await client.stat("/snap-in/.snap"), await peer.statx("/snap-in/.snap"), but="ctime")
        assert same(await client.stat("/snap-in/now/.snap/.."), await peer.statx("/snap-in/now"))
        assert not await client.exists(f"{at}/new")
        assert (await client.stat("/snap-in/f")).size == 1


async def test_what_is_in_a_snapshot_is_never_cached(client: Client) -> None:
    async with tree(client, "/snap-cache"):
        async with client.open("/snap-cache/f", "x") as file:
            await file.setattr(size=10)
            await client.mksnap("/snap-cache", "a")
            held = client.inode_caps(file.ino)
            await client.stat("/snap-cache/.snap/a/f")
            await client.listdir("/snap-cache/.snap/a")
            await client.listdir("/snap-cache/.snap")
            assert client.inode_caps(file.ino) == held
            await file.setattr(size=50)
            assert (await client.stat("/snap-cache/.snap/a/f")).size == 10
            assert (await client.stat("/snap-cache/f")).size == 50
        await client.rmsnap("/snap-cache", "a")
        assert not await client.exists("/snap-cache/.snap/a/f")


REFUSED: dict[str, tuple[str, tuple[Any, ...], int]] = {
    "making .snap": ("mkdir", ("{}/.snap",), errno.EEXIST),
    "linking .snap": ("symlink", ("a", "{}/.snap"), errno.EEXIST),
    "removing .snap": ("rmdir", ("{}/.snap",), errno.ENOENT),
    "unlinking .snap": ("unlink", ("{}/.snap",), errno.ENOENT),
    "renaming .snap": ("rename", ("{}/.snap", "{}/x"), errno.ENOENT),
    "a name with _": ("mkdir", ("{}/.snap/_a",), errno.EINVAL),
    "one that is there": ("mkdir", ("{}/.snap/s",), errno.EEXIST),
    "one not there": ("rmdir", ("{}/.snap/none",), errno.ENOENT),
    "in no directory": ("mkdir", ("{}/none/.snap/a",), errno.ENOENT),
    "in a file": ("mkdir", ("{}/f/.snap/a",), errno.ENOTDIR),
    ".snap in a snapshot": ("mkdir", ("{}/.snap/s/.snap/a",), errno.ENOENT),
    "mkdir": ("mkdir", ("{}/.snap/s/a",), errno.EROFS),
    "rmdir": ("rmdir", ("{}/.snap/s/d",), errno.EROFS),
    "unlink": ("unlink", ("{}/.snap/s/f",), errno.EROFS),
    "unlink a snapshot": ("unlink", ("{}/.snap/s",), errno.EROFS),
    "symlink": ("symlink", ("a", "{}/.snap/s/a"), errno.EROFS),
    "symlink beside a snapshot": ("symlink", ("a", "{}/.snap/a"), errno.EROFS),
    "link from": ("link", ("{}/.snap/s/f", "{}/a"), errno.EROFS),
    "link to": ("link", ("{}/f", "{}/.snap/s/a"), errno.EROFS),
    "rename within": ("rename", ("{}/.snap/s/f", "{}/.snap/s/a"), errno.EROFS),
    "rename out": ("rename", ("{}/.snap/s/f", "{}/a"), errno.EXDEV),
    "rename in": ("rename", ("{}/f", "{}/.snap/s/a"), errno.EXDEV),
    "rename a snapshot to elsewhere": ("rename", ("{}/.snap/s", "{}/d/.snap/s"), errno.EROFS),
    "rename across snapshots": ("rename", ("{}/.snap/s/f", "{}/.snap/t/f"), errno.EXDEV),
    "rename a snapshot to nowhere": ("rename", ("{}/.snap/s", "{}/s"), errno.EXDEV),
    "rename to what is there": ("rename", ("{}/.snap/s", "{}/.snap/t"), errno.EEXIST),
    "chmod": ("chmod", ("{}/.snap/s/f", 0o600), errno.EROFS),
    "chmod .snap": ("chmod", ("{}/.snap", 0o700), errno.EROFS),
    "truncate": ("truncate", ("{}/.snap/s/f", 0), errno.EROFS),
    "readlink": ("readlink", ("{}/.snap",), errno.EINVAL),
    "list a file": ("listdir", ("{}/.snap/s/f",), errno.ENOTDIR),
    "list what is not there": ("listdir", ("{}/.snap/none",), errno.ENOENT),
}


OWN = (
    "making .snap",
    "linking .snap",
    "removing .snap",
    "unlinking .snap",
    "renaming .snap",
    "in a file",
    "one not there",
)
"""Where libcephfs makes a file nobody sees, looks at the permission to search a file, or (Pacific's, once it has failed
to remove a snapshot) does not come to an end."""


async def test_what_cannot_be_done_is_refused_as_libcephfs_refuses_it(
    cluster: LiveCluster, client: Client, peer: Any
) -> None:
    async with tree(client, "/snap-no"):
        await client.mkdir("/snap-no/d")
        async with client.open("/snap-no/f", "x"):
            pass
        await client.mksnap("/snap-no", "s")
        await client.mksnap("/snap-no", "t")
        said = {}
        for name, (op, args, _) in REFUSED.items():
            words = [arg.format("/snap-no") if isinstance(arg, str) else arg for arg in args]
            ours = await error_of(getattr(client, op), words)
            said[name] = ours, ours if name in OWN else await error_of(getattr(peer, op), words)
        assert said == {name: (code, code) for name, (*_, code) in REFUSED.items()}
        for path, how, flags in (
            ("/snap-no/.snap/s/f", "r+", os.O_RDWR),
            ("/snap-no/.snap/s/f", "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ("/snap-no/.snap/s/new", "w", os.O_WRONLY | os.O_CREAT),
            ("/snap-no/.snap/s/new", "x", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
            ("/snap-no/.snap/new", "a", os.O_WRONLY | os.O_CREAT),
        ):
            assert await error_of(opening, [client, path, how]) == errno.EROFS
            assert await error_of(peer.open, [path, flags]) == errno.EROFS
        assert await error_of(opening, [client, "/snap-no/.snap/s/f", "r"]) == errno.EOPNOTSUPP
        assert await error_of(opening, [client, "/snap-no/.snap/s/none", "r"]) == errno.ENOENT
        with pytest.raises(ValueError, match="no name for a snapshot"):
            await client.mksnap("/snap-no", "a/b")
        await agrees_at_rest(cluster, client)


async def error_of(call: Callable[..., Any], args: list[Any]) -> int:
    try:
        await call(*args)
    except OSError as error:
        return error.errno or -1
    return 0


async def opening(client: Client, path: str, how: str) -> None:
    async with client.open(path, how):
        pass


# Contexts


class Contexts:
    """The snap contexts of a few paths, as three see them: a client that was told of every change, one that asks
    afresh, and libcephfs, which lists what a directory is in."""

    def __init__(self, cluster: LiveCluster, client: Client, peer: Any) -> None:
        self.cluster = cluster
        self.client = client
        self.peer = peer

    async def agree(self, *paths: str) -> dict[str, list[int]]:
        """Wait until they say the same of ``paths``, which the client holds caps on; gives the snapids."""
        told = ""

        async def look() -> dict[str, list[int]]:
            nonlocal told
            async with connect(self.cluster.conf) as fresh:
                stats = {path: await fresh.stat(path) for path in paths}
                asked = {path: context_of(fresh, stat.ino) for path, stat in stats.items()}
            known = {path: context_of(self.client, stat.ino) for path, stat in stats.items()}
            listed = {path: await self._listed(path) for path, stat in stats.items() if stat.is_dir}
            existing = await self._existing()
            kept = {path: sorted(set(context.snaps) & existing) for path, context in known.items()}
            told = f"we know {known}, the MDS says {asked}, libcephfs lists {listed}"
            return kept if known == asked and listed == {path: kept[path] for path in listed} else {}

        try:
            return await until(look, "all agree", within=5.0)
        except TimeoutError:
            raise TimeoutError(f"no agreement on contexts: {told}") from None

    async def _listed(self, path: str) -> list[int]:
        names = await self.peer.listdir(f"{path}/.snap")
        return sorted([(await self.peer.statx(f"{path}/.snap/{name}")).dev for name in names])

    async def _existing(self) -> set[int]:
        """What was removed may still be named in what a realm inherited."""
        table = await self.cluster.aio.mds_admin("dump snaps")
        return {snap["snapid"] for snap in table["snaps"]}


@pytest.fixture
def contexts(cluster: LiveCluster, client: Client, peer: Any) -> Contexts:
    return Contexts(cluster, client, peer)


async def test_snapshots_of_parents_and_children_are_in_the_contexts_of_what_lies_below(
    client: Client, peer: Any, contexts: Contexts
) -> None:
    top = "/snap-nested"
    async with tree(client, top):
        await client.makedirs(f"{top}/a/b")
        await client.mkdir(f"{top}/x")
        async with client.open(f"{top}/a/b/f", "x"), client.open(f"{top}/a/g", "x"):
            paths = top, f"{top}/a", f"{top}/a/b", f"{top}/a/b/f", f"{top}/a/g", f"{top}/x"
            one = await client.mksnap(f"{top}/a", "one")
            seen = await contexts.agree(*paths)
            assert seen == dict(zip(paths, [[], [one], [one], [one], [one], []], strict=True))
            await peer.mkdir(f"{top}/a/b/.snap/two")
            await peer.mkdir(f"{top}/.snap/three")
            seen = await contexts.agree(*paths)
            [three] = seen[top]
            two = next(snap for snap in seen[f"{top}/a/b"] if snap not in (one, three))
            below = [one, two, three]
            assert seen == dict(zip(paths, [[three], [one, three], below, below, [one, three], [three]], strict=True))
            await peer.rmdir(f"{top}/a/.snap/one")
            await client.rmsnap(top, "three")
            seen = await contexts.agree(*paths)
            assert seen == dict(zip(paths, [[], [], [two], [two], [], []], strict=True))


async def test_what_moves_to_another_realm_keeps_its_snapshots_and_gets_those_taken_there_from_then_on(
    client: Client, peer: Any, contexts: Contexts
) -> None:
    top = "/snap-move"
    async with tree(client, top):
        await client.makedirs(f"{top}/a/d")
        await client.mkdir(f"{top}/x")
        async with client.open(f"{top}/a/f", "x"), client.open(f"{top}/a/d/g", "x"), client.open(f"{top}/a/h", "x"):
            one = await client.mksnap(f"{top}/a", "one")
            await client.mksnap(f"{top}/x", "before")
            await client.rename(f"{top}/a/f", f"{top}/x/f")
            await client.sync()  # the MDS tells once it is durable
            await peer.rename(f"{top}/a/d", f"{top}/x/d")
            await peer.sync_fs()
            for path in ("x/f", "x/d", "x/d/g"):
                await client.stat(f"{top}/{path}")
            after = await client.mksnap(f"{top}/x", "after")
            late = await client.mksnap(f"{top}/a", "late")
            seen = await contexts.agree(f"{top}/x/f", f"{top}/x/d/g", f"{top}/a/h", f"{top}/a", f"{top}/x/d")
            assert seen[f"{top}/x/f"] == seen[f"{top}/x/d/g"] == seen[f"{top}/x/d"] == [one, after]
            assert seen[f"{top}/a/h"] == seen[f"{top}/a"] == [one, late]


async def test_a_realm_that_moves_takes_its_snapshots_and_those_of_before_along(
    client: Client, peer: Any, contexts: Contexts
) -> None:
    top = "/snap-whole"
    async with tree(client, top):
        await client.makedirs(f"{top}/a/d/e")
        await client.mkdir(f"{top}/x")
        async with client.open(f"{top}/a/d/f", "x"):
            one = await client.mksnap(f"{top}/a", "one")
            two = await client.mksnap(f"{top}/a/d", "two")
            await client.mksnap(f"{top}/x", "before")
            await client.rename(f"{top}/a/d", f"{top}/x/d")
            await client.sync()
            # The MDS pushes nothing when a realm moves as a whole: the next answer about it tells.
            client.release(f"{top}/x/d/e")
            await client.stat(f"{top}/x/d/e")
            seen = await contexts.agree(f"{top}/x/d", f"{top}/x/d/f")
            assert seen == {f"{top}/x/d": [one, two], f"{top}/x/d/f": [one, two]}
            three = await client.mksnap(f"{top}/x", "three")
            seen = await contexts.agree(f"{top}/x/d", f"{top}/x/d/f")
            assert seen == {f"{top}/x/d": [one, two, three], f"{top}/x/d/f": [one, two, three]}


async def test_a_file_with_two_names_is_in_every_snapshot_taken_since(client: Client, contexts: Contexts) -> None:
    top = "/snap-link"
    async with tree(client, top):
        await client.mkdir(f"{top}/a")
        await client.mkdir(f"{top}/x")
        await client.mkdir(f"{top}/y")
        async with client.open(f"{top}/a/f", "x"):
            one = await client.mksnap(f"{top}/a", "one")
            await client.mksnap(f"{top}/x", "before")
            await client.link(f"{top}/a/f", f"{top}/x/f")
            await client.sync()
            taken = [await client.mksnap(f"{top}/{name}", "after") for name in ("a", "x", "y")]
            seen = await contexts.agree(f"{top}/x/f")
            assert seen == {f"{top}/x/f": [one, *taken]}


@pytest.mark.soak
async def test_contexts_agree_where_two_ranks_share_the_tree(new_cluster: Callable[..., LiveCluster]) -> None:
    cluster = await asyncio.to_thread(new_cluster, mds=2)
    await cluster.aio.ceph("fs", "set", cluster.fs_name, "max_mds", 2)
    await cluster.aio.wait_for_active(1)
    async with mounted(cluster) as libcephfs, connect(cluster.conf) as client:
        peer = libcephfs.aio
        contexts = Contexts(cluster, client, peer)
        await client.makedirs("/a/there/sub")
        await client.makedirs("/a/here")
        await peer.setxattr("/a/there", "ceph.dir.pin", b"1")

        async def pinned() -> bool:
            ino = (await client.stat("/a/there")).ino
            return await cluster.aio.dump_inode(ino, rank=1) is not None

        await until(pinned, "rank 1 has its part", within=20.0)
        async with client.open("/a/there/sub/f", "x") as far, client.open("/a/here/g", "x") as near:
            paths = "/a", "/a/there", "/a/there/sub", "/a/there/sub/f", "/a/here", "/a/here/g"
            assert client.engine.cache.inodes[far.ino].auth_rank == 1
            assert client.engine.cache.inodes[near.ino].auth_rank == 0
            await peer.mkdir("/a/.snap/one")
            await client.mksnap("/a/there/sub", "two")
            await far.setattr(size=10)
            await near.setattr(size=20)
            await peer.mkdir("/a/.snap/three")
            seen = await contexts.agree(*paths)
            assert [len(seen[path]) for path in paths] == [2, 2, 3, 3, 2, 2]
            assert (await peer.statx("/a/.snap/three/there/sub/f")).size == 10
            assert (await peer.statx("/a/.snap/three/here/g")).size == 20
            await client.rename("/a/there/sub/f", "/a/here/f")  # from rank 1 to rank 0
            await client.sync()
            await client.stat("/a/here/f")
            await client.mksnap("/a/here", "four")
            seen = await contexts.agree("/a/here/f", "/a/here/g", "/a/there/sub")
            assert [len(seen[path]) for path in seen] == [4, 3, 3]
