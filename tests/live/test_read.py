"""stat, readlink and listings agree with libcephfs in every field, in every mode."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cephcaps import MdsError, Stat, connect

from .cluster import LiveCluster
from .libcephfs import AT_SYMLINK_NOFOLLOW, LibcephfsPeer, PeerStat
from .waiting import until

ODD_NAMES = (
    "plain",
    "with space",
    "日本語",
    "é",
    "é",
    b"\xff\xfe odd".decode("utf-8", "surrogateescape"),
    "-",
    "…" * 80,
)
BIG = 5_000
MODES = pytest.mark.parametrize("ms_mode", ["crc", "secure"])


@pytest.fixture
def peer(cluster: LiveCluster, tree: str) -> Iterator[LibcephfsPeer]:
    """A client that has nothing cached: its answers are the MDS's."""
    with LibcephfsPeer(cluster) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def tree(cluster: LiveCluster) -> str:
    """A directory of one of each, as a libcephfs that is gone has left it."""
    with LibcephfsPeer(cluster) as maker:
        make_tree(maker, "/read")
    return "/read"


def make_tree(peer: LibcephfsPeer, top: str) -> None:
    peer.mkdir(top, 0o2775)
    for number, name in enumerate(ODD_NAMES):
        peer.write_file(f"{top}/{name}", size=number * 1000, mode=0o600 + number)
        peer.utimes(f"{top}/{name}", atime=10**18 + number, mtime=2 * 10**18 + 123_456_789 * number)
        peer.chown(f"{top}/{name}", 1000 + number, 2000 + number)
    peer.mkdir(f"{top}/dir", 0o700)
    peer.mkdir(f"{top}/dir/sub")
    peer.write_file(f"{top}/dir/sub/file", size=4242)
    peer.symlink("dir/sub", f"{top}/link")
    peer.symlink(f"{top}/link/file", f"{top}/absolute")
    peer.symlink("nowhere", f"{top}/dangling")
    peer.symlink("loop", f"{top}/loop")
    peer.link(f"{top}/plain", f"{top}/dir/hard")
    peer.setxattr(f"{top}/plain", "user.key", b"value")
    peer.sync_fs()


def agree(ours: Stat, theirs: PeerStat) -> None:
    """Every field that both tell is the same."""
    fields = ("ino", "mode", "uid", "gid", "nlink", "size", "rdev", "atime", "mtime", "ctime", "btime")
    assert {f: getattr(ours, f) for f in fields} == {f: getattr(theirs, f) for f in fields}
    assert ours.change_attr == theirs.version


@MODES
async def test_stat_agrees_on_files_directories_and_links(
    conf: Path, peer: LibcephfsPeer, tree: str, ms_mode: str
) -> None:
    async with connect(conf, ms_mode=ms_mode) as client:
        for name in ("", "/dir", "/link", "/absolute", *(f"/{name}" for name in ODD_NAMES)):
            agree(await client.stat(tree + name), peer.statx(tree + name))
        for path in [f"{tree}/link", f"{tree}/dangling", f"{tree}/loop"]:
            agree(await client.stat(path, follow_symlinks=False), peer.statx(path, flags=AT_SYMLINK_NOFOLLOW))
            assert await client.readlink(path) == peer.readlink(path)
        agree(await client.stat("/"), peer.statx("/"))


@MODES
async def test_a_listing_has_the_names_and_stats_that_libcephfs_sees(
    conf: Path, peer: LibcephfsPeer, tree: str, ms_mode: str
) -> None:
    async with connect(conf, ms_mode=ms_mode) as client:
        found = [entry async for entry in client.scandir(tree)]
        assert sorted(await client.listdir(tree)) == sorted(entry.name for entry in found)
    assert sorted(entry.name for entry in found) == sorted(set(peer.listdir(tree)) - {".", ".."})
    for entry in found:
        theirs = peer.statx(f"{tree}/{entry.name}", flags=AT_SYMLINK_NOFOLLOW)
        assert entry.ino == theirs.ino
        agree(entry.stat, theirs)


async def test_paths_are_walked_as_a_file_system_walks_them(conf: Path, tree: str) -> None:
    async with connect(conf) as client:
        file = await client.stat(f"{tree}/dir/sub/file")
        for path in (f"{tree}/link/file", f"{tree}/link/../sub/file", f"/..{tree}//./link/./file", f"{tree}/absolute"):
            assert (await client.stat(path)).ino == file.ino
        assert (await client.stat(f"{tree}/dir/sub/..")).ino == (await client.stat(f"{tree}/dir")).ino
        assert (await client.stat(f"{tree}/dir/../..")).ino == (await client.stat("/")).ino
        assert await client.exists(f"{tree}/plain")
        assert not await client.exists(f"{tree}/plain/below")
        assert not await client.exists(f"{tree}/dangling")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/missing", errno.ENOENT),
        ("/missing/below", errno.ENOENT),
        ("{tree}/plain/below", errno.ENOTDIR),
        ("{tree}/plain/", errno.ENOTDIR),
        ("{tree}/loop", errno.ELOOP),
        ("{tree}/dangling", errno.ENOENT),
        ("/" + "n" * 256, errno.ENAMETOOLONG),
    ],
)
async def test_a_path_that_leads_nowhere_fails_as_libcephfs_fails(
    conf: Path, peer: LibcephfsPeer, tree: str, path: str, number: int
) -> None:
    path = path.replace("{tree}", tree)
    async with connect(conf) as client:
        with pytest.raises(MdsError) as caught:
            await client.stat(path)
    assert (caught.value.errno, caught.value.filename) == (number, path)
    assert isinstance(caught.value, type(OSError(number, "")))
    if number != errno.ENOTDIR:  # libcephfs says EACCES below a file, and does not mind a slash behind one
        with pytest.raises(OSError) as theirs:
            peer.statx(path)
        assert theirs.value.errno == number


async def test_readlink_and_listing_refuse_what_they_are_not_for(conf: Path, tree: str) -> None:
    async with connect(conf) as client:
        with pytest.raises(OSError, match="Invalid argument"):
            await client.readlink(f"{tree}/plain")
        with pytest.raises(NotADirectoryError):
            await client.listdir(f"{tree}/plain")


async def test_what_another_client_holds_dirty_is_seen(conf: Path, peer: LibcephfsPeer) -> None:
    fd = peer.open("/dirty", 0o102, 0o640)  # O_CREAT | O_RDWR
    peer.write(fd, 0, b"x" * 12345)
    peer.chmod("/dirty", 0o604)
    try:
        async with connect(conf) as client:
            seen = await client.stat("/dirty")
        assert (seen.size, seen.mode & 0o7777) == (12345, 0o604)
    finally:
        peer.close_fd(fd)


@MODES
async def test_a_big_directory_is_listed_whole_before_and_after_it_is_split(new_cluster: Any, ms_mode: str) -> None:
    """Split by hand while it is listed, and into many fragments by its size."""
    with_small_frags = "[mds]\nmds bal split size = 500\nmds bal fragment interval = 1\nmds bal split bits = 2\n"
    cluster = new_cluster(extra=with_small_frags) if ms_mode == "crc" else new_cluster()
    wanted = {f"file-{number:05}" for number in range(BIG)}
    with LibcephfsPeer(cluster) as peer:
        peer.mkdir("/big")
        for name in wanted:
            peer.write_file(f"/big/{name}", b"")
        peer.sync_fs()
        sizes = {name: peer.statx(f"/big/{name}") for name in sorted(wanted)[::500]}
        async with connect(cluster.conf, ms_mode=ms_mode) as client:
            if ms_mode == "crc":
                await until(
                    lambda: len(cluster.mds_admin({"prefix": "dirfrag ls", "path": "/big"})) > 1,
                    "the directory is split",
                )
            listed = [entry async for entry in client.scandir("/big")]
            assert len(listed) == BIG
            assert {entry.name for entry in listed} == wanted
            for entry in listed:
                if entry.name in sizes:
                    agree(entry.stat, sizes[entry.name])
